import Graph

/// Takes the tensors that are the same for every example and every step (normalised weights, inverted matrices) out of
/// a sampler's graph. An ordinary program computes them once before a draw.
struct SamplerPrelude {
    private(set) var values: [(name: String, tensor: Tensor)] = []
    private var placeholders: [Tensor: Tensor] = [:]
    private var replaced: [Tensor: Tensor] = [:]

    /// The given tensors, computed from placeholders in the place of the tensors that were taken out.
    mutating func hoist(from tensors: [Tensor]) -> [Tensor] {
        for node in topologicalOrder(tensors) {
            let isBatched = node.types.contains { $0.shape.isBatched }
            let inputs = node.inputs.map { input -> Tensor in
                if isBatched, !input.shape.isBatched { takeOut(input) }
                return replaced[input] ?? input
            }
            let new = inputs == node.inputs ? node : Node(node.operation, inputs, at: node.location)
            for index in node.types.indices { replaced[Tensor(node, index)] = Tensor(new, index) }
        }
        return tensors.map { replaced[$0] ?? $0 }
    }

    /// Puts a placeholder in the place of the operation that computes a tensor, if one does. Movement between the
    /// operation and the tensor (the transpose of an inverted matrix, say) costs nothing and stays in the graph.
    private mutating func takeOut(_ tensor: Tensor) {
        var path: [Tensor] = []
        var base = tensor
        while base.node.isView {
            path.append(base)
            base = base.node.inputs[0]
        }
        guard !base.node.isGiven, !base.node.isCounted, base.elementType.isFloatingPoint, base.constantEverywhere == nil
        else { return }
        if placeholders[base] == nil {
            let name = "prelude.\(values.count)"
            placeholders[base] = Tensor.input(name, base.shape, base.elementType)
            values.append((name, base))
        }
        replaced[base] = placeholders[base]
        for moved in path.reversed() {
            let source = moved.node.inputs[0]
            replaced[moved] = Tensor(
                Node(moved.node.operation, [replaced[source] ?? source], at: moved.node.location))
        }
    }
}
