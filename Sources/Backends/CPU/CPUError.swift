import Compiler
import Graph

/// Why the CPU backend refused: what was expected, what was found and what to do.
public enum CPUError: Error, Equatable, Sendable, CustomStringConvertible {
    /// No memory for a buffer or a plan.
    case outOfMemory(byteCount: Int, purpose: String)
    /// The threads of the pool could not be started.
    case noThreads(requested: Int)
    /// A group uses an operation, or a function on a type, that this backend does not have.
    case unsupported(group: String, location: SourceLocation?, reason: String)
    /// A schedule that contradicts itself: a bug of whoever made it.
    case invalidSchedule(String)
    case wrongSize(what: String, expected: Int, found: Int)
    case noSuchValue(String)
    case failed(operation: String, reason: String)

    public var description: String {
        switch self {
        case .outOfMemory(let bytes, let purpose):
            "out of memory: \(bytes) bytes for \(purpose) could not be had; use a smaller batch or model"
        case .noThreads(let requested):
            "a pool of \(requested) threads could not be started; ask for fewer threads"
        case .unsupported(let group, let location, let reason):
            "the CPU backend cannot run '\(group)': \(reason)" + (location.map { " (\($0))" } ?? "")
        case .invalidSchedule(let reason):
            "the schedule is not valid: \(reason)"
        case .wrongSize(let what, let expected, let found):
            "\(what) holds \(expected) bytes and \(found) were given; the two must be equal"
        case .noSuchValue(let reason):
            reason
        case .failed(let operation, let reason):
            "\(operation): \(reason)"
        }
    }
}
