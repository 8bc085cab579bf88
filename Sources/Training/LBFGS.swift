import Compiler
import Graph
import Layers
import Likelihood

/// L-BFGS: steps along -H g, where H, an estimate of the inverse of the second derivatives, is made of the last m steps and of how
/// the gradient changed over each (Nocedal and Wright 2006, algorithms 7.4 and 7.5), as long as a strong Wolfe line search makes them
/// (`LineSearch`).
///
/// It is no rule for a parameter on its own, as an `Optimizer` is: it minimises the objective of the whole training set, to which
/// weight decay adds λ/2 |p|², as one function of all parameters together, and evaluates it at several points for each step.
public struct LBFGS: Sendable {
    /// m, the steps that are remembered, 1 to 100; each takes as much memory as the parameters twice.
    public var history = 10.0
    /// Training ends where the gradient's Euclidean norm is no longer than this.
    public var gradientTolerance = 1e-5
    /// Training ends where a step makes the objective less by no more than this share of it, or of 1 where it is smaller.
    public var decreaseTolerance = 1e-9

    public init() {}

    public func validate() throws {
        try require(
            (1...100).contains(history) && history == history.rounded(),
            "history: expected a whole number from 1 to 100, found \(history)")
        for (name, value) in [
            ("gradientTolerance", gradientTolerance), ("decreaseTolerance", decreaseTolerance),
        ] {
            try require(value >= 0 && value.isFinite, "\(name): expected a number of at least 0, found \(value)")
        }
    }

    /// -H g (algorithm 7.4), with γ = sᵀy / yᵀy of the newest pair on the diagonal of the first estimate (equation 7.20).
    /// - Parameters:
    ///   - gradient: g, `[parameters]`.
    ///   - pairs: steps s and changes y of the gradient, `[parameters]` each, the newest first; a pair of zeros is none.
    static func direction(_ gradient: Tensor, _ pairs: [(s: Tensor, y: Tensor)]) -> Tensor {
        /// a / b where b is above zero.
        func ratio(_ a: Tensor, _ b: Tensor, orElse other: Tensor) -> Tensor { .select(b.greater(0), a / b, other) }
        var q = gradient
        let curvatures = pairs.map { ($0.s * $0.y).sum() }
        var shares: [Tensor] = []
        for (pair, curvature) in zip(pairs, curvatures) {
            shares.append(ratio((pair.s * q).sum(), curvature, orElse: 0))
            q = q - shares.last! * pair.y
        }
        var r = q * ratio(curvatures[0], pairs[0].y.squared().sum(), orElse: 1)
        for (index, pair) in pairs.enumerated().reversed() {
            r = r + pair.s * (shares[index] - ratio((pair.y * r).sum(), curvatures[index], orElse: 0))
        }
        return -r
    }
}

/// The programs of L-BFGS on all parameters as one vector. What they work on stays on the device: the step s and the change y of the
/// gradient of every remembered step, the gradient g, the direction d, and where a line search began, p₀ and g₀.
struct LBFGSPrograms {
    /// States that are kept between the steps of a run, with their shapes: the pairs.
    let pairStates: [(name: String, shape: [Int])]
    /// The other states.
    let scratchStates: [(name: String, shape: [Int])]
    /// g of the sums of gradients, weight decay added. Gives gᵀd, pᵀp and gᵀg.
    let measure: Tensors
    /// d of g and the pairs; p₀ and g₀ are taken. Gives gᵀd and the largest sᵀy, which is above zero where there is a pair.
    let aim: Tensors
    /// p = p₀ + α d, α being fed as `LBFGSPrograms.step`.
    let move: Tensors
    /// The newest pair of where the search ended and where it began; the oldest is forgotten.
    let remember: Tensors

    static let step = "lbfgs.step"

    struct Tensors {
        var outputs: [Tensor] = []
        var updates: [StateUpdate]
    }

    init(_ parameters: [(name: String, parameter: Parameter)], history: Int, weightDecay: Double) {
        let counts = parameters.map { $0.parameter.shape.reduce(1, *) }
        let count = counts.reduce(0, +)
        func state(_ name: String) -> Tensor { .state("lbfgs.\(name)", [Extent(count)]) }
        func flat(_ tensors: [Tensor]) -> Tensor {
            .concatenate(zip(tensors, counts).map { $0.reshaped([Extent($1)]) }, axis: 0)
        }
        let p = flat(parameters.map(\.parameter.tensor))
        let pairs = (0..<history).map { (s: state("s.\($0)"), y: state("y.\($0)")) }
        let (g, d, p0, g0) = (state("gradient"), state("direction"), state("start"), state("startGradient"))
        func shapes(_ states: [Tensor]) -> [(name: String, shape: [Int])] {
            states.map { ($0.placeholder!.label, [count]) }
        }
        pairStates = shapes(pairs.flatMap { [$0.s, $0.y] })
        scratchStates = shapes([g, d, p0, g0])

        let sums = flat(parameters.map { GradientSum.state(of: $0.name, $0.parameter) })
        let total = weightDecay > 0 ? sums + p * weightDecay : sums
        measure = Tensors(
            outputs: [(total * d).sum(), p.squared().sum(), total.squared().sum()], updates: [StateUpdate(g, total)])

        let direction = LBFGS.direction(g, pairs)
        aim = Tensors(
            outputs: [
                (g * direction).sum(), pairs.map { ($0.s * $0.y).sum() }.reduce(.scalar(0)) { $0.maximum($1) },
            ],
            updates: [StateUpdate(d, direction), StateUpdate(p0, p), StateUpdate(g0, g)])

        let moved = p0 + d * Tensor.input(Self.step, .scalar)
        var start = 0
        var moves: [StateUpdate] = []
        for ((_, parameter), count) in zip(parameters, counts) {
            moves.append(
                StateUpdate(
                    parameter.tensor,
                    moved.sliced(axis: 0, from: start, count: count).reshaped(parameter.tensor.shape)))
            start += count
        }
        move = Tensors(updates: moves)

        let newest = [(s: p - p0, y: g - g0)] + pairs.dropLast()
        remember = Tensors(
            updates: zip(pairs, newest).flatMap { [StateUpdate($0.s, $1.s), StateUpdate($0.y, $1.y)] })
    }
}
