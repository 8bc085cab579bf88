/// A loop of a fixed number of steps with carried state: the body is a graph of its own, run once for each slice along the
/// first axis of its sequences.
///
/// Operands: the starting carries, the sequences `[steps, ..]`, the captured tensors. Results: the final carries, the stacked
/// outputs `[steps, ..]`, and the carries before each step, `[steps, ..]`, which the gradient reads.
public struct Scan: Operation {
    public let steps: Int
    /// Placeholders that stand for the operands inside the body.
    public let carries: [Tensor]
    public let slices: [Tensor]
    public let captures: [Tensor]
    /// What the body computes.
    public let newCarries: [Tensor]
    /// In front the outputs that were asked for, behind them products that a gradient may want.
    public let outputs: [Tensor]
    /// From the last step to the first.
    public let isReversed: Bool

    public var name: String { "scan" }
    public var key: AnyHashable? { nil }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        for tensor in newCarries + outputs { if let error = tensor.error { throw error } }
        let expected = carries.map(\.type) + slices.map { stacked($0.type) } + captures.map(\.type)
        guard inputs == expected, newCarries.map(\.type) == carries.map(\.type) else {
            throw GraphError(
                operation: name,
                message:
                    "the body takes \(expected.map(\.description)) and carries on \(newCarries.map(\.type.description)), found \(inputs.map(\.description))"
            )
        }
        return carries.map(\.type) + outputs.map { stacked($0.type) } + carries.map { stacked($0.type) }
    }

    private func stacked(_ type: TensorType) -> TensorType {
        TensorType(Shape([Extent(steps)] + type.shape.dimensions), type.element)
    }

    /// Every element may depend on every other. `Dependencies` tells the steps apart, by the rules of the body.
    public func relations(_ context: RelationContext) -> [Relation] {
        let count = context.outputCount
        return context.inputShapes.map { shape in
            .lines(
                input: [Int32](repeating: 0, count: shape.reduce(1, *)), output: [Int32](repeating: 0, count: count),
                count: 1)
        }
    }

    public func evaluate(
        _ inputs: [Values], outputs results: inout [Values], elements: [Int]?, context: EvaluationContext
    ) {
        var bindings: [String: Values] = [:]
        for (placeholder, value) in zip(captures, inputs.suffix(captures.count)) {
            bindings[placeholder.placeholder!.label] = value
        }
        var state = Array(inputs.prefix(carries.count))
        let sequences = inputs[carries.count..<carries.count + slices.count]
        for step in 0..<steps {
            let t = isReversed ? steps - 1 - step : step
            for (index, value) in state.enumerated() {
                bindings[carries[index].placeholder!.label] = value
                let size = value.elements.count
                results[carries.count + outputs.count + index].elements.replaceSubrange(
                    t * size..<(t + 1) * size, with: value.elements)
            }
            for (placeholder, sequence) in zip(slices, sequences) {
                let shape = Array(sequence.shape.dropFirst())
                let size = shape.reduce(1, *)
                bindings[placeholder.placeholder!.label] = Values(
                    shape: shape, elements: Array(sequence.elements[t * size..<(t + 1) * size]))
            }
            // The graph was valid when the node was made, and everything it reads is bound.
            guard let values = try? Interpreter(batch: context.batch, bindings).run(newCarries + outputs) else {
                return
            }
            state = Array(values.prefix(carries.count))
            for (index, value) in values.dropFirst(carries.count).enumerated() {
                let size = value.elements.count
                results[carries.count + index].elements.replaceSubrange(t * size..<(t + 1) * size, with: value.elements)
            }
        }
        for (index, value) in state.enumerated() { results[index] = value }
    }

    public func gradients(inputs: [Tensor], outputs results: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        // A loop that walks back and carries the gradients of the carries. A step reads slices of what is stacked already: the
        // carries before it, the sequences, the products, which are worth keeping, and the gradients of what it stacked.
        let (sequences, operands) = (inputs[carries.count...].prefix(slices.count), inputs.suffix(captures.count))
        let history = results.suffix(carries.count)
        var read = Array(zip(carries + slices, history + sequences))
        func slice(_ stacked: Tensor, _ type: TensorType) -> Tensor {
            read.append((loopPlaceholder(type), stacked))
            return read.last!.0
        }
        func isFloating(_ tensor: Tensor) -> Bool { tensor.elementType.isFloatingPoint }
        let carried = carries.indices.filter { isFloating(carries[$0]) }
        let carryGradients = carried.map { loopPlaceholder(carries[$0].type) }
        var seeds = zip(carried, carryGradients).map { (newCarries[$0] * $1).sum() }
        for (output, gradient) in zip(outputs, outputGradients[carries.count...]) where isFloating(output) {
            if let gradient { seeds.append((output * slice(gradient, output.type)).sum()) }
        }
        guard let first = seeds.first else { return inputs.map { _ in nil } }
        let objective = seeds.dropFirst().reduce(first) { $0 + $1 }
        let (sliced, captured) = (
            slices.indices.filter { isFloating(slices[$0]) }, captures.indices.filter { isFloating(captures[$0]) }
        )
        let variables = carried.map { carries[$0] } + sliced.map { slices[$0] } + captured.map { captures[$0] }
        guard var g = try? Graph.gradients(of: objective, with: variables) else { return inputs.map { _ in objective } }
        let worthKeeping = outputs.indices.filter { outputs[$0].isWorthKeeping }
        g = replacing(
            Dictionary(
                worthKeeping.map { (outputs[$0], slice(results[carries.count + $0], outputs[$0].type)) },
                uniquingKeysWith: { first, _ in first }), in: g)
        for (place, i) in carried.enumerated() {
            // Second derivatives read the carries before each step.
            if let gradient = outputGradients[carries.count + outputs.count + i] {
                g[place] = g[place] + slice(gradient, carries[i].type)
            }
        }
        // The gradient of a capture is a sum over the steps: one product of everything stacked where a step's is a product,
        // carried along where it is not.
        let perCapture = g.suffix(captured.count).map(RowSum.init)
        var stacks = Array(g[carried.count...].prefix(sliced.count))
        let sums = captured.indices.filter { perCapture[$0] == nil }
        let accumulators = sums.map { loopPlaceholder(captures[captured[$0]].type) }
        var operandsOfSums: [Tensor: Int] = [:]
        for operand in perCapture.compactMap(\.self).flatMap(\.operands)
        where operandsOfSums[operand] == nil && !read.contains(where: { $0.0 == operand }) {
            operandsOfSums[operand] = stacks.count
            stacks.append(operand)
        }
        let next =
            Array(g.prefix(carried.count)) + zip(sums, accumulators).map { g[carried.count + sliced.count + $0] + $1 }
        let used = Set(topologicalOrder(next + stacks).map(ObjectIdentifier.init))
        let stepReads = read.filter { used.contains(ObjectIdentifier($0.0.node)) }
        let stepCaptures = zip(captures, operands).filter { used.contains(ObjectIdentifier($0.0.node)) }
        func zero(_ type: TensorType) -> Tensor { Tensor.scalar(0, type.element).broadcast(to: type.shape) }
        let node = Node(
            Scan(
                steps: steps, carries: carryGradients + accumulators, slices: stepReads.map(\.0),
                captures: stepCaptures.map(\.0), newCarries: next, outputs: stacks, isReversed: !isReversed),
            carried.map { outputGradients[$0] ?? zero(carries[$0].type) } + accumulators.map { zero($0.type) }
                + stepReads.map(\.1) + stepCaptures.map(\.1), at: results[0].location)

        var gradients = [Tensor?](repeating: nil, count: inputs.count)
        for (place, i) in carried.enumerated() { gradients[i] = Tensor(node, place) }
        for (place, i) in sliced.enumerated() { gradients[carries.count + i] = Tensor(node, next.count + place) }
        for (place, i) in captured.enumerated() {
            let target = carries.count + slices.count + i
            if let sum = perCapture[place] {
                gradients[target] = sum.overSteps(steps) { operand in
                    read.first { $0.0 == operand }?.1 ?? Tensor(node, next.count + operandsOfSums[operand]!)
                }
            } else {
                gradients[target] = Tensor(node, carried.count + sums.firstIndex(of: place)!)
            }
        }
        return gradients
    }
}

/// A product that sums over the rows of its two operands, as the gradients of weights do.
private struct RowSum {
    /// Two matrices of equally many rows.
    let operands: [Tensor]
    private let node: Node

    init?(_ tensor: Tensor) {
        node = tensor.node
        switch node.operation {
        case is MatrixProduct:
            guard (node.inputs[0].node.operation as? Transpose)?.axes == [1, 0] else { return nil }
            operands = [node.inputs[0].node.inputs[0], node.inputs[1]]
            guard operands.allSatisfy({ $0.shape.rank == 2 }) else { return nil }
        case let masked as MaskedProduct where masked.role == .weightGradient && node.inputs.count == 2:
            operands = node.inputs
        default: return nil
        }
    }

    /// The sum over all steps, from what the operands are at every step.
    func overSteps(_ steps: Int, _ stacked: (Tensor) -> Tensor) -> Tensor {
        let rows = operands.map { operand in
            stacked(operand).reshaped(Shape([Extent(steps) * operand.shape[0], operand.shape[1]]))
        }
        let first = node.operation is MatrixProduct ? rows[0].matrixTransposed() : rows[0]
        return Tensor(node.operation, [first, rows[1]], at: node.location)
    }
}

extension Scan {
    /// The same loop around another body.
    /// - Parameter results: new carries, then outputs.
    func with(body results: [Tensor]) -> Scan {
        Scan(
            steps: steps, carries: carries, slices: slices, captures: captures,
            newCarries: Array(results.prefix(carries.count)), outputs: Array(results.dropFirst(carries.count)),
            isReversed: isReversed)
    }
}

extension Scan: LoopOperation {
    public var loop: Loop {
        Loop(
            carries: carries, slices: slices, captures: captures, newCarries: newCarries, outputs: outputs, goesOn: nil,
            limit: steps, isReversed: isReversed, keepsHistory: true, countsSteps: false)
    }

    public var repetitions: Int { steps }

    /// Slices are the sequences' first, so that what a step reads is known by where it comes from.
    public func body(_ inputs: [Tensor], isRead: [Bool]) -> [Tensor] {
        let sequences = inputs[carries.count..<carries.count + slices.count]
        let read = zip(slices, sequences).map { slice, sequence in
            (slice, sequence.sliced(axis: 0, from: 0, count: 1).reshaped(slice.shape))
        }
        let wanted = outputs.indices.filter { isRead[carries.count + $0] }.map { outputs[$0] }
        return replacing(
            Dictionary(uniqueKeysWithValues: read + zip(captures, inputs.suffix(captures.count))),
            in: newCarries + wanted)
    }
}

extension Tensor {
    /// Whether reading it again is cheaper than computing it again.
    fileprivate var isWorthKeeping: Bool {
        switch node.compilerRole {
        case .contraction, .loop: true
        default: node.operation is MatrixOperation || node.operation is TriangularSolve
        }
    }
}

extension Tensor {
    /// Runs `body` once for every slice along the first axis of `sequences`, carrying some tensors from step to step: a
    /// recurrent network, say. The body is compiled once and runs on the device; its gradient is a loop that walks back.
    ///
    ///     let (_, outputs) = Tensor.scan([h0], over: [x]) { carries, slices in      // x: [steps, .batch, inputs]
    ///         let h = (carries[0].matmul(u) + slices[0].matmul(w) + bias).tanh()
    ///         return ([h], [h.matmul(v)])
    ///     }
    ///
    /// - Parameters:
    ///   - initial: the carries before the first step.
    ///   - steps: how many; may be left out where there are sequences.
    ///   - body: from carries and slices to new carries, of the same types, and the step's outputs. What it computes from
    ///     neither is computed once, in front of the loop.
    /// - Returns: the final carries, and the outputs stacked along a new first axis. A body that does not fit gives tensors
    ///   that carry a `GraphError`.
    public static func scan(
        _ initial: [Tensor], over sequences: [Tensor], steps: Int? = nil, file: StaticString = #fileID,
        line: UInt = #line,
        _ body: (_ carries: [Tensor], _ slices: [Tensor]) -> (carries: [Tensor], outputs: [Tensor])
    ) -> (carries: [Tensor], outputs: [Tensor]) {
        let count = steps ?? sequences.first?.shape.dimensions.first?.coefficient ?? 0
        let carries = initial.map { loopPlaceholder($0.type) }
        let slices = sequences.map {
            loopPlaceholder(TensorType(Shape(Array($0.shape.dimensions.dropFirst())), $0.elementType))
        }
        let result = body(carries, slices)
        let hoisted = hoistInvariants(result.carries + result.outputs, varying: carries + slices)
        // Products become results too, for the gradient; what nobody reads is not stacked.
        let products = topologicalOrder(hoisted.results).flatMap { node in node.types.indices.map { Tensor(node, $0) } }
            .filter { $0.isWorthKeeping && !hoisted.results.contains($0) }
        let node = Node(
            Scan(
                steps: count, carries: carries, slices: slices, captures: hoisted.placeholders,
                newCarries: Array(hoisted.results.prefix(result.carries.count)),
                outputs: Array(hoisted.results.dropFirst(result.carries.count)) + products,
                isReversed: false), initial + sequences + hoisted.operands, at: SourceLocation(file, line))
        return (
            initial.indices.map { Tensor(node, $0) }, result.outputs.indices.map { Tensor(node, initial.count + $0) }
        )
    }
}
