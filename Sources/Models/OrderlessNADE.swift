import Distributions
import Graph
import Layers
import Likelihood

/// A deep NADE for every order (Uria, Murray, Larochelle 2014, "A Deep and Tractable Density Estimator"): one network that reads any
/// known variables, and which those are, and gives the conditionals of all others (section 4, "masks as inputs").
///
/// So a variable may be missing. In an example NaN stands for it; its term is left out, and no other conditional reads it: what
/// remains is exactly the marginal of the others under an order that puts them first. Training hides a random part of every example
/// and scores what it hid (equation 12).
///
/// Evaluation reads row t of a table of what is known: the variables before t. That costs one pass of the network for each variable,
/// as everything of it may change from one variable to the next.
///
/// The mixture of several orders is better than any of them (section 5, "ensembles of orderings"): the orders are fed to one program.
public struct OrderlessNADE: AutoregressiveModel {
    public let layers: [ConvolutionLayer]
    public let activation: Activation
    /// Of the units of each hidden layer.
    public let dropout: [Dropout]
    public let conditional: any Conditional
    /// Those whose mixture is evaluated and drawn from.
    public let ensemble: [Order]
    public let examples: ExampleShape
    public let conditions: Conditions
    /// What is given, for the first layer.
    public let given: ConditionEmbedding?
    public var acceptsMissing: Bool { true }
    public let evaluationBatch: Int
    /// Masks that a training step draws for each example. On adult and mushrooms 16 reach in a quarter of the steps what one does not.
    private let masks: Int

    public var order: Order { ensemble[0] }
    /// One order is part of the program, several are fed.
    public var orders: ModelOrders? {
        ensemble.count == 1
            ? nil : .runtime(order: .input(Self.orderInput, [Extent(variableCount)], .int32), hidden: [])
    }
    private static let orderInput = "degrees.0"

    /// - Parameter ensemble: the orders whose mixture is evaluated and drawn from, one or more.
    public init(
        _ examples: ExampleShape, conditional: any Conditional, ensemble: [Order], hidden: [Int],
        conditions: Conditions = Conditions(), activation: Activation = .relu, dropout: Double = 0
    ) {
        self.dropout = hidden.indices.map { Dropout(dropout, stream: 300 + $0) }
        (self.examples, self.conditional, self.ensemble) = (examples, conditional, ensemble)
        (self.conditions, self.activation) = (conditions, activation)
        let variables = examples.count
        let widths = [(conditional.inputCount + 1) * variables] + hidden + [conditional.parameterCount * variables]
        layers = (1..<widths.count).map { ConvolutionLayer(widths[$0 - 1], widths[$0], kernel: [1]) }
        given = conditions.embedding(widths[1])
        // A row of the table for each variable, and the widest layer at each of them.
        masks = max(1, min(16, (1 << 19) / (widths.max() ?? 1)))
        evaluationBatch = max(1, min(500, (1 << 25) / (variables * (widths.max() ?? 1))))
    }

    public init(_ examples: ExampleShape, _ settings: MADE.Settings) throws {
        try settings.validate(examples)
        let ordering = try settings.makeOrdering(variables: examples.count)
        func sampler(isOrderAgnostic: Bool) -> MaskSampler {
            MaskSampler(
                variables: examples.count, hidden: [], ordering: ordering, isOrderAgnostic: isOrderAgnostic)
        }
        self.init(
            examples, conditional: try makeConditional(settings.conditional, examples, leastScale: settings.leastScale),
            ensemble: [sampler(isOrderAgnostic: false).order(0)]
                + (1..<max(1, settings.ensemble)).map { sampler(isOrderAgnostic: true).order($0) },
            hidden: settings.hidden, conditions: Conditions(of: examples),
            activation: try requireChoice(settings.activation, "activation"), dropout: settings.dropout)
    }

    /// Parameters `[batch, parameterCount, variables, rows]` of all variables, given what each row of a table knows.
    /// - Parameters:
    ///   - values: as networks read them, 0 where they are not known, `[batch, inputCount, variables, rows]`.
    ///   - known: 1 where a variable is known, else 0, `[batch, variables, rows]`.
    private func parameters(_ values: Tensor, known: Tensor, _ context: Context) -> Tensor {
        let (batch, variables, rows) = (values.shape[0], Extent(variableCount), values.shape[3])
        let inputs = Extent(conditional.inputCount * variableCount)
        var h = Tensor.concatenate([values.reshaped([batch, inputs, rows]), known], axis: 1)
        for (index, layer) in layers.enumerated() {
            h = layer(h)
            if index == 0, let given { h = given(h, context) }
            if index < layers.count - 1 { h = dropout[index](activation(h), context) }
        }
        return h.reshaped([batch, Extent(conditional.parameterCount), variables, rows])
    }

    /// x `[batch, variables]` as networks read it, for each of some rows: `[batch, inputCount, variables, rows]`.
    private func spread(_ x: Tensor, rows: Extent) -> Tensor {
        let inputs = Extent(conditional.inputCount)
        return conditional.encode(x).reshaped([x.shape[0], inputs, x.shape[1], 1])
            .broadcast(to: [x.shape[0], inputs, x.shape[1], rows])
    }

    /// A table `[batch, variables, rows]` repeated for every input of a variable, of the shape of what networks read.
    private func overInputs(_ table: Tensor, like values: Tensor) -> Tensor {
        table.reshaped([table.shape[0], 1, table.shape[1], table.shape[2]]).broadcast(to: values.shape)
    }

    /// The parameters of variable t from row t.
    private func diagonal(_ all: Tensor) -> Tensor {
        let (variable, row) = (Tensor.iota(all.shape, axis: 2), Tensor.iota(all.shape, axis: 3))
        return Tensor.select(variable.equal(row), all, 0).sum(axes: [3])
    }

    /// 1 where row t may read a variable, as it comes before variable t: `[1, variables, rows]`.
    private func earlier(_ context: Context, _ type: ElementType) -> Tensor {
        let index: [Int32]
        switch context.orders ?? orders {
        case .runtime(let places, _):
            let n = places.shape[0]
            return places.reshaped([1, n, 1]).less(places.reshaped([1, 1, n])).cast(to: type)
        case .constant(let order, _): index = order.index
        case nil: index = order.index
        }
        let flags = index.flatMap { own in index.map { own < $0 ? 1 : 0 } } as [Float]
        return Tensor.constant(HostArray(flags, shape: [1, index.count, index.count])).cast(to: type)
    }

    /// Where a variable is there, as 1, and the variables with 0 for those that are not.
    private func split(_ x: Tensor) -> (present: Tensor, values: Tensor) {
        let isPresent = x.isFinite()
        return (isPresent.cast(to: x.elementType), .select(isPresent, x, 0))
    }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let (present, known) = split(x)
        let shape = Shape([x.shape[0], x.shape[1], x.shape[1]])
        let table =
            present.reshaped([x.shape[0], x.shape[1], 1]).broadcast(to: shape) * earlier(context, x.elementType)
        let values = spread(known, rows: x.shape[1])
        return diagonal(parameters(values * overInputs(table, like: values), known: table, context))
    }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        let (present, values) = split(x)
        return (conditional.logProbability(values, conditionalParameters(x, context)) * present).sum(axes: [1])
    }

    // MARK: training

    /// Each example hides a number of its variables, every number as often, and which ones by chance. What was hidden is scored, as if
    /// it stood for all variables that may come at that place of an order: (n + 1) / hidden of n.
    ///
    /// What is missing is drawn first (Monte Carlo EM; Wei and Tanner 1990), so that the network learns to read as many variables as
    /// an example without gaps has. Only what is there is scored.
    public func objective(_ x: Tensor, _ context: Context) -> Tensor {
        let (present, values) = split(x)
        let (type, batch, variables, rows) = (x.elementType, x.shape[0], x.shape[1], Extent(masks))
        let shape = Shape([batch, variables, rows])
        // Of the numbers from 0 to 1 each row takes the shares of one stretch: all sizes occur in every step.
        let place = Tensor.iota([1, 1, rows], axis: 2).cast(to: type)
        let share = (context.random.uniform([batch, 1, rows], stream: 20, as: type) + place) / Double(masks)
        let isKnown = context.random.uniform(shape, stream: 21, as: type).less(share.broadcast(to: shape))
        let table = isKnown.cast(to: type)
        let read = spread(imputed(values, present, context), rows: rows)
        let all = parameters(read * overInputs(table, like: read), known: table, context)
        // Every row as an example of its own.
        let parameters = all.transposed([0, 3, 1, 2])
            .reshaped([batch * rows, Extent(conditional.parameterCount), variables])
        let repeated = { (t: Tensor) in
            t.reshaped([batch, 1, variables]).broadcast(to: [batch, rows, variables]).reshaped([
                batch * rows, variables,
            ])
        }
        let hidden = repeated(present) * (1 - table.transposed([0, 2, 1]).reshaped([batch * rows, variables]))
        let terms = (conditional.logProbability(repeated(values), parameters) * hidden).sum(axes: [1])
        let weight = (repeated(present).sum(axes: [1]) + 1) / hidden.sum(axes: [1]).maximum(.scalar(1, type))
        return -(terms * weight).mean()
    }

    /// The variables with a draw in place of each that is missing, given those that are there: a quarter of them at a time, which reads
    /// what was drawn before.
    private func imputed(_ values: Tensor, _ present: Tensor, _ context: Context) -> Tensor {
        let (type, rounds) = (values.elementType, 4)
        let row = Shape([values.shape[0], values.shape[1], 1])
        // As the network is, without dropout.
        let asItIs = Context(.evaluate, label: context.label, features: context.features, random: context.random)
        let turn = context.random.uniform(values.shape, stream: 22, as: type)
        var (filled, known) = (values, present)
        for round in 1...rounds {
            let table = known.reshaped(row)
            let read = spread(filled, rows: 1)
            let all = parameters(read * overInputs(table, like: read), known: table, asItIs)
                .reshaped([values.shape[0], Extent(conditional.parameterCount), values.shape[1]])
            let drawn = conditional.sample(all, context.random.substream(1000 * round))
            let isNew = turn.less(.scalar(Double(round) / Double(rounds), type)).and(known.equal(.scalar(0, type)))
            filled = .select(isNew, drawn, filled)
            known = .select(isNew, .scalar(1, type), known)
        }
        return filled.stoppingGradient()
    }

    // MARK: ensembles of orders

    public var members: [[String: HostArray]] {
        ensemble.count == 1 ? [[:]] : ensemble.map { [Self.orderInput: HostArray($0.index)] }
    }

    public func orders(for request: DrawingRequest) throws -> ModelOrders? {
        arranged(Context(), request).orders
    }

    /// Of the first order; what is fed can be any other.
    public func prove() throws -> String {
        let proof = try proveAutoregressive(arranged(makeContext(), DrawingRequest()))
        let pairs = proof.dependencies.map {
            " (\($0.present) of \($0.allowed) allowed dependencies are present)"
        }
        return "proved: every conditional reads only earlier variables" + (pairs ?? "")
            + (ensemble.count == 1 ? "" : ", of the first of \(ensemble.count) orders")
    }

    // MARK: drawing

    /// Where the request reads what is observed, each row of the table knows all of that, whatever comes later.
    public func drawing(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Drawing {
        guard request.readsObserved else {
            trap(unless: request.observed == nil, "observed variables of an orderless model are fed")
            let (order, context) = (ensemble[request.member], arranged(context, request))
            let (drawn, parameters) = draw(x, context, temperature: request.temperature)
            return Drawing([.incremental(variable: x, drawn: drawn, order: order, outputs: [parameters])])
        }
        let given = Tensor.input(Drawing.given, x.shape, x.elementType)
        let observed = Tensor.input(Drawing.observed, x.shape, x.elementType)
        let zero = Tensor.scalar(0, x.elementType)
        let shape = Shape([x.shape[0], x.shape[1], x.shape[1]])
        let isObserved = observed.reshaped([x.shape[0], x.shape[1], 1]).broadcast(to: shape).greater(zero)
        // A variable of the draw is known where it comes earlier, an observed one everywhere. That is read from the input, so that no row
        // reads a later variable of the draw.
        let (order, context) = (ensemble[request.member], arranged(context, request))
        let before = earlier(context, x.elementType).broadcast(to: shape)
        let (inputs, drawnInputs) = (spread(given, rows: x.shape[1]), spread(x, rows: x.shape[1]))
        let values = Tensor.select(
            overInputs(isObserved, like: inputs), inputs, drawnInputs * overInputs(before, like: inputs))
        let table = Tensor.select(isObserved, .scalar(1, x.elementType), before)
        let parameters = diagonal(parameters(values, known: table, context))
        let sample = conditional.sample(parameters, context.random, temperature: request.temperature)
        let drawn = Tensor.select(observed.greater(zero), given, sample)
        return Drawing([.incremental(variable: x, drawn: drawn, order: order, outputs: [parameters])])
    }

    /// A context in which the order of a request's member is part of the program.
    private func arranged(_ context: Context, _ request: DrawingRequest) -> Context {
        var context = context
        context.orders = .constant(order: ensemble[request.member], hidden: [])
        return context
    }

    public func annotate(_ description: inout ModelDescription) {
        description.conditional = conditional.name
        description.activation = activation.rawValue
        description.inputOrdering = order.index
        if ensemble.count > 1 {
            description.ensemble = ensemble.map { ModelDescription.Mask(order: $0.index, hiddenDegrees: []) }
        }
    }
}
