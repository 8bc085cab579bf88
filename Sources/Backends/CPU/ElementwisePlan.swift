import CPUKernels
import Compiler
import Graph

extension ElementwiseGroup: CPUGroup {
    public func makePlan(_ context: PlanContext) throws -> any GroupPlan { try ElementwisePlan(self, context) }
}

/// A program over an iteration space.
struct ElementwisePlan: GroupPlan {
    let group: ElementwiseGroup
    let program: CompiledProgram
    let context: PlanContext

    /// - Parameter own: kernels of ours for some functions of the program.
    init(
        _ group: ElementwiseGroup, _ context: PlanContext, own: [ElementwiseFunction: any OwnKernel] = [:]
    ) throws(CPUError) {
        try context.check(group.inputs + group.outputs, rank: group.iteration.count)
        self.group = group
        self.context = context
        program = try context.compile(
            group.program, inputs: group.inputs.map(\.value), outputs: group.outputs.map(\.value), own: own)
    }

    func bind(batch: Int) throws(CPUError) -> any BoundGroup {
        let operands = (group.outputs + group.inputs).map { ResolvedOperand($0, batch: batch) }
        let axes = ResolvedAxes(
            group.iteration.map { $0.resolved(batch: batch) }, operands.map(\.strides),
            reads: group.outputs.count..<operands.count)
        return try BoundNest(program, axes, operands, outputCount: group.outputs.count, context)
    }
}

private final class BoundNest: BoundGroup {
    let program: CompiledProgram
    let memory = PlanMemory()
    let nest: UnsafeMutablePointer<martlet_nest>
    let workBytes: Int

    /// - Parameter operands: outputs, then inputs.
    init(
        _ program: CompiledProgram, _ axes: ResolvedAxes, _ operands: [ResolvedOperand], outputCount: Int,
        _ context: PlanContext
    ) throws(CPUError) {
        guard axes.extents.count <= Int(MARTLET_MAXIMUM_RANK) else {
            throw context.unsupported(
                "\(axes.extents.count) axes that cannot be joined (at most \(MARTLET_MAXIMUM_RANK))")
        }
        self.program = program
        let all = operands.enumerated().map { index, operand in operand.kernels(strides: axes.strides[index]) }
        var value = martlet_nest(
            program: program.pointer, rank: Int32(axes.extents.count), extents: martlet_nest.noExtents,
            inputs: memory.keep(Array(all[outputCount...])), outputs: memory.keep(Array(all[..<outputCount])))
        setExtents(&value.extents, axes.extents)
        nest = memory.keep([value])
        workBytes = Int(program.pointer.pointee.slotCount) * Int(program.pointer.pointee.slotBytes)
    }

    func run(_ run: GroupRun) { withUnsafePointer(to: run.kernels) { martlet_nest_run(nest, $0) } }
}

extension martlet_nest {
    static let noExtents: Extents = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    typealias Extents = (Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64)
}
