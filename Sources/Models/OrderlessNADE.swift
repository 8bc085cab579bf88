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
/// Evaluation asks for the conditional of one variable after another. The first layer's sums grow by one term for each, and of the last
/// layer one variable's outputs are wanted; the layers between are computed for each variable anew, as all of them may change.
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
    /// Variables of a step of evaluation.
    private static let block = 8

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
        masks = max(1, min(16, (1 << 19) / (widths.max() ?? 1)))
        evaluationBatch = max(1, min(500, (1 << 25) / (Self.block * (widths.max() ?? 1))))
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

    /// Parameters `[batch * rows, parameterCount, variables]` of all variables, given what each row of a table knows.
    /// - Parameter known: 1 where a variable is known, else 0, `[batch, rows, variables]`.
    private func parameters(_ x: Tensor, known: Tensor, _ context: Context) -> Tensor {
        let (batch, rows, variables) = (known.shape[0], known.shape[1], known.shape[2])
        let read = read(x, where: known)
        var h = read.reshaped([batch * rows, read.shape[2] * variables])
        for (index, layer) in layers.map(matrixAndBias).enumerated() {
            h = h.matmul(layer.matrix.matrixTransposed()) + layer.bias
            if index == layers.count - 1 { break }
            let (units, width) = (Shape([batch, rows, h.shape[1]]), h.shape[1])
            if index == 0, let given {
                let vector = given(Tensor.scalar(0, x.elementType).broadcast(to: [batch, width]), context)
                h = (h.reshaped(units) + vector.reshaped([batch, 1, width])).reshaped([batch * rows, width])
            }
            h = dropout[index](activation(h).reshaped(units), context).reshaped([batch * rows, width])
        }
        return h.reshaped([batch * rows, Extent(conditional.parameterCount), variables])
    }

    /// x as the first layer reads it, and which of it is known, for each row of a table: `[batch, rows, inputCount + 1, variables]`, zero
    /// where it is not known.
    /// - Parameter known: `[batch, rows, variables]`.
    private func read(_ x: Tensor, where known: Tensor) -> Tensor {
        let (batch, rows, variables) = (known.shape[0], known.shape[1], known.shape[2])
        let inputs = Extent(conditional.inputCount)
        let flags = known.reshaped([batch, rows, 1, variables])
        let values = conditional.encode(x).reshaped([batch, 1, inputs, variables])
            .broadcast(to: [batch, rows, inputs, variables])
        let none = Tensor.scalar(0, x.elementType)
        return .concatenate([.select(flags.broadcast(to: values.shape).greater(none), values, none), flags], axis: 2)
    }

    /// What a layer multiplies rows of features with, `[outputs, inputs]`, and what it adds.
    private func matrixAndBias(_ layer: ConvolutionLayer) -> (matrix: Tensor, bias: Tensor) {
        let weight = layer.weight.tensor
        let bias = layer.bias?.tensor ?? .scalar(0, weight.elementType).broadcast(to: [weight.shape[0]])
        return (weight.reshaped([weight.shape[0], weight.shape[1]]), bias)
    }

    /// Where a variable is there, as 1, and the variables with 0 for those that are not.
    private func split(_ x: Tensor) -> (present: Tensor, values: Tensor) {
        let isPresent = x.isFinite()
        return (isPresent.cast(to: x.elementType), .select(isPresent, x, 0))
    }

    /// Parameters `[batch, parameterCount, variables]` of every variable, given those before it in the order. The variables come one
    /// after another: what the first layer makes of those before grows by one term for each, as NADE's does, so that only the layers
    /// behind it are computed for each variable anew.
    /// - Parameters:
    ///   - read: what the first layer reads of each variable once it is known, `[batch, 1, inputCount + 1, variables]`.
    ///   - start: the first layer's outputs where none is known, `[batch, units]`.
    private func parameters(inTurn read: Tensor, from start: Tensor, _ context: Context) -> Tensor {
        let (variables, units, inputs) = (variableCount, layers[0].weight.shape[0], conditional.inputCount + 1)
        let (batch, outputs, block) = (read.shape[0], conditional.parameterCount, min(Self.block, variables))
        let (inOrder, byVariable) = rearranging(context)
        func blocks(_ t: Tensor) -> Tensor { inOrder(t).inBlocks(of: block) }
        let dense = layers.map(matrixAndBias)
        let (first, last) = (dense[0], dense[dense.count - 1])
        let added = first.matrix.reshaped([Extent(units), Extent(inputs), Extent(variables)])
        let own = last.matrix.reshaped([Extent(outputs), Extent(variables), last.matrix.shape[1]])
        let (_, results) = Tensor.scan(
            [start.reshaped([1, batch, Extent(units)])],
            over: [
                blocks(read.reshaped([batch, Extent(inputs), Extent(variables)]).transposed([2, 0, 1])),
                blocks(added.transposed([2, 1, 0])), blocks(own.transposed([1, 2, 0])),
            ]
        ) { carries, slices in
            let terms = slices[0].matmul(slices[1])
            let sums = Tensor.concatenate([carries[0], terms], axis: 0).cumulativeSum(axis: 0)
            var h = activation(sums.sliced(axis: 0, from: 0, count: block))
            for layer in dense[1..<dense.count - 1] {
                let rows = h.reshaped([Extent(block) * batch, h.shape[2]])
                h = activation(rows.matmul(layer.matrix.matrixTransposed()) + layer.bias)
                    .reshaped([Extent(block), batch, layer.matrix.shape[0]])
            }
            return ([sums.sliced(axis: 0, from: block, count: 1)], [h.matmul(slices[2])])
        }
        let inTurn = results[0].reshaped([results[0].shape[0] * Extent(block), batch, Extent(outputs)])
            .sliced(axis: 0, from: 0, count: variables)
        return byVariable(inTurn).transposed([1, 2, 0]) + last.bias.reshaped([Extent(outputs), Extent(variables)])
    }

    /// Slices along the first axis, from the order of the variables to that of the context and back.
    private func rearranging(_ context: Context) -> (inOrder: (Tensor) -> Tensor, byVariable: (Tensor) -> Tensor) {
        guard case .runtime(let places, _) = context.orders ?? orders else {
            let order = if case .constant(let given, _) = context.orders { given } else { order }
            return ({ $0.inOrder(order, axis: 0) }, { $0.byVariable(order, axis: 0) })
        }
        let square = Shape([places.shape[0], places.shape[0]])
        let isThere = places.broadcast(to: square).equal(.iota(square, axis: 0))
        let sequence = Tensor.select(isThere, Tensor.iota(square, axis: 1).cast(to: .float32), 0)
            .sum(axes: [1]).cast(to: .int32)
        return ({ $0.gathered(sequence, axis: 0) }, { $0.gathered(places, axis: 0) })
    }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let (present, known) = split(x)
        let bias = matrixAndBias(layers[0]).bias
        let start = bias.broadcast(to: [x.shape[0], bias.shape[0]])
        return parameters(
            inTurn: read(known, where: present.reshaped([x.shape[0], 1, x.shape[1]])),
            from: given.map { $0(start, context) } ?? start, context)
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
        let shape = Shape([batch, rows, variables])
        // Of the numbers from 0 to 1 each row takes the shares of one stretch: all sizes occur in every step.
        let place = Tensor.iota([1, rows, 1], axis: 1).cast(to: type)
        let share = (context.random.uniform([batch, rows, 1], stream: 20, as: type) + place) / Double(masks)
        let isKnown = context.random.uniform(shape, stream: 21, as: type).less(share.broadcast(to: shape))
        let table = isKnown.cast(to: type)
        let parameters = parameters(imputed(values, present, context), known: table, context)
        let repeated = { (t: Tensor) in
            t.reshaped([batch, 1, variables]).broadcast(to: [batch, rows, variables]).reshaped([
                batch * rows, variables,
            ])
        }
        let hidden = repeated(present) * (1 - table.reshaped([batch * rows, variables]))
        let terms = (conditional.logProbability(repeated(values), parameters) * hidden).sum(axes: [1])
        let weight = (repeated(present).sum(axes: [1]) + 1) / hidden.sum(axes: [1]).maximum(.scalar(1, type))
        return -(terms * weight).mean()
    }

    /// The variables with a draw in place of each that is missing, given those that are there: a quarter of them at a time, which reads
    /// what was drawn before.
    private func imputed(_ values: Tensor, _ present: Tensor, _ context: Context) -> Tensor {
        let (type, rounds) = (values.elementType, 4)
        let row = Shape([values.shape[0], 1, values.shape[1]])
        // As the network is, without dropout.
        let asItIs = Context(.evaluate, label: context.label, features: context.features, random: context.random)
        let turn = context.random.uniform(values.shape, stream: 22, as: type)
        var (filled, known) = (values, present)
        for round in 1...rounds {
            let parameters = parameters(filled, known: known.reshaped(row), asItIs)
            let drawn = conditional.sample(parameters, context.random.substream(1000 * round))
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
        let (order, context) = (ensemble[request.member], arranged(context, request))
        // What is observed is read from the input and from the beginning on, and of the draw only what is not: so no conditional reads a
        // later variable of the draw.
        let row = Shape([x.shape[0], 1, x.shape[1]])
        let known = read(given, where: observed.reshaped(row))
        let first = matrixAndBias(layers[0])
        let start =
            known.reshaped([x.shape[0], first.matrix.shape[1]])
            .matmul(first.matrix.matrixTransposed()) + first.bias
        let parameters = parameters(
            inTurn: read(x, where: (1 - observed).reshaped(row)), from: self.given.map { $0(start, context) } ?? start,
            context)
        let sample = conditional.sample(parameters, context.random, temperature: request.temperature)
        let drawn = Tensor.select(observed.greater(.scalar(0, x.elementType)), given, sample)
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
