import ArgumentParser
import Compiler
import Datasets
import Experiments
import FoundationEssentials
import Graph
import Models
import Synchronization
import Training

#if canImport(Glibc)
    import Glibc
#endif

struct Run: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Train an experiment and report its test figure beside the paper's.")

    @Argument(help: "The experiment; martlet list shows all.")
    var name: String
    @OptionGroup var device: DeviceOptions
    @OptionGroup var data: DataOptions
    @Option(help: "The folder of run folders.") var runs = "runs"
    @Option(name: .customLong("name"), help: "The run's folder; the experiment and a number if not given.")
    var folderName: String?
    @Option(parsing: .unconditional, help: "Epochs to train.") var epochs: Int?
    @Option(parsing: .unconditional, help: "The seed of weights, masks and shuffles.") var seed: UInt64?
    @Option(help: "Several seeds, separated by commas: trains each and prints mean and spread.") var seeds: String?
    @Option(name: .customLong("set"), help: "A setting as key=value; may be repeated.") var settings: [String] = []
    @Option(help: "Training examples for the experiment made: npy, npz, csv or idx.") var train: String?
    @Option(help: "Validation examples.") var valid: String?
    @Option(help: "Test examples.") var test: String?
    @Option(help: "Weights (safetensors) to start from.") var weights: String?
    @Flag(help: "Print the result as JSON.") var json = false

    func run() throws {
        let experiment = try Experiment.named(name)
        var settings = experiment.configuration
        settings.experiment = experiment.name
        if let train { settings.train = train }
        if let valid { settings.valid = valid }
        if let test { settings.test = test }
        for assignment in self.settings { try settings.set(assignment) }
        if let epochs { settings.epochs = epochs }
        if let seed { settings.seed = seed }
        let all = try seeds.map { text in
            try text.split(separator: ",", omittingEmptySubsequences: false).map { part -> UInt64 in
                guard let seed = UInt64(part) else {
                    throw UsageError("--seeds: expected whole numbers separated by commas, found “\(part)”")
                }
                return seed
            }
        }
        guard let all else {
            _ = try train(experiment, settings, suffix: "")
            return
        }
        var figures: [Double] = []
        for seed in all {
            settings.seed = seed
            guard let result = try train(experiment, settings, suffix: "-seed\(seed)") else { return }
            figures.append(result.test.mean)
        }
        let mean = Estimate(figures)
        let spread = mean.standardError * Double(figures.count).squareRoot()
        if json {
            try printJSON(["mean_nats": mean.mean, "standard_deviation": spread, "seeds": Double(figures.count)])
        } else {
            print("\(figures.count) seeds: test \(fixed(mean.mean, 3)) nats, standard deviation \(fixed(spread, 3))")
        }
    }

    private func train(_ experiment: Experiment, _ settings: RunConfiguration, suffix: String) throws -> TestResult? {
        let data = try experiment.data(settings, dataFolder: data.folder)
        let device = try device.make()
        let run = try Training.Run(settings, examples: data.examples, device: device)
        // A model that reads ahead would train to a meaningless figure.
        _ = try run.model.prove()
        try run.initialize(data.dataset.train, labels: data.dataset.labels(.train))
        if let weights { try run.load(weights: weights) }
        let stored = try StoredRun(
            settings, examples: data.examples, dataFolder: self.data.folder, device: device.name)
        let folder = RunFolder(
            try makeFolder(suffix) { path in
                // A run that is stopped before its first save begins again with these weights, wherever they came from.
                try run.save(weights: RunFolder(path).model)
                try RunFolder(path).write(config: stored)
            })
        let display = ProgressDisplay(isQuiet: json)
        let trainer = try Trainer(
            run, dataset: data.dataset, folder: folder, trainingExamples: data.trainingExamples, report: display.show)
        if !json {
            print(
                "\(experiment.name) on \(device.summary): \(run.model.module.parameterCount) parameters, \(bytes(trainer.plannedBytes)) planned on the device, folder \(folder.path)"
            )
        }
        try trainer.start()
        return try finish(trainer, in: folder, run, experiment, data, display, isJSON: json)
    }

    /// A new folder below the folder of runs.
    private func makeFolder(_ suffix: String, filledBy fill: (String) throws -> Void) throws -> String {
        guard !runs.isEmpty else { throw UsageError("--runs: expected a folder, found an empty name") }
        if let folderName {
            let path = "\(runs)/\(folderName)\(suffix)"
            guard try !Files.exists(path) && Files.makeFolder(path, filledBy: fill) else {
                throw FileError(path, "is there already; choose another --name, or go on with martlet resume \(path)")
            }
            return path
        }
        var number = 1
        while true {
            let path = "\(runs)/\(name)\(suffix)-\(number)"
            if try !Files.exists(path) && Files.makeFolder(path, filledBy: fill) { return path }
            number += 1
        }
    }
}

struct Resume: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Go on with a run that was stopped; the result is the same to the bit.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The folder of the real data sets, if it has moved.") var data: String?
    @Flag(help: "Print the result as JSON.") var json = false

    func run() throws {
        guard Files.isFolder(folder) else {
            throw FileError(folder, "is not a run folder; martlet run prints the folder that it makes")
        }
        let folder = RunFolder(folder)
        let stored = try folder.readConfig()
        let experiment = try Experiment.named(stored.experiment)
        let settings = try stored.configuration(preset: experiment.configuration, path: folder.config)
        let data = try experiment.data(settings, dataFolder: self.data ?? stored.dataFolder)
        try folder.require(data.examples, stored.examples)
        var options = device
        if options.device == nil, environment("MARTLET_DEVICE") == nil { options.device = stored.device }
        let device = try options.make()
        let run = try Training.Run(settings, examples: stored.examples, device: device)
        try run.initialize(data.dataset.train, labels: data.dataset.labels(.train))
        let display = ProgressDisplay(isQuiet: json)
        let trainer = try Trainer(
            run, dataset: data.dataset, folder: folder, trainingExamples: data.trainingExamples, report: display.show)
        if Files.exists(folder.state) {
            try trainer.restore()
        } else if try folder.isFresh() {
            if Files.exists(folder.model) { try run.load(weights: folder.model) }
            try trainer.start()
        } else {
            throw FileError(
                folder.state,
                "is missing, and without it the run would begin again; put it back, or start another run with --weights \(folder.model)"
            )
        }
        if !json {
            print(
                "\(experiment.name) on \(device.summary): goes on after epoch \(trainer.epochsDone), folder \(folder.path)"
            )
        }
        _ = try finish(trainer, in: folder, run, experiment, data, display, isResumed: true, isJSON: json)
    }
}

/// What a finished run reports.
struct TestResult: Codable {
    let folder: String
    let experiment: String
    let test: Estimate
    let bitsPerDimension: Double
    let validNats: Double
    let paperNats: Double?
    /// The generator's own figure on the same examples, and the mean difference with its standard error.
    let optimum: Estimate?
    let difference: Estimate?
    /// Of training, since the run was started or resumed.
    let seconds: Double
    /// Simple models on the same examples.
    let baselines: [Baseline]
}

private func finish(
    _ trainer: Trainer, in folder: RunFolder, _ run: Training.Run, _ experiment: Experiment, _ data: ExperimentData,
    _ display: ProgressDisplay, isResumed: Bool = false, isJSON: Bool
) throws -> TestResult? {
    signal(SIGINT) { _ in interruptionRequested.store(true, ordering: .relaxed) }
    signal(SIGTERM) { _ in interruptionRequested.store(true, ordering: .relaxed) }
    let clock = ContinuousClock()
    let start = clock.now
    let outcome = try trainer.train()
    display.end()
    let seconds =
        Double((clock.now - start).components.seconds) + Double((clock.now - start).components.attoseconds) * 1e-18
    if outcome == .interrupted {
        errorLine("stopped; everything is saved. Go on with: martlet resume \(folder.path)")
        throw ExitCode(130)
    }
    // All is saved: what is left can be stopped at once, and done again by resume.
    signal(SIGINT, SIG_DFL)
    signal(SIGTERM, SIG_DFL)
    try trainer.useBest()
    let nats = try run.logProbability(data.dataset.test, labels: data.dataset.labels(.test)).map { -$0 }
    let estimate = Estimate(nats)
    var optimum: Estimate?
    var difference: Estimate?
    if let exact = data.optimum?(data.dataset.test) {
        optimum = Estimate(exact.map { -$0 })
        difference = Estimate(zip(nats, exact).map { $0 + $1 })
    }
    let result = TestResult(
        folder: folder.path, experiment: experiment.name, test: estimate,
        bitsPerDimension: bitsPerDimension(nats: -estimate.mean, dimensions: data.dataset.variableCount),
        validNats: trainer.bestValidation,
        paperNats: experiment.paperNats, optimum: optimum, difference: difference, seconds: seconds,
        baselines: try data.baselines?(run.device) ?? [])
    var sheet: String?
    if run.configuration.samples > 0, let suffix = Output.pictured(run.examples) {
        let drawn = try run.sample(count: run.configuration.samples, SamplingOptions(seed: run.configuration.seed))
        let path = "\(folder.path)/samples-1.\(suffix)"
        try Output.write(drawn.examples, of: run, to: path)
        sheet = path
    } else if run.examples.dimensions == [2] {
        sheet = try PlanePictures.write(
            run, samples: run.configuration.samples, seed: run.configuration.seed, folder: folder.path
        ).joined(separator: ", ")
    }
    if isJSON {
        try printJSON(result)
        return result
    }
    print(
        "test \(fixed(estimate.mean, 3)) nats ± \(fixed(estimate.standardError, 3)), \(Output.perVariable(nats: estimate.mean, run.examples, digits: 4)), \(estimate.count) examples, trained in \(fixed(seconds, 1)) s\(isResumed ? " after it was resumed" : "")"
    )
    if let optimum, let difference {
        print(
            "the generator's own likelihood on the same examples: \(fixed(optimum.mean, 3)) nats; difference \(fixed(difference.mean, 3)) ± \(fixed(difference.standardError, 3))"
        )
    }
    if case .real = run.configuration.model.domain {
        // Densities of real data fail on outliers first.
        let worst = nats.sorted(by: >).prefix(max(1, nats.count / 1000))
        let mean = worst.reduce(0) { $0 + $1 } / Double(worst.count)
        let finite = nats.allSatisfy(\.isFinite) ? "every density is finite" : "some densities are not finite"
        print("worst 0.1 % of examples: \(fixed(mean, 2)) nats on average, \(fixed(worst[0], 2)) at most; \(finite)")
    }
    for baseline in result.baselines { print("\(baseline.name) on the same examples: \(fixed(baseline.nats, 3)) nats") }
    if let paper = experiment.paperNats { print("the paper's figure: \(fixed(paper, 2)) nats (\(experiment.paper))") }
    if let sheet { print("pictures and samples: \(sheet)") }
    return result
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
                "epoch \(report.epoch)/\(report.epochs): train \(fixed(report.loss, 3)), valid \(fixed(validation, 3)) nats"
            if isTerminal { errorLine("\r\u{1B}[K" + line) } else { errorLine(line) }
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
            "\r\u{1B}[Kepoch \(report.epoch + 1)/\(report.epochs) \(bar) \(fixed(report.loss, 2)) nats  \(fixed(report.examplesPerSecond, 0)) examples/s  \(left / 60)m\(left % 60)s left"
        )
    }

    func end() { if isTerminal, !isQuiet { errorText("\r\u{1B}[K") } }
}
