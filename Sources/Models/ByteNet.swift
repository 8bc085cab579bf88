import Distributions
import Graph
import Layers
import Likelihood

/// ByteNet (Kalchbrenner et al. 2016, "Neural Machine Translation in Linear Time"): residual blocks of dilated convolutions
/// over characters. The decoder is causal; the encoder, where there is one, sees the whole source, and the decoder is stacked
/// on top of it position by position (section 3.1).
///
/// With an encoder an example is a source followed by its target, of equal length: the source is uniform, the target
/// conditioned on it, and completing an example whose source is observed translates it.
public struct ByteNet: AutoregressiveModel, ConfiguredModel {
    public let sourceEmbed: ConvolutionLayer?
    public let encoder: [ByteBlock]
    public let embed: ConvolutionLayer
    public let decoder: [ByteBlock]
    public let norm: LayerNorm
    public let head: ConvolutionLayer
    /// What is given, added to every character's vector; not in the paper.
    public let given: ConditionEmbedding?
    let steps: Int
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    public let evaluationBatch = 50

    /// The choices of a ByteNet.
    public struct Settings: ModelSettings {
        /// Characters of the alphabet.
        public var levels = 256
        /// 2d of the paper.
        public var channels = 256
        /// How often the dilations 1, 2, 4, 8, 16 run through.
        public var sets = 2
        public var kernel = 3
        /// The share of numbers behind each block that a training step leaves out.
        public var dropout = 0.0
        /// An example is a source and its target, of equal length.
        public var encoder = false

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try requireSequence(examples)
            try requireLevels(levels)
            try require(channels, "channels", in: 1...65536)
            try require(sets, "sets", in: 0...1024)
            try require(channels % 2 == 0, "channels: expected an even number, found \(channels)")
            try require(kernel, "kernel", in: 1...64)
            try requireDropout(dropout)
            try require(
                !encoder || examples.count % 2 == 0,
                "encoder: an example is a source and a target of equal length, found \(examples.count) characters")
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.sequenceLevels(for: "bytenet")
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try ByteNet(examples, self)
        }
    }

    /// - Parameter examples: sequences `[steps]`.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let (levels, channels, kernel, hasEncoder) = (
            settings.levels, settings.channels, settings.kernel, settings.encoder
        )
        steps = hasEncoder ? examples.count / 2 : examples.count
        conditional = CategoricalConditional(levels: levels)
        conditions = Conditions(of: examples)
        given = conditions.embedding(channels)
        let dilations = (0..<settings.sets).flatMap { _ in [1, 2, 4, 8, 16] }
        sourceEmbed = hasEncoder ? ConvolutionLayer(levels, channels, kernel: [1]) : nil
        encoder =
            hasEncoder
            ? dilations.enumerated().map {
                ByteBlock(
                    channels, kernel: kernel, dilation: $1, isCausal: false,
                    dropout: Dropout(settings.dropout, stream: 500 + $0))
            } : []
        embed = ConvolutionLayer(levels, channels, kernel: [1])
        decoder = dilations.enumerated().map {
            ByteBlock(
                channels, kernel: kernel, dilation: $1, isCausal: true, dropout: Dropout(settings.dropout, stream: $0))
        }
        norm = LayerNorm(channels)
        head = ConvolutionLayer(channels, levels, kernel: [1])
    }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        guard let sourceEmbed else { return decode(conditional.encode(x), nil, context) }
        let symbols = conditional.encode(x)
        let source = symbols.sliced(axis: 2, from: 0, count: steps)
        var s = sourceEmbed(source)
        for block in encoder { s = block(s, context) }
        let target = decode(symbols.sliced(axis: 2, from: steps, count: steps), s, context)
        return Tensor.concatenate([Tensor.scalar(0, source.elementType).broadcast(to: source.shape), target], axis: 2)
    }

    /// The logits of every character given those before it, and what the encoder says at its place.
    private func decode(_ symbols: Tensor, _ encoded: Tensor?, _ context: Context) -> Tensor {
        var h = embed(symbols.shiftedByOne())
        if let encoded { h = h + encoded }
        if let given { h = given(h, context) }
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

    func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        var h = reduce(norms[0](x).relu())
        h = convolve(norms[1](h).relu())
        h = expand(norms[2](h).relu())
        return x + dropout(h, context)
    }
}
