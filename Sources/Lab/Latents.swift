import ArgumentParser
import Datasets
import Graph
import Likelihood
import Training

struct EncodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "encode",
        abstract: "The latents of examples, for a model that has such.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The examples, [rows, variables] (npy, npz, csv, idx).") var input: String
    @OptionGroup var given: GivenOptions
    @Option(help: "The latents, a .npy array [rows, latents].") var out: String
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?

    func run() throws {
        try Output.check(out, suffix: ".npy", option: "--out")
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        let examples = try inputExamples(input, given, loaded.configuration.files, loaded.run)
        try NumPy.write(try loaded.run.encode(examples), npy: out)
    }
}

struct DecodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "decode", abstract: "The examples that have given latents.")

    @Argument(help: "The run's folder.") var folder: String
    @OptionGroup var device: DeviceOptions
    @Option(help: "The latents, [rows, latents].") var input: String
    @OptionGroup var given: GivenOptions
    @Option(help: "A .npy array; a .png sheet, where examples are images.") var out: String
    @Option(parsing: .unconditional, help: "The seed, for models whose decoder draws.") var seed: UInt64 = 0
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?

    func run() throws {
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        try Output.check(out, loaded.run.examples)
        let (latents, run) = (try ArrayFile.read(input), loaded.run)
        let rows = latents.shape.first
        let options = SamplingOptions(
            seed: seed, label: try given.label(of: run), labels: try given.classes(run, count: rows),
            features: try given.features(run, count: rows))
        try Output.write(try run.decode(latents, options), of: run, to: out)
    }
}

struct InterpolateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "interpolate",
        abstract:
            "Examples on the straight line between the latents of two, ends included; where something is given, it is so for all."
    )

    @Argument(help: "The run's folder.") var folder: String
    @Argument(help: "The first example: a row of the test set, or a file of one example.") var first: String
    @Argument(help: "The last example.") var last: String
    @OptionGroup var device: DeviceOptions
    @OptionGroup var given: GivenOptions
    @Option(parsing: .unconditional, help: "How many examples, 2 or more.") var count: Int
    @Option(help: "A .npy array; a .png sheet, where examples are images.") var out: String
    @Option(help: "The folder of the real data sets, if it has moved.") var data: String?
    @Option(help: "Weights (safetensors) instead of the run's.") var weights: String?

    func run() throws {
        guard (2...4096).contains(count) else { throw UsageError("--count: expected 2 to 4096, found \(count)") }
        if let labels = given.labels { throw UsageError("--labels \(labels): name the one class of all with --class") }
        let loaded = try LoadedRun(folder, device: device.make(), weights: weights)
        try Output.check(out, loaded.run.examples)
        var test: HostArray?
        func example(_ text: String) throws -> HostArray {
            guard let row = Int(text) else {
                let rows = try LoadedFiles.read(text, like: loaded.run.examples, values: loaded.run.model.domain)
                guard rows.shape[0] == 1 else {
                    throw FileError(text, "expected one example, found \(rows.shape[0])")
                }
                return rows
            }
            if test == nil {
                test = try loaded.dataset(data).test
            }
            guard let test, (0..<test.shape[0]).contains(row) else {
                throw UsageError("interpolate: row \(row) is not in the test set of \(test?.shape[0] ?? 0) examples")
            }
            return test.rows(row..<row + 1)
        }
        let options = SamplingOptions(
            label: try given.label(of: loaded.run),
            features: try given.features(loaded.run, count: 1))
        let line = try loaded.run.interpolate(try example(first), try example(last), count: count, options)
        try Output.write(line, of: loaded.run, to: out)
    }
}
