/// A value as it is, whose gradient is another graph than the one that computed it: that of an equation which the value solves, say.
///
/// Operands: the value, then the tensors that its gradient goes to. The gradient was made beforehand, as a function of a placeholder that
/// stands for the gradient of the value.
struct GivenGradient: Operation {
    /// The operands as they were when the gradient was made.
    let operands: [Tensor]
    let outputGradient: Tensor
    /// One for each operand behind the value.
    let results: [Tensor]

    var name: String { "given gradient" }
    var key: AnyHashable? { nil }

    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        for tensor in results { if let error = tensor.error { throw error } }
        let (variables, found) = (operands.dropFirst().map(\.type), results.map(\.type))
        guard inputs == operands.map(\.type), variables == found else {
            throw GraphError(
                operation: name,
                message: "expected a gradient for each of \(variables.map(\.description)), found \(found)")
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

    /// Operands may have been replaced since, as in the body of a loop.
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let gradient = outputGradients[0] else { return inputs.map { _ in nil } }
        let now = Dictionary(
            zip(operands + [outputGradient], inputs + [gradient]).filter { $0 != $1 }, uniquingKeysWith: { $1 })
        return [nil] + replacing(now, in: results)
    }
}

extension Tensor {
    /// This value, through which `gradients` goes as it is told to and not by the graph that computed it.
    ///
    ///     let root = search(x).withGradient(by: [x]) { root, g in [g / slope(root)] }        // of the inverse of a function
    ///
    /// The gradient itself is not differentiated any further where its graph is not.
    /// - Parameters:
    ///   - variables: what the value depends on.
    ///   - rule: from the value and its gradient to the gradient of each variable.
    public func withGradient(
        by variables: [Tensor], file: StaticString = #fileID, line: UInt = #line,
        _ rule: (_ value: Tensor, _ gradient: Tensor) -> [Tensor]
    ) -> Tensor {
        if error != nil { return self }
        let value = stoppingGradient()
        let gradient = loopPlaceholder(type)
        let operation = GivenGradient(
            operands: [value] + variables, outputGradient: gradient, results: rule(value, gradient))
        return Tensor(operation, operation.operands, at: SourceLocation(file, line))
    }
}
