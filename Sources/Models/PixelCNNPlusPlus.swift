import Distributions
import Graph
import Layers
import Likelihood

/// PixelCNN++ (Salimans, Karpathy, Chen, Kingma 2017): two streams of shifted convolutions, down- and upsampled with
/// shortcuts between equal sizes, and a mixture of discretized logistics coupled over the channels.
///
/// Stream u sees the rows above, stream ul also the pixels to the left. Convolutions are weight-normalised and fit themselves
/// to the first batch; every residual block is gated and may drop units out.
public struct PixelCNNPlusPlus: AutoregressiveModel, ConfiguredModel {
    let firstDown: ConvolutionLayer
    let firstAbove: ConvolutionLayer
    let firstLeft: ConvolutionLayer
    let downBlocks: [[StreamBlock]]
    let downsampling: [StreamResize]
    let upBlocks: [[StreamBlock]]
    let upsampling: [StreamResize]
    let head: ConvolutionLayer
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    public let evaluationBatch = 25

    /// The choices of a PixelCNN++.
    public struct Settings: ModelSettings {
        /// Values of a variable.
        public var levels = 256
        public var channels = 160
        /// Sizes of the image that are worked at; the paper has 3.
        public var scales = 3
        /// Residual blocks at each size; the paper has 5.
        public var blocks = 5
        /// Logistics of each mixture.
        public var components = 10
        public var dropout = 0.5

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            let image = try requireImage(examples)
            try requireLevels(levels)
            try require(channels, "channels", in: 1...65536)
            try require(blocks, "blocks", in: 0...1024)
            try require(scales, "scales", in: 1...6)
            try require(components, "components", in: 1...1024)
            try requireDropout(dropout)
            let unit = 1 << (scales - 1)
            try require(
                image.height % unit == 0 && image.width % unit == 0,
                "scales: \(scales) sizes need images whose sides are multiples of \(unit), found \(image.height)x\(image.width)"
            )
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(
                for: "pixelcnnpp", other: "glow or realnvp-image for real images, made or maf for tables")
            let image = try data.image(for: "pixelcnnpp", other: "made or maf")
            while scales > 1, (image.height | image.width) % (1 << (scales - 1)) != 0 { scales -= 1 }
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try PixelCNNPlusPlus(examples, self)
        }
    }

    /// - Parameter examples: images `[channels, height, width]` of one or three channels, height and width multiples of
    ///   `2^(scales - 1)`. Every block is conditioned on the classes and features that they have.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let (channels, scales, blocks) = (settings.channels, settings.scales, settings.blocks)
        let conditions = Conditions(of: examples)
        self.conditions = conditions
        conditional =
            examples.dimensions[0] == 3
            ? CoupledLogisticMixture(levels: settings.levels, components: settings.components)
            : DiscretizedLogisticMixture(levels: settings.levels, components: settings.components)
        // One more channel of ones tells the image from its border.
        let inputs = examples.dimensions[0] + 1
        firstDown = .shifted(inputs, channels, kernel: [2, 3])
        firstAbove = .shifted(inputs, channels, kernel: [1, 3])
        firstLeft = .shifted(inputs, channels, kernel: [2, 1])
        var stream = 0
        func block(_ shortcuts: Int) -> StreamBlock {
            stream += 2
            return StreamBlock(
                channels, shortcuts: shortcuts, dropout: settings.dropout, stream: stream, conditions)
        }
        downBlocks = (0..<scales).map { _ in (0..<blocks).map { _ in block(0) } }
        downsampling = (1..<max(1, scales)).map { _ in StreamResize(channels, isUp: false) }
        // On the way up every stored state is used once: one block more at all sizes but the smallest.
        upBlocks = (0..<scales).map { scale in (0..<(scale == 0 ? blocks : blocks + 1)).map { _ in block(1) } }
        upsampling = (1..<max(1, scales)).map { _ in StreamResize(channels, isUp: true) }
        head = ConvolutionLayer(channels, conditional.parameterCount, kernel: [1, 1], isNormalized: true)
    }

    public var order: Order { .raster(examples.dimensions, channelsTogether: true) }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let image = conditional.encode(x).asImages(examples.dimensions)
        let ones = Tensor.scalar(1, image.elementType).broadcast(
            to: Shape([x.shape[0], 1] + image.shape.dimensions[2...]))
        let input = Tensor.concatenate([image, ones], axis: 1)
        var u = firstDown(input, context).shifted(down: 1)
        var ul = firstAbove(input, context).shifted(down: 1) + firstLeft(input, context).shifted(right: 1)
        var (us, uls) = ([u], [ul])
        for (scale, blocks) in downBlocks.enumerated() {
            for block in blocks {
                (u, ul) = block(u, ul, [], context)
                us.append(u)
                uls.append(ul)
            }
            if scale < downsampling.count {
                (u, ul) = downsampling[scale](u, ul, context)
                us.append(u)
                uls.append(ul)
            }
        }
        (u, ul) = (us.removeLast(), uls.removeLast())
        for (scale, blocks) in upBlocks.enumerated() {
            for block in blocks { (u, ul) = block(u, ul, [us.removeLast(), uls.removeLast()], context) }
            if scale < upsampling.count { (u, ul) = upsampling[scale](u, ul, context) }
        }
        let parameters = head(ul.elu(), context)
        return parameters.reshaped([
            x.shape[0], Extent(conditional.parameterCount), parameters.shape[2] * parameters.shape[3],
        ])
    }
}

/// A gated residual block of both streams (Salimans et al. 2017, section 2.3).
struct StreamBlock: Module {
    let above: GatedResidual
    let left: GatedResidual

    init(_ channels: Int, shortcuts: Int, dropout: Double, stream: Int, _ conditions: Conditions) {
        above = GatedResidual(
            channels, kernel: [2, 3], extraChannels: channels * shortcuts, dropout: Dropout(dropout, stream: stream),
            conditions)
        // The left stream also reads the one above.
        left = GatedResidual(
            channels, kernel: [2, 2], extraChannels: channels * (shortcuts + 1),
            dropout: Dropout(dropout, stream: stream + 1), conditions)
    }

    func callAsFunction(_ u: Tensor, _ ul: Tensor, _ shortcuts: [Tensor], _ context: Context) -> (Tensor, Tensor) {
        let u = above(u, Array(shortcuts.prefix(1)), context)
        return (u, left(ul, [u] + shortcuts.suffix(shortcuts.isEmpty ? 0 : 1), context))
    }
}

/// Two convolutions, the second of which is gated, beside a way past them; what else the block is told enters between them.
struct GatedResidual: Module {
    let first: ConvolutionLayer
    let extra: ConvolutionLayer?
    let second: ConvolutionLayer
    let classEmbedding: ConditionEmbedding?
    let dropout: Dropout

    /// - Parameter extraChannels: of the further maps that it is told, of all of them.
    init(_ channels: Int, kernel: [Int], extraChannels: Int, dropout: Dropout, _ conditions: Conditions) {
        first = .shifted(2 * channels, channels, kernel: kernel)
        extra =
            extraChannels > 0
            ? ConvolutionLayer(2 * extraChannels, channels, kernel: [1, 1], isNormalized: true) : nil
        second = .shifted(2 * channels, 2 * channels, kernel: kernel)
        classEmbedding = conditions.embedding(2 * channels)
        self.dropout = dropout
    }

    func callAsFunction(_ x: Tensor, _ extras: [Tensor], _ context: Context) -> Tensor {
        var h = first(x.concatenatedELU(), context)
        if let extra { h = h + extra(Tensor.concatenate(extras, axis: 1).concatenatedELU(), context) }
        h = second(dropout(h.concatenatedELU(), context), context)
        if let classEmbedding { h = classEmbedding(h, context) }
        let half = h.shape[1].coefficient / 2
        return x + h.sliced(axis: 1, from: 0, count: half) * h.sliced(axis: 1, from: half, count: half).sigmoid()
    }
}

/// Both streams at half or double the size, by convolutions of stride 2 that keep the order.
struct StreamResize: Module {
    let above: ConvolutionLayer
    let left: ConvolutionLayer

    init(_ channels: Int, isUp: Bool) {
        if isUp {
            // Output column 2p + t - 1 of the stream above: centred, as the kernel of three columns is.
            above = ConvolutionLayer(
                channels, channels, kernel: [2, 3], stride: [2, 2],
                padding: [(before: 0, after: 0), (before: 1, after: 0)], isNormalized: true, isTransposed: true)
            left = ConvolutionLayer(
                channels, channels, kernel: [2, 2], stride: [2, 2],
                padding: [(before: 0, after: 0), (before: 0, after: 0)], isNormalized: true, isTransposed: true)
        } else {
            above = .shifted(channels, channels, kernel: [2, 3], stride: [2, 2])
            left = .shifted(channels, channels, kernel: [2, 2], stride: [2, 2])
        }
    }

    func callAsFunction(_ u: Tensor, _ ul: Tensor, _ context: Context) -> (Tensor, Tensor) {
        (above(u, context), left(ul, context))
    }
}

extension ConvolutionLayer {
    /// A convolution that reads its own row and those above it; of its columns the middle three, or its own and earlier ones
    /// (`down_shifted` and `down_right_shifted` of the authors' code).
    static func shifted(_ inputs: Int, _ outputs: Int, kernel: [Int], stride: [Int] = []) -> ConvolutionLayer {
        let side = kernel[1] == 3 ? (before: 1, after: 1) : (before: kernel[1] - 1, after: 0)
        return ConvolutionLayer(
            inputs, outputs, kernel: kernel, stride: stride, padding: [(before: kernel[0] - 1, after: 0), side],
            isNormalized: true)
    }
}

extension Tensor {
    /// Rows moved down, or columns to the right; zeros come in.
    func shifted(down: Int = 0, right: Int = 0) -> Tensor {
        let (height, width) = (shape[2].coefficient, shape[3].coefficient)
        return sliced(axis: 2, from: 0, count: height - down).sliced(axis: 3, from: 0, count: width - right)
            .padded(low: [0, 0, down, right], high: [0, 0, 0, 0])
    }
}
