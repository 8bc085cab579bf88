import Datasets
import Graph
import Likelihood
import Training

/// Examples as files that people look at or listen to.
enum Output {
    /// The suffix of the file that shows such examples, if any does.
    static func pictured(_ examples: ExampleShape) -> String? {
        switch examples.presentation {
        case .sound: "wav"
        case .text: "txt"
        case .video: "png"
        case nil: examples.image.map { $0.channels == 1 || $0.channels == 3 } == true ? "png" : nil
        }
    }

    /// The figure of an example shared out over its variables, in the unit of its field.
    static func perVariable(nats: Double, _ examples: ExampleShape, digits: Int) -> String {
        let bits = fixed(bitsPerDimension(nats: -nats, dimensions: examples.count), digits)
        return switch examples.presentation {
        case .text: "\(fixed(nats / Double(examples.count), digits)) nats per character"
        case .sound: "\(bits) bits per sample"
        case .video, nil: "\(bits) bits per dimension"
        }
    }

    /// Refuses a name that says another format than the one that is written.
    static func check(_ path: String?, suffix: String, option: String) throws {
        guard let path, !path.hasSuffix(suffix) else { return }
        throw UsageError("\(option) \(path): expected a name that ends in \(suffix)")
    }

    /// Refuses names that cannot be written, before anything is computed.
    static func check(_ path: String, _ examples: ExampleShape, option: String = "--out") throws {
        if path.hasSuffix(".npy") || path.hasSuffix(".csv") && examples.columns != nil { return }
        let suffix = examples.columns == nil ? pictured(examples) : "csv"
        if let suffix, path.hasSuffix("." + suffix) { return }
        throw UsageError("\(option) \(path): expected a name that ends in .npy" + (suffix.map { " or .\($0)" } ?? ""))
    }

    /// Writes examples `[count, variables]`: as an array (whole numbers as bytes), a sheet of images, lines of text, or sounds,
    /// one after the other with a quarter of a second between them.
    static func write(_ examples: HostArray, of run: Run, to path: String) throws {
        let shape = run.examples
        let levels = run.model.domain.levelCount
        if path.hasSuffix(".npy") {
            let values = examples.floats
            try NumPy.write(
                levels.map { $0 <= 256 } == true
                    ? HostArray(values.map { UInt8($0) }, shape: examples.shape) : examples, npy: path)
            return
        }
        if path.hasSuffix(".csv"), let columns = shape.columns {
            return try Table.write(examples, columns: columns, extra: [], to: path)
        }
        let white = Double((levels ?? 2) - 1)
        switch shape.presentation {
        case .sound(let rate):
            let rows = rowsOf(examples)
            let silence = [Double](repeating: 0, count: rate / 4)
            let sounds = rows.map { row in row.map { Sound.sample(muLaw: Int($0), levels: levels ?? 256) } }
            try Sound.write(Array(sounds.joined(separator: silence)), rate: rate, to: path)
        case .text(let alphabet):
            let lines = rowsOf(examples).map { alphabet.decode($0.map { Int($0) }) }
            try Files.write(Array(lines.joined(separator: Array("\n----\n".utf8))) + [10], to: path)
        case .video:
            let (frames, height, width) = (shape.dimensions[0], shape.dimensions[1], shape.dimensions[2])
            let flat = examples.reshaped([examples.shape[0] * frames, height * width])
            try PNG.write(PNG.sheet(flat, height: height, width: width, white: white, columns: frames), to: path)
        case nil:
            guard let image = shape.image else { throw UsageError("--out \(path): the examples are not images") }
            try PNG.write(
                PNG.sheet(
                    examples, channels: image.channels, height: image.height, width: image.width, white: white),
                to: path)
        }
    }

    /// Writes the figure of every example: alone as an array, or beside the cells of a table.
    static func write(figures: [Double], of examples: Examples, _ run: Run, to path: String) throws {
        guard path.hasSuffix(".csv") else {
            return try NumPy.write(HostArray(figures, shape: [figures.count]), npy: path)
        }
        guard let columns = run.examples.columns else {
            throw UsageError("--per-example \(path): the examples are no table; expected a name that ends in .npy")
        }
        try Table.write(
            examples.rows, columns: columns, extra: [(run.model.metric.key, figures)], to: path)
    }

    private static func rowsOf(_ examples: HostArray) -> [[Float]] {
        let width = examples.shape[1]
        let values = examples.floats
        return (0..<examples.shape[0]).map { Array(values[$0 * width..<($0 + 1) * width]) }
    }
}
