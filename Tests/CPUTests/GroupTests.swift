import Compiler
import Graph
import Testing

@testable import CPU

/// A kind of group that the compiler does not know: each example's values, in the opposite order.
private struct ReversalGroup: GroupKind, CPUGroup {
    var input: Int
    var output: Int

    var reading: [Walk] { [] }
    var writing: [Walk] { [] }
    var wholeReads: [Int] { [input] }
    var wholeWrites: [Int] { [output] }
    var extents: [Extent] { [] }

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
    private func schedule(_ element: ElementType = .float32) -> Schedule {
        var schedule = Schedule()
        let input = schedule.input([.batch, 5], element)
        schedule.append(ReversalGroup(input: input, output: schedule.output([.batch, 5])))
        return schedule
    }

    @Test func aKindOfOnesOwnRunsOnPointersToItsValues() throws {
        let x = HostArray((0..<15).map { Float($0) }, shape: [3, 5])
        let y = try run(schedule(), [0: x], batch: 3, instructionSet: .best)[0].floats
        #expect(y == (0..<3).flatMap { example in (0..<5).reversed().map { Float(example * 5 + $0) } })
    }

    @Test func aPlanRefusesWithTheNameOfItsGroup() throws {
        let device = try device(.best)
        #expect(
            throws: CPUError.unsupported(group: "group 0", location: nil, reason: "a reversal wants float32 values")
        ) {
            try device.load(schedule(.int32), maximumBatch: 4, states: [:])
        }
        var absent = schedule()
        absent.groups[0].kind = ReversalGroup(input: 7, output: 1)
        #expect(throws: CPUError.invalidSchedule("'group 0' reads value 7, which is not there")) {
            try device.load(absent, maximumBatch: 4, states: [:])
        }
    }
}
