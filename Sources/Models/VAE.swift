import Bijectors
import Distributions
import Graph
import Layers

/// A variational autoencoder of binary vectors whose posterior is a Gaussian carried through a flow (Kingma and Welling 2014;
/// Rezende and Mohamed 2015; Kingma et al. 2016, algorithm 1).
public struct VAE: Module {
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
    public let decoder: DenseNetwork
    public let variables: Int
    public let latents: Int
    public let posterior: Posterior

    public init(variables: Int, latents: Int = 40, hidden: [Int] = [300, 300], posterior: Posterior) {
        self.variables = variables
        self.latents = latents
        self.posterior = posterior
        let width = hidden.last ?? variables
        encoder = DenseNetwork(variables, hidden: Array(hidden.dropLast()), outputs: width)
        mean = Dense(width, latents)
        logDeviation = Dense(width, latents)
        context = Dense(width, width)
        decoder = DenseNetwork(latents, hidden: hidden.reversed(), outputs: variables)
        let layers: [any Bijector] =
            switch posterior {
            case .diagonal: []
            case .planar(let layers): (0..<layers).map { _ in Planar(latents, context: width) }
            case .householder(let reflections): [Householder(latents, reflections: reflections, context: width)]
            case .sylvester(.triangular(let reversed), let layers):
                // The variables are reversed in every other layer (van den Berg et al. 2018, section 4.3).
                (0..<layers).map {
                    Sylvester(latents, .triangular(reversed: reversed != ($0 % 2 == 1)), context: width)
                }
            case .sylvester(let kind, let layers): (0..<layers).map { _ in Sylvester(latents, kind, context: width) }
            case .iaf(let layers, let hidden):
                (0..<layers).map { index in
                    Autoregressive(
                        index % 2 == 0 ? .natural(latents) : .sequence(Array((0..<latents).reversed())),
                        AffineTransformer(.gated, bound: .sigmoid(shift: 2)), hidden: hidden, context: width)
                }
            }
        flow = Chain(layers)
        namedParameters()
    }

    /// log p(x, z) - log q(z | x) for `count` draws of z for each example, `[batch, count]`.
    public func logWeights(_ x: Tensor, draws count: Int, _ random: RandomSource) -> Tensor {
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
        let h = encoder(x, Pass()).relu()
        let (m, s, c) = (repeated(mean(h)), repeated(logDeviation(h).clamped(limit: 10)), repeated(context(h)))
        let noise = random.normal([n, Extent(count), Extent(latents)], stream: 5).reshaped([all, Extent(latents)])
        let z = flow.forward(m + s.exp() * noise, Pass(context: c))
        let normal = DiagonalNormal()
        let logPosterior = normal.logProbability(noise) - s.sum(axes: [1]) - z.logDeterminant
        let logits = decoder(z.value, Pass())
        let logLikelihood = (repeated(x) * logits - logits.softplus()).sum(axes: [1])
        return (logLikelihood + normal.logProbability(z.value) - logPosterior).reshaped([n, Extent(count)])
    }

    /// The evidence lower bound in nats, `[batch]`, from one draw.
    public func evidenceLowerBound(_ x: Tensor, _ random: RandomSource) -> Tensor {
        logWeights(x, draws: 1, random).reshaped([x.shape[0]])
    }

    /// The importance-weighted bound (Burda et al. 2016, equation 8), `[batch]`, which rises to log p(x) with the draws.
    public func importanceWeightedBound(_ x: Tensor, draws: Int, _ random: RandomSource) -> Tensor {
        logWeights(x, draws: draws, random).logSumExp(axes: [1]) - Math.log(Double(draws))
    }

    /// Logits of the pixels for latents `[batch, latents]`.
    public func decode(_ z: Tensor) -> Tensor { decoder(z, Pass()) }

    /// The posterior's draw carried through the flow, without noise.
    public func encode(_ x: Tensor) -> Tensor {
        let h = encoder(x, Pass()).relu()
        return flow.forward(mean(h), Pass(context: context(h))).value
    }
}

extension Tensor {
    /// Kept in (-limit, limit), smoothly.
    fileprivate func clamped(limit: Double) -> Tensor { (self / limit).tanh() * limit }
}
