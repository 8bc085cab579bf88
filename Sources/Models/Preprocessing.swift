import Bijectors
import Distributions
import Graph
import Layers

/// Whole numbers 0 ..< levels as points of [0, levels): what is added to them, and what that costs.
public protocol Dequantization: Module {
    /// y = x + u with u in [0, 1), and log q(u | x), `[batch]`: E[log p(y) - log q(u | x)] bounds log P(x) from below
    /// (Theis, van den Oord, Bethge 2016; Ho et al. 2019, equation 12).
    func dequantize(_ x: Tensor, _ random: RandomSource) -> (value: Tensor, logDensity: Tensor)
}

/// Uniform noise; log q = 0.
public struct UniformDequantization: Dequantization {
    public init() {}

    public func dequantize(_ x: Tensor, _ random: RandomSource) -> (value: Tensor, logDensity: Tensor) {
        (x + random.uniform(x.shape, stream: 4), Tensor.scalar(0).broadcast(to: [x.shape[0]]))
    }
}

/// Noise from a flow that sees the example: u = sigmoid(flow(eps | x)) with standard normal eps.
public struct VariationalDequantization: Dequantization {
    /// A bijector of vectors that is conditioned on x.
    public let bijector: any Bijector
    /// x / levels - 1/2 is the context.
    public let levels: Int

    public init(_ bijector: any Bijector, levels: Int) {
        self.bijector = bijector
        self.levels = levels
    }

    /// With couplings and x as their context.
    public init(variables: Int, levels: Int, layers: Int = 2, hidden: [Int] = [128]) {
        let flow = Flow.realNVP(
            variables: variables, layers: layers, hidden: hidden, limit: 2, normalization: .none, context: variables)
        self.init(flow.bijector, levels: levels)
    }

    public func dequantize(_ x: Tensor, _ random: RandomSource) -> (value: Tensor, logDensity: Tensor) {
        let noise = random.normal(x.shape, stream: 4)
        let context = x / Double(levels) - 0.5
        let mapped = bijector.forward(noise, Pass(context: context))
        let u = Sigmoid().forward(mapped.value, Pass())
        let logDensity = DiagonalNormal().logProbability(noise) - mapped.logDeterminant - u.logDeterminant
        // Rounding may give u = 1, which belongs to the next level.
        return (x + u.value.minimum(.scalar(0x1.fffffep-1)), logDensity)
    }
}

/// Log-likelihoods of whole numbers in bits for each dimension.
///
/// A model of y in [0, levels)^D gives log p(y) in nats with respect to y in units of one level, so that no constant is left
/// out: bits = -log p / (D log 2). A density of y / levels is smaller by D log(levels), which `FixedAffine(scale: 1 / levels)`
/// in front of a model adds as its log-determinant.
public func bitsPerDimension(nats logProbability: Double, dimensions: Int) -> Double {
    -logProbability / (Double(dimensions) * 0.6931471805599453)
}
