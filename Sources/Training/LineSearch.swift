import Likelihood

/// What is known of a function at a step α along a direction d: φ(α) = F(p + α d).
struct LinePoint {
    var step: Double
    /// φ(α), infinite where the function is no number.
    var value: Double
    /// φ'(α), the gradient's product with the direction.
    var slope: Double

    var isFinite: Bool { value.isFinite && slope.isFinite }
}

/// The search for a step that meets the strong Wolfe conditions (Nocedal and Wright 2006, algorithms 3.5 and 3.6, with cubic
/// interpolation, equation 3.59):
///
///     φ(α) <= φ(0) + c₁ α φ'(0)        and        |φ'(α)| <= c₂ |φ'(0)|
///
/// Near a minimum the two values differ by less than they are rounded by, while slopes are still known. There the first condition is
/// replaced by what it says of the slope of a parabola, φ'(α) <= (2 c₁ - 1) φ'(0) (Hager and Zhang 2005, equation 4.1, the approximate
/// Wolfe conditions).
struct LineSearch {
    /// c₁, the share of the promised decrease that is asked for.
    var decrease = 1e-4
    /// c₂, the share of the slope that may be left.
    var curvature = 0.9
    /// The most evaluations.
    var most = 25
    /// How much two values may differ by rounding alone.
    var noise = 0.0

    /// - Parameters:
    ///   - start: at α = 0, of a slope below 0.
    ///   - first: the first step that is tried.
    /// - Returns: a point that meets the conditions; where none was found, the best of those that meet the first one; `nil` where no
    ///   step makes the function less.
    func search(
        from start: LinePoint, first: Double, _ evaluate: (_ step: Double) throws -> LinePoint
    ) rethrows -> LinePoint? {
        var previous = start
        var step = first
        var evaluations = 0
        while evaluations < most {
            let point = try evaluate(step)
            evaluations += 1
            if !isDecrease(point, from: start) || evaluations > 1 && isHigher(point, than: previous) {
                return try zoom(previous, point, start, &evaluations, evaluate)
            }
            if isFlat(point, from: start) { return point }
            if point.slope >= 0 { return try zoom(point, previous, start, &evaluations, evaluate) }
            // Still downhill: on to where a cubic has its minimum, two to ten times as far.
            let guess = minimum(previous, point) ?? .infinity
            (previous, step) = (point, min(10 * step, max(2 * step, guess)))
        }
        return previous.step > 0 ? previous : nil
    }

    /// Narrows an interval that holds steps that meet the conditions (algorithm 3.6). `low` is the best point so far, and φ falls from
    /// there towards `high`.
    private func zoom(
        _ low: LinePoint, _ high: LinePoint, _ start: LinePoint, _ evaluations: inout Int,
        _ evaluate: (_ step: Double) throws -> LinePoint
    ) rethrows -> LinePoint? {
        var (low, high) = (low, high)
        while evaluations < most {
            let width = high.step - low.step
            // Steps that float32 can hardly tell apart.
            guard width.magnitude > 1e-7 * max(low.step, high.step) else { break }
            // A tenth of the interval off both ends, so that it shrinks.
            let guess = minimum(low, high).map { ($0 - low.step) / width } ?? 0.5
            let point = try evaluate(low.step + width * min(0.9, max(0.1, guess)))
            evaluations += 1
            if !isDecrease(point, from: start) || isHigher(point, than: low) {
                high = point
                continue
            }
            if isFlat(point, from: start) { return point }
            if point.slope * width >= 0 { high = low }
            low = point
        }
        return low.step > 0 ? low : nil
    }

    /// The first condition, or where rounding hides it, the approximate one.
    private func isDecrease(_ point: LinePoint, from start: LinePoint) -> Bool {
        guard point.isFinite else { return false }
        if point.value <= start.value + decrease * point.step * start.slope { return true }
        return (point.value - start.value).magnitude <= noise && point.slope <= (2 * decrease - 1) * start.slope
    }

    /// The second condition.
    private func isFlat(_ point: LinePoint, from start: LinePoint) -> Bool {
        point.slope.magnitude <= curvature * start.slope.magnitude
    }

    /// Whether a point is higher than a better one, beyond rounding.
    private func isHigher(_ point: LinePoint, than other: LinePoint) -> Bool {
        noise > 0 ? point.value > other.value + noise : point.value >= other.value
    }

    /// Where the cubic through two points with their slopes has its minimum; where their values say nothing, the parabola through the
    /// slopes; `nil` where there is none.
    private func minimum(_ a: LinePoint, _ b: LinePoint) -> Double? {
        guard a.isFinite, b.isFinite, a.step != b.step else { return nil }
        let width = b.step - a.step
        guard (a.value - b.value).magnitude > noise else {
            let change = b.slope - a.slope
            return change * width > 0 ? a.step - width * a.slope / change : nil
        }
        let d1 = a.slope + b.slope - 3 * (a.value - b.value) / -width
        let square = d1 * d1 - a.slope * b.slope
        guard square >= 0 else { return nil }
        let d2 = width > 0 ? square.squareRoot() : -square.squareRoot()
        let result = b.step - width * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)
        return result.isFinite ? result : nil
    }
}
