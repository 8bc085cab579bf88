import Distributions
import Graph
import Layers
import Likelihood

// Orders of the variables as settings name them, for the families that have one order.

extension MaskSampler.Ordering {
    /// - Parameter text: natural, random, or the variables in the order of drawing, separated by commas.
    /// - Throws: `UsageError` for anything else.
    init(setting text: String, variables: Int) throws {
        switch text {
        case "natural": self = .natural
        case "random": self = .random
        default:
            let sequence = text.split(separator: ",").map { Int($0) }
            guard sequence.compactMap({ $0 }).sorted() == Array(0..<variables) else {
                throw UsageError(
                    "ordering: expected natural, random, or the numbers 0 to \(variables - 1) in some order")
            }
            self = .given(sequence.compactMap { $0 })
        }
    }

    /// The order of a network that knows one alone.
    /// - Parameter seed: of a random one.
    func order(variables: Int, seed: UInt64) -> Order {
        MaskSampler(variables: variables, hidden: [], ordering: self, seed: seed).order(0)
    }
}

extension Order {
    /// The variables one after another as they are drawn, each place having one.
    var sequence: [Int] { groups.flatMap { $0 } }
}

extension Tensor {
    /// Slices along an axis in the order of drawing, from the order of the variables.
    func inOrder(_ order: Order, axis: Int) -> Tensor { rearranged(order.sequence, axis: axis) }

    /// Slices along an axis in the order of the variables, from the order of drawing.
    func byVariable(_ order: Order, axis: Int) -> Tensor { rearranged(order.index.map { Int($0) }, axis: axis) }

    /// `[variables, ..]` as `[blocks, block, ..]`; zeros fill the last block, behind all variables.
    func inBlocks(of block: Int) -> Tensor {
        let (variables, rest) = (shape[0].coefficient, Array(shape.dimensions.dropFirst()))
        let count = (variables + block - 1) / block
        let none = shape.dimensions.map { _ in 0 }
        return padded(low: none, high: [count * block - variables] + none.dropFirst())
            .reshaped(Shape([Extent(count), Extent(block)] + rest))
    }

    private func rearranged(_ places: [Int], axis: Int) -> Tensor {
        places == Array(places.indices)
            ? self : gathered(.constant(HostArray(places.map { Int32($0) })), axis: axis)
    }
}

/// Refuses what networks of vectors have in common, where it cannot be run on such examples.
/// - Returns: the conditional that the setting names.
@discardableResult
func requireConditionals(
    _ conditional: String, leastScale: Double, ordering: String, _ examples: ExampleShape
) throws -> any Conditional {
    try require(
        leastScale > 0 && leastScale < 1, "leastScale: expected a number between 0 and 1, found \(leastScale)")
    _ = try MaskSampler.Ordering(setting: ordering, variables: examples.count)
    return try makeConditional(conditional, examples, leastScale: leastScale)
}
