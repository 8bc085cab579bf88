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
        for node in topologicalOrder(outputs) {
            let inputs = node.inputs.map { replaced[$0]! }
            if let shorter = Self.shorten(node, inputs) {
                replaced[Tensor(node)] = share(shorter)
                continue
            }
            let new = inputs == node.inputs ? node : Node(node.operation, inputs, at: node.location)
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

    /// A simpler tensor equal to the node's only output.
    private static func shorten(_ node: Node, _ inputs: [Tensor]) -> Tensor? {
        switch node.operation {
        case let e as Elementwise: shorten(e, node, inputs)
        case is Broadcast where inputs[0].shape == node.types[0].shape: inputs[0]
        case is Broadcast where isCounted(inputs[0]) && inputs[0].node.operation is Elementwise,
            is Reshape where isCounted(inputs[0]) && inputs[0].node.operation is Elementwise,
            is Transpose where isCounted(inputs[0]) && inputs[0].node.operation is Elementwise,
            is Slice where isCounted(inputs[0]) && inputs[0].node.operation is Elementwise:
            move(inputs[0], by: node)
        case is Reshape where inputs[0].shape == node.types[0].shape: inputs[0]
        case is Reshape where inputs[0].node.operation is Reshape:
            Tensor(node.operation, [inputs[0].node.inputs[0]], at: node.location)
        case let t as Transpose where t.axes == Array(t.axes.indices): inputs[0]
        case let t as Transpose:
            (inputs[0].node.operation as? Transpose).map { inner in
                let axes = t.axes.map { inner.axes[$0] }
                let source = inputs[0].node.inputs[0]
                return axes == Array(axes.indices) ? source : Tensor(Transpose(axes: axes), [source], at: node.location)
            }
        default: nil
        }
    }

    /// Whether a tensor is computed without reading memory.
    static func isCounted(_ tensor: Tensor) -> Bool {
        switch tensor.node.operation {
        case is Position: true
        case let constant as Constant: constant.array.count == 1
        case is Elementwise, is Broadcast, is Reshape: tensor.node.inputs.allSatisfy(isCounted)
        default: false
        }
    }

    /// Movement of a counted tensor, carried out on what it is counted from: computing again is cheaper than fetching.
    private static func move(_ tensor: Tensor, by movement: Node) -> Tensor {
        guard tensor.node.operation is Elementwise else {
            return Tensor(movement.operation, [tensor], at: movement.location)
        }
        return Tensor(tensor.node.operation, tensor.node.inputs.map { move($0, by: movement) }, at: movement.location)
    }

    /// The sum of two tensors padded with zeros that lie side by side, as the gradients of slices do: one behind the other.
    private static func join(_ inputs: [Tensor]) -> Tensor? {
        let pads = inputs.compactMap { $0.node.operation as? Pad }
        guard pads.count == 2, inputs[0].node !== inputs[1].node,
            pads.allSatisfy({ $0.fill == 0 && $0.interior.allSatisfy { $0 == 0 } })
        else { return nil }
        let (low, high) = (pads.map(\.low), pads.map(\.high))
        let differing = low[0].indices.filter { low[0][$0] != low[1][$0] || high[0][$0] != high[1][$0] }
        guard differing.count == 1, let axis = differing.first else { return nil }
        let parts = inputs.map { $0.node.inputs[0] }
        let first = low[0][axis] < low[1][axis] ? 0 : 1
        let second = 1 - first
        guard low[first][axis] + parts[first].shape[axis].coefficient == low[second][axis] else { return nil }
        let joined = Tensor.concatenate([parts[first], parts[second]], axis: axis)
        return (low[first] + high[second]).allSatisfy { $0 == 0 }
            ? joined : joined.padded(low: low[first], high: high[second])
    }

    private static func shorten(_ e: Elementwise, _ node: Node, _ inputs: [Tensor]) -> Tensor? {
        let type = node.types[0]
        if e.function == .add, let joined = join(inputs) { return joined }
        let constants = inputs.map(scalar)
        if constants.allSatisfy({ $0 != nil }) {
            let operands = constants.enumerated().map { Values(shape: [], elements: [$1!]) }
            var result = [Values(shape: [])]
            e.evaluate(
                operands, outputs: &result, elements: nil,
                context: EvaluationContext(batch: 1, inputTypes: inputs.map(\.elementType)))
            // Folding in double precision must not say more than the working type can.
            let value = type.element == .float32 ? Double(Float(result[0].elements[0])) : result[0].elements[0]
            return Tensor.scalar(value, type.element).broadcast(to: type.shape)
        }
        switch (e.function, constants.first ?? nil, constants.count > 1 ? constants[1] : nil) {
        case (.add, 0, _): return inputs[1]
        case (.add, _, 0), (.subtract, _, 0): return inputs[0]
        case (.multiply, 1, _): return inputs[1]
        case (.multiply, _, 1), (.divide, _, 1): return inputs[0]
        case (.power, _, 1): return inputs[0]
        case (.subtract, 0, _): return Tensor(Elementwise(.negate), [inputs[1]], at: node.location)
        case (.multiply, -1, _): return Tensor(Elementwise(.negate), [inputs[1]], at: node.location)
        case (.multiply, _, -1): return Tensor(Elementwise(.negate), [inputs[0]], at: node.location)
        case (.select, .some(let condition), _): return inputs[condition != 0 ? 1 : 2]
        case (.stopGradient, _, _): return inputs[0]
        case (.negate, _, _):
            if let inner = inputs[0].node.operation as? Elementwise, inner.function == .negate {
                return inputs[0].node.inputs[0]
            }
            return nil
        default: return nil
        }
    }

    /// The value of a tensor whose elements are all one constant.
    static func scalar(_ tensor: Tensor) -> Double? {
        switch tensor.node.operation {
        case let constant as Constant where constant.array.count == 1: constant.array.doubles[0]
        case is Broadcast, is Reshape: scalar(tensor.node.inputs[0])
        default: nil
        }
    }
}
