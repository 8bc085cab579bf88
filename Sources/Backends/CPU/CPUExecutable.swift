import CPUKernels
import Compiler
import Graph

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// A schedule with its memory, ready to run on the CPU.
public final class CPUExecutable: Executable {
    public let schedule: Schedule
    public let maximumBatch: Int
    public let device: CPUDevice

    private let plans: [any GroupPlan]
    /// Groups bound to a batch size; a size that was seen before costs nothing.
    private var bound: [Int: [any BoundGroup]] = [:]
    private let arena: CPUBuffer
    private var shared: CPUBuffer
    private var work: CPUBuffer
    private var workBytes: Int
    /// Memory of inputs and constants, and the states, by value.
    private var owned: [Int: CPUBuffer] = [:]
    private let inputs: [String: Int]
    private let binding: ProgramBinding
    /// The states that the program writes.
    private let writtenStates: [CPUBuffer]
    /// Where every value lies.
    private let table: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let counts: UnsafeMutablePointer<Int64>

    /// Multiply-adds of float32 and float64 products since the last reset; what a mask skips is not counted.
    public var executedMultiplyAdds: Int { (0..<device.threads).reduce(0) { $0 + Int(counts[8 * $1]) } }

    public func resetCounters() { counts.update(repeating: 0, count: 8 * device.threads) }

    public var plannedBytes: Int {
        var bytes = arena.byteCount + shared.byteCount + work.byteCount + plans.reduce(0) { $0 + $1.plannedBytes }
        for (value, buffer) in owned {
            if case .state = schedule.values[value].storage { continue }
            bytes += buffer.byteCount
        }
        return bytes
    }

    /// - Parameter captures: the program is the body of a loop, whose states are written where they lie; of its inputs these are the same
    ///   in every step of the loop.
    init(
        _ schedule: Schedule, maximumBatch: Int, states: [String: any DeviceBuffer], device: CPUDevice,
        bodyWith captures: Set<String>? = nil
    ) throws {
        binding = try ProgramBinding(schedule, maximumBatch: maximumBatch)
        self.schedule = schedule
        self.maximumBatch = maximumBatch
        self.device = device
        var owned = try binding.bind(states: states, device: device.name) { $0 as? CPUBuffer }
        let bytes = { (value: Int) -> Int in schedule.values[value].type.byteCount(batch: maximumBatch) }
        for (index, value) in schedule.values.enumerated() {
            switch value.storage {
            case .temporary, .state: continue
            case .input: owned[index] = try CPUBuffer(byteCount: bytes(index), purpose: "input '\(value.label)'")
            case .constant(let array):
                guard array.bytes.count == bytes(index), array.type == value.type.element else {
                    throw CPUError.invalidSchedule("constant '\(value.label)' is not \(value.type)")
                }
                let buffer = try CPUBuffer(byteCount: array.bytes.count, purpose: "a constant")
                try array.withUnsafeBytes { try buffer.write($0) }
                owned[index] = buffer
            }
        }
        self.owned = owned
        let written = Set(schedule.groups.flatMap(\.writes))
        writtenStates = written.compactMap { owned[$0] }
        let unwritten = owned.filter { value, _ in
            switch schedule.values[value].storage {
            case .input(let name): captures?.contains(name) == true
            case .state: captures == nil && !written.contains(value)
            case .constant, .temporary: !written.contains(value)
            }
        }
        plans = try schedule.groups.map {
            try makePlan($0, schedule: schedule, device: device, maximumBatch: maximumBatch, unwritten: unwritten)
        }
        inputs = Dictionary(
            schedule.inputs.compactMap { value in
                if case .input(let name) = schedule.values[value].storage { (name, value) } else { nil }
            }, uniquingKeysWith: { first, _ in first })
        let plan = MemoryPlan(schedule, batch: maximumBatch)
        arena = try CPUBuffer(byteCount: plan.byteCount, purpose: "the program's temporaries")
        shared = try CPUBuffer(byteCount: 0)
        work = try CPUBuffer(byteCount: 0)
        workBytes = 0
        table = .allocate(capacity: max(1, schedule.values.count))
        table.initialize(repeating: nil, count: max(1, schedule.values.count))
        counts = .allocate(capacity: 8 * device.threads)
        counts.initialize(repeating: 0, count: 8 * device.threads)
        for (value, offset) in plan.offsets {
            table[value] = (arena.pointer + offset).assumingMemoryBound(to: CChar.self)
        }
        for (value, buffer) in owned { table[value] = buffer.pointer.assumingMemoryBound(to: CChar.self) }
        _ = try groups(batch: maximumBatch)
    }

    deinit {
        table.deallocate()
        counts.deallocate()
    }

    /// The groups for one batch size, with work space that is large enough for them.
    private func groups(batch: Int) throws -> [any BoundGroup] {
        if let groups = bound[batch] { return groups }
        let groups = try plans.map { plan throws(CPUError) in try plan.bind(batch: batch) }
        let sharedBytes = groups.map(\.sharedBytes).max() ?? 0
        if sharedBytes > shared.byteCount { shared = try CPUBuffer(byteCount: sharedBytes, purpose: "packed operands") }
        let neededWork = ((groups.map(\.workBytes).max() ?? 0) + 4095) / 4096 * 4096 + 64
        if neededWork > workBytes {
            work = try CPUBuffer(byteCount: neededWork * device.threads, purpose: "the workers' scratch memory")
            workBytes = neededWork
        }
        bound[batch] = groups
        return groups
    }

    private var context: martlet_context {
        martlet_context(
            pool: device.pool, values: UnsafePointer(table), shared: shared.pointer.assumingMemoryBound(to: CChar.self),
            work: work.pointer.assumingMemoryBound(to: CChar.self), workBytes: Int64(workBytes),
            isa: device.instructionSet.kernels)
    }

    // MARK: running

    public func run(_ feeds: [String: Feed], batch: Int) throws -> [HostArray] {
        try withGroups(feeds, batch: batch) { groups, context in
            if debugLevel >= 4 {
                printTimes(try runTimed(groups, &context), of: schedule)
            } else {
                for group in groups { try group.run(&context, counts: counts) }
            }
            return try schedule.outputs.map { try array(of: $0, batch: batch) }
        }
    }

    public func profile(_ feeds: [String: Feed], batch: Int) throws -> [GroupTime] {
        try withGroups(feeds, batch: batch) { try runTimed($0, &$1) }
    }

    /// Has the device, the feeds and the groups ready for `body`, which runs the groups.
    private func withGroups<R: Sendable>(
        _ feeds: [String: Feed], batch: Int, _ body: ([any BoundGroup], inout martlet_context) throws -> R
    ) throws -> R {
        let bound = try binding.bind(feeds, batch: batch, device: device.name) { $0 as? CPUBuffer }
        return try device.lock.withLock { _ in
            for (input, feed) in bound { place(feed, at: input) }
            let groups = try groups(batch: batch)
            let saved = martlet_flush_subnormals()
            defer { martlet_restore_arithmetic(saved) }
            var context = context
            for state in writtenStates { state.willChange() }
            return try body(groups, &context)
        }
    }

    /// Runs the groups one after another, with the time that each took.
    private func runTimed(_ groups: [any BoundGroup], _ context: inout martlet_context) throws -> [GroupTime] {
        let clock = ContinuousClock()
        return try zip(groups, schedule.groups).map { bound, group in
            let time = try clock.measure { try bound.run(&context, counts: counts) }
            return GroupTime(group, seconds: time / .seconds(1))
        }
    }

    public func run(group: Int, batch: Int) throws {
        try binding.check(batch: batch)
        guard schedule.groups.indices.contains(group) else {
            throw CPUError.noSuchValue("group \(group) was asked for and the schedule has \(schedule.groups.count)")
        }
        try device.lock.withLock { _ in
            let groups = try groups(batch: batch)
            let saved = martlet_flush_subnormals()
            defer { martlet_restore_arithmetic(saved) }
            var context = context
            for state in writtenStates { state.willChange() }
            try groups[group].run(&context, counts: counts)
        }
    }

    /// Points an input's place at what is fed: a copy of a host array, or a device buffer as it is.
    private func place(_ feed: ProgramBinding.BoundFeed<CPUBuffer>, at input: Int) {
        switch feed {
        case .host(let array):
            let target = owned[input]!.pointer
            array.withUnsafeBytes { if let base = $0.baseAddress { memcpy(target, base, $0.count) } }
            table[input] = target.assumingMemoryBound(to: CChar.self)
        case .device(let buffer): table[input] = buffer.pointer.assumingMemoryBound(to: CChar.self)
        }
    }

    // MARK: as the body of a loop

    /// Points an input at memory that the caller keeps; nothing happens where the program has no such input.
    func place(_ input: String, at pointer: UnsafeMutableRawPointer) {
        guard let value = inputs[input] else { return }
        table[value] = pointer.assumingMemoryBound(to: CChar.self)
    }

    /// Points an input at memory that stays as it is while the loop runs.
    func hold(_ input: String, at pointer: UnsafeMutableRawPointer) {
        guard let value = inputs[input] else { return }
        place(input, at: pointer)
        owned[value]?.willChange()
    }

    /// Runs every group for a program that has the device already.
    func runBody(batch: Int, counts: UnsafeMutablePointer<Int64>) throws {
        let groups = try groups(batch: batch)
        var context = context
        for group in groups { try group.run(&context, counts: counts) }
    }

    /// Where an output lies.
    func result(_ output: Int) -> UnsafeMutableRawPointer { UnsafeMutableRawPointer(table[schedule.outputs[output]]!) }

    // MARK: values

    private func pointer(of value: Int) throws -> UnsafeMutableRawPointer {
        guard schedule.values.indices.contains(value) else {
            throw CPUError.noSuchValue("value \(value) was asked for and the schedule has \(schedule.values.count)")
        }
        guard let pointer = table[value] else {
            throw CPUError.noSuchValue("value \(value) ('\(schedule.values[value].label)') is used by no group")
        }
        return UnsafeMutableRawPointer(pointer)
    }

    private func array(of value: Int, batch: Int) throws -> HostArray {
        let pointer = try pointer(of: value)
        let type = schedule.values[value].type
        var array = HostArray(type: type.element, shape: type.shape.resolved(batch: batch))
        array.withUnsafeMutableBytes { if let base = $0.baseAddress { memcpy(base, pointer, $0.count) } }
        return array
    }

    public func write(_ array: HostArray, to value: Int, batch: Int) throws {
        try binding.check(batch: batch)
        let pointer = try pointer(of: value)
        let (label, type) = (schedule.values[value].label, schedule.values[value].type)
        try ProgramBinding.check(array, for: label, type, batch: batch)
        device.lock.withLock { _ in
            owned[value]?.willChange()
            array.withUnsafeBytes { if let base = $0.baseAddress { memcpy(pointer, base, $0.count) } }
        }
    }

    public func read(_ value: Int, batch: Int) throws -> HostArray {
        try binding.check(batch: batch)
        return try device.lock.withLock { _ in try array(of: value, batch: batch) }
    }
}
