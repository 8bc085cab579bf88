import Distributions
import Graph
import Layers
import Likelihood

/// A decoder-only transformer over the variables of an image, one after the other (Chen et al. 2020, "Generative Pretraining from
/// Pixels", section 2.2; attention as in Vaswani et al. 2017, section 3.2).
///
/// Every position carries a vector, made from the variable before it and from where it is. A block adds what the position finds
/// among itself and earlier positions, then what a network of two layers makes of that.
public struct ImageTransformer: AutoregressiveModel, ConfiguredModel {
    public let embed: ConvolutionLayer
    /// What is added at every position, `[width, variables]`; `nil` where queries and keys are turned by their positions.
    public let positionEmbedding: Parameter?
    public let blocks: [AttentionBlock]
    public let head: ConvolutionLayer
    /// What is given, added at every position.
    public let given: ConditionEmbedding?
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    public let evaluationBatch = 8

    /// The choices of an image transformer.
    public struct Settings: ModelSettings {
        /// Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them.
        public var levels = 2
        /// The length of every position's vector, a multiple of `heads`.
        public var width = 64
        public var heads = 4
        public var blocks = 8
        /// How a position is told where it is: by a vector that is learned, or by turning queries and keys (rotary).
        public var positions = Positions.learned
        /// Which of the earlier variables a position reads: causal, window:N (the last N), strided:N (the last N, and every Nth; Child et
        /// al. 2019, section 4.2), or axial (block by block in turns, the last ones as far as a row is wide, and its column: two blocks
        /// read everything).
        public var pattern = "causal"
        /// The share of numbers behind each block that a training step leaves out.
        public var dropout = 0.0

        public enum Positions: String, CaseIterable, Codable, Sendable {
            case learned, rotary
        }

        public init() {}

        /// The pattern of a block, of images of a width; `nil` for none of that name.
        func pattern(ofBlock index: Int, width: Int) -> AttentionPattern? {
            let parts = pattern.split(separator: ":", omittingEmptySubsequences: false)
            switch (parts[0], parts.count == 2 ? Int(parts[1]) : nil) {
            case ("causal", nil) where parts.count == 1: return .causal
            case ("axial", nil) where parts.count == 1:
                return index % 2 == 0 ? .window(width) : .column(width: width)
            case ("window", let count?) where count > 0: return .window(count)
            case ("strided", let count?) where count > 0: return .strided(count)
            default: return nil
            }
        }

        public func validate(_ examples: ExampleShape) throws {
            _ = try requireImage(examples)
            try requireLevels(levels)
            try require(width, "width", in: 1...65536)
            try require(blocks, "blocks", in: 0...1024)
            try require(heads, "heads", in: 1...width)
            try require(width % heads == 0, "width: expected a multiple of the \(heads) heads, found \(width)")
            try require(
                positions == .learned || width % (2 * heads) == 0,
                "width: rotary positions turn pairs of numbers; expected a multiple of twice the \(heads) heads, found \(width)"
            )
            try requireDropout(dropout)
            try require(
                pattern(ofBlock: 0, width: 1) != nil,
                "pattern: expected causal, axial, window:N or strided:N, found “\(pattern)”")
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(
                for: "image-transformer", other: "glow or realnvp-image for real images, made or maf for tables")
            _ = try data.image(for: "image-transformer", other: "made or maf")
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try ImageTransformer(examples, self)
        }
    }

    /// - Parameter examples: images `[channels, height, width]`; variables are drawn in the order in which they lie.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let width = settings.width
        conditional = levelConditional(settings.levels)
        conditions = Conditions(of: examples)
        given = conditions.embedding(width)
        embed = ConvolutionLayer(conditional.inputCount, width, kernel: [1])
        let isLearned = settings.positions == .learned
        positionEmbedding = isLearned ? Parameter([width, examples.count], .zeros) : nil
        blocks = (0..<settings.blocks).map {
            AttentionBlock(
                width, heads: settings.heads, rotates: !isLearned,
                pattern: settings.pattern(ofBlock: $0, width: examples.dimensions[2]) ?? .causal,
                dropout: Dropout(settings.dropout, stream: $0))
        }
        head = ConvolutionLayer(width, conditional.parameterCount, kernel: [1])
    }

    /// In files the position embedding is `places`.
    public func name(ofProperty property: String) -> String {
        property == "positionEmbedding" ? "places" : property
    }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        var h = embed(conditional.encode(x).shiftedByOne())
        if let positionEmbedding { h = h + positionEmbedding.tensor }
        if let given { h = given(h, context) }
        for block in blocks { h = block(h, context) }
        return head(h)
    }
}

/// Attention and a network of two layers, each behind a norm and beside a way past it. x `[batch, width, positions]`.
public struct AttentionBlock: Module {
    let norms: [LayerNorm]
    let attention: CausalAttention
    let expand: ConvolutionLayer
    let reduce: ConvolutionLayer
    let dropout: Dropout

    init(
        _ width: Int, heads: Int, rotates: Bool = false, pattern: AttentionPattern = .causal, dropout: Dropout
    ) {
        norms = [LayerNorm(width), LayerNorm(width)]
        attention = CausalAttention(width, heads: heads, rotates: rotates, pattern: pattern)
        expand = ConvolutionLayer(width, 4 * width, kernel: [1])
        reduce = ConvolutionLayer(4 * width, width, kernel: [1])
        self.dropout = dropout
    }

    func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        let h = x + attention(norms[0](x))
        return h + dropout(reduce(expand(norms[1](h)).gelu()), context)
    }
}
