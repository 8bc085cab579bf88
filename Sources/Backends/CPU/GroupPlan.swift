import CPUKernels
import Compiler
import Graph

/// A group that is ready to run with one batch size.
protocol BoundGroup: AnyObject {
    /// Memory that all workers share while the group runs, and memory of each worker.
    var sharedBytes: Int { get }
    var workBytes: Int { get }
    func run(_ context: inout martlet_context, counts: UnsafeMutablePointer<Int64>) throws
}

/// A group that is compiled for any batch size.
protocol GroupPlan {
    /// Bytes of memory that the plan holds itself.
    var plannedBytes: Int { get }
    func bind(batch: Int) throws(CPUError) -> any BoundGroup
}

extension GroupPlan {
    var plannedBytes: Int { 0 }
}

/// Everything a plan is made from.
struct PlanContext {
    let schedule: Schedule
    let device: CPUDevice
    let maximumBatch: Int
    let group: Group
    /// Constants, and the states that the program does not write, by value: what is derived from them can be kept from run to run.
    let unwritten: [Int: CPUBuffer]

    var instructionSet: InstructionSet { device.instructionSet }
    var pool: OpaquePointer { device.pool }

    func unsupported(_ reason: String) -> CPUError {
        .unsupported(group: group.label, location: group.location, reason: reason)
    }

    /// Compiles a program; a kernel that is missing is reported with the group's name.
    func compile(_ program: Program, inputs: [Int?], outputs: [Int?]) throws(CPUError) -> CompiledProgram {
        do throws(CPUError) {
            return try CompiledProgram(program, inputs: inputs, outputs: outputs, instructionSet: instructionSet)
        } catch {
            if case .invalidSchedule(let reason) = error { throw unsupported(reason) }
            throw error
        }
    }

    /// Checks that operands name values and have one stride for each axis.
    func check(_ operands: [Operand], rank: Int) throws(CPUError) {
        for operand in operands {
            if let value = operand.value, !schedule.values.indices.contains(value) {
                throw CPUError.invalidSchedule("'\(group.label)' reads value \(value), which is not there")
            }
            guard operand.strides.count == rank else {
                throw CPUError.invalidSchedule(
                    "'\(group.label)' has an operand of \(operand.strides.count) axes in an iteration of \(rank)")
            }
        }
    }
}

/// The compiled form of a group.
func makePlan(
    _ group: Group, schedule: Schedule, device: CPUDevice, maximumBatch: Int, unwritten: [Int: CPUBuffer]
) throws -> any GroupPlan {
    let context = PlanContext(
        schedule: schedule, device: device, maximumBatch: maximumBatch, group: group, unwritten: unwritten)
    switch group.kind {
    case let elementwise as ElementwiseGroup: return try ElementwisePlan(elementwise, context)
    case let reduction as ReductionGroup: return try ReductionPlan(reduction, context)
    case let product as ProductGroup: return try ProductPlan(product, context)
    case let convolution as ConvolutionGroup: return try ConvolutionPlan(convolution, context)
    case let operation as OperationGroup: return try OperationPlan(operation, context)
    case let loop as LoopGroup: return try LoopPlan(loop, context)
    default: throw context.unsupported("kind")
    }
}

struct ElementwisePlan: GroupPlan {
    let group: ElementwiseGroup
    let program: CompiledProgram
    let context: PlanContext

    init(_ group: ElementwiseGroup, _ context: PlanContext) throws(CPUError) {
        try context.check(group.inputs + group.outputs, rank: group.iteration.count)
        self.group = group
        self.context = context
        program = try context.compile(
            group.program, inputs: group.inputs.map(\.value), outputs: group.outputs.map(\.value))
    }

    func bind(batch: Int) throws(CPUError) -> any BoundGroup {
        let operands = (group.outputs + group.inputs).map { ResolvedOperand($0, batch: batch) }
        let axes = ResolvedAxes(group.iteration.map { $0.resolved(batch: batch) }, operands.map(\.strides))
        return try BoundNest(program, axes, operands, outputCount: group.outputs.count, context)
    }
}

final class BoundNest: BoundGroup {
    let program: CompiledProgram
    let memory = PlanMemory()
    let nest: UnsafeMutablePointer<martlet_nest>
    var sharedBytes: Int { 0 }
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
        let all = operands.enumerated().map { index, operand in
            var operand = operand
            operand.strides = axes.strides[index]
            return operand.kernels
        }
        var value = martlet_nest(
            program: program.pointer, rank: Int32(axes.extents.count), extents: martlet_nest.noExtents,
            inputs: memory.keep(Array(all[outputCount...])), outputs: memory.keep(Array(all[..<outputCount])))
        setExtents(&value.extents, axes.extents)
        nest = memory.keep([value])
        workBytes = Int(program.pointer.pointee.slotCount) * Int(program.pointer.pointee.slotBytes)
    }

    func run(_ context: inout martlet_context, counts: UnsafeMutablePointer<Int64>) {
        martlet_nest_run(nest, &context)
    }
}

extension martlet_nest {
    static let noExtents: Extents = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    typealias Extents = (Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64, Int64)
}

struct OperationPlan: GroupPlan {
    let operation: any CPUOperation
    let group: OperationGroup
    let context: PlanContext

    init(_ group: OperationGroup, _ context: PlanContext) throws(CPUError) {
        guard let operation = group.operation as? any CPUOperation else {
            throw context.unsupported(
                "operation '\(group.operation.name)' has no CPU face; make it conform to CPUOperation in Backends/CPU")
        }
        for value in group.inputs + group.outputs where !context.schedule.values.indices.contains(value) {
            throw CPUError.invalidSchedule("'\(context.group.label)' reads value \(value), which is not there")
        }
        self.operation = operation
        self.group = group
        self.context = context
    }

    func bind(batch: Int) -> any BoundGroup { BoundOperation(self, batch: batch) }
}

final class BoundOperation: BoundGroup {
    let plan: OperationPlan
    let batch: Int
    var sharedBytes: Int { 0 }
    var workBytes: Int { 0 }

    init(_ plan: OperationPlan, batch: Int) {
        self.plan = plan
        self.batch = batch
    }

    func run(_ context: inout martlet_context, counts: UnsafeMutablePointer<Int64>) throws {
        let values = context.values
        let operand = { (value: Int) -> CPUOperand in
            let type = self.plan.context.schedule.values[value].type
            return CPUOperand(
                pointer: UnsafeMutableRawPointer(values[value]!), shape: type.shape.resolved(batch: self.batch),
                element: type.element)
        }
        try plan.operation.runCPU(
            CPUOperationContext(
                inputs: plan.group.inputs.map(operand), outputs: plan.group.outputs.map(operand), batch: batch,
                pool: plan.context.pool))
    }
}
