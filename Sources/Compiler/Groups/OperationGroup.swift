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
