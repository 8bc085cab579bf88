import CPUKernels
import Compiler
import Graph

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

extension LoopGroup: CPUGroup {
    public func makePlan(_ context: PlanContext) throws -> any GroupPlan { try LoopPlan(self, context) }
}

/// A loop: its body is a program of its own, which reads slices where they lie.
struct LoopPlan: GroupPlan {
    let group: LoopGroup
    let body: CPUExecutable
    let condition: CPUExecutable?
    let carries: [CPUBuffer]
    let context: PlanContext

    var plannedBytes: Int {
        body.plannedBytes + (condition?.plannedBytes ?? 0) + carries.reduce(0) { $0 + $1.byteCount }
    }

    init(_ group: LoopGroup, _ context: PlanContext) throws {
        self.group = group
        self.context = context
        carries = try group.initial.map { value throws(CPUError) in
            try CPUBuffer(
                byteCount: context.schedule.values[value].type.byteCount(batch: context.maximumBatch),
                purpose: "what a loop carries")
        }
        let states = Dictionary(uniqueKeysWithValues: zip(group.carries, carries))
        let captures = Set(group.captures.map(\.name))
        func load(_ schedule: Schedule) throws -> CPUExecutable {
            try CPUExecutable(
                schedule, maximumBatch: context.maximumBatch, states: states, device: context.device,
                bodyWith: captures)
        }
        body = try load(group.body)
        condition = try group.condition.map(load)
    }

    func bind(batch: Int) -> any BoundGroup { BoundLoop(self, batch: batch) }
}

private final class BoundLoop: BoundGroup {
    let plan: LoopPlan
    let batch: Int

    init(_ plan: LoopPlan, batch: Int) {
        self.plan = plan
        self.batch = batch
    }

    func run(_ run: GroupRun) throws {
        let (group, body, types) = (plan.group, plan.body, plan.context.schedule.values.map(\.type))
        func memory(_ value: Int) -> UnsafeMutableRawPointer { run.pointer(to: value) }
        func bytes(_ value: Int) -> Int { types[value].byteCount(batch: batch) }
        for (carry, value) in zip(plan.carries, group.initial) { memcpy(carry.pointer, memory(value), bytes(value)) }
        for (value, name) in group.captures {
            body.hold(name, at: memory(value))
            plan.condition?.hold(name, at: memory(value))
        }
        // The elements of one step; of no step there are none to tell apart.
        let steps = max(1, group.limit)
        let slices = group.sequences.map { ($0.name, memory($0.value), bytes($0.value) / steps) }
        let stacked = group.stacked.map { ($0.output, memory($0.value), bytes($0.value) / steps) }
        let history = zip(plan.carries, group.history).compactMap { carry, value in
            value.map { (carry, memory($0), bytes($0) / steps) }
        }
        var taken = 0
        while taken < group.limit {
            if let condition = plan.condition {
                try condition.runBody(batch: batch, counts: run.counts)
                if condition.result(0).load(as: UInt8.self) == 0 { break }
            }
            let t = group.isReversed ? group.limit - 1 - taken : taken
            for (carry, whole, size) in history { memcpy(whole + t * size, carry.pointer, size) }
            for (name, whole, size) in slices { body.place(name, at: whole + t * size) }
            try body.runBody(batch: batch, counts: run.counts)
            for (output, whole, size) in stacked { memcpy(whole + t * size, body.result(output), size) }
            taken += 1
        }
        for (carry, value) in zip(plan.carries, group.final) {
            if let value { memcpy(memory(value), carry.pointer, bytes(value)) }
        }
        if let count = group.count { memory(count).storeBytes(of: Int32(taken), as: Int32.self) }
    }
}
