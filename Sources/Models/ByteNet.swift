import Distributions
import Graph
import Layers

/// ByteNet (Kalchbrenner et al. 2016, "Neural Machine Translation in Linear Time"): residual blocks of dilated convolutions
/// over characters. The decoder is causal; the encoder, where there is one, sees the whole source, and the decoder is stacked
/// on top of it position by position (section 3.1).
///
/// With an encoder an example is a source followed by its target, of equal length: the source is uniform, the target
/// conditioned on it, and completing an example whose source is observed translates it.
public struct ByteNet: CausalModel {
    public let sourceEmbed: ConvolutionLayer?
    public let encoder: [ByteBlock]
    public let embed: ConvolutionLayer
    public let decoder: [ByteBlock]
    public let norm: LayerNorm
    public let head: ConvolutionLayer
    let steps: Int
    public let exampleShape: [Int]
    public let levels: Int
    public let conditional: any Conditional

    /// - Parameters:
    ///   - steps: characters of an example; with an encoder, of the source and of the target.
    ///   - levels: characters of the alphabet.
    ///   - channels: 2d of the paper.
    ///   - sets: how often the dilations 1, 2, 4, 8, 16 run through.
    public init(
        steps: Int, levels: Int, channels: Int = 256, sets: Int = 2, kernel: Int = 3, dropout: Double = 0,
        hasEncoder: Bool = false
    ) {
        self.steps = steps
        exampleShape = [hasEncoder ? 2 * steps : steps]
        self.levels = levels
        conditional = Categorical(levels: levels)
        let dilations = (0..<sets).flatMap { _ in [1, 2, 4, 8, 16] }
        sourceEmbed = hasEncoder ? ConvolutionLayer(levels, channels, kernel: [1]) : nil
        encoder =
            hasEncoder
            ? dilations.enumerated().map {
                ByteBlock(
                    channels, kernel: kernel, dilation: $1, isCausal: false, dropout: Dropout(dropout, stream: 500 + $0)
                )
            } : []
        embed = ConvolutionLayer(levels, channels, kernel: [1])
        decoder = dilations.enumerated().map {
            ByteBlock(channels, kernel: kernel, dilation: $1, isCausal: true, dropout: Dropout(dropout, stream: $0))
        }
        norm = LayerNorm(channels)
        head = ConvolutionLayer(channels, levels, kernel: [1])
        namedParameters()
    }

    public var order: Order { .natural(variableCount) }

    public func conditionalParameters(_ x: Tensor, _ context: ForwardContext) -> Tensor {
        guard let sourceEmbed else { return decode(conditional.encode(x), nil, context) }
        let symbols = conditional.encode(x)
        let source = symbols.sliced(axis: 2, from: 0, count: steps)
        var s = sourceEmbed(source)
        for block in encoder { s = block(s, context) }
        let target = decode(symbols.sliced(axis: 2, from: steps, count: steps), s, context)
        return Tensor.concatenate([Tensor.scalar(0).broadcast(to: source.shape), target], axis: 2)
    }

    /// The logits of every character given those before it, and what the encoder says at its place.
    private func decode(_ symbols: Tensor, _ encoded: Tensor?, _ context: ForwardContext) -> Tensor {
        var h = embed(symbols.shiftedByOne())
        if let encoded { h = h + encoded }
        for block in decoder { h = block(h, context) }
        return head(norm(h).relu())
    }
}

/// The residual block of figure 3 with ReLUs: 1x1 to half the channels, a dilated convolution, 1x1 back.
public struct ByteBlock: Module {
    let norms: [LayerNorm]
    let reduce: ConvolutionLayer
    let convolve: ConvolutionLayer
    let expand: ConvolutionLayer
    let dropout: Dropout

    init(_ channels: Int, kernel: Int, dilation: Int, isCausal: Bool, dropout: Dropout) {
        let half = channels / 2
        norms = [LayerNorm(channels), LayerNorm(half), LayerNorm(half)]
        reduce = ConvolutionLayer(channels, half, kernel: [1])
        convolve =
            isCausal
            ? .causal(half, half, kernel: kernel, dilation: dilation)
            : ConvolutionLayer(half, half, kernel: [kernel], dilation: [dilation])
        expand = ConvolutionLayer(half, channels, kernel: [1])
        self.dropout = dropout
    }

    func callAsFunction(_ x: Tensor, _ context: ForwardContext) -> Tensor {
        var h = reduce(norms[0](x).relu())
        h = convolve(norms[1](h).relu())
        h = expand(norms[2](h).relu())
        return x + dropout(h, context)
    }
}
