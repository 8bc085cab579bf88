import Distributions
import Graph
import Layers
import Likelihood

/// Gated PixelCNN (van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", figure 2).
///
/// A vertical stack sees all rows above, a horizontal stack the pixels to the left in the same row; the vertical stack feeds
/// the horizontal one, never the other way. Together they see every earlier pixel: there is no blind spot.
public struct GatedPixelCNN: AutoregressiveModel, ConfiguredModel {
    public let first: GatedBlock
    public let blocks: [GatedBlock]
    public let head: [ConvolutionLayer]
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    public let evaluationBatch = 100

    /// The choices of a Gated PixelCNN.
    public struct Settings: ModelSettings {
        /// Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them.
        public var levels = 2
        /// Feature maps of each stack, a multiple of the image's channels.
        public var channels = 128
        public var blocks = 10
        /// Feature maps of the first 1x1 convolution behind the blocks.
        public var headChannels = 32
        /// Conditions every block on what the examples have: their class (equation 4), their features.
        public var conditional = true

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            let image = try requireImage(examples)
            try requireLevels(levels)
            try require(channels, "channels", in: 1...65536)
            try require(blocks, "blocks", in: 0...1024)
            try require(
                channels % image.channels == 0, "channels: expected a multiple of \(image.channels), found \(channels)")
            try require(
                (1...65536).contains(headChannels) && headChannels % image.channels == 0,
                "headChannels: expected a multiple of \(image.channels), found \(headChannels)")
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(
                for: "gated-pixelcnn", other: "glow or realnvp-image for real images, made or maf for tables")
            let image = try data.image(for: "gated-pixelcnn", other: "made or maf")
            channels -= channels % image.channels
            headChannels -= headChannels % image.channels
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try GatedPixelCNN(examples, self)
        }
    }

    /// - Parameter examples: images `[channels, height, width]` of one or three channels.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let (groups, channels) = (examples.dimensions[0], settings.channels)
        conditions = settings.conditional ? Conditions(of: examples) : Conditions()
        conditional = levelConditional(settings.levels)
        first = GatedBlock(groups, channels, kernel: 7, isFirst: true, channelGroups: groups, conditions)
        blocks = (0..<settings.blocks).map { [conditions] _ in
            GatedBlock(channels, channels, kernel: 3, isFirst: false, channelGroups: groups, conditions)
        }
        head = [
            .pointwise(channels, settings.headChannels, channelGroups: groups),
            .pointwise(settings.headChannels, groups * conditional.parameterCount, channelGroups: groups),
        ]
    }

    public var order: Order { .raster(examples.dimensions) }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let image = x.asImages(examples.dimensions).centred(levels: conditional.domain.levelCount ?? 2)
        var (v, h) = first(image, image, context)
        for block in blocks { (v, h) = block(v, h, context) }
        for layer in head { h = layer(h.relu()) }
        return h.asParameters(channels: examples.dimensions[0], count: conditional.parameterCount)
    }
}

/// One layer of both stacks (figure 2). The first layer sees strictly the rows above and the pixels to the left; later layers
/// may see their own position, which holds nothing but what came before.
public struct GatedBlock: Module {
    let vertical: ConvolutionLayer
    let horizontal: ConvolutionLayer
    /// From the vertical stack to the horizontal one.
    let link: ConvolutionLayer
    let out: ConvolutionLayer
    let verticalClass: ConditionEmbedding?
    let horizontalClass: ConditionEmbedding?
    let isFirst: Bool

    init(
        _ inputs: Int, _ channels: Int, kernel: Int, isFirst: Bool, channelGroups groups: Int, _ conditions: Conditions
    ) {
        let reach = kernel / 2
        self.isFirst = isFirst
        // Rows i - reach ... i - 1 of the image, or i - reach ... i of features that end above row i already.
        vertical = ConvolutionLayer(
            inputs, 2 * channels, kernel: [reach + (isFirst ? 0 : 1), kernel],
            padding: [(before: reach, after: isFirst ? -1 : 0), (before: reach, after: reach)])
        // Of the own pixel only earlier channels count; with one channel the first layer leaves it out altogether.
        let hasCentre = !isFirst || groups > 1
        let taps = reach + (hasCentre ? 1 : 0)
        horizontal = ConvolutionLayer(
            inputs, 2 * channels, kernel: [1, taps],
            padding: [(before: 0, after: 0), (before: reach, after: hasCentre ? 0 : -1)],
            mask: groups == 1 ? nil : Self.rowMask(taps, inputs, channels, groups, isFirst ? .a : .b))
        link = ConvolutionLayer(2 * channels, 2 * channels, kernel: [1, 1])
        out = .pointwise(channels, channels, channelGroups: groups)
        verticalClass = conditions.embedding(2 * channels)
        horizontalClass = conditions.embedding(2 * channels)
    }

    /// The last tap lies on the pixel itself. Both halves of a gate count their channel groups on their own.
    private static func rowMask(
        _ taps: Int, _ inputs: Int, _ channels: Int, _ groups: Int, _ kind: ConvolutionMask.Kind
    ) -> ConvolutionMask {
        let own = BitMatrix(rows: 2 * channels, columns: inputs) { output, input in
            let (o, i) = (output % channels * groups / channels, input * groups / inputs)
            return kind == .a ? i < o : i <= o
        }
        return ConvolutionMask(taps: (0..<taps).map { $0 == taps - 1 ? .channels(own) : .live })
    }

    func callAsFunction(_ v: Tensor, _ h: Tensor, _ context: Context) -> (Tensor, Tensor) {
        let down = vertical(v)
        var across = horizontal(h) + link(down)
        var gatedDown = down
        if let verticalClass, let horizontalClass {
            gatedDown = verticalClass(down, context)
            across = horizontalClass(across, context)
        }
        let y = out(across.gated())
        return (gatedDown.gated(), isFirst ? y : y + h)
    }
}
