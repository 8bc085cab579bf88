import CPUKernels
import Compiler
import Graph

/// A kind of group that the CPU backend runs. The compiler's own kinds conform beside their plans; a package that adds a kind of its own
/// to schedules makes it conform, in the way an operation conforms to `CPUOperation`.
///
///     extension Doubling: CPUGroup {                      // a kind of group with `input` and `output`, numbers of float32 values
///         func makePlan(_ context: PlanContext) -> any GroupPlan { DoublingPlan(group: self, context: context) }
///     }
///     struct DoublingPlan: GroupPlan {
///         let group: Doubling, context: PlanContext
///         func bind(batch: Int) -> any BoundGroup { BoundDoubling(plan: self, batch: batch) }
///     }
///     final class BoundDoubling: BoundGroup {
///         let plan: DoublingPlan, batch: Int
///         init(plan: DoublingPlan, batch: Int) { (self.plan, self.batch) = (plan, batch) }
///         func run(_ run: GroupRun) {
///             let memory = run.arrays(inputs: [plan.group.input], outputs: [plan.group.output], plan.context, batch: batch)
///             let (x, y) = (memory.inputs[0].floats, memory.outputs[0].floats)
///             memory.parallelFor(batch) { example, _ in
///                 for i in (x.count / batch * example)..<(x.count / batch * (example + 1)) { y[i] = 2 * x[i] }
///             }
///         }
///     }
public protocol CPUGroup {
    /// Checks the group and prepares all that does not depend on the batch size.
    func makePlan(_ context: PlanContext) throws -> any GroupPlan
}

/// A group that is compiled for any batch size up to the largest.
public protocol GroupPlan {
    /// Bytes of memory that the plan holds itself.
    var plannedBytes: Int { get }
    /// Prepares runs with one batch size; called once for each that is met.
    func bind(batch: Int) throws(CPUError) -> any BoundGroup
}

extension GroupPlan {
    public var plannedBytes: Int { 0 }
}

/// A group that is ready to run with one batch size.
public protocol BoundGroup: AnyObject {
    /// Bytes of memory that all workers share while the group runs. Groups use the same memory one after the other.
    var sharedBytes: Int { get }
    /// Bytes of memory that each worker has for itself.
    var workBytes: Int { get }
    /// Reads the group's inputs and writes all of its outputs. Results may not depend on which worker does what.
    func run(_ run: GroupRun) throws
}

extension BoundGroup {
    public var sharedBytes: Int { 0 }
    public var workBytes: Int { 0 }

    func run(_ context: inout martlet_context, counts: UnsafeMutablePointer<Int64>) throws {
        try run(GroupRun(kernels: context, counts: counts))
    }
}

/// What a group is given to run: the memory of the program's values, its own, and the threads.
public struct GroupRun {
    /// As the C kernels take it, and where they count multiply-adds.
    let kernels: martlet_context
    let counts: UnsafeMutablePointer<Int64>

    /// Where a value lies.
    public func pointer(to value: Int) -> UnsafeMutableRawPointer { UnsafeMutableRawPointer(kernels.values[value]!) }

    /// The memory of `sharedBytes`.
    public var shared: UnsafeMutableRawPointer? { kernels.shared.map { UnsafeMutableRawPointer($0) } }

    /// The memory of `workBytes` that belongs to a worker.
    public func work(of worker: Int) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(kernels.work + worker * Int(kernels.workBytes))
    }

    /// Values as arrays of `batch` examples, and all threads: what an operation runs on.
    public func arrays(inputs: [Int], outputs: [Int], _ context: PlanContext, batch: Int) -> CPUOperationContext {
        let array = { (value: Int) -> CPUOperand in
            let type = context.schedule.values[value].type
            return CPUOperand(
                pointer: pointer(to: value), shape: type.shape.resolved(batch: batch), element: type.element)
        }
        return CPUOperationContext(
            inputs: inputs.map(array), outputs: outputs.map(array), batch: batch, pool: kernels.pool,
            isa: kernels.isa)
    }
}

/// Everything a plan is made from.
public struct PlanContext {
    public let schedule: Schedule
    public let device: CPUDevice
    /// The most examples that a batch will have.
    public let maximumBatch: Int
    /// The group with its label and its place in the source.
    public let group: Group
    /// Constants, and the states that the program does not write, by value: what is derived from them can be kept from run to run.
    let unwritten: [Int: CPUBuffer]

    var instructionSet: InstructionSet { device.instructionSet }

    /// An error that names the group.
    public func unsupported(_ reason: String) -> CPUError {
        .unsupported(group: group.label, location: group.location, reason: reason)
    }

    /// Compiles a program; a kernel that is missing is reported with the group's name.
    func compile(
        _ program: Program, inputs: [Int?], outputs: [Int?], own: [ElementwiseFunction: any OwnKernel] = [:]
    ) throws(CPUError) -> CompiledProgram {
        do throws(CPUError) {
            return try CompiledProgram(
                program, inputs: inputs, outputs: outputs, instructionSet: instructionSet, own: own)
        } catch {
            if case .invalidSchedule(let reason) = error { throw unsupported(reason) }
            throw error
        }
    }

    /// Checks that these are values of the schedule.
    public func check(_ values: [Int]) throws(CPUError) {
        for value in values where !schedule.values.indices.contains(value) {
            throw CPUError.invalidSchedule("'\(group.label)' reads value \(value), which is not there")
        }
    }

    /// Checks that operands name values and have one stride for each axis.
    func check(_ operands: [Operand], rank: Int) throws(CPUError) {
        for operand in operands {
            if let value = operand.value { try check([value]) }
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
    guard let kind = group.kind as? any CPUGroup else {
        throw context.unsupported(
            "a group of kind \(type(of: group.kind)) has no CPU face; make it conform to CPUGroup")
    }
    return try kind.makePlan(context)
}
