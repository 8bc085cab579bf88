import Compiler
import Graph

/// A sampling program as the tables that Kernels/sampler.cl interprets, and that kernel's text.
///
/// The text depends on the model only through the instructions that its programs are made of, because a compiler's time
/// grows steeply with the loops of one kernel.
struct SamplerTables {
    /// With one value more where there is attention, for the scores of queries.
    let program: SamplingProgram
    let family: KernelFamily
    /// All tables, one after another, behind the header.
    private(set) var words: [Int32]
    /// How a GPU splits the sums of each work: into 2^`partShifts[w]` parts.
    private(set) var partShifts: [Int] = []
    /// Queries whose scores have room at a time.
    let scoreRows: Int
    /// Keys of a query, at most.
    private let scoreKeys: Int
    private var registerCount = 1
    private let codes: [Code]
    /// Programs' constants and instructions that are already there.
    private var known: [[Int32]: Int] = [:]

    static let lanesPerGroup = 16

    /// A case of the interpreter: a function of operands of some types.
    private struct Code: Hashable {
        let function: ElementwiseFunction
        let operands: [ElementType]
        let result: ElementType

        /// A register holds a float or an int, so that one case serves all whole types.
        init(_ function: ElementwiseFunction, _ operands: [ElementType], _ result: ElementType) {
            self.function = function
            self.operands = operands.map { $0 == .float32 ? $0 : .int32 }
            self.result = result == .float32 ? result : .int32
        }

        /// The cases of some programs. Programs that want nothing but the usual have all of that, so that their samplers have one text, which
        /// a driver compiles once; others have what they want, as each case makes compiling longer.
        static func cases(of programs: [Program]) -> [Code] {
            let own = programs.flatMap { program in
                program.instructions.map { instruction in
                    Code(
                        instruction.function, instruction.operands.map { program.element(of: $0) }, instruction.element)
                }
            }
            var others: [Code] = []
            for code in own where !usual.contains(code) && !others.contains(code) { others.append(code) }
            return others.isEmpty ? usual : usual.filter(own.contains) + others
        }

        /// What most models want.
        static let usual: [Code] =
            [.add, .subtract, .multiply, .divide, .maximum].map { Code($0, [.float32, .float32], .float32) }
            + [.negate, .exp, .log, .tanh, .sigmoid, .relu].map { Code($0, [.float32], .float32) }
            + [.less, .equal].map { Code($0, [.float32, .float32], .bool) } + [
                Code(.isFinite, [.float32], .bool), Code(.logicalAnd, [.bool, .bool], .bool),
                Code(.select, [.bool, .float32, .float32], .float32), Code(.cast(.float32), [.int32], .float32),
                Code(.philox, [ElementType](repeating: .int32, count: 6), .int32),
                Code(.uniformFromBits, [.int32], .float32), Code(.normalFromBits, [.int32], .float32),
            ]

        /// The function by itself.
        var program: Program {
            Program(
                inputs: operands,
                instructions: [Program.Instruction(function, Array(operands.indices), result)],
                outputs: [operands.count])
        }
    }

    /// The fields of `martlet_header`.
    private enum Header: Int {
        case works, sections, sectionCount, values, groupStart, group, variable, drawn
        static let count = 8
    }

    /// - Parameter partials: floats of local memory that a group of a GPU has for parts of sums.
    init(_ program: SamplingProgram, family: KernelFamily, partials: Int) throws {
        guard program.values.allSatisfy({ $0.element != .float64 }) else {
            throw OpenCLError.unsupported("a sampler in float64: use `--device cpu` for double precision")
        }
        if family == .gpu, let deepest = program.works.filter(\.attends).map(\.channels).max(), deepest + 2 > partials {
            throw OpenCLError.unsupported(
                "attention of depth \(deepest) wants \(4 * (deepest + 2)) bytes of local memory for a draw, and the device has "
                    + "\(4 * partials) for it: use `--device cpu`")
        }
        scoreKeys = program.works.map(Self.scoreCount).max() ?? 0
        // A GPU answers many queries at a time: the heads of a position, or all of a step in which many are known.
        scoreRows =
            scoreKeys == 0 ? 0 : family == .cpu ? 1 : min(64, max(1, program.works.map(Self.mostQueries).max() ?? 1))
        var program = program
        if scoreKeys > 0 {
            program.values.append(
                SamplingProgram.Value(
                    count: scoreKeys * scoreRows, element: .float32, isShared: false, storage: .temporary,
                    label: "scores"))
        }
        self.program = program
        self.family = family
        codes = Code.cases(of: program.works.map(\.program))
        words = [Int32](repeating: 0, count: Header.count)
        partShifts = program.works.map { Self.partShift($0, partials: partials) }
        let works = program.works.indices.flatMap { work($0) }
        let sections = program.sections.flatMap { section -> [Int32] in
            let passes = addOnce(section.passes.flatMap { [$0.iteration, $0.slot] })
            return [section.works.lowerBound, section.works.upperBound, addOnce(section.passStart), passes].map {
                Int32($0)
            }
        }
        let header: [(Header, Int)] = [
            (.works, add(works)), (.sections, add(sections)), (.sectionCount, program.sections.count),
            (.values, add(program.values.indices.flatMap { [kind($0), 0] })),
            (.groupStart, add(program.groups.reduce(into: [Int32(0)]) { $0.append($0.last! + Int32($1.count)) })),
            (.group, add(program.groups.flatMap { $0 })), (.variable, program.variable), (.drawn, program.drawn),
        ]
        for (field, value) in header { words[field.rawValue] = Int32(value) }
    }

    /// The most keys that a query of a work reads; one at least, of attention.
    private static func scoreCount(_ work: SamplingProgram.Work) -> Int {
        guard case .attention(let attention) = work.anchor else { return 0 }
        return attention.row.indices.reduce(1) { max($0, attention.keyCount($1)) }
    }

    /// The most queries that a work of attention answers in one step.
    private static func mostQueries(_ work: SamplingProgram.Work) -> Int {
        guard case .attention = work.anchor else { return 0 }
        return work.slotStart.indices.dropLast().reduce(0) { max($0, work.positions(slot: $1).count) }
    }

    /// Of a work's longest sum, one part for eight terms, up to 32; of attention up to 64, as long as a query's parts have room. It follows
    /// from the sum and the device: the tree of a sum depends on no batch.
    private static func partShift(_ work: SamplingProgram.Work, partials: Int) -> Int {
        var most = 32
        if case .attention = work.anchor { most = min(64, partials / (2 + work.channels)) }
        let parts = min(most, work.mostTerms / 8)
        return parts < 2 ? 0 : parts.bitWidth - 1 - parts.leadingZeroBitCount
    }

    /// What the program writes has a lane for every example, also where all are equal.
    func isLane(_ id: Int) -> Bool {
        switch program.values[id].storage {
        case .temporary, .variable: true
        case .input: !program.values[id].isShared
        case .state, .constant: false
        }
    }

    private func kind(_ id: Int) -> Int32 {
        (program.values[id].element.byteCount == 1 ? 2 : 0) + (isLane(id) ? 1 : 0)
    }

    /// Says where a value lies in its buffer, in units of 64 bytes.
    mutating func setPlace(of value: Int, _ unit: Int) {
        words[Int(words[Header.values.rawValue]) + 2 * value + 1] = Int32(unit)
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

    /// A `martlet_work`, in the order of its fields.
    private mutating func work(_ index: Int) -> [Int32] {
        let work = program.works[index]
        var anchor = anchor(work.anchor)
        anchor.partShift = partShifts[index]
        let constants = work.program.constants.map { ProgramText.bits($0) }
        let inputs = work.program.inputs.count + constants.count
        registerCount = max(registerCount, inputs + work.program.instructions.count)
        let operands = operands(of: work)
        let instructions = instructions(of: work.program, behind: inputs)
        let outputs = outputs(of: work)
        return [anchor.kind, work.channels, addOnce(work.slotStart), addOnce(work.order)].map { Int32($0) }
            + anchor.fields
            + [
                work.operands.count, addOnce(operands), constants.count, addOnce(constants),
                work.program.instructions.count, addOnce(instructions), work.outputs.count, addOnce(outputs),
            ].map { Int32($0) }
    }

    /// What a work adds up or compares before its program runs; all zeros where it does neither.
    private struct Anchor {
        /// A place in `martlet_work`: a value and how its elements are found.
        struct Source {
            var (value, base, stride, channelStride, cursor) = (0, 0, 0, 0, -1)
            var fields: [Int] { [value, base, stride, channelStride, cursor] }
        }

        var kind = 0
        var (a, b) = (Source(), Source())
        var partShift = 0
        var (row, rowStart, segments, offsets, offsetCount) = (0, 0, 0, 0, 0)
        var (query, queryBase, queryStride, depth, scale) = (0, 0, 0, 0, 0)
        var (scores, scoreKeys, scoreRows) = (0, 0, 0)

        /// In the order of `martlet_work`.
        var fields: [Int32] {
            let sums = [partShift, row, rowStart, segments, offsets, offsetCount]
            let attention = [query, queryBase, queryStride, depth, scale, scores, scoreKeys, scoreRows]
            return (a.fields + b.fields + sums + attention).map { Int32($0) }
        }
    }

    private mutating func anchor(_ anchor: SamplingProgram.Anchor) -> Anchor {
        switch anchor {
        case .none: Anchor()
        case .product(let product): self.anchor(product)
        case .reduction(let reduction): self.anchor(reduction)
        case .attention(let attention): self.anchor(attention)
        }
    }

    private mutating func anchor(_ attention: SamplingProgram.Attention) -> Anchor {
        var anchor = Anchor()
        anchor.kind = 5
        // Channels are depths.
        anchor.a = reading(attention.keys, attention.keyBase, stride: attention.keyStride)
        anchor.b = reading(attention.values, attention.valueBase, stride: attention.valueStride)
        anchor.row = addOnce(attention.row)
        anchor.rowStart = addOnce(SamplingProgram.starts(attention.rows))
        anchor.segments = addOnce(attention.rows.flatMap { $0.flatMap { [$0.a, $0.b, $0.count] } })
        let query = reading(attention.query, attention.queryBase, stride: 0)
        (anchor.query, anchor.queryBase, anchor.queryStride) = (query.value, query.base, query.channelStride)
        anchor.depth = attention.depth
        anchor.scale = Int(Int32(bitPattern: Float(attention.scale).bitPattern))
        (anchor.scores, anchor.scoreKeys, anchor.scoreRows) = (program.values.count - 1, scoreKeys, scoreRows)
        return anchor
    }

    private mutating func anchor(_ product: SamplingProgram.SumOfProducts) -> Anchor {
        var anchor = Anchor()
        anchor.kind = 1
        anchor.a = reading(product.a, product.aBase, stride: product.aStride)
        anchor.b = reading(product.b, product.bBase, stride: product.bStride)
        // Lanes first, then what may be shared.
        let isSwapped = !isLane(product.a) && isLane(product.b)
        if isSwapped { (anchor.a, anchor.b) = (anchor.b, anchor.a) }
        anchor.row = addOnce(product.row)
        anchor.rowStart = addOnce(SamplingProgram.starts(product.rows))
        anchor.segments = addOnce(
            product.rows.flatMap { $0.flatMap { isSwapped ? [$0.b, $0.a, $0.count] : [$0.a, $0.b, $0.count] } })
        return anchor
    }

    private mutating func anchor(_ reduction: SamplingProgram.Reduction) -> Anchor {
        var anchor = Anchor()
        anchor.kind =
            switch reduction.kind {
            case .sum: 2
            case .maximum: 3
            case .minimum: 4
            }
        anchor.a = reading(reduction.value, reduction.base, stride: 0)
        (anchor.offsets, anchor.offsetCount) = (addOnce(reduction.offsets), reduction.offsets.count)
        return anchor
    }

    private mutating func reading(_ value: Int, _ table: SamplingProgram.Table, stride: Int) -> Anchor.Source {
        let (base, channelStride, cursor) = place(table)
        return Anchor.Source(value: value, base: base, stride: stride, channelStride: channelStride, cursor: cursor)
    }

    /// The `martlet_work_operand`s.
    private mutating func operands(of work: SamplingProgram.Work) -> [Int32] {
        work.operands.flatMap { operand -> [Int32] in
            let (table, channelStride, cursor) = place(operand.table)
            let (value, batchStride) =
                switch operand.source {
                case .value(let id): (id, 0)
                case .position(let stride): (-1, stride)
                }
            return [value, table, channelStride, cursor, batchStride].map { Int32($0) }
        }
    }

    /// The `martlet_work_instruction`s; each has a case of the interpreter.
    private mutating func instructions(of program: Program, behind inputs: Int) -> [Int32] {
        program.instructions.enumerated().flatMap { index, instruction -> [Int32] in
            let code = Code(
                instruction.function, instruction.operands.map { program.element(of: $0) }, instruction.element)
            let registers = instruction.operands.map { Int32($0) }
            return [Int32(codes.firstIndex(of: code)!)] + registers
                + [Int32](repeating: 0, count: 6 - registers.count) + [Int32(inputs + index)]
        }
    }

    /// The `martlet_work_output`s.
    private mutating func outputs(of work: SamplingProgram.Work) -> [Int32] {
        work.outputs.indices.flatMap { index -> [Int32] in
            let (table, channelStride, cursor) = place(work.targets[index])
            return [work.outputs[index], table, channelStride, cursor, work.program.outputs[index]].map { Int32($0) }
        }
    }

    private mutating func place(_ table: SamplingProgram.Table) -> (table: Int, channelStride: Int, cursor: Int) {
        (
            addOnce(table.positions), table.channelStride,
            table.cursor == 0 ? -1 : addOnce(program.cursors[table.cursor])
        )
    }

    /// The whole program.
    /// - Parameter shape: of a GPU's groups.
    func programSource(_ shape: SamplerPlan.Shape?) throws -> String {
        var library = KernelLibrary()
        for code in codes { library.use(code.program) }
        library.addOnce(try source(shape))
        return library.source()
    }

    /// The kernels: definitions, then Kernels/sampler.cl with the cases of the interpreter.
    private func source(_ shape: SamplerPlan.Shape?) throws -> String {
        // Rounded, so that models of one kind share a text.
        let registers = (registerCount + 31) / 32 * 32
        let group =
            shape.map {
                """
                #define MARTLET_GROUP \($0.group)
                #define MARTLET_LANES \($0.lanes)
                #define MARTLET_PARTIALS \($0.partials)

                """
            } ?? ""
        return """
            #define MARTLET_WIDTH \(family == .cpu ? 16 : 1)
            #define MARTLET_ATTENDS \(program.attends ? 1 : 0)
            #define MARTLET_REGISTERS \(registers)
            \(group)
            """ + KernelText.sampler(family, cases: try codes.indices.map { try text($0) }.joined())
    }

    /// Sixteen lanes at once where the function allows it; random numbers are drawn one by one.
    private func text(_ index: Int) throws -> String {
        let code = codes[index]
        let one = code.program
        let width = family == .cpu && !ProgramText.goesOneByOne(one) ? 16 : 1
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
