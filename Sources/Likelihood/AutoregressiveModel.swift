import Distributions
import Graph
import Layers

/// A model whose density is a product of conditionals, each of which reads only variables that come before its own.
///
/// A family says its order, the kind of its conditionals, and the network that computes their parameters. Likelihood, proof, draw and
/// completion follow.
public protocol AutoregressiveModel: LikelihoodModel {
    /// The order in which variables are drawn.
    var order: Order { get }
    var conditional: any Conditional { get }
    /// The orders that the graph is built under where the context has none; `nil` for a network that knows one order alone.
    var orders: ModelOrders? { get }
    /// The orders to draw a request under; `nil` for a network that knows one order alone.
    func orders(for request: DrawingRequest) throws -> ModelOrders?
    /// The parameters of every conditional, `[batch, conditional.parameterCount, sites]`, from x `[batch, variables]`. A site is a
    /// variable, or the variables of a pixel that share their parameters.
    func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor
    /// log p(x) in nats, `[batch]`; the sum of the conditionals' terms.
    func logProbability(_ x: Tensor, _ context: Context) -> Tensor
}

extension AutoregressiveModel {
    public var order: Order { .natural(variableCount) }
    public var orders: ModelOrders? { nil }
    public func orders(for request: DrawingRequest) throws -> ModelOrders? { nil }
    public var domain: VariableDomain { conditional.domain }

    /// log p(x) in nats, `[batch]`.
    public func logProbability(_ x: Tensor, _ context: Context = Context()) -> Tensor {
        conditional.logProbability(x, conditionalParameters(x, context)).sum(axes: [1])
    }

    public func evaluation(_ x: Tensor, _ context: Context) -> Tensor { -logProbability(x, context) }

    public func objective(_ x: Tensor, _ context: Context) -> Tensor { -logProbability(x, context).mean() }

    // MARK: the proof

    /// Proves that the conditionals read only earlier variables, or throws a `DependencyLeak` that names the way.
    public func proveAutoregressive(_ context: Context? = nil) throws -> AutoregressiveProof {
        let (x, context) = (makeInput(), context ?? makeContext())
        // Sites come first among the variables of each run that shares parameters.
        let sites = Int32(variableCount / conditional.variablesPerSite)
        let claim = ConditionalParameters(
            "logits", conditionalParameters(x, context),
            variables: (0..<conditional.parameterCount).flatMap { _ in 0..<sites })
        switch context.orders ?? orders {
        case .runtime(let places, _): return try AutoregressiveProof([claim], of: x, order: order, degrees: places)
        case .constant(let order, _): return try AutoregressiveProof([claim], of: x, order: order)
        case nil: return try AutoregressiveProof([claim], of: x, order: order)
        }
    }

    public func prove() throws -> String {
        let proof = try proveAutoregressive()
        var text = "proved: every conditional reads only earlier variables"
        if proof.isSymbolic { text += ", for every order and all degrees" }
        if let pairs = proof.dependencies {
            text += " (\(pairs.present) of \(pairs.allowed) allowed dependencies are present)"
        }
        return text
    }

    // MARK: drawing

    /// The graph of one draw: every variable as a function of the earlier ones and of random numbers.
    /// - Parameter temperature: 1 draws from the model; less is nearer to its modes.
    public func draw(
        _ x: Tensor, _ context: Context = Context(), temperature: Double = 1
    ) -> (drawn: Tensor, parameters: Tensor) {
        let parameters = conditionalParameters(x, context)
        return (conditional.sample(parameters, context.random, temperature: temperature), parameters)
    }

    /// The context of a request, and the order of its draw.
    private func arranged(_ context: Context, _ request: DrawingRequest) throws -> (Context, Order) {
        var context = context
        context.orders = try orders(for: request) ?? context.orders
        if case .constant(let order, _) = context.orders { return (context, order) }
        return (context, order)
    }

    public func drawing(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Drawing {
        let (context, order) = try arranged(context, request)
        guard let pattern = request.observed else {
            let (drawn, parameters) = draw(x, context, temperature: request.temperature)
            return Drawing([.incremental(variable: x, drawn: drawn, order: order, outputs: [parameters])])
        }
        try order.requireFirst(
            pattern, request, advice: "accept a draw that ignores later observations with --approximate")
        let values = Tensor.input(Drawing.given, x.shape, x.elementType)
        let isObserved = Tensor.pattern(pattern).broadcast(to: x.shape).greater(.scalar(0, x.elementType))
        let (sample, parameters) = draw(x, context, temperature: request.temperature)
        return Drawing([
            .incremental(
                variable: x, drawn: .select(isObserved, values, sample), order: order.beginning(with: pattern),
                outputs: [parameters])
        ])
    }

    public func observedLogProbability(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Tensor? {
        guard let pattern = request.observed, conditional.variablesPerSite == 1 else { return nil }
        let terms = conditional.logProbability(x, conditionalParameters(x, try arranged(context, request).0))
        return Tensor.select(Tensor.pattern(pattern).greater(0).broadcast(to: terms.shape), terms, 0).sum(axes: [1])
    }

    // MARK: inspection

    public func describedGraph(_ x: Tensor, _ context: Context) throws -> [Tensor] {
        [conditionalParameters(x, try arranged(context, DrawingRequest()).0)]
    }

    public func annotate(_ description: inout ModelDescription) {
        description.conditional = conditional.name
        description.inputOrdering = order.index
    }

    public func dependencies(_ x: Tensor, _ context: Context) throws -> (output: Tensor, order: Order)? {
        let (context, order) = try arranged(context, DrawingRequest())
        let first = conditionalParameters(x, context).sliced(axis: 1, from: 0, count: 1)
        let sites = conditional.variablesPerSite
        if sites == 1 { return (first.reshaped(x.shape), order) }
        // The channels of a pixel share their parameters.
        let shape = Shape([x.shape[0], Extent(sites), first.shape[2]])
        return (first.broadcast(to: shape).reshaped(x.shape), order)
    }
}

extension Order {
    /// The same order with some variables in front of all others: they are known, so that many of its steps are one. Not all of them, as a
    /// sampler holds at a time what its steps compute: of a sound, a few of these and not the whole.
    /// - Parameter together: how many steps are one.
    func beginning(with observed: [Bool], together: Int = 64) -> Order {
        func steps(_ isObserved: Bool) -> [Int32] {
            Set(index.indices.filter { observed[$0] == isObserved }.map { index[$0] }).sorted()
        }
        let (first, later) = (steps(true), steps(false))
        let start = (first.count + together - 1) / together
        let known = Dictionary(uniqueKeysWithValues: first.enumerated().map { ($1, Int32($0 / together)) })
        let drawn = Dictionary(uniqueKeysWithValues: later.enumerated().map { ($1, Int32(start + $0)) })
        return Order(index: index.indices.map { (observed[$0] ? known[index[$0]] : drawn[index[$0]])! })
    }

    /// Refuses to complete what a fixed order cannot: observed variables that are not the first ones.
    /// - Parameter advice: what to do about it.
    public func requireFirst(_ observed: [Bool], _ request: DrawingRequest, advice: String) throws {
        let latest = observed.indices.filter { observed[$0] }.map { index[$0] }.max() ?? -1
        if !request.isApproximate, observed.indices.contains(where: { !observed[$0] && index[$0] <= latest }) {
            throw UsageError(
                "complete: a row observes variables that are not the first ones of the model's order, so its conditional cannot be drawn exactly; \(advice)"
            )
        }
    }

    /// Pixels row by row; the channels of a pixel one after the other (R, G, B), or together.
    /// - Parameter shape: `[channels, height, width]`.
    public static func raster(_ shape: [Int], channelsTogether: Bool = false) -> Order {
        let (channels, pixels) = (Int32(shape[0]), Int32(shape[1] * shape[2]))
        return Order(
            index: (0..<channels).flatMap { c in
                (0..<pixels).map { channelsTogether ? $0 : $0 * channels + c }
            })
    }
}

extension Tensor {
    /// 1 where true.
    fileprivate static func pattern(_ flags: [Bool]) -> Tensor {
        .constant(HostArray(flags.map { $0 ? 1 : 0 } as [Float]))
    }
}
