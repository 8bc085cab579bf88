import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

/// A variational autoencoder of vectors whose posterior is a Gaussian carried through a flow (Kingma and Welling 2014;
/// Rezende and Mohamed 2015; Kingma et al. 2016, algorithm 1).
public struct VAE: LatentModel, ConfiguredModel {
    public enum Posterior: Hashable, Sendable {
        case diagonal
        case planar(layers: Int)
        case householder(reflections: Int)
        case sylvester(Sylvester.Kind, layers: Int)
        /// Gated autoregressive updates with the order reversed in between.
        case iaf(layers: Int, hidden: [Int])
    }

    public let encoder: DenseNetwork
    public let mean: Dense
    public let logDeviation: Dense
    /// What the flow is conditioned on.
    public let context: Dense
    public let flow: Chain
    /// Of the latents: the standard normal, or a flow (Chen et al. 2017, "Variational Lossy Autoencoder", section 3.2).
    public let prior: any Distribution
    public let decoder: DenseNetwork
    /// Of each variable given the latents.
    public let conditional: any Conditional
    public let examples: ExampleShape
    public let conditions: Conditions
    public let latentCount: Int
    public let posterior: Posterior
    /// Draws of the importance-weighted bound that is reported.
    public let draws: Int

    public var domain: VariableDomain { conditional.domain }
    public var metric: Metric { .boundInNats }
    public var evaluationBatch: Int { max(1, min(500, 4000 / draws)) }

    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        conditional = try makeConditional(settings.conditional, examples, leastScale: settings.leastScale)
        let conditions = Conditions(of: examples)
        self.conditions = conditions
        let (variables, latents, hidden) = (examples.count, settings.latents, settings.hidden)
        let posterior = try settings.makePosterior()
        (latentCount, self.posterior, draws) = (latents, posterior, settings.draws)
        let width = hidden.last ?? variables
        encoder = DenseNetwork(
            variables * conditional.inputCount, hidden: Array(hidden.dropLast()), outputs: width,
            features: conditions.vectorCount)
        mean = Dense(width, latents)
        logDeviation = Dense(width, latents)
        context = Dense(width, width)
        decoder = DenseNetwork(
            latents, hidden: hidden.reversed(), outputs: variables * conditional.parameterCount,
            features: conditions.vectorCount)
        let layers: [any Bijector] =
            switch posterior {
            case .diagonal: []
            case .planar(let layers): (0..<layers).map { _ in Planar(latents, features: width) }
            case .householder(let reflections): [Householder(latents, reflections: reflections, features: width)]
            case .sylvester(.triangular(let reversed), let layers):
                // The variables are reversed in every other layer (van den Berg et al. 2018, section 4.3).
                (0..<layers).map {
                    Sylvester(latents, .triangular(reversed: reversed != ($0 % 2 == 1)), features: width)
                }
            case .sylvester(let kind, let layers): (0..<layers).map { _ in Sylvester(latents, kind, features: width) }
            case .iaf(let layers, let hidden):
                (0..<layers).map { index in
                    Autoregressive(
                        index % 2 == 0 ? .natural(latents) : .sequence(Array((0..<latents).reversed())),
                        AffineTransformer(.gated, bound: .sigmoid(shift: 2)), hidden: hidden, features: width)
                }
            }
        flow = Chain(layers)
        prior = try settings.makePrior(features: conditions.vectorCount)
    }

    /// log p(x, z) - log q(z | x) for `count` draws of z for each example, `[batch, count]`.
    public func logWeights(_ x: Tensor, draws count: Int, _ context: Context) -> Tensor {
        let n = x.shape[0]
        let all = Extent(count) * n
        // Every example `count` times, side by side.
        func repeated(_ t: Tensor) -> Tensor {
            count == 1
                ? t
                : t.reshaped([n, 1, t.shape[1]]).broadcast(to: [n, Extent(count), t.shape[1]]).reshaped([
                    all, t.shape[1],
                ])
        }
        let given = conditions.joined(context, beside: x)
        let h = encoder(read(x), given).relu()
        let (m, s, c) = (repeated(mean(h)), repeated(logDeviation(h).clamped(limit: 10)), repeated(self.context(h)))
        let noise = context.random.normal([n, Extent(count), Extent(latentCount)], stream: 5, as: x.elementType)
            .reshaped([all, Extent(latentCount)])
        var inner = context
        inner.features = c
        let z = flow.forward(m + s.exp() * noise, inner)
        let logPosterior = DiagonalNormal().logProbability(noise) - s.sum(axes: [1]) - z.logDeterminant
        var decoding = given
        decoding.features = given.features.map { conditions.vectorCount > 0 ? repeated($0) : $0 }
        let logLikelihood = conditional.logProbability(repeated(x), parameters(z.value, decoding)).sum(axes: [1])
        return (logLikelihood + prior.logProbability(z.value, decoding) - logPosterior).reshaped([n, Extent(count)])
    }

    /// x `[batch, variables]` as the encoder reads it.
    private func read(_ x: Tensor) -> Tensor {
        conditional.encode(x).reshaped([x.shape[0], Extent(conditional.inputCount * variableCount)])
    }

    /// Parameters of the variables `[batch, parameterCount, variables]` for latents `[batch, latents]`.
    private func parameters(_ z: Tensor, _ context: Context) -> Tensor {
        decoder(z, context).reshaped([z.shape[0], Extent(conditional.parameterCount), Extent(variableCount)])
    }

    /// The evidence lower bound in nats, `[batch]`, from one draw.
    public func evidenceLowerBound(_ x: Tensor, _ context: Context) -> Tensor {
        logWeights(x, draws: 1, context).reshaped([x.shape[0]])
    }

    /// The importance-weighted bound (Burda et al. 2016, equation 8), `[batch]`, which rises to log p(x) with the draws.
    public func importanceWeightedBound(_ x: Tensor, draws: Int, _ context: Context) -> Tensor {
        logWeights(x, draws: draws, context).logSumExp(axes: [1]) - Math.log(Double(draws))
    }

    public func objective(_ x: Tensor, _ context: Context) -> Tensor { -evidenceLowerBound(x, context).mean() }

    public func evaluation(_ x: Tensor, _ context: Context) -> Tensor {
        -importanceWeightedBound(x, draws: draws, context)
    }

    /// The posterior's middle carried through the flow, without noise.
    public func encode(_ x: Tensor, _ context: Context = Context()) -> Tensor {
        let given = conditions.joined(context, beside: x)
        let h = encoder(read(x), given).relu()
        var inner = context
        inner.features = self.context(h)
        return flow.forward(mean(h), inner).value
    }

    public func decodingStages(_ context: Context) throws -> [Drawing.Stage] {
        let z = Tensor.input(Drawing.previous, [.batch, Extent(latentCount)], element)
        let parameters = parameters(z, conditions.joined(context, beside: z))
        return [.direct([conditional.sample(parameters, context.random)])]
    }

    public func drawing(_ x: Tensor, _ context: Context, _ request: DrawingRequest) throws -> Drawing {
        if request.observed != nil {
            throw UsageError(
                "complete: an autoencoder has no exact conditionals of its variables; draw samples instead")
        }
        var given = conditions.joined(context, beside: x)
        // Other numbers than those that variables are drawn by.
        given.random = context.random.substream(1 << 12)
        let latent = Shape([.batch, Extent(latentCount)])
        let stages = try prior.drawingStages(latent, given, temperature: request.temperature)
        return Drawing(stages + (try decodingStages(context)))
    }

    public func prove() throws -> String {
        let width = context.weight.shape[0]
        let proofs = try flow.proveStructure(
            [.batch, Extent(latentCount)], features: .input("features", [.batch, Extent(width)], element),
            element: element)
        return proofs.isEmpty
            ? "proved: nothing depends on an order"
            : "proved: \(proofs.count) conditioners of the posterior respect their orders"
    }

    public func annotate(_ description: inout ModelDescription) {
        description.remarks =
            ["posterior: a diagonal normal carried through"] + flow.structure.lines(indent: "  ")
            + ["prior: \(prior.name)"]
            + ["figures are the importance-weighted bound of \(draws) draws (Burda et al. 2016, equation 8)"]
    }
}

extension Tensor {
    /// Kept in (-limit, limit), smoothly.
    fileprivate func clamped(limit: Double) -> Tensor { (self / limit).tanh() * limit }
}

extension VAE {
    /// The choices of a variational autoencoder of vectors.
    public struct Settings: ModelSettings {
        /// diagonal, planar:LAYERS, householder:REFLECTIONS, sylvester-orthogonal:COLUMNS, sylvester-householder:REFLECTIONS,
        /// sylvester-triangular:LAYERS or iaf:LAYERS.
        public var posterior = "iaf:4"
        public var latents = 40
        /// Of the latents: normal, or a flow, realnvp:LAYERS or maf:LAYERS.
        public var prior = "normal"
        /// Units of each layer of the encoder, and backwards of the decoder.
        public var hidden = [300, 300]
        /// Units of an IAF layer's network.
        public var iafHidden = [320]
        /// Units of each hidden layer of the prior's networks, where it is a flow.
        public var priorHidden = [128]
        /// Draws of the importance-weighted bound that is reported.
        public var draws = 64
        /// What a variable is given the latents: bernoulli, categorical:LEVELS, mixture:COMPONENTS, logistics:COMPONENTS:LEVELS, or for
        /// the columns of a table table:COMPONENTS.
        public var conditional = "bernoulli"
        /// No component of a table's mixtures is narrower, in standard deviations of its column.
        public var leastScale = 0.01

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(
                (hidden + iafHidden + priorHidden).allSatisfy { (1...1 << 16).contains($0) } && !hidden.isEmpty,
                "hidden: expected layers of 1 to 65536 units, found \(hidden)")
            try require(latents, "latents", in: 2...4096)
            try require(draws, "draws", in: 1...5000)
            try require(
                leastScale > 0 && leastScale < 1, "leastScale: expected a number between 0 and 1, found \(leastScale)")
            _ = try makeConditional(conditional, examples, leastScale: leastScale)
            _ = try makePosterior()
            _ = try makePrior(features: 0)
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            try data.requireNoGaps(for: "vae")
            conditional = conditionalSetting(for: data.values, components: 1)
            return notes(for: conditional, leastScale: leastScale)
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

        /// - Parameter features: numbers of what examples are given beside them.
        func makePrior(features: Int) throws -> any Distribution {
            let parts = prior.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            let number = parts.count == 2 ? Int(parts[1]) : nil
            switch (parts[0], number) {
            case ("normal", nil) where parts.count == 1: return DiagonalNormal()
            case ("realnvp", let n?) where (1...64).contains(n):
                return Flow.realNVP(variables: latents, layers: n, hidden: priorHidden, features: features)
            case ("maf", let n?) where (1...64).contains(n):
                return Flow.maf(variables: latents, layers: n, hidden: priorHidden, features: features)
            default:
                throw UsageError(
                    "prior: expected normal, realnvp:LAYERS or maf:LAYERS of 1 to 64 layers, found “\(prior)”")
            }
        }

        public func requireEffects() throws {
            try require(
                priorHidden == Self().priorHidden || prior != "normal",
                "priorHidden=\(priorHidden.map(String.init).joined(separator: ",")) has no effect with prior=normal; set prior=realnvp:4, say"
            )
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try VAE(examples, self)
        }
    }
}
