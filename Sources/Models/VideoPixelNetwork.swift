import Distributions
import Graph
import Layers

/// A Video Pixel Network in small (Kalchbrenner et al. 2016, "Video Pixel Networks").
///
/// Every frame is encoded by residual convolutions that keep its size; causal convolutions over time gather the frames before
/// (in the place of the paper's convolutional LSTM); a PixelCNN decodes the frame pixel by pixel, conditioned on what they
/// gathered. Variables are frames, then rows, then columns.
public struct VideoPixelNetwork: CausalModel {
    public let first: ConvolutionLayer
    public let encoder: [FrameBlock]
    public let time: [ConvolutionLayer]
    public let decoderFirst: ConvolutionLayer
    public let context: ConvolutionLayer
    public let decoder: [FrameBlock]
    public let head: [ConvolutionLayer]
    public let exampleShape: [Int]
    public let conditional: any Conditional

    /// - Parameter shape: `[frames, height, width]` of binary pixels.
    public init(
        shape: [Int], channels: Int = 32, encoderBlocks: Int = 2, timeLayers: Int = 2, decoderBlocks: Int = 4
    ) {
        exampleShape = shape
        conditional = Bernoulli()
        let same = (before: 1, after: 1)
        first = ConvolutionLayer(1, channels, kernel: [1, 3, 3])
        encoder = (0..<encoderBlocks).map { _ in FrameBlock(channels, isMasked: false) }
        // Frame t reads frames t - 1 and earlier: the input is one frame late.
        time = (0..<timeLayers).map { layer in
            ConvolutionLayer(
                channels, channels, kernel: [2, 3, 3], padding: [(before: 1 << layer, after: 0), same, same],
                dilation: [1 << layer, 1, 1])
        }
        decoderFirst = ConvolutionLayer(
            1, channels, kernel: [1, 7, 7], mask: Self.frameMask(.a, 7))
        context = ConvolutionLayer(channels, channels, kernel: [1, 1, 1])
        decoder = (0..<decoderBlocks).map { _ in FrameBlock(channels, isMasked: true) }
        head = [
            ConvolutionLayer(channels, channels, kernel: [1, 1, 1]), ConvolutionLayer(channels, 1, kernel: [1, 1, 1]),
        ]
        namedParameters()
    }

    static func frameMask(_ kind: ConvolutionMask.Kind, _ kernel: Int) -> ConvolutionMask {
        .causal(kind, kernel: [1, kernel, kernel])
    }

    public var order: Order { .natural(variableCount) }

    public func conditionalParameters(_ x: Tensor, _ context: ForwardContext) -> Tensor {
        let video = x.reshaped(Shape([x.shape[0], 1] + exampleShape.map { Extent($0) }))
        var past = first(
            video.sliced(axis: 2, from: 0, count: exampleShape[0] - 1).padded(
                low: [0, 0, 1, 0, 0], high: [0, 0, 0, 0, 0]))
        for block in encoder { past = block(past) }
        for layer in time { past = past + layer(past.relu()) }
        var h = decoderFirst(video) + self.context(past)
        for block in decoder { h = block(h) }
        for layer in head { h = layer(h.relu()) }
        return h.reshaped([x.shape[0], 1, Extent(variableCount)])
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
