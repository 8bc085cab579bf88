import ArgumentParser
import Compiler
import Datasets
import Graph
import Likelihood
import Synchronization
import Training

#if canImport(Glibc)
    import Glibc
#endif

/// What a finished run reports.
struct TestResult: Encodable {
    let folder: String
    let experiment: String
    let metric: Metric
    let test: Estimate
    let valid: Double
    let paperNats: Double?
    let variables: Int
    /// The generator's own figure on the same examples, and the mean difference with its standard error.
    let optimum: Estimate?
    let difference: Estimate?
    /// Of training, since the run was started or resumed.
    let seconds: Double
    /// Simple models on the same examples.
    let baselines: [Baseline]
    /// What it was made with and of.
    let origin: Origin

    struct Origin: Encodable {
        let version: String
        let seed: UInt64
        let device: String
        /// Examples that train, validate and test.
        let examples: [String: Int]
        let testChecksum: String
        /// A person's own files, and how they were split.
        let data: [LoadedFiles.Source]?
        let split: String?
        let epochs: Int
        let bestEpoch: Int
    }

    private enum Key: String, CodingKey {
        case folder, experiment, metric, unit, test, bitsPerDimension, validNats, valid, paperNats, optimum, difference
        case seconds, baselines, origin
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Key.self)
        try container.encode(folder, forKey: .folder)
        try container.encode(experiment, forKey: .experiment)
        try container.encode(metric.name, forKey: .metric)
        try container.encode(metric.unit, forKey: .unit)
        try container.encode(test, forKey: .test)
        if metric.isLogLikelihood {
            try container.encode(
                Likelihood.bitsPerDimension(nats: -test.mean, dimensions: variables), forKey: .bitsPerDimension)
        }
        try container.encode(valid, forKey: metric.isLogLikelihood ? .validNats : .valid)
        try container.encodeIfPresent(paperNats, forKey: .paperNats)
        try container.encodeIfPresent(optimum, forKey: .optimum)
        try container.encodeIfPresent(difference, forKey: .difference)
        try container.encode(seconds, forKey: .seconds)
        try container.encode(baselines, forKey: .baselines)
        try container.encode(origin, forKey: .origin)
    }
}

extension ExperimentData {
    /// Refuses examples that the model of a run cannot take.
    func validate(for run: Run) throws {
        for split in Dataset.Split.allCases { try run.validate(dataset[split], of: "\(dataset.name), \(split)") }
        // Training looks at the examples in an order of its own and takes them as float32, where they are not smaller; figures of
        // examples are doubles, sorted and compared.
        let train = dataset.train
        let converted = train.type.byteCount < 4 || train.type == .float32 ? 0 : 4 * train.count
        let counts = Dataset.Split.allCases.map { dataset.examples($0).shape[0] }
        let needed = Double(converted + 48 * counts.reduce(0, +))
        guard needed <= HostMemory.available else {
            throw UsageError(
                "\(dataset.name): training on \(counts[0]) examples takes \(HostMemory.text(needed)) of memory beside them, of which \(HostMemory.text(HostMemory.available)) are left; give fewer examples, or use a machine with more"
            )
        }
    }

    func trainer(
        of run: Run, in folder: RunFolder? = nil, lock: RunLock? = nil,
        report: @escaping (Trainer.ProgressReport) -> Void
    ) throws -> Trainer {
        try Trainer(
            run, train: dataset[.train], valid: dataset[.valid], folder: folder, lock: lock,
            trainingExamples: trainingExamples, report: report)
    }
}

/// Trains to the end, or to a signal, upon which the program ends.
/// - Parameter path: what goes on where it was stopped.
/// - Returns: the seconds that it took.
func train(_ trainer: Trainer, _ display: ProgressDisplay, goOnWith path: String) throws -> Double {
    let signals = StopSignals()
    let clock = ContinuousClock()
    let start = clock.now
    let outcome = try trainer.train()
    display.end()
    let seconds = (clock.now - start).seconds
    // All is saved: what is left can be stopped at once, and done again by resume.
    let received = signals.end()
    // One that came in the last validation came too late for the trainer.
    if outcome == .interrupted || received != 0 {
        errorLine("stopped; everything is saved. Go on with: \(Catalogue.name) resume \(path)")
        throw ExitCode(128 + (received == 0 ? SIGINT : received))
    }
    return seconds
}

/// How a finished run is told.
enum ReportForm {
    case text, json
    /// Not at all.
    case none
}

/// Trains to the end, evaluates, draws and prints.
/// - Parameter known: the seconds that training took, where it was finished before.
func finish(
    _ trainer: Trainer, in folder: RunFolder, _ run: Run, _ experiment: Experiment, _ data: ExperimentData,
    _ display: ProgressDisplay, isResumed: Bool = false, seconds known: Double? = nil, as form: ReportForm
) throws -> TestResult? {
    let took = try train(trainer, display, goOnWith: folder.path)
    let seconds = known ?? took
    try trainer.useBest()
    let figures = try run.evaluations(data.dataset[.test])
    let exact = run.model.metric.isLogLikelihood ? data.optimum?(data.dataset.test) : nil
    let origin = makeOrigin(run, trainer, data)
    let isPapers = experiment.paperTestSet.map { $0 == origin.testChecksum } ?? true
    let result = TestResult(
        folder: folder.path, experiment: experiment.name, metric: run.model.metric,
        test: Estimate(figures, weights: data.dataset[.test].weights),
        valid: trainer.bestValidation, paperNats: isPapers ? experiment.paperNats : nil,
        variables: data.dataset.variableCount,
        optimum: exact.map { Estimate($0.map { -$0 }) },
        difference: exact.map { Estimate(zip(figures, $0).map { $0 + $1 }) }, seconds: seconds,
        baselines: try data.baselines?(run.device) ?? [], origin: origin)
    try folder.write(result, to: folder.result)
    // The figures are shown, also where nothing can be drawn.
    let drawn = Result {
        [
            try drawPictures(run, data, folder), try drawReconstructions(run, folder, data.dataset[.test]),
        ].compactMap { $0 }
    }
    let pictures = (try? drawn.get()) ?? []
    switch form {
    case .none: break
    case .json: try printJSON(result)
    case .text:
        if let line = earlyEnd(trainer, run.settings) { printLine(line) }
        printReport(
            result, run, experiment, figures, pictures.isEmpty ? nil : pictures.joined(separator: ", "),
            isResumed: isResumed)
        let findings = try (run.model as? any ReportingModel)?.findings { try run.states.get($0)?.doubles ?? [] }
        for line in findings ?? [] { printLine(line) }
        try printEffort(run, data.dataset[.test])
    }
    _ = try drawn.get()
    try requireFinite(figures, "\(Catalogue.name) evaluate \(folder.path) --per-example OUT.npy shows which rows")
    return result
}

/// How much the figures of examples took, where that depends on the examples. The first few hundred say it as well as all, and take a
/// second solve each.
func printEffort(_ run: Run, _ examples: Examples) throws {
    guard let (unit, count) = try run.effort(examples[0..<min(500, examples.count)]) else { return }
    printLine("\(fixed(count.mean, 1)) \(unit) for each example, on the mean of \(count.count)")
}

private func splitInWords(_ data: ExperimentData) -> String? {
    guard let files = data.files, files.sources.count == 1 else { return nil }
    return files.rows == nil ? "in order, or file by file by the seed" : "by the seed; split.json has the rows"
}

private func makeOrigin(_ run: Run, _ trainer: Trainer, _ data: ExperimentData) -> TestResult.Origin {
    let counts = Dataset.Split.allCases.map { ($0.rawValue, data.dataset.examples($0).shape[0]) }
    return TestResult.Origin(
        version: martletVersion, seed: run.settings.seed, device: run.device.summary,
        examples: Dictionary(uniqueKeysWithValues: counts), testChecksum: data.dataset.testChecksum,
        data: data.files?.sources,
        split: splitInWords(data),
        epochs: trainer.epochsDone, bestEpoch: trainer.bestEpoch)
}

/// Refuses figures whose mean says nothing. A script that reads the mean has to learn that from the status.
/// - Parameter advice: where to look.
func requireFinite(_ figures: [Double], _ advice: String) throws {
    guard let bad = figures.firstIndex(where: { !$0.isFinite }) else { return }
    let (some, outside) = (figures.count { !$0.isFinite }, figures.count { $0 == .infinity })
    let place = outside > 0 ? " (\(outside) lie outside of what the model has a density for)" : ""
    throw UsageError(
        "row \(bad) has the figure \(figures[bad]), as \(some) of \(figures.count) rows have no finite one\(place), so there is no mean; \(advice)"
    )
}

/// Signals that ask a run to stop: the trainer then finishes its step and saves, and the exit status is 128 and the signal's
/// number, as a shell gives for a program that it ended.
private struct StopSignals {
    private static let received = Atomic<Int32>(0)
    private let caught: [Int32]

    /// Catches them from now on. A run that was told to ignore the end of its terminal (`nohup`) goes on ignoring it.
    init() {
        var hangUp = sigaction()
        sigaction(SIGHUP, nil, &hangUp)
        let isIgnored =
            unsafeBitCast(hangUp.__sigaction_handler.sa_handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
        caught = (isIgnored ? [] : [SIGHUP]) + [SIGINT, SIGTERM]
        for number in caught {
            signal(number) { number in
                StopSignals.received.store(number, ordering: .relaxed)
                interruptionRequested.store(true, ordering: .relaxed)
            }
        }
    }

    /// Lets them end the program again; the one that came before, or 0.
    func end() -> Int32 {
        for number in caught { signal(number, SIG_DFL) }
        return Self.received.load(ordering: .relaxed)
    }
}

/// The pictures that end a run; where they are.
private func drawPictures(_ run: Run, _ data: ExperimentData, _ folder: RunFolder) throws -> String? {
    let paths = [try drawChart(run, data, folder), try drawSamples(run, folder)].compactMap { $0 }
    return paths.isEmpty ? nil : paths.joined(separator: ", ")
}

/// What a model has to show of itself, and of the last test example.
private func drawChart(_ run: Run, _ data: ExperimentData, _ folder: RunFolder) throws -> String? {
    let test = data.dataset[.test]
    let example = test[test.count - 1..<test.count].rows.doubles
    let chart = try (run.model as? any ReportingModel)?.chart(of: example) { try run.states.get($0)?.doubles ?? [] }
    guard let chart else { return nil }
    let path = "\(folder.path)/\(chart.name).png"
    try ChartPicture.write(chart, to: path)
    return path
}

private func drawSamples(_ run: Run, _ folder: RunFolder) throws -> String? {
    let count = run.settings.samples
    // Features of examples that are yet to be drawn are not known.
    guard run.model.conditions.features.isEmpty, run.canDraw else { return nil }
    if count > 0, let suffix = Output.pictured(run.examples) {
        let drawn = try run.sample(count: count, SamplingOptions(seed: run.settings.seed))
        let path = "\(folder.path)/samples-1.\(suffix)"
        try Output.write(drawn.examples, of: run, to: path)
        return path
    }
    guard run.examples.dimensions == [2], run.model.metric.isLogLikelihood, run.model.conditions == Conditions() else {
        return nil
    }
    return try PlanePictures.write(run, samples: count, seed: run.settings.seed, folder: folder.path)
        .joined(separator: ", ")
}

/// Test examples, each with its reconstruction behind it, of a model whose codes lose something.
private func drawReconstructions(_ run: Run, _ folder: RunFolder, _ test: Examples) throws -> String? {
    let count = min(run.settings.samples / 2, test.count)
    guard count > 0, let suffix = Output.pictured(run.examples), run.model is any LatentModel,
        !run.model.metric.isLogLikelihood, run.model.conditions == Conditions()
    else { return nil }
    let shown = test[0..<count]
    let pairs = [shown.rows.floats, try run.decode(try run.encode(shown)).floats]
    let width = run.examples.count
    let both = (0..<count).flatMap { row in pairs.flatMap { $0[row * width..<(row + 1) * width] } }
    let path = "\(folder.path)/reconstructions-1.\(suffix)"
    try Output.write(HostArray(both, shape: [2 * count, width]), of: run, to: path)
    return path
}

/// What a person ought to know of how training ended.
private func earlyEnd(_ trainer: Trainer, _ settings: TrainingSettings) -> String? {
    let (best, done) = (trainer.bestEpoch, trainer.epochsDone)
    guard best > 0, done - best > max(2, done / 10) else { return nil }
    let kept = "the weights of epoch \(best) are kept, as validation was best there and turned away from training since"
    return done < settings.epochs
        ? "training stopped after \(done) of \(settings.epochs) epochs: \(kept); more data, a smaller network, dropout or weightDecay would help"
        : "of \(done) epochs \(kept)"
}

private func printReport(
    _ result: TestResult, _ run: Run, _ experiment: Experiment, _ figures: [Double], _ pictures: String?,
    isResumed: Bool
) {
    let (test, metric) = (result.test, result.metric)
    // Columns of different units have no bits in common.
    let perVariable =
        metric.isLogLikelihood && run.examples.columns == nil
        ? ", \(Output.perVariable(nats: test.mean, run.examples, digits: 4))" : ""
    printLine(
        "test \(fixed(test.mean, 3)) \(metric.unit) ± \(fixed(test.standardError, 3))\(perVariable), \(test.count) examples, trained in \(fixed(result.seconds, 1)) s\(isResumed ? " after it was resumed" : "")"
    )
    if let optimum = result.optimum, let difference = result.difference {
        printLine(
            "the generator's own likelihood on the same examples: \(fixed(optimum.mean, 3)) nats; difference \(fixed(difference.mean, 3)) ± \(fixed(difference.standardError, 3))"
        )
    }
    if metric.isLogLikelihood, run.examples.columns != nil, run.model.domain.isContinuous {
        printLine("densities are those of the data in their own units")
    }
    switch run.examples.presentation {
    case .sound: printLine("the figure is the mean over windows of \(run.examples.count) samples")
    case .text: printLine("the figure is the mean over windows of \(run.examples.count) characters")
    case .video, nil: break
    }
    if metric.isLogLikelihood, run.model.domain.isContinuous {
        // Densities of real data fail on outliers first.
        let worst = figures.sorted(by: >).prefix(max(1, figures.count / 1000))
        let mean = worst.reduce(0) { $0 + $1 } / Double(worst.count)
        let finite = figures.allSatisfy(\.isFinite) ? "every density is finite" : "some densities are not finite"
        printLine(
            "worst 0.1 % of examples: \(fixed(mean, 2)) nats on average, \(fixed(worst[0], 2)) at most; \(finite)")
    }
    for baseline in result.baselines {
        printLine("\(baseline.name) on the same examples: \(fixed(baseline.nats, 3)) nats")
    }
    if let paper = result.paperNats {
        printLine("the paper's figure: \(fixed(paper, 2)) nats (\(experiment.paper))")
    } else if experiment.paperNats != nil {
        printLine(
            "the paper's figure is for other test examples than these (checksum \(result.origin.testChecksum)), and not shown"
        )
    }
    if let pictures { printLine("pictures and samples: \(pictures)") }
}

/// A bar on a terminal, one plain line an epoch elsewhere.
final class ProgressDisplay {
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let isQuiet: Bool
    private let clock = ContinuousClock()
    private var last: ContinuousClock.Instant?

    init(isQuiet: Bool) { self.isQuiet = isQuiet }

    func show(_ report: Trainer.ProgressReport) {
        if let validation = report.validation {
            let line =
                "epoch \(report.epoch)/\(report.epochs): train \(fixed(report.loss, 3)), valid \(fixed(validation, 3)) \(report.unit)"
            if isTerminal { errorText("\r\u{1B}[K") }
            errorLine(line)
            return
        }
        guard isTerminal, !isQuiet else { return }
        if let last, clock.now - last < .milliseconds(100) { return }
        last = clock.now
        let width = 24
        let filled = width * report.step / max(1, report.stepsPerEpoch)
        let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
        let left = Int(report.secondsLeft)
        errorText(
            "\r\u{1B}[Kepoch \(report.epoch + 1)/\(report.epochs) \(bar) \(fixed(report.loss, 2)) \(report.unit)  \(fixed(report.examplesPerSecond, 0)) examples/s  \(left / 60)m\(left % 60)s left"
        )
    }

    func end() { if isTerminal, !isQuiet { errorText("\r\u{1B}[K") } }
}
