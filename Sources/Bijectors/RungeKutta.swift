import Graph

/// What is integrated along a path: from the time and the state, a list of tensors, the rate of each. The time is `[1, 1]`, one for all
/// examples, or `[batch, 1]`.
typealias Rates = (_ time: Tensor, _ state: [Tensor]) -> [Tensor]

/// An explicit Runge-Kutta method by its tableau (Butcher 1964): stage i looks at the time t + c[i] h and the state
/// y + h (a[i][0] k[0] + a[i][1] k[1] + ..), k being the rates of the stages before; the step is h (b[0] k[0] + b[1] k[1] + ..).
struct RungeKutta {
    let c: [Double]
    let a: [[Double]]
    let b: [Double]

    /// The state of a stage, or at the end of a step.
    /// - Parameter h: anything that multiplies a rate.
    static func moved(_ state: [Tensor], by weights: [Double], _ rates: [[Tensor]], _ h: Tensor) -> [Tensor] {
        state.indices.map { i in combination(weights, rates.map { $0[i] }).map { state[i] + $0 * h } ?? state[i] }
    }

    /// The sum of tensors with weights; `nil` where all of these are 0.
    static func combination(_ weights: [Double], _ tensors: [Tensor]) -> Tensor? {
        zip(weights, tensors).filter { $0.0 != 0 }.map { $0.0 == 1 ? $0.1 : $0.1 * $0.0 }
            .reduce(nil) { sum, term in sum.map { $0 + term } ?? term }
    }

    func step(_ state: [Tensor], at time: Tensor, _ h: Double, _ rates: Rates) -> [Tensor] {
        let length = Tensor.scalar(h, time.elementType)
        var found: [[Tensor]] = []
        for stage in c.indices {
            let y = Self.moved(state, by: a[stage], found, length)
            found.append(rates(c[stage] == 0 ? time : time + c[stage] * h, y))
        }
        return Self.moved(state, by: b, found, length)
    }
}

/// A solver of a given number of steps of equal length.
///
/// Its steps are a `scan`, through which gradients flow: what is differentiated is what was computed, whatever the error of the steps. A
/// training step keeps the state before every step and every product of every evaluation, so its memory grows with the steps: RK4 of 20
/// steps, three layers of 64 units and the exact trace of two variables keep 80 x 7 x 64 numbers for each example, some 150 kB.
public enum FixedStepSolver: String, Sendable, CaseIterable {
    /// y + h f(t, y): of order 1.
    case euler
    /// y + h f(t + h/2, y + h/2 f(t, y)): of order 2.
    case midpoint
    /// The method of Kutta (1901), of order 4.
    case rk4

    /// Evaluations of the rates in each step.
    public var stages: Int { method.b.count }

    var method: RungeKutta {
        switch self {
        case .euler: RungeKutta(c: [0], a: [[]], b: [1])
        case .midpoint: RungeKutta(c: [0, 0.5], a: [[], [0.5]], b: [0, 1])
        case .rk4:
            RungeKutta(
                c: [0, 0.5, 0.5, 1], a: [[], [0.5], [0, 0.5], [0, 0, 1]], b: [1 / 6.0, 1 / 3.0, 1 / 3.0, 1 / 6.0])
        }
    }

    /// The state after `duration`, from the time 0 on.
    func solve(_ state: [Tensor], duration: Double, steps: Int, _ rates: Rates) -> [Tensor] {
        let (h, type) = (duration / Double(steps), state[0].elementType)
        let starts = Values(shape: [steps, 1, 1], elements: (0..<steps).map { Double($0) * h })
        return Tensor.scan(state, over: [.constant(HostArray(starts, as: type))]) { state, slices in
            (method.step(state, at: slices[0], h, rates), [])
        }.carries
    }
}
