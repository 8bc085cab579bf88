import ArgumentParser
import Datasets
import Experiments
import Graph
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
        for e in Experiment.all {
            if json {
                try printJSON(Row(name: e.name, summary: e.summary, paper: e.paper, paperNats: e.paperNats))
            } else {
                print(e.name + String(repeating: " ", count: max(1, 18 - e.name.count)) + e.summary + " (\(e.paper))")
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
    @Option(name: .customLong("per-example"), help: "Write the nats of every example to this npy file.") var perExample:
        String?
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        let stored = try loaded.folder.readConfig(StoredRun.self)
        let examples: HostArray
        if let input {
            let array = try ArrayFile.read(input)
            examples =
                array.shape.count > 2 ? array.reshaped([array.shape[0], array.shape.dropFirst().reduce(1, *)]) : array
            guard examples.shape.count == 2, examples.shape[1] == stored.variables, examples.shape[0] > 0 else {
                throw FileError(input, "is \(array.shape); expected [examples, \(stored.variables)]")
            }
            try stored.settings.domain.require(examples, of: input)
        } else {
            guard let split = Dataset.Split(rawValue: split) else {
                throw UsageError("--split \(split): expected train, valid or test")
            }
            examples = try loaded.experiment.data(stored.settings, dataFolder: data ?? stored.dataFolder).dataset
                .examples(split)
        }
        let nats = try loaded.run.logProbability(examples).map { -$0 }
        if let perExample { try NumPy.write(HostArray(nats, shape: [nats.count]), npy: perExample) }
        let estimate = Estimate(nats)
        let bits = estimate.mean / Double(stored.variables) / 0.6931471805599453
        if json {
            try printJSON([
                "mean_nats": estimate.mean, "standard_error": estimate.standardError, "bits_per_dimension": bits,
                "examples": Double(estimate.count),
            ])
        } else {
            print(
                "\(fixed(estimate.mean, 4)) nats ± \(fixed(estimate.standardError, 4)), \(fixed(bits, 5)) bits per dimension, \(estimate.count) examples"
            )
        }
    }
}

struct Sample: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Draw examples from a run.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "How many.") var count: Int
    @Option(help: "A .png sheet of images, or a .npy array.") var out: String
    @Option(help: "The seed; example i is the same for any count and device.") var seed: UInt64 = 0
    @Flag(help: "Run the whole network once for every variable instead of the compiled sampler; the same draw.")
    var naive = false
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?

    func run() throws {
        guard (1...1 << 24).contains(count) else { throw UsageError("--count: expected 1 to 16777216, found \(count)") }
        try checkOutput(out)
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        let drawn = try loaded.run.sample(count: count, SamplingOptions(seed: seed, isNaive: naive))
        try write(drawn.examples, loaded, to: out)
    }
}

struct Complete: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Fill in what was not observed, by draws from the conditional distribution.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The examples, [rows, variables].") var input: String
    @Option(help: "Not zero where the input is observed, of the same shape.") var observed: String
    @Option(help: "A .png sheet of images, or a .npy array.") var out: String
    @Option(help: "The seed.") var seed: UInt64 = 0
    @Flag(help: "Run the whole network once for every variable.") var naive = false
    @Flag(help: "Where the draw cannot be exact, ignore observations that come later in the order.") var approximate =
        false
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?

    func run() throws {
        try checkOutput(out)
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        let result = try loaded.run.complete(
            flat(ArrayFile.read(input)), observed: flat(ArrayFile.read(observed)),
            SamplingOptions(seed: seed, isNaive: naive),
            isApproximate: approximate)
        try write(result, loaded, to: out)
    }

    private func flat(_ array: HostArray) -> HostArray {
        array.shape.count > 2 ? array.reshaped([array.shape[0], array.shape.dropFirst().reduce(1, *)]) : array
    }
}

private func checkOutput(_ path: String) throws {
    guard path.hasSuffix(".png") || path.hasSuffix(".npy") else {
        throw UsageError("--out \(path): expected a name that ends in .png or .npy")
    }
}

/// Writes examples as a sheet of images or as an array; binary ones as bytes.
private func write(_ examples: HostArray, _ loaded: LoadedRun, to path: String) throws {
    if path.hasSuffix(".npy") {
        let isBinary = loaded.run.configuration.conditional == "bernoulli"
        try NumPy.write(
            isBinary ? HostArray(examples.floats.map { UInt8($0) }, shape: examples.shape) : examples, npy: path)
        return
    }
    let stored = try loaded.folder.readConfig(StoredRun.self)
    guard let height = stored.imageHeight, let width = stored.imageWidth else {
        throw UsageError("--out \(path): the examples of \(loaded.experiment.name) are not images; name a .npy file")
    }
    try PNG.write(PNG.sheet(examples, height: height, width: width), to: path)
}
