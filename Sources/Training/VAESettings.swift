import Bijectors
import Datasets
import Distributions
import Graph
import Layers
import Models

/// The choices of a variational autoencoder of binary vectors.
public struct VAESettings: ModelSettings {
    /// diagonal, planar:LAYERS, householder:REFLECTIONS, sylvester-orthogonal:COLUMNS, sylvester-householder:REFLECTIONS,
    /// sylvester-triangular:LAYERS or iaf:LAYERS.
    public var posterior = "iaf:4"
    public var latents = 40
    /// Units of each layer of the encoder, and backwards of the decoder.
    public var hidden = [300, 300]
    /// Units of an IAF layer's network.
    public var iafHidden = [320]
    /// Draws of the importance-weighted bound that is reported.
    public var draws = 64

    public init() {}

    public var domain: VariableDomain { .binary }

    public func validate(_ examples: ExampleShape) throws {
        try require(
            (hidden + iafHidden).allSatisfy { (1...1 << 16).contains($0) } && !hidden.isEmpty,
            "hidden: expected layers of 1 to 65536 units, found \(hidden)")
        try require((2...4096).contains(latents), "latents: expected 2 to 4096, found \(latents)")
        try require((1...5000).contains(draws), "draws: expected 1 to 5000, found \(draws)")
        _ = try makePosterior()
    }

    func makePosterior() throws -> VAE.Posterior {
        let parts = posterior.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let number = parts.count == 2 ? Int(parts[1]) : nil
        switch (parts[0], number) {
        case ("diagonal", nil) where parts.count == 1: return .diagonal
        case ("planar", let n?) where (1...256).contains(n): return .planar(layers: n)
        case ("householder", let n?) where (1...256).contains(n): return .householder(reflections: n)
        case ("sylvester-orthogonal", let n?) where (1...latents).contains(n):
            return .sylvester(.orthogonal(columns: n), layers: 4)
        case ("sylvester-householder", let n?) where (1...64).contains(n):
            return .sylvester(.householder(reflections: n), layers: 4)
        case ("sylvester-triangular", let n?) where (1...64).contains(n):
            return .sylvester(.triangular(reversed: false), layers: n)
        case ("iaf", let n?) where (1...64).contains(n): return .iaf(layers: n, hidden: iafHidden)
        default:
            throw UsageError(
                "posterior: expected diagonal, planar:N, householder:N, sylvester-orthogonal:COLUMNS, sylvester-householder:N, sylvester-triangular:N or iaf:N, found “\(posterior)”"
            )
        }
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any TrainableModel {
        VAEModel(
            VAE(variables: examples.count, latents: latents, hidden: hidden, posterior: try makePosterior()),
            draws: draws)
    }
}

/// A variational autoencoder as a run sees it: trained on the evidence lower bound, measured by the importance-weighted one.
public final class VAEModel: LatentModel {
    public let vae: VAE
    let draws: Int

    init(_ vae: VAE, draws: Int) {
        self.vae = vae
        self.draws = draws
    }

    public var module: any Module { vae }
    public var evaluationBatch: Int { max(1, min(500, 4000 / draws)) }
    public var latentCount: Int { vae.latents }

    public func objective(_ x: Tensor, _ random: RandomSource) throws -> Objective {
        Objective(loss: -vae.evidenceLowerBound(x, random).mean())
    }

    public func logProbability(_ x: Tensor) throws -> Tensor {
        vae.importanceWeightedBound(x, draws: draws, RandomSource())
    }

    public func prove() throws -> String {
        let width = vae.context.weight.shape[0]
        let proofs = try vae.flow.proveStructure(
            [.batch, Extent(vae.latents)], context: .input("context", [.batch, Extent(width)]))
        return proofs.isEmpty
            ? "proved: nothing depends on an order"
            : "proved: \(proofs.count) conditioners of the posterior respect their orders"
    }

    public func describe() -> ModelDescription {
        ModelDescription(
            layers: module.namedParameters().filter { $0.parameter.shape.count == 2 }.map {
                let count = $0.parameter.shape.reduce(1, *)
                return ModelDescription.Layer(
                    name: $0.name, shape: $0.parameter.shape, multiplyAdds: count, liveMultiplyAdds: count)
            },
            remarks: ["posterior: a diagonal normal carried through"] + vae.flow.structure.lines(indent: "  ")
                + ["figures are the importance-weighted bound of \(draws) draws (Burda et al. 2016, equation 8)"])
    }

    public func drawing(_ x: Tensor, _ request: DrawingRequest) throws -> Drawing {
        if request.observed != nil {
            throw UsageError(
                "complete: an autoencoder has no exact conditionals of its variables; draw samples instead")
        }
        let z = RandomSource().normal([.batch, Extent(vae.latents)], stream: 5)
        return Drawing(
            [.direct([request.temperature == 1 ? z : z * request.temperature])] + (try decodingStages()))
    }

    public func encode(_ x: Tensor) -> Tensor { vae.encode(x) }

    public func decodingStages() throws -> [Drawing.Stage] {
        let logits = vae.decode(.input(Drawing.previous, [.batch, Extent(vae.latents)]))
        return [.direct([RandomSource().bernoulli(logits.sigmoid(), stream: 0)])]
    }
}
