import ArgumentParser
import Compiler
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
            let duration: String?
            /// The groups that it is a member of.
            let groups: [String]
        }
        let (all, groups) = (Catalogue.experiments, Catalogue.groups)
        if json {
            for e in all {
                try printJSON(
                    Row(
                        name: e.name, summary: e.summary, paper: e.paper, paperNats: e.paperNats, isFamily: e.isFamily,
                        duration: e.duration,
                        groups: groups.filter { $0.members.contains { $0.name == e.name } }.map(\.name)))
            }
            return
        }
        let members = Set(groups.flatMap { $0.members.map(\.name) })
        let alone = all.filter { !members.contains($0.name) }
        let width = 2 + (all.map(\.name.count).max() ?? 0)
        func line(_ name: String, _ text: String, _ duration: String?) {
            printLine(
                "  " + name + String(repeating: " ", count: width - name.count) + text
                    + (duration.map { "; \($0)" } ?? ""))
        }
        for (title, part) in [
            ("Families on your own data (--train FILE):", alone.filter(\.isFamily)),
            ("Experiments with data of their own:", alone.filter { !$0.isFamily }),
        ] where !part.isEmpty {
            printLine(title)
            for e in part {
                line(e.name, e.summary + (e.paper.isEmpty ? "" : " (\(e.paper))"), e.duration)
            }
        }
        for group in groups {
            printLine(
                "\(group.name), one table of several experiments: \(group.summary)\(group.duration.map { "; \($0)" } ?? "")"
            )
            for e in group.members { line(e.name, e.summary, e.duration) }
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
    @Flag(
        help:
            "Measure each: multiply-adds of a large product, exps of numbers in a cache and bytes of a triad, in billions a second."
    )
    var measure = false
    @Flag(help: "Print JSON.") var json = false

    private struct Row: Encodable {
        let name: String
        let summary: String
        var rates: FloorRates?
    }

    func run() throws {
        let found = try Devices.found()
        var (rows, problems) = ([Row](), found.problems)
        for device in found.devices {
            var row = Row(name: device.name, summary: device.summary)
            do {
                if measure { row.rates = try FloorRates.measure(on: device) }
            } catch {
                problems.append("\(device.name)\tcould not be measured: \(error)")
            }
            rows.append(row)
        }
        if json {
            for row in rows { try printJSON(row) }
            return
        }
        TextTable(
            heading: ["name"] + (measure ? ["multiply-adds", "exps", "bytes"] : []) + ["device"],
            rows: rows.map { row in
                let rates = row.rates.map { [$0.multiplyAdds, $0.exps, $0.bytes].map { fixed($0 / 1e9, 1) } }
                return [row.name] + (measure ? rates ?? ["", "", ""] : []) + [row.summary]
            }
        ).print()
        for problem in problems { printLine(problem) }
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
    @OptionGroup var given: GivenOptions
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
        if let own = given.labels ?? given.context ?? given.label, input == nil {
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
            examples = try inputExamples(input, given, loaded.configuration.files, run)
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
            try printEffort(run, examples)
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
    @OptionGroup var given: GivenOptions
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
        let run = loaded.run
        let (features, classes, label) = (
            try given.features(run), try given.classes(run), try given.label(of: run)
        )
        if let features, let classes, features.shape[0] != classes.count {
            throw UsageError(
                "--labels: expected \(features.shape[0]) classes as --context has rows, found \(classes.count)")
        }
        let rows = features?.shape.first ?? classes?.count ?? 1
        guard let each = count ?? (rows > 1 || features != nil || classes != nil ? 1 : nil) else {
            throw UsageError("--count: expected how many to draw")
        }
        guard (1...1 << 24).contains(each), rows > 0, each <= (1 << 24) / rows else {
            throw UsageError("--count: expected 1 to 16777216 in all, found \(each) for each of \(rows) rows")
        }
        let count = rows * each
        let places = (0..<count).map { $0 / each }
        try Output.check(out, run.examples)
        if let nearest { try Output.check(nearest, run.examples, option: "--nearest") }
        let train = try nearest.map { _ in try loaded.dataset(data).train }
        let drawn = try run.sample(
            count: count,
            SamplingOptions(
                seed: seed, isNaive: naive, label: label, labels: classes.map { labels in places.map { labels[$0] } },
                features: features.map { each == 1 ? $0 : $0.rows(places) }, temperature: temperature))
        try Output.write(drawn.examples, of: run, to: out)
        guard let nearest, let train else { return }
        let found = try NearestExamples(to: drawn.examples, in: train, on: run.device)
        try Output.write(found.examples(of: train), of: run, to: nearest)
        let sorted = found.distances.sorted()
        printLine(
            "distance to the nearest training example: least \(fixed(sorted[0], 3)), median \(fixed(sorted[count / 2], 3)), most \(fixed(sorted[count - 1], 3)); \(sorted.count { $0 == 0 }) of \(count) are training examples"
        )
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
    @OptionGroup var given: GivenOptions
    @Option(
        help: "A .npy array, or a .csv table; a .png sheet of images, .wav sounds or .txt, where examples are such.")
    var out: String
    @Option(parsing: .unconditional, help: "The seed.") var seed: UInt64 = 0
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
        let rows = try LoadedFiles.read(input, like: run.examples, values: run.model.domain, allowsMissing: true)
        let mask =
            try observed.map { try Examples(ArrayFile.read($0)).rows }
            ?? HostArray(rows.floats.map { $0.isNaN ? 0 : 1 } as [Float], shape: rows.shape)
        let count = rows.shape[0]
        let places = (0..<count * draws).map { $0 / draws }
        func repeated(_ rows: HostArray) -> HostArray { draws == 1 ? rows : rows.rows(places) }
        let features = try given.features(run, count: count).map(repeated)
        let classes = try given.classes(run, count: count)
        guard mask.shape == rows.shape else {
            throw UsageError("--observed: expected a mask of \(rows.shape) as the input, found \(mask.shape)")
        }
        let result = try run.complete(
            repeated(rows), observed: repeated(mask),
            SamplingOptions(
                seed: seed, isNaive: naive, label: try given.label(of: run),
                labels: classes.map { each in places.map { each[$0] } },
                features: features, temperature: temperature),
            isApproximate: approximate)
        try Output.write(result, of: run, to: out)
    }
}

/// Examples of a file that a run's model can take, with what is known beside them.
/// - Parameter files: those of the run, whose context may be columns that the file has too.
func inputExamples(_ path: String, _ given: GivenOptions, _ files: DataFiles, _ run: Run) throws -> Examples {
    let model = run.model
    let rows = try LoadedFiles.read(path, like: run.examples, values: model.domain, allowsMissing: model.acceptsMissing)
    let (conditions, count) = (model.conditions, rows.shape[0])
    var examples = Examples(rows)
    examples.labels = try given.classes(run, count: count)
    if let label = try given.label(of: run) { examples.labels = [Int32](repeating: Int32(label), count: count) }
    if conditions.classes != nil, examples.labels == nil {
        throw UsageError("--input: this model is conditioned on classes; name those of the rows with --labels")
    }
    examples.features = try given.features(run, count: count)
    if !conditions.features.isEmpty, examples.features == nil {
        guard let columns = files.contextColumns else {
            throw UsageError("--input: this model is conditioned on features; name those of the rows with --context")
        }
        examples.features = try LoadedFiles.readFeatures(path, columns: columns, count: count)
    }
    return examples
}

extension DataFiles {
    /// The columns of the training table that examples are conditioned on; `nil` where files hold the features. Those are kept by their
    /// paths from the root.
    fileprivate var contextColumns: [String]? {
        context.isEmpty || context.contains("/") ? nil : context.split(separator: ",").map(String.init)
    }
}
