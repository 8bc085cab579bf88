/// A box of an operand that goes to a box of the result, of as many axes.
public struct AssemblyBox: Hashable, Sendable {
    /// Which operand.
    public var operand: Int
    /// The first element along each axis of the operand, and how many there are.
    public var starts: [Int]
    public var counts: [Extent]
    /// The place of the first element in the result, and the distance of neighbours there.
    public var targets: [Int]
    public var steps: [Int]

    public init(operand: Int, starts: [Int], counts: [Extent], targets: [Int], steps: [Int]) {
        (self.operand, self.starts, self.counts, self.targets, self.steps) = (operand, starts, counts, targets, steps)
    }

    /// All of an operand.
    public init(operand: Int, whole shape: Shape, targets: [Int], steps: [Int]? = nil) {
        let (zeros, ones) = (shape.dimensions.map { _ in 0 }, shape.dimensions.map { _ in 1 })
        self.init(operand: operand, starts: zeros, counts: shape.dimensions, targets: targets, steps: steps ?? ones)
    }

    /// Whether it is all of an operand of this shape.
    public func isWhole(_ shape: Shape) -> Bool { counts == shape.dimensions }

    /// Where the elements lie in a row-major result.
    public func layout(in result: Shape) -> StridedLayout {
        let strides = result.strides
        return StridedLayout(
            offset: zip(targets, strides).filter { $0.0 != 0 }.map { $1 * Extent($0) },
            strides: zip(steps, strides).map { $1 * Extent($0) })
    }

    /// The flat positions of the elements in a row-major operand, and in a row-major result, of these run-time shapes.
    func positions(_ operand: [Int], _ result: [Int]) -> (from: [Int32], to: [Int32]) {
        let (own, strides) = (rowMajorStrides(operand), rowMajorStrides(result))
        let counts = counts.map(\.coefficient)
        func offset(_ places: [Int], _ strides: [Int]) -> Int { zip(places, strides).reduce(0) { $0 + $1.0 * $1.1 } }
        return (
            affinePositions(counts, offset: offset(starts, own), strides: own),
            affinePositions(counts, offset: offset(targets, strides), strides: zip(steps, strides).map { $0 * $1 })
        )
    }
}

/// An operation that puts boxes of its operands together, each element of the result from one box at most, and computes nothing. Its boxes
/// give its meaning, its dependencies and its gradient; shape rule and boxes are all that it has to say.
public protocol AssemblyOperation: Operation {
    func boxes(_ operands: [Shape], result: Shape) -> [AssemblyBox]
    /// What stands where no box lies; `nil` where boxes cover the result.
    var fill: Double? { get }
}

extension AssemblyOperation {
    public var compilerRole: OperationRole { .assembly(self) }
    public var fill: Double? { nil }

    /// The boxes with the flat positions of their elements in operand and result, whose shapes are those of a run.
    fileprivate func moves(_ operands: [[Int]], _ result: [Int]) -> [(operand: Int, from: [Int32], to: [Int32])] {
        boxes(operands.map { Shape($0) }, result: Shape(result)).map { box in
            let (from, to) = box.positions(operands[box.operand], result)
            return (box.operand, from, to)
        }
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        var tables = context.inputs.map { _ in [Int32](repeating: -1, count: context.outputCount) }
        for (operand, from, to) in moves(context.inputShapes, context.outputShape) {
            let known = context.knownValues[operand]
            for (source, target) in zip(from, to) where known?.isKnown[Int(source)] != true {
                tables[operand][Int(target)] = source
            }
        }
        return tables.map { .table($0) }
    }

    public func knownValues(_ context: RelationContext) -> KnownValues? {
        guard fill != nil || context.knownValues.contains(where: { $0 != nil }) else { return nil }
        var result = KnownValues(
            isKnown: [Bool](repeating: fill != nil, count: context.outputCount),
            values: [Double](repeating: fill ?? 0, count: context.outputCount))
        for (operand, from, to) in moves(context.inputShapes, context.outputShape) {
            let known = context.knownValues[operand]
            for (source, target) in zip(from, to) {
                result.isKnown[Int(target)] = known?.isKnown[Int(source)] ?? false
                result.values[Int(target)] = known?.values[Int(source)] ?? 0
            }
        }
        return result.simplified
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        outputs[0] = Values(shape: outputs[0].shape, repeating: fill ?? 0)
        for (operand, from, to) in moves(inputs.map(\.shape), outputs[0].shape) {
            for (source, target) in zip(from, to) {
                outputs[0].elements[Int(target)] = inputs[operand].elements[Int(source)]
            }
        }
    }

    /// Each box of the gradient, put back where it came from.
    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return inputs.map { _ in nil } }
        var results = [Tensor?](repeating: nil, count: inputs.count)
        for box in boxes(inputs.map(\.shape), result: outputs[0].shape) {
            let shape = inputs[box.operand].shape
            let slice = Slice(starts: box.targets, steps: box.steps, counts: box.counts)
            let part = slice.isWhole(g.shape) ? g : Tensor(slice, [g], at: outputs[0].location)
            // The batch axis is always whole.
            let high = shape.dimensions.indices.map {
                shape[$0].isStatic ? shape[$0].coefficient - box.starts[$0] - box.counts[$0].coefficient : 0
            }
            let whole = part.padded(low: box.starts, high: high)
            results[box.operand] = results[box.operand].map { $0 + whole } ?? whole
        }
        return results
    }
}

extension Node {
    /// Whether it moves the elements of one operand and computes nothing.
    var isMovement: Bool {
        switch compilerRole {
        case .view: true
        case .assembly: inputs.count == 1
        default: false
        }
    }

    /// Of such an operation, in one example: for each element of the result the operand's flat position, negative where there is none.
    var sources: [Int32]? {
        let result = types[0].shape.resolved(batch: 1)
        switch compilerRole {
        case .view(let view): return view.sources(inputShape: inputs[0].shape.resolved(batch: 1), outputShape: result)
        case .assembly(let assembly) where inputs.count == 1:
            var table = [Int32](repeating: -1, count: result.reduce(1, *))
            for (_, from, to) in assembly.moves([inputs[0].shape.resolved(batch: 1)], result) {
                for (source, target) in zip(from, to) { table[Int(target)] = source }
            }
            return table
        default: return nil
        }
    }
}
