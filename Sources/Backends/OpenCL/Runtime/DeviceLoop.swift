import Compiler
import Graph

/// A loop as its device runs it: programs of a step, and how they share values with the program around them.
struct LoopPlan {
    /// What goes from step to step: a state of the body.
    struct Carry {
        var name: String
        /// The value that it begins as.
        var initial: Int
        /// The value that takes what it ends as, if it is read.
        var final: Int?
        /// The value that takes what it is before each step, if it is read.
        var history: Int?
    }

    var body: Schedule
    /// Computes a bool: whether to take another step.
    var condition: Schedule?
    /// How many steps, at most.
    var limit: Int
    /// From the last slice to the first.
    var isReversed: Bool
    var carries: [Carry]
    /// Values that a step reads a slice of, and the body's inputs that take it.
    var sequences: [(value: Int, name: String)]
    /// Values that every step reads, and the inputs that take them.
    var captures: [(value: Int, name: String)]
    /// Values that are stacked from an output of the body.
    var stacked: [(value: Int, output: Int)]
    /// The value that takes the number of steps, if it is read.
    var count: Int?
}

/// A loop on the device: its body is a program of its own, and copies on the device hand it slices and stack its results.
final class DeviceLoop {
    private let plan: LoopPlan
    private let values: [Value]
    private let body: OpenCLExecutable
    private let condition: OpenCLExecutable?
    private let carries: [OpenCLBuffer]
    /// What a step reads of each sequence.
    private let slices: [OpenCLBuffer]

    var plannedBytes: Int {
        body.plannedBytes + (condition?.plannedBytes ?? 0) + (carries + slices).reduce(0) { $0 + $1.byteCount }
    }

    /// - Parameter values: of the program around the loop.
    init(_ plan: LoopPlan, values: [Value], device: OpenCLDevice, maximumBatch: Int) throws {
        self.plan = plan
        self.values = values
        carries = try plan.carries.map {
            try OpenCLBuffer(device, byteCount: values[$0.initial].type.byteCount(batch: maximumBatch), zeroed: false)
        }
        slices = try plan.sequences.map {
            try OpenCLBuffer(
                device, byteCount: values[$0.value].type.byteCount(batch: maximumBatch) / max(1, plan.limit),
                zeroed: false)
        }
        let states = Dictionary(uniqueKeysWithValues: zip(plan.carries.map(\.name), carries))
        body = try OpenCLExecutable(device, plan.body, maximumBatch: maximumBatch, states: states)
        condition = try plan.condition.map {
            try OpenCLExecutable(device, $0, maximumBatch: maximumBatch, states: states)
        }
    }

    /// A run of bytes on the device that lies in steps of equal size.
    private typealias Steps = (part: OpenCLBuffer, whole: OpenCLBuffer, byteCount: Int)

    /// Enqueues all steps; only a condition is waited for.
    func enqueue(on queue: CommandQueue, _ memory: [Int: OpenCLBuffer], batch: Int) throws {
        func bytes(_ value: Int) -> Int { values[value].type.byteCount(batch: batch) }
        func buffer(_ value: Int) throws -> OpenCLBuffer {
            guard let buffer = memory[value] else {
                throw OpenCLError.mismatch("a loop uses \(values[value].label), which has no memory")
            }
            return buffer
        }
        let captured = try plan.captures.map { ($0.name, Feed.device(try buffer($0.value))) }
        let sliced = zip(plan.sequences, slices).map { ($0.name, Feed.device($1)) }
        let feeds = Dictionary(
            uniqueKeysWithValues: captured.filter { body.schedule.reads($0.0) } + sliced)
        let asked = Dictionary(
            uniqueKeysWithValues: captured.filter { condition?.schedule.reads($0.0) ?? false })
        for (carry, buffers) in zip(plan.carries, carries) {
            try queue.copy(buffer(carry.initial), 0, to: buffers, 0, byteCount: bytes(carry.initial))
        }
        let steps = max(1, plan.limit)
        let read: [Steps] = try zip(slices, plan.sequences).map { ($0, try buffer($1.value), bytes($1.value) / steps) }
        let stacked = try plan.stacked.map { ($0.output, try buffer($0.value), bytes($0.value) / steps) }
        let history: [Steps] = try zip(carries, plan.carries).compactMap { part, carry in
            try carry.history.map { (part, try buffer($0), bytes($0) / steps) }
        }
        var taken = 0
        while taken < plan.limit {
            if let condition, try condition.run(asked, batch: batch, on: queue)[0].bytes[0] == 0 { break }
            let t = plan.isReversed ? plan.limit - 1 - taken : taken
            for (carry, whole, size) in history { try queue.copy(carry, 0, to: whole, t * size, byteCount: size) }
            for (slice, whole, size) in read { try queue.copy(whole, t * size, to: slice, 0, byteCount: size) }
            let results = try body.runOnDevice(feeds, batch: batch, on: queue)
            for (output, whole, size) in stacked {
                try queue.copy(results[output], 0, to: whole, t * size, byteCount: size)
            }
            taken += 1
        }
        for (buffers, carry) in zip(carries, plan.carries) {
            if let value = carry.final { try queue.copy(buffers, 0, to: buffer(value), 0, byteCount: bytes(value)) }
        }
        if let count = plan.count {
            try HostArray([Int32(taken)]).withUnsafeBytes { try queue.write($0, to: buffer(count)) }
        }
    }
}
