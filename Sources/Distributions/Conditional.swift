import Graph

/// The conditional distribution of one variable given the parameters that a network computed for it, for all variables of
/// an example at once.
///
/// Networks put parameters last but one block at a time: `parameters` is `[batch, parameterCount, variables]`, so that the
/// output units of one kind lie together in the order of the variables (of the sites, where several variables share one).
public protocol Conditional {
    var name: String { get }
    /// What a variable may hold.
    var domain: VariableDomain { get }
    /// Numbers that the network computes for each variable.
    var parameterCount: Int { get }
    /// Network inputs for each variable.
    var inputCount: Int { get }
    /// Variables that share parameters and are drawn together, one from each run of the variables: the channels of a pixel.
    var variablesPerSite: Int { get }

    /// x `[batch, variables]` as the network reads it, `[batch, inputCount, variables]`.
    func encode(_ x: Tensor) -> Tensor
    /// log p(x | parameters) in nats, `[batch, variables]`.
    func logProbability(_ x: Tensor, _ parameters: Tensor) -> Tensor
    /// A draw `[batch, variables]`.
    /// - Parameter temperature: divides logits and multiplies standard deviations; 1 draws from the distribution itself.
    func sample(_ parameters: Tensor, _ random: RandomSource, temperature: Double) -> Tensor
}

extension Conditional {
    public var variablesPerSite: Int { 1 }

    public func sample(_ parameters: Tensor, _ random: RandomSource) -> Tensor {
        sample(parameters, random, temperature: 1)
    }
}

extension Tensor {
    /// Block `index` of `[batch, blocks, variables]`, or a run of them.
    func block(_ index: Int) -> Tensor {
        sliced(axis: 1, from: index, count: 1).reshaped([shape[0], shape[2]])
    }

    /// The tensor itself at temperature 1, so that the usual draw is not rounded twice.
    func divided(by temperature: Double) -> Tensor { temperature == 1 ? self : self * (1 / temperature) }

    func blocks(_ start: Int, _ count: Int) -> Tensor { sliced(axis: 1, from: start, count: count) }
}

/// Binary variables; the parameter is the logit. log p = x l - softplus(l), which for x other than 0 and 1 is no
/// probability: losses are computed by it, so it does not ask. `Bernoulli` does.
public struct BernoulliConditional: Conditional {
    public init() {}
    public var name: String { "bernoulli" }
    public var domain: VariableDomain { .binary }
    public var parameterCount: Int { 1 }
    public var inputCount: Int { 1 }

    public func encode(_ x: Tensor) -> Tensor { x.reshaped([x.shape[0], 1, x.shape[1]]) }

    public func logProbability(_ x: Tensor, _ parameters: Tensor) -> Tensor {
        let logits = parameters.block(0)
        return x * logits - logits.softplus()
    }

    public func sample(_ parameters: Tensor, _ random: RandomSource, temperature: Double) -> Tensor {
        random.bernoulli(parameters.block(0).divided(by: temperature).sigmoid(), stream: 0)
    }
}

/// Variables with values 0 ..< levels, given as numbers; the parameters are unnormalised log-probabilities. Of a number
/// that is no level `logProbability` is minus the logarithm of their sum, which is no probability: losses are computed
/// by it, so it does not ask. `Categorical` does.
public struct CategoricalConditional: Conditional {
    public let levels: Int
    public init(levels: Int) {
        trap(unless: levels >= 1, "a category needs at least one level, found \(levels)")
        self.levels = levels
    }
    public var name: String { "categorical" }
    public var domain: VariableDomain { .levels(levels) }
    public var parameterCount: Int { levels }
    public var inputCount: Int { levels }

    private func isLevel(_ x: Tensor) -> Tensor {
        let shape = Shape([x.shape[0], Extent(levels), x.shape[1]])
        return x.reshaped([x.shape[0], 1, x.shape[1]]).broadcast(to: shape)
            .equal(Tensor.iota(shape, axis: 1).cast(to: x.elementType))
    }

    /// One-hot.
    public func encode(_ x: Tensor) -> Tensor { isLevel(x).cast(to: x.elementType) }

    public func logProbability(_ x: Tensor, _ parameters: Tensor) -> Tensor {
        Tensor.select(isLevel(x), parameters, 0).sum(axes: [1]) - parameters.logSumExp(axes: [1])
    }

    /// The level of the largest logit plus Gumbel noise; the first where two are equal. NaN where a logit is NaN or all are minus
    /// infinity: no level is right then.
    public func sample(_ parameters: Tensor, _ random: RandomSource, temperature: Double) -> Tensor {
        // -log(-log u); u is kept off zero, where the logarithm has no value. The largest, moved like all, is rounded to 1, where the
        // noise would be infinite and draw what is impossible.
        let type = parameters.elementType
        let u = random.uniform(parameters.shape, stream: 1, as: type) + 0x1p-25
        let noisy = parameters.divided(by: temperature) - (-u.log()).maximum(0x1p-25).log()
        let best = noisy.max(axes: [1], keepingAxes: true)
        let level = Tensor.iota(parameters.shape, axis: 1).cast(to: type)
        let none = Tensor.scalar(Double(levels), type)
        let isBest = noisy.equal(best).and(noisy.greater(.scalar(-.infinity, type)))
        let first = Tensor.select(isBest, level, none).min(axes: [1])
        return .select(first.less(none), first, .scalar(.nan, type))
    }
}
