import Distributions
import Graph
import Layers
import Likelihood

/// Neural autoregressive distribution estimator (Larochelle and Murray 2011): the hidden units of the d-th variable are made from the
/// variables before it with weights that all variables share,
///
///     a_1 = c,  a_(d+1) = a_d + W_d x_d,  h_d = sigmoid(a_d),  p(x_d | x_(<d)) has the parameters V_d h_d + b_d
///
/// (equations 5 to 7), so that one running sum serves all of them: O(D H) for D variables and H units, forwards and backwards. With
/// real-valued conditionals it is RNADE (Uria, Murray, Larochelle 2013), whose units are `relu(rho_d a_d)` (equation 7).
///
/// A scan walks over blocks of variables and carries a. Training keeps a between blocks, and computes what is inside one again.
///
/// Weights lie in the order of drawing: row d belongs to the variable that is drawn d-th.
public struct NADE: AutoregressiveModel, ConfiguredModel {
    public let examples: ExampleShape
    public let conditional: any Conditional
    public let conditions: Conditions
    public let order: Order
    public let activation: Activation
    /// Of the hidden units, the same ones for all variables of an example.
    public let dropout: Dropout
    /// W `[variables, inputs, units]`: what a variable adds to the units of those behind it.
    public let weight: Parameter
    /// c `[units]`.
    public let hiddenBias: Parameter
    /// V `[variables, parameters, units]`; `nil` if tied to W.
    public let output: Parameter?
    /// b `[parameters, variables]`.
    public let bias: Parameter
    /// rho `[variables]`, where each variable scales its activations.
    public let scale: Parameter?
    /// What is given, added to c.
    public let given: ConditionEmbedding?
    /// The variables of a step of the scan.
    private let block: Int
    /// Tests make it false, for a running sum with `<=` in place of `<`.
    var isExclusive = true

    /// - Parameters:
    ///   - seed: of a random order.
    ///   - settings: `Settings`; each hyperparameter has its meaning there.
    public init(_ examples: ExampleShape, _ settings: Settings, seed: UInt64) throws {
        try settings.validate(examples)
        self.examples = examples
        conditional = try makeConditional(settings.conditional, examples, leastScale: settings.leastScale)
        conditions = Conditions(of: examples)
        let (variables, units) = (examples.count, settings.hidden)
        order = try MaskSampler.Ordering(setting: settings.ordering, variables: variables)
            .order(variables: variables, seed: seed)
        activation = try requireChoice(settings.activation, "activation")
        dropout = Dropout(settings.dropout, stream: 300)
        let (inputs, parameters) = (conditional.inputCount, conditional.parameterCount)
        weight = Parameter([variables, inputs, units], .fanIn(variables))
        hiddenBias = Parameter([units], .zeros)
        output = settings.tied ? nil : Parameter([variables, parameters, units], .fanIn(units))
        bias = Parameter([parameters, variables], .zeros)
        scale = settings.scaled ? Parameter([variables], .constant(1)) : nil
        given = conditions.embedding(units)
        block = min(settings.block, variables)
    }

    public init(_ examples: ExampleShape, _ settings: Settings) throws { try self.init(examples, settings, seed: 1) }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let (batch, units) = (x.shape[0], hiddenBias.tensor.shape[0])
        let start = hiddenBias.tensor.broadcast(to: [batch, units])
        // The first variable's activations.
        let first = (given.map { $0(start, context) } ?? start).reshaped([1, batch, units])
        let inputs = conditional.encode(x).inOrder(order, axis: 2).transposed([2, 0, 1])
        let kept = dropout(Tensor.scalar(1, x.elementType).broadcast(to: [batch, units]), context)
        let (v, rho) = (output ?? weight, scale.map { [$0.tensor.inBlocks(of: block)] } ?? [])
        let (_, outputs) = Tensor.scan(
            [first], over: [inputs, weight.tensor, v.tensor].map { $0.inBlocks(of: block) } + rho
        ) {
            carries, slices in
            let (a, x, w, v) = (carries[0], slices[0], slices[1], slices[2])
            // a in front of the block, then what each variable of it adds: the running sums are a in front of each, and behind the last.
            let terms = conditional.inputCount == 1 ? x * w : x.matmul(w)
            let sums = Tensor.concatenate([a, terms], axis: 0).cumulativeSum(axis: 0)
            var activations = sums.sliced(axis: 0, from: isExclusive ? 0 : 1, count: block)
            if slices.count > 3 { activations = activations * slices[3].reshaped([Extent(block), 1, 1]) }
            var h = activation(activations)
            if dropout.rate > 0, context.mode == .train { h = h * kept }
            let outputs =
                conditional.parameterCount == 1
                ? (h * v).sum(axes: [2], keepingAxes: true) : h.matmul(v.matrixTransposed())
            return ([sums.sliced(axis: 0, from: block, count: 1)], [outputs])
        }
        let parameters = outputs[0].reshaped([outputs[0].shape[0] * Extent(block), batch, outputs[0].shape[3]])
            .sliced(axis: 0, from: 0, count: variableCount).transposed([1, 2, 0])
        return (parameters + bias.tensor).byVariable(order, axis: 2)
    }

    public func annotate(_ description: inout ModelDescription) {
        description.conditional = conditional.name
        description.activation = activation.rawValue
        description.inputOrdering = order.index
    }
}

extension NADE {
    /// The choices of a NADE.
    public struct Settings: ModelSettings {
        /// H, the hidden units of each variable.
        public var hidden = 500
        /// sigmoid, relu, tanh or softplus.
        public var activation = "sigmoid"
        /// bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, or for the columns of a table
        /// table:COMPONENTS.
        public var conditional = "bernoulli"
        /// No component of a table's mixtures is narrower, in standard deviations of its column.
        public var leastScale = 0.01
        /// natural, random, or the variables in the order of drawing, separated by commas.
        public var ordering = "natural"
        /// One matrix for both layers, V = W (Larochelle and Murray 2011, section 3).
        public var tied = false
        /// Each variable scales its activations by a number of its own (Uria et al. 2013, equation 7).
        public var scaled = false
        /// The share of hidden units that a training step leaves out.
        public var dropout = 0.0
        /// Variables of a step of the scan; the model is the same, memory and time are not.
        public var block = 4

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(hidden, "hidden", in: 1...1 << 20)
            try require(block, "block", in: 1...4096)
            try requireDropout(dropout)
            let conditional = try requireConditionals(
                conditional, leastScale: leastScale, ordering: ordering, examples)
            try require(
                !tied || conditional.inputCount == conditional.parameterCount,
                "tied: one matrix for both layers wants as many parameters of a variable as inputs; \(self.conditional) has \(conditional.parameterCount) and \(conditional.inputCount), expected bernoulli or categorical:LEVELS"
            )
            _ = try requireChoice(activation, "activation") as Activation
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            try data.requireNoGaps(for: "nade")
            conditional = conditionalSetting(for: data.values)
            if conditional.hasPrefix("table:") { (activation, scaled) = ("relu", true) }
            return notes(for: conditional, leastScale: leastScale)
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try NADE(examples, self, seed: seed)
        }
    }
}
