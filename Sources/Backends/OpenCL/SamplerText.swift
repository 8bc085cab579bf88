import Compiler
import Graph

/// Writes a sampler as one kernel: the loop over steps is inside, so drawing takes a single launch.
///
/// Values that vary with the example lie `[element, lane]` in one block of memory. On processors a work-item runs the whole
/// program for sixteen lanes. On GPUs a work-group of 64 does: four work-items share a lane's sums, and barriers stand
/// between the pieces of work. Both add in the same tree, four partial sums by position in the range.
struct SamplerText {
    let program: SamplingProgram
    let family: KernelFamily
    /// Every table of the program, one after another; the kernel knows where each begins.
    private(set) var tables: [Int32] = []
    private(set) var source = ""
    /// Shared values in the order of the kernel's pointers.
    private(set) var pointers: [Int] = []
    private(set) var usesRandom = false
    /// The first table entries are the places of lane values in memory, in units of 64 bytes.
    private(set) var laneValues: [Int] = []

    static let lanesPerGroup = 16

    init(_ program: SamplingProgram, family: KernelFamily) throws {
        self.program = program
        self.family = family
        for (id, value) in program.values.enumerated() {
            if isLane(value) { laneValues.append(id) } else { pointers.append(id) }
        }
        tables = [Int32](repeating: 0, count: laneValues.count)
        try write()
    }

    /// What the program writes has a lane for every example, also where all are equal.
    private func isLane(_ value: SamplingProgram.Value) -> Bool {
        switch value.storage {
        case .temporary, .variable: true
        case .input: !value.isShared
        case .state, .constant: false
        }
    }

    /// Says where a lane value lies, in units of 64 bytes.
    mutating func setPlace(_ place: Int, _ unit: Int) { tables[place] = Int32(unit) }

    private mutating func add(_ table: [Int32]) -> Int {
        defer { tables += table }
        return tables.count
    }

    private func memoryType(_ element: ElementType) -> String {
        switch element {
        case .float32, .float64: "float"
        case .int32: "int"
        case .uint8, .bool: "uchar"
        }
    }

    private func isLane(_ id: Int) -> Bool { isLane(program.values[id]) }

    /// The address of an element's lane `lane`, or of a shared element.
    private func address(_ id: Int, _ element: String) -> String {
        isLane(id) ? "v\(id) + (\(element)) * lanes + lane" : "v\(id) + (\(element))"
    }

    private func load(_ id: Int, _ element: String, width: Int, lane: String) -> String {
        let type = program.values[id].element
        let isFloat = type == .float32
        if !isLane(id) {
            let scalar = "\(isFloat ? "" : "(int)")v\(id)[\(element)]"
            return width == 1 ? scalar : "(\(isFloat ? "float16" : "int16"))(\(scalar))"
        }
        if width == 1 { return "\(isFloat ? "" : "(int)")v\(id)[(\(element)) * lanes + lane\(lane)]" }
        let vector = "vload16(0, \(address(id, element)))"
        return type == .float32 || type == .int32 ? vector : "convert_int16(\(vector))"
    }

    private func store(_ value: String, _ id: Int, _ element: String, width: Int, lane: String) -> String {
        let type = program.values[id].element
        if width == 1 { return "v\(id)[(\(element)) * lanes + lane\(lane)] = (\(memoryType(type)))(\(value));" }
        let vector = type == .float32 || type == .int32 ? value : "convert_uchar16(\(value))"
        return "vstore16(\(vector), 0, \(address(id, element)));"
    }

    private mutating func write() throws {
        var body = ""
        for work in program.works { body += try text(of: work) }
        let starts = add(program.groups.reduce(into: [Int32(0)]) { $0.append($0.last! + Int32($1.count)) })
        let group = add(program.groups.flatMap { $0 })
        let (variable, drawn) = (program.variable, program.drawn)
        var head =
            family == .cpu
            ? "__kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"
            : "__kernel __attribute__((reqd_work_group_size(64, 1, 1)))\n"
        head += "void martlet_sample(__global uchar* memory, __global const int* T, const int lanes"
        for id in pointers { head += ", __global const \(memoryType(program.values[id].element))* v\(id)" }
        head += ") {\n"
        switch family {
        case .cpu: head += "    const int lane = (int)get_group_id(0) * 16;\n"
        case .gpu:
            head += "    __local float partial[64];\n    const int part = (int)get_local_id(0) >> 4;\n"
            head += "    const int lane = (int)get_group_id(0) * 16 + ((int)get_local_id(0) & 15);\n"
        }
        for (place, id) in laneValues.enumerated() {
            let type = memoryType(program.values[id].element)
            head += "    __global \(type)* v\(id) = (__global \(type)*)(memory + (ulong)T[\(place)] * 64);\n"
        }
        head += "    for (int step = 0; step < \(program.stepCount); step++) {\n"
        body +=
            "        for (int g = T[\(starts) + step]; g < T[\(starts) + step + 1]; g++) {\n            const int e = T[\(group) + g];\n"
        body +=
            family == .cpu
            ? "            vstore16(vload16(0, \(address(drawn, "e"))), 0, \(address(variable, "e")));\n"
            : "            if (part == 0) v\(variable)[e * lanes + lane] = v\(drawn)[e * lanes + lane];\n"
        body += "        }\n" + barrier
        source = head + body + "    }\n}\n"
    }

    private var barrier: String {
        family == .gpu ? "        barrier(CLK_GLOBAL_MEM_FENCE | CLK_LOCAL_MEM_FENCE);\n" : ""
    }

    /// The place of channel c at position e.
    private mutating func place(_ table: SamplingProgram.Table) -> String {
        let first = add(table.positions)
        return table.channelStride == 0 ? "T[\(first) + e]" : "(T[\(first) + e] + c * \(table.channelStride))"
    }

    private mutating func text(of work: SamplingProgram.Work) throws -> String {
        guard program.values.allSatisfy({ $0.element != .float64 }) else {
            throw OpenCLError.unsupported("a sampler in float64: use `--device cpu` for double precision")
        }
        let (starts, order) = (add(work.stepStart), add(work.order))
        let random = ProgramText.usesRandom(work.program)
        usesRandom = usesRandom || random
        var text = "        // \(work.label)\n"
        text += "        for (int i = T[\(starts) + step]; i < T[\(starts) + step + 1]; i++) {\n"
        text += "            const int e = T[\(order) + i];\n"
        // The number of channels comes from a table: a constant would have the loop unrolled, random numbers and all.
        text +=
            work.channels > 1
            ? "            for (int c = 0; c < T[\(add([Int32(work.channels)]))]; c++) {\n"
            : "            const int c = 0;\n"
        text += "            const int o = \(place(work.target));\n"
        var hasAnchor = true
        switch work.anchor {
        case .none: hasAnchor = false
        case .product(let p): text += product(p)
        case .reduction(let r): text += reduction(r)
        }
        // Sixteen lanes at once where the program allows it; random numbers are drawn one by one.
        let width = family == .cpu && !random ? 16 : 1
        let lane = family == .cpu && random ? " + l" : ""
        let indent = width == 1 ? "                " : "            "
        if family == .gpu { text += "            if (part == 0) {\n" }
        if family == .cpu, random {
            if hasAnchor { text += "            float anchors[16];\n            vstore16(anchor, 0, anchors);\n" }
            text += "            for (int l = 0; l < 16; l++) {\n"
        }
        var names: [String] = []
        if hasAnchor { names.append(family == .cpu && random ? "anchors[l]" : "anchor") }
        let builder = ProgramText(program: work.program, width: width)
        for (index, operand) in work.operands.enumerated() {
            let element = place(operand.table)
            let name = "x\(index)"
            let value: String
            switch operand.source {
            case .value(let id): value = load(id, element, width: width, lane: lane)
            case .position(let stride):
                value =
                    width == 1
                    ? "\(element) + \(stride) * (lane\(lane))"
                    : "(int16)(\(element) + \(stride) * lane) + \(stride) * martlet_lanes"
            }
            text += "\(indent)const \(builder.type(names.count)) \(name) = \(value);\n"
            names.append(name)
        }
        let (statements, results) = try builder.statements(inputs: names, indent: indent)
        text += statements
        for (output, result) in zip(work.outputs, results) {
            text += "\(indent)\(store(result, output, "o", width: width, lane: lane))\n"
        }
        if family == .gpu || random { text += "            }\n" }
        if work.channels > 1 { text += "            }\n" }
        // The next element's partial sums must not overtake this one's reading of them.
        return text + "        }\n" + barrier
    }

    private mutating func product(_ p: SamplingProgram.SumOfProducts) -> String {
        // Lanes first, then what may be shared.
        var (a, b, aStride, bStride) = (p.a, p.b, p.aStride, p.bStride)
        var (aBase, bBase) = (p.aBase, p.bBase)
        if !isLane(a), isLane(b) { (a, b, aStride, bStride, aBase, bBase) = (b, a, bStride, aStride, bBase, aBase) }
        let isSwapped = a != p.a || aBase != p.aBase
        let row = add(p.row)
        let starts = add(p.rows.reduce(into: [Int32(0)]) { $0.append($0.last! + Int32($1.count)) })
        let segments = add(
            p.rows.flatMap { $0.flatMap { isSwapped ? [$0.b, $0.a, $0.count] : [$0.a, $0.b, $0.count] } })
        var text = ""
        text += "            const int row = T[\(row) + e];\n"
        text += "            const int baseA = \(place(aBase)), baseB = \(place(bBase));\n"
        text +=
            family == .cpu
            ? "            float16 s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;\n" : "            float s = 0.0f;\n"
        text += "            for (int r = T[\(starts) + row]; r < T[\(starts) + row + 1]; r++) {\n"
        text +=
            "                const int ea = baseA + T[\(segments) + 3 * r], eb = baseB + T[\(segments) + 3 * r + 1];\n"
        text += "                const int length = T[\(segments) + 3 * r + 2];\n"
        if family == .cpu {
            let (aIsLane, bIsLane) = (isLane(a), isLane(b))
            let x = { (j: String) in
                aIsLane
                    ? "vload16(0, v\(a) + (ea + (\(j)) * \(aStride)) * lanes + lane)"
                    : "(float16)(v\(a)[ea + (\(j)) * \(aStride)])"
            }
            let y = { (j: String) in
                bIsLane
                    ? "vload16(0, v\(b) + (eb + (\(j)) * \(bStride)) * lanes + lane)"
                    : "(float16)(v\(b)[eb + (\(j)) * \(bStride)])"
            }
            text += "                int j = 0;\n                for (; j + 4 <= length; j += 4) {\n"
            for k in 0..<4 { text += "                    s\(k) = fma(\(x("j + \(k)")), \(y("j + \(k)")), s\(k));\n" }
            text += "                }\n"
            for k in 0..<3 {
                text +=
                    "                if (j + \(k) < length) s\(k) = fma(\(x("j + \(k)")), \(y("j + \(k)")), s\(k));\n"
            }
            text += "            }\n            const float16 anchor = (s0 + s1) + (s2 + s3);\n"
        } else {
            let x = isLane(a) ? "v\(a)[(ea + j * \(aStride)) * lanes + lane]" : "v\(a)[ea + j * \(aStride)]"
            let y = isLane(b) ? "v\(b)[(eb + j * \(bStride)) * lanes + lane]" : "v\(b)[eb + j * \(bStride)]"
            text += "                for (int j = part; j < length; j += 4) s = fma(\(x), \(y), s);\n            }\n"
            text += "            partial[get_local_id(0)] = s;\n            barrier(CLK_LOCAL_MEM_FENCE);\n"
            text += "            const int own = (int)get_local_id(0) & 15;\n"
            text +=
                "            const float anchor = (partial[own] + partial[own + 16]) + (partial[own + 32] + partial[own + 48]);\n"
            text += "            barrier(CLK_LOCAL_MEM_FENCE);\n"
        }
        return text
    }

    private mutating func reduction(_ r: SamplingProgram.Reduction) -> String {
        // Its length too comes from a table, so that the loop stays one.
        let (offsets, count) = (add(r.offsets), add([Int32(r.offsets.count)]))
        let type = family == .cpu ? "float16" : "float"
        let start = r.kind == .sum ? "0.0f" : r.kind == .maximum ? "-INFINITY" : "INFINITY"
        let value = load(r.value, "base + T[\(offsets) + k]", width: family == .cpu ? 16 : 1, lane: "")
        let combined =
            r.kind == .sum ? "anchor + y" : "\(r.kind == .maximum ? "MARTLET_MAXIMUM" : "MARTLET_MINIMUM")(y, anchor)"
        return """
                        \(type) anchor = (\(type))(\(start));
                        const int base = \(place(r.base));
                        for (int k = 0; k < T[\(count)]; k++) {
                            const \(type) y = \(value);
                            anchor = \(combined);
                        }

            """
    }
}
