import Compiler
import Graph

extension ReductionGroup: OpenCLGroup {
    /// One kernel, or two where few results are made of many elements.
    public func lower(
        label: String, location: SourceLocation?, _ lowering: inout LoweringContext
    ) throws -> LoweredGroup {
        lowering.use(prologue)
        lowering.use(epilogue)
        return try ReductionLowering(self, family: lowering.family, computeUnits: lowering.computeUnits)
            .lower(&lowering)
    }
}

/// Writes the kernels of a reduction.
///
/// The summation tree depends on the extents alone. Elements are walked in blocks of the innermost reduced axis; a
/// segment is a run of blocks, and a second kernel adds the segments up in order. Sums of floats carry what each addition rounds
/// away (Knuth, The Art of Computer Programming, volume 2, section 4.2.2, theorem B), so that the result is rounded once, as on
/// the processor, and sums that all but cancel can be compared.
struct ReductionLowering {
    let group: ReductionGroup
    let family: KernelFamily
    let computeUnits: Int
    /// Elements of the innermost reduced axis in one block.
    static let blockLength = 1024

    let keptNest: LoopNest
    let reducedNest: LoopNest
    let inputs: [OperandText]
    let stored: [OperandText]
    let epilogueInputs: [OperandText]
    let outputs: [OperandText]
    var element: ElementType { group.prologue.element(of: group.prologue.outputs[0]) }
    /// Whether every running total has its rest beside it, in a variable of the same name with `_rest` behind it.
    var hasRests: Bool { group.kind == .sum && element == .float32 }

    init(_ group: ReductionGroup, family: KernelFamily, computeUnits: Int) {
        self.group = group
        self.family = family
        self.computeUnits = computeUnits
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
    var isRow: Bool {
        let reducedAxis = keptNest.rank + reducedNest.rank - 1
        if inputs.contains(where: { $0.strides[reducedAxis] == 1 }) { return true }
        return !inputs.contains { $0.strides[keptNest.rank - 1] == 1 }
    }

    var blocks: @Sendable (Int) -> Int {
        let (inner, outer) = (reducedNest.inner, reducedNest.outerCount)
        return { outer.resolved(batch: $0) * ((inner.resolved(batch: $0) + Self.blockLength - 1) / Self.blockLength) }
    }

    /// Segments of the reduced elements for a batch: more than one where few results are made of many elements.
    var segments: @Sendable (Int) -> Int {
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

    func lower(_ lowering: inout LoweringContext) throws -> LoweredGroup {
        let most = lowering.maximumBatch
        let segments = segments
        // Small batches may need the second kernel where the largest does not.
        let isSplit = ([most] + (1...max(1, min(most, 4096)))).contains { segments($0) > 1 }
        if !isSplit {
            var list = firstParameters
            addEpilogueParameters(to: &list, sizes: false)
            return LoweredGroup(steps: [try firstStep(list, segments: nil, &lowering)])
        }
        let batches = [most] + (0...min(most, 4096))
        let largest = batches.map { [keptNest] in segments($0) * keptNest.count.resolved(batch: $0) }.max() ?? 1
        var first = firstParameters
        first.integer("segments", .integer(segments))
        first.pointer(elementStorage(element), "partial", .scratch(0))
        return LoweredGroup(
            steps: [try firstStep(first, segments: segments, &lowering), try lastStep(&lowering)],
            scratch: [largest * (hasRests ? 8 : 4)])
    }

    /// The parameters that the first kernel has in any case.
    var firstParameters: ParameterList {
        var list = ParameterList()
        for operand in inputs { operand.addParameters(to: &list, isOutput: false) }
        for operand in stored { operand.addParameters(to: &list, isOutput: true) }
        for axis in 0..<keptNest.rank { list.integer("n\(axis)", .extent(keptNest.extents[axis])) }
        for axis in 0..<reducedNest.rank {
            list.integer("n\(keptNest.rank + axis)", .extent(reducedNest.extents[axis]))
        }
        list.integer("results", .extent(keptNest.count))
        return list
    }

    func addEpilogueParameters(to list: inout ParameterList, sizes: Bool) {
        for operand in epilogueInputs { operand.addParameters(to: &list, isOutput: false) }
        for operand in outputs { operand.addParameters(to: &list, isOutput: true) }
        if sizes { for axis in 0..<keptNest.rank { list.integer("n\(axis)", .extent(keptNest.extents[axis])) } }
    }

    /// - Parameter segments: `nil` where one kernel does all.
    func firstStep(
        _ list: ParameterList, segments: (@Sendable (Int) -> Int)?, _ lowering: inout LoweringContext
    ) throws -> LoweredGroup.Step {
        let name = lowering.kernel(try firstText(list, twoStage: segments != nil), prefix: "reduce")
        let segments = segments ?? { _ in 1 }
        let count = keptNest.count
        switch family {
        case .gpu:
            let lanes = shape.results
            return .launch(
                name, list.arguments,
                groups: { [(count.resolved(batch: $0) + lanes - 1) / lanes, segments($0)] },
                local: [shape.results, shape.elements])
        case .cpu:
            let (lanes, workers, total) = (isRow ? 1 : 16, computeUnits * 4, reducedNest.count)
            return .launch(
                name, list.arguments,
                groups: { batch in
                    let items = (count.resolved(batch: batch) + lanes - 1) / lanes
                    let work = items * lanes * total.resolved(batch: batch) / max(1, segments(batch))
                    return [min(items, workers, max(1, work / 8192)), segments(batch)]
                }, local: [1, 1])
        }
    }

    /// The kernel that adds segments up.
    func lastStep(_ lowering: inout LoweringContext) throws -> LoweredGroup.Step {
        let count = keptNest.count
        var list = ParameterList()
        list.integer("results", .extent(count))
        list.integer("segments", .integer(segments))
        list.pointer(elementStorage(element), "partial", .scratch(0), constant: true)
        addEpilogueParameters(to: &list, sizes: true)
        let (text, lanes, local) =
            switch family {
            case .gpu:
                (try gpuSecondText(list), Self.secondShape.lanes, [Self.secondShape.lanes, Self.secondShape.sharers])
            case .cpu: (try processorSecondText(list), 64, [1])
            }
        return .launch(
            lowering.kernel(text, prefix: "reduceSegments"), list.arguments,
            groups: { [(count.resolved(batch: $0) + lanes - 1) / lanes] + (local.count > 1 ? [1] : []) }, local: local)
    }

    /// A GPU work-group: results side by side, and work-items that share each.
    var shape: (results: Int, elements: Int) {
        if !isRow { return (32, 8) }
        // Short rows, where their length is known, leave most of a large group idle.
        if reducedNest.count.isStatic, reducedNest.count.coefficient <= 64 { return (8, 32) }
        return (1, 256)
    }

    var zero: String {
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
    func combine(_ total: String, _ value: String, _ width: Int = 1) -> String {
        switch group.kind {
        case .sum where hasRests: "MARTLET_ADD(\(type(width)), \(total), \(rest(total)), \(value))"
        case .sum: "\(total) += \(value);"
        case .maximum: "\(total) = MARTLET_MAXIMUM(\(total), \(value));"
        case .minimum: "\(total) = MARTLET_MINIMUM(\(total), \(value));"
        }
    }

    /// The same for another total with its rest.
    func merge(_ total: String, _ other: String) -> String {
        combine(total, other) + (hasRests ? " \(rest(total)) += \(rest(other));" : "")
    }

    /// The rest of a total: `sums[i]` has `sums_rest[i]`.
    func rest(_ total: String) -> String {
        let name = total.prefix { $0 != "[" }
        return "\(name)_rest\(total.dropFirst(name.count))"
    }

    /// Declares a running total.
    func declare(_ name: String, _ width: Int = 1, indent: String) -> String {
        "\(indent)\(type(width)) \(name) = (\(type(width)))(\(zero));"
            + (hasRests ? "\n\(indent)\(type(width)) \(name)_rest = (\(type(width)))(0.0f);" : "")
    }

    /// What is left to do before a total is the result.
    func round(_ total: String, indent: String) -> String {
        hasRests ? "\(indent)\(total) = MARTLET_ROUNDED(\(total), \(total)_rest);" : ""
    }

    func type(_ width: Int) -> String { (element == .float32 ? "float" : "int") + (width == 1 ? "" : "16") }

    /// Loads and prologue at inner reduced index `j`, with the vector along that axis or along the kept one; where `condition`
    /// holds, the prologue's other results are stored.
    func accumulate(
        width: Int, along axis: Int, into target: String, indent: String, storingIf condition: String? = nil
    ) throws -> String {
        let innermost = keptNest.rank + reducedNest.rank - 1
        let writer = ProgramText(program: group.prologue, width: width, family: family)
        let position = { (operand: OperandText) in
            operand.position([(innermost, "j")], from: "\(operand.name)_b")
        }
        let loads = writer.loads(inputs, as: "v", behind: 0, along: axis, indent: indent, at: position)
        let (statements, results) = try writer.statements(
            inputs: inputs.indices.map { "v\($0)" }, indent: indent)
        let stores = zip(stored, results.dropFirst()).map { operand, result in
            indent + (condition.map { "if (\($0)) " } ?? "")
                + writer.store(operand, result, along: axis, at: position(operand)) + "\n"
        }
        return loads + statements + "\(indent)\(combine(target, results[0], width))\n" + stores.joined()
    }

    /// The epilogue for the result in `total`, at positions `<name>_e` with `width` results along the innermost kept axis.
    func epilogue(width: Int, indent: String) throws -> String {
        // The registers of the prologue have the same names: a scope of their own.
        try ProgramText(program: group.epilogue, width: width, family: family).throughMemory(
            given: ["total"], inputs: epilogueInputs, as: "y", outputs: outputs, along: keptNest.rank - 1,
            indent: indent
        ) { $0.position(keptIndices) }
    }

    var keptIndices: [(axis: Int, index: String)] { (0..<keptNest.rank).map { ($0, "x\($0)") } }

    private func processorSecondText(_ list: ParameterList) throws -> String {
        """
        __kernel __attribute__((reqd_work_group_size(1, 1, 1)))
        void KERNEL(\(list.declaration)) {
            const int first = get_group_id(0) * 64, stop = min(results, first + 64);
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

    func firstText(_ list: ParameterList, twoStage: Bool) throws -> String {
        switch family {
        case .gpu: try gpuText(list, twoStage: twoStage)
        case .cpu: isRow ? try rowText(list, twoStage: twoStage) : try columnText(list, twoStage: twoStage)
        }
    }

    /// The share of one segment of the blocks, and the bounds `j .. stop` of block `block` on the innermost axis.
    var segmentBounds: String {
        let inner = "n\(keptNest.rank + reducedNest.rank - 1)"
        let outer =
            reducedNest.rank == 1
            ? "1" : (0..<reducedNest.rank - 1).map { "n\(keptNest.rank + $0)" }.joined(separator: " * ")
        return """
            const int perRow = (\(inner) + \(Self.blockLength - 1)) / \(Self.blockLength);
            const int blocks = perRow * (\(outer));
            """
    }

    func blockPositions(_ indent: String, keptNames: Bool) -> String {
        let inner = "n\(keptNest.rank + reducedNest.rank - 1)"
        let text = """
                    const int row = block / perRow;
                    int j = (block - row * perRow) * \(Self.blockLength);
                    const int stop = min(j + \(Self.blockLength), \(inner));
            \(decode("row", Array(reducedNest.extents.dropLast()), to: "x", innermost: nil, first: keptNest.rank))

            """
        return text
            + basePositions(inputs + stored, axes: keptNest.rank + reducedNest.rank - 1, indent: indent)
    }

    func finish(width: Int, twoStage: Bool, indent: String, result: String) throws -> String {
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

    var segmentRange: (twoStage: String, whole: String) {
        (
            """
            const int perSegment = (blocks + segments - 1) / segments;
            const int firstBlock = get_group_id(1) * perSegment;
            const int lastBlock = min(blocks, firstBlock + perSegment);
            """, "const int firstBlock = 0;\nconst int lastBlock = blocks;"
        )
    }
}
