import Graph

/// The log-probabilities of logistic distributions over the whole numbers 0 ..< levels, which stand for equal bins of
/// [-1, 1] (Salimans et al. 2017, equation 2).
///
/// The bin of x lies between `lower` and `upper`, in units of the scale. `sigmoid(u) - sigmoid(l)` equals
/// `sigmoid(u) sigmoid(-l) (1 - exp(l - u))`, so its logarithm is a sum that neither cancels nor underflows, however narrow
/// the scale; the first bin reaches to minus, the last to plus infinity.
struct LogisticBins {
    let levels: Int

    /// The value in [-1, 1] that stands for a level.
    func centre(_ x: Tensor) -> Tensor {
        // Stated as a number: a quotient of literals beside a tensor would be one of the graph's operations.
        let spacing: Double = 2 / Double(levels - 1)
        return x * spacing - 1
    }

    /// log p of level x where the distribution has some means and log scales; all of one shape. Of x that is no level
    /// it is the mass of an interval of the bins' width around it, and of everything below where x is less than 0.5,
    /// above where it is more than levels - 1.5, which are no probabilities: losses are computed by it, so it does not
    /// ask. `DiscretizedLogistic` does.
    func logProbability(_ x: Tensor, mean: Tensor, logScale: Tensor) -> Tensor {
        let inverse = (-logScale).exp()
        let half: Double = 1 / Double(levels - 1)
        let width: Double = -2 * half
        let distance = centre(x) - mean
        let (upper, lower) = ((distance + half) * inverse, (distance - half) * inverse)
        let below = -(-upper).softplus()
        let above = -lower.softplus()
        let between = (-(inverse * width).apply(.expm1)).log()
        return .select(
            x.less(0.5), below,
            .select(x.greater(.scalar(Double(levels) - 1.5, x.elementType)), above, below + above + between))
    }

    /// The level in whose bin a value of [-1, 1] lies; values beyond belong to the outer bins.
    func level(_ value: Tensor) -> Tensor {
        let bins: Double = Double(levels - 1) / 2
        return ((value + 1) * bins + 0.5).apply(.floor).maximum(0).minimum(
            .scalar(Double(levels - 1), value.elementType))
    }

    /// A level drawn from logistic distributions.
    func sample(mean: Tensor, logScale: Tensor, _ random: RandomSource, stream: Int, temperature: Double) -> Tensor {
        let u = random.uniform(mean.shape, stream: stream, as: mean.elementType) + 0x1p-25
        let noise = u.log() - (1 - u).maximum(0x1p-25).log()
        let scale = logScale.exp()
        return level(mean + (temperature == 1 ? scale : scale * temperature) * noise)
    }
}

extension Tensor {
    fileprivate func block(_ start: Int, _ count: Int) -> Tensor { sliced(axis: 1, from: start, count: count) }
}

/// Log scales are kept above -7, as Salimans et al. 2017 do.
private func boundedLogScale(_ raw: Tensor) -> Tensor { raw.maximum(.scalar(-7, raw.elementType)) }

private func checkMixture(levels: Int, components: Int) {
    trap(unless: levels >= 2, "equal bins of [-1, 1] around their ends are at least two, found \(levels) levels")
    trap(unless: components >= 1, "a mixture needs at least one component, found \(components)")
}

/// 1 for the component that each variable draws, `[batch, components, variables]`, and what stands in the place of the others: 0, or NaN
/// where none can be drawn.
func chosenComponent(_ logits: Tensor, _ random: RandomSource, _ temperature: Double) -> (Tensor, Tensor) {
    // A tensor that carries a mistake has no components.
    let components = max(1, logits.shape[1].coefficient)
    let chosen = CategoricalConditional(levels: components).sample(logits, random, temperature: temperature)
        .reshaped([logits.shape[0], 1, logits.shape[2]])
    let isChosen = chosen.broadcast(to: logits.shape).equal(.iota(logits.shape, axis: 1).cast(to: chosen.elementType))
    return (isChosen, .select(chosen.isFinite(), 0, chosen))
}

/// A mixture of discretized logistics for each variable (Salimans et al. 2017, equation 2). The parameters are, one
/// block after the other, logits, means and log scales of the components; variables are whole numbers 0 ..< levels.
/// Losses are computed by it, so it does not ask whether they are: of others `logProbability` is no probability.
public struct DiscretizedLogisticMixture: Conditional {
    public let levels: Int
    public let components: Int

    public init(levels: Int = 256, components: Int = 10) {
        checkMixture(levels: levels, components: components)
        self.levels = levels
        self.components = components
    }

    public var name: String { "mixture of \(components) discretized logistics" }
    public var domain: VariableDomain { .levels(levels) }
    public var parameterCount: Int { 3 * components }
    public var inputCount: Int { 1 }

    public func encode(_ x: Tensor) -> Tensor {
        LogisticBins(levels: levels).centre(x).reshaped([x.shape[0], 1, x.shape[1]])
    }

    public func logProbability(_ x: Tensor, _ parameters: Tensor) -> Tensor {
        let k = components
        let shape = Shape([x.shape[0], Extent(k), x.shape[1]])
        let terms = LogisticBins(levels: levels).logProbability(
            x.reshaped([x.shape[0], 1, x.shape[1]]).broadcast(to: shape), mean: parameters.block(k, k),
            logScale: boundedLogScale(parameters.block(2 * k, k)))
        return (parameters.block(0, k).logSoftmax(axis: 1) + terms).logSumExp(axes: [1])
    }

    public func sample(_ parameters: Tensor, _ random: RandomSource, temperature: Double) -> Tensor {
        let k = components
        let (isChosen, other) = chosenComponent(parameters.block(0, k), random, temperature)
        let pick = { (t: Tensor) in Tensor.select(isChosen, t, other).sum(axes: [1]) }
        return LogisticBins(levels: levels).sample(
            mean: pick(parameters.block(k, k)), logScale: pick(boundedLogScale(parameters.block(2 * k, k))), random,
            stream: 2, temperature: temperature)
    }
}

/// PixelCNN++'s distribution of a pixel of three channels (Salimans et al. 2017, section 2.2): a mixture of discretized
/// logistics whose components are shared by the channels, the mean of green linear in red, that of blue in red and green.
///
/// The parameters of a pixel are K logits, then means and log scales of the K components for red, green and blue, then three
/// blocks of K coefficients (red to green, red to blue, green to blue; bounded by tanh). The variables of a pixel are drawn
/// together; `logProbability` is `[batch, pixels]`, and no probability where a variable is not one of 0 ..< levels.
public struct CoupledLogisticMixture: Conditional {
    public let levels: Int
    public let components: Int

    public init(levels: Int = 256, components: Int = 10) {
        checkMixture(levels: levels, components: components)
        self.levels = levels
        self.components = components
    }

    public var name: String { "mixture of \(components) discretized logistics, coupled over channels" }
    public var domain: VariableDomain { .levels(levels) }
    public var parameterCount: Int { 10 * components }
    public var inputCount: Int { 1 }
    public var variablesPerSite: Int { 3 }

    public func encode(_ x: Tensor) -> Tensor {
        LogisticBins(levels: levels).centre(x).reshaped([x.shape[0], 1, x.shape[1]])
    }

    /// Means of one channel given the centres of the channels before it.
    private func mean(_ channel: Int, _ parameters: Tensor, _ earlier: [Tensor]) -> Tensor {
        let k = components
        var result = parameters.block(k * (1 + channel), k)
        for (index, value) in earlier.enumerated() {
            let coefficient = parameters.block(k * (7 + (channel == 1 ? 0 : 1 + index)), k).tanh()
            result = result + coefficient * value
        }
        return result
    }

    private func logScale(_ channel: Int, _ parameters: Tensor) -> Tensor {
        boundedLogScale(parameters.block(components * (4 + channel), components))
    }

    public func logProbability(_ x: Tensor, _ parameters: Tensor) -> Tensor {
        let bins = LogisticBins(levels: levels)
        let pixels = x.shape[1].coefficient / 3
        let shape = Shape([x.shape[0], Extent(components), Extent(pixels)])
        let channels = (0..<3).map {
            x.sliced(axis: 1, from: $0 * pixels, count: pixels).reshaped([x.shape[0], 1, Extent(pixels)])
                .broadcast(to: shape)
        }
        let terms = (0..<3).map { c in
            bins.logProbability(
                channels[c], mean: mean(c, parameters, channels.prefix(c).map(bins.centre)),
                logScale: logScale(c, parameters))
        }
        return (parameters.block(0, components).logSoftmax(axis: 1) + terms[0] + terms[1] + terms[2])
            .logSumExp(axes: [1])
    }

    public func sample(_ parameters: Tensor, _ random: RandomSource, temperature: Double) -> Tensor {
        let bins = LogisticBins(levels: levels)
        let (isChosen, other) = chosenComponent(parameters.block(0, components), random, temperature)
        let pick = { (t: Tensor) in Tensor.select(isChosen, t, other).sum(axes: [1], keepingAxes: true) }
        // The channels drawn so far, each `[batch, 1, pixels]`.
        var drawn: [Tensor] = []
        for c in 0..<3 {
            var mean = pick(parameters.block(components * (1 + c), components))
            for (index, level) in drawn.enumerated() {
                let raw = parameters.block(components * (7 + (c == 1 ? 0 : 1 + index)), components)
                mean = mean + pick(raw.tanh()) * bins.centre(level)
            }
            drawn.append(
                bins.sample(
                    mean: mean, logScale: pick(logScale(c, parameters)), random, stream: 2 + c, temperature: temperature
                ))
        }
        return Tensor.concatenate(drawn, axis: 1).reshaped([parameters.shape[0], parameters.shape[2] * 3])
    }
}
