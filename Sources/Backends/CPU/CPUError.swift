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
    case missingState(String)
    case missingFeed(name: String, given: [String])
    case wrongFeed(name: String, expected: String, found: String)
    case unknownFeed(name: String, inputs: [String])
    case wrongBatch(Int, maximum: Int)
    case wrongMaximumBatch(Int)
    case wrongSize(what: String, expected: Int, found: Int)
    case foreignBuffer(String)
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
        case .missingState(let name):
            "the program has a state '\(name)' and no buffer of that name was given; pass one in `states`"
        case .missingFeed(let name, let given):
            "input '\(name)' was not fed (fed: \(given.isEmpty ? "nothing" : given.sorted().joined(separator: ", ")));"
                + " feed an array of that name"
        case .wrongFeed(let name, let expected, let found):
            "input '\(name)' wants \(expected) and was fed \(found); convert or reshape what is fed"
        case .unknownFeed(let name, let inputs):
            "'\(name)' was fed and the program has no input of that name"
                + " (it reads \(inputs.isEmpty ? "nothing" : inputs.sorted().joined(separator: ", "))); leave it out"
        case .wrongMaximumBatch(let maximum):
            "the largest batch must hold at least one example, found \(maximum)"
        case .wrongBatch(let batch, let maximum):
            "a batch of \(batch) was asked for and the program was loaded for 1 to \(maximum);"
                + " load it with a larger maximumBatch or feed fewer examples"
        case .wrongSize(let what, let expected, let found):
            "\(what) holds \(expected) bytes and \(found) were given; the two must be equal"
        case .foreignBuffer(let what):
            "\(what) is a buffer of another device; read it and write it to a buffer of this one"
        case .noSuchValue(let reason):
            reason
        case .failed(let operation, let reason):
            "\(operation): \(reason)"
        }
    }
}
