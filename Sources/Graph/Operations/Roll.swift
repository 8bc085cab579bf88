/// The elements moved along an axis by `shift` places; those that leave it at one end come in at the other, as `numpy.roll` has it.
public struct Roll: AssemblyOperation, Hashable {
    public let axis: Int
    /// How many places towards the end of the axis; negative towards its beginning.
    public let shift: Int

    public var name: String { "roll" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let shape = inputs[0].shape
        guard (0..<shape.rank).contains(axis), shape[axis].isStatic, shape[axis] != 0 else {
            throw GraphError(
                operation: name,
                message: "expected an axis with elements that is not the batch, found axis \(axis) of \(shape)")
        }
        return [inputs[0]]
    }

    /// The end of the axis in front, and the rest behind it.
    public func boxes(_ operands: [Shape], result: Shape) -> [AssemblyBox] {
        let shape = operands[0]
        let n = shape[axis].coefficient
        let moved = (shift % n + n) % n
        let zeros = [Int](repeating: 0, count: shape.rank)
        func box(from start: Int, count: Int, to target: Int) -> AssemblyBox {
            var (starts, counts, targets) = (zeros, shape.dimensions, zeros)
            (starts[axis], counts[axis], targets[axis]) = (start, Extent(count), target)
            return AssemblyBox(
                operand: 0, starts: starts, counts: counts, targets: targets, steps: zeros.map { _ in 1 })
        }
        if moved == 0 { return [box(from: 0, count: n, to: 0)] }
        return [box(from: n - moved, count: moved, to: 0), box(from: 0, count: n - moved, to: moved)]
    }

    public func simplified(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? {
        shift % inputs[0].shape[axis].coefficient == 0 ? inputs[0] : nil
    }
}

extension Tensor {
    /// The elements moved along an axis by `shift` places, round its end.
    public func rolled(axis: Int, by shift: Int, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        Tensor(Roll(axis: axis < 0 ? axis + shape.rank : axis, shift: shift), [self], at: SourceLocation(file, line))
    }
}
