import Distributions
import Graph
import Layers

/// A flow in continuous time (Chen et al. 2018; FFJORD, Grathwohl et al. 2019): examples move by dz/dt = f(z, t, context), from the latents
/// at the time 0 to the data at the time `duration`. The logarithm of the volume changes at the rate of the trace of df/dz (Chen et al.
/// 2018, theorem 1), so that log p(x) = log p(z(0)) - the integral of the trace along the way. f may be any network: nothing is triangular,
/// and the inverse is the same solve the other way round.
///
///     let flow = ContinuousFlow(TimeNetwork(variables: 2))
///     let z = flow.forward(.input("x", [.batch, 2]), Context())
///
/// **How a solve fits the house.** A solve is a loop of the graph, and nothing outside of the graph knows of it: it is compiled, trained,
/// evaluated, drawn and timed as every other bijector is, on every device, without a seam of its own.
/// - Steps of a given number (`FixedStepSolver`) are a `scan`. Gradients go through it, and it keeps every step.
/// - Steps as long as a tolerance allows (`DormandPrince`) are an `iterate`, whose body chooses the length of the next step and whose
///   condition asks whether some example is still under way. Gradients are the adjoint's (Chen et al. 2018, algorithm 1): z, the adjoint
///   and the gradients of the parameters are integrated back by another `iterate`, in the memory of one step. It is given to `gradients` as
///   the gradient of the solve (`Tensor.withGradient`), so that a training step with it is one program too.
///
/// Examples that are evaluated or drawn adaptively have steps of their own, so that the figure of one never depends on the others'; a
/// training step has the same for the whole batch, which is less work.
///
/// What an adaptive solve gives is as exact as its tolerance; in both directions the numbers are those of one ordinary differential
/// equation, so that the inverse comes back up to that. A fixed number of steps has no such promise, and a velocity that was trained with
/// too few of them is wrong without a sign of it: compare with an adaptive solve.
public struct ContinuousFlow: Bijector, LossBijector {
    /// How an equation is solved.
    public enum Solver: Sendable, Equatable {
        case fixed(FixedStepSolver, steps: Int)
        /// Dormand and Prince's method; relative and absolute tolerance of a step.
        case adaptive(tolerance: Double)
    }

    /// How the trace of the velocity's Jacobian is found.
    public enum Trace: String, Sendable, CaseIterable {
        case exact
        /// transposed(e) J e with random signs e (Hutchinson 1989), the same all along a solve: its mean is the trace (Grathwohl et al.
        /// 2019, equation 7).
        case hutchinson
    }

    /// What a training step minimises.
    public struct Training: Sendable {
        public var solver = Solver.fixed(.rk4, steps: 20)
        public var trace = Trace.exact
        /// In place of -log p the square of what the velocity misses that of a straight line from a draw of the base to an example by, at a
        /// random time: conditional flow matching (Lipman et al. 2023, equations 22 and 23), which solves nothing.
        public var isMatching = false
        /// The deviation around an example in which these lines end.
        public var leastDeviation = 1e-3
        /// What is added for the mean of |f|^2 over the time: particles on their straight way at constant speed have the least of it
        /// (Finlay et al. 2020, equation 6).
        public var kinetic = 0.0
        /// What is added for the mean of |transposed(e) J|^2 over the time, an estimate of the Jacobian's squared norm (Finlay et al. 2020,
        /// equation 7): a velocity that hardly bends takes long steps.
        public var jacobian = 0.0

        public init() {}
    }

    public let field: any VelocityField
    public let duration: Double
    /// Of all but training.
    public let solver: Solver
    public let trace: Trace
    public let training: Training

    /// - Parameters:
    ///   - solver, trace: of evaluation and drawing.
    ///   - duration: the time from latents to data.
    public init(
        _ field: any VelocityField, solver: Solver = .adaptive(tolerance: 1e-5), trace: Trace = .exact,
        training: Training = Training(), duration: Double = 1
    ) {
        trap(unless: duration > 0 && duration.isFinite, "a flow needs some time, found \(duration)")
        for solver in [solver, training.solver] {
            switch solver {
            case .fixed(_, let steps): trap(unless: steps > 0, "a solve needs a step at least, found \(steps)")
            case .adaptive(let tolerance):
                trap(unless: tolerance > 0, "expected a tolerance above 0, found \(tolerance)")
            }
        }
        self.field = field
        self.duration = duration
        self.solver = solver
        self.trace = trace
        self.training = training
    }

    // MARK: a bijector

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let isTraining = context.mode == .train
        let (z, beside, _) = solve(x, .toLatents, [.trace(isTraining ? training.trace : trace)], context)
        return Mapped(z, beside[0].reshaped([z.shape[0]]))
    }

    /// The example alone is solved for without the trace; whoever reads the log-determinant too gets both from one solve each.
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let both = solve(z, .toData, [.trace(trace)], context)
        return Mapped(solve(z, .toData, [], context).value, both.beside[0].reshaped([z.shape[0]]))
    }

    public var structure: BijectorStructure {
        let how =
            switch solver {
            case .fixed(let method, let steps): "\(steps) steps of \(method.rawValue)"
            case .adaptive(let tolerance): "Dormand and Prince's method, tolerance \(tolerance)"
            }
        let trace = trace == .exact ? field.traceFormula : "estimated with random signs (Hutchinson)"
        return BijectorStructure(
            "continuous time", .dense, determinant: "the integral of the velocity's trace, \(trace); \(how)",
            inverse: "the same equation solved the other way")
    }

    /// That the velocity of each example reads this example alone: it is looked at as what is given for one more variable, behind the
    /// others.
    public func claims(_ x: Tensor, _ context: Context) -> [OrderClaim] {
        guard x.shape.rank == 2, x.shape[1].isStatic else {
            return [OrderClaim("velocity", mistake: forward(x, context).value, of: x)]
        }
        let count = x.shape[1].coefficient
        let own = Tensor.ownVariable([x.shape[0], Extent(count + 1)], x.elementType)
        let t = Tensor.scalar(duration / 2, x.elementType).reshaped([1, 1])
        let velocity = velocity(own.sliced(axis: 1, from: 0, count: count), at: t, context)
        if velocity.error != nil { return [OrderClaim("velocity", mistake: velocity, of: own)] }
        return [
            OrderClaim(
                "velocity", velocity, of: own, order: .natural(count + 1),
                variables: [Int32](repeating: Int32(count), count: count))
        ]
    }

    /// How often the velocity is computed to map each example to its latents, `[batch]`.
    public func evaluations(of x: Tensor, _ context: Context) -> Tensor {
        solve(x, .toLatents, [.trace(trace)], context).evaluations
    }

    // MARK: training

    public func loss(_ x: Tensor, base: any Distribution, _ context: Context) -> Tensor {
        if training.isMatching { return matchingLoss(x, base, context) }
        var penalties: [(weight: Double, integrand: Integrand)] = []
        if training.kinetic > 0 { penalties.append((training.kinetic, .kinetic)) }
        if training.jacobian > 0 { penalties.append((training.jacobian, .jacobian)) }
        let (z, beside, _) = solve(
            x, .toLatents, [.trace(training.trace)] + penalties.map(\.integrand), context)
        func perExample(_ tensor: Tensor) -> Tensor { tensor.reshaped([z.shape[0]]) }
        let nats = -(base.logProbability(z, context) + perExample(beside[0]))
        return zip(penalties, beside.dropFirst()).reduce(nats) { $0 + perExample($1.1) * ($1.0.weight / duration) }
    }

    private func matchingLoss(_ x: Tensor, _ base: any Distribution, _ context: Context) -> Tensor {
        let (type, keep) = (x.elementType, 1 - training.leastDeviation)
        let share = context.random.uniform([x.shape[0], 1], stream: 61, as: type)
        var own = context
        own.random = context.random.substream(64)
        let start = base.sample(x.shape, own, temperature: 1).cast(to: type).stoppingGradient()
        let z = start * (1 - share * keep) + x * share
        let wanted = (x - start * keep) / duration
        return (velocity(z, at: share * duration, context) - wanted).squared().sum(axes: [1])
    }

    // MARK: the equation

    private enum Direction { case toLatents, toData }

    /// What is integrated beside the way.
    private enum Integrand: Equatable {
        case trace(Trace)
        case kinetic, jacobian
    }

    private func velocity(_ z: Tensor, at t: Tensor, _ context: Context) -> Tensor {
        checked(field.velocity(z, at: t, context), like: z)
    }

    private func checked(_ velocity: Tensor, like z: Tensor) -> Tensor {
        if velocity.error != nil || velocity.type == z.type { return velocity }
        return .misuse("continuous flow", "expected a velocity of \(z.type), found \(velocity.type)", of: velocity)
    }

    /// The velocity and the rates of the integrals, `[batch, 1]` each, all of them of time that runs upwards.
    private func rates(
        _ z: Tensor, at t: Tensor, _ integrands: [Integrand], noise: Tensor, _ context: Context
    ) -> (velocity: Tensor, beside: [Tensor]) {
        var f = velocity(z, at: t, context)
        func summed(_ terms: Tensor) -> Tensor { terms.sum(axes: [1], keepingAxes: true) }
        func product() -> Tensor { field.velocityAndProduct(z, at: t, with: noise, context).product }
        if f.error != nil { return (f, integrands.map { _ in f }) }
        let beside = integrands.map { integrand -> Tensor in
            switch integrand {
            case .trace(.exact):
                let (velocity, trace) = field.velocityAndTrace(z, at: t, context)
                f = checked(velocity, like: z)
                return trace
            case .trace(.hutchinson): return summed(product() * noise)
            case .kinetic: return summed(f.squared())
            case .jacobian: return summed(product().squared())
            }
        }
        return (f, beside)
    }

    private func solve(
        _ x: Tensor, _ direction: Direction, _ integrands: [Integrand], _ context: Context
    ) -> (value: Tensor, beside: [Tensor], evaluations: Tensor) {
        guard x.error == nil, x.shape.rank == 2, x.shape[1].isStatic, x.shape[1].coefficient > 0 else {
            let problem = Tensor.misuse("continuous flow", "expected [batch, variables], found \(x.shape)", of: x)
            return (problem, integrands.map { _ in problem }, problem)
        }
        let type = x.elementType
        let isPlus = context.random.uniform(x.shape, stream: 60, as: type).less(0.5)
        let noise = Tensor.select(isPlus, .scalar(1, type), .scalar(-1, type))
        /// Of time that runs from the start of this solve to its end.
        func rates(_ elapsed: Tensor, _ z: Tensor) -> [Tensor] {
            let t = direction == .toData ? elapsed : duration - elapsed
            let (velocity, beside) = self.rates(z, at: t, integrands, noise: noise, context)
            guard direction == .toLatents else { return [velocity] + beside }
            // The other way the volume changes the other way; penalties do not.
            return [-velocity] + zip(integrands, beside).map { if case .trace = $0 { -$1 } else { $1 } }
        }
        let zero = Tensor.scalar(0, type).broadcast(to: [x.shape[0], 1])
        let state = [x] + integrands.map { _ in zero }
        let isTraining = context.mode == .train
        switch isTraining ? training.solver : solver {
        case .fixed(let method, let steps):
            let end = method.solve(state, duration: duration, steps: steps) { rates($0, $1[0]) }
            let count = Tensor.scalar(Double(steps * method.stages), type).broadcast(to: [x.shape[0]])
            return (end[0], Array(end.dropFirst()), count)
        case .adaptive(let tolerance):
            let solution = DormandPrince(tolerance: tolerance, isPerExample: !isTraining)
                .solve(state, duration: duration) { rates($0, $1[0]) }
            let parameters = field.parameters.filter(\.isTrained).map(\.tensor)
            let variables = [x] + parameters + [context.features].compactMap { $0 }
            let end = Tensor.concatenate(solution.state, axis: 1).withGradient(by: variables) { end, gradient in
                adjoint(end, gradient, tolerance, variables, rates)
            }
            let width = x.shape[1].coefficient
            return (
                end.sliced(axis: 1, from: 0, count: width),
                integrands.indices.map { end.sliced(axis: 1, from: width + $0, count: 1) }, solution.evaluations
            )
        }
    }

    /// The gradients of what a solve starts from and of what its rates read (Chen et al. 2018, algorithm 1; in the signs of time that runs
    /// back).
    ///
    /// With H = a f + b g, where a is the adjoint of z, g are the rates of the integrals and b their gradients, which do not change on the
    /// way: da = dH/dz and dp = dH/dp for every parameter p. The error of the parameters' gradients is not looked at (Kidger, Chen and
    /// Lyons 2021): they read nothing of themselves.
    /// - Parameters:
    ///   - end: where the solve ended: z and the integrals, `[batch, D + integrals]`.
    ///   - gradient: of `end`.
    private func adjoint(
        _ end: Tensor, _ gradient: Tensor, _ tolerance: Double, _ variables: [Tensor],
        _ rates: (_ elapsed: Tensor, _ z: Tensor) -> [Tensor]
    ) -> [Tensor] {
        let (width, others) = (variables[0].shape[1].coefficient, Array(variables.dropFirst()))
        // All of it is linear in the gradient, and a tolerance means numbers of about one.
        let largest = gradient.absolute().max()
        let scale = Tensor.select(largest.greater(0), largest, 1)
        let scaled = gradient / scale
        let beside = (width..<end.shape[1].coefficient).map { scaled.sliced(axis: 1, from: $0, count: 1) }
        let start =
            [end, scaled].map { $0.sliced(axis: 1, from: 0, count: width) }
            + others.map { Tensor.scalar(0, $0.elementType).broadcast(to: $0.shape) }
        let solution = DormandPrince(tolerance: tolerance, isPerExample: false)
            .solve(start, controlled: 2, duration: duration) { elapsed, state in
                let (z, a) = (state[0].stoppingGradient(), state[1].stoppingGradient())
                let all = rates(duration - elapsed, z)
                let terms = zip([a] + beside, all).map { ($0 * $1).sum() }
                let slopes = terms.dropFirst().reduce(terms[0]) { $0 + $1 }.slopes(by: [z] + others)
                return [-all[0]] + slopes
            }
        return solution.state.dropFirst().map { $0 * scale }
    }
}
