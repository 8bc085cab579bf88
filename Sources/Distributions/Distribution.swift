import Graph
import Layers

/// A distribution over examples: its density, draws, and entropy where that is known.
///
/// It may be conditional: then it reads the features of the context that it is handed, as a bijector does. One whose parameters are
/// for examples of a shape takes no others: that is a mistake of the graph, thrown by `compile`.
public protocol Distribution: Module {
    var name: String { get }
    /// log p(x) in nats, `[batch]`, of x `[batch, ..]`.
    func logProbability(_ x: Tensor, _ context: Context) -> Tensor
    /// Draws of a shape `[batch, ..]`, made of the context's random numbers.
    /// - Parameter temperature: multiplies what a draw is away from its mean, and divides logits; 1 draws from the distribution itself.
    func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor
    /// In nats for an example of a shape, a scalar; `nil` where no formula is known.
    func entropy(_ example: [Int]) -> Tensor?
    /// The distributions that this one is made of.
    var parts: [any Distribution] { get }
}

extension Distribution {
    public func entropy(_ example: [Int]) -> Tensor? { nil }
    public var parts: [any Distribution] { [] }

    /// log p(x) in nats, `[batch]`, where nothing is given.
    public func logProbability(_ x: Tensor) -> Tensor { logProbability(x, Context()) }

    /// Draws of a shape `[batch, ..]`, where nothing is given.
    public func sample(_ shape: Shape, _ random: RandomSource) -> Tensor {
        sample(shape, Context(random: random), temperature: 1)
    }
}

/// log(2 pi) / 2
public let halfLogTwoPi = 0.9189385332046727

extension Tensor {
    /// The sum over everything but the batch, `[batch]`.
    func overEvent() -> Tensor { shape.rank > 1 ? sum(axes: Array(1..<shape.rank)) : self }

    /// The tensor itself at temperature 1, so that the usual draw is not rounded twice.
    func heated(by temperature: Double) -> Tensor { temperature == 1 ? self : self * temperature }

    /// This tensor, computed from parameters for examples of a shape, or a mistake where another shape is asked for.
    fileprivate func parameters(for example: [Int], _ asked: [Int], of distribution: String) -> Tensor {
        asked == example
            ? self : .misuse(distribution, "expected examples of shape \(example), found \(asked)", of: self)
    }

    /// log p of whole numbers 0 ..< levels by a rule that is asked about no others: those have minus infinity, NaN has
    /// NaN, and no gradient passes through either.
    fileprivate func onLevels(_ levels: Int, _ logProbability: (Tensor) -> Tensor) -> Tensor {
        let x = elementType.isFloatingPoint ? self : cast(to: .float32)
        let end = Tensor.scalar(Double(levels), x.elementType)
        let isLevel = x.greaterOrEqual(0).and(x.less(end)).and(x.equal(x.apply(.floor)))
        let isOther = x.less(0).or(x.greaterOrEqual(0))
        let logs = logProbability(.select(isLevel, x, 0))
        let constant = { (value: Double) in Tensor.scalar(value, logs.elementType) }
        return .select(isLevel, logs, .select(isOther, constant(-.infinity), constant(.nan)))
    }
}

/// Independent normals; standard if it has no parameters.
public struct DiagonalNormal: Distribution {
    public let mean: Parameter?
    public let logDeviation: Parameter?

    public init() {
        mean = nil
        logDeviation = nil
    }

    /// With trained means and standard deviations for examples of a shape.
    public init(_ shape: [Int]) {
        mean = Parameter(shape, .zeros)
        logDeviation = Parameter(shape, .zeros)
    }

    public var name: String { mean == nil ? "standard normal" : "diagonal normal" }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        let x = mean.map { x.examples(of: $0.shape, for: name) } ?? x
        let centred = mean.map { x - $0.tensor } ?? x
        let z = logDeviation.map { centred * (-$0.tensor).exp() } ?? centred
        let terms = z.squared() * -0.5 - halfLogTwoPi
        return (logDeviation.map { terms - $0.tensor.broadcast(to: x.shape) } ?? terms).overEvent()
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let noise = context.random.normal(shape, stream: 3, as: element).heated(by: temperature)
        let z = mean.map { noise.examples(of: $0.shape, for: name) } ?? noise
        let scaled = logDeviation.map { z * $0.tensor.exp() } ?? z
        return mean.map { scaled + $0.tensor } ?? scaled
    }

    public func entropy(_ example: [Int]) -> Tensor? {
        let constant = Double(example.reduce(1, *)) * (halfLogTwoPi + 0.5)
        return logDeviation.map { $0.tensor.parameters(for: $0.shape, example, of: name).sum() + constant }
            ?? .scalar(constant)
    }
}

/// A normal with any covariance `L transposed(L)`, L lower triangular with diagonal exp(logDiagonal). Vectors `[batch, D]`.
public struct FullNormal: Distribution {
    public let mean: Parameter
    public let lower: Parameter
    public let logDiagonal: Parameter
    public let count: Int

    public init(_ count: Int) {
        trap(unless: count >= 1, "a normal needs at least one variable, found \(count)")
        self.count = count
        mean = Parameter([count], .zeros)
        lower = Parameter([count, count], .zeros)
        logDiagonal = Parameter([count], .zeros)
    }

    public var name: String { "normal with full covariance" }

    private var factor: Tensor {
        let shape = Shape([count, count])
        let (row, column) = (Tensor.iota(shape, axis: 0), Tensor.iota(shape, axis: 1))
        return Tensor.select(
            column.less(row), lower.tensor, .select(column.equal(row), logDiagonal.tensor.exp().broadcast(to: shape), 0)
        )
    }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        // One solve with a unit matrix, not one for each example.
        let eye = Tensor.iota([Extent(count), Extent(count)], axis: 0)
            .equal(.iota([Extent(count), Extent(count)], axis: 1)).cast(to: x.elementType)
        let whiten = factor.triangularSolve(eye, isLower: true)
        let z = (x.examples(of: [count], for: name) - mean.tensor).matmul(whiten.matrixTransposed())
        return (z.squared() * -0.5 - halfLogTwoPi).overEvent() - logDiagonal.tensor.sum()
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        context.random.normal(shape, stream: 3, as: element).heated(by: temperature)
            .examples(of: [count], for: name).matmul(factor.matrixTransposed()) + mean.tensor
    }

    public func entropy(_ example: [Int]) -> Tensor? {
        logDiagonal.tensor.parameters(for: [count], example, of: name).sum() + Double(count) * (halfLogTwoPi + 0.5)
    }
}

/// Independent standard logistics, the base of NICE (Dinh et al. 2015, section 3.4): log p = -softplus(x) - softplus(-x).
public struct Logistic: Distribution {
    public init() {}
    public var name: String { "standard logistic" }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        (-(x.softplus() + (-x).softplus())).overEvent()
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        Self.draw(context.random.uniform(shape, stream: 3)).heated(by: temperature)
    }

    /// The logit of a uniform number; the largest, moved off zero like all, is rounded to 1.
    static func draw(_ uniform: Tensor) -> Tensor {
        let u = uniform + 0x1p-25
        return u.log() - (1 - u).maximum(0x1p-25).log()
    }

    public func entropy(_ example: [Int]) -> Tensor? { .scalar(2 * Double(example.reduce(1, *))) }
}

/// Independent uniforms on [low, high); minus infinity outside. Draws are float32 numbers inside, at any temperature.
public struct Uniform: Distribution {
    public let low: Double
    public let high: Double

    public init(_ low: Double = 0, _ high: Double = 1) {
        trap(
            unless:
                Float(high - low).isFinite && Float(high).isFinite,
            "an interval that is not finite in float32 has no uniform distribution, found [\(low), \(high))")
        self.low = low
        self.high = high
        trap(
            unless:
                least <= greatest,
            "an interval that holds no float32 number has no uniform distribution, found [\(low), \(high))")
    }

    /// The ends of what can be drawn: inside for those who compare with the ends as they are, or rounded to float32.
    private var least: Float { Double(Float(low)) < low ? Float(low).nextUp : Float(low) }
    private var greatest: Float { Float(high).nextDown }

    public var name: String { "uniform on [\(low), \(high))" }
    private var logWidth: Double { Math.log(high - low) }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        let isInside = x.greaterOrEqual(.scalar(low, x.elementType)).and(x.less(.scalar(high, x.elementType)))
        let isOutside = x.less(.scalar(low, x.elementType)).or(x.greaterOrEqual(.scalar(high, x.elementType)))
        // What is neither is no number, and has no density.
        return Tensor.select(
            isInside, .scalar(-logWidth, x.elementType),
            .select(isOutside, .scalar(-.infinity, x.elementType), .scalar(.nan, x.elementType))
        ).overEvent()
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let uniform = context.random.uniform(shape, stream: 3)
        let share = temperature == 1 ? uniform : (uniform - 0.5) * temperature + 0.5
        // The sum may be rounded up to the end that is not inside.
        return (share * (high - low) + low).maximum(.scalar(Double(least))).minimum(.scalar(Double(greatest)))
    }

    public func entropy(_ example: [Int]) -> Tensor? { .scalar(Double(example.reduce(1, *)) * logWidth) }
}

/// Independent binary variables with trained logits. Numbers other than 0 and 1 have log p minus infinity and gradients
/// of zero.
public struct Bernoulli: Distribution {
    public let logits: Parameter

    public init(_ shape: [Int]) { logits = Parameter(shape, .zeros) }

    public var name: String { "independent Bernoullis" }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        x.examples(of: logits.shape, for: name)
            .onLevels(2) { $0 * logits.tensor - logits.tensor.softplus() }.overEvent()
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let probabilities = logits.tensor.divided(by: temperature).sigmoid().broadcast(to: shape)
        return context.random.bernoulli(probabilities, stream: 0).examples(of: logits.shape, for: name)
    }

    public func entropy(_ example: [Int]) -> Tensor? {
        let l = logits.tensor.parameters(for: logits.shape, example, of: name)
        return (l.softplus() - l * l.sigmoid()).sum()
    }
}

/// One of some levels 0 ..< n for each variable, independently, with trained logits `[variables, levels]`; x
/// `[batch, variables]`. Other numbers have log p minus infinity and gradients of zero.
public struct Categorical: Distribution {
    public let logits: Parameter
    public let levels: Int

    public init(variables: Int, levels: Int) {
        trap(unless: levels >= 1, "a category needs at least one level, found \(levels)")
        self.levels = levels
        logits = Parameter([variables, levels], .zeros)
    }

    public var name: String { "independent categories of \(levels)" }

    private func parameters(_ batch: Extent) -> Tensor {
        let l = logits.tensor.matrixTransposed()
        return l.broadcast(to: Shape([batch] + l.shape.dimensions))
    }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        x.examples(of: [logits.shape[0]], for: name)
            .onLevels(levels) { CategoricalConditional(levels: levels).logProbability($0, parameters($0.shape[0])) }
            .overEvent()
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let drawn = CategoricalConditional(levels: levels).sample(
            parameters(shape[0]), context.random, temperature: temperature)
        return drawn.shape == shape
            ? drawn : .misuse(name, "expected draws of \(drawn.shape), found \(shape)", of: drawn)
    }

    public func entropy(_ example: [Int]) -> Tensor? {
        let l = logits.tensor.parameters(for: [logits.shape[0]], example, of: name).logSoftmax(axis: 1)
        return -(l.exp() * l).sum()
    }
}

/// Whole numbers 0 ..< levels: a logistic's mass in the unit interval around each, the ends taking the tails (Kingma et al.
/// 2016, equation 17; Salimans et al. 2017, equation 2). Trained means and log-scales for examples of a shape. Other
/// numbers have log p minus infinity and gradients of zero.
public struct DiscretizedLogistic: Distribution {
    public let mean: Parameter
    public let logScale: Parameter
    public let levels: Int

    public init(_ shape: [Int], levels: Int) {
        trap(unless: levels >= 1, "a discretized logistic needs at least one level, found \(levels)")
        self.levels = levels
        mean = Parameter(shape, .constant(Float(levels - 1) / 2))
        logScale = Parameter(shape, .constant(Float(Math.log(Double(levels) / 8))))
    }

    public var name: String { "discretized logistics of \(levels) levels" }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        x.examples(of: mean.shape, for: name).onLevels(levels, onLevel).overEvent()
    }

    private func onLevel(_ x: Tensor) -> Tensor {
        let inverse = (-logScale.tensor).exp()
        let upper = (x + 0.5 - mean.tensor) * inverse
        let lower = (x - 0.5 - mean.tensor) * inverse
        // log(sigmoid(upper) - sigmoid(lower)), from logarithms of both tails so that nothing cancels:
        // sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u)).
        let middle = -(-upper).softplus() - lower.softplus() + (-(-inverse).apply(.expm1)).log()
        let isFirst = x.less(.scalar(0.5, x.elementType))
        let isLast = x.greater(.scalar(Double(levels) - 1.5, x.elementType))
        // An only level takes both tails.
        let first: Tensor = levels == 1 ? .scalar(0, x.elementType) : -(-upper).softplus()
        return .select(isFirst, first, .select(isLast, -lower.softplus(), middle))
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let u = context.random.uniform(shape, stream: 3, as: element).examples(of: mean.shape, for: name) + 0x1p-25
        let x = mean.tensor + (u.log() - (-u).log1p()).heated(by: temperature) * logScale.tensor.exp()
        return (x + 0.5).apply(.floor).maximum(.scalar(0, x.elementType))
            .minimum(.scalar(Double(levels - 1), x.elementType))
    }
}

/// A weighted choice between distributions of one shape, flows among them. What no component can draw has log p minus infinity and
/// gradients of zero. Draws are made by every component, and one is kept.
public struct Mixture: Distribution {
    public let components: [any Distribution]
    public let logits: Parameter

    public init(_ components: [any Distribution]) {
        trap(unless: !components.isEmpty, "a mixture needs at least one component, found none")
        self.components = components
        logits = Parameter([components.count], .zeros)
    }

    public var name: String { "mixture of \(components.count)" }
    public var parts: [any Distribution] { components }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        let n = x.shape[0]
        let logs = components.map { $0.logProbability(x, context).reshaped([n, 1]) }
        let joined = logs.count > 1 ? Tensor.concatenate(logs, axis: 1) : logs[0]
        let terms = joined + logits.tensor.logSoftmax(axis: 0)
        // No component is responsible for what none can draw: its gradient would be zero over zero.
        let isImpossible = terms.max(axes: [1], keepingAxes: true).equal(.scalar(-.infinity, terms.elementType))
        let possible = Tensor.select(isImpossible.broadcast(to: terms.shape), 0, terms).logSumExp(axes: [1])
        return .select(isImpossible.reshaped([n]), .scalar(-.infinity, possible.elementType), possible)
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let flat = logits.tensor.reshaped([1, Extent(components.count), 1])
            .broadcast(to: [shape[0], Extent(components.count), 1])
        let chosen = CategoricalConditional(levels: components.count)
            .sample(flat, context.random, temperature: temperature)
            .reshaped(Shape([shape[0]] + shape.dimensions.dropFirst().map { _ in 1 })).broadcast(to: shape)
        // Numbers of their own: a component that chooses, too, must not choose by those that chose it.
        var inner = context
        inner.random = context.random.substream(16)
        let draws = components.map { $0.sample(shape, inner, temperature: temperature) }
        let drawn = draws.enumerated().dropFirst().reduce(draws[0]) { so, next in
            .select(chosen.equal(.scalar(Double(next.offset), chosen.elementType)), next.element, so)
        }
        // Nothing is drawn where no component is.
        return .select(chosen.isFinite(), drawn, chosen)
    }
}
