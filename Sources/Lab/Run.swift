import ArgumentParser
import Compiler
import Datasets
import Graph
import Likelihood
import Training

struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Train an experiment, a group of them, or a family on your own --train, and report test figures.")

    @OptionGroup var options: RunOptions
    @Option(help: "Several seeds, separated by commas: trains each and prints mean and spread.") var seeds: String?
    @Option(help: "Of a group of experiments these alone, separated by commas.") var only: String?

    func run() throws {
        if let group = Catalogue.groups.first(where: { $0.name == options.name }) {
            try require(seeds == nil, "--seeds: \(group.name) is several experiments; take one of them, or --seed")
            return try options.run(
                group, only: only?.split(separator: ",", omittingEmptySubsequences: false).map(String.init))
        }
        try require(only == nil, "--only: \(options.name) is one experiment, not a group of several")
        var (experiment, settings) = try options.configured()
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
        if options.json {
            try printJSON([
                "mean_\(metric.key)": mean.mean, "standard_deviation": spread, "seeds": Double(figures.count),
            ])
        } else {
            printLine(
                "\(figures.count) seeds: test \(fixed(mean.mean, 3)) \(metric.unit), standard deviation \(fixed(spread, 3))"
            )
        }
    }

    private func train(_ experiment: Experiment, _ settings: RunConfiguration, suffix: String) throws -> TestResult? {
        let (run, data, stored, notices) = try options.makeRun(experiment, settings, override: options.override)
        let display = ProgressDisplay(isQuiet: options.json)
        // Before there is a folder: what a step takes may be more than the memory that is left.
        let trainer = try data.trainer(of: run, report: display.show)
        var lock: RunLock?
        let folder = RunFolder(
            try options.makeFolder(suffix) { path in
                // It is the file that is locked, under whatever name its folder has.
                lock = try RunLock(RunFolder(path))
                try RunFolder(path).fill(run, stored, data)
            })
        // Until the last picture is written.
        defer { withExtendedLifetime(lock) {} }
        trainer.keep(in: folder, lock: lock)
        for notice in notices { errorLine("note: \(notice)") }
        if !options.json {
            printLine(
                "\(experiment.name) on \(run.device.summary): \(run.model.parameterCount) parameters, \(bytes(trainer.plannedBytes)) planned on the device, folder \(folder.path)"
            )
        }
        try trainer.start()
        do {
            return try finish(trainer, in: folder, run, experiment, data, display, as: options.json ? .json : .text)
        } catch let error as UsageError where run.model is any DirectlyFittedModel && trainer.epochsDone == 0 {
            // What cannot be fitted cannot be resumed either: there is no run.
            Files.remove(folder.path)
            throw error
        }
    }
}

struct ResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Go on with a run, a sweep or a group that was stopped; the result is the same to the bit.")

    @Argument(help: "The run's folder, or that of a sweep or group.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The folder of the real data sets, if it has moved.") var data: String?
    @OptionGroup var files: MovedFilesOptions
    @Flag(help: "Print the result as JSON.") var json = false

    func run() throws {
        guard Files.isFolder(folder) else {
            throw FileError(folder, "is not a run folder; \(Catalogue.name) run prints the folder that it makes")
        }
        if GroupRun.isFolder(folder) {
            return try GroupRun(folder).goOn(device, dataFolder: data, isJSON: json)
        }
        if Sweep.isFolder(folder) {
            return try Sweep(folder).goOn(device, dataFolder: data, files: files, isJSON: json)
        }
        let prepared = try PreparedRun(
            resuming: RunFolder(folder), device, dataFolder: data, files: files, isQuiet: json)
        // Until the last picture is written.
        defer { withExtendedLifetime(prepared) {} }
        if !json {
            printLine(
                "\(prepared.experiment.name) on \(prepared.run.device.summary): goes on after epoch \(prepared.trainer.epochsDone), folder \(folder)"
            )
        }
        _ = try finish(
            prepared.trainer, in: prepared.folder, prepared.run, prepared.experiment, prepared.data, prepared.display,
            isResumed: true, as: json ? .json : .text)
    }
}
