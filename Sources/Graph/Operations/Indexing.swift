/// Slices of the data chosen by integers along one axis, as `numpy.take`: data `[a.., n, b..]` and indices `[i..]` give
/// `[a.., i.., b..]`. An index outside the axis takes the nearest end.
public struct Gather: Operation, Hashable {
    public let axis: Int

    public var name: String { "gather" }

    /// Where the indices are constants.
    public func elementRule(_ context: ElementRuleContext) -> ElementRule? {
        context.knownValues[1]?.isConstant == true ? .moved : nil
    }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let (data, indices) = (inputs[0], inputs[1])
        guard (0..<data.shape.rank).contains(axis), data.shape[axis].isStatic, data.shape[axis] != 0,
            indices.element == .int32
        else {
            throw GraphError(
                operation: name,
                message: "expected int32 indices into a static axis, found \(indices) into axis \(axis) of \(data)")
        }
        let shape = data.shape.dimensions
        return [TensorType(Shape(shape[..<axis] + indices.shape.dimensions + shape[(axis + 1)...]), data.element)]
    }

    /// Extents before, along and behind the axis, and the number of indices.
    static func extents(_ data: [Int], _ indices: [Int], _ axis: Int) -> (
        outer: Int, axis: Int, inner: Int, indices: Int
    ) {
        (data[..<axis].reduce(1, *), data[axis], data[(axis + 1)...].reduce(1, *), indices.reduce(1, *))
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let (outer, n, inner, count) = Self.extents(context.inputShapes[0], context.inputShapes[1], axis)
        let read: Relation
        if let known = context.knownValues[1], known.isConstant {
            read = .table(
                (0..<outer * count * inner).map { e in
                    let index = Swift.max(0, Swift.min(n - 1, Int(known.values[e / inner % count])))
                    return Int32((e / (inner * count) * n + index) * inner + e % inner)
                })
        } else {
            read = .lines(
                input: (0..<outer * n * inner).map { Int32($0 / (n * inner) * inner + $0 % inner) },
                output: (0..<outer * count * inner).map { Int32($0 / (count * inner) * inner + $0 % inner) },
                count: outer * inner)
        }
        return [read, .table((0..<outer * count * inner).map { Int32($0 / inner % count) })]
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let (_, n, inner, count) = Self.extents(inputs[0].shape, inputs[1].shape, axis)
        for e in elements ?? Array(outputs[0].elements.indices) {
            let index = Swift.max(0, Swift.min(n - 1, Int(inputs[1].elements[e / inner % count])))
            outputs[0].elements[e] = inputs[0].elements[(e / (inner * count) * n + index) * inner + e % inner]
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        [
            outputGradients[0].map {
                Tensor(ScatterAdd(axis: axis, count: inputs[0].shape[axis].coefficient), [$0, inputs[1]])
            }, nil,
        ]
    }
}

/// The transpose of `Gather`: sums updates `[a.., i.., b..]` into `[a.., count, b..]` by their indices, in their order.
public struct ScatterAdd: Operation, Hashable {
    public let axis: Int
    public let count: Int

    public var name: String { "scatterAdd" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let (updates, indices) = (inputs[0], inputs[1])
        let rank = indices.shape.rank
        guard indices.element == .int32, updates.element.isFloatingPoint, axis >= 0, axis + rank <= updates.shape.rank,
            Array(updates.shape.dimensions[axis..<axis + rank]) == indices.shape.dimensions
        else {
            throw GraphError(
                operation: name,
                message:
                    "expected updates whose axes from \(axis) are those of the int32 indices, found \(updates) and \(indices)"
            )
        }
        let shape = updates.shape.dimensions
        return [TensorType(Shape(shape[..<axis] + [Extent(count)] + shape[(axis + rank)...]), updates.element)]
    }

    static func extents(_ updates: [Int], _ indices: [Int], _ axis: Int) -> (outer: Int, inner: Int, indices: Int) {
        (updates[..<axis].reduce(1, *), updates[(axis + indices.count)...].reduce(1, *), indices.reduce(1, *))
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let (outer, inner, n) = Self.extents(context.inputShapes[0], context.inputShapes[1], axis)
        return [
            .lines(
                input: (0..<outer * n * inner).map { Int32($0 / (n * inner) * inner + $0 % inner) },
                output: (0..<outer * count * inner).map { Int32($0 / (count * inner) * inner + $0 % inner) },
                count: outer * inner),
            .lines(
                input: [Int32](repeating: 0, count: n), output: [Int32](repeating: 0, count: context.outputCount),
                count: 1),
        ]
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let (outer, inner, n) = Self.extents(inputs[0].shape, inputs[1].shape, axis)
        outputs[0] = Values(shape: outputs[0].shape)
        for r in 0..<outer {
            for i in 0..<n {
                let target = Swift.max(0, Swift.min(count - 1, Int(inputs[1].elements[i])))
                for c in 0..<inner {
                    outputs[0].elements[(r * count + target) * inner + c] += inputs[0].elements[(r * n + i) * inner + c]
                }
            }
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        [outputGradients[0].map { Tensor(Gather(axis: axis), [$0, inputs[1]]) }, nil]
    }
}

/// Running sums along an axis: of everything up to an element, or (exclusive) before it; from the end if reversed.
public struct CumulativeSum: Operation, Hashable {
    public let axis: Int
    public let isExclusive: Bool
    public let isReversed: Bool

    public var name: String { "cumulativeSum" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        guard (0..<inputs[0].shape.rank).contains(axis), inputs[0].shape[axis].isStatic,
            inputs[0].element.isFloatingPoint
        else {
            throw GraphError(
                operation: name,
                message: "expected a static axis of a floating-point tensor, found axis \(axis) of \(inputs[0])")
        }
        return inputs
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let shape = context.inputShapes[0]
        let n = shape[axis]
        let rows = (0..<n).map { i -> [Range<Int>] in
            let range = isReversed ? (isExclusive ? i + 1 : i)..<n : 0..<(isExclusive ? i : i + 1)
            return range.isEmpty ? [] : [range]
        }
        return [
            .rows(
                outer: shape[..<axis].reduce(1, *), rows: rows, inputCount: n, inner: shape[(axis + 1)...].reduce(1, *))
        ]
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let shape = inputs[0].shape
        let (n, inner) = (shape[axis], shape[(axis + 1)...].reduce(1, *))
        for line in 0..<inputs[0].elements.count / Swift.max(1, n) {
            let base = line / inner * n * inner + line % inner
            var sum = 0.0
            for step in 0..<n {
                let e = base + (isReversed ? n - 1 - step : step) * inner
                if isExclusive { outputs[0].elements[e] = sum }
                sum += inputs[0].elements[e]
                if !isExclusive { outputs[0].elements[e] = sum }
            }
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        [
            outputGradients[0].map {
                Tensor(CumulativeSum(axis: axis, isExclusive: isExclusive, isReversed: !isReversed), [$0])
            }
        ]
    }
}

extension Tensor {
    /// Slices chosen by int32 `indices` along an axis: `[a.., n, b..]` and `[i..]` give `[a.., i.., b..]`.
    public func gathered(_ indices: Tensor, axis: Int, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        Tensor(Gather(axis: axis < 0 ? axis + shape.rank : axis), [self, indices], at: SourceLocation(file, line))
    }

    /// 1 where the class is the element's, else 0: int32 `[..]` gives float32 `[.., classes]`.
    public func oneHot(_ classes: Int, as element: ElementType = .float32) -> Tensor {
        let shape = Shape(shape.dimensions + [Extent(classes)])
        return reshaped(Shape(self.shape.dimensions + [1])).broadcast(to: shape).equal(.iota(shape, axis: -1)).cast(
            to: element)
    }

    /// Running sums along an axis.
    public func cumulativeSum(
        axis: Int, exclusive: Bool = false, reversed: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        Tensor(
            CumulativeSum(axis: axis < 0 ? axis + shape.rank : axis, isExclusive: exclusive, isReversed: reversed),
            [self],
            at: SourceLocation(file, line))
    }
}
