/// Sums of segments of an axis, which follow one another: `[a.., n, b..]` and segments of lengths `l_1 + l_2 + .. = n` give
/// `[a.., segments, b..]`. A segment of length zero sums to zero.
public struct SegmentedSum: Operation, Hashable {
    public let axis: Int
    /// Of the segments, one behind the other.
    public let lengths: [Int]

    public var name: String { "segmentedSum" }
    public var compilerRole: OperationRole { .independent }

    /// The elements of each segment.
    public var segments: [Range<Int>] {
        var start = 0
        return lengths.map { length in
            defer { start += length }
            return start..<start + length
        }
    }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let type = inputs[0]
        guard (0..<type.shape.rank).contains(axis), type.element.isFloatingPoint, lengths.allSatisfy({ $0 >= 0 }),
            type.shape[axis] == Extent(lengths.reduce(0, +))
        else {
            throw GraphError(
                operation: name,
                message:
                    "expected segments that make up axis \(axis) of floating-point numbers, found \(lengths) of \(type)"
            )
        }
        var shape = type.shape
        shape.dimensions[axis] = Extent(lengths.count)
        return [TensorType(shape, type.element)]
    }

    private func extents(_ shape: [Int]) -> (outer: Int, count: Int, inner: Int) {
        (shape[..<axis].reduce(1, *), shape[axis], shape[(axis + 1)...].reduce(1, *))
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let (outer, count, inner) = extents(context.inputShapes[0])
        return [.rows(outer: outer, rows: segments.map { [$0] }, inputCount: count, inner: inner)]
    }

    public func elementRule(_ context: ElementRuleContext) -> ElementRule? {
        let (outer, count, inner) = extents(context.inputShapes[0])
        return .reduction(
            .sum,
            terms: (0..<outer).flatMap { r in
                segments.flatMap { segment in
                    (0..<inner).map { c in segment.map { Int32((r * count + $0) * inner + c) } }
                }
            })
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let (_, count, inner) = extents(inputs[0].shape)
        let segments = segments
        for e in elements ?? Array(outputs[0].elements.indices) {
            let (r, s, c) = (e / (segments.count * inner), e / inner % segments.count, e % inner)
            outputs[0].elements[e] = segments[s].reduce(0) { $0 + inputs[0].elements[(r * count + $1) * inner + c] }
        }
    }

    /// Every element has its segment's gradient.
    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        let segment = segments.enumerated().flatMap { index, segment in segment.map { _ in Int32(index) } }
        return [outputGradients[0]?.gathered(.constant(HostArray(segment)), axis: axis)]
    }
}

extension Tensor {
    /// Sums of segments of an axis that follow one another, whose lengths make up the axis.
    public func segmentedSum(
        axis: Int, lengths: [Int], file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        Tensor(
            SegmentedSum(axis: axis < 0 ? axis + shape.rank : axis, lengths: lengths), [self],
            at: SourceLocation(file, line))
    }
}
