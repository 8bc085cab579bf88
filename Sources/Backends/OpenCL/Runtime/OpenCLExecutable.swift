import Compiler
import Graph

/// A schedule that is loaded on an OpenCL device: one program, memory for every value, and launches whose arguments are
/// bound once for each batch size.
public final class OpenCLExecutable: Executable {
    public let schedule: Schedule
    public let maximumBatch: Int
    public let device: OpenCLDevice
    public private(set) var plannedBytes = 0
    /// The generated program.
    public let source: String

    private let binding: ProgramBinding
    private let program: LoadedProgram
    /// The memory of every value; fed device buffers stand in for inputs while they run.
    private let memory: [Int: OpenCLBuffer]
    private var bound: [Int: BoundSchedule] = [:]
    private var recentBatches: [Int] = []
    /// How many batch sizes keep their bound launches.
    private static let boundLimit = 8

    init(
        _ device: OpenCLDevice, _ schedule: Schedule, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws {
        binding = try ProgramBinding(schedule, maximumBatch: maximumBatch)
        try Self.validate(schedule, maximumBatch: maximumBatch)
        self.device = device
        self.schedule = schedule
        self.maximumBatch = maximumBatch
        let bound = try binding.bind(states: states, device: device.name, own: device.own)
        let lowered = try schedule.lowered(for: device, maximumBatch: maximumBatch)
        source = lowered.source
        if debugLevel >= 2 {
            for line in lowered.launchLines(of: schedule, batch: maximumBatch) { debugLine("\(device.name): \(line)") }
        }
        let planned = try PlannedMemory(device, schedule, lowered, maximumBatch: maximumBatch, states: bound)
        memory = planned.values
        program = try LoadedProgram(
            device, lowered, values: schedule.values, scratch: planned.scratch, maximumBatch: maximumBatch)
        plannedBytes = planned.byteCount + program.plannedBytes
        try device.finish()
    }

    // MARK: - Running

    public func run(_ feeds: [String: Feed], batch: Int) throws -> [HostArray] {
        guard debugLevel >= 4 else { return try run(feeds, batch: batch, on: device.queue) }
        let (times, memory) = try runTimed(feeds, batch: batch)
        printTimes(times, of: schedule)
        return try schedule.outputs.map { try read($0, from: memory, batch: batch, on: device.queue) }
    }

    public func start(_ feeds: [String: Feed], batch: Int) throws -> StartedRun {
        if debugLevel >= 4 { return StartedRun(finished: try run(feeds, batch: batch)) }
        let memory = try enqueue(feeds, batch: batch, on: device.queue)
        let reads = try schedule.outputs.map { id in
            let type = schedule.values[id].type
            let read = try device.queue.startReading(
                try self.buffer(of: id, in: memory), byteCount: type.byteCount(batch: batch))
            return { try HostArray(type: type.element, shape: type.shape.resolved(batch: batch), bytes: read.bytes()) }
        }
        try device.queue.flush()
        return StartedRun { try reads.map { try $0() } }
    }

    /// Runs every group and leaves the outputs on the device, where they are valid until the next run. Arrays that are fed may be
    /// changed at once: the device reads what they were.
    public func runOnDevice(_ feeds: [String: Feed], batch: Int) throws -> [OpenCLBuffer] {
        try runOnDevice(feeds, batch: batch, on: device.queue)
    }

    public func profile(_ feeds: [String: Feed], batch: Int) throws -> [GroupTime] {
        try runTimed(feeds, batch: batch).times
    }

    public func run(group: Int, batch: Int) throws {
        try binding.check(batch: batch)
        let steps = try BoundSchedule.steps(of: group, program, memory: memory, batch: batch)
        for step in steps { try enqueue(step, batch: batch, memory, on: device.queue) }
        try device.finish()
    }

    public func write(_ array: HostArray, to value: Int, batch: Int) throws {
        let (label, type) = (schedule.values[value].label, schedule.values[value].type)
        try ProgramBinding.check(array, for: label, type, batch: batch)
        guard let buffer = memory[value] else { return }
        try array.withUnsafeBytes { try buffer.write($0) }
    }

    public func read(_ value: Int, batch: Int) throws -> HostArray {
        try read(value, from: memory, batch: batch, on: device.queue)
    }

    /// For each product, how many steps (a tile times sixteen of k) ran since the last call, and how many one run without
    /// a mask takes. Empty unless the device counts tiles.
    public func executedTiles(batch: Int) throws -> [(group: Int, executed: Int, dense: Int)] {
        try program.groups.enumerated().compactMap { index, group in
            guard let counter = group.tileCounter else { return nil }
            let buffer = program.owned[counter.memory]
            let executed = try HostArray(reading: buffer, type: .int32, shape: [1]).integers[0]
            try HostArray([Int32(0)]).withUnsafeBytes { try buffer.write($0) }
            return (index, Int(executed), counter.dense(batch))
        }
    }

    // MARK: - Enqueueing

    /// - Parameter queue: the device's, or that of a profile, whose feeds are on the device.
    func run(_ feeds: [String: Feed], batch: Int, on queue: CommandQueue) throws -> [HostArray] {
        let memory = try enqueue(feeds, batch: batch, on: queue)
        let results = try schedule.outputs.map { try read($0, from: memory, batch: batch, on: queue) }
        if results.isEmpty { try queue.finish() }
        return results
    }

    func runOnDevice(_ feeds: [String: Feed], batch: Int, on queue: CommandQueue) throws -> [OpenCLBuffer] {
        let memory = try enqueue(feeds, batch: batch, on: queue)
        return schedule.outputs.compactMap { memory[$0] }
    }

    /// Runs the launches one after another, with the time that each group took, and leaves the outputs on the device. Groups that share
    /// a launch share its time.
    private func runTimed(
        _ feeds: [String: Feed], batch: Int
    ) throws -> (times: [GroupTime], memory: [Int: OpenCLBuffer]) {
        let queue = try device.makeProfilingQueue()
        let memory = try prepare(feeds, batch: batch)
        let bound = try bind(batch: batch, memory: memory)
        // The feeds are uploaded by the device's own queue.
        try device.finish()
        var seconds = [Double](repeating: 0, count: schedule.groups.count)
        for step in bound.steps {
            try enqueue(step, batch: batch, memory, on: queue)
            let share = try queue.takeSeconds() / Double(step.groups.count)
            for group in step.groups { seconds[group] += share }
        }
        return (zip(schedule.groups, seconds).map { GroupTime($0, seconds: $1) }, memory)
    }

    private func enqueue(
        _ feeds: [String: Feed], batch: Int, on queue: CommandQueue
    ) throws -> [Int: OpenCLBuffer] {
        let memory = try prepare(feeds, batch: batch)
        let bound = try bind(batch: batch, memory: memory)
        for step in bound.steps { try enqueue(step, batch: batch, memory, on: queue) }
        try queue.flush()
        return memory
    }

    /// Checks and uploads the feeds; the result is the memory of each value in this run.
    private func prepare(_ feeds: [String: Feed], batch: Int) throws -> [Int: OpenCLBuffer] {
        var memory = memory
        for (value, feed) in try binding.bind(feeds, batch: batch, device: device.name, own: device.own) {
            switch feed {
            case .host(let array): if let buffer = memory[value] { try device.queue.upload(array, to: buffer) }
            case .device(let buffer): memory[value] = buffer
            }
        }
        return memory
    }

    private func bind(batch: Int, memory: [Int: OpenCLBuffer]) throws -> BoundSchedule {
        try binding.check(batch: batch)
        recentBatches.removeAll { $0 == batch }
        recentBatches.append(batch)
        if let known = bound[batch] {
            try known.rebind(memory)
            return known
        }
        if recentBatches.count > Self.boundLimit { bound[recentBatches.removeFirst()] = nil }
        let made = try BoundSchedule(program, memory: memory, batch: batch)
        bound[batch] = made
        return made
    }

    private func enqueue(
        _ step: BoundStep, batch: Int, _ memory: [Int: OpenCLBuffer], on queue: CommandQueue
    ) throws {
        switch step.work {
        case .launch(let launch): try launch.enqueue(on: queue)
        case .loop(let loop): try loop.enqueue(on: queue, memory, batch: batch)
        case .host(let step): try step.run(on: queue, device, memory: memory, batch: batch)
        }
    }

    private func read(
        _ value: Int, from memory: [Int: OpenCLBuffer], batch: Int, on queue: CommandQueue
    ) throws -> HostArray {
        let type = schedule.values[value].type
        var array = HostArray(type: type.element, shape: type.shape.resolved(batch: batch))
        try array.withUnsafeMutableBytes { try queue.read(try buffer(of: value, in: memory), into: $0) }
        return array
    }

    private func buffer(of value: Int, in memory: [Int: OpenCLBuffer]) throws -> OpenCLBuffer {
        guard let buffer = memory[value] else {
            throw OpenCLError.mismatch(
                "\(schedule.values[value].label) has no memory: no group of the schedule makes it")
        }
        return buffer
    }

    // MARK: - Checks

    private static func validate(_ schedule: Schedule, maximumBatch: Int) throws {
        for value in schedule.values {
            guard value.type.element != .float64 else {
                throw OpenCLError.unsupported(
                    "\(value.label) is float64, which OpenCL devices here do not run: use `--device cpu` for double precision, "
                        + "or cast to float32")
            }
            // Generated code counts elements in 32 bits.
            let count = value.type.shape.dimensions.reduce(1) { count, extent -> Int in
                count.multipliedReportingOverflow(by: extent.resolved(batch: maximumBatch)).partialValue
            }
            guard count >= 0, count < 1 << 31 else {
                throw OpenCLError.unsupported(
                    "\(value.label) has \(value.type.shape) elements, 2^31 or more at batch \(maximumBatch): use a smaller batch"
                )
            }
        }
    }
}
