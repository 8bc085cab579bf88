import Distributions
import Graph
import Layers
import Likelihood

/// Masked autoencoder for distribution estimation (Germain, Gregor, Murray, Larochelle 2015): a masked network and a conditional.
///
/// Every unit has a degree: input d has its place m0(d) in the order, hidden unit k the latest place it may read. A weight
/// from a unit of degree m' to a hidden unit of degree m exists where m >= m' (equation 12), to output d where
/// m0(d) > m' (equation 13). So output d reads only variables before d, and one pass gives all conditionals.
public struct MADE: AutoregressiveModel, ConfiguredModel {
    public let network: MaskedMLP
    public let conditional: any Conditional
    /// Orders and degrees of every mask.
    public let masks: MaskSampler
    /// Those of the only mask, which are part of the program, or graph values that are fed.
    public let orders: ModelOrders?
    public let examples: ExampleShape
    public let conditions: Conditions
    /// How many masks training cycles through; `nil` takes a new one at every step.
    let cycle: Int?
    /// The masks whose mixture is evaluated and sampled.
    let ensemble: [Int]

    /// - Parameters:
    ///   - conditional: for each variable; one of your own, or what `Settings.conditional` names.
    ///   - conditions: what every unit reads beside x; of a single mask only.
    ///   - masks: if it has a single mask, that is part of the model and dead weights are exactly zero; else masks are fed.
    ///   - dropout: the share of hidden units that a training step leaves out.
    ///   - cycle: how many masks training cycles through; `nil` takes a new one at every step.
    ///   - ensemble: the masks whose mixture is evaluated and sampled.
    public init(
        _ examples: ExampleShape, conditional: any Conditional = BernoulliConditional(), masks: MaskSampler,
        conditions: Conditions = Conditions(), activation: Activation = .relu, hasDirectConnections: Bool = false,
        dropout: Double = 0, cycle: Int? = 1, ensemble: [Int] = [0]
    ) {
        trap(
            unless: conditions.vectorCount == 0 || masks.isSingle,
            "a MADE that is given something has a single mask, found several")
        (self.examples, self.conditional, self.masks, self.cycle, self.ensemble) = (
            examples, conditional, masks, cycle, ensemble
        )
        self.conditions = conditions
        let orders =
            masks.isSingle
            ? ModelOrders(masks.mask(0, readsFeatures: conditions.vectorCount > 0))
            : .runtime(
                order: .input("degrees.0", [Extent(masks.variables)], .int32),
                hidden: masks.hidden.enumerated().map { .input("degrees.\($0 + 1)", [Extent($1)], .int32) })
        self.orders = orders
        network = MaskedMLP(
            .autoregressive(orders, inputs: conditional.inputCount, outputs: conditional.parameterCount),
            features: conditions.vectorCount, activation: activation, hasDirectConnections: hasDirectConnections,
            dropout: dropout)
    }

    public func name(ofProperty property: String) -> String { property == "network" ? "" : property }

    public var order: Order { masks.order(ensemble.first ?? 0) }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let degrees = (context.orders ?? orders).map {
            NetworkDegrees.autoregressive($0, inputs: conditional.inputCount, outputs: conditional.parameterCount)
        }
        let input = conditional.encode(x).reshaped([x.shape[0], Extent(variableCount * conditional.inputCount)])
        return network(input, conditions.joined(context, beside: x), degrees: degrees)
            .reshaped([x.shape[0], Extent(conditional.parameterCount), Extent(variableCount)])
    }

    // MARK: one network, many masks

    /// What a mask feeds to a program whose degrees are inputs.
    private func feeds(mask k: Int) -> [String: HostArray] {
        if masks.isSingle { return [:] }
        let mask = masks.mask(k)
        return Dictionary(
            uniqueKeysWithValues: ([mask.order.index] + mask.hidden).enumerated().map {
                ("degrees.\($0)", HostArray($1))
            })
    }

    public func feeds(step: Int) -> [String: HostArray] { feeds(mask: cycle.map { step % $0 } ?? step) }

    public var members: [[String: HostArray]] { ensemble.map { feeds(mask: $0) } }

    /// The mask of a member; an order-agnostic model puts the observed variables first, so that a completion is exact.
    public func orders(for request: DrawingRequest) throws -> ModelOrders? {
        var mask = masks.mask(ensemble[request.member], readsFeatures: conditions.vectorCount > 0)
        if let observed = request.observed, masks.isOrderAgnostic {
            // Each part in the order of the mask.
            mask.order = .sequence(
                (0..<variableCount).sorted {
                    (observed[$0] ? 0 : 1, mask.order.index[$0]) < (observed[$1] ? 0 : 1, mask.order.index[$1])
                })
        } else if let observed = request.observed {
            try mask.order.requireFirst(
                observed, request,
                advice:
                    "train with orderAgnostic=true, or accept a draw that ignores later observations with --approximate"
            )
        }
        return ModelOrders(mask)
    }

    public func annotate(_ description: inout ModelDescription) {
        description.conditional = conditional.name
        description.activation = network.activation.rawValue
        description.inputOrdering = order.index
        description.ensemble = ensemble.map { member in
            let mask = masks.mask(member)
            return ModelDescription.Mask(order: mask.order.index, hiddenDegrees: mask.hidden)
        }
    }
}

extension ModelOrders {
    /// One mask, as part of the program.
    init(_ mask: (order: Order, hidden: [[Int32]])) { self = .constant(order: mask.order, hidden: mask.hidden) }
}

extension MADE {
    /// The choices of a MADE.
    public struct Settings: ModelSettings {
        /// Units of each hidden layer.
        public var hidden = [500, 500]
        /// relu, tanh, sigmoid or softplus.
        public var activation = "relu"
        /// bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, or for the columns of a table
        /// table:COMPONENTS.
        public var conditional = "bernoulli"
        /// No component of a table's mixtures is narrower, in standard deviations of its column.
        public var leastScale = 0.01
        /// natural, random, or the variables in the order of drawing, separated by commas.
        public var ordering = "natural"
        /// A new order for every mask.
        public var orderAgnostic = false
        /// How many masks are cycled, or "fresh" for a new one at every step.
        public var masks = "1"
        /// Masks in the ensemble that is evaluated and sampled, of a finite list at most all; 0 takes all of a list of up to 1024, or
        /// 8 fresh ones. Of an orderless network the orders: that of `ordering`, then random ones; 0 takes one.
        public var ensemble = 0
        /// Connections from inputs to outputs.
        public var direct = false
        /// The share of hidden units that a training step leaves out.
        public var dropout = 0.0
        /// A network for every order and any gaps, which reads what is known and which it is (`OrderlessNADE`), in place of masks.
        public var orderless = false

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(
                hidden.allSatisfy { (1...1 << 20).contains($0) } && hidden.count <= 64,
                "hidden: expected up to 64 layers of 1 to 1048576 units, found \(hidden)")
            try require(
                masks == "fresh" || Int(masks).map { (1...1 << 20).contains($0) } == true,
                "masks: expected a count or “fresh”, found “\(masks)”")
            try require(ensemble, "ensemble", in: 0...1 << 16)
            try require(
                ensemble > 0 || (Int(masks) ?? 8) <= 1024,
                "ensemble: 0 takes all \(masks) masks, and every example is evaluated under each; expected at most 1024, set how many to take (ensemble=8)"
            )
            try require(
                !orderAgnostic || masks != "1",
                "orderAgnostic=true needs several masks, one for each order: set masks=fresh or a count")
            try requireConditionals(conditional, leastScale: leastScale, ordering: ordering, examples)
            try require(
                Conditions(of: examples).vectorCount == 0 || masks == "1",
                "masks: a network that is given classes or features has one mask; expected masks=1, found \(masks)")
            try require(
                !orderless || masks == "1" && !direct && !orderAgnostic,
                "orderless: such a network has no masks; leave masks, direct and orderAgnostic as they are")
            try require(
                !orderless || !hidden.isEmpty,
                "orderless: such a network has hidden layers; expected hidden=500, say, found none")
            try require(
                !orderless || ensemble <= 1024, "ensemble: expected up to 1024 orders, found \(ensemble)")
            try requireDropout(dropout)
            _ = try requireChoice(activation, "activation") as Activation
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            conditional = conditionalSetting(for: data.values)
            orderless = orderless || data.hasGaps
            // What did best on validation sets of the binary UCI tables and of red wine: most units left out where examples are few,
            // and a way past them for what is linear, unless there are hardly more examples than variables.
            direct = !orderless && data.count >= 2 * data.examples.count
            dropout = orderless ? 0.1 : data.count < 10_000 ? 0.8 : data.count < 30_000 ? 0.5 : 0.2
            return notes(for: conditional, leastScale: leastScale)
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            orderless ? try OrderlessNADE(examples, self) : try MADE(examples, self, seed: seed)
        }

        func makeOrdering(variables: Int) throws -> MaskSampler.Ordering {
            try MaskSampler.Ordering(setting: ordering, variables: variables)
        }

        /// The masks of the ensemble.
        var ensembleMasks: [Int] {
            let all = Int(masks) ?? 8
            return Array(0..<(ensemble == 0 ? all : masks == "fresh" ? ensemble : min(ensemble, all)))
        }
    }

    public init(_ examples: ExampleShape, _ settings: Settings) throws { try self.init(examples, settings, seed: 1) }

    /// - Parameter seed: of orders and degrees that are drawn.
    public init(_ examples: ExampleShape, _ settings: Settings, seed: UInt64) throws {
        try settings.validate(examples)
        self.init(
            examples,
            conditional: try makeConditional(settings.conditional, examples, leastScale: settings.leastScale),
            masks: MaskSampler(
                variables: examples.count, hidden: settings.hidden,
                ordering: try settings.makeOrdering(variables: examples.count),
                isOrderAgnostic: settings.orderAgnostic, drawsDegrees: settings.masks != "1", seed: seed),
            conditions: Conditions(of: examples),
            activation: try requireChoice(settings.activation, "activation"),
            hasDirectConnections: settings.direct, dropout: settings.dropout, cycle: Int(settings.masks),
            ensemble: settings.ensembleMasks)
    }
}

/// The conditional that a setting names.
/// - Parameter leastScale: of the mixtures of a table.
func makeConditional(_ text: String, _ examples: ExampleShape, leastScale: Double) throws -> any Conditional {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    let number = parts.count == 2 ? Int(parts[1]) : nil
    switch (parts[0], number) {
    case ("bernoulli", nil) where parts.count == 1: return BernoulliConditional()
    case ("categorical", let levels?) where (2...65536).contains(levels): return CategoricalConditional(levels: levels)
    case ("mixture", let components?) where (1...4096).contains(components):
        return MixtureOfGaussians(components: components)
    case ("table", let components?) where (1...4096).contains(components):
        guard let columns = examples.columns else {
            throw UsageError(
                "conditional: \(text) is for a table, or real numbers, whose columns are known; expected bernoulli, categorical:LEVELS, mixture:COMPONENTS or logistics:COMPONENTS:LEVELS"
            )
        }
        return TableConditional(columns, components: components, leastScale: leastScale)
    case ("logistics", nil) where parts.count == 3:
        if let components = Int(parts[1]), let levels = Int(parts[2]), (1...4096).contains(components),
            (2...65536).contains(levels)
        {
            return DiscretizedLogisticMixture(levels: levels, components: components)
        }
        fallthrough
    default:
        throw UsageError(
            "conditional: expected bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS or table:COMPONENTS, found “\(text)”"
        )
    }
}

/// The conditional that suits variables of some kind, as a setting names it.
/// - Parameter components: of mixtures.
func conditionalSetting(for values: VariableDomain, components: Int = 10) -> String {
    switch values {
    case .binary: "bernoulli"
    case .levels(let levels): levels <= 32 ? "categorical:\(levels)" : "logistics:\(components):\(levels)"
    case .real, .table: "table:\(components)"
    }
}

/// What a person ought to know of a conditional that was chosen for the data.
func notes(for conditional: String, leastScale: Double) -> [String] {
    conditional.hasPrefix("table:")
        ? ["no component of a column's mixture is narrower than \(leastScale) of its deviation (leastScale)"] : []
}
