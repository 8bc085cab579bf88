import CPUKernels
import Compiler
import Graph

/// A program as a list of steps, one for each instruction that a kernel runs. Registers are those that no step makes (inputs, then
/// constants), followed by one for each step.
struct ProgramSteps {
    /// `from` is the type of the operands (of the values, for a select).
    struct Step {
        /// What it does in the graph, unless it was joined with others since, and the types of the operands that it has there.
        let meaning: ElementwiseFunction
        let types: [ElementType]
        /// The kernels' function; MARTLET_FUNCTION_COUNT where they have none.
        var function: martlet_function
        var operands: [Int]
        var from: ElementType
        var to: ElementType
        /// The register whose step writes this one beside its own.
        var writer: Int?
    }

    /// How many registers no step makes.
    let fixed: Int
    /// Those of them that hold zero.
    let zeros: [Int]
    var steps: [Step] = []
    /// The registers that leave the program.
    var outputs: [Int] = []

    /// Instructions that change nothing of a value become no step: their readers read what they were made from, and the kernels are
    /// spared a pass over the elements for each.
    init(_ program: Program) throws(CPUError) {
        fixed = program.inputs.count + program.constants.count
        zeros = program.constants.indices.filter { program.constants[$0].value == 0 }.map { program.inputs.count + $0 }
        // Registers of the schedule to registers of the kernels.
        var renamed = Array(0..<fixed)
        for instruction in program.instructions {
            guard instruction.operands.allSatisfy({ renamed.indices.contains($0) }),
                instruction.operands.count == instruction.function.operandCount
            else { throw CPUError.invalidSchedule("an instruction '\(instruction.function.name)' with wrong operands") }
            let operands = instruction.operands.map { renamed[$0] }
            if Self.onlyRenames(instruction, in: program) {
                renamed.append(operands[0])
            } else {
                renamed.append(fixed + steps.count)
                steps.append(Self.step(instruction, operands, in: program))
            }
        }
        guard fixed + steps.count <= Int(MARTLET_MAXIMUM_REGISTERS) else {
            throw CPUError.invalidSchedule(
                "a program of \(fixed + steps.count) registers (at most \(MARTLET_MAXIMUM_REGISTERS))")
        }
        guard program.outputs.allSatisfy({ renamed.indices.contains($0) }) else {
            throw CPUError.invalidSchedule("a program's output is not a register")
        }
        outputs = program.outputs.map { renamed[$0] }
    }

    /// Whether an instruction hands its operand on as it is.
    private static func onlyRenames(_ instruction: Program.Instruction, in program: Program) -> Bool {
        if let type = instruction.function.conversion { return type == program.element(of: instruction.operands[0]) }
        return instruction.function == .stopGradient
    }

    private static func step(_ instruction: Program.Instruction, _ operands: [Int], in program: Program) -> Step {
        Step(
            meaning: instruction.function, types: instruction.operands.map { program.element(of: $0) },
            function: instruction.function.kernels ?? MARTLET_FUNCTION_COUNT, operands: operands,
            from: program.element(of: instruction.operands[instruction.function == .select ? 1 : 0]),
            to: instruction.element)
    }

    /// The step that makes a register, if one does.
    func step(making register: Int) -> Step? { register < fixed ? nil : steps[register - fixed] }

    /// The steps in the form of the kernels.
    ///
    /// - Parameters:
    ///   - own: kernels of ours for some functions; every other function that has no C kernel runs by its meaning.
    ///   - kept: takes what has to live as long as the instructions.
    func instructions(
        _ registers: ProgramRegisters, _ instructionSet: InstructionSet, own: [ElementwiseFunction: any OwnKernel],
        kept: inout [OwnKernelBox]
    ) throws(CPUError) -> [martlet_instruction] {
        let reads = steps.reduce(0) { $0 + $1.operands.count }
        guard reads <= Int(MARTLET_MAXIMUM_READS) else {
            throw CPUError.invalidSchedule("a program that reads \(reads) registers (at most \(MARTLET_MAXIMUM_READS))")
        }
        var result: [martlet_instruction] = []
        for (index, step) in steps.enumerated() {
            var instruction = martlet_instruction()
            if step.writer == nil {
                if step.function != MARTLET_FUNCTION_COUNT {
                    instruction.kernel = martlet_find_kernel(
                        instructionSet.kernels, step.function, step.from.kernels, step.to.kernels)
                }
                if instruction.kernel == nil {
                    guard step.meaning.resultType(step.types) == step.to else {
                        throw CPUError.invalidSchedule(
                            "no kernel for \(step.meaning.name) from \(step.from) to \(step.to)")
                    }
                    Step.use(own[step.meaning] ?? MeaningKernel(step), in: &instruction, &kept)
                }
            }
            instruction.operandCount = Int32(step.operands.count)
            instruction.slot = Int32(registers.slots[index])
            instruction.directOutput = Int32(registers.directOutputs[index])
            withUnsafeMutableBytes(of: &instruction.operands) { bytes in
                let operands = bytes.bindMemory(to: Int32.self)
                for (k, operand) in step.operands.enumerated() { operands[k] = Int32(operand) }
            }
            result.append(instruction)
        }
        return result
    }
}
