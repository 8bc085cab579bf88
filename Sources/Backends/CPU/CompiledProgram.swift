import CPUKernels
import Compiler
import Graph

extension ElementType {
    var kernels: martlet_element {
        switch self {
        case .float32: MARTLET_FLOAT32
        case .float64: MARTLET_FLOAT64
        case .int32: MARTLET_INT32
        case .uint8: MARTLET_UINT8
        case .bool: MARTLET_BOOL
        }
    }
}

extension ElementwiseFunction {
    /// The kernels' function of the same name, if there is one.
    var kernels: martlet_function? {
        let function = martlet_function_named(conversion == nil ? name : "cast")
        return function == MARTLET_FUNCTION_COUNT ? nil : function
    }
}

/// A program in the form that the C kernels run: its instructions become steps (`ProgramSteps`), steps that one kernel does in one pass
/// are joined (`ProgramFusion`), and registers are laid out in reusable chunks (`ProgramRegisters`).
final class CompiledProgram {
    let pointer: UnsafeMutablePointer<martlet_program>
    private let tables = PlanMemory()
    /// The kernels that instructions run beside those in C.
    private var kept: [OwnKernelBox] = []

    /// - Parameters:
    ///   - inputs: the value that each input reads, if any; what an output writes directly must not be read afterwards.
    ///   - outputs: the value that each output writes, if any.
    ///   - own: kernels of ours for some functions.
    init(
        _ program: Program, inputs: [Int?], outputs: [Int?], instructionSet: InstructionSet,
        own: [ElementwiseFunction: any OwnKernel] = [:]
    ) throws(CPUError) {
        try Self.check(program, inputs: inputs, outputs: outputs)
        var steps = try ProgramSteps(program)
        steps.fuse()
        let registers = ProgramRegisters(
            steps, inputs: inputs, inputElements: program.inputs, outputs: outputs)
        let instructions = try steps.instructions(registers, instructionSet, own: own, kept: &kept)
        pointer = .allocate(capacity: 1)
        let inputElements = keep(program.inputs.map { Int32($0.kernels.rawValue) })
        let outputElements = keep(program.outputs.map { Int32(program.element(of: $0).kernels.rawValue) })
        pointer.initialize(
            to: martlet_program(
                inputCount: Int32(program.inputs.count), constantCount: Int32(program.constants.count),
                instructionCount: Int32(instructions.count), outputCount: Int32(program.outputs.count),
                slotCount: Int32(registers.slotCount), slotBytes: Int32(registers.slotBytes),
                inputElements: inputElements, constants: keep(program.constants.map(Self.bits)),
                instructions: keep(instructions), outputs: keep(steps.outputs.map { Int32($0) }),
                outputElements: outputElements))
    }

    deinit { pointer.deallocate() }

    private static func check(_ program: Program, inputs: [Int?], outputs: [Int?]) throws(CPUError) {
        guard inputs.count == program.inputs.count, outputs.count == program.outputs.count else {
            throw CPUError.invalidSchedule("a program's inputs and outputs do not match its group's operands")
        }
        guard max(inputs.count, outputs.count) <= Int(MARTLET_MAXIMUM_PORTS) else {
            throw CPUError.invalidSchedule(
                "a group with \(max(inputs.count, outputs.count)) operands (at most \(MARTLET_MAXIMUM_PORTS))")
        }
    }

    private func keep<T>(_ values: [T]) -> UnsafePointer<T> { UnsafePointer(tables.keep(values)) }

    private static func bits(_ constant: Program.Constant) -> UInt64 {
        switch constant.element {
        case .float32: UInt64(Float(constant.value).bitPattern)
        case .float64: constant.value.bitPattern
        case .int32: UInt64(UInt32(bitPattern: Int32(saturating: constant.value)))
        case .uint8: UInt64(UInt8(clamping: Int32(saturating: constant.value)))
        case .bool: constant.value != 0 ? 1 : 0
        }
    }
}

extension Int32 {
    /// Truncated toward zero; the nearest that fits, and zero for NaN.
    init(saturating value: Double) {
        self = value.isNaN ? 0 : value >= Double(Int32.max) ? .max : value <= Double(Int32.min) ? .min : Int32(value)
    }
}
