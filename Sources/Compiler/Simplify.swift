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
        for node in nodes {
            let inputs = node.inputs.map { replaced[$0]! }
            if let swapped = swapProduct(node, inputs, readers: readers) {
                replaced[Tensor(node)] = swapped
                continue
            }
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

    /// The transpose of a product that nothing else reads is the product of the transposes: it is written in the order in
    /// which it is read.
    private mutating func swapProduct(_ node: Node, _ inputs: [Tensor], readers: [Tensor: Int]) -> Tensor? {
        guard let transpose = node.operation as? Transpose, node.inputs[0].node.operation is MatrixProduct,
            let product = inputs[0].node.operation as? MatrixProduct, readers[node.inputs[0]] == 1,
            transpose.axes.dropLast(2).elementsEqual(0..<transpose.axes.count - 2),
            transpose.axes.last == transpose.axes.count - 2
        else { return nil }
        let factors = inputs[0].node.inputs.reversed().map { factor in
            let turned = Node(transpose, [factor], at: node.location)
            return share(Self.shorten(turned, [factor]) ?? Tensor(turned))
        }
        return share(Tensor(product, factors, at: inputs[0].location))
    }

    /// A simpler tensor equal to the node's only output, `nil` if there is none.
    static func shorten(_ node: Node, _ inputs: [Tensor]) -> Tensor? {
        switch node.operation {
        case let e as Elementwise: shorten(e, node, inputs)
        case is Broadcast where inputs[0].shape == node.types[0].shape: inputs[0]
        case is Broadcast where inputs[0].node.isCounted && inputs[0].node.operation is Elementwise,
            is Reshape where inputs[0].node.isCounted && inputs[0].node.operation is Elementwise,
            is Transpose where inputs[0].node.isCounted && inputs[0].node.operation is Elementwise,
            is Slice where inputs[0].node.isCounted && inputs[0].node.operation is Elementwise:
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

    /// The movement of a tensor that is counted (computed from positions and single constants), carried out on the
    /// tensors that it is counted from: computing an element where it is wanted is cheaper than fetching it.
    private static func move(_ tensor: Tensor, by movement: Node) -> Tensor {
        guard tensor.node.operation is Elementwise else {
            return Tensor(movement.operation, [tensor], at: movement.location)
        }
        return Tensor(tensor.node.operation, tensor.node.inputs.map { move($0, by: movement) }, at: movement.location)
    }

    private static func shorten(_ e: Elementwise, _ node: Node, _ inputs: [Tensor]) -> Tensor? {
        let type = node.types[0]
        let constants = inputs.map(scalar)
        if constants.allSatisfy({ $0 != nil }) {
            let operands = constants.enumerated().map { Values(shape: [], elements: [$1!]) }
            var result = [Values(shape: [])]
            e.evaluate(
                operands, outputs: &result, elements: nil,
                context: EvaluationContext(batch: 1, inputTypes: inputs.map(\.elementType)))
            // Folded in double precision, and rounded to the working type as on a device.
            let value = type.element == .float32 ? Double(Float(result[0].elements[0])) : result[0].elements[0]
            return Tensor.scalar(value, type.element).broadcast(to: type.shape)
        }
        if e.function == .add, let joined = joinPadded(inputs[0], inputs[1]) ?? joinPadded(inputs[1], inputs[0]) {
            return joined
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

    /// The sum of two tensors that were padded with zeros, where their contents are neighbours along one axis: the
    /// concatenation of the contents. Such sums are the gradients of slices.
    private static func joinPadded(_ first: Tensor, _ second: Tensor) -> Tensor? {
        guard let a = first.node.operation as? Pad, let b = second.node.operation as? Pad, a.fill == 0, b.fill == 0,
            first.node !== second.node,
            (a.interior + b.interior).allSatisfy({ $0 == 0 })
        else { return nil }
        let differing = a.low.indices.filter { a.low[$0] != b.low[$0] || a.high[$0] != b.high[$0] }
        let (left, right) = (first.node.inputs[0], second.node.inputs[0])
        guard differing.count == 1, let axis = differing.first, left.shape[axis].isStatic,
            b.low[axis] == a.low[axis] + left.shape[axis].coefficient,
            left.shape.removing(axes: [axis]) == right.shape.removing(axes: [axis])
        else { return nil }
        // More than two pieces are joined one after another; all stay in one concatenation.
        let parts = [left, right].flatMap { part in
            (part.node.operation as? Concatenate)?.axis == axis ? part.node.inputs : [part]
        }
        let joined = Tensor(Concatenate(axis: axis), parts, at: first.location)
        var high = a.high
        high[axis] = b.high[axis]
        if (a.low + high).allSatisfy({ $0 == 0 }) { return joined }
        return Tensor(Pad(low: a.low, high: high, interior: a.interior, fill: 0), [joined], at: first.location)
    }

    /// The value of a tensor whose elements are all one constant.
    static func scalar(_ tensor: Tensor) -> Double? {
        switch tensor.node.operation {
        case let constant as Constant where constant.array.count == 1: constant.array.doubles[0]
        case is Broadcast, is Reshape, is Slice: scalar(tensor.node.inputs[0])
        default: nil
        }
    }
}
