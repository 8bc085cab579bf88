import Graph
import Likelihood
import Layers

/// Running averages of gradients and of their squares, both corrected for their start at zero (Kingma and Ba 2015, algorithm 1):
///
///     m' = β₁ m + (1 - β₁) g
///     v' = β₂ v + (1 - β₂) g²
///     p' = p - η m' / (1 - β₁ᵗ) / (√(v' / (1 - β₂ᵗ)) + ε)
///
/// Weight decay is added to the gradient.
public struct Adam: Optimizer {
    /// β₁, of [0, 1).
    public var beta1: Double
    /// β₂, of [0, 1).
    public var beta2: Double
    /// ε, above 0.
    public var epsilon: Double

    public init(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
    }

    public var slots: [String] { ["first", "second"] }

    public func validate() throws {
        try requireDecay("beta1", beta1)
        try requireDecay("beta2", beta2)
        try requireEpsilon(epsilon)
    }

    /// The scalars are η, η / (1 - β₁ᵗ) and 1 / √(1 - β₂ᵗ).
    public func scalars(rate: Double, step: Int) -> [String: Double] {
        [
            "optimizer.rate": rate, "optimizer.scale": rate / (1 - Math.pow(beta1, Double(step))),
            "optimizer.root": 1 / (1 - Math.pow(beta2, Double(step))).squareRoot(),
        ]
    }

    public func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let p = parameter.tensor
        let (change, slots) = step(decayed(gradient, p, weightDecay), slots, of: parameter)
        return (p - change, slots)
    }

    /// What a step takes from the parameter, and the new averages.
    fileprivate func step(_ g: Tensor, _ slots: [Tensor], of parameter: Parameter) -> (change: Tensor, slots: [Tensor])
    {
        let first = slots[0] * beta1 + g * (1 - beta1)
        let second = slots[1] * beta2 + g * g * (1 - beta2)
        let change =
            scalar("optimizer.scale", for: parameter) * first
            / (second.sqrt() * scalar("optimizer.root", for: parameter) + epsilon)
        return (change, [first, second])
    }
}

/// Adam with weight decay that acts on the weight and not on the averages (Loshchilov and Hutter 2019, algorithm 2, where the
/// schedule's factor multiplies the decay too):
///
///     p' = p - η λ p - η m' / (1 - β₁ᵗ) / (√(v' / (1 - β₂ᵗ)) + ε)
///
/// with the averages m' and v' of `Adam`.
public struct AdamW: Optimizer {
    /// β₁, of [0, 1).
    public var beta1: Double
    /// β₂, of [0, 1).
    public var beta2: Double
    /// ε, above 0.
    public var epsilon: Double

    public init(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
    }

    private var adam: Adam { Adam(beta1: beta1, beta2: beta2, epsilon: epsilon) }

    public var slots: [String] { adam.slots }
    public func validate() throws { try adam.validate() }
    public func scalars(rate: Double, step: Int) -> [String: Double] { adam.scalars(rate: rate, step: step) }

    public func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let kept = shrunk(parameter, weightDecay)
        let (change, slots) = adam.step(gradient, slots, of: parameter)
        return (kept - change, slots)
    }
}

/// Adam with the largest recent gradient in the place of the root of their mean square (Kingma and Ba 2015, algorithm 2; ε, which
/// the paper does without, is PyTorch's):
///
///     m' = β₁ m + (1 - β₁) g
///     u' = max(β₂ u, |g| + ε)
///     p' = p - η m' / (1 - β₁ᵗ) / u'
///
/// Weight decay is added to the gradient.
public struct Adamax: Optimizer {
    /// β₁, of [0, 1).
    public var beta1: Double
    /// β₂, of [0, 1).
    public var beta2: Double
    /// ε, above 0.
    public var epsilon: Double

    public init(beta1: Double = 0.9, beta2: Double = 0.999, epsilon: Double = 1e-8) {
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
    }

    public var slots: [String] { ["first", "second"] }

    public func validate() throws {
        try requireDecay("beta1", beta1)
        try requireDecay("beta2", beta2)
        try requireEpsilon(epsilon)
    }

    /// The scalars are η and η / (1 - β₁ᵗ).
    public func scalars(rate: Double, step: Int) -> [String: Double] {
        ["optimizer.rate": rate, "optimizer.scale": rate / (1 - Math.pow(beta1, Double(step)))]
    }

    public func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let p = parameter.tensor
        let g = decayed(gradient, p, weightDecay)
        let first = slots[0] * beta1 + g * (1 - beta1)
        let norm = (slots[1] * beta2).maximum(g.absolute() + epsilon)
        return (p - scalar("optimizer.scale", for: parameter) * first / norm, [first, norm])
    }
}
