import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

/// Whole numbers 0 ..< levels as points of [0, levels): what is added to them, and what that costs.
public protocol Dequantization: Module {
    /// Examples hold whole numbers 0 ..< levels.
    var levels: Int { get }
    /// y = x + u with u in [0, 1), and log q(u | x), `[batch]`: E[log p(y) - log q(u | x)] bounds log P(x) from below
    /// (Theis, van den Oord, Bethge 2016; Ho et al. 2019, equation 12).
    func dequantize(_ x: Tensor, _ context: Context) -> (value: Tensor, logDensity: Tensor)
}

/// Uniform noise; log q = 0.
public struct UniformDequantization: Dequantization {
    public let levels: Int
    public init(levels: Int) { self.levels = levels }

    public func dequantize(_ x: Tensor, _ context: Context) -> (value: Tensor, logDensity: Tensor) {
        (x + context.random.uniform(x.shape, stream: 4, as: x.elementType), x.zeroPerExample())
    }
}

/// Noise from a flow that sees the example: u = sigmoid(flow(eps | x)) with standard normal eps.
public struct VariationalDequantization: Dequantization {
    /// A bijector of vectors that is conditioned on x.
    public let bijector: any Bijector
    /// x / levels - 1/2 are the features.
    public let levels: Int

    public init(_ bijector: any Bijector, levels: Int) {
        self.bijector = bijector
        self.levels = levels
    }

    /// With couplings and x as their features.
    public init(variables: Int, levels: Int, layers: Int = 2, hidden: [Int] = [128]) {
        let flow = Flow.realNVP(
            variables: variables, layers: layers, hidden: hidden, limit: 2, normalization: .none, features: variables)
        self.init(flow.bijector, levels: levels)
    }

    public func dequantize(_ x: Tensor, _ context: Context) -> (value: Tensor, logDensity: Tensor) {
        let noise = context.random.normal(x.shape, stream: 4, as: x.elementType)
        var inner = context
        inner.features = x / Double(levels) - 0.5
        let mapped = bijector.forward(noise, inner)
        let u = Sigmoid().forward(mapped.value, inner)
        let logDensity = DiagonalNormal().logProbability(noise) - mapped.logDeterminant - u.logDeterminant
        // Rounding may give u = 1, which belongs to the next level.
        return (x + u.value.minimum(.scalar(0x1.fffffep-1, x.elementType)), logDensity)
    }
}

/// From [0, levels) to the unit interval, and by the logit to the whole line if `alpha` is not negative.
func unitInterval(levels: Int, alpha: Double) -> [any Bijector] {
    [FixedAffine(scale: 1 / Double(levels))] + (alpha < 0 ? [] : [Logit(alpha: alpha)])
}
