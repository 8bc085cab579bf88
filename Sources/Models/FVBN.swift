import Distributions
import Graph
import Layers
import Likelihood

/// Fully visible belief network (Frey 1998, "Graphical Models for Machine Learning and Digital Communication"; Neal 1992): each
/// variable is a regression on those before it,
///
///     p(x_i = 1 | x_(<i)) = sigmoid(b_i + sum over j < i of W_ij x_j)
///
/// which is one dense layer under a strictly triangular mask. Binary and categorical conditionals make -log p convex in the weights,
/// so that training has one optimum. Of Gaussian ones (`mixture:1`) mean and log deviation are linear.
public struct FVBN: AutoregressiveModel, ConfiguredModel {
    public let examples: ExampleShape
    public let conditional: any Conditional
    public let conditions: Conditions
    public let order: Order
    /// W `[parameters variables, inputs variables]` and b: a masked network without hidden layers.
    public let network: MaskedMLP
    /// lambda of the penalty `lambda / 2 sum W^2`.
    public let penalty: Double

    /// - Parameter seed: of a random order.
    public init(_ examples: ExampleShape, _ settings: Settings, seed: UInt64) throws {
        try settings.validate(examples)
        self.examples = examples
        conditional = try makeConditional(settings.conditional, examples, leastScale: settings.leastScale)
        conditions = Conditions(of: examples)
        order = try MaskSampler.Ordering(setting: settings.ordering, variables: examples.count)
            .order(variables: examples.count, seed: seed)
        network = MaskedMLP(
            .autoregressive(
                .constant(order: order, hidden: []), inputs: conditional.inputCount,
                outputs: conditional.parameterCount), features: conditions.vectorCount)
        penalty = settings.penalty
    }

    public init(_ examples: ExampleShape, _ settings: Settings) throws { try self.init(examples, settings, seed: 1) }

    public func name(ofProperty property: String) -> String { property == "network" ? "" : property }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let input = conditional.encode(x).reshaped([x.shape[0], Extent(variableCount * conditional.inputCount)])
        return network(input, conditions.joined(context, beside: x))
            .reshaped([x.shape[0], Extent(conditional.parameterCount), Extent(variableCount)])
    }

    public func objective(_ x: Tensor, _ context: Context) -> Tensor {
        let nats = -logProbability(x, context).mean()
        return penalty == 0 ? nats : nats + network.layers[0].weight.tensor.squared().sum() * (penalty / 2)
    }

    public func annotate(_ description: inout ModelDescription) {
        description.conditional = conditional.name
        description.inputOrdering = order.index
    }
}

extension FVBN {
    /// The choices of a fully visible belief network.
    public struct Settings: ModelSettings {
        /// bernoulli, categorical:LEVELS, mixture:COMPONENTS (one is a Gaussian), logistics:COMPONENTS:LEVELS, or for the columns of a
        /// table table:COMPONENTS.
        public var conditional = "bernoulli"
        /// No component of a table's mixtures is narrower, in standard deviations of its column.
        public var leastScale = 0.01
        /// natural, random, or the variables in the order of drawing, separated by commas.
        public var ordering = "natural"
        /// lambda: training adds `lambda / 2` times the sum of squared weights, without biases, to the mean of -log p.
        public var penalty = 0.0

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try requireConditionals(conditional, leastScale: leastScale, ordering: ordering, examples)
            try require(penalty >= 0 && penalty.isFinite, "penalty: expected 0 or more, found \(penalty)")
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            try data.requireNoGaps(for: "fvbn")
            conditional = conditionalSetting(for: data.values, components: 1)
            return notes(for: conditional, leastScale: leastScale)
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try FVBN(examples, self, seed: seed)
        }
    }
}
