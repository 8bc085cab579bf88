import Compiler
import Graph

/// A sampling program as the tables that Kernels/sampler.cl interprets, and that kernel's text.
///
/// The text depends on the model only through the instructions that its programs are made of, because a compiler's time
/// grows steeply with the loops of one kernel.
struct SamplerTables {
    let program: SamplingProgram
    let family: KernelFamily
    /// All tables, one after another, behind the header.
    private(set) var words: [Int32]
    /// Shared values in the order of the kernel's pointers, and values with a lane for every example.
    private(set) var pointers: [Int] = []
    private(set) var laneValues: [Int] = []
    private(set) var usesRandom = false
    private var registerCount = 1
    private var codes: [Code] = []
    /// Programs' constants and instructions that are already there.
    private var known: [[Int32]: Int] = [:]

    static let lanesPerGroup = 16

    /// A case of the interpreter: a function of operands of some types.
    private struct Code: Hashable {
        let function: ElementwiseFunction
        let operands: [ElementType]
        let result: ElementType
    }

    private enum Header: Int {
        case works, workCount, steps, kinds, places, placeCount, groupStart, group, variable, drawn
        static let count = 10
    }

    init(_ program: SamplingProgram, family: KernelFamily) throws {
        guard program.values.allSatisfy({ $0.element != .float64 }) else {
            throw OpenCLError.unsupported("a sampler in float64: use `--device cpu` for double precision")
        }
        self.program = program
        self.family = family
        words = [Int32](repeating: 0, count: Header.count)
        for id in program.values.indices {
            if isLane(id) { laneValues.append(id) } else { pointers.append(id) }
        }
        let works = program.works.flatMap { work($0) }
        let header: [(Header, Int)] = [
            (.works, add(works)), (.workCount, program.works.count), (.steps, program.stepCount),
            (.kinds, add(program.values.indices.map { kind($0) })),
            (.places, add(laneValues.flatMap { [Int32($0), 0] })), (.placeCount, laneValues.count),
            (.groupStart, add(program.groups.reduce(into: [Int32(0)]) { $0.append($0.last! + Int32($1.count)) })),
            (.group, add(program.groups.flatMap { $0 })), (.variable, program.variable), (.drawn, program.drawn),
        ]
        for (field, value) in header { words[field.rawValue] = Int32(value) }
    }

    /// What the program writes has a lane for every example, also where all are equal.
    private func isLane(_ id: Int) -> Bool {
        switch program.values[id].storage {
        case .temporary, .variable: true
        case .input: !program.values[id].isShared
        case .state, .constant: false
        }
    }

    private func kind(_ id: Int) -> Int32 {
        (program.values[id].element.byteCount == 1 ? 2 : 0) + (isLane(id) ? 1 : 0)
    }

    /// Says where the lane value at `place` in `laneValues` lies, in units of 64 bytes.
    mutating func setPlace(_ place: Int, _ unit: Int) {
        words[Int(words[Header.places.rawValue]) + 2 * place + 1] = Int32(unit)
    }

    private mutating func add(_ table: [Int32]) -> Int {
        defer { words += table }
        return words.count
    }

    private mutating func addOnce(_ table: [Int32]) -> Int {
        if let place = known[table] { return place }
        let place = add(table)
        known[table] = place
        return place
    }

    /// A `martlet_work`.
    private mutating func work(_ work: SamplingProgram.Work) -> [Int32] {
        var (anchor, a, aBase, b, bBase) = (0, 0, (0, 0), 0, (0, 0))
        var (aStride, bStride, row, rowStart, segments, offsets, offsetCount) = (0, 0, 0, 0, 0, 0, 0)
        switch work.anchor {
        case .none: break
        case .product(let p):
            anchor = 1
            // Lanes first, then what may be shared.
            let isSwapped = !isLane(p.a) && isLane(p.b)
            (a, aBase, aStride) = (p.a, place(p.aBase), p.aStride)
            (b, bBase, bStride) = (p.b, place(p.bBase), p.bStride)
            if isSwapped { (a, aBase, aStride, b, bBase, bStride) = (b, bBase, bStride, a, aBase, aStride) }
            row = addOnce(p.row)
            rowStart = addOnce(p.rows.reduce(into: [Int32(0)]) { $0.append($0.last! + Int32($1.count)) })
            segments = addOnce(
                p.rows.flatMap { $0.flatMap { isSwapped ? [$0.b, $0.a, $0.count] : [$0.a, $0.b, $0.count] } })
        case .reduction(let r):
            anchor =
                switch r.kind {
                case .sum: 2
                case .maximum: 3
                case .minimum: 4
                }
            (a, aBase) = (r.value, place(r.base))
            (offsets, offsetCount) = (addOnce(r.offsets), r.offsets.count)
        }
        let operands = work.operands.flatMap { operand -> [Int32] in
            let (table, channelStride) = place(operand.table)
            switch operand.source {
            case .value(let id): return [Int32(id), Int32(table), Int32(channelStride), 0]
            case .position(let stride): return [-1, Int32(table), Int32(channelStride), Int32(stride)]
            }
        }
        let constants = work.program.constants.map { ProgramText.bits($0) }
        let inputs = work.program.inputs.count + constants.count
        let instructions = work.program.instructions.enumerated().flatMap { index, instruction -> [Int32] in
            let code = Code(
                function: instruction.function, operands: instruction.operands.map { work.program.element(of: $0) },
                result: instruction.element)
            if !codes.contains(code) { codes.append(code) }
            let registers = instruction.operands.map { Int32($0) }
            return [Int32(codes.firstIndex(of: code)!)] + registers
                + [Int32](repeating: 0, count: 6 - registers.count) + [Int32(inputs + index)]
        }
        registerCount = max(registerCount, inputs + work.program.instructions.count)
        usesRandom = usesRandom || ProgramText.usesRandom(work.program)
        let outputs = work.outputs.indices.flatMap { index -> [Int32] in
            let (table, channelStride) = place(work.targets[index])
            return [Int32(work.outputs[index]), Int32(table), Int32(channelStride), Int32(work.program.outputs[index])]
        }
        return [
            anchor, work.channels, addOnce(work.stepStart), addOnce(work.order),
            a, aBase.0, aStride, aBase.1, b, bBase.0, bStride, bBase.1, row, rowStart, segments, offsets, offsetCount,
            work.operands.count, addOnce(operands), constants.count, addOnce(constants),
            work.program.instructions.count, addOnce(instructions), work.outputs.count, addOnce(outputs),
        ].map { Int32($0) }
    }

    private mutating func place(_ table: SamplingProgram.Table) -> (table: Int, channelStride: Int) {
        (addOnce(table.positions), table.channelStride)
    }

    /// The kernel: definitions, then Kernels/sampler.cl with the cases of the interpreter.
    func source() throws -> String {
        let pointers = pointers.map { ", __global uchar* v\($0)" }.joined()
        let set = self.pointers.map { "values[\($0)] = v\($0);" }.joined(separator: " ")
        // Rounded, so that models of one kind share a text.
        let registers = (registerCount + 31) / 32 * 32
        return """
            #define MARTLET_WIDTH \(family == .cpu ? 16 : 1)
            #define MARTLET_VALUES \(program.values.count)
            #define MARTLET_REGISTERS \(registers)
            #define MARTLET_POINTERS \(pointers)
            #define MARTLET_SET_POINTERS \(set)

            """ + KernelText.sampler(cases: try codes.indices.map { try text($0) }.joined())
    }

    /// Sixteen lanes at once where the function allows it; random numbers are drawn one by one.
    private func text(_ index: Int) throws -> String {
        let code = codes[index]
        let one = Program(
            inputs: code.operands,
            instructions: [Program.Instruction(code.function, Array(code.operands.indices), code.result)],
            outputs: [code.operands.count])
        let width = family == .cpu && !ProgramText.usesRandom(one) ? 16 : 1
        let builder = ProgramText(program: one, width: width, family: family)
        let isLoop = family == .cpu && width == 1
        var text = "        case \(index): "
        text += isLoop ? "for (int l = 0; l < 16; l++) {\n" : "{\n"
        for (k, element) in code.operands.enumerated() {
            let register = isLoop ? "registers[instruction->x[\(k)] * 16 + l]" : "MARTLET_GET(instruction->x[\(k)])"
            let value = element == .float32 ? "as_\(builder.floatType)(\(register))" : register
            text += "            const \(builder.type(k)) x\(k) = \(value);\n"
        }
        let (statements, results) = try builder.statements(
            inputs: code.operands.indices.map { "x\($0)" }, indent: "            ")
        let bits = code.result == .float32 ? "as_\(builder.intType)(\(results[0]))" : results[0]
        text += statements
        text +=
            isLoop
            ? "            registers[instruction->target * 16 + l] = \(bits);\n"
            : "            MARTLET_SET(instruction->target, \(bits));\n"
        return text + "        } break;\n"
    }
}
