import Compiler
import Graph
import Likelihood

/// One iteration of L-BFGS as a step of a run: a direction, and as many passes over the training set as the line search along it needs.
/// The host sees the objective, the slope along the direction and two norms, all of them numbers.
///
/// Of what an iteration begins with only the pairs are kept in a run's state. Objective and gradient at the weights are computed again
/// where a run goes on, by the same program from the same numbers, and so to the same bits.
final class LBFGSStep: TrainingStep {
    private let rule: LBFGS
    private let weightDecay: Double
    private let gradient: SummedGradient
    private let states: StateStore
    private let keep: [(name: String, shape: [Int])]
    private let (measure, aim, move, remember): (any Executable, any Executable, any Executable, any Executable)
    /// What is known at the weights, where the gradient's state is theirs.
    private var current: Evaluation?
    private(set) var isConverged = false

    /// The objective at some weights.
    private struct Evaluation {
        /// Without weight decay.
        var loss: Double
        var objective: Double
        /// Along the direction.
        var slope: Double
        var gradientNorm: Double
    }

    /// An iteration was left because the run is to stop.
    private struct Interruption: Error {}

    init(_ run: Run, _ rule: LBFGS) throws {
        self.rule = rule
        weightDecay = run.settings.weightDecay
        states = run.states
        gradient = try SummedGradient(run)
        let drawn = Set(gradient.program.inputs).intersection([
            RandomSource.seedInput, RandomSource.stepInput, RandomSource.examplesInput,
        ])
        try require(
            drawn.isEmpty,
            "optimizer=lbfgs: it minimises one function, and the objective of \(run.name) draws random numbers anew for each step (dropout, noise); leave that out, or take adam"
        )
        try require(
            run.model.feeds(step: 0).isEmpty,
            "optimizer=lbfgs: it minimises one function, and \(run.name) trains on other masks at each step; take one mask, or adam"
        )
        try require(
            !gradient.program.hasOtherUpdates,
            "optimizer=lbfgs: \(run.name) keeps running statistics, which every pass of a line search would move; take adam"
        )
        let programs = LBFGSPrograms(
            gradient.program.trained, history: Int(rule.history), weightDecay: weightDecay)
        keep = programs.pairStates
        try run.makeStates(keep + programs.scratchStates)
        func load(_ tensors: LBFGSPrograms.Tensors) throws -> any Executable {
            try run.load(
                compile(tensors.outputs, updates: tensors.updates), maximumBatch: 1, for: "a step of L-BFGS")
        }
        (measure, aim) = (try load(programs.measure), try load(programs.aim))
        (move, remember) = (try load(programs.move), try load(programs.remember))
    }

    var keptStates: [(name: String, shape: [Int])] { keep }
    var batchesPerStep: Int? { nil }
    var plannedBytes: Int {
        [measure, aim, move, remember].reduce(gradient.plannedBytes) { $0 + $1.plannedBytes }
    }

    func run(_ batches: StepBatches) throws -> StepLoss? {
        do {
            let start = try current ?? evaluate(batches)
            // The trainer says what a starting point that is no number means.
            guard start.objective.isFinite, start.gradientNorm.isFinite else { return .known(.nan) }
            let end = try iterate(from: start, batches)
            current = end
            return .known(end.loss)
        } catch is Interruption {
            return nil
        }
    }

    func firstNonFinite(_ batches: StepBatches) throws -> String? { try gradient.firstNonFinite(batches) }

    /// Loss, gradient and slope at the weights.
    private func evaluate(_ batches: StepBatches) throws -> Evaluation {
        current = nil
        guard let loss = try gradient.run(batches, canStop: true) else { throw Interruption() }
        let numbers = try measure.run([:], batch: 1).map { $0.doubles[0] }
        return Evaluation(
            loss: loss, objective: loss + weightDecay / 2 * numbers[1], slope: numbers[0],
            gradientNorm: numbers[2].squareRoot())
    }

    /// The weights at a step along the direction.
    private func move(to step: Double) throws {
        let feeds: [String: Feed] = [LBFGSPrograms.step: .host(HostArray([Float(step)], shape: []))]
        _ = try move.run(feeds, batch: 1)
    }

    /// The slope of a new direction at the weights, and whether it is the gradient's own, as no pair says otherwise.
    private func chooseDirection() throws -> (slope: Double, isSteepest: Bool) {
        let numbers = try aim.run([:], batch: 1).map { $0.doubles[0] }
        return (numbers[0], !(numbers[1] > 0))
    }

    private func forget() throws {
        for (name, shape) in keep { try states.set(name, HostArray(type: .float32, shape: shape)) }
    }

    private func iterate(from start: Evaluation, _ batches: StepBatches) throws -> Evaluation {
        guard start.gradientNorm > rule.gradientTolerance else {
            isConverged = true
            return start
        }
        var (slope, isSteepest) = try chooseDirection()
        while true {
            if slope < 0, let end = try search(from: start, slope: slope, isSteepest: isSteepest, batches) {
                return end
            }
            if isSteepest { break }
            // Pairs whose rounding is all that is left of them lead nowhere; the gradient itself still may.
            try forget()
            (slope, isSteepest) = try chooseDirection()
        }
        // No step makes the objective less by more than it is rounded by.
        isConverged = true
        return start
    }

    /// - Returns: what is known where the search along the direction ended, with the weights there; `nil` where it found nothing and
    ///   the weights and the gradient are those that it began with.
    private func search(
        from start: Evaluation, slope: Double, isSteepest: Bool, _ batches: StepBatches
    ) throws -> Evaluation? {
        // Hager and Zhang's estimate of what values in the hundreds are rounded by; batch means are rounded to float32.
        let noise = 1e-6 * abs(start.objective)
        let first = isSteepest ? min(1, 1 / start.gradientNorm) : 1
        var last: (step: Double, evaluation: Evaluation)?
        func evaluated(at step: Double) throws -> Evaluation {
            try move(to: step)
            let found = try evaluate(batches)
            last = (step, found)
            return found
        }
        let (step, end): (Double, Evaluation)
        do {
            let found = try LineSearch(noise: noise).search(
                from: LinePoint(step: 0, value: start.objective, slope: slope), first: first
            ) { step in
                let found = try evaluated(at: step)
                return LinePoint(
                    step: step, value: found.objective.isFinite ? found.objective : .infinity, slope: found.slope)
            }
            guard let found else {
                try move(to: 0)
                _ = try evaluate(batches)
                return nil
            }
            // Mostly the point that was looked at last, whose gradient is there.
            step = found.step
            if let last, last.step == step { end = last.evaluation } else { end = try evaluated(at: step) }
        } catch is Interruption {
            try move(to: 0)
            throw Interruption()
        }
        // Else the function bends the other way between the two points, and the pair says nothing of its curvature.
        if end.slope > slope { _ = try remember.run([:], batch: 1) }
        // What the values cannot tell, the slope at the start does.
        let difference = start.objective - end.objective
        let gain = abs(difference) > noise ? difference : -slope * step / 2
        let scale = max(abs(start.objective), abs(end.objective), 1)
        isConverged = end.gradientNorm <= rule.gradientTolerance || gain <= rule.decreaseTolerance * scale
        return end
    }
}
