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
        precondition(
            bound > 0 && bound.isFinite,
            "a spline lies on an interval from -bound to a finite bound above 0, found \(bound)")
        precondition(bins >= 1, "a spline needs at least one bin, found \(bins)")
        precondition(
            leastBin >= 0 && leastBin * Double(bins) < 1,
            "\(bins) bins can each have at least a share between 0 and 1 / \(bins) of the interval, found \(leastBin)")
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

    private struct Bin {
        /// How far the value lies above the lower knot.
        var rise: Tensor
        /// The lower knot on the other axis.
        var start: Tensor
        var width, height, left, right: Tensor
    }

    /// The bin that holds a value, chosen by its lower knots. Widths and heights are the knots' differences, so that a bin ends where
    /// the next begins, rounded or not.
    private func bin(_ value: Tensor, _ p: [Tensor], byOutput: Bool) -> Bin {
        let (xs, ys) = (knots(Array(p[0..<bins])), knots(Array(p[bins..<2 * bins])))
        let one = Tensor.scalar(1, value.elementType).broadcast(to: value.shape)
        let derivatives = [one] + p[2 * bins..<3 * bins - 1].map { $0.softplus() + leastDerivative } + [one]
        // Only where bins may be narrower than rounding.
        let least = Tensor.scalar(bound * FloatLimits(value.elementType).epsilon, value.elementType)
        func length(_ knots: [Tensor], _ k: Int) -> Tensor { (knots[k + 1] - knots[k]).maximum(least) }
        func bin(_ k: Int) -> Bin {
            Bin(
                rise: value - (byOutput ? ys : xs)[k], start: (byOutput ? xs : ys)[k], width: length(xs, k),
                height: length(ys, k), left: derivatives[k], right: derivatives[k + 1])
        }
        return (1..<bins).reduce(bin(0)) { chosen, k in
            let next = bin(k)
            let isHere = next.rise.greaterOrEqual(.scalar(0, value.elementType))
            func choose(_ member: KeyPath<Bin, Tensor>) -> Tensor {
                .select(isHere, next[keyPath: member], chosen[keyPath: member])
            }
            return Bin(
                rise: choose(\.rise), start: choose(\.start), width: choose(\.width), height: choose(\.height),
                left: choose(\.left), right: choose(\.right))
        }
    }

    /// A root without the rounding that takes it out of [0, 1]; its gradient is that of the root, which lies inside.
    private func fraction(_ t: Tensor) -> Tensor { t + (t.clamped(0, 1) - t).stoppingGradient() }

    /// The bin seen from the knot that is nearer: turned around, equations 4 to 8 stay as they are, and a small distance from the
    /// upper knot keeps its digits.
    private func turned(_ b: Bin, _ isTurned: Tensor, of length: Tensor) -> Bin {
        Bin(
            rise: .select(isTurned, length - b.rise, b.rise), start: b.start, width: b.width, height: b.height,
            left: .select(isTurned, b.right, b.left), right: .select(isTurned, b.left, b.right))
    }

    /// log of equation 5 at the fraction `t` of a bin.
    private func logDerivative(_ b: Bin, _ t: Tensor) -> Tensor {
        let slope = b.height / b.width
        let mixed = t * (1 - t)
        let denominator = slope + (b.left + b.right - slope * 2) * mixed
        let numerator = b.right * t.squared() + slope * mixed * 2 + b.left * (1 - t).squared()
        return (slope * slope * numerator).log() - denominator.log() * 2
    }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let isInside = x.absolute().lessOrEqual(.scalar(bound, x.elementType))
        let whole = bin(x.clamped(-bound, bound), p, byOutput: false)
        let isTurned = (whole.rise * 2).greater(whole.width)
        let b = turned(whole, isTurned, of: whole.width)
        let slope = b.height / b.width
        let t = b.rise / b.width
        let mixed = t * (1 - t)
        let part =
            b.height * (slope * t.squared() + b.left * mixed) / (slope + (b.left + b.right - slope * 2) * mixed)
        let value = b.start + .select(isTurned, b.height - part, part)
        return (.select(isInside, value, x), .select(isInside, logDerivative(b, t), 0))
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let isInside = z.absolute().lessOrEqual(.scalar(bound, z.elementType))
        let whole = bin(z.clamped(-bound, bound), p, byOutput: true)
        let isTurned = (whole.rise * 2).greater(whole.height)
        let bin = turned(whole, isTurned, of: whole.height)
        let slope = bin.height / bin.width
        let bend = bin.left + bin.right - slope * 2
        // Equations 6 to 8; the root is written so that nothing cancels.
        let a = bin.height * (slope - bin.left) + bin.rise * bend
        let b = bin.height * bin.left - bin.rise * bend
        let c = -(slope * bin.rise)
        let root = (b * b - a * c * 4).maximum(.scalar(0, z.elementType)).sqrt()
        let t = fraction((c * -2) / (b + root))
        let part = t * bin.width
        let value = bin.start + .select(isTurned, bin.width - part, part)
        return (.select(isInside, value, z), .select(isInside, -logDerivative(bin, t), 0))
    }
}
