import Graph

/// Real variables: a mixture of Gaussians with logits, means and log standard deviations (RNADE, Uria et al. 2013).
public struct MixtureOfGaussians: Conditional {
    public let components: Int
    /// No component is narrower. Where values are rounded, or repeat, a likelihood has no bound without it. 0 is e⁻⁷.
    public let leastScale: Double

    public init(components: Int, leastScale: Double = 0) {
        trap(unless: components >= 1, "a mixture needs at least one component, found \(components)")
        trap(unless: (0..<1).contains(leastScale), "a least scale lies in [0, 1), found \(leastScale)")
        self.components = components
        self.leastScale = leastScale
    }
    public var name: String { "mixture of \(components) gaussians" }
    public var domain: VariableDomain { .real }
    public var parameterCount: Int { 3 * components }
    public var inputCount: Int { 1 }

    public func encode(_ x: Tensor) -> Tensor { x.reshaped([x.shape[0], 1, x.shape[1]]) }

    private func logDeviation(_ parameters: Tensor) -> Tensor {
        parameters.blocks(2 * components, components).boundedLogScale(least: leastScale)
    }

    public func logProbability(_ x: Tensor, _ parameters: Tensor) -> Tensor {
        let logWeights = parameters.blocks(0, components).logSoftmax(axis: 1)
        let logScale = logDeviation(parameters)
        let z = (encode(x) - parameters.blocks(components, components)) * (-logScale).exp()
        let logDensity = z.squared() * -0.5 - logScale - 0.9189385332046727
        return (logWeights + logDensity).logSumExp(axes: [1])
    }

    public func sample(_ parameters: Tensor, _ random: RandomSource, temperature: Double) -> Tensor {
        let (isChosen, other) = chosenComponent(parameters.blocks(0, components), random, temperature)
        let pick = { (t: Tensor) in Tensor.select(isChosen, t, other).sum(axes: [1]) }
        let mean = pick(parameters.blocks(components, components))
        let deviation = pick(logDeviation(parameters)).exp()
        return mean + (temperature == 1 ? deviation : deviation * temperature)
            * random.normal(mean.shape, stream: 2, as: mean.elementType)
    }
}

extension Tensor {
    /// Log scales kept in (-7, 7), smoothly, so that no density is infinite, and above the logarithm of `least`, if that is not 0.
    func boundedLogScale(least: Double) -> Tensor {
        let bounded = (self / 7).tanh() * 7
        if least == 0 { return bounded }
        let floor = Math.log(least)
        return (bounded - floor).softplus() + floor
    }
}
