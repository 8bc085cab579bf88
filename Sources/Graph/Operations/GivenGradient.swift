/// A value as it is, whose gradient is another graph than the one that computed it: that of an equation which the value solves, say.
///
/// Operands: the value, then the tensors that its gradient goes to. The gradient was made beforehand, as a function of placeholders that
/// stand for the value and for its gradient.
struct GivenGradient: Operation {
    /// The tensors that the gradient goes to, as they were when it was made.
    let variables: [Tensor]
    let output: Tensor
    let outputGradient: Tensor
    /// One for each variable.
    let results: [Tensor]

    var name: String { "given gradient" }
    var key: AnyHashable? { nil }

    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        for tensor in results { if let error = tensor.error { throw error } }
        let (expected, found) = (variables.map(\.type), results.map(\.type))
        guard inputs == [output.type] + expected, expected == found else {
            throw GraphError(
                operation: name, message: "expected a gradient for each of \(expected), found \(found)")
        }
        return [inputs[0]]
    }

    /// It is the value, for all but `gradients`.
    func simplified(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? { inputs[0] }

    func relations(_ context: RelationContext) -> [Relation] { [.same] + context.inputs.dropFirst().map { _ in .none } }

    func knownValues(_ context: RelationContext) -> KnownValues? { context.knownValues[0] }

    func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        outputs[0] = inputs[0]
    }

    /// Variables may have been replaced since, as in the body of a loop.
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let gradient = outputGradients[0] else { return inputs.map { _ in nil } }
        let now = zip(variables + [output, outputGradient], inputs.dropFirst() + [outputs[0], gradient])
        return [nil] + replacing(Dictionary(now.filter { $0 != $1 }, uniquingKeysWith: { $1 }), in: results)
    }
}

extension Tensor {
    /// This value, through which `gradients` goes as it is told to and not by the graph that computed it.
    ///
    ///     let root = search(x).withGradient(by: [x]) { root, g in [g / slope(root)] }        // of the inverse of a function
    ///
    /// The gradient itself is differentiated as its graph is.
    /// - Parameters:
    ///   - variables: what the value depends on.
    ///   - rule: from the value and its gradient to the gradient of each variable.
    public func withGradient(
        by variables: [Tensor], file: StaticString = #fileID, line: UInt = #line,
        _ rule: (_ value: Tensor, _ gradient: Tensor) -> [Tensor]
    ) -> Tensor {
        if error != nil { return self }
        let (value, gradient) = (loopPlaceholder(type), loopPlaceholder(type))
        let operation = GivenGradient(
            variables: variables, output: value, outputGradient: gradient, results: rule(value, gradient))
        return Tensor(operation, [stoppingGradient()] + variables, at: SourceLocation(file, line))
    }
}
