import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

extension Flow {
    /// FFJORD (Grathwohl et al. 2019): examples of vectors move in continuous time, by a network that is told the time, from a standard
    /// normal to the data. See `ContinuousFlow` for how it is solved and trained.
    /// - Parameters:
    ///   - solver: of evaluation and drawing.
    ///   - features: numbers that each example is conditioned on.
    public static func continuous(
        variables: Int, hidden: [Int] = [64, 64, 64], time: TimeInput = .squash, activation: Activation = .tanh,
        solver: ContinuousFlow.Solver = .adaptive(tolerance: 1e-5), trace: ContinuousFlow.Trace = .exact,
        training: ContinuousFlow.Training = ContinuousFlow.Training(), features: Int = 0, startsAtIdentity: Bool = true
    ) -> Flow {
        let network = TimeNetwork(
            variables: variables, hidden: hidden, time: time, activation: activation, features: features,
            startsAtIdentity: startsAtIdentity)
        return Flow(
            ContinuousFlow(network, solver: solver, trace: trace, training: training), base: DiagonalNormal(),
            exampleShape: [variables], features: features)
    }
}

extension Flow: MeteredModel {
    /// How often the velocity of a flow in continuous time is computed for an example, where a tolerance decides.
    public func effort(_ x: Tensor, _ context: Context) -> (unit: String, count: Tensor)? {
        guard let bijector = bijector as? ContinuousFlow, case .adaptive = bijector.solver else { return nil }
        let context = inner(context, beside: x)
        let start = prepared(x, context).0.value
        return ("evaluations of the velocity", bijector.evaluations(of: start, context))
    }
}

extension Flow {
    /// The choices of a flow of vectors in continuous time.
    public struct ContinuousSettings: ModelSettings {
        /// Units of each hidden layer of the velocity's network.
        public var hidden = [64, 64, 64]
        /// tanh, sigmoid, softplus or relu.
        public var activation = "tanh"
        /// How layers are told the time: squash or concat.
        public var time = "squash"
        /// solve: the likelihood, through steps of a given number; adjoint: the likelihood, with the adjoint's gradients, as `tolerance`
        /// has it; matching: flow matching, without a solve.
        public var training = Training.solve
        /// Of training=solve: euler, midpoint or rk4.
        public var solver = "rk4"
        /// Of training=solve.
        public var steps = 10
        /// Of the adaptive solver, that evaluates and draws; 0 evaluates and draws by `steps` steps of `solver`.
        public var tolerance = 1e-5
        /// Of training: exact or hutchinson.
        public var trace = "exact"
        /// Of evaluation: exact or hutchinson.
        public var evaluationTrace = "exact"
        /// Weights of what keeps the velocity small, and its Jacobian (Finlay et al. 2020).
        public var kinetic = 0.0
        public var jacobian = 0.0
        /// Whole numbers 0 ..< levels as data: uniform noise is added and they are divided by levels; 0 for real data.
        public var levels = 0
        /// For whole numbers: x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves them in [0, 1).
        public var alpha = -1.0

        public enum Training: String, ChoiceSetting { case solve, adjoint, matching }

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(
                hidden.allSatisfy { (1...1 << 20).contains($0) } && hidden.count <= 64,
                "hidden: expected up to 64 layers of 1 to 1048576 units, found \(hidden)")
            try require(steps, "steps", in: 1...100_000)
            try require(
                tolerance == 0 || (1e-12...0.1).contains(tolerance),
                "tolerance: expected 0, or 1e-12 to 0.1, found \(tolerance)")
            try require(
                tolerance > 0 || training != .adjoint,
                "training=adjoint solves adaptively: expected a tolerance of 1e-12 to 0.1, found 0")
            try require(kinetic >= 0 && kinetic.isFinite, "kinetic: expected a number of at least 0, found \(kinetic)")
            try require(
                jacobian >= 0 && jacobian.isFinite, "jacobian: expected a number of at least 0, found \(jacobian)")
            try require(
                levels == 0 || (2...1 << 16).contains(levels), "levels: expected 0, or 2 to 65536, found \(levels)")
            try require(alpha < 0.5, "alpha: expected a number below 0.5, found \(alpha)")
            _ = try requireChoice(activation, "activation") as Activation
            _ = try requireChoice(time, "time") as TimeInput
            _ = try requireChoice(solver, "solver") as FixedStepSolver
            _ = try requireChoice(trace, "trace") as ContinuousFlow.Trace
            _ = try requireChoice(evaluationTrace, "evaluationTrace") as ContinuousFlow.Trace
        }

        public func requireEffects() throws {
            let plain = Self()
            let solves = training == .solve || tolerance == 0
            let idle: [(isIdle: Bool, reason: String)] = [
                (
                    solver != plain.solver && !solves,
                    "solver=\(solver) has no effect with training=\(training.rawValue), as the tolerance decides; set training=solve"
                ),
                (
                    trace != plain.trace && training == .matching,
                    "trace=\(trace) has no effect with training=matching, which needs none; set evaluationTrace"
                ),
                (
                    (kinetic != 0 || jacobian != 0) && training == .matching,
                    "kinetic and jacobian have no effect with training=matching, whose lines are straight; set training=solve or adjoint"
                ),
                (
                    alpha != plain.alpha && levels == 0,
                    "alpha=\(alpha) has no effect on real numbers; set levels, 256 for bytes"
                ),
            ]
            if let first = idle.first(where: { $0.isIdle }) { throw UsageError(first.reason) }
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.flowLevels(for: "ffjord")
            // Levels lie in [0, 1), whose ends a logit sends to infinity.
            if levels > 0 { alpha = 0.05 }
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try validate(examples)
            let conditions = Conditions(of: examples)
            let steps = ContinuousFlow.Solver.fixed(try requireChoice(solver, "solver"), steps: steps)
            let adaptive = ContinuousFlow.Solver.adaptive(tolerance: tolerance)
            var rule = ContinuousFlow.Training()
            rule.solver = training == .solve ? steps : adaptive
            rule.trace = try requireChoice(trace, "trace")
            rule.isMatching = training == .matching
            (rule.kinetic, rule.jacobian) = (kinetic, jacobian)
            if rule.isMatching, tolerance == 0 { rule.solver = steps }
            let flow = Flow.continuous(
                variables: examples.count, hidden: hidden, time: try requireChoice(time, "time"),
                activation: try requireChoice(activation, "activation"), solver: tolerance > 0 ? adaptive : steps,
                trace: try requireChoice(evaluationTrace, "evaluationTrace"), training: rule,
                features: conditions.vectorCount)
            return flow.forData(of: examples, levels: levels, alpha: alpha)
        }
    }
}
