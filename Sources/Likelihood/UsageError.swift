/// A wrong choice of the caller's: what was expected, what was found, what to do.
public struct UsageError: Error, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Throws a `UsageError` with `message` unless the condition holds.
public func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw UsageError(message()) }
}
