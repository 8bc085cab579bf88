// What is computed row by row in front of a loop can as well be computed by the loop's steps, each from the rows that it reads. A
// recurrent network multiplies its inputs of all steps at once, which is fast; whoever tells the steps apart (a proof, a sampler)
// would rather see each step read its own input.

/// An operation that makes runs of rows (indices along the first axis) of its result from the same runs of rows of its operands.
protocol RowwiseOperation: Operation {
    /// The operation that makes one run, the rows being divided into `count` equal runs, and whether each operand is divided likewise
    /// or read whole by every run; `nil` where runs are not made from runs.
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])?
}

extension Extent {
    /// One of `count` equal parts; `nil` where there are no such parts.
    func divided(by count: Int) -> Extent? {
        coefficient != 0 && coefficient % count == 0 ? Extent(coefficient / count, power: power) : nil
    }
}

extension Shape {
    /// The shape of one of `count` equal runs of rows.
    func run(of count: Int) -> Shape? {
        dimensions.first?.divided(by: count).map { Shape([$0] + dimensions.dropFirst()) }
    }
}

extension Elementwise: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        (self, inputs.map { _ in true })
    }
}

extension Reduction: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        axes.contains(0) ? nil : (self, [true])
    }
}

extension Reshape: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        shape.run(of: count).map { (Reshape(shape: $0), [true]) }
    }
}

extension Transpose: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        axes.first == 0 ? (self, [true]) : nil
    }
}

extension Broadcast: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        let repeats = inputs[0].shape.rank < shape.rank || inputs[0].shape[0].isOne
        return shape.run(of: count).map { (Broadcast(shape: $0), [!repeats]) }
    }
}

extension Slice: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        guard starts.first == 0, steps.first == 1, counts[0] == inputs[0].shape[0],
            let run = counts[0].divided(by: count)
        else { return nil }
        return (Slice(starts: starts, steps: steps, counts: [run] + counts.dropFirst()), [true])
    }
}

extension Pad: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        low.first == 0 && high.first == 0 && interior.first == 0 ? (self, [true]) : nil
    }
}

extension Concatenate: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        axis == 0 ? nil : (self, inputs.map { _ in true })
    }
}

extension MatrixProduct: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        (self, [true, inputs[0].shape.rank > 2])
    }
}

extension MaskedProduct: RowwiseOperation {
    func rowwise(_ inputs: [TensorType], count: Int) -> (operation: any Operation, isDivided: [Bool])? {
        role == .forward && inputs.count == 2 ? (self, [true, false]) : nil
    }
}

/// The same tensors with those composed operations written out that have no rules of their own, and every scan computing in its steps
/// what stood in front of it and is made row by row.
public func stepwise(_ outputs: [Tensor]) -> [Tensor] {
    rewritten(composed(outputs, all: false)) { node, inputs in
        (node.operation as? Scan)?.stepwise(inputs, at: node.location)
    }
}

extension Scan {
    /// The results, if there is anything to compute in the steps.
    fileprivate func stepwise(_ inputs: [Tensor], at location: SourceLocation?) -> [Tensor]? {
        guard steps > 0 else { return nil }
        let sequences = Array(inputs[carries.count..<carries.count + slices.count])
        var runs = StepRuns(sequences, count: steps)
        guard runs.computesAny else { return nil }
        let body = replacing(
            Dictionary(
                uniqueKeysWithValues: zip(slices, sequences).map { ($0, runs.run(of: $1).reshaped($0.shape)) }),
            in: newCarries + outputs)
        let used = Set(topologicalOrder(body).map(ObjectIdentifier.init))
        func isUsed(_ tensor: Tensor) -> Bool { used.contains(ObjectIdentifier(tensor.node)) }
        let read = runs.sequences.filter { isUsed($0.placeholder) }
        let whole =
            zip(captures, inputs.suffix(captures.count)).map { (placeholder: $0, operand: $1) } + runs.wholes
        let kept = whole.filter { isUsed($0.placeholder) }
        let node = Node(
            Scan(
                steps: steps, carries: carries, slices: read.map(\.placeholder), captures: kept.map(\.placeholder),
                newCarries: Array(body.prefix(carries.count)), outputs: Array(body.dropFirst(carries.count)),
                isReversed: isReversed),
            inputs.prefix(carries.count) + read.map(\.operand) + kept.map(\.operand), at: location)
        return node.types.indices.map { Tensor(node, $0) }
    }
}

/// What one step of a loop computes of the tensors in front of it, in placeholders for the rows that it reads.
private struct StepRuns {
    private let count: Int
    private var runs: [Tensor: Tensor] = [:]
    private var shared: [Tensor: Tensor] = [:]
    /// Placeholders for a run of rows, and what they are runs of, `[count, rows of a run, ..]`.
    private(set) var sequences: [(placeholder: Tensor, operand: Tensor)] = []
    /// Placeholders for what every step reads whole.
    private(set) var wholes: [(placeholder: Tensor, operand: Tensor)] = []
    /// Whether anything but movement is computed by the step.
    private(set) var computesAny = false

    init(_ tensors: [Tensor], count: Int) {
        self.count = count
        for node in topologicalOrder(tensors) {
            guard node.error == nil, node.types[0].shape.run(of: count) != nil,
                let operation = node.operation as? any RowwiseOperation,
                let (own, isDivided) = operation.rowwise(node.inputs.map(\.type), count: count),
                zip(node.inputs, isDivided).allSatisfy({ !$1 || $0.shape.run(of: count) != nil })
            else { continue }
            let inputs = zip(node.inputs, isDivided).map { $1 ? run(of: $0) : whole($0) }
            runs[Tensor(node)] = Tensor(own, inputs, at: node.location)
        }
        var isNeeded = Set(tensors.compactMap { runs[$0] }.map(\.node).map(ObjectIdentifier.init))
        for node in topologicalOrder(tensors.compactMap { runs[$0] }).reversed()
        where isNeeded.contains(ObjectIdentifier(node)) {
            if !node.isView, !node.isPlaceholder { computesAny = true }
            isNeeded.formUnion(node.inputs.map { ObjectIdentifier($0.node) })
        }
    }

    /// What a step computes of a tensor, `[rows of a run, ..]`.
    mutating func run(of tensor: Tensor) -> Tensor {
        if let run = runs[tensor] { return run }
        let shape = tensor.shape.run(of: count) ?? tensor.shape
        let placeholder = loopPlaceholder(TensorType(shape, tensor.elementType))
        sequences.append((placeholder, tensor.reshaped(Shape([Extent(count)] + shape.dimensions))))
        runs[tensor] = placeholder
        return placeholder
    }

    private mutating func whole(_ tensor: Tensor) -> Tensor {
        if tensor.node.isCounted { return tensor }
        if let placeholder = shared[tensor] { return placeholder }
        let placeholder = loopPlaceholder(tensor.type)
        wholes.append((placeholder, tensor))
        shared[tensor] = placeholder
        return placeholder
    }
}
