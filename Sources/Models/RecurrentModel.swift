import Distributions
import Graph
import Layers
import Likelihood

extension Recurrence: ChoiceSetting {}

/// A recurrent network over symbols or pixels, one after the other (Graves 2013, "Generating Sequences With Recurrent Neural Networks",
/// section 2).
///
/// Step t reads the variable before it, and carries on what the network keeps of all earlier ones; its output gives the conditional of
/// variable t. A draw carries the same from variable to variable.
public struct RecurrentModel: AutoregressiveModel, ConfiguredModel {
    /// The recurrent layers.
    public let network: RecurrentStack
    /// `[parameters, units]` and `[parameters]`.
    public let head: Dense
    /// What is given, added to every step's input.
    public let given: ConditionEmbedding?
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    /// Steps that gradients flow back through.
    let truncation: Int
    public let evaluationBatch = 32

    /// The choices of a recurrent model.
    public struct Settings: ModelSettings {
        /// Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them.
        public var levels = 2
        /// rnn, lstm or gru.
        public var recurrence = Recurrence.lstm
        /// Units of each layer.
        public var units = 256
        public var layers = 1
        /// The share of outputs between layers, and in front of the conditionals, that a training step leaves out.
        public var dropout = 0.0
        /// Gradients flow back through so many steps at most (truncated backpropagation through time); 0 lets them flow through all.
        public var truncation = 0

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(
                examples.dimensions.count == 1 || examples.image != nil,
                "this model wants sequences [steps] or images [channels, height, width]; the data are \(examples.dimensions)"
            )
            try requireLevels(levels)
            try require(units, "units", in: 1...65536)
            try require(layers, "layers", in: 1...64)
            try require(truncation, "truncation", in: 0...1 << 24)
            try requireDropout(dropout)
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(for: "recurrent", other: "made or maf")
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try RecurrentModel(examples, self)
        }
    }

    /// - Parameter examples: sequences `[steps]`, or images, whose variables are read in the order in which they lie.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        conditional = levelConditional(settings.levels)
        conditions = Conditions(of: examples)
        given = conditions.embedding(conditional.inputCount)
        network = RecurrentStack(
            settings.recurrence, conditional.inputCount, settings.units, layers: settings.layers,
            dropout: settings.dropout)
        head = Dense(settings.units, conditional.parameterCount)
        outputDropout = Dropout(settings.dropout, stream: 390)
        truncation = settings.truncation
    }

    private let outputDropout: Dropout

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        // Step t reads variable t - 1: [batch, inputs, steps], then [steps, batch, inputs].
        var inputs = conditional.encode(x).shiftedByOne()
        if let given { inputs = given(inputs, context) }
        let outputs = network(inputs.transposed([2, 0, 1]), context, truncation: truncation).outputs
        let (steps, batch, units) = (outputs.shape[0], outputs.shape[1], outputs.shape[2])
        let h = outputDropout(outputs, context).reshaped([steps * batch, units])
        return head(h).reshaped([steps, batch, Extent(conditional.parameterCount)]).transposed([1, 2, 0])
    }
}
