import Graph

/// `outputs[j][i] = program(inputs[..][i])` for every index `i` of the iteration space. An output may be the same element
/// of the same value as an input (an update in place), never another element of it. Copies, concatenation and padding are
/// identity programs whose operands have offsets.
public struct ElementwiseGroup: GroupKind {
    public var iteration: [Extent]
    public var inputs: [Operand]
    public var program: Program
    /// One for each program output, over `iteration`.
    public var outputs: [Operand]

    public init(iteration: [Extent], inputs: [Operand], program: Program, outputs: [Operand]) {
        self.iteration = iteration
        self.inputs = inputs
        self.program = program
        self.outputs = outputs
    }
}

extension ElementwiseGroup {
    public var reading: [Walk] { [Walk(inputs, over: iteration)] }
    public var writing: [Walk] { [Walk(outputs, over: iteration)] }
    public var extents: [Extent] { iteration }
    public var readsOnce: Bool { true }
}
