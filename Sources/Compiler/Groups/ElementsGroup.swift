import Graph

/// An independent operation, each of whose elements is computed on its own from whole values, and the elementwise functions behind it:
/// `outputs = epilogue(element, epilogueInputs)`. Each backend has one function for it, which computes the element at a position.
public struct ElementsGroup: GroupKind {
    public var operation: any Operation
    /// The values of its operands.
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

extension ElementsGroup {
    /// The same as an elementwise group, whose program begins with a function of the element's flat position.
    ///
    /// - Parameter function: from an int32 position to the operation's element there.
    public func elementwise(_ function: ElementwiseFunction) -> ElementwiseGroup {
        // The element moves from the first register, where the position is now, behind the constants.
        let element = epilogue.inputs.count + epilogue.constants.count
        func moved(_ register: Int) -> Int { register == 0 ? element : register < element ? register : register + 1 }
        var program = epilogue
        program.inputs[0] = .int32
        program.instructions = [Program.Instruction(function, [0], result.element)]
        for instruction in epilogue.instructions {
            program.instructions.append(
                Program.Instruction(instruction.function, instruction.operands.map(moved), instruction.element))
        }
        program.outputs = epilogue.outputs.map(moved)
        let position = Operand(.position, strides: result.shape.strides, element: .int32)
        return ElementwiseGroup(
            iteration: extents, inputs: [position] + epilogueInputs, program: program, outputs: outputs)
    }

    /// A function for `elementwise` that backends run in their own way.
    ///
    /// - Parameter openCL: an expression of the position `$0`.
    public func elementFunction(openCL: String = "0") -> ElementwiseFunction {
        let type = result.element
        return ElementwiseFunction(
            operation.name, types: { _ in type }, meaning: .unary { _, _ in .nan }, gradient: { _, _, _ in [nil] },
            openCL: .single(openCL))
    }
}
