import Graph

/// The method of Dormand and Prince (1980) of order 5, with an estimate of its error of order 4 by which it chooses its steps (Hairer,
/// Nørsett and Wanner 1993, sections II.4 and II.5): what MATLAB calls ode45, SciPy RK45 and torchdiffeq dopri5.
///
/// The whole solve is one `iterate` of the graph, with the control of the steps inside: a program with a solve in it runs, on any device,
/// like every other, and nothing around it knows that its length depends on the numbers. It keeps nothing of its way, so that its memory is
/// that of one step; no gradient flows through it but the adjoint's (`ContinuousFlow`).
///
/// By default every example has steps of its own (Lienen and Günnemann 2022): its result is the same whatever stands beside it in a batch.
/// The loop goes on until the last example has arrived, and those that have stay where they are.
struct DormandPrince {
    /// A step is taken where the root mean square of its estimated errors, each divided by tolerance (1 + |y|), is at most 1. Below 16
    /// units in the last place of the working type it is these, as smaller errors cannot be told from rounding.
    var tolerance: Double
    /// Else one length of step for the whole batch, by the error of all examples together: fewer steps in all, for training.
    var isPerExample = true

    struct Solution {
        /// NaN where steps would have to be shorter than the type can tell.
        var state: [Tensor]
        /// How often each example's rates were computed, `[batch]`, a whole number in the working type.
        var evaluations: Tensor
    }

    private static let method = RungeKutta(
        c: [0, 1 / 5.0, 3 / 10.0, 4 / 5.0, 8 / 9.0, 1],
        a: [
            [], [1 / 5.0], [3 / 40.0, 9 / 40.0], [44 / 45.0, -56 / 15.0, 32 / 9.0],
            [19372 / 6561.0, -25360 / 2187.0, 64448 / 6561.0, -212 / 729.0],
            [9017 / 3168.0, -355 / 33.0, 46732 / 5247.0, 49 / 176.0, -5103 / 18656.0],
        ],
        b: [35 / 384.0, 0, 500 / 1113.0, 125 / 192.0, -2187 / 6784.0, 11 / 84.0])
    /// What the method of order 4 differs by. Its last rate is that at the end, with which the next step begins.
    private static let errorWeights: [Double] = [
        71 / 57600.0, 0, -71 / 16695.0, 71 / 1920.0, -17253 / 339200.0, 22 / 525.0, -1 / 40.0,
    ]
    /// A backstop; a solve that gets nowhere ends by the length of its steps.
    private static let limit = 100_000

    /// The state after `duration`, from the time 0 on.
    /// - Parameter controlled: how many of the state's tensors, the first ones, have their errors looked at; these are `[batch, n]`. The
    ///   others may have any shape where the batch has one length of step.
    func solve(_ initial: [Tensor], controlled: Int? = nil, duration: Double, _ rates: Rates) -> Solution {
        let (type, batch) = (initial[0].elementType, initial[0].shape[0])
        let rule = StepControl(
            tolerance: max(tolerance, 16 * FloatLimits(type).epsilon), duration: duration, type: type,
            shape: isPerExample ? [batch, 1] : .scalar, count: controlled ?? initial.count)
        func ratesBefore(_ left: Tensor, _ state: [Tensor]) -> [Tensor] {
            let time = duration - left
            return rates(isPerExample ? time : time.reshaped([1, 1]), state)
        }
        let whole = rule.number(duration)
        let first = ratesBefore(whole, initial)
        let length = rule.firstStep(initial, first) { h, state in ratesBefore(whole - h, state) }
        let count = initial.count
        let (carries, _) = Tensor.iterate(
            [whole, length, rule.number(0)] + initial + first, limit: Self.limit, while: { $0[0].max().greater(0) }
        ) { carries in
            let (left, tried) = (carries[0], carries[2])
            let (state, begin) = (Array(carries[3..<3 + count]), Array(carries.suffix(count)))
            let h = rule.clipped(carries[1], left)
            var found = [begin]
            for stage in 1..<Self.method.c.count {
                let y = RungeKutta.moved(state, by: Self.method.a[stage], found, h)
                found.append(ratesBefore(left - h * Self.method.c[stage], y))
            }
            let end = RungeKutta.moved(state, by: Self.method.b, found, h)
            found.append(ratesBefore(left - h, end))
            let errors = (0..<rule.count).map { i in
                RungeKutta.combination(Self.errorWeights, found.map { $0[i] })! * h
            }
            let error = rule.norm(errors, state, end)
            let (isOn, isGood) = (left.greater(0), error.lessOrEqual(1))
            let next = Tensor.select(isGood, left - h, .select(h.less(.scalar(rule.least, type)), -1, left))
            let moves = isOn.and(isGood)
            func kept(_ new: [Tensor], _ old: [Tensor]) -> [Tensor] {
                zip(new, old).map { .select(moves.broadcast(to: $0.shape), $0, $1) }
            }
            return [Tensor.select(isOn, next, left), rule.next(h, error), .select(isOn, tried + 1, tried)]
                + kept(end, state) + kept(found[found.count - 1], begin)
        }
        let hasArrived = carries[0].equal(0)
        return Solution(
            state: carries[3..<3 + count].map {
                Tensor.select(hasArrived.broadcast(to: $0.shape), $0, .scalar(.nan, type))
            },
            // The first step's length takes two.
            evaluations: (carries[2] * 6 + 2).broadcast(to: [batch, 1]).reshaped([batch]))
    }
}

/// How long steps are.
private struct StepControl {
    let tolerance: Double
    let duration: Double
    let type: ElementType
    /// Of a number for each length of step.
    let shape: Shape
    /// How many tensors of the state are looked at.
    let count: Int

    /// Steps below are not made shorter any more.
    var least: Double { 16 * FloatLimits(type).epsilon * duration }

    func number(_ value: Double) -> Tensor { Tensor.scalar(value, type).broadcast(to: shape) }

    /// A step that leaves next to nothing goes all the way.
    func clipped(_ length: Tensor, _ left: Tensor) -> Tensor { .select((length * 1.01).less(left), length, left) }

    /// The root mean square of numbers, each divided by what is tolerated beside two states.
    func norm(_ numbers: [Tensor], _ a: [Tensor], _ b: [Tensor]) -> Tensor {
        let width = (0..<count).reduce(0) { $0 + numbers[$1].shape[1].coefficient }
        let sum = (0..<count).map { i in
            let allowed = (a[i].absolute().maximum(b[i].absolute()) + 1) * tolerance
            return (numbers[i] / allowed).squared().sum(axes: [1], keepingAxes: true)
        }.reduce(nil) { (sum: Tensor?, term) in sum.map { $0 + term } ?? term }!
        let mean = sum / Double(width)
        return (shape.rank == 0 ? mean.mean() : mean).sqrt()
    }

    /// The length of the next step after one of some length and error; a fifth of it where the error is no number.
    func next(_ h: Tensor, _ error: Tensor) -> Tensor {
        let factor = (error.log() * -0.2).exp() * 0.9
        return h * Tensor.select(factor.greater(10), 10, .select(factor.greater(0.2), factor, 0.2))
    }

    /// A length to begin with, by the size of the rates and of their change along a short step (section II.4, equation 4.14).
    func firstStep(
        _ state: [Tensor], _ rates: [Tensor], _ ratesAfter: (_ h: Tensor, _ state: [Tensor]) -> [Tensor]
    ) -> Tensor {
        let (size, speed) = (norm(state, state, state), norm(rates, state, state))
        let isSmall = size.less(1e-5).or(speed.less(1e-5))
        let short = Tensor.select(isSmall, number(duration) * 1e-3, size / speed * 0.01).minimum(number(duration))
        let after = ratesAfter(short, RungeKutta.moved(state, by: [1], [rates], short))
        let bend = norm(zip(after, rates).map { $0 - $1 }, state, state) / short
        let most = speed.maximum(bend)
        let long = Tensor.select(most.greater(1e-15), ((most * 100).log() * -0.2).exp(), number(duration))
        return (short * 100).minimum(long).minimum(number(duration))
    }
}
