/// An operation that moves elements and computes nothing: every element of its output is one element of its input, or a
/// constant. One rule, where each output element comes from, gives its meaning and its dependencies.
public protocol MovementOperation: Operation {
    /// For each output element the flat position in the input, negative where the fill value stands.
    func sources(inputShape: [Int], outputShape: [Int]) -> [Int32]
    var fill: Double { get }
}

extension MovementOperation {
    public var fill: Double { 0 }

    public func relations(_ context: RelationContext) -> [Relation] {
        var table = sources(inputShape: context.inputShapes[0], outputShape: context.outputShape)
        if let known = context.knownValues[0] {
            for e in table.indices where table[e] >= 0 && known.isKnown[Int(table[e])] { table[e] = -1 }
        }
        return [.table(table)]
    }

    public func knownValues(_ context: RelationContext) -> KnownValues? {
        let input = context.knownValues[0]
        if input == nil, !(self is Pad) { return nil }
        let table = sources(inputShape: context.inputShapes[0], outputShape: context.outputShape)
        return KnownValues(
            isKnown: table.map { $0 < 0 || input?.isKnown[Int($0)] ?? false },
            values: table.map { $0 < 0 ? fill : input?.values[Int($0)] ?? 0 }
        ).simplified
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let table = sources(inputShape: inputs[0].shape, outputShape: outputs[0].shape)
        func move(_ e: Int) { outputs[0].elements[e] = table[e] < 0 ? fill : inputs[0].elements[Int(table[e])] }
        if let elements { elements.forEach(move) } else { table.indices.forEach(move) }
    }
}

/// The input repeated along new leading axes and along axes of extent one, as NumPy broadcasts.
public struct Broadcast: MovementOperation, Hashable {
    public let shape: Shape

    public init(shape: Shape) { self.shape = shape }

    public var name: String { "broadcast" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let input = inputs[0].shape
        let lead = shape.rank - input.rank
        guard lead >= 0, input.dimensions.enumerated().allSatisfy({ $1 == shape[lead + $0] || $1.isOne }) else {
            throw GraphError(operation: name, message: "cannot broadcast \(input) to \(shape)")
        }
        return [TensorType(shape, inputs[0].element)]
    }

    /// The axes along which elements repeat.
    func repeatedAxes(_ input: Shape) -> [Int] {
        let lead = shape.rank - input.rank
        return (0..<shape.rank).filter { $0 < lead || (input[$0 - lead].isOne && !shape[$0].isOne) }
    }

    public func sources(inputShape: [Int], outputShape: [Int]) -> [Int32] {
        let lead = outputShape.count - inputShape.count
        let strides = rowMajorStrides(inputShape)
        return affinePositions(
            outputShape, offset: 0,
            strides: outputShape.indices.map { $0 < lead || inputShape[$0 - lead] == 1 ? 0 : strides[$0 - lead] })
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        let axes = repeatedAxes(inputs[0].shape)
        // A rule's own tensors take their place in the source from the operands.
        let location = outputs[0].location
        return [
            outputGradients[0].map { g in
                let sum = axes.isEmpty ? g : Tensor(Reduction(kind: .sum, axes: axes), [g], at: location)
                return sum.shape == inputs[0].shape ? sum : Tensor(Reshape(shape: inputs[0].shape), [sum], at: location)
            }
        ]
    }
}

/// The same elements in row-major order under another shape.
public struct Reshape: MovementOperation, Hashable {
    public let shape: Shape

    public var name: String { "reshape" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        guard inputs[0].shape.count == shape.count else {
            throw GraphError(
                operation: name,
                message:
                    "cannot reshape \(inputs[0].shape) of \(inputs[0].shape.count) elements to \(shape) of \(shape.count)"
            )
        }
        return [TensorType(shape, inputs[0].element)]
    }

    public func sources(inputShape: [Int], outputShape: [Int]) -> [Int32] {
        (0..<Int32(outputShape.reduce(1, *))).map { $0 }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        [outputGradients[0]?.reshaped(inputs[0].shape)]
    }
}

/// Axes in another order: axis `a` of the output is axis `axes[a]` of the input.
public struct Transpose: MovementOperation, Hashable {
    public let axes: [Int]

    public init(axes: [Int]) { self.axes = axes }

    public var name: String { "transpose" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        guard axes.sorted() == Array(0..<inputs[0].shape.rank) else {
            throw GraphError(operation: name, message: "\(axes) is not an order of the axes of \(inputs[0].shape)")
        }
        return [TensorType(Shape(axes.map { inputs[0].shape[$0] }), inputs[0].element)]
    }

    public func sources(inputShape: [Int], outputShape: [Int]) -> [Int32] {
        let strides = rowMajorStrides(inputShape)
        return affinePositions(outputShape, offset: 0, strides: axes.map { strides[$0] })
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        [outputGradients[0]?.transposed(axes.indices.sorted { axes[$0] < axes[$1] })]
    }
}

/// Elements `start, start + step, ..` along each axis; a step of -1 runs backwards. An axis of the batch is kept whole.
public struct Slice: MovementOperation, Hashable {
    public let starts: [Int]
    public let steps: [Int]
    public let counts: [Extent]

    public var name: String { "slice" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let shape = inputs[0].shape
        guard starts.count == shape.rank, steps.count == shape.rank, counts.count == shape.rank else {
            throw GraphError(operation: name, message: "needs a start, step and count for each axis of \(shape)")
        }
        for axis in 0..<shape.rank {
            let inside =
                shape[axis].isStatic
                ? counts[axis].isStatic && steps[axis] != 0
                    && (counts[axis].coefficient == 0
                        || (0..<shape[axis].coefficient).contains(starts[axis])
                            && (0..<shape[axis].coefficient).contains(
                                starts[axis] + (counts[axis].coefficient - 1) * steps[axis]))
                : starts[axis] == 0 && steps[axis] == 1 && counts[axis] == shape[axis]
            guard inside else {
                throw GraphError(
                    operation: name,
                    message:
                        "\(counts[axis]) elements from \(starts[axis]) by \(steps[axis]) do not lie in axis \(axis) of \(shape)"
                )
            }
        }
        return [TensorType(Shape(counts), inputs[0].element)]
    }

    public func sources(inputShape: [Int], outputShape: [Int]) -> [Int32] {
        let strides = rowMajorStrides(inputShape)
        return affinePositions(
            outputShape, offset: zip(starts, strides).reduce(0) { $0 + $1.0 * $1.1 },
            strides: zip(steps, strides).map { $0 * $1 })
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return [nil] }
        let shape = inputs[0].shape
        let backwards = steps.indices.filter { steps[$0] < 0 }
        let flipped = backwards.isEmpty ? g : g.flipped(axes: backwards)
        var low: [Int] = []
        var high: [Int] = []
        for axis in 0..<shape.rank {
            guard shape[axis].isStatic else {
                low.append(0)
                high.append(0)
                continue
            }
            // Of a slice of nothing all zeros come from the padding.
            guard counts[axis].coefficient > 0 else {
                low.append(shape[axis].coefficient)
                high.append(0)
                continue
            }
            let span = (counts[axis].coefficient - 1) * steps[axis]
            let first = Swift.min(starts[axis], starts[axis] + span)
            low.append(first)
            high.append(shape[axis].coefficient - 1 - first - Swift.abs(span))
        }
        return [flipped.padded(low: low, high: high, interior: steps.map { Swift.abs($0) - 1 })]
    }
}

/// A constant around the input, and between its elements.
public struct Pad: MovementOperation, Hashable {
    public let low: [Int]
    public let high: [Int]
    /// Elements put between neighbours, along each axis.
    public let interior: [Int]
    public let fill: Double

    public init(low: [Int], high: [Int], interior: [Int], fill: Double) {
        (self.low, self.high, self.interior, self.fill) = (low, high, interior, fill)
    }

    public var name: String { "pad" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let shape = inputs[0].shape
        guard low.count == shape.rank, high.count == shape.rank, interior.count == shape.rank,
            (low + high + interior).allSatisfy({ $0 >= 0 }),
            shape.dimensions.indices.allSatisfy({ shape[$0].isStatic || low[$0] + high[$0] + interior[$0] == 0 })
        else {
            throw GraphError(
                operation: name,
                message:
                    "cannot pad \(shape) by \(low) before, \(high) after and \(interior) between; the batch axis takes no padding"
            )
        }
        let element = inputs[0].element
        guard element.holds(fill) else {
            throw GraphError(
                operation: name,
                message:
                    "the fill \(literalText(fill)) of a tensor of \(element) is no \(element); cast the tensor first")
        }
        return [
            TensorType(
                Shape(
                    shape.dimensions.indices.map {
                        shape[$0].isStatic
                            ? Extent(
                                low[$0] + high[$0] + shape[$0].coefficient + Swift.max(0, shape[$0].coefficient - 1)
                                    * interior[$0])
                            : shape[$0]
                    }), element)
        ]
    }

    public func sources(inputShape: [Int], outputShape: [Int]) -> [Int32] {
        let strides = rowMajorStrides(outputShape)
        var table = [Int32](repeating: -1, count: outputShape.reduce(1, *))
        let targets = affinePositions(
            inputShape, offset: zip(low, strides).reduce(0) { $0 + $1.0 * $1.1 },
            strides: zip(interior, strides).map { ($0 + 1) * $1 })
        for (source, target) in targets.enumerated() { table[Int(target)] = Int32(source) }
        return table
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        [
            outputGradients[0].map {
                Tensor(Slice(starts: low, steps: interior.map { $0 + 1 }, counts: inputs[0].shape.dimensions), [$0])
            }
        ]
    }
}

/// The inputs one after the other along an axis.
public struct Concatenate: Operation, Hashable {
    public let axis: Int

    public init(axis: Int) { self.axis = axis }

    public var name: String { "concatenate" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let first = inputs[0]
        guard
            inputs.allSatisfy({
                $0.element == first.element && $0.shape.rank == first.shape.rank && $0.shape[axis].isStatic
                    && $0.shape.removing(axes: [axis]) == first.shape.removing(axes: [axis])
            }), (0..<first.shape.rank).contains(axis)
        else {
            throw GraphError(
                operation: name,
                message: "cannot join \(inputs.map(\.description).joined(separator: " and ")) along axis \(axis)")
        }
        var shape = first.shape
        shape.dimensions[axis] = Extent(inputs.reduce(0) { $0 + $1.shape[axis].coefficient })
        return [TensorType(shape, first.element)]
    }

    /// For each operand, the output elements that it supplies, in the operand's order.
    private func targets(_ inputShapes: [[Int]], _ outputShape: [Int]) -> [[Int32]] {
        let strides = rowMajorStrides(outputShape)
        var start = 0
        return inputShapes.map { shape in
            defer { start += shape[axis] }
            return affinePositions(shape, offset: start * strides[axis], strides: strides)
        }
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let shape = context.outputShape
        var start = 0
        return zip(context.inputShapes, context.knownValues).map { input, known in
            defer { start += input[axis] }
            guard let known else {
                // One row of the operand for each of its own rows, whatever the size.
                return .rows(
                    outer: shape[..<axis].reduce(1, *),
                    rows: (0..<shape[axis]).map { row in
                        (start..<start + input[axis]).contains(row) ? [row - start..<row - start + 1] : []
                    }, inputCount: input[axis], inner: shape[(axis + 1)...].reduce(1, *))
            }
            var table = [Int32](repeating: -1, count: context.outputCount)
            let strides = rowMajorStrides(shape)
            let targets = affinePositions(input, offset: start * strides[axis], strides: strides)
            for (source, target) in targets.enumerated() where !known.isKnown[source] {
                table[Int(target)] = Int32(source)
            }
            return .table(table)
        }
    }

    public func knownValues(_ context: RelationContext) -> KnownValues? {
        guard context.knownValues.contains(where: { $0 != nil }) else { return nil }
        var result = KnownValues(
            isKnown: [Bool](repeating: false, count: context.outputCount),
            values: [Double](repeating: 0, count: context.outputCount))
        for (targets, known) in zip(targets(context.inputShapes, context.outputShape), context.knownValues) {
            guard let known else { continue }
            for (source, target) in targets.enumerated() {
                result.isKnown[Int(target)] = known.isKnown[source]
                result.values[Int(target)] = known.values[source]
            }
        }
        return result.simplified
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        for (targets, input) in zip(targets(inputs.map(\.shape), outputs[0].shape), inputs) {
            for (source, target) in targets.enumerated() { outputs[0].elements[Int(target)] = input.elements[source] }
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return inputs.map { _ in nil } }
        var start = 0
        return inputs.map { input in
            defer { start += input.shape[axis].coefficient }
            return g.sliced(axis: axis, from: start, count: input.shape[axis].coefficient)
        }
    }
}
