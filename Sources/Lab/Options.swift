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
    @Option(help: "auto, cpu, opencl or opencl:N; auto takes a GPU, else the CPU. MARTLET_DEVICE is the default.")
    var device: String?

    @Option(parsing: .unconditional, help: "Threads of the CPU backend; all cores if not given.")
    var threads: Int?

    func make() throws -> any Device {
        let name = device ?? environment("MARTLET_DEVICE") ?? "auto"
        if let threads, !(1...1024).contains(threads) {
            throw UsageError("--threads: expected 1 to 1024, found \(threads)")
        }
        return try Devices.named(name, threads: threads)
    }
}

struct DataOptions: ParsableArguments {
    @Option(help: "The folder of the real data sets. MARTLET_DATA is the default, then ./data.")
    var data: String?

    var folder: String { data ?? environment("MARTLET_DATA") ?? "data" }
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
    /// - Parameter data: the folder of the real data sets, if it has moved.
    func dataset(_ data: String?) throws -> Dataset {
        let found = try experiment.data(configuration, dataFolder: data ?? stored.dataFolder)
        try folder.require(found.examples, stored.examples)
        return found.dataset
    }
}
