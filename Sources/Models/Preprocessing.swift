import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

/// Whole numbers as points of intervals of length 1: what is added to them, and what that costs.
public protocol Dequantization: Module {
    /// What examples hold.
    var domain: VariableDomain { get }
    /// y = x + u with u in [0, 1), and log q(u | x), `[batch]`: E[log p(y) - log q(u | x)] bounds log P(x) from below
    /// (Theis, van den Oord, Bethge 2016; Ho et al. 2019, equation 12).
    func dequantize(_ x: Tensor, _ context: Context) -> (value: Tensor, logDensity: Tensor)
    /// The middle of each number's interval.
    func middle(_ x: Tensor) -> Tensor
    /// The number in whose interval a point lies, or the nearest that examples hold.
    func quantize(_ y: Tensor) -> Tensor
}

extension Dequantization {
    public func middle(_ x: Tensor) -> Tensor { x + 0.5 }

    public func quantize(_ y: Tensor) -> Tensor {
        let levels = domain.levelCount ?? 2
        return y.apply(.floor).maximum(.scalar(0, y.elementType)).minimum(.scalar(Double(levels - 1), y.elementType))
    }
}

/// Uniform noise; log q = 0.
public struct UniformDequantization: Dequantization {
    public let domain: VariableDomain
    /// Of numbers 0 ..< levels.
    public init(levels: Int) { domain = .levels(levels) }

    public func dequantize(_ x: Tensor, _ context: Context) -> (value: Tensor, logDensity: Tensor) {
        (x + context.random.uniform(x.shape, stream: 4, as: x.elementType), x.zeroPerExample())
    }
}

/// Uniform noise for the columns of a table that hold whole numbers, 0 and 1 among them; the others are as they are.
public struct ColumnDequantization: Dequantization {
    public let columns: [Column]
    public var domain: VariableDomain { .table(columns) }

    public init(_ columns: [Column]) { self.columns = columns }

    /// 1 where a column holds whole numbers.
    private func isWhole(_ x: Tensor) -> Tensor {
        let flags = columns.map { column -> Double in
            if case .real = column.kind { 0 } else { 1 }
        }
        return Tensor.row(flags, x.elementType).broadcast(to: x.shape)
    }

    public func dequantize(_ x: Tensor, _ context: Context) -> (value: Tensor, logDensity: Tensor) {
        (x + context.random.uniform(x.shape, stream: 4, as: x.elementType) * isWhole(x), x.zeroPerExample())
    }

    public func middle(_ x: Tensor) -> Tensor { x + isWhole(x) * 0.5 }

    public func quantize(_ y: Tensor) -> Tensor {
        let zero = Tensor.scalar(0, y.elementType)
        let whole = Tensor.select(isWhole(y).greater(zero), y.apply(.floor), y)
        guard columns.contains(where: \.isBinary) else { return whole }
        let isBinary = Tensor.row(columns.map { $0.isBinary ? 1 : 0 }, y.elementType).broadcast(to: y.shape)
        return .select(isBinary.greater(zero), whole.maximum(zero).minimum(.scalar(1, y.elementType)), whole)
    }
}

/// Noise from a flow that sees the example: u = sigmoid(flow(eps | x)) with standard normal eps.
public struct VariationalDequantization: Dequantization {
    /// A bijector of vectors that is conditioned on x.
    public let bijector: any Bijector
    public let domain: VariableDomain
    private let levels: Int

    public init(_ bijector: any Bijector, levels: Int) {
        self.bijector = bijector
        (domain, self.levels) = (.levels(levels), levels)
    }

    /// With couplings and x as their features.
    public init(variables: Int, levels: Int, layers: Int = 2, hidden: [Int] = [128]) {
        let flow = Flow.realNVP(
            variables: variables, layers: layers, hidden: hidden, limit: 2, normalization: .none, features: variables)
        self.init(flow.bijector, levels: levels)
    }

    /// With one affine map, whose convolutions read x as images: channels, height and width, or channels, frames, height and width of
    /// videos, whose every frame has noise that depends on that frame alone.
    public init(levels: Int, images shape: [Int], hidden: Int = 32, isVideo: Bool = false) {
        self.init(ImageNoise(shape, hidden: hidden, isVideo: isVideo), levels: levels)
    }

    public func dequantize(_ x: Tensor, _ context: Context) -> (value: Tensor, logDensity: Tensor) {
        let noise = context.random.normal(x.shape, stream: 4, as: x.elementType)
        var inner = context
        // What the noise is conditioned on.
        inner.features = x / Double(levels) - 0.5
        let mapped = bijector.forward(noise, inner)
        let u = Sigmoid().forward(mapped.value, inner)
        let logDensity = DiagonalNormal().logProbability(noise) - mapped.logDeterminant - u.logDeterminant
        // Rounding may give u = 1, which belongs to the next level.
        return (x + u.value.minimum(.scalar(0x1.fffffep-1, x.elementType)), logDensity)
    }
}

/// Noise `[batch, variables]` scaled and shifted by what convolutions compute from images, which come as the context's features.
private struct ImageNoise: Bijector {
    let shape: [Int]
    let network: ConvolutionNetwork
    var transformer: AffineTransformer { AffineTransformer(.scaleThenShift, bound: .tanh(limit: 3)) }

    init(_ shape: [Int], hidden: Int, isVideo: Bool) {
        self.shape = shape
        network = ConvolutionNetwork(
            channels: [shape[0], hidden, hidden, 2 * shape[0]], kernels: [3, 1, 3], isVideo: isVideo)
    }

    private func parameters(for noise: Tensor, _ context: Context) -> [Tensor] {
        let images = context.features(beside: noise, shape: [shape.reduce(1, *)])
        if images.error != nil { return [images, images] }
        let all = network(images.reshaped(Shape([images.shape[0]] + shape.map { Extent($0) })), Context(context.mode))
        return (0..<2).map {
            all.sliced(axis: 1, from: $0 * shape[0], count: shape[0]).reshaped(noise.shape)
        }
    }

    func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let (value, log) = transformer.forward(x, parameters(for: x, context))
        return Mapped(value, log.sum(axes: [1]))
    }

    func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let (value, log) = transformer.inverse(z, parameters(for: z, context))
        return Mapped(value, log.sum(axes: [1]))
    }

    var structure: BijectorStructure {
        BijectorStructure(
            "noise of images, affine", .diagonal, determinant: "the sum of log-scales",
            inverse: "shift and scale taken back")
    }
}

/// From [0, levels) to the unit interval, and by the logit to the whole line if `alpha` is not negative.
func unitInterval(levels: Int, alpha: Double) -> [any Bijector] {
    [FixedAffine(scale: 1 / Double(levels))] + (alpha < 0 ? [] : [Logit(alpha: alpha)])
}

/// What stands in front of a flow of data in units of their own, and the noise that their whole numbers need.
func standardization(_ examples: ExampleShape) -> (steps: [any Bijector], dequantization: (any Dequantization)?) {
    guard let columns = examples.columns else { return ([], nil) }
    var hasWhole = false
    let scalings = columns.map { column -> (mean: Double, deviation: Double) in
        let (mean, deviation) = column.scaling
        if case .real = column.kind { return (mean, deviation) }
        hasWhole = true
        // 0 and 1 with their noise fill the interval from 0 to 2.
        return column.isBinary ? (1, 1 / 3.0.squareRoot()) : (mean + 0.5, deviation)
    }
    let step = Standardization(
        means: scalings.map(\.mean), deviations: scalings.map(\.deviation), shape: examples.dimensions)
    return ([step], hasWhole ? ColumnDequantization(columns) : nil)
}

extension DataSummary {
    /// The levels that noise makes continuous; 0 for real data.
    /// - Throws: `UsageError` for columns of names.
    func flowLevels(for family: String) throws -> Int {
        try requireNoGaps(for: family)
        switch values {
        case .binary: return 2
        case .levels(let levels): return levels
        case .real: return 0
        case .table(let columns):
            guard let named = columns.firstIndex(where: { $0.categories != nil && !$0.isBinary }) else { return 0 }
            let name = columns[named].name
            throw UsageError(
                "\(family) models numbers, and column \(name.isEmpty ? "\(named)" : "“\(name)”") holds names; leave it out, condition on it with --context, or take made, which models each column by what it holds"
            )
        }
    }
}
