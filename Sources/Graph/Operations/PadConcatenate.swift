/// A constant around the input, and between its elements.
public struct Pad: AssemblyOperation, Hashable {
    public let low: [Int]
    public let high: [Int]
    /// Elements put between neighbours, along each axis.
    public let interior: [Int]
    public let value: Double
    public var fill: Double? { value }

    public init(low: [Int], high: [Int], interior: [Int], fill: Double) {
        (self.low, self.high, self.interior, value) = (low, high, interior, fill)
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
        guard element.holds(value) else {
            throw GraphError(
                operation: name,
                message:
                    "the fill \(literalText(value)) of a tensor of \(element) is no \(element); cast the tensor first")
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

    public func boxes(_ operands: [Shape], result: Shape) -> [AssemblyBox] {
        [AssemblyBox(operand: 0, whole: operands[0], targets: low, steps: interior.map { $0 + 1 })]
    }

    /// The sum of some tensors, which have one shape. The gradients of a tensor's slices, padded with zeros, are taken in the order of
    /// the slices, so that neighbours meet and are joined.
    static func sum(_ terms: [Tensor]) -> Tensor {
        var terms = terms
        let pads = terms.compactMap { $0.node.operation as? Pad }
        if terms.count > 2, pads.count == terms.count {
            let places = terms.indices.sorted { pads[$0].low.lexicographicallyPrecedes(pads[$1].low) }
            terms = places.map { terms[$0] }
        }
        return terms.dropFirst().reduce(terms[0]) { $0 + $1 }
    }

    /// The sum of two tensors that were padded with zeros, where their contents are neighbours along one axis: the concatenation of the
    /// contents. Such sums are the gradients of slices.
    static func join(_ first: Tensor, _ second: Tensor) -> Tensor? {
        guard let a = first.node.operation as? Pad, let b = second.node.operation as? Pad, a.value == 0, b.value == 0,
            first.node !== second.node, (a.interior + b.interior).allSatisfy({ $0 == 0 })
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
}

/// The inputs one after the other along an axis.
public struct Concatenate: AssemblyOperation, Hashable {
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

    public func boxes(_ operands: [Shape], result: Shape) -> [AssemblyBox] {
        var start = 0
        return operands.enumerated().map { index, shape in
            var targets = [Int](repeating: 0, count: shape.rank)
            targets[axis] = start
            start += shape[axis].coefficient
            return AssemblyBox(operand: index, whole: shape, targets: targets)
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
}
