/// Where in a program a tensor was made; every message about a tensor ends with it.
public struct SourceLocation: Hashable, Sendable, CustomStringConvertible {
    public let file: String
    public let line: UInt
    /// Whether the line is one of the modules `Graph` and `Layers`, not of a model's author.
    let isInside: Bool

    public init(_ file: StaticString, _ line: UInt) {
        self.file = "\(file)"
        self.line = line
        isInside = self.file.hasPrefix("Graph/") || self.file.hasPrefix("Layers/")
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

/// A literal as it was written, as far as a double tells.
func literalText(_ value: Double) -> String { Int(exactly: value).map { "\($0)" } ?? "\(value)" }

extension Tensor {
    /// A tensor that carries a mistake, which is then reported like any other of a graph. If x carries one, it is that
    /// of x.
    package static func misuse(_ operation: String, _ message: String, of x: Tensor) -> Tensor {
        Tensor(Node(Misuse(name: operation, message: message), [x], at: x.location))
    }

    /// This tensor if its examples have the shape `example`, else a tensor that carries the mistake. Broadcasting would
    /// hide the mistake: it would repeat numbers of x, and give another map or another density than the one meant.
    package func examples(of example: [Int], for operation: String) -> Tensor {
        if shape.rank > 0, shape == Shape([shape[0]] + example.map { Extent($0) }) { return self }
        let described = (["batch"] + example.map(\.description)).joined(separator: ", ")
        return .misuse(operation, "expected [\(described)], found \(shape)", of: self)
    }
}

/// Takes the place of a layer or a bijector that does not fit the tensor that it is applied to.
private struct Misuse: Operation {
    let name: String
    let message: String
    var key: AnyHashable? { nil }
    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        throw GraphError(operation: name, message: message)
    }
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        inputs.map { _ in nil }
    }
    func relations(_ context: RelationContext) -> [Relation] { context.inputs.map { _ in .none } }
    func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {}
}

/// Stops the program where a value is made of arguments that no such value belongs to. Unlike that of `precondition`, the message is
/// printed by a release build too.
package func trap(
    unless isPossible: Bool, _ message: @autoclosure () -> String, file: StaticString = #fileID, line: UInt = #line
) {
    if !isPossible { fatalError(message(), file: file, line: line) }
}
