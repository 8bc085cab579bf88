import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

/// The causal transformer of a TarFlow's block (Zhai et al. 2024, "Normalizing Flows are Capable Generative Models", section 2.2): for each
/// patch of an image the parameters that its numbers are transformed by, computed from the patches before it. x `[batch, patch *
/// positions]`, a patch's numbers `positions` apart.
public struct PatchTransformer: Conditioner {
    public let embed: ConvolutionLayer
    /// What is added at every position, `[width, positions]`.
    public let positionEmbedding: Parameter
    public let layers: [AttentionBlock]
    /// Starts at zero, so that the block starts as the identity.
    public let head: ConvolutionLayer
    /// What is given, added at every position.
    public let given: ConditionEmbedding?
    private let patch: Int
    private let positions: Int
    private let isReversed: Bool

    /// - Parameters:
    ///   - patch: numbers of a patch.
    ///   - parameters: for each number.
    ///   - features: numbers that each example is conditioned on.
    ///   - isReversed: whether patches come from the last to the first.
    public init(
        patch: Int, positions: Int, width: Int, heads: Int, layers: Int, parameters: Int, features: Int = 0,
        isReversed: Bool, dropout: Double = 0, index: Int = 0
    ) {
        (self.patch, self.positions, self.isReversed) = (patch, positions, isReversed)
        embed = ConvolutionLayer(patch, width, kernel: [1])
        positionEmbedding = Parameter([width, positions], .normal(standardDeviation: 0.02))
        self.layers = (0..<layers).map {
            AttentionBlock(width, heads: heads, dropout: Dropout(dropout, stream: index * layers + $0))
        }
        head = ConvolutionLayer(width, parameters * patch, kernel: [1], initializer: .zeros)
        given = ConditionEmbedding(classes: nil, features: features, width)
    }

    /// The order in which it reads.
    public var order: Order {
        Order(
            index: (0..<patch * positions).map {
                Int32(isReversed ? positions - 1 - $0 % positions : $0 % positions)
            })
    }

    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        func turned(_ x: Tensor) -> Tensor { isReversed ? x.flipped(axes: [2]) : x }
        let patches = turned(x.reshaped([x.shape[0], Extent(patch), Extent(positions)]))
        var h = embed(patches.shiftedByOne()) + positionEmbedding.tensor
        if let given { h = given(h, context) }
        for layer in layers { h = layer(h, context) }
        let parameters = turned(head(h))
        return parameters.reshaped([x.shape[0], parameters.shape[1] * parameters.shape[2]])
    }
}

extension Flow {
    /// TarFlow (Zhai et al. 2024): blocks that standardise each patch of an image by what a causal transformer makes of the patches
    /// before it, from the first on and from the last on in turns.
    /// - Parameters:
    ///   - patch: the side of a patch, a power of two that divides height and width.
    ///   - blocks: autoregressive maps, one after the other.
    ///   - layers: attention blocks of each.
    ///   - limit: of log-scales; 0 for none.
    public static func tarFlow(
        channels: Int, height: Int, width: Int, patch: Int, blocks: Int, layers: Int, width units: Int, heads: Int,
        limit: Double = 0, dropout: Double = 0, features: Int = 0
    ) -> Flow {
        let numbers = channels * patch * patch
        let (rows, columns) = (height / patch, width / patch)
        let blocks = (0..<blocks).map { index -> any Bijector in
            let transformer = AffineTransformer(.standardize, bound: .within(limit))
            let conditioner = PatchTransformer(
                patch: numbers, positions: rows * columns, width: units, heads: heads, layers: layers,
                parameters: transformer.parameterCount, features: features, isReversed: index % 2 == 1,
                dropout: dropout, index: index)
            return Autoregressive(conditioner.order, transformer, conditioner: conditioner)
        }
        let squeezes = [any Bijector](repeating: Squeeze(), count: patch.trailingZeroBitCount)
        return Flow(
            Chain(
                squeezes + [Reshaped(from: [numbers, rows, columns], to: [numbers * rows * columns])] + blocks),
            base: DiagonalNormal(), exampleShape: [channels, height, width], features: features)
    }

    /// The choices of a TarFlow.
    public struct PatchSettings: ModelSettings {
        /// The side of a patch, a power of two that divides height and width.
        public var patch = 4
        /// Autoregressive blocks, of orders that are reversed in turns.
        public var blocks = 6
        /// Attention blocks of each.
        public var layers = 2
        /// The length of every patch's vector, a multiple of `heads`.
        public var width = 128
        public var heads = 4
        public var dropout = 0.0
        /// Log-scales of a block lie between -limit and limit; 0 leaves them free, as the paper does.
        public var limit = 0.0
        /// The standard deviation of what training adds to images in -1 ... 1; draws are denoised by it (the paper has 0.05). Likelihoods
        /// are those of the images themselves.
        public var noise = 0.0
        /// Whole numbers 0 ..< levels as data; 0 for real ones.
        public var levels = 256
        /// uniform or variational noise for whole numbers.
        public var dequantization = "uniform"

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            guard let image = examples.image else {
                throw UsageError("this flow needs images [channels, height, width], found \(examples.dimensions)")
            }
            try require(patch, "patch", in: 1...64)
            try require(
                patch & (patch - 1) == 0 && image.height % patch == 0 && image.width % patch == 0,
                "patch: expected a power of two that divides \(image.height) and \(image.width), found \(patch)")
            try require(blocks, "blocks", in: 1...256)
            try require(layers, "layers", in: 0...256)
            try require(width, "width", in: 1...65536)
            try require(heads, "heads", in: 1...width)
            try require(width % heads == 0, "width: expected a multiple of the \(heads) heads, found \(width)")
            try requireDropout(dropout)
            try require(limit >= 0 && limit.isFinite, "limit: expected a number of at least 0, found \(limit)")
            try require(noise >= 0 && noise.isFinite, "noise: expected a number of at least 0, found \(noise)")
            try require(
                levels == 0 || (2...1 << 16).contains(levels), "levels: expected 0, or 2 to 65536, found \(levels)")
            try require(
                ["uniform", "variational"].contains(dequantization),
                "dequantization: expected uniform or variational, found “\(dequantization)”")
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.flowLevels(for: "tarflow")
            let image = try data.image(for: "tarflow", other: "realnvp or maf")
            while patch > 1, image.height % patch != 0 || image.width % patch != 0 { patch /= 2 }
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try validate(examples)
            let (channels, height, columns) = (
                examples.dimensions[0], examples.dimensions[1], examples.dimensions[2]
            )
            let conditions = Conditions(of: examples)
            let flow = Flow.tarFlow(
                channels: channels, height: height, width: columns, patch: patch, blocks: blocks, layers: layers,
                width: width, heads: heads, limit: limit, dropout: dropout, features: conditions.vectorCount)
            guard levels > 0 else {
                let (steps, dequantization) = standardization(examples)
                return flow.preceded(
                    by: steps, dequantization: dequantization, noise: noise, evaluationBatch: 50,
                    conditions: conditions)
            }
            let dequantization: any Dequantization =
                self.dequantization == "uniform"
                ? UniformDequantization(levels: levels)
                : VariationalDequantization(variables: examples.count, levels: levels)
            return flow.preceded(
                by: [FixedAffine(scale: 2 / Double(levels), shift: -1)], dequantization: dequantization,
                noise: noise * Double(levels) / 2, evaluationBatch: 50, conditions: conditions)
        }
    }
}
