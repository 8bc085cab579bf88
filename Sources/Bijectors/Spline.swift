import Graph

/// The monotonic rational-quadratic spline on [-bound, bound] with linear tails (Durkan et al. 2019, equations 4 to 8).
/// Parameters: `bins` raw widths, `bins` raw heights, `bins - 1` raw derivatives at the inner knots.
///
/// Outside the bound it is the identity, so it is injective everywhere and an outlier costs no accuracy.
public struct SplineTransformer: Transformer {
    public let bins: Int
    public let bound: Double
    /// Shares of the interval that no bin goes below.
    public let leastBin: Double
    public let leastDerivative: Double

    public init(bins: Int = 8, bound: Double = 3, leastBin: Double = 1e-3, leastDerivative: Double = 1e-3) {
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

    public var name: String { "rational-quadratic spline, \(bins) bins on +-\(bound), identity outside" }
    public var parameterCount: Int { 3 * bins - 1 }
    public var inverseFormula: String { "a quadratic equation in the bin that holds z" }

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

    /// The bin that holds a value, chosen by its lower knots.
    private func bin(_ value: Tensor, _ p: [Tensor], byOutput: Bool) -> Bin {
        let (xs, ys) = (knots(Array(p[0..<bins])), knots(Array(p[bins..<2 * bins])))
        let one = Tensor.scalar(1, value.elementType).broadcast(to: value.shape)
        let derivatives = [one] + p[2 * bins..<3 * bins - 1].map { $0.softplus() + leastDerivative } + [one]
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

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let isInside = x.absolute().lessOrEqual(.scalar(bound, x.elementType))
        let inside = x.clamped(-bound, bound)
        let whole = bin(inside, p, byOutput: false)
        let (fromLower, fromUpper) = (inside - whole.lowerX, whole.upperX - inside)
        let isTurned = fromLower.greater(fromUpper)
        let bin = whole.turned(isTurned)
        let t = Tensor.select(isTurned, fromUpper, fromLower) / bin.width
        let rise = bin.rise(t)
        let value = Tensor.select(isTurned, bin.upperY - rise, bin.lowerY + rise)
        return (.select(isInside, value, x), .select(isInside, bin.logDerivative(t), 0))
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let isInside = z.absolute().lessOrEqual(.scalar(bound, z.elementType))
        let inside = z.clamped(-bound, bound)
        let whole = bin(inside, p, byOutput: true)
        let (fromLower, fromUpper) = (inside - whole.lowerY, whole.upperY - inside)
        // The height of the middle of the bin is that share of `left + slope` in both derivatives and 2 slope.
        let isTurned = (fromLower * (whole.right + whole.slope)).greater(fromUpper * (whole.left + whole.slope))
        let bin = whole.turned(isTurned)
        let t = bin.fraction(.select(isTurned, fromUpper, fromLower))
        let distance = t * bin.width
        let value = Tensor.select(isTurned, bin.upperX - distance, bin.lowerX + distance)
        return (.select(isInside, value, z), .select(isInside, -bin.logDerivative(t), 0))
    }
}
