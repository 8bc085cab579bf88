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

    /// Positions of the inner knots and the bins' widths, from raw numbers.
    private func knots(_ raw: [Tensor]) -> (widths: [Tensor], positions: [Tensor]) {
        let top = raw.dropFirst().reduce(raw[0]) { $0.maximum($1) }.stoppingGradient()
        let weights = raw.map { ($0 - top).exp() }
        let (free, least): (Double, Double) = (2 * bound * (1 - leastBin * Double(bins)), 2 * bound * leastBin)
        let factor = free / total(weights)
        let widths = weights.map { $0 * factor + least }
        var positions: [Tensor] = [.scalar(-bound, raw[0].elementType).broadcast(to: raw[0].shape)]
        for width in widths.dropLast() { positions.append(positions[positions.count - 1] + width) }
        return (widths, positions)
    }

    private struct Bin {
        var x, y, width, height, left, right: Tensor
    }

    /// The bin that holds a value, chosen by its lower knots.
    private func bin(_ value: Tensor, _ p: [Tensor], byOutput: Bool) -> Bin {
        let (widths, xs) = knots(Array(p[0..<bins]))
        let (heights, ys) = knots(Array(p[bins..<2 * bins]))
        let one = Tensor.scalar(1, value.elementType).broadcast(to: value.shape)
        let derivatives = [one] + p[2 * bins..<3 * bins - 1].map { $0.softplus() + leastDerivative } + [one]
        var chosen = Bin(
            x: xs[0], y: ys[0], width: widths[0], height: heights[0], left: derivatives[0], right: derivatives[1])
        for k in 1..<max(bins, 1) {
            let isHere = value.greaterOrEqual(byOutput ? ys[k] : xs[k])
            let choose = { (new: Tensor, old: Tensor) in Tensor.select(isHere, new, old) }
            chosen = Bin(
                x: choose(xs[k], chosen.x), y: choose(ys[k], chosen.y), width: choose(widths[k], chosen.width),
                height: choose(heights[k], chosen.height), left: choose(derivatives[k], chosen.left),
                right: choose(derivatives[k + 1], chosen.right))
        }
        return chosen
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
        let safe = x.clamped(-bound, bound)
        let b = bin(safe, p, byOutput: false)
        let slope = b.height / b.width
        let t = ((safe - b.x) / b.width).clamped(0, 1)
        let mixed = t * (1 - t)
        let value =
            b.y + b.height * (slope * t.squared() + b.left * mixed)
            / (slope + (b.left + b.right - slope * 2) * mixed)
        return (.select(isInside, value, x), .select(isInside, logDerivative(b, t), 0))
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let isInside = z.absolute().lessOrEqual(.scalar(bound, z.elementType))
        let safe = z.clamped(-bound, bound)
        let bin = bin(safe, p, byOutput: true)
        let slope = bin.height / bin.width
        let rise = (safe - bin.y).clamped(0, 2 * bound)
        let bend = bin.left + bin.right - slope * 2
        // Equations 6 to 8; the root is written so that nothing cancels.
        let a = bin.height * (slope - bin.left) + rise * bend
        let b = bin.height * bin.left - rise * bend
        let c = -(slope * rise)
        let root = (b * b - a * c * 4).maximum(.scalar(0, z.elementType)).sqrt()
        let t = ((c * -2) / (b + root)).clamped(0, 1)
        return (
            .select(isInside, t * bin.width + bin.x, z), .select(isInside, -logDerivative(bin, t), 0)
        )
    }
}
