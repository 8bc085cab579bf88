import ArgumentParser
import Compiler
import Datasets
import FoundationEssentials
import Graph
import Likelihood
import Synchronization
import Training

#if canImport(Glibc)
    import Glibc
#endif

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Train an experiment, or a family on your own --train, and report its test figure.")

    @Argument(help: "The experiment; list shows all.")
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
    @OptionGroup var files: FilesOptions
    @Option(help: "Weights (safetensors) to start from.") var weights: String?
    @Flag(help: "Print the result as JSON.") var json = false

    func run() throws {
        try require(!runs.isEmpty, "--runs: expected a folder, found an empty name")
        if let folderName {
            let parts = folderName.split(separator: "/", omittingEmptySubsequences: false)
            try require(
                parts.allSatisfy { !["", ".", ".."].contains($0) }
                    && folderName.unicodeScalars.allSatisfy(Notice.isShown),
                "--name \(folderName): expected the name of a folder below that of --runs, such as first or set/first")
        }
        let experiment = try Catalogue.experiment(name)
        var settings = experiment.configuration
        settings.experiment = experiment.name
        try files.apply(to: &settings.files)
        try override(&settings)
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
        var metric = Metric.nats
        for seed in all {
            settings.seed = seed
            guard let result = try train(experiment, settings, suffix: "-seed\(seed)") else { return }
            figures.append(result.test.mean)
            metric = result.metric
        }
        let mean = Estimate(figures)
        let spread = mean.standardError * Double(figures.count).squareRoot()
        if json {
            try printJSON([
                "mean_\(metric.key)": mean.mean, "standard_deviation": spread, "seeds": Double(figures.count),
            ])
        } else {
            printLine(
                "\(figures.count) seeds: test \(fixed(mean.mean, 3)) \(metric.unit), standard deviation \(fixed(spread, 3))"
            )
        }
    }

    /// What the command line sets itself.
    private func override(_ settings: inout RunConfiguration) throws {
        for assignment in self.settings { try settings.set(assignment) }
        if let epochs { settings.epochs = epochs }
    }

    private func train(_ experiment: Experiment, _ settings: RunConfiguration, suffix: String) throws -> TestResult? {
        // Before anything large is read.
        try settings.training.validate()
        let data = try experiment.data(settings, dataFolder: data.folder)
        var settings = settings
        var notices = data.notices
        if experiment.isFamily {
            notices += try settings.adapt(to: data, leastSteps: experiment.leastSteps)
            try override(&settings)
        }
        try settings.validate(data.examples)
        try settings.model.requireEffects()
        let device = try device.make()
        let run = try Run(settings, examples: data.examples, device: device)
        try data.validate(for: run)
        // A model that reads ahead would train to a meaningless figure.
        _ = try run.model.prove()
        try run.initialize(data.dataset[.train])
        if let weights { try run.load(weights: weights) }
        let display = ProgressDisplay(isQuiet: json)
        // Before there is a folder: what a step takes may be more than the memory that is left.
        let trainer = try data.trainer(of: run, report: display.show)
        let stored = try StoredRun(
            settings, examples: data.examples, dataFolder: self.data.folder, device: device.name,
            sources: data.files?.sources)
        var lock: RunLock?
        let folder = RunFolder(
            try makeFolder(suffix) { path in
                // It is the file that is locked, under whatever name its folder has.
                lock = try RunLock(RunFolder(path))
                // A run that is stopped before its first save begins again with these weights, wherever they came from.
                try run.save(weights: RunFolder(path).model)
                try RunFolder(path).write(config: stored)
                if let rows = data.files?.rows {
                    let named = Dictionary(uniqueKeysWithValues: rows.map { ($0.rawValue, $1) })
                    try RunFolder(path).write(named, to: RunFolder(path).split, isOnOneLine: true)
                }
            })
        // Until the last picture is written.
        defer { withExtendedLifetime(lock) {} }
        trainer.keep(in: folder, lock: lock)
        for notice in notices { errorLine("note: \(notice)") }
        if !json {
            printLine(
                "\(experiment.name) on \(device.summary): \(run.model.parameterCount) parameters, \(bytes(trainer.plannedBytes)) planned on the device, folder \(folder.path)"
            )
        }
        try trainer.start()
        return try finish(trainer, in: folder, run, experiment, data, display, isJSON: json)
    }

    /// A new folder below the folder of runs.
    private func makeFolder(_ suffix: String, filledBy fill: (String) throws -> Void) throws -> String {
        if let folderName {
            let path = "\(runs)/\(folderName)\(suffix)"
            guard try !Files.exists(path) && Files.makeFolder(path, filledBy: fill) else {
                throw FileError(
                    path, "is there already; choose another --name, or go on with \(Catalogue.name) resume \(path)")
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

struct ResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Go on with a run that was stopped; the result is the same to the bit.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The folder of the real data sets, if it has moved.") var data: String?
    @OptionGroup var files: MovedFilesOptions
    @Flag(help: "Print the result as JSON.") var json = false

    func run() throws {
        guard Files.isFolder(folder) else {
            throw FileError(folder, "is not a run folder; \(Catalogue.name) run prints the folder that it makes")
        }
        let folder = RunFolder(folder)
        let stored = try folder.readConfig()
        let lock = try RunLock(folder)
        let experiment = try Catalogue.experiment(stored.experiment)
        var settings = try stored.configuration(preset: experiment.configuration, path: folder.config)
        try files.apply(to: &settings.files)
        let data = try experiment.data(settings, dataFolder: self.data ?? stored.dataFolder)
        try folder.require(data, stored)
        try settings.validate(data.examples)
        var options = device
        if options.device == nil, environment("MARTLET_DEVICE") == nil { options.device = stored.device }
        let device = try options.make()
        let run = try Run(settings, examples: stored.examples, device: device)
        try data.validate(for: run)
        try run.initialize(data.dataset[.train])
        // Until the last picture is written.
        defer { withExtendedLifetime(lock) {} }
        let display = ProgressDisplay(isQuiet: json)
        let trainer = try data.trainer(of: run, in: folder, lock: lock, report: display.show)
        if folder.hasState {
            for line in try trainer.restore() { errorLine(line) }
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
            printLine(
                "\(experiment.name) on \(device.summary): goes on after epoch \(trainer.epochsDone), folder \(folder.path)"
            )
        }
        _ = try finish(trainer, in: folder, run, experiment, data, display, isResumed: true, isJSON: json)
    }
}
