import Graph
import Likelihood
import Layers

/// Momentum made orthogonal, for the weights of layers (Jordan et al. 2024, “Muon: An optimizer for hidden layers in neural
/// networks”), at the length of Adam's steps and with decay on the weight (Liu et al. 2025, “Muon is scalable for LLM training”,
/// equation 4), so that AdamW, which moves all other parameters, shares its rate:
///
///     v' = μ v + g
///     p' = p - η λ p - η direction(g + μ v')
///
/// A weight of a layer has at least two axes and a name that ends in “weight”.
public struct Muon: Optimizer {
    /// μ, of [0, 1).
    public var momentum: Double
    /// What moves the parameters that are no weights of layers: biases, scales, embeddings of places.
    public var others: AdamW

    public init(momentum: Double = 0.95, others: AdamW = AdamW()) {
        self.momentum = momentum
        self.others = others
    }

    public var slots: [String] { ["momentum"] }

    public func validate() throws {
        try requireDecay("momentum", momentum)
        try others.validate()
    }

    public func scalars(rate: Double, step: Int) -> [String: Double] { others.scalars(rate: rate, step: step) }

    public func rule(for name: String, _ parameter: Parameter) -> any Optimizer {
        if parameter.shape.count >= 2 && name.hasSuffix("weight") { self } else { others }
    }

    public func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let v = slots[0] * momentum + gradient
        let rate = scalar("optimizer.rate", for: parameter)
        let kept = shrunk(parameter, weightDecay)
        return (kept - rate * Self.direction(gradient + v * momentum, of: parameter), [v])
    }

    /// `momentum` with its singular values made alike by five steps of Newton and Schulz: those above a hundredth of its norm end
    /// between 0.68 and 1.14, which trains as well as equal ones. The root of the mean square is that of a step of Adam, 0.2 (Liu et al.
    /// 2025, equation 4, with live weights counted alone).
    ///
    /// A weight of more than two axes is a matrix of its first axis and all others. Where the mask removes whole columns, as the taps
    /// of a masked convolution, they stay zero; any other mask is applied once more.
    ///
    /// - Parameter momentum: of the parameter's shape.
    static func direction(_ momentum: Tensor, of parameter: Parameter) -> Tensor {
        let (rows, columns) = (parameter.shape[0], parameter.shape.dropFirst().reduce(1, *))
        var x = momentum.reshaped(Shape([rows, columns]))
        // The products of the shorter side are the smaller ones.
        let isTall = rows > columns
        if isTall { x = x.transposed([1, 0]) }
        x = x / (x.squared().sum().sqrt() + 1e-20)
        for _ in 0..<5 {
            // The quintic of Jordan et al.: its slope at zero is as large as can be.
            let square = x.matmul(x.transposed([1, 0]))
            let factor = square * -4.7750 + square.matmul(square) * 2.0315
            x = x * 3.4445 + factor.matmul(x)
        }
        if isTall { x = x.transposed([1, 0]) }
        x = x.reshaped(momentum.shape)
        var live = rows * columns
        if parameter.mask != nil {
            var mask = [Float](repeating: 1, count: live)
            parameter.clearDead(&mask)
            live = mask.reduce(0) { $0 + ($1 > 0 ? 1 : 0) }
            x = x * Tensor.constant(HostArray(mask, shape: parameter.shape)).cast(to: x.elementType)
        }
        return x * (0.2 * (Double(live) / Double(min(rows, columns))).squareRoot())
    }
}
