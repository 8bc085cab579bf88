import Graph

/// An opaque operation, on whole contiguous values. Each backend has one function for it.
public struct OperationGroup: GroupKind {
    public var operation: any Operation
    public var inputs: [Int]
    public var outputs: [Int]

    public init(operation: any Operation, inputs: [Int], outputs: [Int]) {
        self.operation = operation
        self.inputs = inputs
        self.outputs = outputs
    }
}

extension OperationGroup {
    public var reading: [Walk] { [] }
    public var writing: [Walk] { [] }
    public var wholeReads: [Int] { inputs }
    public var wholeWrites: [Int] { outputs }
    public var extents: [Extent] { [] }
}

/// An independent operation, each of whose elements is computed on its own from whole values, and the elementwise functions behind it:
/// `outputs = epilogue(element, epilogueInputs)`. Each backend has one function for it, which computes elements.
public struct ElementsGroup: GroupKind {
    public var operation: any Operation
    public var inputs: [Int]
    /// The result's type, whose axes are the group's.
    public var result: TensorType
    /// Over the result's axes.
    public var epilogueInputs: [Operand]
    /// Register 0 is the element; the others are `epilogueInputs`.
    public var epilogue: Program
    /// Over the result's axes.
    public var outputs: [Operand]

    public init(
        operation: any Operation, inputs: [Int], result: TensorType, epilogueInputs: [Operand], epilogue: Program,
        outputs: [Operand]
    ) {
        self.operation = operation
        self.inputs = inputs
        self.result = result
        self.epilogueInputs = epilogueInputs
        self.epilogue = epilogue
        self.outputs = outputs
    }
}

extension ElementsGroup {
    public var reading: [Walk] { [Walk(epilogueInputs, over: extents)] }
    public var writing: [Walk] { [Walk(outputs, over: extents)] }
    public var wholeReads: [Int] { inputs }
    public var extents: [Extent] { result.shape.dimensions }
}
