import Distributions
import Graph
import Layers
import Likelihood

/// PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", section 3.5 and table 1).
///
/// A 7x7 convolution of mask A, residual blocks of figure 5 with mask B, then two 1x1 convolutions. With three channels the
/// feature maps are in three groups: red reads the pixels before, green also red, blue also both (section 3.4).
public struct PixelCNN: AutoregressiveModel, ConfiguredModel {
    public let first: ConvolutionLayer
    /// What is added to the first feature maps at every position, `[channels, height, width]`; not in the paper.
    public let positionEmbedding: Parameter?
    public let blocks: [PixelBlock]
    public let head: [ConvolutionLayer]
    /// What is given, added to the first feature maps; not in the paper.
    public let given: ConditionEmbedding?
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    public let evaluationBatch = 100

    /// The choices of a PixelCNN.
    public struct Settings: ModelSettings {
        /// Values of a variable: 2 makes the conditionals Bernoulli, more, up to 65536, a softmax over all of them.
        public var levels = 2
        /// Feature maps (2h of the paper), a multiple of twice the image's channels.
        public var channels = 128
        /// Residual blocks.
        public var blocks = 7
        /// The odd extent of the blocks' masked convolutions, 3 in the paper. A conditional reads 3 + blocks * (kernel / 2) rows above
        /// its own.
        public var kernel = 3
        /// Feature maps of the first 1x1 convolution behind the blocks; 0 takes `channels`.
        public var headChannels = 0
        /// Whether the network is told where a pixel is; away from the edges it cannot see that otherwise.
        public var positionEmbedding = false
        /// The share of a block's feature maps that a training step leaves out; not in the paper.
        public var dropout = 0.0

        public init() {}

        public static let formerNames = ["places": "positionEmbedding"]

        public func validate(_ examples: ExampleShape) throws {
            let image = try requireImage(examples)
            try requireLevels(levels)
            try require(channels, "channels", in: 1...65536)
            try require(blocks, "blocks", in: 0...1024)
            try require(
                channels % (2 * image.channels) == 0,
                "channels: expected a multiple of \(2 * image.channels), found \(channels)")
            try require(headChannels, "headChannels", in: 0...65536)
            try require(
                (1...31).contains(kernel) && kernel % 2 == 1,
                "kernel: expected an odd number from 1 to 31, found \(kernel)")
            try requireDropout(dropout)
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(
                for: "pixelcnn", other: "glow or realnvp-image for real images, made or maf for tables")
            let image = try data.image(for: "pixelcnn", other: "made or maf")
            channels -= channels % (2 * image.channels)
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try PixelCNN(examples, self)
        }
    }

    /// - Parameter examples: images `[channels, height, width]` of one or three channels.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let (groups, channels) = (examples.dimensions[0], settings.channels)
        conditional = levelConditional(settings.levels)
        conditions = Conditions(of: examples)
        given = conditions.embedding(channels)
        first = .masked(.a, groups, channels, kernel: 7, channelGroups: groups)
        positionEmbedding = settings.positionEmbedding ? Parameter([channels] + examples.dimensions[1...], .zeros) : nil
        blocks = (0..<settings.blocks).map {
            PixelBlock(
                channels, kernel: settings.kernel, channelGroups: groups,
                dropout: Dropout(settings.dropout, stream: $0, takesMaps: true))
        }
        let headChannels = settings.headChannels == 0 ? channels : settings.headChannels
        head = [
            .pointwise(channels, headChannels, channelGroups: groups),
            .pointwise(headChannels, groups * conditional.parameterCount, channelGroups: groups),
        ]
    }

    /// In files the position embedding is `places`.
    public func name(ofProperty property: String) -> String {
        property == "positionEmbedding" ? "places" : property
    }

    public var order: Order { .raster(examples.dimensions) }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        var h = first(x.asImages(examples.dimensions).centred(levels: conditional.domain.levelCount ?? 2))
        if let given { h = given(h, context) }
        if let positionEmbedding { h = h + positionEmbedding.tensor }
        for block in blocks { h = block(h, context) }
        for layer in head { h = layer(h.relu()) }
        return h.asParameters(channels: examples.dimensions[0], count: conditional.parameterCount)
    }
}

/// The residual block of figure 5: 1x1 to half the feature maps, `kernel` x `kernel` of mask B, 1x1 back.
public struct PixelBlock: Module {
    let reduce: ConvolutionLayer
    let convolve: ConvolutionLayer
    let expand: ConvolutionLayer
    let dropout: Dropout

    init(_ channels: Int, kernel: Int, channelGroups: Int, dropout: Dropout) {
        self.dropout = dropout
        reduce = .pointwise(channels, channels / 2, channelGroups: channelGroups)
        convolve = .masked(.b, channels / 2, channels / 2, kernel: kernel, channelGroups: channelGroups)
        expand = .pointwise(channels / 2, channels, channelGroups: channelGroups)
    }

    func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        let h = convolve(reduce(x.relu()).relu()).relu()
        return x + expand(dropout(h, context))
    }
}
