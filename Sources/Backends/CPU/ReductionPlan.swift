import CPUKernels
import Compiler
import Graph

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

final class BoundReduction: BoundGroup {
    private let plan: ReductionPlan
    private let memory = PlanMemory()
    private let reduction: UnsafeMutablePointer<martlet_reduction>
    var sharedBytes: Int { Int(reduction.pointee.sharedBytes) }
    var workBytes: Int { Int(reduction.pointee.workBytes) }

    init(_ plan: ReductionPlan, batch: Int) throws(CPUError) {
        self.plan = plan
        let group = plan.group
        let inputs = (group.inputs + group.stored).map { ResolvedOperand($0, batch: batch) }
        let after = (group.outputs + group.epilogueInputs).map { ResolvedOperand($0, batch: batch) }
        let keptRank = group.keptExtents.count
        // Kept axes are walked together by the inputs, by what is stored and by the epilogue's operands.
        let keptAxes = ResolvedAxes(
            group.keptExtents.map { $0.resolved(batch: batch) },
            inputs.map { Array($0.strides[..<keptRank]) } + after.map(\.strides))
        let reducedAxes = ResolvedAxes(
            group.reducedExtents.map { $0.resolved(batch: batch) }, inputs.map { Array($0.strides[keptRank...]) })
        guard keptAxes.extents.count + reducedAxes.extents.count <= Int(MARTLET_MAXIMUM_RANK) else {
            throw plan.context.unsupported("more than \(MARTLET_MAXIMUM_RANK) axes that cannot be joined")
        }
        let units = { (axes: ResolvedAxes) -> Int in
            inputs.indices.count { axes.strides[$0].last.map { abs($0) == 1 } ?? false }
        }
        let byColumns =
            !keptAxes.extents.isEmpty && !reducedAxes.extents.isEmpty && units(keptAxes) > units(reducedAxes)

        let kernelInputs = inputs.enumerated().map { index, operand in
            var operand = operand
            operand.strides = keptAxes.strides[index] + reducedAxes.strides[index]
            return operand.kernels
        }
        let kernelAfter = after.enumerated().map { index, operand in
            var operand = operand
            operand.strides = keptAxes.strides[inputs.count + index]
            return operand.kernels
        }
        // The reduced values lie contiguously in the order of the kept axes.
        var result = martlet_operand()
        result.source = Int32(MARTLET_SOURCE_WORK)
        result.element = Int32(plan.element.kernels.rawValue)
        var contiguous = [Int](repeating: 1, count: keptAxes.extents.count)
        for axis in contiguous.indices.dropLast().reversed() {
            contiguous[axis] = contiguous[axis + 1] * keptAxes.extents[axis + 1]
        }
        setExtents(&result.strides, contiguous)

        var epilogue = martlet_nest(
            program: plan.epilogue.pointer, rank: Int32(keptAxes.extents.count), extents: martlet_nest.noExtents,
            inputs: memory.keep([result] + kernelAfter[group.outputs.count...]),
            outputs: memory.keep(Array(kernelAfter[..<group.outputs.count])))
        setExtents(&epilogue.extents, keptAxes.extents)
        let kind =
            switch group.kind {
            case .sum: MARTLET_SUM
            case .maximum: MARTLET_MAXIMUM_OF
            case .minimum: MARTLET_MINIMUM_OF
            }
        var value = martlet_reduction(
            kind: kind, element: Int32(plan.element.kernels.rawValue), keptRank: Int32(keptAxes.extents.count),
            reducedRank: Int32(reducedAxes.extents.count), extents: martlet_nest.noExtents,
            prologue: plan.prologue.pointer,
            inputs: memory.keep(Array(kernelInputs.prefix(group.inputs.count))),
            stored: memory.keep(Array(kernelInputs.dropFirst(group.inputs.count))), epilogue: epilogue,
            byColumns: byColumns ? 1 : 0, keptCount: 0,
            outerReduced: 0, segments: 0, segmentLength: 0, rowBlock: 0, sharedBytes: 0, workBytes: 0)
        setExtents(&value.extents, keptAxes.extents + reducedAxes.extents)
        martlet_reduction_plan(&value)
        reduction = memory.keep([value])
    }

    func run(_ context: inout martlet_context, counts: UnsafeMutablePointer<Int64>) {
        martlet_reduction_run(reduction, &context)
    }
}
