import CPUKernels
import Compiler
import Graph
import Testing

@testable import CPU

/// A kind of group that the compiler does not know: each example's values, in the opposite order.
private struct ReversalGroup: CPUGroup {
    var input: Int
    var output: Int

    func makePlan(_ context: PlanContext) throws -> any GroupPlan {
        try context.check([input, output])
        guard context.schedule.values[input].type.element == .float32 else {
            throw context.unsupported("a reversal wants float32 values")
        }
        return ReversalPlan(group: self, context: context)
    }
}

private struct ReversalPlan: GroupPlan {
    let group: ReversalGroup
    let context: PlanContext

    func bind(batch: Int) -> any BoundGroup { BoundReversal(plan: self, batch: batch) }
}

/// Each worker takes an example to its own memory and writes it back to front.
private final class BoundReversal: BoundGroup {
    let plan: ReversalPlan
    let batch: Int
    let count: Int
    var workBytes: Int { count * 4 }

    init(plan: ReversalPlan, batch: Int) {
        self.plan = plan
        self.batch = batch
        count = plan.context.schedule.values[plan.group.input].type.shape.count.resolved(batch: batch) / batch
    }

    func run(_ run: GroupRun) {
        let memory = run.arrays(
            inputs: [plan.group.input], outputs: [plan.group.output], plan.context, batch: batch)
        let (x, y) = (memory.inputs[0].floats, memory.outputs[0].floats)
        memory.parallelFor(batch) { example, worker in
            let line = run.work(of: worker).assumingMemoryBound(to: Float.self)
            for i in 0..<count { line[i] = x[example * count + i] }
            for i in 0..<count { y[example * count + i] = line[count - 1 - i] }
        }
    }
}

/// Kinds of groups of a package's own, on what is public.
@Suite struct GroupTests {
    /// A context for a group of these values; the group in it only lends its name, "group 0".
    private func context(_ schedule: Schedule) throws -> PlanContext {
        var schedule = schedule
        schedule.append(
            .elementwise(
                ElementwiseGroup(iteration: [], inputs: [], program: Program(inputs: [], outputs: []), outputs: [])))
        return PlanContext(
            schedule: schedule, device: try device(.best), maximumBatch: 4, group: schedule.groups[0], unwritten: [:])
    }

    @Test func aKindOfOnesOwnRunsOnPointersToItsValues() throws {
        var schedule = Schedule()
        let input = schedule.input([.batch, 5])
        let output = schedule.output([.batch, 5])
        let context = try context(schedule)
        let bound = try ReversalGroup(input: input, output: output).makePlan(context).bind(batch: 3)

        var x = (0..<15).map { Float($0) }
        var y = [Float](repeating: 0, count: 15)
        var work = [UInt8](repeating: 0, count: bound.workBytes * context.device.threads)
        var counts = [Int64](repeating: 0, count: 8 * context.device.threads)
        try x.withUnsafeMutableBytes { x in
            try y.withUnsafeMutableBytes { y in
                try work.withUnsafeMutableBytes { work in
                    let values = [x, y].map { $0.baseAddress?.assumingMemoryBound(to: CChar.self) }
                    try values.withUnsafeBufferPointer { values in
                        var kernels = martlet_context(
                            pool: context.device.pool, values: values.baseAddress!, shared: nil,
                            work: work.baseAddress!.assumingMemoryBound(to: CChar.self),
                            workBytes: Int64(bound.workBytes), isa: context.instructionSet.kernels)
                        try context.device.lock.withLock { _ in try bound.run(&kernels, counts: &counts) }
                    }
                }
            }
        }
        #expect(y == (0..<3).flatMap { example in (0..<5).reversed().map { Float(example * 5 + $0) } })
    }

    @Test func aPlanRefusesWithTheNameOfItsGroup() throws {
        var schedule = Schedule()
        let input = schedule.input([.batch, 5], .int32)
        let output = schedule.output([.batch, 5])
        let context = try context(schedule)
        #expect(
            throws: CPUError.unsupported(group: "group 0", location: nil, reason: "a reversal wants float32 values")
        ) {
            try ReversalGroup(input: input, output: output).makePlan(context)
        }
        #expect(throws: CPUError.invalidSchedule("'group 0' reads value 2, which is not there")) {
            try ReversalGroup(input: input, output: 2).makePlan(context)
        }
    }
}
