import Graph
import Likelihood
import Layers

/// A rule that turns gradients into new parameters. The library's are `SGD`, `Adagrad`, `Adadelta`, `Adam`, `AdamW`, `Adamax` and
/// `Muon`; a rule of one's own is a type that conforms:
///
///     /// p' = p - η sign(g)
///     struct SignDescent: Optimizer {
///         func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
///             parameter: Tensor, slots: [Tensor]
///         ) {
///             let rate = scalar("optimizer.rate", for: parameter)
///             return (parameter.tensor - rate * gradient / (gradient.absolute() + 1e-12), [])
///         }
///     }
///
/// One compiled program serves every step. So what changes from step to step (the rate, corrections of a bias) is no constant of
/// the graph: the host computes it in double precision, and the program is fed it as scalars.
///
/// In the formulas of the rules p is the parameter, g its gradient, η the rate, λ the weight decay and t the step, counted from 1;
/// all operations are by element, and memories begin at zero.
public protocol Optimizer: Sendable {
    /// The names of what the rule remembers of a parameter between steps. Each is a tensor of the parameter's shape, begins at zero
    /// and is kept as the state `optimizer.PARAMETER.SLOT`.
    var slots: [String] { get }

    /// What a step is fed, by the names under which `update` reads it with `scalar(_:for:)`. They begin with “optimizer.”. A
    /// rule that leaves some parameters to another one gives the other one's scalars too.
    ///
    /// - Parameters:
    ///   - rate: the learning rate of this step, η.
    ///   - step: counted from 1.
    func scalars(rate: Double, step: Int) -> [String: Double]

    /// The new values of a parameter and of its memories, as graphs of the old ones.
    ///
    /// Where a gradient and all memories are zero, the new values have to be what they were: a masked weight stays at zero
    /// because nothing moves it.
    ///
    /// - Parameters:
    ///   - parameter: what is trained; its old value is `parameter.tensor`.
    ///   - gradient: of the loss, of the parameter's shape, clipped already.
    ///   - slots: the memories, in the order of the property `slots`.
    ///   - weightDecay: λ, at least 0. Whether it acts on the gradient or on the weight is the rule's choice.
    /// - Returns: the parameter's new value, and the memories' in their order.
    func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    )

    /// The rule that moves a parameter: this one, unless it is made for parameters of another kind.
    /// - Parameter name: the parameter's path in the model (`layers.0.weight`).
    func rule(for name: String, _ parameter: Parameter) -> any Optimizer

    /// Refuses hyperparameters with which the rule makes no sense.
    /// - Throws: `UsageError` of the form “beta1: expected .., found ..”.
    func validate() throws
}

extension Optimizer {
    public var slots: [String] { [] }
    public func scalars(rate: Double, step: Int) -> [String: Double] { ["optimizer.rate": rate] }
    public func rule(for name: String, _ parameter: Parameter) -> any Optimizer { self }
    public func validate() throws {}
}

extension Optimizer {
    /// One of the rule's scalars in the graph, of the element type of the parameter that it moves.
    public func scalar(_ name: String, for parameter: Parameter) -> Tensor {
        .input(name, .scalar).cast(to: parameter.tensor.elementType)
    }

    /// g + λp: weight decay as the gradient of λ/2 |p|², a term of the loss.
    func decayed(_ gradient: Tensor, _ p: Tensor, _ weightDecay: Double) -> Tensor {
        weightDecay > 0 ? gradient + p * weightDecay : gradient
    }

    /// p - ηλp: weight decay that acts on the weight, whatever the gradient is.
    func shrunk(_ parameter: Parameter, _ weightDecay: Double) -> Tensor {
        let p = parameter.tensor
        return weightDecay > 0 ? p - scalar("optimizer.rate", for: parameter) * p * weightDecay : p
    }
}

/// Refuses a share that a memory keeps of itself from step to step, unless it is of [0, 1).
func requireDecay(_ name: String, _ value: Double) throws {
    try require((0..<1).contains(value), "\(name): expected at least 0 and less than 1, found \(value)")
}

/// Refuses what is added to a divisor unless it keeps it from zero: where all gradients were zero, a step would be 0 / 0.
func requireEpsilon(_ value: Double) throws {
    // Below this the devices, which compute in float32, may take it for zero.
    let least = Double(Float.leastNormalMagnitude)
    try require(value.isFinite && value >= least, "epsilon: expected a number of at least 1.2e-38, found \(value)")
}

/// How the rate changes over a run, as a factor of the configured rate.
public enum RateSchedule: String, ChoiceSetting {
    case constant, linear, cosine, exponential

    /// - Parameters:
    ///   - progress: the share of all steps that is done, 0...1.
    ///   - final: the factor at the end.
    public func factor(progress: Double, final: Double) -> Double {
        let t = min(1, max(0, progress))
        return switch self {
        case .constant: 1
        case .linear: 1 + (final - 1) * t
        case .cosine: final + (1 - final) * 0.5 * (1 + Math.cos(Double.pi * t))
        case .exponential: Math.pow(max(final, 1e-12), t)
        }
    }
}
