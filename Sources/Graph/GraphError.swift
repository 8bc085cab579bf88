/// Where in a program a tensor was made; every message about a tensor ends with it.
public struct SourceLocation: Hashable, Sendable, CustomStringConvertible {
    public let file: String
    public let line: UInt

    public init(_ file: StaticString, _ line: UInt) {
        self.file = "\(file)"
        self.line = line
    }

    public var description: String { "\(file.split(separator: "/").last ?? ""):\(line)" }
}

/// A graph that cannot be built: which operation refused, what it was given and what it wanted.
///
/// Building never throws, so that model code reads like the paper. The first mistake is carried along by every tensor
/// made from it and thrown by whatever wants to use the result: `gradients`, `compile`, `proveAutoregressive`.
public struct GraphError: Error, Hashable, Sendable, CustomStringConvertible {
    public let operation: String
    public let message: String
    public let location: SourceLocation?

    public init(operation: String, message: String, location: SourceLocation? = nil) {
        self.operation = operation
        self.message = message
        self.location = location
    }

    public var description: String {
        "\(operation): \(message)" + (location.map { " (\($0))" } ?? "")
    }
}
