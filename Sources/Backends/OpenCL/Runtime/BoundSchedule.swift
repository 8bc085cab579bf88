import COpenCL

/// The launches of a schedule with their arguments set for one batch size; a run only enqueues them.
final class BoundSchedule {
    /// By group.
    let steps: [[BoundStep]]
    private var memory: [Int: OpenCLBuffer]

    init(_ program: LoadedProgram, memory: [Int: OpenCLBuffer], batch: Int) throws {
        steps = try program.groups.map { group in
            try group.steps.compactMap { step in
                switch step.work {
                case .host(let step): return .host(step)
                case .loop(let place): return .loop(program.loops[place])
                case .launch(let launch):
                    let groups = launch.groups(batch)
                    guard groups.allSatisfy({ $0 > 0 }) else { return nil }
                    return .launch(try BoundLaunch(launch, groups: groups, of: program, memory: memory, batch: batch))
                }
            }
        }
        self.memory = memory
    }

    /// Moves the launches to other memory where a run is fed from other buffers.
    func rebind(_ new: [Int: OpenCLBuffer]) throws {
        let changed = new.filter { memory[$0.key] !== $0.value }
        guard !changed.isEmpty else { return }
        for case .launch(let launch) in steps.joined() {
            for (value, buffer) in changed { try launch.rebind(value, to: buffer) }
        }
        memory = new
    }
}

enum BoundStep {
    case launch(BoundLaunch)
    case host(HostStep)
    case loop(DeviceLoop)
}

/// A kernel object with its arguments.
final class BoundLaunch {
    private let kernel: cl_kernel
    private let name: String
    private let global: [Int]
    private let local: [Int]
    /// Which arguments are a value's memory.
    private let places: [Int: [cl_uint]]

    init(
        _ launch: Launch, groups: [Int], of program: LoadedProgram, memory: [Int: OpenCLBuffer], batch: Int
    ) throws {
        let device = program.kernels.device
        kernel = try program.kernels.makeKernel(launch.kernel)
        name = launch.kernel
        local = launch.local
        global = zip(groups, launch.local).map { $0 * $1 }
        var places: [Int: [cl_uint]] = [:]
        for (index, argument) in launch.arguments.enumerated() {
            let position = cl_uint(index)
            switch argument {
            case .value(let value):
                places[value, default: []].append(position)
                guard let buffer = memory[value] else {
                    throw OpenCLError.mismatch("\(launch.kernel) uses a value that has no memory")
                }
                try Self.set(kernel, position, buffer.memory, device)
            case .scratch(let slot): try Self.set(kernel, position, program.scratch[slot].memory, device)
            case .owned(let place): try Self.set(kernel, position, program.owned[place].memory, device)
            case .integer(let value):
                var number = cl_int(truncatingIfNeeded: value(batch))
                try device.check(clSetKernelArg(kernel, position, MemoryLayout<cl_int>.size, &number), "clSetKernelArg")
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
