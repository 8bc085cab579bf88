import Graph
import Kernels
import Layers

/// Orders and degrees of a MADE under the k-th of its masks: a function of the seed and k alone (Germain et al. 2015,
/// section 4.2 and algorithm 1).
public struct MaskSampler: Sendable {
    public enum Ordering: Hashable, Sendable {
        case natural
        /// A random order, the same for every mask unless the model is order-agnostic.
        case random
        /// The variables in the order in which they are drawn.
        case given([Int])
    }

    public let variables: Int
    public let hidden: [Int]
    public let ordering: Ordering
    /// A new order for every mask, so that one network serves any order (section 4.2, order-agnostic training).
    public let isOrderAgnostic: Bool
    /// Degrees drawn at random for every mask; else they are spread evenly (connectivity-agnostic training).
    public let drawsDegrees: Bool
    public let seed: UInt64

    public init(
        variables: Int, hidden: [Int], ordering: Ordering = .natural, isOrderAgnostic: Bool = false,
        drawsDegrees: Bool = false,
        seed: UInt64 = 0
    ) {
        self.variables = variables
        self.hidden = hidden
        self.ordering = ordering
        self.isOrderAgnostic = isOrderAgnostic
        self.drawsDegrees = drawsDegrees
        self.seed = seed
    }

    /// Whether there is one mask, the same for any k.
    public var isSingle: Bool { !isOrderAgnostic && !drawsDegrees }

    /// The k-th order of the variables, and the degrees of each hidden layer, ascending.
    /// - Parameter readsFeatures: whether some units read features and no variable, for the first variable's sake.
    public func mask(_ k: Int, readsFeatures: Bool = false) -> (order: Order, hidden: [[Int32]]) {
        (order(k), hiddenDegrees(k, least: readsFeatures ? NetworkDegrees.featureDegree : 0))
    }

    public func order(_ k: Int) -> Order {
        let sequence: [Int] =
            switch ordering {
            case _ where isOrderAgnostic: permutation(k)
            case .natural: Array(0..<variables)
            case .random: permutation(0)
            case .given(let sequence): sequence
            }
        return .sequence(sequence)
    }

    private func permutation(_ k: Int) -> [Int] {
        var items = Array(0..<variables)
        for i in stride(from: variables - 1, to: 0, by: -1) {
            items.swapAt(i, Int(word(k, stream: 0, i) % UInt32(i + 1)))
        }
        return items
    }

    /// Degrees lie in 0 ... D - 2 and never below the smallest of the layer before, so that every unit reads something.
    /// - Parameter least: the smallest degree of the first layer.
    public func hiddenDegrees(_ k: Int, least: Int32 = 0) -> [[Int32]] {
        var least = least
        let greatest = Int32(max(0, variables - 2))
        return hidden.enumerated().map { layer, count in
            let span = greatest - least + 1
            let degrees: [Int32] =
                drawsDegrees
                ? (0..<count).map { least + Int32(word(k, stream: layer + 1, $0) % UInt32(span)) }.sorted()
                : (0..<count).map { least + Int32($0 * Int(span) / count) }
            least = degrees.first ?? least
            return degrees
        }
    }

    private func word(_ k: Int, stream: Int, _ index: Int) -> UInt32 {
        martlet_philox_word0(
            UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32), UInt32(index),
            UInt32(truncatingIfNeeded: k), 0,
            0x4D41_4400 + UInt32(stream))
    }
}
