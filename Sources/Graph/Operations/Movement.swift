/// A view: every element of its result is one element of its operand, found where the operand lies. One rule, where the elements lie,
/// gives its meaning and its dependencies.
public protocol ViewOperation: Operation {
    /// Where the result's elements lie, given where the operand's do; `nil` where no strides describe it, and the operand has to be
    /// copied first. Of a row-major operand there always are strides.
    func layout(of operand: Shape, in memory: StridedLayout, result: Shape) -> StridedLayout?
    /// Whether strides describe it wherever the operand lies, so that `layout` never gives `nil`. False if not said.
    var alwaysHasStrides: Bool { get }
}

extension ViewOperation {
    public var alwaysHasStrides: Bool { false }
    public var compilerRole: OperationRole { .view(self) }

    /// For each output element the flat position in the input, whose run-time shapes are given.
    func sources(inputShape: [Int], outputShape: [Int]) -> [Int32] {
        let input = Shape(inputShape)
        guard let layout = layout(of: input, in: StridedLayout(input), result: Shape(outputShape)) else {
            fatalError("\(name): a row-major operand must have strides")
        }
        return affinePositions(
            outputShape, offset: layout.offset.reduce(0) { $0 + $1.coefficient },
            strides: layout.strides.map(\.coefficient))
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        var table = sources(inputShape: context.inputShapes[0], outputShape: context.outputShape)
        if let known = context.knownValues[0] {
            for e in table.indices where known.isKnown[Int(table[e])] { table[e] = -1 }
        }
        return [.table(table)]
    }

    public func knownValues(_ context: RelationContext) -> KnownValues? {
        guard let input = context.knownValues[0] else { return nil }
        let table = sources(inputShape: context.inputShapes[0], outputShape: context.outputShape)
        return KnownValues(
            isKnown: table.map { input.isKnown[Int($0)] }, values: table.map { input.values[Int($0)] }
        ).simplified
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let table = sources(inputShape: inputs[0].shape, outputShape: outputs[0].shape)
        func move(_ e: Int) { outputs[0].elements[e] = inputs[0].elements[Int(table[e])] }
        if let elements { elements.forEach(move) } else { table.indices.forEach(move) }
    }
}

/// The input repeated along new leading axes and along axes of extent one, as NumPy broadcasts.
public struct Broadcast: ViewOperation, Hashable {
    public let shape: Shape

    public init(shape: Shape) { self.shape = shape }

    public var name: String { "broadcast" }
    public var alwaysHasStrides: Bool { true }

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

    public func layout(of operand: Shape, in memory: StridedLayout, result: Shape) -> StridedLayout? {
        let lead = result.rank - operand.rank
        return StridedLayout(
            offset: memory.offset,
            strides: (0..<result.rank).map { $0 < lead || operand[$0 - lead].isOne ? 0 : memory.strides[$0 - lead] })
    }

    public func simplified(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? {
        inputs[0].shape == shape ? inputs[0] : nil
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
public struct Reshape: ViewOperation, Hashable {
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

    public func layout(of operand: Shape, in memory: StridedLayout, result: Shape) -> StridedLayout? {
        Self.strides(operand, memory.strides, under: result).map { StridedLayout(offset: memory.offset, strides: $0) }
    }

    public func simplified(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? {
        if inputs[0].shape == shape { return inputs[0] }
        return inputs[0].node.operation is Reshape ? Tensor(self, [inputs[0].node.inputs[0]], at: location) : nil
    }

    /// Strides of a strided array under another shape, `nil` if the elements do not lie on one stride for each new axis.
    private static func strides(_ from: Shape, _ strides: [Extent], under to: Shape) -> [Extent]? {
        if from.count == 0 { return to.strides }
        // Strides of axes of extent one are never used.
        let old = zip(from.dimensions, strides).filter { !$0.0.isOne }
        var result = [Extent](repeating: 0, count: to.rank)
        let new = (0..<to.rank).filter { !to[$0].isOne }
        var (i, j) = (0, 0)
        while i < old.count || j < new.count {
            guard i < old.count, j < new.count else { return nil }
            var (left, right) = (old[i].0, to[new[j]])
            var (lastOld, lastNew) = (i, j)
            // Leading products grow on both sides; those of equal size, found by always enlarging the smaller, end a block.
            while left != right {
                if isSmaller(left, right) {
                    lastOld += 1
                    guard lastOld < old.count else { return nil }
                    left = left * old[lastOld].0
                } else {
                    lastNew += 1
                    guard lastNew < new.count else { return nil }
                    right = right * to[new[lastNew]]
                }
            }
            // The old axes of this block must be one run of equally spaced elements.
            for axis in i..<lastOld where old[axis].1 != old[axis + 1].1 * old[axis + 1].0 { return nil }
            var stride = old[lastOld].1
            for axis in (j...lastNew).reversed() {
                result[new[axis]] = stride
                stride = stride * to[new[axis]]
            }
            (i, j) = (lastOld + 1, lastNew + 1)
        }
        return result
    }

    /// An order of monomials in which a product is never smaller than its factors.
    private static func isSmaller(_ a: Extent, _ b: Extent) -> Bool {
        (a.power, a.coefficient) < (b.power, b.coefficient)
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        [outputGradients[0]?.reshaped(inputs[0].shape)]
    }
}

/// Axes in another order: axis `a` of the output is axis `axes[a]` of the input.
public struct Transpose: ViewOperation, Hashable {
    public let axes: [Int]

    public init(axes: [Int]) { self.axes = axes }

    public var name: String { "transpose" }
    public var alwaysHasStrides: Bool { true }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        guard axes.sorted() == Array(0..<inputs[0].shape.rank) else {
            throw GraphError(operation: name, message: "\(axes) is not an order of the axes of \(inputs[0].shape)")
        }
        return [TensorType(Shape(axes.map { inputs[0].shape[$0] }), inputs[0].element)]
    }

    public func layout(of operand: Shape, in memory: StridedLayout, result: Shape) -> StridedLayout? {
        StridedLayout(offset: memory.offset, strides: axes.map { memory.strides[$0] })
    }

    public func simplified(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? {
        if axes == Array(axes.indices) { return inputs[0] }
        guard let inner = inputs[0].node.operation as? Transpose else { return nil }
        let joined = axes.map { inner.axes[$0] }
        let source = inputs[0].node.inputs[0]
        return joined == Array(joined.indices) ? source : Tensor(Transpose(axes: joined), [source], at: location)
    }

    /// The transpose of a product is the product of the transposes: it is written in the order in which it is read.
    public func simplifiedAsOnlyReader(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? {
        guard let product = inputs[0].node.operation as? MatrixProduct,
            axes.dropLast(2).elementsEqual(0..<axes.count - 2), axes.last == axes.count - 2
        else { return nil }
        return Tensor(
            product, inputs[0].node.inputs.reversed().map { Tensor(self, [$0], at: location) }, at: inputs[0].location)
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        [outputGradients[0]?.transposed(axes.indices.sorted { axes[$0] < axes[$1] })]
    }
}

/// Elements `start, start + step, ..` along each axis; a step of -1 runs backwards. An axis of the batch is kept whole.
public struct Slice: ViewOperation, Hashable {
    public let starts: [Int]
    public let steps: [Int]
    public let counts: [Extent]

    public var name: String { "slice" }
    public var alwaysHasStrides: Bool { true }

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

    public func layout(of operand: Shape, in memory: StridedLayout, result: Shape) -> StridedLayout? {
        var offset = memory.offset
        for (start, stride) in zip(starts, memory.strides) where start != 0 && stride != 0 {
            offset.append(stride * Extent(start))
        }
        return StridedLayout(offset: offset, strides: zip(steps, memory.strides).map { $1 * Extent($0) })
    }

    /// Whether it takes all of a tensor, in order.
    func isWhole(_ shape: Shape) -> Bool {
        counts == shape.dimensions && starts.allSatisfy { $0 == 0 } && steps.allSatisfy { $0 == 1 }
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
