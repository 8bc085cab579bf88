/// Where in a program a tensor was made; every message about a tensor ends with it.
public struct SourceLocation: Hashable, Sendable, CustomStringConvertible {
    public let file: String
    public let line: UInt
    /// Whether it is in what models are written with, and so not where an author wrote one.
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
    /// A tensor that carries a mistake, so that it is reported like any other of a graph; that of x if it has one itself.
    package static func misuse(_ operation: String, _ message: String, of x: Tensor) -> Tensor {
        Tensor(Node(Misuse(name: operation, message: message), [x], at: x.location))
    }

    /// This tensor, or a mistake where its examples are not of a shape. Broadcasting would hide it: what widens x, or repeats its
    /// numbers, is another map or another density than the one that is known for examples of that shape.
    package func examples(of example: [Int], for operation: String) -> Tensor {
        if shape.rank > 0, shape == Shape([shape[0]] + example.map { Extent($0) }) { return self }
        let described = (["batch"] + example.map(\.description)).joined(separator: ", ")
        return .misuse(operation, "expected [\(described)], found \(shape)", of: self)
    }
}

/// Stands where a layer or a bijector does not fit what it is applied to.
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
