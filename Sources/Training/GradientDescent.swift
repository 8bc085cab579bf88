import Graph
import Likelihood
import Layers

/// Gradient descent, with momentum where it is above 0 (Polyak 1964; the memory holds no rate, so that a new rate acts at once):
///
///     v' = μ v + g
///     p' = p - η v'
///
/// Weight decay is added to the gradient.
public struct SGD: Optimizer {
    /// μ, of [0, 1).
    public var momentum: Double

    public init(momentum: Double = 0) { self.momentum = momentum }

    public var slots: [String] { momentum > 0 ? ["momentum"] : [] }

    public func validate() throws { try requireDecay("momentum", momentum) }

    public func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let (p, rate) = (parameter.tensor, scalar("optimizer.rate", for: parameter))
        let g = decayed(gradient, p, weightDecay)
        guard momentum > 0 else { return (p - rate * g, []) }
        let v = slots[0] * momentum + g
        return (p - rate * v, [v])
    }
}

/// Steps as long as the inverse root of the squares so far (Duchi, Hazan, Singer 2011, figure 1, with diagonal matrices):
///
///     s' = s + g²
///     p' = p - η g / (√s' + ε)
///
/// Weight decay is added to the gradient.
public struct Adagrad: Optimizer {
    /// ε, above 0.
    public var epsilon: Double

    public init(epsilon: Double = 1e-10) { self.epsilon = epsilon }

    public var slots: [String] { ["sum"] }

    public func validate() throws { try requireEpsilon(epsilon) }

    public func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let (p, rate) = (parameter.tensor, scalar("optimizer.rate", for: parameter))
        let g = decayed(gradient, p, weightDecay)
        let sum = slots[0] + g * g
        return (p - rate * g / (sum.sqrt() + epsilon), [sum])
    }
}

/// Steps in the parameter's own unit: as long as the steps so far are, over the gradients so far (Zeiler 2012, algorithm 1, whose
/// rate is 1):
///
///     s' = ρ s + (1 - ρ) g²
///     d  = g √(c + ε) / √(s' + ε)
///     c' = ρ c + (1 - ρ) d²
///     p' = p - η d
///
/// Weight decay is added to the gradient.
public struct Adadelta: Optimizer {
    /// ρ, of [0, 1): what both averages keep of themselves at a step.
    public var decay: Double
    /// ε, above 0; it decides how long the first steps are.
    public var epsilon: Double

    public init(decay: Double = 0.95, epsilon: Double = 1e-6) {
        self.decay = decay
        self.epsilon = epsilon
    }

    public var slots: [String] { ["square", "change"] }

    public func validate() throws {
        try requireDecay("decay", decay)
        try requireEpsilon(epsilon)
    }

    public func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let (p, rate) = (parameter.tensor, scalar("optimizer.rate", for: parameter))
        let g = decayed(gradient, p, weightDecay)
        let square = slots[0] * decay + g * g * (1 - decay)
        let change = g * (slots[1] + epsilon).sqrt() / (square + epsilon).sqrt()
        return (p - rate * change, [square, slots[1] * decay + change * change * (1 - decay)])
    }
}
