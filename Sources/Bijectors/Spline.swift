import Graph

/// The monotonic rational-quadratic spline of [-bound, bound] onto itself (Durkan et al. 2019, equations 4 to 8), for transformers that
/// say what happens at the ends.
///
/// Raw numbers: `bins` widths, then `bins` heights. The derivatives at the `bins + 1` knots are given beside them.
struct RationalQuadraticSpline: Sendable {
    let bins: Int
    let bound: Double
    /// Shares of the interval that no bin goes below.
    let leastBin: Double
    let leastDerivative: Double

    init(bins: Int, bound: Double, leastBin: Double, leastDerivative: Double) {
        trap(
            unless:
                bound > 0 && bound.isFinite,
            "a spline lies on an interval from -bound to a finite bound above 0, found \(bound)")
        trap(unless: bins >= 1, "a spline needs at least one bin, found \(bins)")
        trap(
            unless:
                leastBin >= 0 && leastBin * Double(bins) < 1,
            "\(bins) bins can each have at least a share between 0 and 1 / \(bins) of the interval, found \(leastBin)")
        trap(
            unless: leastDerivative >= 0 && leastDerivative.isFinite,
            "a spline rises: its derivative is at least a finite number of 0 or more, found \(leastDerivative)")
        self.bins = bins
        self.bound = bound
        self.leastBin = leastBin
        self.leastDerivative = leastDerivative
    }

    /// The `bins + 1` knots, from raw numbers; the first and the last are the bounds. The others are sums from the nearer end, of few
    /// widths each.
    private func knots(_ raw: [Tensor]) -> [Tensor] {
        let top = raw.dropFirst().reduce(raw[0]) { $0.maximum($1) }.stoppingGradient()
        let weights = raw.map { ($0 - top).exp() }
        let (free, least): (Double, Double) = (2 * bound * (1 - leastBin * Double(bins)), 2 * bound * leastBin)
        let factor = free / total(weights)
        let widths = weights.map { $0 * factor + least }
        func sums(_ widths: [Tensor]) -> [Tensor] {
            widths.reduce(into: []) { sums, width in sums.append(sums.last.map { $0 + width } ?? width) }
        }
        let end = Tensor.scalar(bound, raw[0].elementType).broadcast(to: raw[0].shape)
        let lower = sums(Array(widths[..<(bins / 2)])).map { $0 - bound }
        let upper = sums(widths[(bins / 2 + 1)...].reversed()).map { bound - $0 }
        return [-end] + lower + upper.reversed() + [end]
    }

    /// The bin that holds a value, by its knots `(xs, ys)` and the derivatives there. Widths and heights are the knots' differences, so
    /// that a bin ends where the next begins, rounded or not.
    private struct Bin {
        var lowerX, upperX, lowerY, upperY: Tensor
        /// dy/dx at the lower and at the upper knot.
        var left, right: Tensor
        var width: Tensor
        var height: Tensor

        init(_ knot: [Tensor], least: Tensor) {
            (lowerX, upperX, lowerY, upperY) = (knot[0], knot[1], knot[2], knot[3])
            (left, right) = (knot[4], knot[5])
            width = (upperX - lowerX).maximum(least)
            height = (upperY - lowerY).maximum(least)
        }

        var slope: Tensor { height / width }

        /// Seen from its upper knot where `isTurned`, with the derivatives exchanged: equations 4 to 8 stay as they are.
        func turned(_ isTurned: Tensor) -> Bin {
            var bin = self
            (bin.left, bin.right) = (.select(isTurned, right, left), .select(isTurned, left, right))
            return bin
        }

        /// The denominator of equations 4 and 5 at the fraction `t`, as a sum of positive terms.
        func denominator(_ t: Tensor) -> Tensor {
            let mixed = t * (1 - t)
            return slope * (1 - mixed * 2) + (left + right) * mixed
        }

        /// Equation 4 at the fraction `t`: how far y lies from the knot.
        func rise(_ t: Tensor) -> Tensor {
            height * (slope * t.squared() + left * (t * (1 - t))) / denominator(t)
        }

        /// log of equation 5 at the fraction `t`.
        func logDerivative(_ t: Tensor) -> Tensor {
            let numerator = right * t.squared() + slope * (t * (1 - t)) * 2 + left * (1 - t).squared()
            return (slope * slope * numerator).log() - denominator(t).log() * 2
        }

        /// Equations 6 to 8: the fraction of at most 1/2 at which y lies `rise` from the knot.
        ///
        /// a t^2 + b t = slope rise has one root above 0, which two formulas give; of them each b has one that adds terms of one sign.
        func fraction(_ rise: Tensor) -> Tensor {
            let bend = left + right - slope * 2
            let a = height * (slope - left) + rise * bend
            let b = height * left - rise * bend
            let c = slope * rise
            let sum = b.absolute() + (b * b + a * c * 4).maximum(.scalar(0, rise.elementType)).sqrt()
            let isFalling = b.less(0)
            let t = Tensor.select(isFalling, sum, c * 2) / .select(isFalling, a * 2, sum)
            // A root that rounding took out of the bin; its gradient is that of the root, which lies inside.
            return t + (t.clamped(0, 1) - t).stoppingGradient()
        }
    }

    /// The derivative at a knot, from a raw number.
    func derivative(_ raw: Tensor) -> Tensor { raw.softplus() + leastDerivative }

    /// The bin that holds a value, chosen by its lower knots.
    private func bin(_ value: Tensor, _ p: [Tensor], _ derivatives: [Tensor], byOutput: Bool) -> Bin {
        let (xs, ys) = (knots(Array(p[0..<bins])), knots(Array(p[bins..<2 * bins])))
        func knot(_ k: Int) -> [Tensor] {
            [xs[k], xs[k + 1], ys[k], ys[k + 1], derivatives[k], derivatives[k + 1]]
        }
        let chosen = (1..<bins).reduce(knot(0)) { chosen, k in
            let isHere = value.greaterOrEqual((byOutput ? ys : xs)[k])
            return zip(knot(k), chosen).map { .select(isHere, $0, $1) }
        }
        // Only where bins may be narrower than rounding.
        return Bin(
            chosen, least: .scalar(bound * FloatLimits(value.elementType).epsilon, value.elementType))
    }

    // Both ways start at the knot that is nearer along x, so that a small distance from either keeps its digits.

    /// y and log dy/dx of x in [-bound, bound].
    func forward(_ x: Tensor, _ p: [Tensor], _ derivatives: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let whole = bin(x, p, derivatives, byOutput: false)
        let (fromLower, fromUpper) = (x - whole.lowerX, whole.upperX - x)
        let isTurned = fromLower.greater(fromUpper)
        let bin = whole.turned(isTurned)
        let t = Tensor.select(isTurned, fromUpper, fromLower) / bin.width
        let rise = bin.rise(t)
        return (.select(isTurned, bin.upperY - rise, bin.lowerY + rise), bin.logDerivative(t))
    }

    /// x and log dx/dy of y in [-bound, bound].
    func inverse(_ y: Tensor, _ p: [Tensor], _ derivatives: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let whole = bin(y, p, derivatives, byOutput: true)
        let (fromLower, fromUpper) = (y - whole.lowerY, whole.upperY - y)
        // The height of the middle of the bin is that share of `left + slope` in both derivatives and 2 slope.
        let isTurned = (fromLower * (whole.right + whole.slope)).greater(fromUpper * (whole.left + whole.slope))
        let bin = whole.turned(isTurned)
        let t = bin.fraction(.select(isTurned, fromUpper, fromLower))
        let distance = t * bin.width
        return (.select(isTurned, bin.upperX - distance, bin.lowerX + distance), -bin.logDerivative(t))
    }
}

/// The monotonic rational-quadratic spline on [-bound, bound] with linear tails (Durkan et al. 2019, equations 4 to 8).
/// Parameters: `bins` raw widths, `bins` raw heights, `bins - 1` raw derivatives at the inner knots.
///
/// Outside the bound it is the identity, so it is injective everywhere and an outlier costs no accuracy.
public struct SplineTransformer: Transformer {
    private let spline: RationalQuadraticSpline

    public init(bins: Int = 8, bound: Double = 3, leastBin: Double = 1e-3, leastDerivative: Double = 1e-3) {
        spline = RationalQuadraticSpline(
            bins: bins, bound: bound, leastBin: leastBin, leastDerivative: leastDerivative)
    }

    public var bins: Int { spline.bins }
    public var bound: Double { spline.bound }
    public var name: String { "rational-quadratic spline, \(bins) bins on +-\(bound), identity outside" }
    public var parameterCount: Int { 3 * bins - 1 }
    public var inverseFormula: String { "a quadratic equation in the bin that holds z" }

    /// At the ends those of the identity outside.
    private func derivatives(_ p: [Tensor]) -> [Tensor] {
        let one = Tensor.scalar(1, p[0].elementType).broadcast(to: p[0].shape)
        return [one] + p[2 * bins..<3 * bins - 1].map(spline.derivative) + [one]
    }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let isInside = x.absolute().lessOrEqual(.scalar(bound, x.elementType))
        let (value, log) = spline.forward(x.clamped(-bound, bound), p, derivatives(p))
        return (.select(isInside, value, x), .select(isInside, log, 0))
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let isInside = z.absolute().lessOrEqual(.scalar(bound, z.elementType))
        let (value, log) = spline.inverse(z.clamped(-bound, bound), p, derivatives(p))
        return (.select(isInside, value, z), .select(isInside, log, 0))
    }
}
