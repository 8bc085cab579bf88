import ArgumentParser
import Datasets
import Graph
import Likelihood
import Training

struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "The families for your own data, and the experiments, each with its paper.")
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        struct Row: Encodable {
            let name: String
            let summary: String
            let paper: String
            let paperNats: Double?
            let isFamily: Bool
        }
        let all = Catalogue.experiments
        if json {
            for e in all {
                try printJSON(
                    Row(
                        name: e.name, summary: e.summary, paper: e.paper, paperNats: e.paperNats, isFamily: e.isFamily))
            }
            return
        }
        let width = 2 + (all.map(\.name.count).max() ?? 0)
        for (title, part) in [
            ("Families on your own data (--train FILE):", all.filter(\.isFamily)),
            ("Experiments with data of their own:", all.filter { !$0.isFamily }),
        ] where !part.isEmpty {
            printLine(title)
            for e in part {
                printLine(
                    "  " + e.name + String(repeating: " ", count: width - e.name.count) + e.summary
                        + (e.paper.isEmpty ? "" : " (\(e.paper))"))
            }
        }
    }
}

struct SettingsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "settings", abstract: "The settings of an experiment, as --set changes them.")
    @Argument(help: "The experiment or family; list shows all.") var name: String
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let experiment = try Catalogue.experiment(name)
        let meanings = experiment.configuration.meanings
        let fields = try experiment.configuration.fields().filter { $0.key != "experiment" }
            // An experiment with data of its own takes no files.
            .filter { experiment.isFamily || DataFiles.meanings[$0.key] == nil }
        struct Row: Encodable {
            let name: String
            let value: JSON
            let range: String?
            let meaning: String?
        }
        let width = 2 + (fields.keys.map(\.count).max() ?? 0)
        for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
            let meaning = meanings[key]
            if json {
                try printJSON(Row(name: key, value: value, range: meaning?.range, meaning: meaning?.text))
                continue
            }
            let now = "\(value)".isEmpty ? "none" : "\(value)"
            printLine(
                key + String(repeating: " ", count: width - key.count) + now
                    + (meaning.map { " (\($0.range)): \($0.text)" } ?? ""))
        }
    }
}

struct DevicesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "devices", abstract: "The devices that --device can name.")
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let (devices, problems) = try Devices.found()
        for device in devices {
            if json {
                try printJSON(["name": device.name, "summary": device.summary])
            } else {
                printLine("\(device.name)\t\(device.summary)")
            }
        }
        if !json { for problem in problems { printLine(problem) } }
    }
}

struct EvaluateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evaluate",
        abstract: "The mean figure of a run: negative log-likelihood in nats and bits per dimension, for most models.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The folder of the real data sets, if it has moved.") var data: String?
    @OptionGroup var files: MovedFilesOptions
    @Option(help: "train, valid or test.") var split: String = "test"
    @Option(help: "Examples of your own instead (npy, npz, csv, idx).") var input: String?
    @Option(help: "The classes of the rows of --input, for models that are conditioned on them.") var labels: String?
    @Option(help: "The features of the rows of --input, [rows, ..], for models that are conditioned on such.")
    var context: String?
    @Option(
        name: .customLong("per-example"),
        help: "Write the figure of every example to this file: npy, or csv beside the rows of a table.")
    var perExample: String?
    @Option(
        help:
            "Not zero where a value of the examples is known, of their shape (npy): the figure is that of the known values, where the model's order puts them first."
    )
    var observed: String?
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        if let own = labels ?? context, input == nil {
            throw UsageError(
                "\(own): a split has its own classes and features; name examples of your own with --input")
        }
        if let perExample, !perExample.hasSuffix(".npy"), !perExample.hasSuffix(".csv") {
            throw UsageError("--per-example \(perExample): expected a name that ends in .npy or .csv")
        }
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        let run = loaded.run
        let examples: Examples
        if let input {
            examples = try inputExamples(
                input, labels: labels, features: context, loaded.configuration.files, run)
        } else {
            guard let split = Dataset.Split(rawValue: split) else {
                throw UsageError("--split \(split): expected train, valid or test")
            }
            examples = try loaded.dataset(data, files)[split]
        }
        let figures =
            try observed.map { try run.evaluations(examples, observed: Examples(ArrayFile.read($0)).rows) }
            ?? run.evaluations(examples)
        if let perExample {
            try Output.write(figures: figures, of: examples, run, to: perExample)
        }
        try requireFinite(
            figures, perExample.map { "\($0) holds all rows" } ?? "--per-example OUT.npy shows which rows")
        let (estimate, metric) = (Estimate(figures, weights: examples.weights), run.model.metric)
        if json {
            var row = [
                "mean_\(metric.key)": estimate.mean, "standard_error": estimate.standardError,
                "examples": Double(estimate.count),
            ]
            if metric.isLogLikelihood {
                row["bits_per_dimension"] = bitsPerDimension(nats: -estimate.mean, dimensions: run.examples.count)
            }
            try printJSON(row)
        } else {
            let perVariable =
                metric.isLogLikelihood && run.examples.columns == nil
                ? ", \(Output.perVariable(nats: estimate.mean, run.examples, digits: 5))" : ""
            printLine(
                "\(fixed(estimate.mean, 4)) \(metric.unit) ± \(fixed(estimate.standardError, 4))\(perVariable), \(estimate.count) examples"
            )
        }
    }
}

struct SampleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sample", abstract: "Draw examples from a run.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(
        parsing: .unconditional,
        help: "How many; of each row of --context or --labels, if one is given: one, if not said otherwise.")
    var count: Int?
    @Option(help: "The class of each example, for models that are conditioned on classes.") var labels: String?
    @Option(help: "The features of each example, [rows, ..], for models that are conditioned on such.") var context:
        String?
    @Option(
        name: .customLong("class"), parsing: .unconditional,
        help: "The class of every example, for models that are conditioned on classes.")
    var label: Int?
    @Option(parsing: .unconditional, help: "Below 1 draws nearer to the model's modes; 1 draws from the model.")
    var temperature = 1.0
    @Option(help: "A .npy array; a .png sheet of images, .wav sounds or .txt, where examples are such.") var out: String
    @Option(parsing: .unconditional, help: "The seed; example i is the same for any count and device.") var seed:
        UInt64 = 0
    @Flag(help: "Run the whole network once for every variable instead of the compiled sampler; the same draw.")
    var naive = false
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?
    @Option(
        help:
            "Write the nearest training example of each draw to this file, in the same order, and print how far it is.")
    var nearest: String?
    @Option(help: "The folder of the real data sets, if it has moved; for --nearest.") var data: String?

    func run() throws {
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        let (features, classes) = try conditions(loaded.run)
        let rows = features?.shape.first ?? classes?.count ?? 1
        guard let each = count ?? (rows > 1 || features != nil || classes != nil ? 1 : nil) else {
            throw UsageError("--count: expected how many to draw")
        }
        guard (1...1 << 24).contains(each), rows > 0, each <= (1 << 24) / rows else {
            throw UsageError("--count: expected 1 to 16777216 in all, found \(each) for each of \(rows) rows")
        }
        let count = rows * each
        let places = (0..<count).map { $0 / each }
        try Output.check(out, loaded.run.examples)
        if let nearest { try Output.check(nearest, loaded.run.examples, option: "--nearest") }
        let train = try nearest.map { _ in try loaded.dataset(data).train }
        let drawn = try loaded.run.sample(
            count: count,
            SamplingOptions(
                seed: seed, isNaive: naive, label: label, labels: classes.map { labels in places.map { labels[$0] } },
                features: features.map { each == 1 ? $0 : $0.rows(places) }, temperature: temperature))
        try Output.write(drawn.examples, of: loaded.run, to: out)
        guard let nearest, let train else { return }
        let found = try NearestExamples(to: drawn.examples, in: train, on: loaded.run.device)
        try Output.write(found.examples(of: train), of: loaded.run, to: nearest)
        let sorted = found.distances.sorted()
        printLine(
            "distance to the nearest training example: least \(fixed(sorted[0], 3)), median \(fixed(sorted[count / 2], 3)), most \(fixed(sorted[count - 1], 3)); \(sorted.count { $0 == 0 }) of \(count) are training examples"
        )
    }
}

extension SampleCommand {
    /// Features and classes of some rows.
    private func conditions(_ run: Run) throws -> (features: HostArray?, classes: [Int32]?) {
        let features = try context.map {
            run.model.conditions.features.count == 1 ? try LoadedFiles.readFeatures($0) : try ArrayFile.read($0)
        }
        let classes = try labels.map { try readLabels($0, count: nil, run) }
        if let label, classes != nil { throw UsageError("--class \(label): --labels names the class of each example") }
        if let features, let classes, features.shape[0] != classes.count {
            throw UsageError(
                "--labels: expected \(features.shape[0]) classes as --context has rows, found \(classes.count)")
        }
        return (features, classes)
    }
}

struct CompleteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "complete",
        abstract: "Fill in what was not observed, by draws from the conditional distribution.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The examples, [rows, variables].") var input: String
    @Option(
        help:
            "Not zero where the input is observed, of the same shape; a model that was trained on gaps takes empty cells for what is not."
    )
    var observed: String?
    @Option(parsing: .unconditional, help: "How many completions of each row, one after the other.") var draws = 1
    @Option(help: "The features of each row, [rows, ..], for models that are conditioned on such.") var context: String?
    @Option(help: "The class of each row, for models that are conditioned on classes.") var labels: String?
    @Option(
        help: "A .npy array, or a .csv table; a .png sheet of images, .wav sounds or .txt, where examples are such.")
    var out: String
    @Option(parsing: .unconditional, help: "The seed.") var seed: UInt64 = 0
    @Option(
        name: .customLong("class"), parsing: .unconditional,
        help: "The class of every row, for models that are conditioned on classes.")
    var label: Int?
    @Option(parsing: .unconditional, help: "Below 1 draws nearer to the model's modes; 1 draws from the model.")
    var temperature = 1.0
    @Flag(help: "Run the whole network once for every variable.") var naive = false
    @Flag(help: "Where the draw cannot be exact, ignore observations that come later in the order.") var approximate =
        false
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?

    func run() throws {
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        try Output.check(out, loaded.run.examples)
        try require((1...1 << 16).contains(draws), "--draws: expected 1 to 65536, found \(draws)")
        let run = loaded.run
        guard observed != nil || run.model.acceptsMissing else {
            throw UsageError(
                "--observed: name a mask of the input's shape, not zero where it is observed; empty cells are taken for that by a model that was trained with --missing marginalize"
            )
        }
        let given = try LoadedFiles.read(input, like: run.examples, values: run.model.domain, allowsMissing: true)
        let mask =
            try observed.map { try Examples(ArrayFile.read($0)).rows }
            ?? HostArray(given.floats.map { $0.isNaN ? 0 : 1 } as [Float], shape: given.shape)
        let places = (0..<given.shape[0] * draws).map { $0 / draws }
        func repeated(_ rows: HostArray) -> HostArray { draws == 1 ? rows : rows.rows(places) }
        let features = try context.map { repeated(try LoadedFiles.readFeatures($0, count: given.shape[0])) }
        let classes = try labels.map { try readLabels($0, count: given.shape[0], run) }
        guard mask.shape == given.shape else {
            throw UsageError("--observed: expected a mask of \(given.shape) as the input, found \(mask.shape)")
        }
        let result = try run.complete(
            repeated(given), observed: repeated(mask),
            SamplingOptions(
                seed: seed, isNaive: naive, label: label, labels: classes.map { each in places.map { each[$0] } },
                features: features, temperature: temperature),
            isApproximate: approximate)
        try Output.write(result, of: run, to: out)
    }
}

/// Examples of a file that a run's model can take, with what is known beside them.
/// - Parameters:
///   - labels, features: files, for models that are conditioned on classes or features.
///   - files: those of the run, whose context may be columns that the file has too.
func inputExamples(
    _ path: String, labels: String?, features: String?, _ files: DataFiles, _ run: Run
) throws -> Examples {
    let model = run.model
    let rows = try LoadedFiles.read(path, like: run.examples, values: model.domain, allowsMissing: model.acceptsMissing)
    let conditions = model.conditions
    var examples = Examples(rows)
    if let labels {
        examples.labels = try readLabels(labels, count: rows.shape[0], run)
    } else if conditions.classes != nil {
        throw UsageError("--input: this model is conditioned on classes; name those of the rows with --labels")
    }
    if let features {
        guard !conditions.features.isEmpty else {
            throw UsageError("--context \(features): this model is not conditioned on features")
        }
        examples.features =
            conditions.features.count == 1
            ? try LoadedFiles.readFeatures(features, count: rows.shape[0]) : try ArrayFile.read(features)
    } else if !conditions.features.isEmpty, let columns = files.contextColumns {
        examples.features = try LoadedFiles.readFeatures(path, columns: columns, count: rows.shape[0])
    } else if !conditions.features.isEmpty {
        throw UsageError("--input: this model is conditioned on features; name those of the rows with --context")
    }
    return examples
}

/// Classes of a file, for a model that is conditioned on such.
private func readLabels(_ path: String, count: Int?, _ run: Run) throws -> [Int32] {
    guard let classes = run.model.conditions.classes else {
        throw UsageError("--labels \(path): this model is not conditioned on classes")
    }
    return try LoadedFiles.readLabels(path, count: count, classes: classes)
}

extension DataFiles {
    /// The columns of the training table that examples are conditioned on; `nil` where files hold the features. Those are kept by their
    /// paths from the root.
    fileprivate var contextColumns: [String]? {
        context.isEmpty || context.contains("/") ? nil : context.split(separator: ",").map(String.init)
    }
}
