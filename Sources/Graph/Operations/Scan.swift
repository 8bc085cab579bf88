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

    /// Every element may depend on every other. Whoever wants the steps told apart reads the rules of `unrolled` graphs.
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
        // The reversed loop carries the gradients of the carries and the sums of those of the captures.
        func zero(_ type: TensorType) -> Tensor { Tensor.scalar(0, type.element).broadcast(to: type.shape) }
        let floatingCaptures = captures.indices.filter { captures[$0].elementType.isFloatingPoint }
        let floatingSlices = slices.indices.filter { slices[$0].elementType.isFloatingPoint }
        let carryGradients = carries.map { loopPlaceholder($0.type) }
        let captureGradients = floatingCaptures.map { loopPlaceholder(captures[$0].type) }
        let outputSlices = outputs.map { loopPlaceholder($0.type) }
        // The carries before each step are results too: a second derivative reads them.
        let historySlices = carries.map { loopPlaceholder($0.type) }
        let seeds =
            zip(newCarries, carryGradients).map { ($0 * $1).sum() } + zip(outputs, outputSlices).map { ($0 * $1).sum() }
        let objective = seeds.dropFirst().reduce(seeds[0]) { $0 + $1 }
        let variables = carries + floatingSlices.map { slices[$0] } + floatingCaptures.map { captures[$0] }
        guard let g = try? Graph.gradients(of: objective, with: variables) else { return inputs.map { _ in nil } }
        let split = carries.count + floatingSlices.count
        let reversed = Scan(
            steps: steps, carries: carryGradients + captureGradients,
            slices: carries + slices + outputSlices + historySlices,
            captures: captures,
            newCarries: zip(g[..<carries.count], historySlices).map { $0 + $1 }
                + zip(captureGradients, g[split...]).map { $0 + $1 },
            outputs: Array(g[carries.count..<split]), isReversed: !isReversed)
        let given = { (index: Int) in outputGradients[index] ?? zero(results[index].type) }
        let history = (0..<carries.count).map { results[carries.count + outputs.count + $0] }
        let node = Node(
            reversed,
            carries.indices.map(given) + floatingCaptures.map { zero(captures[$0].type) } + history
                + Array(inputs[carries.count..<carries.count + slices.count])
                + (outputs + carries).indices.map { given(carries.count + $0) }
                + Array(inputs.suffix(captures.count)), at: results[0].location)
        var gradients = [Tensor?](repeating: nil, count: inputs.count)
        for i in carries.indices { gradients[i] = Tensor(node, i) }
        for (place, i) in floatingCaptures.enumerated() {
            gradients[carries.count + slices.count + i] = Tensor(node, carries.count + place)
        }
        for (place, i) in floatingSlices.enumerated() {
            gradients[carries.count + i] = Tensor(node, carries.count + captureGradients.count + place)
        }
        return gradients
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
        let node = Node(
            Scan(
                steps: count, carries: carries, slices: slices, captures: hoisted.placeholders,
                newCarries: Array(hoisted.results.prefix(result.carries.count)),
                outputs: Array(hoisted.results.dropFirst(result.carries.count)),
                isReversed: false), initial + sequences + hoisted.operands, at: SourceLocation(file, line))
        return (
            initial.indices.map { Tensor(node, $0) }, result.outputs.indices.map { Tensor(node, initial.count + $0) }
        )
    }
}
