import CPUKernels
import Compiler
import Graph

/// Where the results of a program's steps lie. Work space is a row of slots, each a chunk of elements; the first belong to the inputs.
struct ProgramRegisters {
    /// Of each step.
    private(set) var slots: [Int] = []
    /// The output that a step writes directly, or -1.
    let directOutputs: [Int]
    private(set) var slotCount: Int
    let slotBytes: Int

    /// - Parameters:
    ///   - inputs: the value that each input reads, if any.
    ///   - outputs: the value that each output writes, if any.
    init(_ program: ProgramSteps, inputs: [Int?], inputElements: [ElementType], outputs: [Int?]) {
        let lastUse = Self.lastUses(program)
        directOutputs = Self.directOutputs(program, lastUse, inputs: inputs, outputs: outputs)
        let elements = inputElements + program.steps.map(\.to)
        slotBytes = Int(MARTLET_CHUNK) * (elements.map(\.byteCount).max() ?? 1)
        slotCount = inputs.count
        shareSlots(program, lastUse)
    }

    /// For each register the last step that reads it: -1 if none does, the count of steps if it leaves the program.
    private static func lastUses(_ program: ProgramSteps) -> [Int] {
        var lastUse = [Int](repeating: -1, count: program.fixed + program.steps.count)
        for (index, step) in program.steps.enumerated() {
            for operand in step.operands { lastUse[operand] = index }
        }
        for register in program.outputs { lastUse[register] = program.steps.count }
        return lastUse
    }

    /// An output is written where it is made, which spares a copy, unless an input of the same value is still to be read.
    private static func directOutputs(
        _ program: ProgramSteps, _ lastUse: [Int], inputs: [Int?], outputs: [Int?]
    ) -> [Int] {
        var direct = [Int](repeating: -1, count: program.steps.count)
        for (output, register) in program.outputs.enumerated() where register >= program.fixed {
            let index = register - program.fixed
            let made = (program.steps[index].writer ?? register) - program.fixed
            let isRead = inputs.indices.contains {
                inputs[$0] != nil && inputs[$0] == outputs[output] && lastUse[$0] > made
            }
            if direct[index] < 0, !isRead { direct[index] = output }
        }
        return direct
    }

    /// Results share slots once they are no longer read, so that a chunk of all registers stays in the first-level cache.
    private mutating func shareSlots(_ program: ProgramSteps, _ lastUse: [Int]) {
        var free: [Int] = []
        for (index, step) in program.steps.enumerated() {
            // Chosen before the operands are freed: a kernel that widens must not overtake its source.
            if let slot = free.popLast() {
                slots.append(slot)
            } else {
                slots.append(slotCount)
                slotCount += 1
            }
            for operand in Set(step.operands).sorted() where operand >= program.fixed && lastUse[operand] == index {
                free.append(slots[operand - program.fixed])
            }
            if lastUse[program.fixed + index] < 0 { free.append(slots[index]) }
        }
    }
}
