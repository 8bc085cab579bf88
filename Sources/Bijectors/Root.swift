import Graph

/// The root of increasing functions, element by element: Newton's step where it stays inside the bracket and shrinks at least
/// by half, the middle of the bracket else. The count is fixed, so that the solve is an ordinary graph of elementwise
/// operations: it fuses, it runs inside samplers, and every device finds the same root.
///
/// An element whose residual has not come down to the rounding of the function itself becomes NaN rather than a wrong
/// number, and so does one that the target leaves open: where the function is so flat that arguments a few parts in a hundred
/// (float32; in 100 000 in double) away have the same value but for rounding.
///
/// - Parameters:
///   - target: the value that the function is to take.
///   - low: where it is at most the target.
///   - high: where it is at least the target.
///   - function: value and derivative at x.
func monotoneRoot(
    _ target: Tensor, low: Tensor, high: Tensor, _ function: (_ x: Tensor) -> (value: Tensor, derivative: Tensor)
) -> Tensor {
    let type = target.elementType
    let tolerance: Double = 64 * FloatLimits(type).epsilon
    let count = type == .float64 ? 80 : 40
    // Roots carry no gradient of the search; the last Newton step below gives the implicit one.
    let goal = target.stoppingGradient()
    var (low, high) = (low.stoppingGradient(), high.stoppingGradient())
    var x = (low + high) * 0.5
    var step = high - low
    var before = step
    // At the root steps are as small as rounding, and the search may start to halve a bracket that is still wide: what counts is
    // the nearest that it has seen.
    var best = x
    var leastMiss = Tensor.scalar(.infinity, type).broadcast(to: goal.shape)
    for _ in 0..<count {
        let (value, derivative) = function(x)
        let (miss, d) = (value.stoppingGradient() - goal, derivative.stoppingGradient())
        let isBest = miss.absolute().lessOrEqual(leastMiss)
        best = .select(isBest, x, best)
        leastMiss = .select(isBest, miss.absolute(), leastMiss)
        let isBelow = miss.less(0)
        low = .select(isBelow, x, low)
        high = .select(isBelow, high, x)
        let newton = x - miss / d
        let isFast = (miss * 2).absolute().lessOrEqual((before * d).absolute())
            .and(newton.greaterOrEqual(low)).and(newton.lessOrEqual(high))
        before = step
        step = .select(isFast, miss / d, (high - low) * 0.5)
        x = .select(isFast, newton, low + (high - low) * 0.5)
    }
    // dx/dtarget = 1 / f', dx/dparameters = -(df/dparameters) / f': one more step, through which gradients flow.
    let root = best.stoppingGradient()
    let (value, derivative) = function(root)
    let d = derivative.stoppingGradient()
    let polished = root - (value - target) / d
    // A flat function says nothing about its argument: then the bracket, not the residual, decides.
    let residual = (value - target).absolute().stoppingGradient()
    let slack = (target.absolute().maximum(.scalar(1, type)) + d * root.absolute()) * tolerance
    let isNarrow = (high - low).lessOrEqual(root.absolute().maximum(.scalar(1, type)) * tolerance)
    let isFound = residual.lessOrEqual(slack.stoppingGradient()).or(isNarrow)
    // The place of a root is as coarse as `isSettled` allows; a step beyond that is the rounding of a flat function.
    let isSmall = (polished - root).absolute().lessOrEqual(coarseness(root))
    let answer = Tensor.select(isSmall, polished, root)
    return .select(isFound.and(isSettled(root, target) { function($0).value }), answer, .scalar(.nan, type))
}

/// The cube root of the rounding is as near as the root at a point of inflection can be found.
private func coarseness(_ x: Tensor) -> Tensor {
    x.absolute().maximum(.scalar(1, x.elementType)) * FloatLimits(x.elementType).coarse
}

/// Whether an increasing function takes a value near x alone: a flat one takes it, but for rounding, far away too.
func isSettled(_ x: Tensor, _ value: Tensor, _ function: (_ x: Tensor) -> Tensor) -> Tensor {
    let reach = coarseness(x)
    let rounding = value.absolute().maximum(.scalar(1, x.elementType)) * (4 * FloatLimits(x.elementType).epsilon)
    return (function(x + reach) - value).greater(rounding).and((value - function(x - reach)).greater(rounding))
}
