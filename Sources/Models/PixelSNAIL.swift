import Distributions
import Graph
import Layers
import Likelihood

/// PixelSNAIL (Chen, Mishra, Rohaninejad, Abbeel 2018): gated residual convolutions that see what lies near, and attention that finds
/// anything that came before.
///
/// The stream is that of PixelCNN++ which sees the rows above and the pixels to the left; each block adds some residual blocks, and
/// what its attention reads.
public struct PixelSNAIL: AutoregressiveModel, ConfiguredModel {
    let firstAbove: ConvolutionLayer
    let firstLeft: ConvolutionLayer
    let blocks: [SNAILBlock]
    let head: ConvolutionLayer
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    public let evaluationBatch = 25

    /// The choices of a PixelSNAIL.
    public struct Settings: ModelSettings {
        /// Values of a variable: 2 makes the conditionals Bernoulli, more a mixture of discretized logistics.
        public var levels = 256
        public var channels = 64
        /// Blocks with attention at their ends; the paper has 12.
        public var blocks = 3
        /// Residual blocks of each; the paper has 4.
        public var residuals = 2
        /// Of the attention in a block; the paper has one.
        public var heads = 1
        /// Numbers of a query of a head; the paper has 16. Its values have half as many as there are channels, of all heads.
        public var queryDepth = 16
        /// Logistics of each mixture.
        public var components = 10
        public var dropout = 0.0

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            _ = try requireImage(examples)
            try requireLevels(levels)
            try require(channels, "channels", in: 1...65536)
            try require(blocks, "blocks", in: 0...1024)
            try require(residuals, "residuals", in: 0...1024)
            try require(heads, "heads", in: 1...channels)
            try require(
                channels % (2 * heads) == 0,
                "channels: expected a multiple of twice the \(heads) heads, found \(channels)")
            try require(queryDepth, "queryDepth", in: 1...4096)
            try require(components, "components", in: 1...1024)
            try requireDropout(dropout)
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(
                for: "pixelsnail", other: "glow or realnvp-image for real images, made or maf for tables")
            _ = try data.image(for: "pixelsnail", other: "made or maf")
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try PixelSNAIL(examples, self)
        }
    }

    /// - Parameter examples: images `[channels, height, width]` of one or three channels. Every block is conditioned on the classes and
    ///   features that they have.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let conditions = Conditions(of: examples)
        self.conditions = conditions
        conditional =
            if examples.dimensions[0] == 3 {
                CoupledLogisticMixture(levels: settings.levels, components: settings.components)
            } else if settings.levels == 2 {
                BernoulliConditional()
            } else {
                DiscretizedLogisticMixture(levels: settings.levels, components: settings.components)
            }
        // One more channel of ones tells the image from its border.
        let inputs = examples.dimensions[0] + 1
        firstAbove = .shifted(inputs, settings.channels, kernel: [1, 3])
        firstLeft = .shifted(inputs, settings.channels, kernel: [2, 1])
        blocks = (0..<settings.blocks).map { SNAILBlock(settings, inputs: inputs, index: $0, conditions) }
        head = ConvolutionLayer(settings.channels, conditional.parameterCount, kernel: [1, 1], isNormalized: true)
    }

    public var order: Order { .raster(examples.dimensions, channelsTogether: true) }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let image = conditional.encode(x).asImages(examples.dimensions)
        let ones = Tensor.scalar(1, image.elementType).broadcast(
            to: Shape([x.shape[0], 1] + image.shape.dimensions[2...]))
        let input = Tensor.concatenate([image, ones], axis: 1)
        var h = firstAbove(input, context).shifted(down: 1) + firstLeft(input, context).shifted(right: 1)
        for block in blocks { h = block(h, input, context) }
        let parameters = head(h.elu(), context)
        return parameters.reshaped([
            x.shape[0], Extent(conditional.parameterCount), parameters.shape[2] * parameters.shape[3],
        ])
    }
}

/// Residual blocks and attention (Chen et al. 2018, figure 2). Keys and values are made of the image itself too, so that a pixel's own
/// are not read: attention is strictly causal, and the first pixel finds nothing.
struct SNAILBlock: Module {
    let residuals: [GatedResidual]
    let content: GatedResidual
    let keysAndValues: ConvolutionLayer
    let asking: GatedResidual
    let queries: ConvolutionLayer
    let merge: GatedResidual
    private let heads: Int
    private let depth: Int

    /// - Parameter inputs: channels of the image beside the stream.
    init(_ settings: PixelSNAIL.Settings, inputs: Int, index: Int, _ conditions: Conditions) {
        let channels = settings.channels
        (heads, depth) = (settings.heads, settings.queryDepth)
        var stream = index * (settings.residuals + 3)
        func residual(_ channels: Int, kernel: [Int], extraChannels: Int = 0) -> GatedResidual {
            stream += 1
            return GatedResidual(
                channels, kernel: kernel, extraChannels: extraChannels,
                dropout: Dropout(settings.dropout, stream: stream), conditions)
        }
        residuals = (0..<settings.residuals).map { _ in residual(channels, kernel: [2, 2]) }
        let (read, asked) = (inputs + channels + 2, channels + 2)
        content = residual(read, kernel: [1, 1])
        keysAndValues = ConvolutionLayer(
            read, heads * depth + channels / 2, kernel: [1, 1], isNormalized: true)
        asking = residual(asked, kernel: [1, 1])
        queries = ConvolutionLayer(asked, heads * depth, kernel: [1, 1], isNormalized: true)
        merge = residual(channels, kernel: [1, 1], extraChannels: channels / 2)
    }

    func callAsFunction(_ x: Tensor, _ image: Tensor, _ context: Context) -> Tensor {
        let h = residuals.reduce(x) { $1($0, [], context) }
        if h.error != nil { return h }
        let places = h.places()
        let content = keysAndValues(
            content(.concatenate([image, h, places], axis: 1), [], context), context)
        let asked = queries(asking(.concatenate([h, places], axis: 1), [], context), context)
        let values = h.shape[1].coefficient / 2
        let found = Tensor.attention(
            byDepth: split(asked), split(content.sliced(axis: 1, from: 0, count: heads * depth)),
            split(content.sliced(axis: 1, from: heads * depth, count: values)), .strictlyCausal)
        let map = found.reshaped(Shape([x.shape[0], Extent(values)] + x.shape.dimensions[2...]))
        return merge(h, [map], context)
    }

    /// Maps `[batch, channels, height, width]` as `[batch, heads, depth, positions]`.
    private func split(_ maps: Tensor) -> Tensor {
        maps.reshaped([
            maps.shape[0], Extent(heads), Extent(maps.shape[1].coefficient / heads), maps.shape[2] * maps.shape[3],
        ])
    }
}

extension Tensor {
    /// Where each pixel of maps `[batch, channels, height, width]` is: its row and its column, from -1/2 on to below 1/2.
    fileprivate func places() -> Tensor {
        let (height, width) = (shape[2].coefficient, shape[3].coefficient)
        let plane = Shape([1, 1, Extent(height), Extent(width)])
        let places = [(2, height), (3, width)].map { axis, count in
            Tensor.iota(plane, axis: axis).cast(to: elementType) * (1 / Double(count)) - 0.5
        }
        return Tensor.concatenate(places, axis: 1).broadcast(to: Shape([shape[0], 2] + shape.dimensions[2...]))
    }
}
