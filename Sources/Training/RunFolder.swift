import Datasets
import FoundationEssentials
import Graph
import Likelihood

/// The folder of a run: `config.json`, `metrics.jsonl`, `model.safetensors`, `state.safetensors`, `samples-*.png`, `result.json` at its
/// end, `split.json` where one file was split, and `lock` (`RunLock`).
///
/// `state.safetensors` alone decides where a run goes on; it is replaced in one atomic step, and the one before is kept as
/// `state.previous.safetensors`, for a disk that gives other bytes back than it was given. The other files are derived from the state:
/// after a crash the metrics are brought to what it remembers of them, and the model is written again. Until there is a state, the
/// model holds the weights that the run begins with.
public struct RunFolder: Sendable {
    public let path: String

    public init(_ path: String) { self.path = path }

    public var config: String { "\(path)/config.json" }
    public var metrics: String { "\(path)/metrics.jsonl" }
    public var model: String { "\(path)/model.safetensors" }
    public var state: String { "\(path)/state.safetensors" }
    /// The state before the newest.
    public var previousState: String { "\(path)/state.previous.safetensors" }
    /// What the run found: test figure, data, split, seconds.
    public var result: String { "\(path)/result.json" }
    /// The rows of the file that train, validate and test, where one file has all.
    public var split: String { "\(path)/split.json" }
    var lock: String { "\(path)/lock" }

    /// Whether there is something to go on from.
    public var hasState: Bool { Files.exists(state) || Files.exists(previousState) }

    public func write<T: Encodable>(config value: T) throws { try write(value, to: config) }

    /// Writes a value as JSON that people read.
    public func write<T: Encodable>(_ value: T, to path: String, isOnOneLine: Bool = false) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if !isOnOneLine { encoder.outputFormatting.insert(.prettyPrinted) }
        encoder.nonConformingFloatEncodingStrategy = .convertToString(
            positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
        try Files.write(try encoder.encode(value) + [10], to: path)
    }

    public func readConfig() throws -> StoredRun {
        guard Files.exists(config) else {
            throw FileError(config, "is not there; expected the folder of one run, as martlet run prints it")
        }
        let bytes = try Files.read(config, limit: 1 << 24)
        do {
            return try JSONDecoder().decode(StoredRun.self, from: Data(bytes))
        } catch {
            // The reader says the same of a number that does not fit as of text that is no JSON.
            let reason = describe(error)
            throw FileError(
                config,
                "is not a run's configuration: "
                    + (reason.contains("JSON")
                        ? "it is no JSON, or a number in it is not whole or out of range" : reason))
        }
    }

    /// Refuses data that are not such as the run was made for.
    public func require(_ found: ExampleShape, _ stored: ExampleShape) throws {
        guard found != stored else { return }
        let differ =
            "\(found)" == "\(stored)" ? "such with other columns, or other means of them" : "\(found)"
        throw FileError(
            config, "was made for examples of \(stored), but the data have \(differ); put back the data of the run")
    }

    /// Whether no epoch was finished yet.
    public func isFresh() throws -> Bool { try !Files.exists(metrics) || Files.read(metrics).isEmpty }

    /// The newest state that is whole, where it lies, and a line about a newer one that is not.
    func readState() throws(FileError) -> (
        arrays: [String: HostArray], metadata: [String: String], path: String, note: String?
    ) {
        do {
            let (arrays, metadata) = try SafeTensors.read(state)
            return (arrays, metadata, state, nil)
        } catch {
            guard Files.exists(previousState) else { throw error }
            let reason = Files.exists(state) ? error.message : "is missing"
            do {
                let (arrays, metadata) = try SafeTensors.read(previousState)
                return (arrays, metadata, previousState, "\(state): \(reason); the run goes on from \(previousState)")
            } catch let second {
                throw FileError(state, "\(reason), and \(second)")
            }
        }
    }

    /// Brings the metrics to what a state remembers of them: `length` bytes, the last of which it holds itself. Lines that are not
    /// there and not in the state are lost, and the run goes on without them.
    ///
    /// - Parameters:
    ///   - end: the last lines.
    ///   - epochs: how many lines there ought to be.
    /// - Returns: how long the metrics are then, and a line about what was not as remembered.
    func restoreMetrics(length: Int, end: String, epochs: Int) throws(FileError) -> (length: Int, note: String?) {
        let found = (try? Files.read(metrics)) ?? []
        let end = Array(end.utf8)
        let kept = length - end.count
        let isWhole = found.count >= length && Array(found[kept..<length]) == end
        if isWhole, length == 0 || found[length - 1] == 10 {
            if found.count > length { try Files.write(found[..<length], to: metrics) }
            return (length, nil)
        }
        // Whole lines alone.
        var front = found.prefix(kept)
        front = front[..<(front.lastIndex(of: 10).map { $0 + 1 } ?? 0)]
        try Files.write(front + end, to: metrics)
        let (before, last) = (front.count { $0 == 10 }, epochs - end.count { $0 == 10 })
        let lost =
            before >= last ? "written again from the state" : "the lines of epochs \(before + 1) to \(last) are lost"
        return (front.count + end.count, "\(metrics): is not as the state remembers it; \(lost), and the run goes on")
    }
}

/// A decoding error in one line.
public func describe(_ error: any Error) -> String {
    switch error as? DecodingError {
    case .keyNotFound(let key, _): "“\(key.stringValue)” is missing"
    case .typeMismatch(let type, let context):
        "“\(context.codingPath.map(\.stringValue).joined(separator: "."))” is not \(type)"
    case .valueNotFound(_, let context):
        "“\(context.codingPath.map(\.stringValue).joined(separator: "."))” has no value"
    case .dataCorrupted(let context):
        (context.codingPath.isEmpty ? "" : "“\(context.codingPath.map(\.stringValue).joined(separator: "."))”: ")
            + context.debugDescription
    default: "\(error)"
    }
}
