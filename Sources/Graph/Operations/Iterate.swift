/// Repeats a body until a condition fails, at most `limit` times: roots of monotone functions, fixed points. Results: the
/// final carries and the number of steps, int32. No gradient flows through it; an implicit one belongs to whoever knows the
/// equation that is solved.
public struct Iterate: Operation {
    public let limit: Int
    public let carries: [Tensor]
    public let captures: [Tensor]
    public let newCarries: [Tensor]
    /// A bool scalar: whether to take another step from the carries.
    public let goesOn: Tensor

    public var name: String { "iterate" }
    public var key: AnyHashable? { nil }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        for tensor in newCarries + [goesOn] { if let error = tensor.error { throw error } }
        guard inputs == carries.map(\.type) + captures.map(\.type), newCarries.map(\.type) == carries.map(\.type),
            goesOn.type == TensorType(.scalar, .bool), limit >= 0
        else {
            throw GraphError(
                operation: name,
                message:
                    "the body must carry on \(carries.map(\.type.description)) and decide by a bool scalar; found \(newCarries.map(\.type.description)) and \(goesOn.type)"
            )
        }
        return carries.map(\.type) + [TensorType(.scalar, .int32)]
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        context.inputShapes.map { shape in
            .lines(
                input: [Int32](repeating: 0, count: shape.reduce(1, *)),
                output: [Int32](repeating: 0, count: context.outputCount), count: 1)
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
        var taken = 0
        while taken < limit {
            for (placeholder, value) in zip(carries, state) { bindings[placeholder.placeholder!.label] = value }
            guard let values = try? Interpreter(batch: context.batch, bindings).run([goesOn] + newCarries),
                values[0].elements[0] != 0
            else { break }
            state = Array(values.dropFirst())
            taken += 1
        }
        for (index, value) in state.enumerated() { results[index] = value }
        results[carries.count].elements[0] = Double(taken)
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        inputs.map { _ in nil }
    }
}

extension Iterate: LoopOperation {
    /// Once: how often depends on the values.
    public var repetitions: Int { 1 }

    public var loop: Loop {
        Loop(
            carries: carries, slices: [], captures: captures, newCarries: newCarries, outputs: [], goesOn: goesOn,
            limit: limit, isReversed: false, keepsHistory: false, countsSteps: true)
    }

    public func body(_ inputs: [Tensor], isRead: [Bool]) -> [Tensor] {
        replacing(
            Dictionary(uniqueKeysWithValues: zip(captures, inputs.suffix(captures.count))), in: [goesOn] + newCarries)
    }
}

extension Tensor {
    /// Repeats `body` while `condition` holds, at most `limit` times; returns the carries and the number of steps, int32.
    ///
    /// - Parameters:
    ///   - condition: from the carries to a bool scalar, asked before each step.
    ///   - body: from the carries to new ones of the same types.
    public static func iterate(
        _ initial: [Tensor], limit: Int, file: StaticString = #fileID, line: UInt = #line,
        while condition: (_ carries: [Tensor]) -> Tensor, _ body: (_ carries: [Tensor]) -> [Tensor]
    ) -> (carries: [Tensor], steps: Tensor) {
        let carries = initial.map { loopPlaceholder($0.type) }
        let hoisted = hoistInvariants([condition(carries)] + body(carries), varying: carries)
        let node = Node(
            Iterate(
                limit: limit, carries: carries, captures: hoisted.placeholders,
                newCarries: Array(hoisted.results.dropFirst()), goesOn: hoisted.results[0]),
            initial + hoisted.operands, at: SourceLocation(file, line))
        return (initial.indices.map { Tensor(node, $0) }, Tensor(node, initial.count))
    }
}
