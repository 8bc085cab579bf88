import Bijectors
import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Models

/// A flow as a run sees it: examples `[batch, variables]`, whatever shape the bijector works on.
public final class FlowModel: LatentModel {
    /// What is trained: the flow, and the noise that makes whole numbers continuous.
    struct Parts: Module {
        let flow: Flow
        let dequantization: (any Dequantization)?
    }

    let parts: Parts
    public var flow: Flow { parts.flow }
    public var module: any Module { parts.dequantization is VariationalDequantization ? parts : parts.flow }
    public let evaluationBatch: Int

    /// Whole numbers 0 ..< levels as data; 0 for real ones.
    let levels: Int

    /// - Parameter dequantization: for whole numbers 0 ..< `levels`.
    public init(
        _ flow: Flow, dequantization: (any Dequantization)? = nil, levels: Int = 0, evaluationBatch: Int = 500
    ) {
        parts = Parts(flow: flow, dequantization: dequantization)
        self.levels = levels
        self.evaluationBatch = evaluationBatch
        module.namedParameters()
    }

    private var exampleShape: Shape { flow.shape }

    /// Whole numbers with noise, in the bijector's shape, and what the noise costs.
    private func continuous(_ x: Tensor, _ random: RandomSource) -> (value: Tensor, cost: Tensor?) {
        guard let dequantization = parts.dequantization else { return (x.reshaped(exampleShape), nil) }
        let (value, logDensity) = dequantization.dequantize(x, random)
        return (value.reshaped(exampleShape), logDensity)
    }

    private func logProbability(_ x: Tensor, _ random: RandomSource, _ pass: Pass) -> Tensor {
        let (value, cost) = continuous(x, random)
        let log = flow.logProbability(value, pass)
        return cost.map { log - $0 } ?? log
    }

    public func objective(_ x: Tensor, _ random: RandomSource) throws -> Objective {
        let pass = Pass(.train)
        let loss = -logProbability(x, random, pass).mean()
        return Objective(loss: loss, updates: pass.updates.map { StateUpdate($0.parameter.tensor, $0.value) })
    }

    public func logProbability(_ x: Tensor) throws -> Tensor { logProbability(x, RandomSource(), Pass()) }

    public func initialization(_ x: Tensor, _ random: RandomSource) throws -> [StateUpdate] {
        flow.initialization(continuous(x, random).value).map { StateUpdate($0.parameter.tensor, $0.value) }
    }

    public func prove() throws -> String {
        let proofs = try flow.prove()
        let pairs = proofs.compactMap(\.proof.dependencies).reduce((present: 0, allowed: 0)) {
            ($0.present + $1.present, $0.allowed + $1.allowed)
        }
        if proofs.isEmpty { return "proved: nothing depends on an order" }
        return "proved: \(proofs.count) conditioners respect their orders"
            + (pairs.allowed > 0 ? " (\(pairs.present) of \(pairs.allowed) allowed dependencies are present)" : "")
    }

    public func describe() -> ModelDescription {
        let density = flow.logProbability(Tensor.input("x", flow.shape))
        let products = productMultiplyAdds([density])
        return ModelDescription(
            layers: module.namedParameters().filter { $0.parameter.shape.count == 2 }.map { name, parameter in
                let weights = parameter.shape.reduce(1, *)
                let dense = products[name] ?? weights
                let live = parameter.mask.map { mask in
                    (0..<weights).count { !mask.isDead($0, shape: parameter.shape) }
                }
                var layer = ModelDescription.Layer(
                    name: name, shape: parameter.shape, multiplyAdds: dense, liveMultiplyAdds: live ?? dense)
                if case .dense(.degrees(let input, let output, let strict)) = parameter.mask {
                    (layer.inputDegrees, layer.outputDegrees, layer.isStrict) = (input, output, strict)
                }
                return layer
            } + convolutionLayers([density]),
            remarks: flow.bijector.structure.lines() + ["base: \(flow.base.name)"])
    }

    // MARK: drawing

    public func drawing(_ x: Tensor, _ request: DrawingRequest) throws -> Drawing {
        if request.observed != nil {
            throw UsageError("complete: a flow has no exact conditionals of arbitrary variables; draw samples instead")
        }
        let latent = flow.bijector.outputShape(exampleShape)
        var stages: [Drawing.Stage] = []
        if let density = flow.base as? AutoregressiveDensity {
            let z = Tensor.input("z", latent)
            let (drawn, order) = density.draw(z, RandomSource(), temperature: request.temperature)
            stages.append(.incremental(variable: z, drawn: drawn, order: order, outputs: []))
        } else {
            let z = flow.base.sample(latent, RandomSource())
            stages.append(.direct([request.temperature == 1 ? z : z * request.temperature]))
        }
        stages += try decodingStages()
        return Drawing(stages)
    }

    /// From latents, in `Drawing.previous`, to examples.
    public func decodingStages() throws -> [Drawing.Stage] {
        var stages: [Drawing.Stage] = try flow.bijector.inverseStages(exampleShape, input: Drawing.previous).map {
            switch $0 {
            case .direct(let x): .direct([x])
            case .sequential(let variable, let drawn, let order):
                .incremental(variable: variable, drawn: drawn, order: order, outputs: [])
            }
        }
        let variables = flow.exampleShape.reduce(1, *)
        let last = Tensor.input(Drawing.previous, exampleShape).reshaped([.batch, Extent(variables)])
        if levels > 0 {
            // Noise lies in [0, 1) above its number; a latent far out may lead outside of all.
            let nearest = last.apply(.floor).maximum(.scalar(0)).minimum(.scalar(Double(levels - 1)))
            stages.append(.direct([nearest]))
        } else if exampleShape.rank != 2 {
            stages.append(.direct([last]))
        }
        return stages
    }

    public var latentCount: Int { flow.exampleShape.reduce(1, *) }

    /// Latents `[batch, variables]` of examples, in the middle of their noise where they are whole numbers.
    public func encode(_ x: Tensor) -> Tensor {
        let value = (parts.dequantization == nil ? x : x + 0.5).reshaped(exampleShape)
        let z = flow.bijector.forward(value, Pass()).value
        return z.reshaped([.batch, Extent(flow.exampleShape.reduce(1, *))])
    }
}
