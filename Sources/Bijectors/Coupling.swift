import Graph
import Layers

/// Which elements a coupling keeps.
public enum Partition: Hashable, Sendable {
    /// The first half along axis 1 is kept (NICE; channels in Glow), or the second. Only the kept half reaches the network.
    case half(keepsSecond: Bool)
    /// Elements of even index are kept, or those of odd index.
    case alternating(keepsOdd: Bool)
    /// Pixels (i, j) of every channel with i + j even are kept, or those with i + j odd (Dinh et al. 2017, figure 3).
    case checkerboard(keepsOdd: Bool)
    /// Any choice over the elements of one example.
    case mask([Bool])

    var name: String {
        switch self {
        case .half(let second): "\(second ? "second" : "first") half"
        case .alternating(let odd): "\(odd ? "odd" : "even") elements"
        case .checkerboard(let odd): "\(odd ? "odd" : "even") checkerboard"
        case .mask: "given mask"
        }
    }

    /// Why examples of a shape cannot be parted in this way; `nil` where they can.
    func misfit(_ shape: [Int]) -> String? {
        switch self {
        case .half, .alternating: shape.isEmpty ? "an example without axes has no parts" : nil
        case .checkerboard: shape.count < 2 ? "a checkerboard needs height and width, found examples of \(shape)" : nil
        case .mask(let kept):
            kept.count == shape.reduce(1, *)
                ? nil : "a mask of \(kept.count) elements does not fit examples of \(shape)"
        }
    }

    /// Whether each element of an example is kept, in row-major order.
    public func kept(_ shape: [Int]) -> [Bool] {
        let count = shape.reduce(1, *)
        switch self {
        case .half(let second):
            let inner = shape.dropFirst().reduce(1, *)
            return (0..<count).map { ($0 / inner < shape[0] / 2) != second }
        case .alternating(let odd): return (0..<count).map { ($0 % 2 == 1) == odd }
        case .checkerboard(let odd):
            let width = shape[shape.count - 1]
            // A vector is one row.
            let height = shape.count > 1 ? shape[shape.count - 2] : 1
            return (0..<count).map { (($0 / width % height + $0 % width) % 2 == 1) == odd }
        case .mask(let kept): return kept
        }
    }
}

/// A bijector that keeps one part of every example and transforms the other with parameters computed from the kept part
/// (Dinh et al. 2015, 2017). Its Jacobian is triangular, so the determinant is the product of the transformer's derivatives,
/// and the inverse costs what the map costs.
public struct Coupling: Bijector {
    public let partition: Partition
    public let transformer: any Transformer
    public let conditioner: any Conditioner

    /// - Parameter conditioner: from the kept half (or, for other partitions, from all of x with the rest set to zero) to
    ///   `transformer.parameterCount` blocks of the transformed half's (or x's) width along axis 1.
    public init(_ partition: Partition, _ transformer: any Transformer, conditioner: any Conditioner) {
        self.partition = partition
        self.transformer = transformer
        self.conditioner = conditioner
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped { apply(x, context) { transformer.forward($0, $1) } }
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped { apply(z, context) { transformer.inverse($0, $1) } }

    private func apply(
        _ x: Tensor, _ context: Context, _ map: (Tensor, [Tensor]) -> (value: Tensor, logDerivative: Tensor)
    ) -> Mapped {
        if let problem = misfit(x) { return Mapped(problem, problem) }
        if case .half(let second) = partition {
            let (kept, rest) = halves(x, second)
            let (value, log) = map(rest, conditioner(kept, context).blocks(transformer.parameterCount, for: rest))
            return Mapped(
                .concatenate(second ? [value, kept] : [kept, value], axis: 1), log.summedOverEvent())
        }
        let mask = keptMask(x)
        let (value, log) = map(x, parameters(x, mask, context).blocks(transformer.parameterCount, for: x))
        return Mapped(.select(mask, x, value), Tensor.select(mask, 0, log).summedOverEvent())
    }

    /// A tensor that carries the mistake, where the partition does not fit x.
    private func misfit(_ x: Tensor) -> Tensor? {
        if x.error != nil { return x }
        return partition.misfit(Array(x.shape.resolved(batch: 1).dropFirst())).map {
            .misuse("coupling, \(partition.name) kept", $0, of: x)
        }
    }

    private func halves(_ x: Tensor, _ second: Bool) -> (kept: Tensor, rest: Tensor) {
        let count = x.shape[1].coefficient
        let first = x.sliced(axis: 1, from: 0, count: count / 2)
        let last = x.sliced(axis: 1, from: count / 2, count: count - count / 2)
        return second ? (last, first) : (first, last)
    }

    private func keptMask(_ x: Tensor) -> Tensor {
        let shape = Array(x.shape.resolved(batch: 1).dropFirst())
        return Tensor.constant(HostArray(partition.kept(shape), shape: shape)).broadcast(to: x.shape)
    }

    private func parameters(_ x: Tensor, _ mask: Tensor, _ context: Context) -> Tensor {
        conditioner(.select(mask, x, 0), context)
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "coupling, \(partition.name) kept, \(transformer.name)", .triangular,
            determinant:
                "the sum of the transformer's log-derivatives, as the kept part passes and the Jacobian is triangular",
            inverse: "the kept part gives the parameters again, then \(transformer.inverseFormula)")
    }

    public func claims(_ x: Tensor, _ context: Context) -> [OrderClaim] {
        if let problem = misfit(x) { return [OrderClaim("partition", mistake: problem, of: x)] }
        let shape = Array(x.shape.resolved(batch: 1).dropFirst())
        let kept = partition.kept(shape)
        let order = Order(index: kept.map { $0 ? 0 : 1 })
        let transformed = kept.indices.filter { !kept[$0] }.map { Int32($0) }
        // Where everything is kept no parameter is used.
        if transformed.isEmpty { return [] }
        let count = transformer.parameterCount
        let stray = transformer.strayClaims(x)
        if case .half(let second) = partition {
            let (seen, rest) = halves(x, second)
            return stray + [
                OrderClaim(
                    "parameters", conditioner(seen, context).parameters(count, for: rest), of: x, order: order,
                    variables: (0..<count).flatMap { _ in transformed })
            ]
        }
        let mask = keptMask(x)
        // `apply` throws the parameters of kept elements away: the claim replaces them by zeros.
        let used = parameters(x, mask, context).blocks(count, for: x).map { Tensor.select(mask, 0, $0) }
        return stray + [
            OrderClaim(
                "parameters", .concatenate(used, axis: 1), of: x, order: order,
                variables: (0..<count).flatMap { _ in kept.indices.map { kept[$0] ? transformed[0] : Int32($0) } })
        ]
    }
}
