import Compiler
import Datasets
import Graph
import Layers
import Likelihood
import Synchronization

/// A run that produced NaN or infinity, and where it began.
public struct NonFiniteError: Error, Sendable, CustomStringConvertible {
    public let description: String
}

/// Set by a signal handler; the trainer then finishes its step, saves and returns.
public let interruptionRequested = Atomic<Bool>(false)

/// Trains a model: shuffled epochs, validation after each, the best weights kept, everything needed to go on saved in one
/// atomic step. Given the configuration the result is the same to the bit, however often the run was stopped and resumed.
public final class Trainer {
    public enum Outcome: Sendable { case finished, interrupted }

    public let run: Run
    /// Where everything is kept; a run without a folder is kept in memory alone.
    public private(set) var folder: RunFolder?
    private let trainingSet: Examples
    private let validationSet: Examples
    /// Of the training set, as devices take them.
    private let trainingFeatures: HostArray?
    /// The examples of an epoch; the same array for sets of a fixed size.
    private let trainingExamples: (_ epoch: Int) -> HostArray
    private let trainingStep: any TrainingStep
    private var progress = TrainingProgress()
    /// The last step, whose loss a device may still be at.
    private var unread: (loss: StepLoss, rows: Int, step: Int)?
    /// The last loss that was read; `nil` before there is one.
    private var loss: Double?
    private var lock: RunLock?
    /// Whether `state.safetensors` is whole, and worth being kept as the state before when it is replaced.
    private var isNewestWhole = true
    private let report: (ProgressReport) -> Void
    private let clock = ContinuousClock()
    /// Seconds between saves within an epoch.
    public var saveInterval = 60.0

    /// What a progress bar shows.
    public struct ProgressReport: Sendable {
        public let epoch: Int
        public let epochs: Int
        public let step: Int
        public let stepsPerEpoch: Int
        public let loss: Double
        public let examplesPerSecond: Double
        public let secondsLeft: Double
        /// Set once an epoch, after validation, in the unit of the model's metric.
        public let validation: Double?
        /// Of loss and validation.
        public let unit: String
    }

    /// - Parameters:
    ///   - train, valid: examples that `run.validate` lets pass.
    ///   - lock: that of the folder, if it is held already; the trainer holds it for its life.
    ///   - trainingExamples: other examples for each epoch, as many as have labels or features.
    ///   - report: called after every step and every epoch.
    /// - Throws: `FileError` where another process or trainer writes into the folder.
    public init(
        _ run: Run, train: Examples, valid: Examples, folder: RunFolder?, lock: RunLock? = nil,
        trainingExamples: ((_ epoch: Int) -> HostArray)? = nil,
        report: @escaping (ProgressReport) -> Void = { _ in }
    ) throws {
        self.run = run
        (trainingSet, validationSet) = (train, valid)
        trainingFeatures = train.features.map { HostArray($0.floats, shape: $0.shape) }
        self.folder = folder
        self.lock = try lock ?? folder.map { try RunLock($0) }
        self.report = report
        self.trainingExamples = trainingExamples ?? { _ in train.rows }
        try require(
            trainingExamples == nil || run.settings.optimizer != .lbfgs,
            "optimizer=lbfgs: it minimises one function, and the examples of \(run.name) are drawn anew for each epoch; take adam"
        )
        trainingStep = try run.makeTrainingStep()
        // Made now, so that a lack of memory is found before an epoch and not after it.
        _ = try run.loadEvaluator()
    }

    /// Keeps everything in a folder from now on: a run whose step was found to fit into memory before its folder was made.
    /// - Parameter lock: that of the folder, which the trainer holds for its life.
    public func keep(in folder: RunFolder, lock: RunLock?) { (self.folder, self.lock) = (folder, lock) }

    /// The parameters that have an average; what a step moves by other means than gradients (running statistics) has none, and
    /// stands for itself.
    private var averaged: [(name: String, parameter: Parameter)] {
        let states = Set(trainingStep.keptStates.map(\.name))
        return run.parameters.filter { states.contains("average.\($0.name)") }
    }

    /// What programs call each parameter, by its name in files.
    private var stateLabels: [String: String] {
        Dictionary(uniqueKeysWithValues: run.parameters.map { ($0.name, $0.parameter.label) })
    }

    /// Bytes on the device: states and everything planned for a step.
    public var plannedBytes: Int { trainingStep.plannedBytes + run.states.byteCount }

    /// Begins at the current weights.
    public func start() throws {
        for (name, parameter) in averaged { try run.states.set("average.\(name)", run.states.get(parameter)!) }
        try keepBest()
        if let folder { try Files.write([], to: folder.metrics) }
        try save()
    }

    /// Goes on where `state.safetensors` says, or the state before it where that is damaged.
    /// - Returns: what was damaged and how the run goes on nevertheless, a line each.
    @discardableResult public func restore() throws -> [String] {
        guard let folder else { return [] }
        let (stored, metadata, path, note) = try folder.readState()
        let arrays = FormerNames(run.parameters.map(\.name)).today(stored)
        var restored = try TrainingProgress(metadata, path)
        let expected =
            run.parameters.map { ($0.name, $0.parameter.shape) } + trainingStep.keptStates.map { ($0.name, $0.shape) }
            + run.parameters.map { ("best.\($0.name)", $0.parameter.shape) }
        let memories = Set(trainingStep.keptStates.map(\.name))
        for (name, shape) in expected {
            guard let array = arrays[name], array.shape == shape, array.type == .float32 else {
                throw FileError(
                    path,
                    "expected “\(name)” of float32\(shape), found \(arrays[name].map { "\($0.type)\($0.shape)" } ?? "none")"
                )
            }
            guard memories.contains(name) || array.isFinite else {
                throw FileError(
                    path,
                    "“\(name)” holds NaN or infinity; it is damaged. Start another run with --weights \(folder.model)")
            }
        }
        if let extra = arrays.keys.sorted().first(where: { name in !expected.contains { $0.0 == name } }) {
            throw FileError(path, "holds “\(extra)”, which this run does not have; it is of another run")
        }
        if let seed = metadata["seed"], seed != "\(run.settings.seed)" {
            throw FileError(
                path,
                "is of a run with the seed \(seed), this one has \(run.settings.seed); put its own back")
        }
        let (length, loss) = try folder.restoreMetrics(
            length: restored.metricsLength, end: restored.metricsEnd, epochs: restored.epoch)
        restored.metricsLength = length
        for (name, _) in expected { try run.states.set(stateLabels[name] ?? name, arrays[name]!) }
        (progress, unread) = (restored, nil)
        isNewestWhole = path == folder.state
        return [note, loss].compactMap { $0 }
    }

    /// Trains to the end of the configured epochs, to an early stop, or to an interruption.
    public func train() throws -> Outcome {
        let settings = run.settings
        var lastSave = clock.now
        // A run that converged in an epoch's step still validates it.
        while !progress.isFinished || progress.stepInEpoch > 0 {
            if progress.epoch >= settings.epochs
                || (settings.patience > 0 && progress.bestEpoch >= 0
                    && progress.epoch - progress.bestEpoch > settings.patience)
            {
                progress.isFinished = true
                try save()
                break
            }
            let examples = epochExamples(progress.epoch)
            let count = examples.shape[0]
            let order = order(count)
            let steps = steps(count)
            guard progress.stepInEpoch <= steps else {
                throw FileError(
                    folder?.state ?? "the state",
                    "has done \(progress.stepInEpoch) steps of an epoch of \(steps); it is damaged, or the batch was changed"
                )
            }
            let epochStart = clock.now
            let firstStep = progress.stepInEpoch
            while progress.stepInEpoch < steps {
                let batches = stepBatches(examples, order, steps)
                let rows = batches.examples
                guard let next = try trainingStep.run(batches) else {
                    try save()
                    return .interrupted
                }
                // The loss before is read while the device is at this step.
                try readLoss()
                unread = (next, rows, progress.step)
                // The first is waited for, as a report is of some loss.
                if case .known = next { try readLoss() } else if loss == nil { try readLoss() }
                progress.stepInEpoch += 1
                progress.step += 1
                if trainingStep.isConverged { progress.isFinished = true }
                let elapsed = seconds(since: epochStart)
                let done = Double(progress.stepInEpoch - firstStep)
                let perStep = elapsed / done
                report(
                    ProgressReport(
                        epoch: progress.epoch, epochs: settings.epochs, step: progress.stepInEpoch,
                        stepsPerEpoch: steps,
                        loss: loss ?? .nan, examplesPerSecond: Double(rows) / perStep,
                        secondsLeft: perStep
                            * Double(steps * (settings.epochs - progress.epoch) - progress.stepInEpoch),
                        validation: nil, unit: run.model.metric.unit))
                if interruptionRequested.load(ordering: .relaxed) {
                    try save()
                    return .interrupted
                }
                if seconds(since: lastSave) > saveInterval {
                    try save()
                    lastSave = clock.now
                }
            }
            try readLoss()
            try finishEpoch(count, epochStart)
            lastSave = clock.now
        }
        return .finished
    }

    /// Steps of an epoch of some examples.
    private func steps(_ count: Int) -> Int {
        guard let batches = trainingStep.batchesPerStep else { return 1 }
        let examples = batches * run.settings.batch
        return (count + examples - 1) / examples
    }

    /// Takes the loss of the last step into the epoch's, once a device is done with it.
    private func readLoss() throws {
        guard let (next, rows, step) = unread else { return }
        unread = nil
        let value = try next.value()
        guard value.isFinite else { throw try explainNonFinite(in: step) }
        progress.lossSum += value * Double(rows)
        loss = value
    }

    /// The rows of an epoch in the order of training: each once, or as often as it weighs. Of rows that count less than once chance
    /// decides: points that lie evenly on the line of all weights fall on a row or not, and where they begin is drawn.
    private func order(_ count: Int) -> [Int] {
        let seed = run.settings.seed
        // What minimises one function reads the same rows in every epoch.
        let epoch = trainingStep.batchesPerStep == nil ? 0 : progress.epoch
        let shuffled = HostRandom(seed: seed, stream: "shuffle").permutation(count, step: epoch)
        guard let weights = trainingSet.weights else { return shuffled }
        let start = HostRandom(seed: seed, stream: "weights").uniform(example: epoch)
        let spacing = weights.reduce(0) { $0 + Double($1) } / Double(count)
        var (row, end) = (0, Double(weights[0]))
        let rows = (0..<count).map { place in
            while end <= (Double(place) + start) * spacing, row < count - 1 {
                row += 1
                end += Double(weights[row])
            }
            return row
        }
        return shuffled.map { rows[$0] }
    }

    /// The examples of an epoch, sheared if so set, as bytes or floats: other types are converted once, not at every step.
    private func epochExamples(_ epoch: Int) -> HostArray {
        var examples = trainingExamples(epoch)
        let settings = run.settings
        if settings.shear > 0, epoch < settings.epochs - settings.straightEpochs,
            let image = run.examples.image
        {
            examples = Images.sheared(
                examples, shape: image, limit: settings.shear, seed: settings.seed, step: epoch)
        }
        switch examples.type {
        case .uint8, .bool, .float32: return examples
        case .float64, .int32: return HostArray(examples.floats, shape: examples.shape)
        }
    }

    /// The batches of the step.
    private func stepBatches(_ examples: HostArray, _ order: [Int], _ steps: Int) -> StepBatches {
        let batch = run.settings.batch
        let size = trainingStep.batchesPerStep.map { $0 * batch } ?? order.count
        let start = progress.stepInEpoch * size
        let rows = order[start..<min(order.count, start + size)]
        return StepBatches(count: (rows.count + batch - 1) / batch, examples: rows.count) { [self] index in
            let first = start + index * batch
            return batchFeeds(examples, rows[first..<min(rows.endIndex, first + batch)], steps)
        }
    }

    /// Some rows and everything that changes with the step.
    private func batchFeeds(_ examples: HostArray, _ rows: ArraySlice<Int>, _ steps: Int) -> (
        [String: HostArray], Int
    ) {
        let settings = run.settings
        let width = trainingSet.rows.shape[1]
        var values: [Float] = []
        values.reserveCapacity(rows.count * width)
        examples.withUnsafeBytes { bytes in
            for row in rows {
                let range = row * width..<(row + 1) * width
                if examples.type == .float32 {
                    values += bytes.bindMemory(to: Float.self)[range]
                } else {
                    for byte in bytes[range] { values.append(Float(byte)) }
                }
            }
        }
        let total = steps * max(1, settings.epochs)
        let rate =
            settings.learningRate
            * settings.schedule.factor(
                progress: Double(progress.step) / Double(total), final: settings.finalRate)
        // Noise differs from row to row of an epoch, however rows are put into batches.
        var feeds = run.stepFeeds(step: progress.step, rate: rate, examples: Array(rows))
        feeds["x"] = HostArray(values, shape: [rows.count, width])
        feeds["label"] = trainingSet.labels.map { labels in HostArray(rows.map { labels[$0] }) }
        feeds["features"] = trainingFeatures?.rows(Array(rows))
        return (feeds, rows.count)
    }

    /// - Parameter trained: the examples of the epoch.
    private func finishEpoch(_ trained: Int, _ start: ContinuousClock.Instant) throws {
        let trainSeconds = seconds(since: start)
        let limit = run.settings.validationExamples
        let count = limit == 0 ? validationSet.count : min(limit, validationSet.count)
        let part = validationSet[0..<count]
        let validation = try withAverages { Estimate(try run.figures(part), weights: part.weights).mean }
        guard validation.isFinite else {
            throw NonFiniteError(
                description:
                    "the validation figure is \(validation) after epoch \(progress.epoch + 1); lower learningRate or set clipNorm"
            )
        }
        let trainLoss = progress.lossSum / Double(trained)
        // Where validation may not end the search for an optimum, it does not choose another point either.
        let isSearch = run.settings.optimizer == .lbfgs && run.settings.patience == 0
        if validation < progress.best || isSearch {
            progress.best = validation
            progress.bestEpoch = progress.epoch
            try keepBest()
        }
        progress.epoch += 1
        progress.stepInEpoch = 0
        progress.lossSum = 0
        // Of fixed width, so that the length that the state remembers does not depend on the time.
        let time = "\(Double(Int(trainSeconds * 1000)) / 1000)"
        let padded = String(repeating: " ", count: max(0, 12 - time.count)) + time
        let unit = run.model.metric.key
        let line =
            #"{"epoch":\#(progress.epoch),"step":\#(progress.step),"train_\#(unit)":\#(trainLoss),"valid_\#(unit)":\#(validation),"best_valid_\#(unit)":\#(progress.best),"seconds":\#(padded)}"#
        if let folder { try Files.append(line, to: folder.metrics) }
        progress.add(metrics: line)
        try save()
        let steps = steps(trained)
        report(
            ProgressReport(
                epoch: progress.epoch, epochs: run.settings.epochs, step: steps, stepsPerEpoch: steps,
                loss: trainLoss,
                examplesPerSecond: 0, secondsLeft: 0, validation: validation, unit: run.model.metric.unit))
    }

    // MARK: what is kept

    /// Keeps the weights that are evaluated: the averages where there are such.
    private func keepBest() throws {
        let averaged = Set(averaged.map(\.name))
        for (name, parameter) in run.parameters {
            let label = averaged.contains(name) ? "average.\(name)" : parameter.label
            try run.states.set("best.\(name)", run.states.get(label)!)
        }
    }

    /// Runs `body` with the averaged weights in the place of the trained ones.
    private func withAverages<R>(_ body: () throws -> R) throws -> R {
        let averaged = averaged
        let trained = try averaged.map { try run.states.get($0.parameter)! }
        for (name, parameter) in averaged { try run.states.set(parameter, run.states.get("average.\(name)")!) }
        defer { for ((_, parameter), array) in zip(averaged, trained) { try? run.states.set(parameter, array) } }
        return try body()
    }

    /// Writes the model, then the state: whichever of the two a crash leaves behind, the state can rebuild the other.
    private func save() throws {
        try readLoss()
        guard let folder else { return }
        let names =
            run.parameters.map(\.name) + trainingStep.keptStates.map(\.name)
            + run.parameters.map { "best.\($0.name)" }
        let labels = stateLabels
        let arrays = try names.map { (name: $0, array: try run.states.get(labels[$0] ?? $0)!) }
        // An update may overflow where the loss before it was finite; the save before is the one to keep.
        guard arrays.prefix(run.parameters.count).allSatisfy({ $0.array.isFinite }) else {
            throw try explainNonFinite(in: progress.step)
        }
        try run.save(best: folder.model)
        try SafeTensors.write(
            arrays, metadata: progress.metadata.merging(["seed": "\(run.settings.seed)"]) { a, _ in a },
            to: folder.state, keepingAs: isNewestWhole ? folder.previousState : nil)
        isNewestWhole = true
    }

    /// Puts the best weights in the place of the trained ones, for evaluation and sampling.
    public func useBest() throws {
        for (name, parameter) in run.parameters { try run.states.set(parameter, run.states.get("best.\(name)")!) }
        if let folder { try run.save(weights: folder.model) }
    }

    public var bestValidation: Double { progress.best }
    public var epochsDone: Int { progress.epoch }
    /// The epoch with the best validation figure, from 1; 0 before there is one.
    public var bestEpoch: Int { progress.bestEpoch + 1 }

    /// Replays the steps since the last save, which gives the same numbers again, and looks at every group of the step that
    /// failed.
    private func explainNonFinite(in failed: Int) throws -> NonFiniteError {
        guard folder != nil else { return error("a step of a run without a folder", at: failed) }
        try restore()
        let examples = epochExamples(progress.epoch)
        let order = order(examples.shape[0])
        let steps = steps(examples.shape[0])
        func firstNonFinite() throws -> String? {
            try trainingStep.firstNonFinite(stepBatches(examples, order, steps))
        }
        while progress.step < failed {
            if let culprit = try firstNonFinite() { return error(culprit, at: progress.step) }
            progress.stepInEpoch += 1
            progress.step += 1
        }
        let culprit = try firstNonFinite()
        return error(culprit ?? "no operation of the step alone", at: failed)
    }

    private func error(_ culprit: String, at step: Int) -> NonFiniteError {
        NonFiniteError(
            description:
                "NaN or infinity in step \(step + 1), first produced by \(culprit); the last save is whole. Lower learningRate or set clipNorm"
        )
    }

    private func seconds(since instant: ContinuousClock.Instant) -> Double { (clock.now - instant).seconds }
}

extension Duration {
    package var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
