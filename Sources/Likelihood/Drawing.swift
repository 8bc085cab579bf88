import Distributions
import Graph
import Layers

/// What is asked of a draw.
public struct DrawingRequest: Sendable {
    /// Which member of the ensemble.
    public var member = 0
    /// Where true the variable is taken from the input `given` instead of drawn.
    public var observed: [Bool]?
    /// Take the observed variables of each example from the input `Drawing.observed`, in place of `observed`; for models that accept
    /// missing values.
    public var readsObserved = false
    /// Accept a draw that ignores observations that come later in the order.
    public var isApproximate = false
    /// Divides logits, or multiplies standard deviations; 1 draws from the model.
    public var temperature = 1.0

    public init() {}

    public init(member: Int) { self.member = member }
}

/// How a draw is made, stage after stage; a stage reads the result of the one before as its input `Drawing.previous`.
public struct Drawing {
    public enum Stage {
        /// One group of variables after another, each a function of the earlier ones.
        case incremental(variable: Tensor, drawn: Tensor, order: Order, outputs: [Tensor])
        /// All at once: the result, then what is handed back beside it.
        case direct([Tensor])
        /// The same all at once some times, a step of a Markov chain: each reads what the one before made as its input `previous`, and
        /// random numbers of a step of their own.
        case repeated([Tensor], times: Int)
    }

    public static let previous = "previous"
    /// The input that holds the values of observed variables, of the examples' shape.
    public static let given = "given"
    /// The input that holds 1 where a variable is observed, of the examples' shape.
    public static let observed = "observed"
    public var stages: [Stage]

    public init(_ stages: [Stage]) { self.stages = stages }
}

/// A distribution that is drawn in stages: variable after variable, by a compiled incremental program.
public protocol StagedDistribution: Distribution {
    /// What `sample` draws, of a shape `[.batch, ..]`.
    func stages(_ shape: Shape, _ context: Context, temperature: Double) throws -> [Drawing.Stage]
}

extension Distribution {
    /// The stages of a draw of a shape `[.batch, ..]`: one graph, where there is no better way.
    package func drawingStages(_ shape: Shape, _ context: Context, temperature: Double) throws -> [Drawing.Stage] {
        try (self as? any StagedDistribution)?.stages(shape, context, temperature: temperature)
            ?? [.direct([sample(shape, context, temperature: temperature)])]
    }
}
