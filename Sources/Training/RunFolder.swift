import Datasets
import FoundationEssentials
import Graph
import Likelihood

/// The folder of a run: `config.json`, `metrics.jsonl`, `model.safetensors`, `state.safetensors`, `samples-*.png`.
///
/// `state.safetensors` alone decides where a run goes on; it is replaced in one atomic step. The other files are derived
/// from it: after a crash the metrics are cut back to the length that the state names, and the model is written again. Until there is
/// a state, the model holds the weights that the run begins with.
public struct RunFolder: Sendable {
    public let path: String

    public init(_ path: String) { self.path = path }

    public var config: String { "\(path)/config.json" }
    public var metrics: String { "\(path)/metrics.jsonl" }
    public var model: String { "\(path)/model.safetensors" }
    public var state: String { "\(path)/state.safetensors" }

    public func write<T: Encodable>(config value: T) throws {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try Files.write(try encoder.encode(value) + [10], to: config)
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
        throw FileError(
            config, "was made for examples of \(stored), but the data have \(found); put back the data of the run")
    }

    /// Whether no epoch was finished yet.
    public func isFresh() throws -> Bool { try !Files.exists(metrics) || Files.read(metrics).isEmpty }

    /// The first `length` bytes of the metrics, the rest forgotten.
    func cutMetrics(to length: Int) throws {
        let bytes = Files.exists(metrics) ? try Files.read(metrics) : []
        guard bytes.count >= length else {
            throw FileError(
                metrics,
                "has \(bytes.count) bytes, fewer than the \(length) that the state remembers; it was changed by hand")
        }
        guard length == 0 || bytes[length - 1] == 10 else {
            throw FileError(metrics, "is not of the run whose state is beside it; put the run's own files back")
        }
        if bytes.count > length { try Files.write(bytes[..<length], to: metrics) }
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
