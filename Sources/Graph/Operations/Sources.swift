/// A tensor that the program is given: fed at every run, or kept on the device between runs.
public struct Placeholder: Operation, Hashable {
    public enum Role: Hashable, Sendable { case input, state }

    public let label: String
    public let role: Role
    public let type: TensorType

    public var name: String { label }
    public var compilerRole: OperationRole { .source(.placeholder) }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] { [type] }
    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] { [] }
    public func relations(_ context: RelationContext) -> [Relation] { [] }
    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {}
}

/// An array that is part of the program.
public struct Constant: Operation, Hashable {
    public let array: HostArray
    /// What a literal stands for before it is rounded to the array's type: beside a tensor of another type it takes that one's.
    public let literal: Double?

    public init(array: HostArray, literal: Double? = nil) {
        self.array = array
        self.literal = literal
    }

    public var name: String { "constant" }
    public var compilerRole: OperationRole { .source(.constant(array)) }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        [TensorType(Shape(array.shape), array.type)]
    }
    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] { [] }
    public func relations(_ context: RelationContext) -> [Relation] { [] }
    public func knownValues(_ context: RelationContext) -> KnownValues? { KnownValues(constants: array.doubles) }
    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        outputs[0].elements = array.doubles
    }
}

/// int32 element `offset + sum(strides[a] * i_a)` at index `i`: counters along axes, and the size of the batch.
public struct Position: Operation, Hashable {
    public let shape: Shape
    public let offset: Extent
    public let strides: [Int]

    public init(shape: Shape, offset: Extent = 0, strides: [Int]) {
        self.shape = shape
        self.offset = offset
        self.strides = strides
    }

    public var name: String { "position" }
    public var compilerRole: OperationRole { .source(.position(self)) }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] { [TensorType(shape, .int32)] }
    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] { [] }
    public func relations(_ context: RelationContext) -> [Relation] { [] }
    public func knownValues(_ context: RelationContext) -> KnownValues? {
        // What is known holds for every example of batches of any size.
        let countsExamples = zip(shape.dimensions, strides).contains { !$0.isStatic && $1 != 0 }
        return offset.isStatic && !countsExamples ? KnownValues(constants: positions(batch: context.batch)) : nil
    }
    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        outputs[0].elements = positions(batch: context.batch)
    }

    private func positions(batch: Int) -> [Double] {
        affinePositions(shape.resolved(batch: batch), offset: offset.resolved(batch: batch), strides: strides).map {
            Double($0)
        }
    }
}

extension Tensor {
    /// A tensor that is fed at every run.
    public static func input(
        _ name: String, _ shape: Shape, _ element: ElementType = .float32, file: StaticString = #fileID,
        line: UInt = #line
    ) -> Tensor {
        Tensor(
            Placeholder(label: name, role: .input, type: TensorType(shape, element)), [], at: SourceLocation(file, line)
        )
    }

    /// A tensor that stays on the device between runs: a parameter, a moment, a counter.
    public static func state(
        _ name: String, _ shape: Shape, _ element: ElementType = .float32, file: StaticString = #fileID,
        line: UInt = #line
    ) -> Tensor {
        Tensor(
            Placeholder(label: name, role: .state, type: TensorType(shape, element)), [], at: SourceLocation(file, line)
        )
    }

    public static func constant(_ array: HostArray, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        Tensor(Constant(array: array), [], at: SourceLocation(file, line))
    }

    /// A scalar of any element type.
    public static func scalar(_ value: Double, _ element: ElementType = .float32) -> Tensor {
        Tensor(Constant(array: HostArray(Values(shape: [], elements: [value]), as: element), literal: value), [])
    }

    /// `0, 1, 2, ..` along `axis` of `shape`, int32.
    public static func iota(_ shape: Shape, axis: Int) -> Tensor {
        let axis = axis < 0 ? axis + shape.rank : axis
        return Tensor(Position(shape: shape, offset: 0, strides: (0..<shape.rank).map { $0 == axis ? 1 : 0 }), [])
    }

    /// An extent as an int32 scalar, so that a mean over the batch divides by what the batch really holds.
    public static func extent(_ extent: Extent) -> Tensor {
        Tensor(Position(shape: .scalar, offset: extent, strides: []), [])
    }

    /// The placeholder's name and role, if this is one.
    public var placeholder: Placeholder? { node.isPlaceholder ? node.operation as? Placeholder : nil }
}
