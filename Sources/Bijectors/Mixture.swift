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

/// One component of a mixture at a point: the logarithms of its distribution function, of the complement, and of its density over
/// both, which stays small where they grow with the distance from the middle.
private typealias Component = (logBelow: Tensor, logAbove: Tensor, logRatio: Tensor)

/// A mixture's distribution function brought back to the whole line by the logit, computed from the logarithms of the function and
/// of its complement, which are accurate in both tails.
///
/// - Parameter logWeights: logarithms of weights that add up to one.
private func logit(_ logWeights: [Tensor], _ components: [Component]) -> (value: Tensor, logDerivative: Tensor) {
    // Far out the logarithms are large and all but cancel in the derivative: everything is taken relative to the greatest terms.
    let low = zip(logWeights, components).map { $0 + $1.logBelow }
    let high = zip(logWeights, components).map { $0 + $1.logAbove }
    let (topLow, topHigh) = (greatest(low).stoppingGradient(), greatest(high).stoppingGradient())
    let (lows, highs) = (low.map { $0 - topLow }, high.map { $0 - topHigh })
    let (logLow, logHigh) = (total(lows.map { $0.exp() }).log(), total(highs.map { $0.exp() }).log())
    let logDensity = logSumExp(
        logWeights.indices.map { lows[$0] + highs[$0] - logWeights[$0] + components[$0].logRatio })
    return (topLow - topHigh + logLow - logHigh, logDensity - logLow - logHigh)
}

/// sigmoid(u) as a component, for u increasing in x with the slope `exp(logSlope)`.
private func sigmoid(_ u: Tensor, _ logSlope: Tensor) -> Component {
    (-(-u).softplus(), -u.softplus(), logSlope)
}

/// Phi(u) of the standard normal as a component. The smaller tail is `phi(u) / hazard(u)`, which loses nothing far out.
private func normal(_ u: Tensor, _ logSlope: Tensor) -> Component {
    let isLow = u.less(0)
    let logHazard = Tensor.select(isLow, -u, u).apply(.hazard).log()
    let logTail = u * u * -0.5 - 0.91893853320467274 - logHazard
    let logRest = (-logTail.exp()).log1p()
    return (.select(isLow, logTail, logRest), .select(isLow, logRest, logTail), logHazard - logRest + logSlope)
}

private func least(_ terms: [Tensor]) -> Tensor { terms.dropFirst().reduce(terms[0]) { $0.minimum($1) } }
private func greatest(_ terms: [Tensor]) -> Tensor { terms.dropFirst().reduce(terms[0]) { $0.maximum($1) } }

/// `z = logit(F(x))` with F the distribution function of a mixture of logistics (Flow++, Ho et al. 2019, equation 5) or of Gaussians.
/// Over a logistic base the conditionals are these mixtures themselves; with Gaussians those of a MADE MoG (Papamakarios et al.
/// 2017, section 4.1) as a bijector, which has a place anywhere in a stack and either direction.
/// Parameters, each `components` numbers: weight logits, means, log scales (kept in (-7, 7), smoothly).
public struct MixtureCDFTransformer: Transformer {
    public enum Kind: String, Hashable, Sendable { case logistic, gaussian }

    public let kind: Kind
    public let components: Int

    public init(_ kind: Kind = .logistic, components: Int = 4) {
        trap(unless: components >= 1, "a mixture needs at least one component, found \(components)")
        self.kind = kind
        self.components = components
    }

    public var name: String {
        "distribution function of \(components) \(kind == .logistic ? "logistics" : "Gaussians")"
    }
    public var parameterCount: Int { 3 * components }
    public var inverseFormula: String {
        "the root of an increasing function between two bounds, by guarded Newton steps"
    }

    private func parts(_ p: [Tensor]) -> (logWeights: [Tensor], means: [Tensor], logScales: [Tensor]) {
        (
            logSoftmax(Array(p[0..<components])), Array(p[components..<2 * components]),
            p[2 * components..<3 * components].map { ($0 / 7).tanh() * 7 }
        )
    }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let (weights, means, scales) = parts(p)
        let components = zip(means, scales).map { mean, scale in
            let u = (x - mean) * (-scale).exp()
            return kind == .logistic ? sigmoid(u, -scale) : normal(u, -scale)
        }
        return logit(weights, components)
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let (_, means, scales) = parts(p)
        // Each component has the value that F is to take at mean + scale u, and F has it between the first and the last of these
        // places. For logistics u = z. For Gaussians u has the sign of z and |u| <= sqrt(2 |z|), as logit(Phi(u)) >= u^2 / 2 above 0.
        let reach = (z.absolute() * 2).sqrt()
        let zero = Tensor.scalar(0, z.elementType)
        let first = kind == .logistic ? z : .select(z.less(0), -reach, zero)
        let last = kind == .logistic ? z : .select(z.less(0), zero, reach)
        let x = monotoneRoot(
            z, low: least(zip(means, scales).map { $0 + first * $1.exp() }),
            high: greatest(zip(means, scales).map { $0 + last * $1.exp() })
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
        trap(
            unless:
                units >= 1 && layers >= 1,
            "a deep sigmoidal transformer needs at least one layer of one unit, found \(layers) layers of \(units) units"
        )
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
        logit(p.logWeights, zip(p.slopes, p.offsets).map { sigmoid(x * $0 + $1, $0.log()) })
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
                value, low: least(candidates), high: greatest(candidates)
            ) { x in
                let (value, log) = layer(x, own)
                return (value, log.exp())
            }
        }
        // Each layer's root is right for the target that it was given; where the layers behind are flat that target is not.
        if layers > 1 {
            let x = value.stoppingGradient()
            value = .select(isSettled(x, z) { forward($0, p).value }, value, .scalar(.nan, z.elementType))
        }
        return (value, -forward(value, p).logDerivative)
    }
}
