import ArgumentParser
import Compiler
import Datasets
import Graph
import Likelihood
import Training

#if canImport(Glibc)
    import Glibc
#endif

/// Where a program runs.
struct DeviceOptions: ParsableArguments {
    @Option(
        help:
            "auto, cpu, opencl or opencl:N; auto takes a GPU that is faster than the processor, else the CPU, and draws on whichever should be sooner. MARTLET_DEVICE is the default."
    )
    var device: String?

    @Option(parsing: .unconditional, help: "Threads of the CPU backend; all cores if not given.")
    var threads: Int?

    func make() throws -> any Device {
        let name = device ?? environment("MARTLET_DEVICE") ?? "auto"
        if let threads, !(1...1024).contains(threads) {
            throw UsageError("--threads: expected 1 to 1024, found \(threads)")
        }
        guard name == "auto" else { return try Devices.named(name, threads: threads) }
        return try Devices.best(threads: threads) { errorLine("note: \($0)") }
    }
}

struct DataOptions: ParsableArguments {
    @Option(help: "The folder of the real data sets. MARTLET_DATA is the default, then ./data.")
    var data: String?

    var folder: String { data ?? environment("MARTLET_DATA") ?? "data" }
}

/// The files of a family's examples.
struct FilesOptions: ParsableArguments {
    @Option(
        help:
            "Training examples: npy, npz (file.npz:member), idx, csv or another table, a text, or a folder or tar of png, wav or txt files."
    )
    var train: String?
    @Option(help: "Validation examples; without them, and --test, --train is split.") var valid: String?
    @Option(help: "Test examples.") var test: String?
    @Option(
        help:
            "Classes to condition on: a file, several separated by commas (train, valid, test), an array of the npz, a column of the table, or “folders”."
    )
    var labels: String?
    @Option(help: "Real numbers to condition on: files likewise, or columns of the table separated by commas.")
    var context: String?
    @Option(help: "Percent of the examples that train, validate and test, such as 80/10/10.") var split: String?
    @Option(help: "What is done about cells that hold nothing: refuse or marginalize.") var missing: String?
    @Option(name: .customLong("weights-column"), help: "The column of the table that holds the weight of each row.")
    var weightsColumn: String?

    /// Puts what was given in the place of what there is.
    func apply(to files: inout DataFiles) throws {
        if let train { files.train = try absolute(train) }
        if let valid { files.valid = try absolute(valid) }
        if let test { files.test = try absolute(test) }
        if let labels { files.labels = try absoluteFiles(labels) }
        if let context { files.context = try absoluteFiles(context) }
        if let split { files.split = split }
        if let missing { files.missing = missing }
        if let weightsColumn { files.weightsColumn = weightsColumn }
    }
}

/// Where a run's own files are now.
struct MovedFilesOptions: ParsableArguments {
    @Option(help: "The run's training examples, if they have moved.") var train: String?
    @Option(help: "Its validation examples.") var valid: String?
    @Option(help: "Its test examples.") var test: String?

    func apply(to files: inout DataFiles) throws {
        if let train { files.train = try absolute(train) }
        if let valid { files.valid = try absolute(valid) }
        if let test { files.test = try absolute(test) }
    }
}

/// The same file from any other folder.
private func absolute(_ path: String) throws -> String {
    path.isEmpty || path.hasPrefix("/") ? path : try Files.currentFolder() + "/" + path
}

/// Files among names that may be those of columns or arrays.
private func absoluteFiles(_ names: String) throws -> String {
    try names.split(separator: ",", omittingEmptySubsequences: false)
        .map { Files.exists(String($0)) ? try absolute(String($0)) : String($0) }.joined(separator: ",")
}

func environment(_ name: String) -> String? {
    guard let value = getenv(name) else { return nil }
    let text = String(cString: value)
    return text.isEmpty ? nil : text
}

/// A number with some decimals; Foundation's formatting would cost the binary forty megabytes.
func fixed(_ value: Double, _ digits: Int) -> String {
    guard value.isFinite else { return value.isNaN ? "nan" : "\(value)" }
    let scale = (0..<digits).reduce(1.0) { s, _ in s * 10 }
    guard value.magnitude * scale < 9e15 else { return "\(value)" }
    let scaled = Int((value.magnitude * scale).rounded())
    let whole = scaled / Int(scale)
    let sign = value < 0 && scaled != 0 ? "-" : ""
    if digits == 0 { return sign + "\(whole)" }
    let rest = String(scaled % Int(scale))
    return sign + "\(whole)." + String(repeating: "0", count: digits - rest.count) + rest
}

func bytes(_ count: Int) -> String {
    count >= 1 << 20 ? fixed(Double(count) / 1_048_576, 1) + " MiB" : fixed(Double(count) / 1024, 1) + " KiB"
}

/// A run folder with its model on a device, the best weights in place.
struct LoadedRun {
    let folder: RunFolder
    let stored: StoredRun
    let experiment: Experiment
    let configuration: RunConfiguration
    let run: Run

    /// - Parameter weights: a file to take the weights from instead of the run's own.
    init(_ path: String, device: any Device, weights: String? = nil) throws {
        folder = RunFolder(path)
        guard Files.isFolder(path) else {
            throw FileError(path, "is not a run folder; \(Catalogue.name) run prints the folder that it makes")
        }
        stored = try folder.readConfig()
        experiment = try Catalogue.experiment(stored.experiment)
        configuration = try stored.configuration(preset: experiment.configuration, path: folder.config)
        run = try Run(configuration, examples: stored.examples, device: device)
        do {
            try run.load(weights: weights ?? folder.model)
        } catch let error as FileError where weights == nil && folder.hasState {
            throw FileError(
                error.path, "\(error.message); \(Catalogue.name) resume \(path) writes it again from the run's state")
        }
    }

    /// The examples that the run was made for.
    /// - Parameters:
    ///   - data: the folder of the real data sets, if it has moved.
    ///   - files: a person's own files, where they have moved.
    func dataset(_ data: String?, _ files: MovedFilesOptions? = nil) throws -> Dataset {
        var configuration = configuration
        try files?.apply(to: &configuration.files)
        let found = try experiment.data(configuration, dataFolder: data ?? stored.dataFolder)
        try folder.require(found, stored)
        return found.dataset
    }
}

extension RunFolder {
    /// Refuses data that are not those that the run was made for.
    func require(_ found: ExperimentData, _ stored: StoredRun) throws {
        if let sources = stored.sources, let now = found.files?.sources {
            for (old, new) in zip(sources, now) where (old.bytes, old.checksum) != (new.bytes, new.checksum) {
                throw FileError(
                    new.path,
                    "is not what the run was made of: expected \(old.bytes) bytes of checksum \(old.checksum) as of \(old.path), found \(new.bytes) of \(new.checksum); put it back, or name where it is now with --train"
                )
            }
        }
        try require(found.examples, stored.examples)
    }
}

/// What is given beside examples, for models that are conditioned on classes or features.
struct GivenOptions: ParsableArguments {
    @Option(help: "The class of each example, a file of names or numbers, for models that are conditioned on classes.")
    var labels: String?
    @Option(
        name: .customLong("class"), parsing: .unconditional,
        help: "The class of every example, its name or number, for models that are conditioned on classes.")
    var label: String?
    @Option(help: "The features of each example, [rows, ..], for models that are conditioned on such.")
    var context: String?

    func validate() throws {
        if let label, labels != nil { throw UsageError("--class \(label): --labels names the class of each example") }
    }

    /// The classes of `--labels`.
    func classes(_ run: Run, count: Int? = nil) throws -> [Int32]? {
        try labels.map { path in
            guard let classes = run.model.conditions.classes else {
                throw UsageError("--labels \(path): this model is not conditioned on classes")
            }
            return try LoadedFiles.readLabels(path, count: count, classes: classes, names: run.examples.classNames)
        }
    }

    /// The class of `--class`.
    func label(of run: Run) throws -> Int? {
        try label.map { text in
            guard let classes = run.model.conditions.classes else {
                throw UsageError("--class \(text): \(run.name) is not conditioned on classes")
            }
            return try LoadedFiles.readLabel(text, classes: classes, names: run.examples.classNames)
        }
    }

    /// The features of `--context`: as a table or an array of rows, or of any shape where each example has a map of them.
    func features(_ run: Run, count: Int? = nil) throws -> HostArray? {
        try context.map { path in
            guard !run.model.conditions.features.isEmpty else {
                throw UsageError("--context \(path): this model is not conditioned on features")
            }
            return run.model.conditions.features.count == 1
                ? try LoadedFiles.readFeatures(path, count: count) : try ArrayFile.read(path)
        }
    }
}
