import Distributions
import Graph
import Layers
import Likelihood

/// WaveNet (van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio").
///
/// Causal convolutions of two taps whose dilation doubles from layer to layer, gated units (equation 2), residual and skip
/// connections (figure 4). Variables are whole numbers 0 ..< levels, mu-law codes of samples (section 2.2).
public struct WaveNet: AutoregressiveModel, ConfiguredModel {
    public let embed: ConvolutionLayer
    public let gated: [ConvolutionLayer]
    public let residual: [ConvolutionLayer]
    public let skip: [ConvolutionLayer]
    /// Global conditioning on a class or features, and local conditioning on features at every step (section 2.5).
    public let globalCondition: [ConditionEmbedding]
    public let localCondition: [ConvolutionLayer]
    public let head: [ConvolutionLayer]
    public let dilations: [Int]
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    public let evaluationBatch = 4

    public enum Output: String, ChoiceSetting {
        case softmax
        /// A mixture of ten discretized logistics.
        case logistics
    }

    /// The choices of a WaveNet.
    public struct Settings: ModelSettings {
        /// Values of a sample.
        public var levels = 256
        /// Channels of the residual and of the skip connections.
        public var residual = 64
        public var skip = 256
        /// How often the dilations 1, 2, 4, ... run through.
        public var stacks = 2
        /// Dilations of a stack.
        public var layers = 10
        /// softmax or logistics.
        public var output = Output.softmax
        /// Channels of the features `[channels, steps]` that each step is conditioned on; 0 for none.
        public var localChannels = 0

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try requireSequence(examples)
            try requireLevels(levels)
            try require(residual, "residual", in: 1...65536)
            try require(skip, "skip", in: 1...65536)
            // What every layer adds to the skips is all that the head reads.
            try require(stacks, "stacks", in: 1...1024)
            try require(layers, "layers", in: 1...20)
            try require(localChannels, "localChannels", in: 0...65536)
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.sequenceLevels(for: "wavenet")
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try WaveNet(examples, self)
        }
    }

    /// - Parameter examples: sequences `[steps]`. Every layer is conditioned on the classes and features that they have.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let (levels, channels, skipChannels, localChannels) = (
            settings.levels, settings.residual, settings.skip, settings.localChannels
        )
        var conditions = Conditions(of: examples)
        if localChannels > 0 {
            conditions = Conditions(classes: examples.classes, features: [localChannels, examples.count])
        }
        self.conditions = conditions
        conditional =
            settings.output == .softmax
            ? CategoricalConditional(levels: levels) : DiscretizedLogisticMixture(levels: levels, components: 10)
        let dilations = (0..<settings.stacks).flatMap { _ in (0..<settings.layers).map { 1 << $0 } }
        self.dilations = dilations
        embed = ConvolutionLayer(settings.output == .softmax ? levels : 1, channels, kernel: [1])
        gated = dilations.map { .causal(channels, 2 * channels, kernel: 2, dilation: $0) }
        residual = dilations.map { _ in ConvolutionLayer(channels, channels, kernel: [1]) }
        skip = dilations.map { _ in ConvolutionLayer(channels, skipChannels, kernel: [1]) }
        globalCondition = dilations.compactMap { _ in conditions.embedding(2 * channels) }
        localCondition =
            localChannels > 0
            ? dilations.map { _ in ConvolutionLayer(localChannels, 2 * channels, kernel: [1], hasBias: false) } : []
        head = [
            ConvolutionLayer(skipChannels, skipChannels, kernel: [1]),
            ConvolutionLayer(skipChannels, conditional.parameterCount, kernel: [1]),
        ]
    }

    /// Samples that a conditional reads, its own not counted.
    public var receptiveField: Int { dilations.reduce(0, +) + 1 }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        // Step t sees the samples before t.
        var h = embed(conditional.encode(x).shiftedByOne())
        var features: [Tensor] = []
        for layer in dilations.indices {
            var a = gated[layer](h)
            if !globalCondition.isEmpty { a = globalCondition[layer](a, context) }
            if !localCondition.isEmpty {
                a = a + localCondition[layer](context.features(beside: a, shape: conditions.features))
            }
            let y = a.gated()
            features.append(y)
            // The last layer's residual output feeds nothing.
            if layer < dilations.count - 1 { h = h + residual[layer](y) }
        }
        // Every layer adds its skip: one product over the features of all layers.
        var out = ConvolutionLayer.sum(skip, of: features)
        for layer in head { out = layer(out.relu()) }
        return out
    }
}
