import COpenCL
import Compiler
import Graph

/// A loop on the device: its body is a program of its own, and copies on the device hand it slices and stack its results.
final class OpenCLLoop {
    private let group: LoopGroup
    private let values: [Value]
    private let body: OpenCLExecutable
    private let condition: OpenCLExecutable?
    private let carries: [OpenCLBuffer]
    /// What a step reads of each sequence.
    private let slices: [OpenCLBuffer]

    var plannedBytes: Int {
        body.plannedBytes + (condition?.plannedBytes ?? 0) + (carries + slices).reduce(0) { $0 + $1.byteCount }
    }

    init(_ group: LoopGroup, values: [Value], device: OpenCLDevice, maximumBatch: Int) throws {
        self.group = group
        self.values = values
        carries = try group.initial.map {
            try OpenCLBuffer(device, byteCount: values[$0].type.byteCount(batch: maximumBatch), zeroed: false)
        }
        slices = try group.sequences.map {
            try OpenCLBuffer(
                device, byteCount: values[$0.value].type.byteCount(batch: maximumBatch) / max(1, group.limit),
                zeroed: false)
        }
        let states = Dictionary(uniqueKeysWithValues: zip(group.carries, carries))
        body = try OpenCLExecutable(device, group.body, maximumBatch: maximumBatch, states: states)
        condition = try group.condition.map {
            try OpenCLExecutable(device, $0, maximumBatch: maximumBatch, states: states)
        }
    }

    /// Enqueues all steps; only a condition is waited for.
    func enqueue(_ memory: [Int: OpenCLBuffer], batch: Int) throws {
        func bytes(_ value: Int) -> Int { values[value].type.byteCount(batch: batch) }
        func buffer(_ value: Int) throws -> OpenCLBuffer {
            guard let buffer = memory[value] else {
                throw OpenCLError.mismatch("a loop uses \(values[value].label), which has no memory")
            }
            return buffer
        }
        var feeds: [String: Feed] = [:]
        for (value, name) in group.captures { feeds[name] = .device(try buffer(value)) }
        let asked = condition.map { condition in feeds.filter { condition.schedule.reads($0.key) } } ?? [:]
        feeds = feeds.filter { body.schedule.reads($0.key) }
        for (slice, sequence) in zip(slices, group.sequences) { feeds[sequence.name] = .device(slice) }
        for (carry, value) in zip(carries, group.initial) {
            try buffer(value).copy(0, to: carry, 0, byteCount: bytes(value))
        }
        // The elements of one step.
        let steps = max(1, group.limit)
        let read = try zip(slices, group.sequences).map { ($0, try buffer($1.value), bytes($1.value) / steps) }
        let stacked = try group.stacked.map { ($0.output, try buffer($0.value), bytes($0.value) / steps) }
        let history = try zip(carries, group.history).compactMap { carry, value in
            try value.map { (carry, try buffer($0), bytes($0) / steps) }
        }
        var taken = 0
        while taken < group.limit {
            if let condition, try condition.run(asked, batch: batch)[0].bytes[0] == 0 { break }
            let t = group.isReversed ? group.limit - 1 - taken : taken
            for (carry, whole, size) in history { try carry.copy(0, to: whole, t * size, byteCount: size) }
            for (slice, whole, size) in read { try whole.copy(t * size, to: slice, 0, byteCount: size) }
            let results = try body.runOnDevice(feeds, batch: batch)
            for (output, whole, size) in stacked { try results[output].copy(0, to: whole, t * size, byteCount: size) }
            taken += 1
        }
        for (carry, value) in zip(carries, group.final) {
            if let value { try carry.copy(0, to: buffer(value), 0, byteCount: bytes(value)) }
        }
        if let count = group.count {
            try HostArray([Int32(taken)]).withUnsafeBytes { try buffer(count).write($0) }
        }
    }
}

extension OpenCLBuffer {
    /// Enqueues a copy to another buffer of the device.
    fileprivate func copy(_ offset: Int, to target: OpenCLBuffer, _ targetOffset: Int, byteCount: Int) throws {
        guard byteCount > 0 else { return }
        try device.check(
            clEnqueueCopyBuffer(device.queue, memory, target.memory, offset, targetOffset, byteCount, 0, nil, nil),
            "clEnqueueCopyBuffer")
    }
}
