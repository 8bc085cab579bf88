import ArgumentParser
import Datasets
import Graph
import Likelihood
import Training

struct ListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "The experiments, each with its paper and figure.")
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        struct Row: Encodable {
            let name: String
            let summary: String
            let paper: String
            let paperNats: Double?
        }
        let width = 2 + (Catalogue.experiments.map(\.name.count).max() ?? 0)
        for e in Catalogue.experiments {
            if json {
                try printJSON(Row(name: e.name, summary: e.summary, paper: e.paper, paperNats: e.paperNats))
            } else {
                printLine(
                    e.name + String(repeating: " ", count: width - e.name.count) + e.summary
                        + (e.paper.isEmpty ? "" : " (\(e.paper))"))
            }
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
    @Option(help: "train, valid or test.") var split: String = "test"
    @Option(help: "Examples of your own instead (npy, npz, csv, idx).") var input: String?
    @Option(help: "The classes of the rows of --input, for models that are conditioned on them.") var labels: String?
    @Option(help: "The features of the rows of --input, [rows, ..], for models that are conditioned on such.")
    var context: String?
    @Option(name: .customLong("per-example"), help: "Write the figure of every example to this npy file.")
    var perExample: String?
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        if let own = labels ?? context, input == nil {
            throw UsageError(
                "\(own): a split has its own classes and features; name examples of your own with --input")
        }
        try Output.check(perExample, suffix: ".npy", option: "--per-example")
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        let run = loaded.run
        let examples: Examples
        if let input {
            examples = try inputExamples(input, labels: labels, features: context, run)
        } else {
            guard let split = Dataset.Split(rawValue: split) else {
                throw UsageError("--split \(split): expected train, valid or test")
            }
            examples = try loaded.dataset(data)[split]
        }
        let figures = try run.evaluations(examples)
        if let perExample { try NumPy.write(HostArray(figures, shape: [figures.count]), npy: perExample) }
        try requireFinite(
            figures, perExample.map { "\($0) holds all rows" } ?? "--per-example OUT.npy shows which rows")
        let (estimate, metric) = (Estimate(figures), run.model.metric)
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
                metric.isLogLikelihood ? ", \(Output.perVariable(nats: estimate.mean, run.examples, digits: 5))" : ""
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
    @Option(parsing: .unconditional, help: "How many; one for each row of --context, if that is given.") var count: Int?
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
        let features = try context.map { try ArrayFile.read($0) }
        guard let count = count ?? features?.shape.first else { throw UsageError("--count: expected how many to draw") }
        guard (1...1 << 24).contains(count) else { throw UsageError("--count: expected 1 to 16777216, found \(count)") }
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        try Output.check(out, loaded.run.examples)
        if let nearest { try Output.check(nearest, loaded.run.examples, option: "--nearest") }
        let train = try nearest.map { _ in try loaded.dataset(data).train }
        let drawn = try loaded.run.sample(
            count: count,
            SamplingOptions(seed: seed, isNaive: naive, label: label, features: features, temperature: temperature))
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

struct CompleteCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "complete",
        abstract: "Fill in what was not observed, by draws from the conditional distribution.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The examples, [rows, variables].") var input: String
    @Option(help: "Not zero where the input is observed, of the same shape.") var observed: String
    @Option(help: "The features of each row, [rows, ..], for models that are conditioned on such.") var context: String?
    @Option(help: "A .npy array; a .png sheet of images, .wav sounds or .txt, where examples are such.") var out: String
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
        let result = try loaded.run.complete(
            Examples(ArrayFile.read(input)).rows, observed: Examples(ArrayFile.read(observed)).rows,
            SamplingOptions(
                seed: seed, isNaive: naive, label: label, features: context.map { try ArrayFile.read($0) },
                temperature: temperature),
            isApproximate: approximate)
        try Output.write(result, of: loaded.run, to: out)
    }
}

/// Examples of a file that a run's model can take, with what is known beside them.
/// - Parameters:
///   - labels, features: files, for models that are conditioned on classes or features.
func inputExamples(_ path: String, labels: String?, features: String?, _ run: Run) throws -> Examples {
    let (array, width) = (try ArrayFile.read(path), run.examples.count)
    let rows = array.count == width ? array.reshaped([1, width]) : Examples(array).rows
    guard rows.shape.count == 2, rows.shape[1] == width, rows.shape[0] > 0 else {
        throw FileError(path, "is \(array.shape); expected one row or more [rows, \(width)]")
    }
    try run.model.domain.require(rows, of: path)
    let conditions = run.model.conditions
    var examples = Examples(rows)
    if let labels {
        examples.labels = try labelArray(labels, count: rows.shape[0], classes: conditions.classes)
    } else if conditions.classes != nil {
        throw UsageError("--input: this model is conditioned on classes; name those of the rows with --labels")
    }
    if let features {
        guard !conditions.features.isEmpty else {
            throw UsageError("--context \(features): this model is not conditioned on features")
        }
        examples.features = try ArrayFile.read(features)
    } else if !conditions.features.isEmpty {
        throw UsageError("--input: this model is conditioned on features; name those of the rows with --context")
    }
    return examples
}

/// Classes from a file, one for each example.
private func labelArray(_ path: String, count: Int, classes: Int?) throws -> [Int32] {
    let values = try ArrayFile.read(path).doubles
    guard let classes else { throw UsageError("--labels \(path): this model is not conditioned on classes") }
    guard values.count == count, values.allSatisfy({ $0 >= 0 && $0 < Double(classes) && $0 == $0.rounded() }) else {
        throw FileError(path, "expected \(count) whole numbers from 0 to \(classes - 1), found \(values.count) values")
    }
    return values.map { Int32($0) }
}
