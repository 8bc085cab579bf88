import Graph

/// The monotonic rational-quadratic spline of a circle onto itself, then a turn of the circle (Rezende et al. 2020, section 2.1.2). A
/// number stands for its point on the circle [low, low + period), whose ends are one point: x and x + period have one z, of which
/// [low, low + period] holds the number.
///
/// Parameters: `bins` raw widths, `bins` raw heights, `bins` raw derivatives at the knots, of which the first is also the last, and the
/// turn in radians. The derivatives at both ends are equal, so the density has no step where the circle closes.
public struct CircularSplineTransformer: Transformer {
    public let low: Double
    public let period: Double
    private let spline: RationalQuadraticSpline
    private var middle: Double { low + period / 2 }

    public init(
        bins: Int = 8, low: Double = 0, period: Double = 2 * .pi, leastBin: Double = 1e-3,
        leastDerivative: Double = 1e-3
    ) {
        trap(
            unless: period > 0 && Float(low + period) > Float(low) && Float(low + period).isFinite,
            "a circle begins at a finite number and has a period above 0, in float32, found \(low) and \(period)")
        self.low = low
        self.period = period
        spline = RationalQuadraticSpline(
            bins: bins, bound: period / 2, leastBin: leastBin, leastDerivative: leastDerivative)
    }

    public var bins: Int { spline.bins }
    public var name: String { "circular rational-quadratic spline, \(bins) bins, period \(period)" }
    public var parameterCount: Int { 3 * bins + 1 }
    public var inverseFormula: String { "the circle turned back, then a quadratic equation in the bin that holds z" }

    /// The number within half a period of 0 that stands for the same point.
    private func wrapped(_ u: Tensor) -> Tensor {
        let bound = period / 2
        let isInside = u.absolute().lessOrEqual(.scalar(bound, u.elementType))
        let moved = u - ((u + bound) / period).apply(.floor) * period
        // Rounding may take it past an end; its gradient is that of the point.
        return .select(isInside, u, moved + (moved.clamped(-bound, bound) - moved).stoppingGradient())
    }

    private func derivatives(_ p: [Tensor]) -> [Tensor] {
        let knots = p[2 * bins..<3 * bins].map(spline.derivative)
        return knots + [knots[0]]
    }

    private func turn(_ p: [Tensor]) -> Tensor { p[3 * bins] * (period / (2 * .pi)) }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let (value, log) = spline.forward(wrapped(x - middle), p, derivatives(p))
        return (wrapped(value + turn(p)) + middle, log)
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let (value, log) = spline.inverse(wrapped(wrapped(z - middle) - turn(p)), p, derivatives(p))
        return (value + middle, log)
    }
}
