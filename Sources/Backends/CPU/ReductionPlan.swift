import CPUKernels
import Compiler
import Graph

extension ReductionGroup: CPUGroup {
    public func makePlan(_ context: PlanContext) throws -> any GroupPlan { try ReductionPlan(self, context) }
}

extension ReductionGroup.Kind {
    fileprivate var kernels: martlet_reduction_kind {
        switch self {
        case .sum: MARTLET_SUM
        case .maximum: MARTLET_MAXIMUM_OF
        case .minimum: MARTLET_MINIMUM_OF
        }
    }
}

/// A reduction between two programs.
struct ReductionPlan: GroupPlan {
    let group: ReductionGroup
    let prologue: CompiledProgram
    let epilogue: CompiledProgram
    let element: ElementType
    let context: PlanContext

    init(_ group: ReductionGroup, _ context: PlanContext) throws(CPUError) {
        try context.check(group.inputs + group.stored, rank: group.keptExtents.count + group.reducedExtents.count)
        try context.check(group.epilogueInputs + group.outputs, rank: group.keptExtents.count)
        guard !group.prologue.outputs.isEmpty else {
            throw CPUError.invalidSchedule("'\(context.group.label)' reduces nothing")
        }
        self.group = group
        self.context = context
        element = group.prologue.element(of: group.prologue.outputs[0])
        prologue = try context.compile(
            group.prologue, inputs: group.inputs.map(\.value), outputs: [nil] + group.stored.map(\.value))
        epilogue = try context.compile(
            group.epilogue, inputs: [nil] + group.epilogueInputs.map(\.value), outputs: group.outputs.map(\.value))
    }

    func bind(batch: Int) throws(CPUError) -> any BoundGroup { try BoundReduction(self, batch: batch) }
}

/// The axes and operands of a reduction for one batch size, with as few axes as possible.
private struct ResolvedReduction {
    /// Walked together by what the prologue reads and stores and by the epilogue's operands.
    let kept: ResolvedAxes
    let reduced: ResolvedAxes
    /// What the prologue reads, then what it stores, over all axes.
    let before: [martlet_operand]
    /// The epilogue's outputs, then its inputs, over the kept axes.
    let after: [martlet_operand]
    /// Whether more operands lie contiguously along the kept axes than along the reduced ones.
    let byColumns: Bool

    init(_ group: ReductionGroup, batch: Int) {
        let before = (group.inputs + group.stored).map { ResolvedOperand($0, batch: batch) }
        let after = (group.outputs + group.epilogueInputs).map { ResolvedOperand($0, batch: batch) }
        let keptRank = group.keptExtents.count
        let kept = ResolvedAxes(
            group.keptExtents.map { $0.resolved(batch: batch) },
            before.map { Array($0.strides[..<keptRank]) } + after.map(\.strides))
        let reduced = ResolvedAxes(
            group.reducedExtents.map { $0.resolved(batch: batch) }, before.map { Array($0.strides[keptRank...]) })
        let contiguous = { (axes: ResolvedAxes) -> Int in
            before.indices.count { axes.strides[$0].last.map { abs($0) == 1 } ?? false }
        }
        byColumns = !kept.extents.isEmpty && !reduced.extents.isEmpty && contiguous(kept) > contiguous(reduced)
        self.before = before.enumerated().map { index, operand in
            operand.kernels(strides: kept.strides[index] + reduced.strides[index])
        }
        self.after = after.enumerated().map { index, operand in
            operand.kernels(strides: kept.strides[before.count + index])
        }
        (self.kept, self.reduced) = (kept, reduced)
    }

    /// The reduced values, which lie contiguously in the order of the kept axes.
    func result(_ element: ElementType) -> martlet_operand {
        var result = martlet_operand()
        result.source = Int32(MARTLET_SOURCE_WORK)
        result.element = Int32(element.kernels.rawValue)
        var strides = [Int](repeating: 1, count: kept.extents.count)
        for axis in strides.indices.dropLast().reversed() { strides[axis] = strides[axis + 1] * kept.extents[axis + 1] }
        setExtents(&result.strides, strides)
        return result
    }
}

private final class BoundReduction: BoundGroup {
    private let plan: ReductionPlan
    private let memory = PlanMemory()
    private let reduction: UnsafeMutablePointer<martlet_reduction>
    var sharedBytes: Int { Int(reduction.pointee.sharedBytes) }
    var workBytes: Int { Int(reduction.pointee.workBytes) }

    init(_ plan: ReductionPlan, batch: Int) throws(CPUError) {
        self.plan = plan
        let group = plan.group
        let resolved = ResolvedReduction(group, batch: batch)
        guard resolved.kept.extents.count + resolved.reduced.extents.count <= Int(MARTLET_MAXIMUM_RANK) else {
            throw plan.context.unsupported("more than \(MARTLET_MAXIMUM_RANK) axes that cannot be joined")
        }
        var value = martlet_reduction(
            kind: group.kind.kernels, element: Int32(plan.element.kernels.rawValue),
            keptRank: Int32(resolved.kept.extents.count), reducedRank: Int32(resolved.reduced.extents.count),
            extents: martlet_nest.noExtents, prologue: plan.prologue.pointer,
            inputs: memory.keep(Array(resolved.before.prefix(group.inputs.count))),
            stored: memory.keep(Array(resolved.before.dropFirst(group.inputs.count))),
            epilogue: Self.epilogue(plan, resolved, memory), byColumns: resolved.byColumns ? 1 : 0, keptCount: 0,
            outerReduced: 0, segments: 0, segmentLength: 0, rowBlock: 0, sharedBytes: 0, workBytes: 0)
        setExtents(&value.extents, resolved.kept.extents + resolved.reduced.extents)
        martlet_reduction_plan(&value)
        reduction = memory.keep([value])
    }

    /// The epilogue over the kept axes, whose first input is what was reduced.
    private static func epilogue(
        _ plan: ReductionPlan, _ resolved: ResolvedReduction, _ memory: PlanMemory
    ) -> martlet_nest {
        let outputs = resolved.after.prefix(plan.group.outputs.count)
        let inputs = [resolved.result(plan.element)] + resolved.after.dropFirst(plan.group.outputs.count)
        var nest = martlet_nest(
            program: plan.epilogue.pointer, rank: Int32(resolved.kept.extents.count), extents: martlet_nest.noExtents,
            inputs: memory.keep(inputs), outputs: memory.keep(Array(outputs)))
        setExtents(&nest.extents, resolved.kept.extents)
        return nest
    }

    func run(_ run: GroupRun) { withUnsafePointer(to: run.kernels) { martlet_reduction_run(reduction, $0) } }
}
