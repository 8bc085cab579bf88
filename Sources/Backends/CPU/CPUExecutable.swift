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

    /// - Parameter isBody: the program is part of another, which writes its states where they lie.
    init(
        _ schedule: Schedule, maximumBatch: Int, states: [String: any DeviceBuffer], device: CPUDevice,
        isBody: Bool = false
    ) throws {
        guard maximumBatch >= 1 else { throw CPUError.wrongMaximumBatch(maximumBatch) }
        self.schedule = schedule
        self.maximumBatch = maximumBatch
        self.device = device
        var owned: [Int: CPUBuffer] = [:]
        let bytes = { (value: Int) -> Int in schedule.values[value].type.byteCount(batch: maximumBatch) }
        for (index, value) in schedule.values.enumerated() {
            switch value.storage {
            case .temporary: continue
            case .input: owned[index] = try CPUBuffer(byteCount: bytes(index), purpose: "input '\(value.label)'")
            case .constant(let array):
                guard array.bytes.count == bytes(index), array.type == value.type.element else {
                    throw CPUError.invalidSchedule("constant '\(value.label)' is not \(value.type)")
                }
                let buffer = try CPUBuffer(byteCount: array.bytes.count, purpose: "a constant")
                try array.withUnsafeBytes { try buffer.write($0) }
                owned[index] = buffer
            case .state(let name):
                guard let state = states[name] else { throw CPUError.missingState(name) }
                guard let buffer = state as? CPUBuffer else { throw CPUError.foreignBuffer("state '\(name)'") }
                guard buffer.byteCount == bytes(index) else {
                    throw CPUError.wrongSize(what: "state '\(name)'", expected: bytes(index), found: buffer.byteCount)
                }
                owned[index] = buffer
            }
        }
        self.owned = owned
        let written = Set(schedule.groups.flatMap(\.writes))
        let isInput = { (value: Int) in if case .input = schedule.values[value].storage { true } else { false } }
        writtenStates = written.compactMap { owned[$0] }
        let unwritten = isBody ? [:] : owned.filter { value, _ in !isInput(value) && !written.contains(value) }
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

    private func check(batch: Int) throws {
        guard (1...maximumBatch).contains(batch) else { throw CPUError.wrongBatch(batch, maximum: maximumBatch) }
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
        try check(batch: batch)
        return try device.lock.withLock { _ in
            for input in schedule.inputs { try bind(input, feeds, batch: batch) }
            // Each input has one by now.
            if feeds.count > inputs.count, let name = feeds.keys.sorted().first(where: { inputs[$0] == nil }) {
                throw CPUError.unknownFeed(name: name, inputs: Array(inputs.keys))
            }
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
        try check(batch: batch)
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

    /// Points the input's place at what is fed: a copy of a host array, or a device buffer as it is.
    private func bind(_ input: Int, _ feeds: [String: Feed], batch: Int) throws {
        guard case .input(let name) = schedule.values[input].storage else {
            throw CPUError.invalidSchedule("value \(input) is listed as an input and is none")
        }
        guard let feed = feeds[name] else { throw CPUError.missingFeed(name: name, given: Array(feeds.keys)) }
        let type = schedule.values[input].type
        let shape = type.shape.resolved(batch: batch)
        let bytes = type.byteCount(batch: batch)
        switch feed {
        case .host(let array):
            guard array.type == type.element, array.shape == shape else {
                throw CPUError.wrongFeed(
                    name: name, expected: "\(type.element)\(shape)", found: "\(array.type)\(array.shape)")
            }
            let target = owned[input]!.pointer
            array.withUnsafeBytes { if let base = $0.baseAddress { memcpy(target, base, bytes) } }
            table[input] = target.assumingMemoryBound(to: CChar.self)
        case .device(let buffer):
            guard let buffer = buffer as? CPUBuffer else { throw CPUError.foreignBuffer("input '\(name)'") }
            guard buffer.byteCount >= bytes else {
                throw CPUError.wrongFeed(
                    name: name, expected: "\(type.element)\(shape), \(bytes) bytes",
                    found: "a buffer of \(buffer.byteCount)")
            }
            table[input] = buffer.pointer.assumingMemoryBound(to: CChar.self)
        }
    }

    // MARK: as the body of a loop

    /// Points an input at memory that the caller keeps; nothing happens where the program has no such input.
    func place(_ input: String, at pointer: UnsafeMutableRawPointer) {
        guard let value = inputs[input] else { return }
        table[value] = pointer.assumingMemoryBound(to: CChar.self)
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
        try check(batch: batch)
        let pointer = try pointer(of: value)
        let type = schedule.values[value].type
        let shape = type.shape.resolved(batch: batch)
        guard array.type == type.element, array.shape == shape else {
            throw CPUError.wrongFeed(
                name: schedule.values[value].label, expected: "\(type.element)\(shape)",
                found: "\(array.type)\(array.shape)")
        }
        device.lock.withLock { _ in
            owned[value]?.willChange()
            array.withUnsafeBytes { if let base = $0.baseAddress { memcpy(pointer, base, $0.count) } }
        }
    }

    public func read(_ value: Int, batch: Int) throws -> HostArray {
        try check(batch: batch)
        return try device.lock.withLock { _ in try array(of: value, batch: batch) }
    }
}
