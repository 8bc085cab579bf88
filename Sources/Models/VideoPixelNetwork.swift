import Distributions
import Graph
import Layers
import Likelihood

/// A Video Pixel Network in small (Kalchbrenner et al. 2016, "Video Pixel Networks").
///
/// Every frame is encoded by residual convolutions that keep its size; causal convolutions over time gather the frames before
/// (in the place of the paper's convolutional LSTM); a PixelCNN decodes the frame pixel by pixel, conditioned on what they
/// gathered. Variables are frames, then rows, then columns.
public struct VideoPixelNetwork: AutoregressiveModel, ConfiguredModel {
    public let first: ConvolutionLayer
    public let encoder: [FrameBlock]
    public let time: [ConvolutionLayer]
    public let decoderFirst: ConvolutionLayer
    public let context: ConvolutionLayer
    public let decoder: [FrameBlock]
    public let head: [ConvolutionLayer]
    public let examples: ExampleShape
    public let conditional: any Conditional
    public let conditions: Conditions
    /// What is given, added to the decoder's first feature maps; not in the paper.
    public let given: ConditionEmbedding?
    public let evaluationBatch = 100

    /// The choices of a Video Pixel Network.
    public struct Settings: ModelSettings {
        /// Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them.
        public var levels = 2
        /// Feature maps.
        public var channels = 32
        public var encoderBlocks = 2
        public var timeLayers = 2
        public var decoderBlocks = 4

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(
                examples.dimensions.count == 3,
                "this model wants videos [frames, height, width]; the data are \(examples.dimensions)")
            try requireLevels(levels)
            try require(channels, "channels", in: 1...65536)
            try require(encoderBlocks, "encoderBlocks", in: 0...1024)
            try require(channels % 2 == 0, "channels: expected an even number, found \(channels)")
            try require(timeLayers, "timeLayers", in: 0...8)
            try require(decoderBlocks, "decoderBlocks", in: 0...256)
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(for: "vpn", other: "made or maf")
            guard data.examples.dimensions.count == 3, data.examples.dimensions[0] > 1 else {
                throw UsageError(
                    "vpn models videos [frames, height, width] of two frames or more, found \(data.examples); take pixelcnn for images"
                )
            }
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try VideoPixelNetwork(examples, self)
        }
    }

    /// - Parameter examples: videos `[frames, height, width]`.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let channels = settings.channels
        conditional = levelConditional(settings.levels)
        conditions = Conditions(of: examples)
        given = conditions.embedding(channels)
        let same = (before: 1, after: 1)
        first = ConvolutionLayer(1, channels, kernel: [1, 3, 3])
        encoder = (0..<settings.encoderBlocks).map { _ in FrameBlock(channels, isMasked: false) }
        // Frame t reads frames t - 1 and earlier: the input is one frame late.
        time = (0..<settings.timeLayers).map { layer in
            ConvolutionLayer(
                channels, channels, kernel: [2, 3, 3], padding: [(before: 1 << layer, after: 0), same, same],
                dilation: [1 << layer, 1, 1])
        }
        decoderFirst = ConvolutionLayer(1, channels, kernel: [1, 7, 7], mask: Self.frameMask(.a, 7))
        context = ConvolutionLayer(channels, channels, kernel: [1, 1, 1])
        decoder = (0..<settings.decoderBlocks).map { _ in FrameBlock(channels, isMasked: true) }
        head = [
            ConvolutionLayer(channels, channels, kernel: [1, 1, 1]),
            ConvolutionLayer(channels, conditional.parameterCount, kernel: [1, 1, 1]),
        ]
    }

    static func frameMask(_ kind: ConvolutionMask.Kind, _ kernel: Int) -> ConvolutionMask {
        .causal(kind, kernel: [1, kernel, kernel])
    }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let video = x.centred(levels: conditional.domain.levelCount ?? 2)
            .reshaped(Shape([x.shape[0], 1] + examples.dimensions.map { Extent($0) }))
        var past = first(
            video.sliced(axis: 2, from: 0, count: examples.dimensions[0] - 1).padded(
                low: [0, 0, 1, 0, 0], high: [0, 0, 0, 0, 0]))
        for block in encoder { past = block(past) }
        for layer in time { past = past + layer(past.relu()) }
        var h = decoderFirst(video) + self.context(past)
        if let given { h = given(h, context) }
        for block in decoder { h = block(h) }
        for layer in head { h = layer(h.relu()) }
        return h.reshaped([x.shape[0], Extent(conditional.parameterCount), Extent(variableCount)])
    }
}

/// A residual block on each frame: PixelCNN's if masked, an ordinary one that sees the whole frame if not.
public struct FrameBlock: Module {
    let reduce: ConvolutionLayer
    let convolve: ConvolutionLayer
    let expand: ConvolutionLayer

    init(_ channels: Int, isMasked: Bool) {
        let half = channels / 2
        reduce = ConvolutionLayer(channels, half, kernel: [1, 1, 1])
        convolve = ConvolutionLayer(
            half, half, kernel: [1, 3, 3], mask: isMasked ? VideoPixelNetwork.frameMask(.b, 3) : nil)
        expand = ConvolutionLayer(half, channels, kernel: [1, 1, 1])
    }

    func callAsFunction(_ x: Tensor) -> Tensor { x + expand(convolve(reduce(x.relu()).relu()).relu()) }
}
