import Graph
import Layers

/// Convolutions of odd kernels that keep height and width, for couplings of images: Glow's 3x3, 1x1, 3x3 (Kingma and Dhariwal
/// 2018, section 3.3).
public struct ConvolutionNetwork: Conditioner {
    public let layers: [ConvolutionLayer]
    /// What the context's features add to the first layer's maps.
    public let given: ConditionEmbedding?
    public let activation: Activation

    /// - Parameters:
    ///   - channels: before the first layer, between layers, and behind the last.
    ///   - kernels: one for each layer.
    ///   - features: numbers that each example is conditioned on.
    ///   - startsAtIdentity: whether the last layer starts at zero.
    ///   - isVideo: whether x is `[batch, channels, frames, height, width]`; then every frame is read on its own.
    public init(
        channels: [Int], kernels: [Int], features: Int = 0, activation: Activation = .relu,
        startsAtIdentity: Bool = true, isVideo: Bool = false
    ) {
        given = kernels.count > 1 ? ConditionEmbedding(classes: nil, features: features, channels[1]) : nil
        layers = kernels.indices.map {
            ConvolutionLayer(
                channels[$0], channels[$0 + 1], kernel: .square(kernels[$0], isVideo: isVideo),
                initializer: startsAtIdentity && $0 == kernels.count - 1 ? .zeros : nil)
        }
        self.activation = activation
    }

    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        var h = x
        for (index, layer) in layers.enumerated() {
            h = layer(h, context)
            if index == 0, let given { h = given(h, context) }
            if index < layers.count - 1 { h = activation(h) }
        }
        return h
    }
}

/// What keeps the feature maps of a residual network in range.
public enum ConvolutionNorm: String, Sendable, CaseIterable {
    case none
    /// Each position over its channels (Ba, Kiros, Hinton 2016).
    case layer
    /// The weights of each convolution, fitted to the first batch (Salimans and Kingma 2016).
    case weight
}

/// Residual blocks of two 3x3 convolutions, for couplings of images (Dinh et al. 2017, section 3.6, whose networks are such): a
/// convolution to the hidden maps, blocks that each add to them, and a convolution to the parameters. Norm and activation stand in
/// front of every convolution but the first (He et al. 2016, "Identity Mappings in Deep Residual Networks", figure 1b).
public struct ResidualNetwork: Conditioner {
    public let first: ConvolutionLayer
    public let blocks: [Block]
    public let norm: LayerNorm?
    public let last: ConvolutionLayer
    public let activation: Activation

    /// One block: what it adds to the maps that it reads.
    public struct Block: Module {
        let norms: [LayerNorm]
        let layers: [ConvolutionLayer]
        /// What the context's features add between the two convolutions.
        let given: ConditionEmbedding?
        let dropout: Dropout
        let activation: Activation

        func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
            var h = x
            for (index, layer) in layers.enumerated() {
                if !norms.isEmpty { h = norms[index](h) }
                h = activation(h)
                if index == 1 { h = dropout(h, context) }
                h = layer(h, context)
                if index == 0, let given { h = given(h, context) }
            }
            return x + h
        }
    }

    /// - Parameters:
    ///   - inputs: channels of x.
    ///   - outputs: channels of all parameters together.
    ///   - blocks: how many residual blocks.
    ///   - features: numbers that each example is conditioned on; every block reads them.
    ///   - dropout: the share of each block's inner maps that a training step leaves out.
    ///   - stream: tells the networks of a model apart, whose dropout draws numbers of their own.
    ///   - startsAtIdentity: whether the last layer starts at zero.
    ///   - isVideo: whether x is `[batch, channels, frames, height, width]`; then every frame is read on its own.
    public init(
        _ inputs: Int, hidden: Int, blocks: Int, outputs: Int, features: Int = 0, norm: ConvolutionNorm = .none,
        dropout: Double = 0, stream: Int = 0, activation: Activation = .relu, startsAtIdentity: Bool = true,
        isVideo: Bool = false
    ) {
        func convolution(_ inputs: Int, _ outputs: Int) -> ConvolutionLayer {
            ConvolutionLayer(
                inputs, outputs, kernel: .square(3, isVideo: isVideo), isNormalized: norm == .weight)
        }
        first = convolution(inputs, hidden)
        self.blocks = (0..<blocks).map { block in
            Block(
                norms: norm == .layer ? [LayerNorm(hidden), LayerNorm(hidden)] : [],
                layers: [convolution(hidden, hidden), convolution(hidden, hidden)],
                given: ConditionEmbedding(classes: nil, features: features, hidden),
                dropout: Dropout(dropout, stream: 10_000 + stream * blocks + block), activation: activation)
        }
        self.norm = norm == .layer ? LayerNorm(hidden) : nil
        last = ConvolutionLayer(
            hidden, outputs, kernel: .square(3, isVideo: isVideo), initializer: startsAtIdentity ? .zeros : nil)
        self.activation = activation
    }

    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        var h = first(x, context)
        for block in blocks { h = block(h, context) }
        return last(activation(norm.map { $0(h) } ?? h), context)
    }
}

extension [Int] {
    /// The kernel of a square convolution, of each frame where x is a video.
    fileprivate static func square(_ extent: Int, isVideo: Bool) -> [Int] {
        isVideo ? [1, extent, extent] : [extent, extent]
    }
}
