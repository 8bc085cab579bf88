import Datasets
import Distributions
import Graph
import Layers
import Models

/// The choices of a MADE.
public struct MADESettings: ModelSettings {
    /// Units of each hidden layer.
    public var hidden = [500, 500]
    /// relu, tanh, sigmoid or softplus.
    public var activation = "relu"
    /// bernoulli, categorical:LEVELS, mixture:COMPONENTS or logistics:COMPONENTS:LEVELS.
    public var conditional = "bernoulli"
    /// natural, random, or the variables in the order of drawing, separated by commas.
    public var ordering = "natural"
    /// A new order for every mask.
    public var orderAgnostic = false
    /// How many masks are cycled, or "fresh" for a new one at every step.
    public var masks = "1"
    /// Masks in the ensemble that is evaluated and sampled, of a finite list at most all; 0 takes all of a list of up to 1024, or 8
    /// fresh ones.
    public var ensemble = 0
    /// Connections from inputs to outputs.
    public var direct = false

    public init() {}

    public func validate(_ examples: ExampleShape) throws {
        try require(
            hidden.allSatisfy { (1...1 << 20).contains($0) } && hidden.count <= 64,
            "hidden: expected up to 64 layers of 1 to 1048576 units, found \(hidden)")
        try require(
            masks == "fresh" || Int(masks).map { (1...1 << 20).contains($0) } == true,
            "masks: expected a count or “fresh”, found “\(masks)”")
        try require((0...1 << 16).contains(ensemble), "ensemble: expected 0 to 65536, found \(ensemble)")
        try require(
            ensemble > 0 || (Int(masks) ?? 8) <= 1024,
            "ensemble: 0 takes all \(masks) masks, and every example is evaluated under each; expected at most 1024, set how many to take (ensemble=8)"
        )
        try require(
            !orderAgnostic || masks != "1",
            "orderAgnostic=true needs several masks, one for each order: set masks=fresh or a count")
        _ = try makeConditional(conditional)
        _ = try makeActivation()
        _ = try makeOrdering(variables: examples.count)
    }

    public var domain: VariableDomain { conditionalDomain(conditional) }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any TrainableModel {
        try MADEModel(self, variables: examples.count, seed: seed)
    }

    func makeActivation() throws -> MADE.Activation {
        guard let result = MADE.Activation(rawValue: activation) else {
            throw UsageError(
                "activation: expected \(MADE.Activation.allCases.map(\.rawValue).joined(separator: ", ")), found “\(activation)”"
            )
        }
        return result
    }

    func makeOrdering(variables: Int) throws -> MaskSampler.Ordering {
        switch ordering {
        case "natural": return .natural
        case "random": return .random
        default:
            let sequence = ordering.split(separator: ",").map { Int($0) }
            guard sequence.compactMap({ $0 }).sorted() == Array(0..<variables) else {
                throw UsageError(
                    "ordering: expected natural, random, or the numbers 0 to \(variables - 1) in some order")
            }
            return .given(sequence.compactMap { $0 })
        }
    }

    /// Whether one mask serves the whole run, so that it can be part of the program.
    var hasConstantMask: Bool { masks == "1" }

    /// The masks of the ensemble.
    public var ensembleMasks: [Int] {
        let all = Int(masks) ?? 8
        return Array(0..<(ensemble == 0 ? all : masks == "fresh" ? ensemble : min(ensemble, all)))
    }
}

/// The conditional that a setting names.
func makeConditional(_ text: String) throws -> any Conditional {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    let number = parts.count == 2 ? Int(parts[1]) : nil
    switch (parts[0], number) {
    case ("bernoulli", nil) where parts.count == 1: return Bernoulli()
    case ("categorical", let levels?) where (2...65536).contains(levels): return Categorical(levels: levels)
    case ("mixture", let components?) where (1...4096).contains(components):
        return MixtureOfGaussians(components: components)
    case ("logistics", nil) where parts.count == 3:
        if let components = Int(parts[1]), let levels = Int(parts[2]), (1...4096).contains(components),
            (2...65536).contains(levels)
        {
            return DiscretizedLogisticMixture(levels: levels, components: components)
        }
        fallthrough
    default:
        throw UsageError(
            "conditional: expected bernoulli, categorical:LEVELS, mixture:COMPONENTS or logistics:COMPONENTS:LEVELS, found “\(text)”"
        )
    }
}

/// What variables of such a conditional may hold.
func conditionalDomain(_ text: String) -> VariableDomain {
    // A conditional that there is not has no domain; it is refused by name.
    guard (try? makeConditional(text)) != nil else { return .real }
    if text == "bernoulli" { return .binary }
    if text.hasPrefix("categorical:"), let levels = Int(text.dropFirst(12)) { return .levels(levels) }
    if text.hasPrefix("logistics:"), let levels = text.split(separator: ":").last.flatMap({ Int($0) }) {
        return .levels(levels)
    }
    return .real
}

/// A MADE with its masks.
public final class MADEModel: TrainableModel {
    public let settings: MADESettings
    public let made: MADE
    public let masks: MaskSampler
    public let orders: ModelOrders

    init(_ settings: MADESettings, variables: Int, seed: UInt64) throws {
        self.settings = settings
        masks = MaskSampler(
            variables: variables, hidden: settings.hidden, ordering: try settings.makeOrdering(variables: variables),
            isOrderAgnostic: settings.orderAgnostic, drawsDegrees: !settings.hasConstantMask, seed: seed)
        if settings.hasConstantMask {
            let mask = masks.mask(0)
            orders = .constant(order: mask.order, hidden: mask.hidden)
        } else {
            orders = .runtime(
                order: .input("degrees.0", [Extent(variables)], .int32),
                hidden: settings.hidden.enumerated().map { .input("degrees.\($0 + 1)", [Extent($1)], .int32) })
        }
        made = MADE(
            variables: variables, hidden: settings.hidden, conditional: try makeConditional(settings.conditional),
            activation: try settings.makeActivation(), hasDirectConnections: settings.direct, orders: orders)
    }

    public var module: any Module { made }

    public func logProbability(_ x: Tensor) -> Tensor { made.logProbability(x, orders) }

    /// What a mask feeds to a program whose degrees are inputs.
    func feeds(mask k: Int) -> [String: HostArray] {
        guard case .runtime = orders else { return [:] }
        let mask = masks.mask(k)
        return Dictionary(
            uniqueKeysWithValues: ([mask.order] + mask.hidden).enumerated().map { ("degrees.\($0)", HostArray($1)) })
    }

    public func feeds(step: Int) -> [String: HostArray] { feeds(mask: Int(settings.masks).map { step % $0 } ?? step) }

    public var members: [[String: HostArray]] { settings.ensembleMasks.map { feeds(mask: $0) } }

    public func proof() throws -> AutoregressiveProof { try made.proveAutoregressive(orders) }

    public func prove() throws -> String {
        let proof = try proof()
        var text = "proved: every conditional reads only earlier variables"
        if proof.isSymbolic { text += ", for every order and all degrees" }
        if let pairs = proof.dependencies {
            text += " (\(pairs.present) of \(pairs.allowed) allowed dependencies are present)"
        }
        return text
    }

    // MARK: drawing

    public func drawing(_ x: Tensor, _ request: DrawingRequest) throws -> Drawing {
        let (order, hidden) = try mask(request)
        let orders = ModelOrders.constant(order: order, hidden: hidden)
        let given = request.observed.map { pattern in
            (
                values: Tensor.input("given", x.shape),
                observed: Tensor.constant(HostArray(pattern.map { $0 ? 1 : 0 } as [Float])).broadcast(to: x.shape)
            )
        }
        let (drawn, parameters) = made.draw(
            x, orders, RandomSource(), given: given, temperature: request.temperature)
        return Drawing([
            .incremental(
                variable: x, drawn: drawn, order: Order(index: order.map { $0 - 1 }), outputs: [parameters])
        ])
    }

    /// The order and degrees of a draw: an order-agnostic model puts the observed variables first, so that the draw is exact;
    /// a fixed order is exact where the observed variables are the first ones.
    func mask(_ request: DrawingRequest) throws -> (order: [Int32], hidden: [[Int32]]) {
        let base = masks.mask(settings.ensembleMasks[request.member])
        guard let pattern = request.observed else { return base }
        if settings.orderAgnostic {
            // Observed first, each part in the order of the mask.
            let sequence = (0..<made.variableCount).sorted {
                (pattern[$0] ? 0 : 1, base.order[$0]) < (pattern[$1] ? 0 : 1, base.order[$1])
            }
            return (Order.sequence(sequence).index.map { $0 + 1 }, base.hidden)
        }
        try refuseGaps(
            pattern, Order(index: base.order.map { $0 - 1 }), request,
            hint: "train with orderAgnostic=true, or accept a draw that ignores later observations with --approximate")
        return base
    }

    public func observedLogProbability(_ x: Tensor, _ request: DrawingRequest) throws -> Tensor? {
        guard let pattern = request.observed else { return nil }
        let (order, hidden) = try mask(request)
        let parameters = made.conditionalParameters(x, .constant(order: order, hidden: hidden))
        let terms = made.conditional.logProbability(x, parameters)
        let seen = Tensor.constant(HostArray(pattern.map { $0 ? 1 : 0 } as [Float]))
        return Tensor.select(seen.greater(0).broadcast(to: terms.shape), terms, 0).sum(axes: [1])
    }

    public func dependencies(_ x: Tensor) throws -> (output: Tensor, order: Order)? {
        let mask = masks.mask(settings.ensembleMasks[0])
        let parameters = made.conditionalParameters(x, .constant(order: mask.order, hidden: mask.hidden))
        return (
            parameters.sliced(axis: 1, from: 0, count: 1).reshaped(x.shape), Order(index: mask.order.map { $0 - 1 })
        )
    }

    // MARK: inspection

    public func describe() -> ModelDescription {
        let chosen = settings.ensembleMasks.map { masks.mask($0) }
        let conditional = made.conditional
        let repeated = { (order: [Int32], count: Int) in (0..<count).flatMap { _ in order } }
        let sides =
            [repeated(chosen[0].order, conditional.inputCount)] + chosen[0].hidden + [
                repeated(chosen[0].order, conditional.parameterCount)
            ]
        func layer(_ name: String, _ layer: MaskedDense, _ input: [Int32], _ output: [Int32], strict: Bool)
            -> ModelDescription.Layer
        {
            ModelDescription.Layer(
                name: name, shape: layer.weight.shape, multiplyAdds: layer.weight.shape.reduce(1, *),
                liveMultiplyAdds: Staircase(input: input, output: output, strict: strict).liveCount,
                inputDegrees: input, outputDegrees: output, isStrict: strict)
        }
        var result = ModelDescription()
        result.conditional = conditional.name
        result.activation = settings.activation
        result.inputOrdering = chosen[0].order
        result.ensemble = chosen.map { ModelDescription.Mask(order: $0.order, hiddenDegrees: $0.hidden) }
        result.layers = made.layers.enumerated().map { index, l in
            layer("layers.\(index)", l, sides[index], sides[index + 1], strict: index == made.layers.count - 1)
        }
        if let direct = made.direct {
            result.layers.append(layer("direct", direct, sides[0], sides[sides.count - 1], strict: true))
        }
        return result
    }
}

/// Refuses to complete what a fixed order cannot: observed variables that are not the first ones.
func refuseGaps(_ pattern: [Bool], _ order: Order, _ request: DrawingRequest, hint: String) throws {
    let latest = pattern.indices.filter { pattern[$0] }.map { order.index[$0] }.max() ?? -1
    if !request.isApproximate, pattern.indices.contains(where: { !pattern[$0] && order.index[$0] <= latest }) {
        throw UsageError(
            "complete: a row observes variables that are not the first ones of the model's order, so its conditional cannot be drawn exactly; \(hint)"
        )
    }
}
