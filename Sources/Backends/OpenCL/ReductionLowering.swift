import Compiler
import Graph

/// Lowers a reduction: one kernel, or two where few results are made of many elements.
///
/// The summation tree depends on the extents alone. Elements are walked in blocks of the innermost reduced axis; a
/// segment is a run of blocks, and a second kernel adds the segments up in order. Sums of floats carry what each addition rounds
/// away (Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B), so that the result is rounded once, as on
/// the processor, and sums that all but cancel can be compared.
struct ReductionLowering {
    let group: ReductionGroup
    let family: KernelFamily
    let device: DeviceDescription
    /// Elements of the innermost reduced axis in one block.
    static let blockLength = 1024

    private let keptNest: LoopNest
    private let reducedNest: LoopNest
    private let inputs: [OperandText]
    private let stored: [OperandText]
    private let epilogueInputs: [OperandText]
    private let outputs: [OperandText]
    private var element: ElementType { group.prologue.element(of: group.prologue.outputs[0]) }
    /// Whether every running total has its rest beside it, in a variable of the same name with `_rest` behind it.
    private var hasRests: Bool { group.kind == .sum && element == .float32 }

    init(_ group: ReductionGroup, family: KernelFamily, device: DeviceDescription) {
        self.group = group
        self.family = family
        self.device = device
        let keptRank = group.keptExtents.count
        let before = group.inputs + group.stored
        keptNest = LoopNest(
            group.keptExtents,
            before.map { Array($0.strides.prefix(keptRank)) } + (group.epilogueInputs + group.outputs).map(\.strides))
        reducedNest = LoopNest(group.reducedExtents, before.map { Array($0.strides.dropFirst(keptRank)) })
        let (keptNest, reducedNest) = (keptNest, reducedNest)
        let whole = before.indices.map { keptNest.strides[$0] + reducedNest.strides[$0] }
        inputs = group.inputs.enumerated().map { OperandText(name: "i\($0)", operand: $1, strides: whole[$0]) }
        stored = group.stored.enumerated().map {
            OperandText(name: "s\($0)", operand: $1, strides: whole[group.inputs.count + $0])
        }
        epilogueInputs = group.epilogueInputs.enumerated().map {
            OperandText(name: "e\($0)", operand: $1, strides: keptNest.strides[before.count + $0])
        }
        outputs = group.outputs.enumerated().map {
            OperandText(
                name: "o\($0)", operand: $1, strides: keptNest.strides[before.count + group.epilogueInputs.count + $0])
        }
    }

    /// Whether the innermost reduced axis is walked in memory order; otherwise neighbouring results are neighbours.
    private var isRow: Bool {
        let reducedAxis = keptNest.rank + reducedNest.rank - 1
        if inputs.contains(where: { $0.strides[reducedAxis] == 1 }) { return true }
        return !inputs.contains { $0.strides[keptNest.rank - 1] == 1 }
    }

    private var blocks: @Sendable (Int) -> Int {
        let (inner, outer) = (reducedNest.inner, reducedNest.outerCount)
        return { outer.resolved(batch: $0) * ((inner.resolved(batch: $0) + Self.blockLength - 1) / Self.blockLength) }
    }

    /// Segments of the reduced elements for a batch: more than one where few results are made of many elements.
    private var segments: @Sendable (Int) -> Int {
        let (count, total, blocks) = (keptNest.count, reducedNest.count, blocks)
        // A result for each example is summed up by the same tree, however many examples there are.
        let examples: @Sendable (Int) -> Int = { count.isStatic ? $0 : 1 }
        let isGPU = family == .gpu
        let lanes = isRow ? 1 : isGPU ? 32 : 16
        return { batch in
            let results = (count.resolved(batch: examples(batch)) + lanes - 1) / lanes
            let elements = total.resolved(batch: batch)
            let few = isGPU ? 128 : 8
            guard results < few, elements * results >= 16384 else { return 1 }
            return max(1, min(blocks(batch), isGPU ? 128 : 16))
        }
    }

    func lower(maximumBatch: Int, library: inout KernelLibrary) throws -> LoweredGroup {
        library.use(group.prologue)
        library.use(group.epilogue)
        let segments = segments
        let twoStage = (1...max(1, min(maximumBatch, 4096))).contains { segments($0) > 1 } || segments(maximumBatch) > 1
        var list = ParameterList()
        for operand in inputs { operand.addParameters(to: &list, isOutput: false) }
        for operand in stored { operand.addParameters(to: &list, isOutput: true) }
        for axis in 0..<keptNest.rank { list.integer("n\(axis)", .extent(keptNest.extents[axis])) }
        for axis in 0..<reducedNest.rank {
            list.integer("n\(keptNest.rank + axis)", .extent(reducedNest.extents[axis]))
        }
        list.integer("results", .extent(keptNest.count))
        if twoStage {
            var second = ParameterList()
            let count = keptNest.count
            list.integer("segments", .integer(segments))
            list.pointer(elementStorage(element), "partial", .scratch(0))
            second.integer("results", .extent(count))
            second.integer("segments", .integer(segments))
            second.pointer(elementStorage(element), "partial", .scratch(0), constant: true)
            addEpilogueParameters(to: &second, sizes: true)
            let first = try launch(firstText(list, twoStage: true), list, segments: segments, &library)
            let last = Launch(
                kernel: library.add(try secondText(second), prefix: "reduceSegments"), arguments: second.arguments,
                groups: { [(count.resolved(batch: $0) + 63) / 64] }, local: family == .gpu ? [64] : [1])
            let most = (0...min(maximumBatch, 4096)).map { segments($0) * count.resolved(batch: $0) }.max() ?? 1
            let bytes = max(most, segments(maximumBatch) * count.resolved(batch: maximumBatch)) * (hasRests ? 8 : 4)
            return LoweredGroup(steps: [.launch(first), .launch(last)], scratch: [bytes])
        }
        addEpilogueParameters(to: &list, sizes: false)
        return LoweredGroup(steps: [
            .launch(try launch(firstText(list, twoStage: false), list, segments: { _ in 1 }, &library))
        ])
    }

    private func addEpilogueParameters(to list: inout ParameterList, sizes: Bool) {
        for operand in epilogueInputs { operand.addParameters(to: &list, isOutput: false) }
        for operand in outputs { operand.addParameters(to: &list, isOutput: true) }
        if sizes { for axis in 0..<keptNest.rank { list.integer("n\(axis)", .extent(keptNest.extents[axis])) } }
    }

    private func launch(
        _ text: String, _ list: ParameterList, segments: @escaping @Sendable (Int) -> Int,
        _ library: inout KernelLibrary
    ) throws -> Launch {
        let count = keptNest.count
        let name = library.add(text, prefix: "reduce")
        switch family {
        case .gpu:
            let lanes = shape.results
            return Launch(
                kernel: name, arguments: list.arguments,
                groups: { [(count.resolved(batch: $0) + lanes - 1) / lanes, segments($0)] },
                local: [shape.results, shape.elements])
        case .cpu:
            let lanes = isRow ? 1 : 16
            let workers = device.computeUnits * 4
            let total = reducedNest.count
            return Launch(
                kernel: name, arguments: list.arguments,
                groups: { batch in
                    let items = (count.resolved(batch: batch) + lanes - 1) / lanes
                    let work = items * lanes * total.resolved(batch: batch) / max(1, segments(batch))
                    return [min(items, workers, max(1, work / 8192)), segments(batch)]
                }, local: [1, 1])
        }
    }

    /// A GPU work-group: results side by side, and work-items that share each.
    private var shape: (results: Int, elements: Int) {
        if !isRow { return (32, 8) }
        // Short rows, where their length is known, leave most of a large group idle.
        if reducedNest.count.isStatic, reducedNest.count.coefficient <= 64 { return (8, 32) }
        return (1, 256)
    }

    private var zero: String {
        switch (group.kind, element == .float32) {
        case (.sum, true): "0.0f"
        case (.sum, false): "0"
        case (.maximum, true): "-INFINITY"
        case (.minimum, true): "INFINITY"
        case (.maximum, false): "(-2147483647 - 1)"
        case (.minimum, false): "2147483647"
        }
    }

    /// A statement that takes a value into a running total.
    private func combine(_ total: String, _ value: String, _ width: Int = 1) -> String {
        switch group.kind {
        case .sum where hasRests: "MARTLET_ADD(\(type(width)), \(total), \(rest(total)), \(value))"
        case .sum: "\(total) += \(value);"
        case .maximum: "\(total) = MARTLET_MAXIMUM(\(total), \(value));"
        case .minimum: "\(total) = MARTLET_MINIMUM(\(total), \(value));"
        }
    }

    /// The same for another total with its rest.
    private func merge(_ total: String, _ other: String) -> String {
        combine(total, other) + (hasRests ? " \(rest(total)) += \(rest(other));" : "")
    }

    /// The rest of a total: `sums[i]` has `sums_rest[i]`.
    private func rest(_ total: String) -> String {
        let name = total.prefix { $0 != "[" }
        return "\(name)_rest\(total.dropFirst(name.count))"
    }

    /// Declares a running total.
    private func declare(_ name: String, _ width: Int = 1, indent: String) -> String {
        "\(indent)\(type(width)) \(name) = (\(type(width)))(\(zero));"
            + (hasRests ? "\n\(indent)\(type(width)) \(name)_rest = (\(type(width)))(0.0f);" : "")
    }

    /// What is left to do before a total is the result.
    private func round(_ total: String, indent: String) -> String {
        hasRests ? "\(indent)\(total) = MARTLET_ROUNDED(\(total), \(total)_rest);" : ""
    }

    private func type(_ width: Int) -> String { (element == .float32 ? "float" : "int") + (width == 1 ? "" : "16") }

    /// Loads and prologue at inner reduced index `j`, with the vector along that axis or along the kept one; where `condition`
    /// holds, the prologue's other results are stored.
    private func accumulate(
        width: Int, along axis: Int, into target: String, indent: String, storingIf condition: String? = nil
    ) throws -> String {
        let innermost = keptNest.rank + reducedNest.rank - 1
        var text = ""
        var names: [String] = []
        for (index, operand) in inputs.enumerated() {
            let position = operand.position([(innermost, "j")], from: "\(operand.name)_b")
            let register = ProgramText(program: group.prologue, width: width, family: family).type(index)
            let load = operand.load(
                position, width: width, stride: operand.strides[axis], strideText: operand.stride(axis))
            text += "\(indent)const \(register) v\(index) = \(load);\n"
            names.append("v\(index)")
        }
        let (statements, results) = try ProgramText(program: group.prologue, width: width, family: family)
            .statements(inputs: names, indent: indent)
        text += statements + "\(indent)\(combine(target, results[0], width))\n"
        for (operand, result) in zip(stored, results.dropFirst()) {
            let store = operand.store(
                result, operand.position([(innermost, "j")], from: "\(operand.name)_b"), width: width,
                stride: operand.strides[axis], strideText: operand.stride(axis))
            text += indent + (condition.map { "if (\($0)) " } ?? "") + store + "\n"
        }
        return text
    }

    /// The epilogue for the result in `total`, at positions `<name>_e` with `width` results along the innermost kept axis.
    private func epilogue(width: Int, indent: String) throws -> String {
        let axis = keptNest.rank - 1
        var text = ""
        var names = ["total"]
        let writer = ProgramText(program: group.epilogue, width: width, family: family)
        for (index, operand) in epilogueInputs.enumerated() {
            let load = operand.load(
                operand.position(keptIndices), width: width, stride: operand.strides[axis],
                strideText: operand.stride(axis))
            text += "\(indent)const \(writer.type(index + 1)) y\(index) = \(load);\n"
            names.append("y\(index)")
        }
        // The registers of the prologue have the same names: a scope of their own.
        let (statements, results) = try writer.statements(inputs: names, indent: indent)
        text += statements
        for (operand, result) in zip(outputs, results) {
            text +=
                indent
                + operand.store(
                    result, operand.position(keptIndices), width: width, stride: operand.strides[axis],
                    strideText: operand.stride(axis)) + "\n"
        }
        return text
    }

    private var keptIndices: [(axis: Int, index: String)] { (0..<keptNest.rank).map { ($0, "x\($0)") } }

    private func secondText(_ list: ParameterList) throws -> String {
        """
        __kernel __attribute__((reqd_work_group_size(\(family == .gpu ? 64 : 1), 1, 1)))
        void KERNEL(\(list.declaration)) {
            const int first = \(family == .gpu ? "get_global_id(0)" : "get_group_id(0) * 64");
            const int stop = min(results, first + \(family == .gpu ? 1 : 64));
            for (int result = first; result < stop; result++) {
        \(declare("total", indent: "        "))
                for (int s = 0; s < segments; s++) {
                    const \(type(1)) next = partial[s * results + result];
        \(hasRests ? "            const float next_rest = partial[(segments + s) * results + result];" : "")
                    \(merge("total", "next"))
                }
        \(round("total", indent: "        "))
        \(decode("result", keptNest.extents, to: "x", innermost: nil))
        \(try epilogue(width: 1, indent: "        "))
            }
        }
        """
    }

    private func firstText(_ list: ParameterList, twoStage: Bool) throws -> String {
        switch family {
        case .gpu: try gpuText(list, twoStage: twoStage)
        case .cpu: isRow ? try cpuRowText(list, twoStage: twoStage) : try cpuColumnText(list, twoStage: twoStage)
        }
    }

    /// The share of one segment of the blocks, and the bounds `j .. stop` of block `block` on the innermost axis.
    private var segmentBounds: String {
        let inner = "n\(keptNest.rank + reducedNest.rank - 1)"
        let outer =
            reducedNest.rank == 1
            ? "1" : (0..<reducedNest.rank - 1).map { "n\(keptNest.rank + $0)" }.joined(separator: " * ")
        return """
            const int perRow = (\(inner) + \(Self.blockLength - 1)) / \(Self.blockLength);
            const int blocks = perRow * (\(outer));
            """
    }

    private func blockPositions(_ indent: String, keptNames: Bool) -> String {
        let inner = "n\(keptNest.rank + reducedNest.rank - 1)"
        var text = """
                    const int row = block / perRow;
                    int j = (block - row * perRow) * \(Self.blockLength);
                    const int stop = min(j + \(Self.blockLength), \(inner));
            \(decode("row", Array(reducedNest.extents.dropLast()), to: "x", innermost: nil, first: keptNest.rank))

            """
        for operand in inputs + stored {
            text += basePosition(operand, axes: keptNest.rank + reducedNest.rank - 1, indent: indent)
        }
        return text
    }

    private func finish(width: Int, twoStage: Bool, indent: String, result: String) throws -> String {
        if twoStage {
            func store(_ value: String, _ segment: String) -> String {
                width == 1
                    ? "\(indent)partial[(\(segment)) * results + \(result)] = \(value);\n"
                    : "\(indent)vstore16(\(value), 0, partial + ((\(segment)) * results + \(result)));\n"
            }
            return store("total", "get_group_id(1)")
                + (hasRests ? store("total_rest", "segments + get_group_id(1)") : "")
        }
        return round("total", indent: indent) + "\n" + (try epilogue(width: width, indent: indent))
    }

    private var segmentRange: (twoStage: String, whole: String) {
        (
            """
            const int perSegment = (blocks + segments - 1) / segments;
            const int firstBlock = get_group_id(1) * perSegment;
            const int lastBlock = min(blocks, firstBlock + perSegment);
            """, "const int firstBlock = 0;\nconst int lastBlock = blocks;"
        )
    }

    /// A work-item takes whole rows: sixteen running sums, a tree over them, and the tail of each block beside.
    private func cpuRowText(_ list: ParameterList, twoStage: Bool) throws -> String {
        let axis = keptNest.rank + reducedNest.rank - 1
        let vector = !ProgramText.usesRandom(group.prologue)
        return """
            __kernel __attribute__((reqd_work_group_size(1, 1, 1)))
            void KERNEL(\(list.declaration)) {
            \(segmentBounds)
            \(twoStage ? segmentRange.twoStage : segmentRange.whole)
                const int share = (results + (int)get_num_groups(0) - 1) / (int)get_num_groups(0);
                const int last = min(results, (int)(get_group_id(0) + 1) * share);
                for (int result = get_group_id(0) * share; result < last; result++) {
            \(decode("result", keptNest.extents, to: "x", innermost: nil))
            \(declare("sums", 16, indent: "        "))
            \(declare("tail", indent: "        "))
                    for (int block = firstBlock; block < lastBlock; block++) {
            \(blockPositions("        ", keptNames: true))
            \(vector ? """
                        for (; j + 16 <= stop; j += 16) {
            \(try accumulate(width: 16, along: axis, into: "sums", indent: "                "))
                        }
            """ : "")
                        for (; j < stop; j++) {
            \(try accumulate(width: 1, along: axis, into: "tail", indent: "                "))
                        }
                    }
            \(foldText)
                    \(merge("total", "tail"))
                    {
            \(try finish(width: 1, twoStage: twoStage, indent: "            ", result: "result"))
                    }
                }
            }
            """
    }

    /// The tree over the lanes of `sums`, into `total`.
    private var foldText: String {
        """
                \(type(1)) lanes[16];
                vstore16(sums, 0, lanes);
        \(hasRests ? "        float lanes_rest[16];\n        vstore16(sums_rest, 0, lanes_rest);" : "")
                for (int distance = 8; distance > 0; distance >>= 1) {
                    for (int lane = 0; lane < distance; lane++) { \(merge("lanes[lane]", "lanes[lane + distance]")) }
                }
                \(type(1)) total = lanes[0];
        \(hasRests ? "        float total_rest = lanes_rest[0];" : "")
        """
    }

    /// A work-item takes sixteen neighbouring results and walks the reduced axes in order.
    private func cpuColumnText(_ list: ParameterList, twoStage: Bool) throws -> String {
        let axis = keptNest.rank - 1
        let vector = !ProgramText.usesRandom(group.prologue) && !ProgramText.usesRandom(group.epilogue)
        func loop(width: Int) throws -> String {
            """
            {
            \(declare("total", width, indent: "        "))
                    for (int block = firstBlock; block < lastBlock; block++) {
            \(blockPositions("        ", keptNames: false))
                        for (; j < stop; j++) {
            \(try accumulate(width: width, along: axis, into: "total", indent: "                "))
                        }
                    }
                    {
            \(try finish(width: width, twoStage: twoStage, indent: "            ", result: "result"))
                    }
            }
            """
        }
        // Sixteen results lie side by side only within one run of the innermost kept axis.
        return """
            __kernel __attribute__((reqd_work_group_size(1, 1, 1)))
            void KERNEL(\(list.declaration)) {
            \(segmentBounds)
            \(twoStage ? segmentRange.twoStage : segmentRange.whole)
                const int share = ((results + 15) / 16 + (int)get_num_groups(0) - 1) / (int)get_num_groups(0) * 16;
                const int last = min(results, (int)(get_group_id(0) + 1) * share);
                int result = get_group_id(0) * share;
                while (result < last) {
            \(decode("result", keptNest.extents, to: "x", innermost: nil))
            \(vector ? """
                    if (result + 16 <= last && x\(axis) + 16 <= n\(axis)) \(try loop(width: 16))
                    else
            """ : "")
                    \(try loop(width: 1))
                    result += \(vector ? "result + 16 <= last && x\(axis) + 16 <= n\(axis) ? 16 : 1" : "1");
                }
            }
            """
    }

    /// A work-group takes some neighbouring results; its work-items share the reduced elements and meet in a tree.
    private func gpuText(_ list: ParameterList, twoStage: Bool) throws -> String {
        let (lanes, sharers) = shape
        let innermost = keptNest.rank + reducedNest.rank - 1
        var text = """
            __kernel __attribute__((reqd_work_group_size(\(lanes), \(sharers), 1)))
            void KERNEL(\(list.declaration)) {
                __local \(type(1)) shared[\(lanes * sharers)];
            \(hasRests ? "    __local float shared_rest[\(lanes * sharers)];" : "")
            \(segmentBounds)
            \(twoStage ? segmentRange.twoStage : segmentRange.whole)
                const int lane = get_local_id(0), sharer = get_local_id(1);
                const int wanted = get_group_id(0) * \(lanes) + lane;
                const int result = min(wanted, results - 1);
            \(decode("result", keptNest.extents, to: "x", innermost: nil))
            \(declare("part", indent: "    "))
                for (int block = firstBlock; block < lastBlock; block++) {
                    const int row = block / perRow;
                    const int start = (block - row * perRow) * \(Self.blockLength);
                    const int stop = min(start + \(Self.blockLength), n\(innermost));
            \(decode("row", Array(reducedNest.extents.dropLast()), to: "x", innermost: nil, first: keptNest.rank))

            """
        for operand in inputs + stored { text += basePosition(operand, axes: innermost, indent: "        ") }
        text += """
                    for (int j = start + sharer; j < stop; j += \(sharers)) {
            \(try accumulate(width: 1, along: innermost, into: "part", indent: "            ", storingIf: "wanted < results"))
                    }
                }
                shared[sharer * \(lanes) + lane] = part;
            \(hasRests ? "    shared_rest[sharer * \(lanes) + lane] = part_rest;" : "")
                for (int distance = \(sharers / 2); distance > 0; distance >>= 1) {
                    barrier(CLK_LOCAL_MEM_FENCE);
                    if (sharer < distance) {
                        const int low = sharer * \(lanes) + lane, high = (sharer + distance) * \(lanes) + lane;
                        \(merge("shared[low]", "shared[high]"))
                    }
                }
                if (sharer == 0 && wanted < results) {
                    \(type(1)) total = shared[lane];
            \(hasRests ? "        const float total_rest = shared_rest[lane];" : "")
            \(try finish(width: 1, twoStage: twoStage, indent: "        ", result: "result"))
                }
            }
            """
        return text
    }
}
