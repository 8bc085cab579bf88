import Graph

/// Sets a share of the elements to zero while a model is trained, and scales the others up (Srivastava et al. 2014). Of images it can
/// take whole feature maps, as neighbouring pixels tell the same (Tompson et al. 2015).
public struct Dropout: Module {
    public let rate: Double
    /// Tells the layers of a model apart: each draws its own numbers.
    public let stream: Int
    public let takesMaps: Bool

    /// - Parameter takesMaps: whether x `[batch, channels, ..]` loses channels instead of elements.
    public init(_ rate: Double, stream: Int, takesMaps: Bool = false) {
        self.rate = rate
        self.stream = 1000 + stream
        self.takesMaps = takesMaps
    }

    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        guard rate > 0, context.mode == .train, x.error == nil else { return x }
        var shape = x.shape
        if takesMaps { shape = Shape(shape.dimensions.prefix(2) + shape.dimensions.dropFirst(2).map { _ in 1 }) }
        // Random numbers are drawn example by example; of `[steps, batch, ..]` the examples are the second axis.
        let axes = shape.dimensions.indices.sorted {
            (shape[$0].isStatic ? 1 : 0, $0) < (shape[$1].isStatic ? 1 : 0, $1)
        }
        let random = context.random.uniform(Shape(axes.map { shape[$0] }), stream: stream)
        let kept = random.transposed(axes.indices.sorted { axes[$0] < axes[$1] })
            .greaterOrEqual(.scalar(rate).broadcast(to: shape))
        return .select(kept.broadcast(to: x.shape), x * (1 / (1 - rate)), 0)
    }
}

/// Normalises each position over its channels, then scales and shifts (Ba, Kiros, Hinton 2016). x `[batch, channels, ..]`.
public struct LayerNorm: Module {
    public let weight: Parameter
    public let bias: Parameter

    public init(_ channels: Int) {
        weight = Parameter([channels], .constant(1))
        bias = Parameter([channels], .zeros)
    }

    public func callAsFunction(_ x: Tensor) -> Tensor {
        let centred = x - x.mean(axes: [1], keepingAxes: true)
        let deviation = (centred.squared().mean(axes: [1], keepingAxes: true) + 1e-5).sqrt()
        return centred / deviation * weight.tensor.perChannel(x) + bias.tensor.perChannel(x)
    }
}

/// What an example is given, added to every position of x `[batch, channels, ..]`: a vector for its class, one-hot times a table, and
/// a product with its features.
public struct ConditionEmbedding: Module {
    /// `[classes, channels]`
    public let weight: Parameter?
    /// `[features, channels]`
    public let featureWeight: Parameter?
    public let classes: Int?
    public let features: Int

    /// - Returns: `nil` where nothing is given.
    public init?(classes: Int?, features: Int = 0, _ channels: Int) {
        guard classes != nil || features > 0 else { return nil }
        self.classes = classes
        self.features = features
        weight = classes.map { Parameter([$0, channels], .fanIn($0)) }
        featureWeight = features > 0 ? Parameter([features, channels], .fanIn(features)) : nil
    }

    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        if x.error != nil { return x }
        let vectors = [
            weight.map { weight in context.oneHot(beside: x, classes ?? 0, as: weight.element).matmul(weight.tensor) },
            featureWeight.map { context.features(beside: x, shape: [features]).matmul($0.tensor) },
        ].compactMap { $0 }
        let ones = [Extent](repeating: 1, count: x.shape.rank - 2)
        return vectors.reduce(x) { sum, vector in
            vector.error != nil ? vector : sum + vector.reshaped(Shape(vector.shape.dimensions + ones))
        }
    }
}

extension Tensor {
    /// A vector over channels, ready to be combined with `[batch, channels, spatial..]`.
    func perChannel(_ x: Tensor) -> Tensor {
        reshaped(Shape([1, shape[0]] + x.shape.dimensions.dropFirst(2).map { _ in 1 }))
    }

    /// Exponential linear unit of x and of -x, one after the other along the channels (Salimans et al. 2017).
    public func concatenatedELU() -> Tensor { Tensor.concatenate([self, -self], axis: 1).elu() }

    /// x where positive, `exp(x) - 1` elsewhere (Clevert, Unterthiner, Hochreiter 2016).
    public func elu() -> Tensor {
        // The unused branch is kept from overflowing; at zero the slope is one from both sides.
        let isPositive = greater(0)
        return .select(isPositive, self, Tensor.select(isPositive, 0, self).apply(.expm1))
    }

    /// `tanh(a) * sigmoid(b)` of the two halves of the channels (van den Oord et al. 2016b, equation 2).
    public func gated() -> Tensor {
        let half = shape[1].coefficient / 2
        return sliced(axis: 1, from: 0, count: half).tanh() * sliced(axis: 1, from: half, count: half).sigmoid()
    }
}
