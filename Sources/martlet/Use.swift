import ArgumentParser
import Datasets
import Experiments
import Graph
import Models
import Training

struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "The experiments, each with its paper and figure.")
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        struct Row: Encodable {
            let name: String
            let summary: String
            let paper: String
            let paperNats: Double?
        }
        let width = 2 + (Experiment.all.map(\.name.count).max() ?? 0)
        for e in Experiment.all {
            if json {
                try printJSON(Row(name: e.name, summary: e.summary, paper: e.paper, paperNats: e.paperNats))
            } else {
                print(e.name + String(repeating: " ", count: width - e.name.count) + e.summary + " (\(e.paper))")
            }
        }
    }
}

struct Devices: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "The devices that --device can name.")
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        for device in try availableDevices() {
            if json {
                try printJSON(["name": device.name, "summary": device.summary])
            } else {
                print("\(device.name)\t\(device.summary)")
            }
        }
    }
}

struct Evaluate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Mean negative log-likelihood of a run, in nats and bits per dimension.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The folder of the real data sets, if it has moved.") var data: String?
    @Option(help: "train, valid or test.") var split: String = "test"
    @Option(help: "Examples of your own instead (npy, npz, csv, idx).") var input: String?
    @Option(help: "The classes of the rows of --input, for models that are conditioned on them.") var labels: String?
    @Option(name: .customLong("per-example"), help: "Write the nats of every example to this npy file.") var perExample:
        String?
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        if let labels, input == nil {
            throw UsageError("--labels \(labels): a split has its own classes; name examples of your own with --input")
        }
        try Output.check(perExample, suffix: ".npy", option: "--per-example")
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        let variables = loaded.run.examples.count
        let examples: HostArray
        var classes: HostArray?
        if let input {
            let array = try ArrayFile.read(input)
            examples = flat(array)
            guard examples.shape.count == 2, examples.shape[1] == variables, examples.shape[0] > 0 else {
                throw FileError(input, "is \(array.shape); expected [examples, \(variables)]")
            }
            try loaded.run.configuration.model.domain.require(examples, of: input)
            if let labels {
                classes = try labelArray(labels, count: examples.shape[0], classes: loaded.run.examples.classes)
            } else if loaded.run.examples.classes != nil {
                throw UsageError("--input: this model is conditioned on classes; name those of the rows with --labels")
            }
        } else {
            guard let split = Dataset.Split(rawValue: split) else {
                throw UsageError("--split \(split): expected train, valid or test")
            }
            let dataset = try loaded.dataset(data)
            (examples, classes) = (dataset.examples(split), dataset.labels(split))
        }
        let nats = try loaded.run.logProbability(examples, labels: classes).map { -$0 }
        if let perExample { try NumPy.write(HostArray(nats, shape: [nats.count]), npy: perExample) }
        if let bad = nats.firstIndex(where: { !$0.isFinite }) {
            throw UsageError(
                "row \(bad) has log-density \(-nats[bad]), as \(nats.count { !$0.isFinite }) of \(nats.count) rows have no finite one, so there is no mean; \(perExample.map { "\($0) holds all rows" } ?? "--per-example OUT.npy shows which rows")"
            )
        }
        let estimate = Estimate(nats)
        if json {
            try printJSON([
                "mean_nats": estimate.mean, "standard_error": estimate.standardError,
                "bits_per_dimension": bitsPerDimension(nats: -estimate.mean, dimensions: variables),
                "examples": Double(estimate.count),
            ])
        } else {
            print(
                "\(fixed(estimate.mean, 4)) nats ± \(fixed(estimate.standardError, 4)), \(Output.perVariable(nats: estimate.mean, loaded.run.examples, digits: 5)), \(estimate.count) examples"
            )
        }
    }
}

struct Sample: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Draw examples from a run.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(parsing: .unconditional, help: "How many.") var count: Int
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
        guard (1...1 << 24).contains(count) else { throw UsageError("--count: expected 1 to 16777216, found \(count)") }
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        try Output.check(out, loaded.run.examples)
        if let nearest { try Output.check(nearest, loaded.run.examples, option: "--nearest") }
        let train = try nearest.map { _ in try loaded.dataset(data).train }
        let drawn = try loaded.run.sample(
            count: count, SamplingOptions(seed: seed, isNaive: naive, label: label, temperature: temperature))
        try Output.write(drawn.examples, of: loaded.run, to: out)
        guard let nearest, let train else { return }
        let found = try NearestExamples(to: drawn.examples, in: train, on: loaded.run.device)
        try Output.write(found.examples(of: train), of: loaded.run, to: nearest)
        let sorted = found.distances.sorted()
        print(
            "distance to the nearest training example: least \(fixed(sorted[0], 3)), median \(fixed(sorted[count / 2], 3)), most \(fixed(sorted[count - 1], 3)); \(sorted.count { $0 == 0 }) of \(count) are training examples"
        )
    }
}

struct Complete: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fill in what was not observed, by draws from the conditional distribution.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The examples, [rows, variables].") var input: String
    @Option(help: "Not zero where the input is observed, of the same shape.") var observed: String
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
            flat(ArrayFile.read(input)), observed: flat(ArrayFile.read(observed)),
            SamplingOptions(seed: seed, isNaive: naive, label: label, temperature: temperature),
            isApproximate: approximate)
        try Output.write(result, of: loaded.run, to: out)
    }
}

/// Examples with their axes joined, `[examples, variables]`.
private func flat(_ array: HostArray) -> HostArray {
    array.shape.count > 2 ? array.reshaped([array.shape[0], array.shape.dropFirst().reduce(1, *)]) : array
}

/// Classes from a file, int32, one for each example.
private func labelArray(_ path: String, count: Int, classes: Int?) throws -> HostArray {
    let values = try ArrayFile.read(path).doubles
    guard let classes else { throw UsageError("--labels \(path): this model is not conditioned on classes") }
    guard values.count == count, values.allSatisfy({ $0 >= 0 && $0 < Double(classes) && $0 == $0.rounded() }) else {
        throw FileError(path, "expected \(count) whole numbers from 0 to \(classes - 1), found \(values.count) values")
    }
    return HostArray(values.map { Int32($0) })
}
