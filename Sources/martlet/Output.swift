import Datasets
import Experiments
import Graph
import Training

/// Examples as files that people look at.
enum Output {
    /// The suffix of the file that shows such examples, if any does.
    static func pictured(_ experiment: Experiment, _ examples: ExampleShape) -> String? {
        examples.image.map { $0.channels == 1 || $0.channels == 3 } == true ? "png" : nil
    }

    /// Refuses names that cannot be written, before anything is computed.
    static func check(_ path: String, _ experiment: Experiment, _ examples: ExampleShape) throws {
        if path.hasSuffix(".npy") { return }
        let suffix = pictured(experiment, examples)
        if let suffix, path.hasSuffix("." + suffix) { return }
        throw UsageError(
            "--out \(path): expected a name that ends in .npy"
                + (suffix.map { " or .\($0)" } ?? "; the examples of \(experiment.name) are not images"))
    }

    /// Writes examples `[count, variables]`; whole numbers as bytes.
    static func write(_ examples: HostArray, of experiment: Experiment, _ run: Training.Run, to path: String) throws {
        let domain = run.configuration.model.domain
        if path.hasSuffix(".npy") {
            let values = examples.floats
            let isWhole = domain.levelCount.map { $0 <= 256 } ?? false
            try NumPy.write(
                isWhole ? HostArray(values.map { UInt8($0) }, shape: examples.shape) : examples, npy: path)
            return
        }
        guard let image = run.examples.image else { throw UsageError("--out \(path): the examples are not images") }
        try PNG.write(
            PNG.sheet(
                examples, channels: image.channels, height: image.height, width: image.width,
                white: Double((domain.levelCount ?? 2) - 1)), to: path)
    }
}
