import Graph
import Layers

/// A rule that turns gradients into new parameters. What changes from step to step (rates, bias corrections) is computed on
/// the host in double precision and fed as scalars, so one program serves every step.
public enum Optimizer: String, ChoiceSetting {
    /// Gradient descent.
    case sgd
    /// Gradient descent with momentum 0.9 (Polyak 1964).
    case momentum
    /// Duchi, Hazan, Singer 2011.
    case adagrad
    /// Zeiler 2012, decay 0.95, epsilon 1e-6.
    case adadelta
    /// Kingma and Ba 2015, algorithm 1; decay is added to the gradient.
    case adam
    /// Loshchilov and Hutter 2019, algorithm 2: decay acts on the weight.
    case adamw
    /// Kingma and Ba 2015, algorithm 2.
    case adamax
    /// Momentum made orthogonal, for the weights of layers (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural
    /// networks"), at the length of Adam's steps and with decay on the weight (Liu et al. 2025, "Muon is scalable for LLM training",
    /// equation 4), so that AdamW, which moves all other parameters, shares its rate.
    case muon

    /// The per-parameter memories of the rule.
    public var slots: [String] {
        switch self {
        case .sgd: []
        case .momentum: ["momentum"]
        case .adagrad: ["sum"]
        case .adadelta: ["square", "change"]
        case .adam, .adamw, .adamax: ["first", "second"]
        case .muon: ["momentum"]
        }
    }

    static let beta1 = 0.9
    static let beta2 = 0.999

    /// The scalars that are fed at a step, counted from 1.
    public func scalars(rate: Double, step: Int) -> [String: Double] {
        let correction1 = 1 - Math.pow(Self.beta1, Double(step))
        let correction2 = 1 - Math.pow(Self.beta2, Double(step))
        return switch self {
        case .adam, .adamw, .muon:
            [
                "optimizer.rate": rate, "optimizer.scale": rate / correction1,
                "optimizer.root": 1 / correction2.squareRoot(),
            ]
        case .adamax: ["optimizer.rate": rate, "optimizer.scale": rate / correction1]
        default: ["optimizer.rate": rate]
        }
    }

    /// What moves a parameter: the rule itself, or the one that takes its place where it is for weights of layers alone.
    func rule(for name: String, _ parameter: Parameter) -> Optimizer {
        self == .muon && (parameter.shape.count < 2 || !name.hasSuffix("weight")) ? .adamw : self
    }

    /// The parameter's and the slots' new values.
    func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let p = parameter.tensor
        let rate = Tensor.input("optimizer.rate", .scalar)
        let decaysWeight = self == .adamw || self == .muon
        let g = !decaysWeight && weightDecay > 0 ? gradient + p * weightDecay : gradient
        let decayed = decaysWeight && weightDecay > 0 ? p - rate * p * weightDecay : p
        switch self {
        case .sgd: return (p - rate * g, [])
        case .momentum:
            let v = slots[0] * 0.9 + g
            return (p - rate * v, [v])
        case .adagrad:
            let sum = slots[0] + g * g
            return (p - rate * g / (sum.sqrt() + 1e-10), [sum])
        case .adadelta:
            let square = slots[0] * 0.95 + g * g * 0.05
            let change = g * (slots[1] + 1e-6).sqrt() / (square + 1e-6).sqrt()
            return (p - rate * change, [square, slots[1] * 0.95 + change * change * 0.05])
        case .adam, .adamw:
            let first = slots[0] * Self.beta1 + g * (1 - Self.beta1)
            let second = slots[1] * Self.beta2 + g * g * (1 - Self.beta2)
            let step =
                Tensor.input("optimizer.scale", .scalar) * first
                / (second.sqrt() * .input("optimizer.root", .scalar) + 1e-8)
            return (decayed - step, [first, second])
        case .adamax:
            let first = slots[0] * Self.beta1 + g * (1 - Self.beta1)
            let norm = (slots[1] * Self.beta2).maximum(g.absolute() + 1e-8)
            return (p - Tensor.input("optimizer.scale", .scalar) * first / norm, [first, norm])
        case .muon:
            let v = slots[0] * 0.95 + g
            return (decayed - rate * Muon.step(g + v * 0.95, of: parameter), [v])
        }
    }
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
