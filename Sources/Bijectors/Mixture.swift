import Graph

/// Sums of many terms of one shape, one element at a time: what `logSumExp` is over an axis, here over a list, so that the
/// whole stays one elementwise computation.
func logSumExp(_ terms: [Tensor]) -> Tensor {
    let top = terms.dropFirst().reduce(terms[0]) { $0.maximum($1) }.stoppingGradient()
    return total(terms.map { ($0 - top).exp() }).log() + top
}

func total(_ terms: [Tensor]) -> Tensor { terms.dropFirst().reduce(terms[0]) { $0 + $1 } }

func logSoftmax(_ raw: [Tensor]) -> [Tensor] {
    let norm = logSumExp(raw)
    return raw.map { $0 - norm }
}

/// A sum of weighted sigmoids `sum over k of w[k] sigmoid(u[k])` brought back to the whole line by the logit, computed from
/// the logarithms of the sum and of its complement, which are accurate in both tails.
///
/// - Parameters:
///   - logWeights: logarithms of weights that add up to one.
///   - arguments: u, increasing in x.
///   - logSlopes: log du/dx.
private func logitOfSigmoids(_ logWeights: [Tensor], _ arguments: [Tensor], _ logSlopes: [Tensor])
    -> (value: Tensor, logDerivative: Tensor)
{
    let below = arguments.map { (-$0).softplus() }
    let above = arguments.map { $0.softplus() }
    let logLow = logSumExp(zip(logWeights, below).map { $0 - $1 })
    let logHigh = logSumExp(zip(logWeights, above).map { $0 - $1 })
    let logDensity = logSumExp(
        arguments.indices.map { logWeights[$0] - below[$0] - above[$0] + logSlopes[$0] })
    return (logLow - logHigh, logDensity - logLow - logHigh)
}

/// `z = logit(F(x))` with F the distribution function of a mixture of logistics (Flow++, Ho et al. 2019, equation 5).
/// Parameters, each `components` numbers: weight logits, means, log scales (kept in (-7, 7), smoothly).
///
/// At x = mean[k] + scale[k] z the k-th sigmoid has the value that F is to take, so the smallest and the largest of these
/// hold the root between them.
public struct MixtureCDFTransformer: Transformer {
    public let components: Int

    public init(components: Int = 4) { self.components = components }

    public var name: String { "distribution function of \(components) logistics" }
    public var parameterCount: Int { 3 * components }
    public var inverseFormula: String { "the root of an increasing function between two bounds, by guarded Newton steps" }

    private func parts(_ p: [Tensor]) -> (logWeights: [Tensor], means: [Tensor], logScales: [Tensor]) {
        (
            logSoftmax(Array(p[0..<components])), Array(p[components..<2 * components]),
            p[2 * components..<3 * components].map { ($0 / 7).tanh() * 7 }
        )
    }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let (weights, means, scales) = parts(p)
        return logitOfSigmoids(
            weights, zip(means, scales).map { (x - $0) * (-$1).exp() }, scales.map { -$0 })
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let (_, means, scales) = parts(p)
        let candidates = zip(means, scales).map { $0 + z * $1.exp() }
        let x = monotoneRoot(
            z, low: candidates.dropFirst().reduce(candidates[0]) { $0.minimum($1) },
            high: candidates.dropFirst().reduce(candidates[0]) { $0.maximum($1) }
        ) { x in
            let (value, log) = forward(x, p)
            return (value, log.exp())
        }
        return (x, -forward(x, p).logDerivative)
    }
}

/// The deep sigmoidal flow of a neural autoregressive flow (Huang et al. 2018, equation 8): `logit(sum of w sigmoid(a x + b))`,
/// several times. Parameters for each layer, `units` numbers each: raw slopes (a = softplus + 0.001), offsets b, weight logits.
public struct DeepSigmoidTransformer: Transformer {
    public let units: Int
    public let layers: Int

    public init(units: Int = 8, layers: Int = 1) {
        self.units = units
        self.layers = layers
    }

    public var name: String { "deep sigmoidal, \(layers) x \(units) units" }
    public var parameterCount: Int { 3 * units * layers }
    public var inverseFormula: String {
        "layer by layer, the root of an increasing function between two bounds, by guarded Newton steps"
    }

    private func parts(_ p: [Tensor], _ layer: Int) -> (logWeights: [Tensor], slopes: [Tensor], offsets: [Tensor]) {
        let own = Array(p[3 * units * layer..<3 * units * (layer + 1)])
        return (
            logSoftmax(Array(own[2 * units..<3 * units])), own[0..<units].map { $0.softplus() + 0.001 },
            Array(own[units..<2 * units])
        )
    }

    private func layer(_ x: Tensor, _ p: (logWeights: [Tensor], slopes: [Tensor], offsets: [Tensor]))
        -> (value: Tensor, logDerivative: Tensor)
    {
        logitOfSigmoids(p.logWeights, zip(p.slopes, p.offsets).map { x * $0 + $1 }, p.slopes.map { $0.log() })
    }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        var (value, log) = layer(x, parts(p, 0))
        for index in 1..<max(layers, 1) {
            let next = layer(value, parts(p, index))
            (value, log) = (next.value, log + next.logDerivative)
        }
        return (value, log)
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        var value = z
        for index in (0..<layers).reversed() {
            let own = parts(p, index)
            let candidates = zip(own.slopes, own.offsets).map { (value - $1) / $0 }
            value = monotoneRoot(
                value, low: candidates.dropFirst().reduce(candidates[0]) { $0.minimum($1) },
                high: candidates.dropFirst().reduce(candidates[0]) { $0.maximum($1) }
            ) { x in
                let (value, log) = layer(x, own)
                return (value, log.exp())
            }
        }
        return (value, -forward(value, p).logDerivative)
    }
}
