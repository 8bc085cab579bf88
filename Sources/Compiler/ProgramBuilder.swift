import Graph

/// The builder for schedules, whose operands are affine views.
typealias ProgramBuilder = AnyProgramBuilder<Operand>
/// The builder for samplers, whose operands are tables.
typealias SamplerProgramBuilder = AnyProgramBuilder<SamplingProgram.Operand>

/// What a program builder has to know of an operand.
protocol ProgramOperand: Equatable {
    var element: ElementType { get }
}

extension Operand: ProgramOperand {}

/// Collects elementwise nodes into a `Program`, numbering registers at the end.
final class AnyProgramBuilder<Operand: ProgramOperand> {
    private enum Register {
        case input(Int)
        case constant(Int)
        case instruction(Int)
    }

    private let anchors: [Tensor]
    /// The operands behind the input registers, without the anchors'.
    private(set) var operands: [Operand] = []
    private var constants: [Program.Constant] = []
    private var instructions: [(function: ElementwiseFunction, operands: [Tensor], element: ElementType)] = []
    private var registers: [Tensor: Register] = [:]

    /// - Parameter anchors: the tensors whose elements arrive in the first registers, computed by the group's product or reduction.
    init(anchors: [Tensor] = []) {
        self.anchors = anchors
        for (index, anchor) in anchors.enumerated() { registers[anchor] = .input(index) }
    }

    func has(_ tensor: Tensor) -> Bool { registers[tensor] != nil }

    func addOperand(_ tensor: Tensor, _ operand: Operand) {
        let known = operands.firstIndex(of: operand)
        if known == nil { operands.append(operand) }
        registers[tensor] = .input(anchors.count + (known ?? operands.count - 1))
    }

    func addConstant(_ tensor: Tensor, _ value: Double) {
        let constant = Program.Constant(value, tensor.elementType)
        let known = constants.firstIndex(of: constant)
        if known == nil { constants.append(constant) }
        registers[tensor] = .constant(known ?? constants.count - 1)
    }

    func add(_ node: Node) {
        guard let function = node.elementwise else { return }
        registers[Tensor(node)] = .instruction(instructions.count)
        instructions.append((function, node.inputs, node.types[0].element))
    }

    func program(_ outputs: [Tensor]) -> Program {
        let inputs = anchors.map(\.elementType) + operands.map(\.element)
        func number(_ tensor: Tensor) -> Int {
            switch registers[tensor]! {
            case .input(let i): i
            case .constant(let i): inputs.count + i
            case .instruction(let i): inputs.count + constants.count + i
            }
        }
        return Program(
            inputs: inputs, constants: constants,
            instructions: instructions.map { Program.Instruction($0.function, $0.operands.map(number), $0.element) },
            outputs: outputs.map(number))
    }
}

extension Program {
    /// The outputs for one element, in double precision.
    func evaluate(_ inputs: [Double]) -> [Double] {
        var registers = inputs + constants.map(\.value)
        for instruction in instructions {
            registers.append(
                instruction.function(
                    instruction.operands.map { registers[$0] }, element(of: instruction.operands[0])))
        }
        return outputs.map { registers[$0] }
    }
}
