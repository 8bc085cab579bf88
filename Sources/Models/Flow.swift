import Bijectors
import Compiler
import Distributions
import Graph
import Layers
import Likelihood

/// A density: a bijector from the data to a base distribution, log p(x) = log p(z) + log|det dz/dx|.
///
/// Examples are real, or whole numbers that a dequantization makes continuous. They may come flat, `[batch, variables]`, or in the
/// shape that the bijector works on.
///
/// A flow is a distribution, too: it may be the base of another flow, a component of a mixture, or a prior. There what it is
/// conditioned on comes as features, in one vector.
public struct Flow: LatentModel {
    /// What comes before the bijector and is not trained: from whole numbers to the unit interval, say.
    public let preprocessing: [any Bijector]
    public let bijector: any Bijector
    public let base: any Distribution
    /// The noise that makes whole numbers continuous; `nil` for real data.
    public let dequantization: (any Dequantization)?
    public let examples: ExampleShape
    public let conditions: Conditions
    /// The standard deviation of the noise that training adds to what the flow sees, in the data's own units, so that the density is smooth
    /// around them; draws are rid of it by a step along the gradient of their log-density (Zhai et al. 2024, sections 2.3 and 2.4).
    public let noise: Double
    /// Groups of variables the first of which may be given; `nil` where nothing is known of such.
    public let groups: LatentGroups?
    public let evaluationBatch: Int

    /// - Parameters:
    ///   - exampleShape: of one example of the data.
    ///   - features: numbers that each example is conditioned on; 0 for none.
    ///   - conditions: in their place, classes and features together: the bijector is handed both in one vector.
    ///   - dequantization: for whole numbers as data.
    ///   - noise: see `noise`.
    ///   - groups: of variables and latents, where no latent reads a variable of a later group.
    public init(
        _ bijector: any Bijector, base: any Distribution, exampleShape: [Int], features: Int = 0,
        conditions: Conditions? = nil, preprocessing: [any Bijector] = [], dequantization: (any Dequantization)? = nil,
        groups: LatentGroups? = nil, noise: Double = 0, evaluationBatch: Int = 500
    ) {
        self.noise = noise
        self.preprocessing = preprocessing
        self.bijector = bijector
        self.base = base
        self.dequantization = dequantization
        self.groups = groups
        self.evaluationBatch = evaluationBatch
        examples = ExampleShape(exampleShape)
        self.conditions = conditions ?? Conditions(features: features > 0 ? [features] : [])
    }

    /// The same flow for data that need preprocessing and noise.
    func preceded(
        by steps: [any Bijector] = [], dequantization: (any Dequantization)? = nil, noise: Double = 0,
        evaluationBatch: Int = 500, conditions: Conditions? = nil
    ) -> Flow {
        Flow(
            bijector, base: base, exampleShape: examples.dimensions, conditions: conditions ?? self.conditions,
            preprocessing: steps, dequantization: dequantization, groups: groups, noise: noise,
            evaluationBatch: evaluationBatch)
    }

    /// All the way from the data to the latents.
    public var wholeBijector: any Bijector {
        preprocessing.isEmpty ? bijector : Chain(preprocessing + [bijector])
    }

    /// One example, in the bijector's shape.
    public var shape: Shape { Shape([.batch] + examples.dimensions.map { Extent($0) }) }

    public var domain: VariableDomain { dequantization?.domain ?? .real }
    /// Noise gives a bound, whose mean is reported.
    public var metric: Metric { dequantization == nil ? .nats : .boundInNats }
    public var latentCount: Int { variableCount }

    private func shaped(_ x: Tensor) -> Tensor {
        let shape = Shape([x.shape[0]] + examples.dimensions.map { Extent($0) })
        return x.shape == shape ? x : x.reshaped(shape)
    }

    /// What the bijector is handed: class and features in one vector.
    func inner(_ context: Context, beside x: Tensor) -> Context { conditions.joined(context, beside: x) }

    private func flat(_ x: Tensor) -> Tensor {
        x.shape.rank == 2 ? x : x.reshaped([x.shape[0], Extent(variableCount)])
    }

    /// log p(x) in nats, `[batch]`; of whole numbers a bound from below, with noise of the context's random numbers.
    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        let context = inner(context, beside: x)
        guard let dequantization else { return logDensity(disturbed(shaped(x), context), context) }
        let (value, logDensity) = dequantization.dequantize(flat(x), context)
        return self.logDensity(disturbed(shaped(value), context), context) - logDensity
    }

    /// log p of real numbers in the bijector's shape.
    /// - Parameter context: with class and features in one.
    private func logDensity(_ y: Tensor, _ context: Context) -> Tensor {
        let z = wholeBijector.forward(y, context)
        return base.logProbability(z.value, context) + z.logDeterminant
    }

    private func disturbed(_ y: Tensor, _ context: Context) -> Tensor {
        guard noise > 0, context.mode == .train, y.error == nil else { return y }
        return y + context.random.normal(y.shape, stream: 6, as: y.elementType) * noise
    }

    public func evaluation(_ x: Tensor, _ context: Context) -> Tensor { -logProbability(x, context) }

    public func objective(_ x: Tensor, _ context: Context) -> Tensor {
        guard let bijector = bijector as? any LossBijector else { return -logProbability(x, context).mean() }
        let context = inner(context, beside: x)
        let (start, logDensity) = prepared(x, context)
        let loss = bijector.loss(start.value, base: base, context) - start.logDeterminant
        return (logDensity.map { loss + $0 } ?? loss).mean()
    }

    /// What the bijector is handed, with the log-determinant on the way to it, and the log-density of noise.
    /// - Parameter context: with class and features in one.
    func prepared(_ x: Tensor, _ context: Context) -> (Mapped, logDensity: Tensor?) {
        let noisy = dequantization?.dequantize(flat(x), context)
        let start = disturbed(shaped(noisy?.value ?? x), context)
        return (Chain(preprocessing).forward(start, context), noisy?.logDensity)
    }

    // MARK: inspection

    /// Proves what `wholeBijector.structure` says, and the same of every flow that the base is made of. - Throws: `DependencyLeak`.
    @discardableResult public func proveStructure() throws -> [(claim: String, proof: AutoregressiveProof)] {
        let features = inner(makeContext(), beside: makeInput()).features
        var own = try wholeBijector.proveStructure(shape, features: features, element: element)
        if let groups {
            let claim = groups.claim(shape, element) {
                flat(wholeBijector.forward($0, Context(features: features)).value)
            }
            own.append((claim.name, try claim.prove()))
        }
        return try own + flows(in: base).flatMap { try $0.proveStructure() }
    }

    /// The flows that a base is, or is made of.
    private func flows(in distribution: any Distribution) -> [Flow] {
        (distribution as? Flow).map { [$0] } ?? distribution.parts.flatMap { flows(in: $0) }
    }

    public func prove() throws -> String {
        let proofs = try proveStructure()
        let pairs = proofs.compactMap(\.proof.dependencies).reduce((present: 0, allowed: 0)) {
            ($0.present + $1.present, $0.allowed + $1.allowed)
        }
        if proofs.isEmpty { return "proved: nothing depends on an order" }
        return "proved: \(proofs.count) conditioners respect their orders"
            + (pairs.allowed > 0 ? " (\(pairs.present) of \(pairs.allowed) allowed dependencies are present)" : "")
    }

    /// The density of real numbers: what noise costs is the dequantization's.
    public func describedGraph(_ x: Tensor, _ context: Context) throws -> [Tensor] { [logProbability(x, context)] }

    public func annotate(_ description: inout ModelDescription) {
        description.remarks = remarks
    }

    /// The steps, and the base with those of the flows that it is made of.
    private var remarks: [String] {
        wholeBijector.structure.lines() + ["base: \(base.name)"]
            + flows(in: base).flatMap { flow in flow.remarks.map { "  \($0)" } }
    }

    // MARK: latents

    /// Latents of examples, in the middle of their noise where they are whole numbers.
    public func encode(_ x: Tensor, _ context: Context) -> Tensor {
        let context = inner(context, beside: x)
        return flat(wholeBijector.forward(shaped(dequantization.map { $0.middle(flat(x)) } ?? x), context).value)
    }

    public func drawing(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Drawing {
        guard let pattern = request.observed else {
            return Drawing(try stages(flatShape, context, temperature: request.temperature))
        }
        guard let groups else {
            throw UsageError("complete: a flow has no exact conditionals of arbitrary variables; draw samples instead")
        }
        let given = inner(context, beside: x)
        let start = prepared(.input(Drawing.given, x.shape, x.elementType), given).0.value
        let latents = bijector.forward(start, given).value
        let first = groups.isFirst(try groups.observed(pattern, request), latents.shape, element)
        let drawn = base.sample(latents.shape, given, temperature: request.temperature)
        return Drawing([.direct([.select(first.greater(0), latents, drawn)])] + (try decodingStages(context)))
    }

    public func decodingStages(_ context: Context) throws -> [Drawing.Stage] { try decodingStages(flatShape, context) }

    private var flatShape: Shape { [.batch, Extent(variableCount)] }

    /// From latents to examples of a shape, flat or the bijector's.
    /// - Parameter denoises: whether they are drawn, so that what training added is taken off.
    private func decodingStages(
        _ result: Shape, _ context: Context, denoises: Bool = false
    ) throws -> [Drawing.Stage] {
        let inverse = try wholeBijector.inverseStages(
            shape, features: inner(context, beside: makeInput()).features, input: Drawing.previous, element: element)
        var stages: [Drawing.Stage] = inverse.map {
            switch $0 {
            case .direct(let x): .direct([x])
            case .sequential(let variable, let drawn, let order):
                .incremental(variable: variable, drawn: drawn, order: order, outputs: [])
            }
        }
        let last = Tensor.input(Drawing.previous, shape, element)
        if denoises, noise > 0 {
            // The mean of what a noisy example was before (Tweedie's formula).
            let density = logDensity(last, inner(context, beside: makeInput())).sum()
            stages.append(.direct([last + (try gradients(of: density, with: [last]))[0] * (noise * noise)]))
        }
        if dequantization != nil || shape != result { stages.append(.direct([finished(last, as: result)])) }
        return stages
    }

    /// The data at the end of the inverse, in a shape.
    private func finished(_ y: Tensor, as result: Shape) -> Tensor {
        // Noise lies in [0, 1) above its number; a latent far out may lead outside of all.
        let x = dequantization.map { $0.quantize(flat(y)) } ?? y
        return x.shape == result ? x : x.reshaped(result)
    }
}

extension Flow: StagedDistribution {
    public var name: String { "flow, \(wholeBijector.structure.name)" }
    public var parts: [any Distribution] { [base] }

    /// In one graph, in which a sequential inverse takes as many passes as there are variables; `stages` takes about one.
    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let own = Shape([shape[0]] + examples.dimensions.map { Extent($0) })
        let nothing = Tensor.scalar(0, element)
        if shape != own, shape != [shape[0], Extent(variableCount)] {
            return .misuse(name, "expected draws of \(own), found \(shape)", of: nothing)
        }
        let context = inner(context, beside: nothing)
        let latent = wholeBijector.outputShape(own, features: context.features)
        let z = base.sample(latent, context, temperature: temperature)
        return finished(wholeBijector.inverse(z, context).value, as: shape)
    }

    public func stages(_ shape: Shape, _ context: Context, temperature: Double) throws -> [Drawing.Stage] {
        let given = inner(context, beside: makeInput())
        let latent = wholeBijector.outputShape(self.shape, features: given.features)
        return try base.drawingStages(latent, given, temperature: temperature)
            + decodingStages(shape, context, denoises: true)
    }
}
