import Graph
import Layers

/// Scalar products of the rows of two matrices, `[batch, 1]`.
private func dot(_ a: Tensor, _ b: Tensor) -> Tensor { (a * b).sum(axes: [1], keepingAxes: true) }

/// `z = x + u tanh(w . x + b)` (Rezende and Mohamed 2015, equation 10), with u moved along w until w . u > -1, which makes it
/// invertible (their appendix A.1). Vectors `[batch, D]`; with features u, w and b are computed for every example.
public struct Planar: Bijector {
    public let direction: ConditionedWeights
    public let normal: ConditionedWeights
    public let offset: ConditionedWeights

    public init(_ count: Int, features: Int = 0) {
        direction = ConditionedWeights(count, features: features, .normal(standardDeviation: 0.3))
        // w . u > -1 moves u by w over its squared length: a short w would start far from the identity.
        normal = ConditionedWeights(count, features: features, .normal(standardDeviation: 1))
        offset = ConditionedWeights(1, features: features, .zeros)
    }

    /// w, b, the admissible u, and w . u of that u with the 1 that it stays above: `product = excess - 1`.
    private func parts(_ x: Tensor, _ context: Context)
        -> (w: Tensor, b: Tensor, u: Tensor, product: Tensor, excess: Tensor)
    {
        let (u, w, b) = (direction(x, context), normal(x, context), offset(x, context))
        let product = dot(w, u)
        // w = 0, or too short for its square to be a number, leaves u alone; z is then x + u tanh(b).
        let square = w.squared().sum(axes: [1], keepingAxes: true)
        let least = Tensor.scalar(FloatLimits(x.elementType).least, x.elementType)
        let isLong = square.greater(least)
        let excess = Tensor.select(isLong, product.softplus().maximum(least), 1)
        let allowed = Tensor.select(isLong, excess - 1, 0)
        let move = Tensor.select(isLong, (allowed - product) / Tensor.select(isLong, square, 1), 0)
        return (w, b, u + w * move, allowed, excess)
    }

    /// log(1 + h' w . u) with h' = 1 - h h, written so that nothing cancels where w . u is near -1.
    private func logDeterminant(_ h: Tensor, _ excess: Tensor) -> Tensor {
        (h * h + (1 - h * h) * excess).log().reshaped([h.shape[0]])
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let x = x.examples(of: [direction.count], for: "planar")
        let (w, b, u, _, excess) = parts(x, context)
        let h = (dot(w, x) + b).tanh()
        return Mapped(x + u * h, logDeterminant(h, excess))
    }

    /// a = w . x solves w . z = a + (w . u) tanh(a + b), an increasing function of a; then x = z - u tanh(a + b).
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let z = z.examples(of: [direction.count], for: "planar")
        let (w, b, u, product, excess) = parts(z, context)
        let target = dot(w, z)
        let reach = product.absolute()
        let a = monotoneRoot(target, low: target - reach, high: target + reach) { a in
            let h = (a + b).tanh()
            return (a + product * h, 1 + product * (1 - h * h))
        }
        let h = (a + b).tanh()
        return Mapped(z - u * h, -logDeterminant(h, excess))
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "planar", .lowRank, determinant: "1 + h' w . u, as the Jacobian is the identity plus one outer product",
            inverse: "the root of one increasing function along w, by guarded Newton steps")
    }
}

/// `z = x + beta (x - x0) / (alpha + |x - x0|)` with beta > -alpha (Rezende and Mohamed 2015, equation 14, appendix A.2).
public struct Radial: Bijector {
    public let centre: ConditionedWeights
    public let rawAlpha: ConditionedWeights
    public let rawBeta: ConditionedWeights
    public let count: Int

    public init(_ count: Int, features: Int = 0) {
        self.count = count
        centre = ConditionedWeights(count, features: features)
        rawAlpha = ConditionedWeights(1, features: features)
        rawBeta = ConditionedWeights(1, features: features)
    }

    /// x0, alpha, beta, and `alpha + beta` that stays above 0.
    private func parts(_ x: Tensor, _ context: Context) -> (centre: Tensor, alpha: Tensor, beta: Tensor, excess: Tensor)
    {
        let least = Tensor.scalar(FloatLimits(x.elementType).least, x.elementType)
        let alpha = rawAlpha(x, context).softplus().maximum(least)
        let excess = rawBeta(x, context).softplus().maximum(least)
        return (centre(x, context), alpha, excess - alpha, excess)
    }

    /// The distance from the centre, in units of its greatest coordinate so that no square overflows or is lost; its gradient at
    /// the centre is zero instead of undefined.
    private func length(_ v: Tensor) -> Tensor {
        let least = FloatLimits(v.elementType).least
        let unit = v.absolute().max(axes: [1], keepingAxes: true).maximum(.scalar(least, v.elementType))
            .stoppingGradient()
        return unit * ((v / unit).squared().sum(axes: [1], keepingAxes: true) + least).sqrt()
    }

    /// log(1 + q), where q is near -1 from `sum`, which is the same number without the cancellation.
    private func logOnePlus(_ q: Tensor, _ sum: Tensor) -> Tensor {
        let isNear = q.less(-0.5)
        let least = Tensor.scalar(FloatLimits(q.elementType).least, q.elementType)
        return .select(
            isNear, Tensor.select(isNear, sum, 1).maximum(least).log(), Tensor.select(isNear, 0, q).log1p())
    }

    private func logDeterminant(_ r: Tensor, _ alpha: Tensor, _ beta: Tensor, _ excess: Tensor) -> Tensor {
        let h = 1 / (alpha + r)
        let (a, near) = (alpha * h, r * h)
        let across = logOnePlus(beta * h, (r + excess) * h)
        let along = logOnePlus(beta * h * a, near * (near + a * 2) + a * (excess * h))
        return (across * Double(count - 1) + along).reshaped([r.shape[0]])
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let x = x.examples(of: [count], for: "radial")
        let (centre, alpha, beta, excess) = parts(x, context)
        let v = x - centre
        let r = length(v)
        return Mapped(centre + v * ((r + excess) / (alpha + r)), logDeterminant(r, alpha, beta, excess))
    }

    /// The distance r solves |z - x0| = r (1 + beta / (alpha + r)), a quadratic equation with one positive root.
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let z = z.examples(of: [count], for: "radial")
        let (centre, alpha, beta, excess) = parts(z, context)
        let v = z - centre
        let far = length(v)
        let p = far - excess
        // In units of the greatest number, so that no product overflows or is lost.
        let unit = p.absolute().maximum(far).maximum(alpha).stoppingGradient()
        let root = unit * ((p / unit).squared() + far / unit * (alpha / unit) * 4).sqrt()
        let r = Tensor.select(p.greater(0), (p + root) * 0.5, far * (alpha / (root - p)) * 2)
        return Mapped(
            centre + v * ((alpha + r) / (r + excess)), -logDeterminant(r, alpha, beta, excess))
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "radial", .lowRank,
            determinant:
                "(1 + beta h)^(D-1) (1 + beta h + beta h' r), as the Jacobian is a multiple of the identity plus one outer product",
            inverse: "a quadratic equation for the distance from the centre")
    }
}
