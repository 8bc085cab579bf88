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

/// A program in the form that the C kernels run: kernels looked up, registers laid out in reusable chunks.
final class CompiledProgram {
    let pointer: UnsafeMutablePointer<martlet_program>
    private let tables = PlanMemory()

    /// - Parameters:
    ///   - inputs: the value that each input reads, if any; what an output writes directly must not be read afterwards.
    ///   - outputs: the value that each output writes, if any.
    init(_ program: Program, inputs: [Int?], outputs: [Int?], instructionSet: InstructionSet) throws(CPUError) {
        let builder = try ProgramBuilder(program, inputs: inputs, outputs: outputs, instructionSet: instructionSet)
        pointer = .allocate(capacity: 1)
        let inputElements = keep(program.inputs.map { Int32($0.kernels.rawValue) })
        let constants = keep(program.constants.map(Self.bits))
        let instructions = keep(builder.instructions)
        let registers = keep(builder.outputRegisters.map { Int32($0) })
        let outputElements = keep(program.outputs.map { Int32(program.element(of: $0).kernels.rawValue) })
        pointer.initialize(
            to: martlet_program(
                inputCount: Int32(program.inputs.count), constantCount: Int32(program.constants.count),
                instructionCount: Int32(builder.instructions.count), outputCount: Int32(program.outputs.count),
                slotCount: Int32(builder.slotCount), slotBytes: Int32(builder.slotBytes), inputElements: inputElements,
                constants: constants, instructions: instructions, outputs: registers, outputElements: outputElements))
    }

    deinit { pointer.deallocate() }

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

/// An instruction as the kernels know it; `from` is the type of its operands (of the values, for a select).
private struct Step {
    /// As it is called in messages.
    let name: String
    var function: martlet_function
    var operands: [Int]
    var from: ElementType
    var to: ElementType
    /// The register whose step writes this one beside its own.
    var writer: Int?
}

/// Lays out the registers of a program: results share chunks once they are no longer read.
private struct ProgramBuilder {
    var instructions: [martlet_instruction] = []
    /// Registers as the kernels number them.
    var outputRegisters: [Int] = []
    var slotCount: Int
    var slotBytes: Int

    init(_ program: Program, inputs: [Int?], outputs: [Int?], instructionSet: InstructionSet) throws(CPUError) {
        let fixed = program.inputs.count + program.constants.count
        guard inputs.count == program.inputs.count, outputs.count == program.outputs.count else {
            throw CPUError.invalidSchedule("a program's inputs and outputs do not match its group's operands")
        }
        guard max(inputs.count, outputs.count) <= Int(MARTLET_MAXIMUM_PORTS) else {
            throw CPUError.invalidSchedule(
                "a group with \(max(inputs.count, outputs.count)) operands (at most \(MARTLET_MAXIMUM_PORTS))")
        }
        // Registers of the schedule to registers of the kernels: some instructions only rename.
        var renamed = Array(0..<fixed)
        var steps: [Step] = []
        for instruction in program.instructions {
            guard instruction.operands.allSatisfy({ renamed.indices.contains($0) }),
                instruction.operands.count == instruction.function.operandCount
            else { throw CPUError.invalidSchedule("an instruction '\(instruction.function.name)' with wrong operands") }
            let operands = instruction.operands.map { renamed[$0] }
            var renames = instruction.function == .stopGradient
            if let type = instruction.function.conversion, type == program.element(of: instruction.operands[0]) {
                renames = true
            }
            if renames {
                renamed.append(operands[0])
            } else {
                guard let function = instruction.function.kernels else {
                    throw CPUError.invalidSchedule("no kernel for \(instruction.function.name)")
                }
                let from = program.element(of: instruction.operands[instruction.function == .select ? 1 : 0])
                steps.append(
                    Step(
                        name: instruction.function.name, function: function, operands: operands, from: from,
                        to: instruction.element))
                renamed.append(fixed + steps.count - 1)
            }
        }
        guard fixed + steps.count <= Int(MARTLET_MAXIMUM_REGISTERS) else {
            throw CPUError.invalidSchedule(
                "a program of \(fixed + steps.count) registers (at most \(MARTLET_MAXIMUM_REGISTERS))")
        }
        guard program.outputs.allSatisfy({ renamed.indices.contains($0) }) else {
            throw CPUError.invalidSchedule("a program's output is not a register")
        }
        outputRegisters = program.outputs.map { renamed[$0] }
        Self.join(&steps, outputs: &outputRegisters, fixed: fixed)
        Self.joinMoments(&steps, outputs: &outputRegisters, fixed: fixed)
        let zeros = program.constants.indices.filter { program.constants[$0].value == 0 }.map { inputs.count + $0 }
        Self.joinCondition(&steps, fixed: fixed, zeros: zeros)

        let reads = steps.reduce(0) { $0 + $1.operands.count }
        guard reads <= Int(MARTLET_MAXIMUM_READS) else {
            throw CPUError.invalidSchedule("a program that reads \(reads) registers (at most \(MARTLET_MAXIMUM_READS))")
        }

        var lastUse = [Int](repeating: -1, count: fixed + steps.count)
        for (index, entry) in steps.enumerated() {
            for operand in entry.operands { lastUse[operand] = index }
        }
        for register in outputRegisters { lastUse[register] = steps.count }

        // An output is written where it is made, unless an input of the same value is still to be read.
        var direct = [Int](repeating: -1, count: steps.count)
        for (output, register) in outputRegisters.enumerated() where register >= fixed {
            let index = register - fixed
            let made = (steps[index].writer ?? register) - fixed
            let isRead = inputs.indices.contains {
                inputs[$0] != nil && inputs[$0] == outputs[output] && lastUse[$0] > made
            }
            if direct[index] < 0, !isRead { direct[index] = output }
        }

        slotCount = inputs.count
        var free: [Int] = []
        var slots = [Int](repeating: 0, count: fixed + steps.count)
        var widest = program.inputs.map(\.byteCount).max() ?? 1
        for (index, entry) in steps.enumerated() {
            let register = fixed + index
            widest = max(widest, entry.to.byteCount)
            // Chosen before the operands are freed: a kernel that widens must not overtake its source.
            if let slot = free.popLast() {
                slots[register] = slot
            } else {
                slots[register] = slotCount
                slotCount += 1
            }
            for operand in Set(entry.operands) where operand >= fixed && lastUse[operand] == index {
                free.append(slots[operand])
            }
            if lastUse[register] < 0 { free.append(slots[register]) }

            var compiled = martlet_instruction()
            if entry.writer == nil {
                compiled.kernel = martlet_find_kernel(
                    instructionSet.kernels, entry.function, entry.from.kernels, entry.to.kernels)
                if compiled.kernel == nil {
                    throw CPUError.invalidSchedule("no kernel for \(entry.name) from \(entry.from) to \(entry.to)")
                }
            }
            compiled.operandCount = Int32(entry.operands.count)
            compiled.slot = Int32(slots[register])
            compiled.directOutput = Int32(direct[index])
            withUnsafeMutableBytes(of: &compiled.operands) { bytes in
                let operands = bytes.bindMemory(to: Int32.self)
                for (k, operand) in entry.operands.enumerated() { operands[k] = Int32(operand) }
            }
            instructions.append(compiled)
        }
        slotBytes = Int(MARTLET_CHUNK) * widest
    }

    /// Joins steps that one kernel does in one pass over the elements, each with the rounding that it would have had alone.
    private static func join(_ steps: inout [Step], outputs: inout [Int], fixed: Int) {
        var uses = [Int](repeating: 0, count: fixed + steps.count)
        for register in steps.flatMap(\.operands) + outputs { uses[register] += 1 }
        var isJoined = [Bool](repeating: false, count: steps.count)
        /// The operands of a step that makes a register for one reader alone.
        func parts(_ register: Int, _ function: martlet_function) -> [Int]? {
            guard register >= fixed, uses[register] == 1 else { return nil }
            let step = steps[register - fixed]
            return step.function == function ? step.operands : nil
        }
        for index in steps.indices.reversed() where steps[index].to == .float32 && !isJoined[index] {
            let step = steps[index]
            var joined: (function: martlet_function, operands: [Int], inner: [Int])?
            switch step.function {
            case MARTLET_SUBTRACT:
                let quotient = step.operands[1]
                guard let ratio = parts(quotient, MARTLET_DIVIDE), let product = parts(ratio[0], MARTLET_MULTIPLY),
                    let sum = parts(ratio[1], MARTLET_ADD), let scaled = parts(sum[0], MARTLET_MULTIPLY),
                    let root = parts(scaled[0], MARTLET_SQRT)
                else { continue }
                joined = (
                    MARTLET_DAMPED_STEP, [step.operands[0], product[0], product[1], root[0], scaled[1], sum[1]],
                    [quotient, ratio[0], ratio[1], sum[0], scaled[0]]
                )
            case MARTLET_RELU:
                if let sum = parts(step.operands[0], MARTLET_ADD) {
                    joined = (MARTLET_RECTIFIED_SUM, sum, [step.operands[0]])
                }
            case MARTLET_ADD, MARTLET_MULTIPLY:
                let (a, b) = (step.operands[0], step.operands[1])
                let twice = step.function == MARTLET_ADD ? MARTLET_ADD_ADD : MARTLET_MULTIPLY_MULTIPLY
                if step.function == MARTLET_ADD, a != b, let left = parts(a, MARTLET_MULTIPLY),
                    let right = parts(b, MARTLET_MULTIPLY)
                {
                    joined = (MARTLET_BLEND, left + right, [a, b])
                } else if let inner = parts(a, step.function) {
                    joined = (twice, inner + [b], [a])
                } else if let inner = parts(b, step.function) {
                    joined = (twice, inner + [a], [b])
                }
            default: continue
            }
            guard let joined else { continue }
            steps[index].function = joined.function
            steps[index].operands = joined.operands
            for register in joined.inner { isJoined[register - fixed] = true }
        }
        remove(isJoined, from: &steps, outputs: &outputs, fixed: fixed)
    }

    /// Joins the steps of Adam: the moments and the weight that they move, in one pass over the elements. It runs behind every
    /// weight gradient, where four kernels, each with its pass over the first-level cache, would cost as much as memory does.
    private static func joinMoments(_ steps: inout [Step], outputs: inout [Int], fixed: Int) {
        var uses = [Int](repeating: 0, count: fixed + steps.count)
        for register in steps.flatMap(\.operands) { uses[register] += 1 }
        var isJoined = [Bool](repeating: false, count: steps.count)
        func blend(_ register: Int) -> [Int]? {
            guard register >= fixed, uses[register] == 1, steps[register - fixed].function == MARTLET_BLEND else {
                return nil
            }
            return steps[register - fixed].operands
        }
        for index in steps.indices where steps[index].function == MARTLET_DAMPED_STEP {
            let step = steps[index].operands
            let (value, second) = (step[0], step[3])
            let (first, rate) = blend(step[1]) != nil ? (step[1], step[2]) : (step[2], step[1])
            guard first != second, let moment = blend(first), var power = blend(second) else { continue }
            /// The square of one register, read here alone.
            func isSquare(_ register: Int) -> Bool {
                guard register >= fixed, uses[register] == 1, !outputs.contains(register) else { return false }
                let square = steps[register - fixed]
                return square.function == MARTLET_MULTIPLY && square.operands[0] == square.operands[1]
            }
            guard let place = power.indices.last(where: { isSquare(power[$0]) }) else { continue }
            if place < 2 { power = [power[2], power[3], power[0], power[1]] }
            if place % 2 == 0 { power.swapAt(2, 3) }
            let square = power[3] - fixed
            steps[index].function = MARTLET_MOMENTS_STEP
            steps[index].operands =
                moment + [
                    power[0], power[1], power[2], steps[square].operands[0], value, rate, step[4], step[5], first,
                    second,
                ]
            for register in [first, second] {
                steps[register - fixed].operands = []
                steps[register - fixed].writer = fixed + index
            }
            isJoined[square] = true
        }
        remove(isJoined, from: &steps, outputs: &outputs, fixed: fixed)
    }

    /// Joins a rectified sum with the condition under which its gradient passes, which is wanted behind every product that a
    /// rectified layer is trained with.
    private static func joinCondition(_ steps: inout [Step], fixed: Int, zeros: [Int]) {
        for index in steps.indices where steps[index].function == MARTLET_LESS && steps[index].from == .float32 {
            let sum = steps[index].operands[1]
            // The sum is written by the later of the two, so nothing may read it in between.
            guard zeros.contains(steps[index].operands[0]), sum >= fixed,
                steps[sum - fixed].function == MARTLET_RECTIFIED_SUM, steps[sum - fixed].writer == nil,
                !steps[sum - fixed..<index].contains(where: { $0.operands.contains(sum) })
            else { continue }
            steps[index].function = MARTLET_RECTIFIED_CONDITION
            steps[index].operands = steps[sum - fixed].operands + [sum]
            steps[sum - fixed].operands = []
            steps[sum - fixed].writer = fixed + index
        }
    }

    /// Takes steps out whose registers nothing reads any more.
    private static func remove(_ isJoined: [Bool], from steps: inout [Step], outputs: inout [Int], fixed: Int) {
        var places = Array(0..<fixed)
        var next = fixed
        for joined in isJoined {
            places.append(next)
            next += joined ? 0 : 1
        }
        steps = steps.indices.filter { !isJoined[$0] }.map { index in
            var step = steps[index]
            step.operands = step.operands.map { places[$0] }
            step.writer = step.writer.map { places[$0] }
            return step
        }
        outputs = outputs.map { places[$0] }
    }
}
