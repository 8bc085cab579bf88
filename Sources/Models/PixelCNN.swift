import Distributions
import Graph
import Layers

/// PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", section 3.5 and table 1).
///
/// A 7x7 convolution of mask A, residual blocks of figure 5 with mask B, then two 1x1 convolutions. With three channels the
/// feature maps are in three groups: red reads the pixels before, green also red, blue also both (section 3.4).
public struct PixelCNN: CausalModel {
    public let first: ConvolutionLayer
    /// What is added to the first feature maps at every place, `[channels, height, width]`; not in the paper.
    public let places: Parameter?
    public let blocks: [PixelBlock]
    public let head: [ConvolutionLayer]
    public let exampleShape: [Int]
    public let levels: Int
    public let conditional: any Conditional

    /// - Parameters:
    ///   - shape: `[channels, height, width]`.
    ///   - levels: values of a variable; 2 makes the conditionals Bernoulli, more a softmax over all of them.
    ///   - channels: feature maps (2h of the paper), a multiple of twice the image's channels.
    ///   - kernel: the odd extent of the blocks' masked convolutions, 3 in the paper. A conditional reads 3 + blocks * (kernel / 2)
    ///     rows above its own.
    ///   - headChannels: feature maps of the first 1x1 convolution behind the blocks.
    ///   - places: whether the network is told where a pixel is; away from the edges it cannot see that otherwise.
    ///   - dropout: the share of a block's feature maps that a training step leaves out; not in the paper.
    public init(
        shape: [Int], levels: Int = 2, channels: Int = 128, blocks: Int = 7, kernel: Int = 3,
        headChannels: Int? = nil, places: Bool = false, dropout: Double = 0
    ) {
        let groups = shape[0]
        exampleShape = shape
        self.levels = levels
        conditional = levels == 2 ? Bernoulli() : Categorical(levels: levels)
        first = .masked(.a, shape[0], channels, kernel: 7, channelGroups: groups)
        self.places = places ? Parameter([channels] + shape[1...], .zeros) : nil
        self.blocks = (0..<blocks).map {
            PixelBlock(
                channels, kernel: kernel, channelGroups: groups, dropout: Dropout(dropout, stream: $0, takesMaps: true))
        }
        let headChannels = headChannels ?? channels
        head = [
            .pointwise(channels, headChannels, channelGroups: groups),
            .pointwise(headChannels, shape[0] * conditional.parameterCount, channelGroups: groups),
        ]
        namedParameters()
    }

    public var order: Order { .raster(exampleShape) }

    public func conditionalParameters(_ x: Tensor, _ context: ForwardContext) -> Tensor {
        var h = first(x.asImages(exampleShape).centred(levels: levels))
        if let places { h = h + places.tensor }
        for block in blocks { h = block(h, context) }
        for layer in head { h = layer(h.relu()) }
        return h.asParameters(channels: exampleShape[0], count: conditional.parameterCount)
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

    func callAsFunction(_ x: Tensor, _ context: ForwardContext) -> Tensor {
        let h = convolve(reduce(x.relu()).relu()).relu()
        return x + expand(dropout(h, context))
    }
}
