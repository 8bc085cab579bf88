import Synchronization

private let placeholderCount = Atomic<Int>(0)

/// Stands for an operand inside the body of a loop, under a name that no other body uses.
func loopPlaceholder(_ type: TensorType) -> Tensor {
    .input("loop.\(placeholderCount.add(1, ordering: .relaxed).newValue)", type.shape, type.element)
}

/// Takes what is the same at every step out of a loop's body: each such tensor becomes an operand of the loop, and a
/// placeholder stands for it inside. Scalars and what is counted from them stay, since they cost nothing; of what is repeated to a shape
/// (a bias, for every example) the numbers themselves are taken, which are fewer to read and to sum gradients of. Equal applications
/// become one first, so that a weight that several places of the body read is one operand.
func hoistInvariants(_ results: [Tensor], varying: [Tensor]) -> (
    results: [Tensor], placeholders: [Tensor], operands: [Tensor]
) {
    let results = shared(results)
    var varies = Set(varying.map(\.node).map(ObjectIdentifier.init))
    var isCounted = Set<ObjectIdentifier>()
    var operands: [Tensor] = []
    var known = Set<Tensor>()
    func hoist(_ tensor: Tensor) {
        let id = ObjectIdentifier(tensor.node)
        if varies.contains(id) || isCounted.contains(id) { return }
        if tensor.node.operation is Broadcast { return hoist(tensor.node.inputs[0]) }
        if known.insert(tensor).inserted { operands.append(tensor) }
    }
    for node in topologicalOrder(results) {
        let inputs = node.inputs.map { ObjectIdentifier($0.node) }
        if inputs.contains(where: varies.contains) {
            varies.insert(ObjectIdentifier(node))
            node.inputs.forEach(hoist)
        } else {
            let isFree =
                switch node.compilerRole {
                case .source(.position): true
                case .source(.constant(let array)): array.count == 1
                case .elementwise, .view: inputs.allSatisfy(isCounted.contains)
                default: false
                }
            if isFree { isCounted.insert(ObjectIdentifier(node)) }
        }
    }
    results.forEach(hoist)
    let placeholders = operands.map { loopPlaceholder($0.type) }
    return (
        replacing(Dictionary(uniqueKeysWithValues: zip(operands, placeholders)), in: results), placeholders, operands
    )
}

/// The tensors that `outputs` become when some of the tensors they are computed from are replaced by others of the same types.
public func replacing(_ replacements: [Tensor: Tensor], in outputs: [Tensor]) -> [Tensor] {
    var replaced = replacements
    for node in topologicalOrder(outputs) {
        let inputs = node.inputs.map { replaced[$0] ?? $0 }
        guard inputs != node.inputs else { continue }
        let new = Node(node.operation, inputs, at: node.location)
        for index in node.types.indices where replaced[Tensor(node, index)] == nil {
            replaced[Tensor(node, index)] = Tensor(new, index)
        }
    }
    return outputs.map { replaced[$0] ?? $0 }
}

/// The same tensors with equal applications made one.
private func shared(_ outputs: [Tensor]) -> [Tensor] {
    struct Application: Hashable {
        let operation: AnyHashable
        let inputs: [Tensor]
    }
    var known: [Application: Node] = [:]
    return rewritten(outputs) { node, inputs in
        guard let operation = node.operation.key else { return nil }
        let application = Application(operation: operation, inputs: inputs)
        if let first = known[application] {
            return first === node ? nil : node.types.indices.map { Tensor(first, $0) }
        }
        let only = inputs == node.inputs ? node : Node(node.operation, inputs, at: node.location)
        known[application] = only
        return only === node ? nil : node.types.indices.map { Tensor(only, $0) }
    }
}

/// The same tensors with every scan written out step by step: for the path of a leak, which goes through steps, and for draws that a
/// loop's own works cannot make.
public func unrolled(_ outputs: [Tensor]) -> [Tensor] {
    rewritten(outputs) { node, inputs in (node.operation as? Scan)?.unrolled(inputs, at: node.location) }
}

/// The same tensors with other results in the place of some nodes'.
///
/// - Parameter results: the new results of a node, from its operands as they are by then; `nil` to keep the operation.
func rewritten(_ outputs: [Tensor], _ results: (_ node: Node, _ inputs: [Tensor]) -> [Tensor]?) -> [Tensor] {
    var replaced: [Tensor: Tensor] = [:]
    for node in topologicalOrder(outputs) {
        let inputs = node.inputs.map { replaced[$0] ?? $0 }
        if node.error == nil, let results = results(node, inputs) {
            for (index, result) in results.enumerated() { replaced[Tensor(node, index)] = result }
        } else if inputs != node.inputs {
            let new = Node(node.operation, inputs, at: node.location)
            for index in node.types.indices { replaced[Tensor(node, index)] = Tensor(new, index) }
        }
    }
    return outputs.map { replaced[$0] ?? $0 }
}

/// The same tensors with every running sum written out, one addition for each element, inside of loops too.
public func unrolledSums(_ outputs: [Tensor]) -> [Tensor] {
    rewritten(outputs) { node, inputs in
        switch node.operation {
        case let sum as CumulativeSum: return [sum.unrolled(inputs[0], at: node.location)]
        case is Scan: return withBody(node, inputs, unrolledSums)
        default: return nil
        }
    }
}

/// The same tensors with other bodies of scans.
/// - Parameter change: from what a body computes to the same in other words.
public func rewritingBodies(_ outputs: [Tensor], _ change: ([Tensor]) -> [Tensor]) -> [Tensor] {
    rewritten(outputs) { node, inputs in withBody(node, inputs, change) }
}

/// The results of a scan with another body; `nil` for what is no scan, and where nothing changes.
func withBody(_ node: Node, _ inputs: [Tensor], _ change: ([Tensor]) -> [Tensor]) -> [Tensor]? {
    guard let scan = node.operation as? Scan else { return nil }
    let body = scan.newCarries + scan.outputs
    let changed = change(body)
    guard changed != body else { return nil }
    let new = Node(scan.with(body: changed), inputs, at: node.location)
    return new.types.indices.map { Tensor(new, $0) }
}

extension CumulativeSum {
    /// Every sum from the one before it.
    fileprivate func unrolled(_ input: Tensor, at location: SourceLocation?) -> Tensor {
        let count = input.shape[axis].coefficient
        var sums: [Tensor] = []
        var sum: Tensor?
        for step in 0..<count {
            let term = input.sliced(axis: axis, from: isReversed ? count - 1 - step : step, count: 1)
            let next = sum.map { .elementwise(.add, [$0, term], at: location) } ?? term
            sums.append(isExclusive ? sum ?? Tensor.scalar(0, term.elementType).broadcast(to: term.shape) : next)
            sum = next
        }
        if sums.count < 2 { return sums.first ?? input }
        return Tensor(Concatenate(axis: axis), isReversed ? sums.reversed() : sums, at: location)
    }
}

extension Scan {
    /// The results, one step after another.
    fileprivate func unrolled(_ inputs: [Tensor], at location: SourceLocation?) -> [Tensor] {
        let body = Graph.unrolled(newCarries + outputs)
        var state = Array(inputs.prefix(carries.count))
        let sequences = inputs[carries.count..<carries.count + slices.count]
        let captured = Dictionary(
            uniqueKeysWithValues: zip(captures, inputs.suffix(captures.count)))
        var stacked = [[Tensor]](repeating: [], count: outputs.count + carries.count)
        for step in 0..<steps {
            let t = isReversed ? steps - 1 - step : step
            for (index, carry) in state.enumerated() { stacked[outputs.count + index].append(carry) }
            let read = zip(slices, sequences).map { slice, sequence in
                sequence.sliced(axis: 0, from: t, count: 1).reshaped(slice.shape)
            }
            let replacements = captured.merging(
                zip(carries + slices, state + read), uniquingKeysWith: { _, new in new })
            let results = replacing(replacements, in: body)
            state = Array(results.prefix(carries.count))
            for (index, output) in results.dropFirst(carries.count).enumerated() { stacked[index].append(output) }
        }
        let wholes = zip(stacked, outputs + carries).map { steps, type -> Tensor in
            let parts = steps.map { $0.reshaped(Shape([1] + type.shape.dimensions)) }
            if parts.isEmpty {
                return Tensor.scalar(0, type.elementType).broadcast(to: Shape([0] + type.shape.dimensions))
            }
            return parts.count == 1
                ? parts[0] : Tensor(Concatenate(axis: 0), isReversed ? parts.reversed() : parts, at: location)
        }
        return state + wholes
    }
}
