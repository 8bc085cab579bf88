import Graph

/// Writes running sums of few steps out, one addition for each, so that what is added and what is made of the sums stays in registers:
/// `f(cumulativeSum(x * w))` over blocks of variables, as NADE has it, is then one elementwise kernel that goes once through memory, in
/// place of one for each of product, sum and function.
///
/// Tensors along whose first axis a short sum runs are split into their slices, and so is everything elementwise that is made of them.
/// Where something else reads such a tensor, its slices are put together, each written straight to its place.
struct ShortSums {
    /// More slices than these would not fit one kernel.
    static let mostSteps = 9

    /// The slices of tensors that are split, each with an axis of extent one in front.
    private var parts: [Tensor: [Tensor]] = [:]
    private var wholes: [Tensor: Tensor] = [:]
    private var sliced: [Tensor: [Int: Tensor]] = [:]

    /// The tensors that take the place of `outputs`.
    mutating func written(_ outputs: [Tensor]) -> [Tensor] {
        let nodes = topologicalOrder(outputs)
        guard nodes.contains(where: Self.isShort) else { return outputs }
        for node in nodes where !node.inputs.isEmpty {
            let tensor = Tensor(node)
            if let sum = node.operation as? CumulativeSum, Self.isShort(node) {
                parts[tensor] = runningParts(sum, node)
            } else if node.isElementwise, let count = node.inputs.compactMap({ parts[$0]?.count }).first {
                parts[tensor] = (0..<count).map { slice(node, $0) }
            } else if let some = slices(node) {
                parts[tensor] = some
            } else {
                let inputs = node.inputs.map { whole($0) }
                guard inputs != node.inputs else { continue }
                let new = Node(node.operation, inputs, at: node.location)
                for index in node.types.indices { wholes[Tensor(node, index)] = Tensor(new, index) }
            }
        }
        var simplifier = Simplifier()
        return simplifier.simplify(outputs.map { whole($0) })
    }

    /// A running sum of floats along a first axis of few elements, each of which is many numbers.
    private static func isShort(_ node: Node) -> Bool {
        guard let sum = node.operation as? CumulativeSum, sum.axis == 0, node.error == nil else { return false }
        let shape = node.types[0].shape
        return shape.rank >= 2 && shape[0].isStatic && (1...mostSteps).contains(shape[0].coefficient)
    }

    private mutating func runningParts(_ sum: CumulativeSum, _ node: Node) -> [Tensor] {
        let count = node.types[0].shape[0].coefficient
        var results: [Tensor] = []
        var running: Tensor?
        for step in 0..<count {
            let term = part(node.inputs[0], sum.isReversed ? count - 1 - step : step)
            let next = running.map { Self.sum($0, term, node) } ?? term
            let before = running ?? Tensor.scalar(0, term.elementType).broadcast(to: term.shape)
            results.append(sum.isExclusive ? before : next)
            running = next
        }
        return sum.isReversed ? results.reversed() : results
    }

    /// The slices of a slice along the first axis of what is split.
    private func slices(_ node: Node) -> [Tensor]? {
        guard let slice = node.operation as? Slice, let all = parts[node.inputs[0]], slice.steps[0] == 1,
            slice.counts.dropFirst() == node.inputs[0].shape.dimensions.dropFirst(),
            slice.steps.allSatisfy({ $0 == 1 })
        else { return nil }
        return Array(all[slice.starts[0]..<slice.starts[0] + slice.counts[0].coefficient])
    }

    /// One slice of a tensor along its first axis. Of a cheap function, and of what is put together along that axis, it is made of
    /// slices of theirs.
    private mutating func part(_ tensor: Tensor, _ step: Int) -> Tensor {
        if let parts = parts[tensor] { return parts[step] }
        if let known = sliced[tensor]?[step] { return known }
        let slice: Tensor
        if Self.isCheap(tensor.node) {
            slice = self.slice(tensor.node, step)
        } else if (tensor.node.operation as? Concatenate)?.axis == 0 {
            var (operand, local) = (0, step)
            while local >= tensor.node.inputs[operand].shape[0].coefficient {
                local -= tensor.node.inputs[operand].shape[0].coefficient
                operand += 1
            }
            slice = part(tensor.node.inputs[operand], local)
        } else {
            slice = whole(tensor).sliced(axis: 0, from: step, count: 1)
        }
        sliced[tensor, default: [:]][step] = slice
        return slice
    }

    /// An elementwise function of slices.
    private mutating func slice(_ node: Node, _ step: Int) -> Tensor {
        let inputs = node.inputs.map { part($0, step) }
        return node.elementwise == .add
            ? Self.sum(inputs[0], inputs[1], node) : Tensor(node.operation, inputs, at: node.location)
    }

    private static func sum(_ a: Tensor, _ b: Tensor, _ node: Node) -> Tensor {
        if a.constantEverywhere == 0 { return b }
        return b.constantEverywhere == 0 ? a : .elementwise(.add, [a, b], at: node.location)
    }

    /// Whether computing an element where it is read costs no more than fetching it.
    private static func isCheap(_ node: Node) -> Bool {
        guard let function = node.elementwise, case .little = function.cost else { return false }
        return true
    }

    private mutating func whole(_ tensor: Tensor) -> Tensor {
        if let whole = wholes[tensor] { return whole }
        guard let parts = parts[tensor] else { return tensor }
        let whole = parts.count == 1 ? parts[0] : Tensor(Concatenate(axis: 0), parts, at: tensor.location)
        wholes[tensor] = whole
        return whole
    }
}
