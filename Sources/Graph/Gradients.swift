/// The gradients of a scalar with respect to some tensors, by reverse mode from graph to graph: the result is made of
/// ordinary tensors, so it can be differentiated again.
///
/// - Returns: one tensor for each of `variables`, of its shape; zeros where the scalar does not depend on it.
/// - Throws: `GraphError` if the graph is invalid or `output` is not a floating-point scalar.
public func gradients(of output: Tensor, with variables: [Tensor]) throws(GraphError) -> [Tensor] {
    _ = try output.validated()
    guard output.shape.rank == 0, output.elementType.isFloatingPoint else {
        throw GraphError(
            operation: "gradients",
            message: "expected a floating-point scalar, found \(output.type); sum or average it first",
            location: output.location)
    }
    let order = topologicalOrder([output])
    // Only nodes between a variable and the output carry gradients.
    var carries = Set(variables.map { ObjectIdentifier($0.node) })
    for node in order where node.inputs.contains(where: { carries.contains(ObjectIdentifier($0.node)) }) {
        carries.insert(ObjectIdentifier(node))
    }
    // What a tensor's readers give it, in the order in which they are met; summed up when all have been.
    var adjoints: [Tensor: [Tensor]] = [output: [.scalar(1, output.elementType)]]
    func adjoint(_ tensor: Tensor) -> Tensor? { adjoints[tensor].map(Pad.sum) }
    for node in order.reversed() where carries.contains(ObjectIdentifier(node)) {
        let outputs = node.types.indices.map { Tensor(node, $0) }
        let given = outputs.map(adjoint)
        guard !node.inputs.isEmpty, given.contains(where: { $0 != nil }) else { continue }
        let results = node.operation.gradients(inputs: node.inputs, outputs: outputs, outputGradients: given)
        for (input, result) in zip(node.inputs, results) {
            guard let result, carries.contains(ObjectIdentifier(input.node)) else { continue }
            _ = try result.validated()
            guard result.shape == input.shape else {
                throw GraphError(
                    operation: node.operation.name,
                    message: "its gradient rule gave \(result.shape) for an operand of \(input.shape)",
                    location: node.location)
            }
            adjoints[input, default: []].append(result)
        }
    }
    return variables.map { variable in
        adjoint(variable) ?? Tensor.scalar(0, variable.elementType).broadcast(to: variable.shape)
    }
}
