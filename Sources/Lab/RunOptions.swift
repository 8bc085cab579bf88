import ArgumentParser
import Compiler
import Datasets
import FoundationEssentials
import Likelihood
import Training

/// What `run` and `sweep` take alike: an experiment, its data, and what is changed of its settings.
struct RunOptions: ParsableArguments {
    @Argument(help: "The experiment; list shows all.")
    var name: String
    @OptionGroup var device: DeviceOptions
    @OptionGroup var data: DataOptions
    @Option(help: "The folder of run folders.") var runs = "runs"
    @Option(name: .customLong("name"), help: "The run's folder; the experiment and a number if not given.")
    var folderName: String?
    @Option(parsing: .unconditional, help: "Epochs to train.") var epochs: Int?
    @Option(parsing: .unconditional, help: "The seed of weights, masks and shuffles.") var seed: UInt64?
    @Option(name: .customLong("set"), help: "A setting as key=value; may be repeated.") var settings: [String] = []
    @OptionGroup var files: FilesOptions
    @Option(help: "Weights (safetensors) to start from.") var weights: String?
    @Flag(help: "Print the result as JSON.") var json = false

    func validate() throws {
        try require(!runs.isEmpty, "--runs: expected a folder, found an empty name")
        guard let folderName else { return }
        let parts = folderName.split(separator: "/", omittingEmptySubsequences: false)
        try require(
            parts.allSatisfy { !["", ".", ".."].contains($0) }
                && folderName.unicodeScalars.allSatisfy(Notice.isShown),
            "--name \(folderName): expected the name of a folder below that of --runs, such as first or set/first")
    }

    /// The experiment with its settings as the command line has them.
    func configured() throws -> (experiment: Experiment, settings: RunConfiguration) {
        let experiment = try Catalogue.experiment(name)
        var settings = experiment.configuration
        settings.experiment = experiment.name
        try files.apply(to: &settings.files)
        try override(&settings)
        if let seed { settings.seed = seed }
        return (experiment, settings)
    }

    /// What the command line sets itself.
    func override(_ settings: inout RunConfiguration) throws {
        for assignment in self.settings { try settings.set(assignment) }
        if let epochs { settings.epochs = epochs }
    }

    /// A model with its starting weights, and the data that it is for.
    /// - Parameter override: what is set by a person, and so stands above what follows from the data.
    func makeRun(
        _ experiment: Experiment, _ settings: RunConfiguration, override: (inout RunConfiguration) throws -> Void
    ) throws -> (run: Run, data: ExperimentData, stored: StoredRun, notices: [String]) {
        // Before anything large is read.
        try settings.training.validate()
        let data = try experiment.data(settings, dataFolder: self.data.folder)
        var settings = settings
        var notices = data.notices
        if experiment.isFamily {
            notices += try settings.adapt(to: data, leastSteps: experiment.leastSteps, override: override)
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
        let stored = try StoredRun(
            settings, examples: data.examples, dataFolder: self.data.folder, device: device.name,
            sources: data.files?.sources)
        return (run, data, stored, notices)
    }

    /// A new folder below the folder of runs.
    func makeFolder(_ suffix: String, filledBy fill: (String) throws -> Void) throws -> String {
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

extension RunFolder {
    /// Writes what a run begins with: its weights, its configuration, the rows that train, validate and test.
    func fill(_ run: Run, _ stored: StoredRun, _ data: ExperimentData) throws {
        // A run that is stopped before its first save begins again with these weights, wherever they came from.
        try run.save(weights: model)
        try write(config: stored)
        if let rows = data.files?.rows {
            let named = Dictionary(uniqueKeysWithValues: rows.map { ($0.rawValue, $1) })
            try write(named, to: split, isOnOneLine: true)
        }
    }

    /// What the epochs of a run took, however often it was stopped.
    func secondsOfTraining() throws -> Double {
        struct Line: Decodable { let seconds: Double }
        return try Files.read(metrics).split(separator: 10).reduce(0) {
            $0 + (try JSONDecoder().decode(Line.self, from: Data($1)).seconds)
        }
    }
}

/// A run in its folder, locked, with a trainer that stands where the folder says.
struct PreparedRun {
    let trainer: Trainer
    let folder: RunFolder
    let run: Run
    let experiment: Experiment
    let data: ExperimentData
    let display: ProgressDisplay
    let lock: RunLock

    /// A run that was stopped, or never started.
    /// - Parameters:
    ///   - options: the device; the run's own if not given.
    ///   - dataFolder: the folder of the real data sets, if it has moved.
    ///   - files: a person's own files, where they have moved.
    init(
        resuming folder: RunFolder, _ options: DeviceOptions, dataFolder: String?, files: MovedFilesOptions?,
        isQuiet: Bool
    ) throws {
        let stored = try folder.readConfig()
        lock = try RunLock(folder)
        experiment = try Catalogue.experiment(stored.experiment)
        var settings = try stored.configuration(preset: experiment.configuration, path: folder.config)
        try files?.apply(to: &settings.files)
        data = try experiment.data(settings, dataFolder: dataFolder ?? stored.dataFolder)
        try folder.require(data, stored)
        try settings.validate(data.examples)
        var options = options
        if options.device == nil, environment("MARTLET_DEVICE") == nil { options.device = stored.device }
        run = try Run(settings, examples: stored.examples, device: try options.make())
        try data.validate(for: run)
        try run.initialize(data.dataset[.train])
        display = ProgressDisplay(isQuiet: isQuiet)
        self.folder = folder
        trainer = try data.trainer(of: run, in: folder, lock: lock, report: display.show)
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
    }
}

/// What a folder of several runs remembers of them.
/// - Parameter owner: whose it ought to be, for the message.
func readRecord<Record: Decodable>(_ file: String, _ owner: String) throws -> Record {
    do {
        return try JSONDecoder().decode(Record.self, from: Data(try Files.read(file, limit: 1 << 24)))
    } catch let error as DecodingError {
        throw FileError(file, "is not \(owner): \(describe(error))")
    }
}
