import Graph

/// Rewrites a graph into an equal one with less in it: equal applications are shared, scalar constants are folded, and
/// operations that change nothing disappear.
struct Simplifier {
    private struct Key: Hashable {
        let operation: AnyHashable
        let inputs: [Tensor]
    }

    private var replaced: [Tensor: Tensor] = [:]
    private var known: [Key: Node] = [:]

    /// The tensors that take the place of `outputs`.
    mutating func simplify(_ outputs: [Tensor]) -> [Tensor] {
        let nodes = topologicalOrder(outputs)
        var readers: [Tensor: Int] = [:]
        for tensor in nodes.flatMap(\.inputs) + outputs { readers[tensor, default: 0] += 1 }
        // The tensors that nothing simpler takes the place of.
        var kept = Set<Tensor>()
        for node in nodes {
            let inputs = node.inputs.map { replaced[$0]! }
            if let first = node.inputs.first, readers[first] == 1, kept.contains(first),
                let other = node.operation.simplifiedAsOnlyReader(inputs, at: node.location)
            {
                replaced[Tensor(node)] = share(
                    Tensor(other.node.operation, other.node.inputs.map { shorter($0) }, at: other.location))
                continue
            }
            if let shorter = Self.shorten(node, inputs) {
                replaced[Tensor(node)] = share(shorter)
                continue
            }
            let new = inputs == node.inputs ? node : Node(node.operation, inputs, at: node.location)
            kept.insert(Tensor(node))
            for index in node.types.indices { replaced[Tensor(node, index)] = share(Tensor(new, index)) }
        }
        return outputs.map { replaced[$0]! }
    }

    /// The first tensor that was made by the same operation from the same inputs.
    private mutating func share(_ tensor: Tensor) -> Tensor {
        guard let operation = tensor.node.operation.key else { return tensor }
        let key = Key(operation: operation, inputs: tensor.node.inputs)
        if let first = known[key] { return Tensor(first, tensor.index) }
        known[key] = tensor.node
        return tensor
    }

    /// A tensor that was just made of simplified ones, simplified.
    private mutating func shorter(_ tensor: Tensor) -> Tensor {
        share(Self.shorten(tensor.node, tensor.node.inputs) ?? tensor)
    }

    /// A simpler tensor equal to the node's only output, `nil` if there is none.
    static func shorten(_ node: Node, _ inputs: [Tensor]) -> Tensor? {
        if let function = node.elementwise, let folded = fold(function, node, inputs) { return folded }
        if let simplified = node.operation.simplified(inputs, at: node.location) { return simplified }
        return node.isView && inputs[0].node.isCounted && inputs[0].node.isElementwise ? move(inputs[0], by: node) : nil
    }

    /// The movement of a tensor that is counted (computed from positions and single constants), carried out on the
    /// tensors that it is counted from: computing an element where it is wanted is cheaper than fetching it.
    private static func move(_ tensor: Tensor, by movement: Node) -> Tensor {
        guard tensor.node.isElementwise else {
            return Tensor(movement.operation, [tensor], at: movement.location)
        }
        return Tensor(tensor.node.operation, tensor.node.inputs.map { move($0, by: movement) }, at: movement.location)
    }

    /// The value of a function of constants.
    private static func fold(_ function: ElementwiseFunction, _ node: Node, _ inputs: [Tensor]) -> Tensor? {
        var operands: [Double] = []
        for input in inputs {
            guard let constant = input.constantEverywhere else { return nil }
            operands.append(constant)
        }
        let type = node.types[0]
        let value = function(operands, inputs[0].elementType)
        // Folded in double precision, and rounded to the working type as on a device.
        return Tensor.scalar(type.element == .float32 ? Double(Float(value)) : value, type.element)
            .broadcast(to: type.shape)
    }
}
