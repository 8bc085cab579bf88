import Graph

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
