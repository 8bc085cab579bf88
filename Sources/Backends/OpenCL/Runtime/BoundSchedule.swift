import COpenCL

/// The launches of a schedule with their arguments set for one batch size; a run only enqueues them.
final class BoundSchedule {
    /// In the order in which they are enqueued.
    let steps: [BoundStep]
    private var memory: [Int: OpenCLBuffer]

    init(_ program: LoadedProgram, memory: [Int: OpenCLBuffer], batch: Int) throws {
        steps = try program.order.stages.flatMap { try Self.bind($0, program, memory, batch) }
        self.memory = memory
    }

    /// The steps of one group, by themselves.
    static func steps(
        of group: Int, _ program: LoadedProgram, memory: [Int: OpenCLBuffer], batch: Int
    ) throws -> [BoundStep] {
        try program.groups[group].steps.indices.flatMap {
            try bind([LaunchOrder.Place(group: group, step: $0)], program, memory, batch)
        }
    }

    /// What is enqueued for a stage: nothing where no launch has a group at this batch, and several launches where their grids differ.
    private static func bind(
        _ stage: [LaunchOrder.Place], _ program: LoadedProgram, _ memory: [Int: OpenCLBuffer], _ batch: Int
    ) throws -> [BoundStep] {
        var grids: [(groups: [Int], members: [BoundLaunch.Member])] = []
        for place in stage {
            switch program.groups[place.group].steps[place.step].work {
            case .host(let step): return [BoundStep(work: .host(step), groups: [place.group])]
            case .loop(let loop): return [BoundStep(work: .loop(program.loops[loop]), groups: [place.group])]
            case .launch(let launch):
                let groups = launch.groups(batch)
                guard groups.allSatisfy({ $0 > 0 }) else { continue }
                let index = grids.firstIndex { $0.groups == groups } ?? grids.count
                if index == grids.count { grids.append((groups, [])) }
                grids[index].members.append((place.group, launch))
            }
        }
        return try grids.map { groups, members in
            let launch = try BoundLaunch(members, groups: groups, of: program, memory: memory, batch: batch)
            return BoundStep(work: .launch(launch), groups: members.map(\.group))
        }
    }

    /// Moves the launches to other memory where a run is fed from other buffers.
    func rebind(_ new: [Int: OpenCLBuffer]) throws {
        let changed = new.filter { memory[$0.key] !== $0.value }
        guard !changed.isEmpty else { return }
        for step in steps {
            guard case .launch(let launch) = step.work else { continue }
            for (value, buffer) in changed { try launch.rebind(value, to: buffer) }
        }
        memory = new
    }
}

/// What is enqueued at once.
struct BoundStep {
    enum Work {
        case launch(BoundLaunch)
        case host(HostStep)
        case loop(DeviceLoop)
    }

    let work: Work
    /// The groups of the schedule that it is work of.
    let groups: [Int]
}

/// A kernel object with its arguments: of one launch, or of several that share it.
final class BoundLaunch {
    typealias Member = (group: Int, launch: Launch)

    private let kernel: cl_kernel
    private let name: String
    private let global: [Int]
    private let local: [Int]
    /// Which arguments are a value's memory.
    private let places: [Int: [cl_uint]]

    /// - Parameters:
    ///   - members: launches of one kernel.
    ///   - groups: the work-groups of each.
    init(
        _ members: [Member], groups: [Int], of program: LoadedProgram, memory: [Int: OpenCLBuffer], batch: Int
    ) throws {
        let device = program.kernels.device
        let launch = members[0].launch
        name = launch.kernel
        kernel = try program.kernels.makeKernel(name)
        let grid = zip(groups, launch.local).map { $0 * $1 }
        let joined = program.order.joined[name]
        if joined != nil {
            let flat = [Int](repeating: 1, count: 2 - grid.count)
            (global, local) = (grid + flat + [members.count], launch.local + flat + [1])
        } else {
            (global, local) = (grid, launch.local)
        }
        var places: [Int: [cl_uint]] = [:]
        var position: cl_uint = 0
        for index in launch.arguments.indices {
            // Places without a member have the arguments of the last.
            let shares = joined.map { $0.isShared[index] ? 1 : $0.capacity } ?? 1
            for member in 0..<shares {
                let (group, launch) = members[min(member, members.count - 1)]
                switch launch.arguments[index] {
                case .value(let value):
                    places[value, default: []].append(position)
                    guard let buffer = memory[value] else {
                        throw OpenCLError.mismatch("\(name) uses a value that has no memory")
                    }
                    try Self.set(kernel, position, buffer.memory, device)
                case .scratch(let slot): try Self.set(kernel, position, program.scratch[group][slot].memory, device)
                case .owned(let place): try Self.set(kernel, position, program.owned[place].memory, device)
                case .integer(let value):
                    var number = cl_int(truncatingIfNeeded: value(batch))
                    try device.check(
                        clSetKernelArg(kernel, position, MemoryLayout<cl_int>.size, &number), "clSetKernelArg")
                }
                position += 1
            }
        }
        self.places = places
    }

    deinit { clReleaseKernel(kernel) }

    func rebind(_ value: Int, to buffer: OpenCLBuffer) throws {
        for position in places[value] ?? [] { try Self.set(kernel, position, buffer.memory, buffer.device) }
    }

    func enqueue(on queue: CommandQueue) throws { try queue.launch(kernel, name, global: global, local: local) }

    private static func set(_ kernel: cl_kernel, _ position: cl_uint, _ memory: cl_mem, _ device: OpenCLDevice) throws {
        var argument: cl_mem? = memory
        try device.check(clSetKernelArg(kernel, position, MemoryLayout<cl_mem?>.size, &argument), "clSetKernelArg")
    }
}
