import Distributions
import Graph
import Layers
import Likelihood

/// The network of Bengio and Bengio 2000 ("Modeling High-Dimensional Discrete Data with Multi-Layer Neural Networks"): every variable
/// has a group of hidden units of its own, which read the variables before it,
///
///     h_i = tanh(c_i + sum over j < i of W_ij x_j),  p(x_i | x_(<i)) has the parameters b_i + V_i h_i + sum over j < i of U_ij x_j
///
/// (section 2, equations 4 and 5; U are the direct connections). The first layer's mask is a staircase, the second layer is one
/// product for each group, so that nothing dead is computed. With input weights that all groups share, W_j in place of W_ij, the
/// units' activations are one running sum, as in NADE; biases and outputs stay each group's own.
///
/// Groups lie in the order of drawing.
public struct BengioNetwork: AutoregressiveModel, ConfiguredModel {
    public let examples: ExampleShape
    public let conditional: any Conditional
    public let conditions: Conditions
    public let order: Order
    public let activation: Activation
    public let dropout: Dropout
    /// W `[variables units, inputs variables + features]` and c, if each group has its own.
    public let hidden: MaskedDense?
    /// W `[variables, inputs, units]` and c `[variables, 1, units]`, if groups share it.
    public let sharedWeight: Parameter?
    public let sharedBias: Parameter?
    /// What is given, for the units of groups that share their weights.
    public let given: ConditionEmbedding?
    /// V `[variables, parameters, units]`.
    public let output: Parameter
    /// b `[parameters, variables]`.
    public let bias: Parameter
    /// U `[parameters variables, inputs variables + features]`.
    public let direct: MaskedDense?
    private let hiddenDegrees: LayerDegrees
    private let directDegrees: LayerDegrees

    /// - Parameter seed: of a random order.
    public init(_ examples: ExampleShape, _ settings: Settings, seed: UInt64) throws {
        try settings.validate(examples)
        self.examples = examples
        conditional = try makeConditional(settings.conditional, examples, leastScale: settings.leastScale)
        conditions = Conditions(of: examples)
        let (variables, units) = (examples.count, settings.hidden)
        let (inputs, parameters) = (conditional.inputCount, conditional.parameterCount)
        order = try MaskSampler.Ordering(setting: settings.ordering, variables: variables)
            .order(variables: variables, seed: seed)
        activation = try requireChoice(settings.activation, "activation")
        dropout = Dropout(settings.dropout, stream: 300)
        let places = order.index
        // What is given has a place before all variables.
        let read =
            (0..<inputs).flatMap { _ in places }
            + [Int32](repeating: NetworkDegrees.featureDegree, count: conditions.vectorCount)
        // The units of a group have their variable's place: like its outputs, they read what comes before.
        let groups = (0..<Int32(variables)).flatMap { [Int32](repeating: $0, count: units) }
        hiddenDegrees = .constant(input: read, output: groups, strict: true)
        directDegrees = .constant(input: read, output: (0..<parameters).flatMap { _ in places }, strict: true)
        hidden = settings.tied ? nil : MaskedDense(read.count, groups.count, mask: hiddenDegrees.mask)
        sharedWeight = settings.tied ? Parameter([variables, inputs, units], .fanIn(variables)) : nil
        sharedBias = settings.tied ? Parameter([variables, 1, units], .zeros) : nil
        given = settings.tied ? conditions.embedding(units) : nil
        output = Parameter([variables, parameters, units], .fanIn(units))
        bias = Parameter([parameters, variables], .zeros)
        direct =
            settings.direct
            ? MaskedDense(read.count, parameters * variables, mask: directDegrees.mask, hasBias: false) : nil
    }

    public init(_ examples: ExampleShape, _ settings: Settings) throws { try self.init(examples, settings, seed: 1) }

    /// The activations of all groups in the order of drawing, `[batch, variables, units]`.
    private func activations(_ encoded: Tensor, _ input: Tensor, _ context: Context) -> Tensor {
        let (batch, variables, units) = (encoded.shape[0], Extent(variableCount), output.tensor.shape[2])
        if let hidden {
            return hidden(input, hiddenDegrees).reshaped([batch, variables, units])
        }
        guard let sharedWeight, let sharedBias else { return encoded }
        let x = encoded.inOrder(order, axis: 2).transposed([2, 0, 1])
        let terms = conditional.inputCount == 1 ? x * sharedWeight.tensor : x.matmul(sharedWeight.tensor)
        let sums = terms.cumulativeSum(axis: 0, exclusive: true) + sharedBias.tensor
        let nothing = Tensor.scalar(0, encoded.elementType).broadcast(to: [batch, units])
        return (given.map { sums + $0(nothing, context) } ?? sums).transposed([1, 0, 2])
    }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let (batch, variables, parameters) = (x.shape[0], Extent(variableCount), Extent(conditional.parameterCount))
        let encoded = conditional.encode(x)
        var input = encoded.reshaped([batch, Extent(conditional.inputCount) * variables])
        if conditions.vectorCount > 0 {
            let features = conditions.joined(context, beside: x).features(beside: x, shape: [conditions.vectorCount])
            input = .concatenate([input, features], axis: 1)
        }
        let h = dropout(activation(activations(encoded, input, context)), context)
        let grouped = h.transposed([1, 0, 2]).matmul(output.tensor.matrixTransposed()).transposed([1, 2, 0])
        let result = (grouped + bias.tensor).byVariable(order, axis: 2)
        return direct.map { result + $0(input, directDegrees).reshaped([batch, parameters, variables]) } ?? result
    }

    public func annotate(_ description: inout ModelDescription) {
        description.conditional = conditional.name
        description.activation = activation.rawValue
        description.inputOrdering = order.index
    }
}

extension BengioNetwork {
    /// The choices of a network with a hidden group for each variable.
    public struct Settings: ModelSettings {
        /// Hidden units of each variable's group.
        public var hidden = 20
        /// tanh, sigmoid, relu or softplus.
        public var activation = "tanh"
        /// bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, or for the columns of a table
        /// table:COMPONENTS.
        public var conditional = "bernoulli"
        /// No component of a table's mixtures is narrower, in standard deviations of its column.
        public var leastScale = 0.01
        /// natural, random, or the variables in the order of drawing, separated by commas.
        public var ordering = "natural"
        /// Connections from inputs to outputs.
        public var direct = true
        /// Input weights that all groups share.
        public var tied = false
        /// The share of hidden units that a training step leaves out.
        public var dropout = 0.0

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(hidden, "hidden", in: 1...1 << 16)
            // The first layer has this many weights for each number that the network reads.
            try require(
                examples.count * hidden <= 1 << 24,
                "hidden: \(examples.count) groups of \(hidden) units; expected at most \(1 << 24) units together")
            try requireConditionals(conditional, leastScale: leastScale, ordering: ordering, examples)
            try requireDropout(dropout)
            _ = try requireChoice(activation, "activation") as Activation
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            try data.requireNoGaps(for: "bengio")
            conditional = conditionalSetting(for: data.values)
            return notes(for: conditional, leastScale: leastScale)
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try BengioNetwork(examples, self, seed: seed)
        }
    }
}
