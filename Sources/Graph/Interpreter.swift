/// Runs any graph in double precision, one operation after another and one element after another: the oracle against
/// which both backends are tested. It is as slow as it looks.
public struct Interpreter {
    public let batch: Int
    private var bindings: [String: Values]

    /// - Parameters:
    ///   - batch: how many examples the batch axis holds.
    ///   - bindings: the elements of every placeholder, by name.
    public init(batch: Int = 1, _ bindings: [String: Values] = [:]) {
        self.batch = batch
        self.bindings = bindings
    }

    /// The values of some tensors.
    /// - Throws: `GraphError` if a tensor is invalid, or a placeholder is missing or has another shape.
    public func run(_ outputs: [Tensor]) throws(GraphError) -> [Values] {
        var computed: [Tensor: Values] = [:]
        for output in outputs { _ = try output.validated() }
        for node in topologicalOrder(outputs) {
            for (index, value) in try evaluate(node, computed).enumerated() { computed[Tensor(node, index)] = value }
        }
        return outputs.map { computed[$0]! }
    }

    public func run(_ output: Tensor) throws(GraphError) -> Values { try run([output])[0] }

    private func evaluate(_ node: Node, _ computed: [Tensor: Values]) throws(GraphError) -> [Values] {
        let shapes = node.types.map { $0.shape.resolved(batch: batch) }
        if let placeholder = Tensor(node).placeholder {
            guard let value = bindings[placeholder.label] else {
                throw GraphError(
                    operation: placeholder.label, message: "no value was given for this placeholder",
                    location: node.location)
            }
            guard value.shape == shapes[0] else {
                throw GraphError(
                    operation: placeholder.label, message: "expected an array of \(shapes[0]), found \(value.shape)",
                    location: node.location)
            }
            return [value]
        }
        var results = shapes.map { Values(shape: $0) }
        node.operation.evaluate(
            node.inputs.map { computed[$0]! }, outputs: &results, elements: nil,
            context: EvaluationContext(batch: batch, inputTypes: node.inputs.map(\.elementType)))
        return results
    }
}
