import Compiler
import Graph
import Likelihood

/// What a step of a run reads: batches, one after the other.
struct StepBatches {
    /// How many there are.
    let count: Int
    /// The examples of all of them.
    let examples: Int
    /// What programs are fed for a batch, and its examples; programs take what they know of it.
    let feeds: (_ batch: Int) -> (feeds: [String: HostArray], examples: Int)
}

/// What one step makes of its batches. The trainer knows of a step no more than this; which one a run has, its settings say
/// (`Run.makeTrainingStep`).
protocol TrainingStep: AnyObject {
    /// Names and shapes of the states that a run keeps beside its parameters.
    var keptStates: [(name: String, shape: [Int])] { get }
    /// How many batches a step reads; `nil` for all examples of an epoch.
    var batchesPerStep: Int? { get }
    /// Whether there is nothing left to gain, so that the run ends.
    var isConverged: Bool { get }
    /// Bytes that the programs hold beside states and fed buffers.
    var plannedBytes: Int { get }

    /// Moves the weights, or has a device begin to.
    /// - Returns: `nil` where an interruption was requested on the way, and the weights are what they were.
    func run(_ batches: StepBatches) throws -> StepLoss?
    /// Does a step that gives NaN or infinity group by group, and names the first that does.
    func firstNonFinite(_ batches: StepBatches) throws -> String?
}

/// The mean loss of a step's examples, which may be no number.
enum StepLoss {
    case known(Double)
    /// Of a device that is still at the step: waits for it.
    case waiting(() throws -> Double)

    func value() throws -> Double {
        switch self {
        case .known(let loss): loss
        case .waiting(let wait): try wait()
        }
    }
}

extension TrainingStep {
    var isConverged: Bool { false }
}

/// A step of one batch by an optimizer that needs nothing but its gradients: one program.
final class SingleBatchStep: TrainingStep {
    private let program: TrainingProgram
    private let executable: any Executable

    init(_ run: Run) throws {
        program = try run.makeTrainingProgram()
        executable = try run.load(program.schedule, maximumBatch: run.settings.batch, for: "a training step")
    }

    var keptStates: [(name: String, shape: [Int])] { program.optimizerStates }
    var batchesPerStep: Int? { 1 }
    var plannedBytes: Int { executable.plannedBytes }

    func run(_ batches: StepBatches) throws -> StepLoss? {
        let (feeds, examples) = batches.feeds(0)
        let started = try executable.start(feeds.known(to: executable), batch: examples)
        let loss = { try started.outputs()[0].doubles[0] }
        return started.isFinished ? .known(try loss()) : .waiting(loss)
    }

    func firstNonFinite(_ batches: StepBatches) throws -> String? {
        let (feeds, examples) = batches.feeds(0)
        return try executable.firstNonFinite(feeds.known(to: executable), batch: examples)
    }
}

/// Loss and gradient of several batches, summed on the device: what a large batch gives, in the memory of a small one.
final class SummedGradient {
    let program: TrainingProgram
    private let executable: any Executable

    /// - Throws: `UsageError` where memory is too small.
    init(_ run: Run) throws {
        program = try run.makeTrainingProgram(UpdateRule(optimizer: GradientSum()))
        executable = try run.load(program.schedule, maximumBatch: run.settings.batch, for: "a training step")
    }

    var plannedBytes: Int { executable.plannedBytes }

    private func feeds(_ batches: StepBatches, _ batch: Int) -> (feeds: [String: Feed], examples: Int) {
        let (own, examples) = batches.feeds(batch)
        let share = Double(examples) / Double(batches.examples)
        let feeds = own.merging(GradientSum.feeds(isFirst: batch == 0, share: share)) { $1 }
        return (feeds.known(to: executable), examples)
    }

    /// Sums the gradients of all batches.
    /// - Parameter canStop: whether a requested interruption ends it.
    /// - Returns: the mean loss of the examples; `nil` where it was interrupted.
    func run(_ batches: StepBatches, canStop: Bool = false) throws -> Double? {
        var sum = 0.0
        for batch in 0..<batches.count {
            if canStop, batch > 0, interruptionRequested.load(ordering: .relaxed) { return nil }
            let (feeds, examples) = feeds(batches, batch)
            sum += try executable.run(feeds, batch: examples)[0].doubles[0] * Double(examples)
        }
        return sum / Double(batches.examples)
    }

    func firstNonFinite(_ batches: StepBatches) throws -> String? {
        for batch in 0..<batches.count {
            let (feeds, examples) = feeds(batches, batch)
            if let culprit = try executable.firstNonFinite(feeds, batch: examples) { return culprit }
        }
        return nil
    }
}

/// A step of several batches: their gradients are summed, and the optimizer moves the weights by the sum.
final class AccumulatedStep: TrainingStep {
    private let gradient: SummedGradient
    private let program: TrainingProgram
    private let executable: any Executable
    let batchesPerStep: Int?

    init(_ run: Run) throws {
        batchesPerStep = run.settings.accumulate
        gradient = try SummedGradient(run)
        program = try TrainingProgram(summed: gradient.program.trained, rule: run.updateRule(run.optimizer))
        try run.makeStates(program.optimizerStates)
        executable = try run.load(program.schedule, maximumBatch: 1, for: "an update")
    }

    var keptStates: [(name: String, shape: [Int])] { program.optimizerStates }
    var plannedBytes: Int { gradient.plannedBytes + executable.plannedBytes }

    func run(_ batches: StepBatches) throws -> StepLoss? {
        let loss = try gradient.run(batches)
        // The scalars of the step are the same beside any of its batches.
        _ = try executable.run(batches.feeds(0).feeds.known(to: executable), batch: 1)
        return loss.map { .known($0) }
    }

    func firstNonFinite(_ batches: StepBatches) throws -> String? {
        if let culprit = try gradient.firstNonFinite(batches) { return culprit }
        return try executable.firstNonFinite(batches.feeds(0).feeds.known(to: executable), batch: 1)
    }
}

extension Run {
    /// The step that the settings ask for.
    /// - Throws: `UsageError` for a model or settings that it cannot train, and where memory is too small.
    func makeTrainingStep() throws -> any TrainingStep {
        if let model = model as? any DirectlyFittedModel, model.isFittedDirectly { return DirectStep(self, model) }
        if let rule = try settings.makeLBFGS() { return try LBFGSStep(self, rule) }
        return settings.accumulate > 1 ? try AccumulatedStep(self) : try SingleBatchStep(self)
    }

    /// What a step does with gradients.
    func updateRule(_ optimizer: any Optimizer) -> UpdateRule {
        UpdateRule(
            optimizer: optimizer, weightDecay: settings.weightDecay, clipNorm: settings.clipNorm,
            averaging: settings.averaging)
    }
}

extension Executable {
    /// Runs group by group, and names the first whose results are not finite.
    func firstNonFinite(_ feeds: [String: Feed], batch: Int) throws -> String? {
        for id in schedule.inputs {
            if case .host(let array)? = feeds[schedule.values[id].label] {
                try write(array, to: id, batch: batch)
            }
        }
        var written = Set<Int>()
        for (index, group) in schedule.groups.enumerated() {
            try clearFirstWrites(of: index, written: &written, batch: batch)
            try run(group: index, batch: batch)
            for value in group.writes where schedule.values[value].type.element.isFloatingPoint {
                if try !read(value, batch: batch).isFinite {
                    return group.label + (group.location.map { " (\($0))" } ?? "")
                }
            }
        }
        return nil
    }
}
