import COpenCL
import Compiler
import Graph

/// An OpenCL device with its context and one in-order queue.
///
///     let device = try OpenCLDevice.named("opencl:0")
///     let executable = try device.load(schedule, maximumBatch: 100, states: [:])
public final class OpenCLDevice: Device, @unchecked Sendable {
    // Handles are set once and OpenCL calls on them are thread safe, hence `@unchecked`.
    let description: DeviceDescription
    let context: cl_context
    /// Where everything runs but profiles.
    let queue: CommandQueue
    public let name: String
    public let family: KernelFamily
    /// What was built for it lately.
    let programs = ProgramStore()
    /// Product kernels count the tiles they execute (see `OpenCLExecutable.executedTiles`).
    public let countsTiles: Bool
    /// Whether small launches are put together (`LaunchOrder`): on GPUs. A processor launches in a microsecond, and compiles kernels for
    /// many launches for longer than it would ever save.
    let joinsLaunches: Bool

    public var summary: String {
        "\(description.name) (\(description.platform), \(description.version.trimmed), driver \(description.driver), "
            + "\(description.computeUnits) compute units, \(description.globalBytes >> 20) MiB, \(family.rawValue) kernels)"
    }

    /// A buffer as one of this device's; `nil` if it is another's.
    func own(_ buffer: any DeviceBuffer) -> OpenCLBuffer? {
        guard let buffer = buffer as? OpenCLBuffer, buffer.device.context == context else { return nil }
        return buffer
    }

    /// Whether the hardware is a GPU, whichever kernels run on it.
    public var isGPU: Bool { description.isGPU }

    /// What the device calls itself.
    public var hardware: String { description.name }

    /// About as many as it does at most, by its vendor's units: none of an emulator that calls itself a GPU.
    public var multiplyAddsPerSecond: Double { description.multiplyAddsPerSecond }

    /// Every OpenCL 1.2 device of the machine: GPUs first, then processors. Empty where there is none.
    /// - Throws: `OpenCLError` of the first device that does not open.
    public static func all(kernels: KernelFamily? = nil) throws -> [OpenCLDevice] {
        try attempts(kernels: kernels).map { try $0.device.get() }
    }

    /// Every OpenCL 1.2 device of the machine, or why it does not open: one that fails takes no other with it. Each is opened when it is
    /// come to.
    public static func attempts(
        kernels: KernelFamily? = nil
    ) -> some Sequence<(name: String, isGPU: Bool, device: Result<OpenCLDevice, any Error>)> {
        DeviceDescription.all.enumerated().lazy.map { number, description in
            (
                "opencl:\(number)", description.isGPU,
                Result { try OpenCLDevice(description, number: number, kernels: kernels) }
            )
        }
    }

    /// The device `opencl` (the first) or `opencl:N`.
    /// - Parameter kernels: the kernel family; `nil` takes `MARTLET_KERNELS`, else what suits the device.
    /// - Throws: `OpenCLError.noDevice`, `.unknownDevice`.
    public static func named(
        _ name: String = "opencl", kernels: KernelFamily? = nil, countsTiles: Bool = false
    ) throws -> OpenCLDevice {
        try named(name, kernels: kernels, countsTiles: countsTiles, joinsLaunches: nil)
    }

    /// - Parameter joinsLaunches: `nil` for what suits the device.
    static func named(
        _ name: String = "opencl", kernels: KernelFamily?, countsTiles: Bool = false, joinsLaunches: Bool?
    ) throws -> OpenCLDevice {
        let found = DeviceDescription.all
        guard !found.isEmpty else { throw OpenCLError.noDevice }
        let number: Int? = name == "opencl" ? 0 : name.hasPrefix("opencl:") ? Int(name.dropFirst(7)) : nil
        guard let number, found.indices.contains(number) else {
            throw OpenCLError.unknownDevice(name: name, available: found.indices.map { "opencl:\($0)" })
        }
        return try OpenCLDevice(
            found[number], number: number, kernels: kernels, countsTiles: countsTiles, joinsLaunches: joinsLaunches)
    }

    init(
        _ description: DeviceDescription, number: Int, kernels: KernelFamily?, countsTiles: Bool = false,
        joinsLaunches: Bool? = nil
    ) throws {
        self.description = description
        self.countsTiles = countsTiles
        self.joinsLaunches = joinsLaunches ?? description.isGPU
        name = "opencl:\(number)"
        let suited: KernelFamily = description.takesGPUKernels ? .gpu : .cpu
        family = try kernels ?? KernelFamily.forced() ?? suited
        var status: cl_int = 0
        var id: cl_device_id? = description.id
        guard let context = clCreateContext(nil, 1, &id, nil, nil, &status), status == CL_SUCCESS else {
            throw OpenCLError.call("clCreateContext", code: status, device: description.name)
        }
        self.context = context
        do {
            queue = try CommandQueue(context, description, deviceName: name, keepsTimes: false)
        } catch {
            clReleaseContext(context)
            throw error
        }
    }

    deinit { clReleaseContext(context) }

    public func makeBuffer(byteCount: Int) throws -> any DeviceBuffer {
        try OpenCLBuffer(self, byteCount: byteCount, zeroed: true)
    }

    public func load(
        _ schedule: Schedule, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws -> any Executable {
        try OpenCLExecutable(self, schedule, maximumBatch: maximumBatch, states: states)
    }

    public func load(
        _ program: SamplingProgram, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws -> any SamplingExecutable {
        if let passes = program.fullPasses {
            return FullPassSampler(
                program, try load(passes.schedule, maximumBatch: maximumBatch, states: states),
                variable: passes.variable)
        }
        return try OpenCLSampler(self, program, maximumBatch: maximumBatch, states: states)
    }

    /// About how long a draw takes, by the model that plans it.
    /// - Returns: `nil` where nothing is planned: on processors, and of a full pass for each step.
    public func predictedSeconds(_ program: SamplingProgram, batch: Int) throws -> Double? {
        guard family == .gpu, program.fullPasses == nil else { return nil }
        let limits = description.samplerLimits
        let tables = try SamplerTables(program, family: family, partials: limits.partials)
        return SamplerPlan(tables, limits, batch: batch).seconds
    }

    /// Waits for everything that was enqueued.
    public func finish() throws { try queue.finish() }

    /// A queue of its own for a profile.
    func makeProfilingQueue() throws -> CommandQueue {
        try CommandQueue(context, description, deviceName: name, keepsTimes: true)
    }

    /// Turns a failed call into an error that names it.
    func check(_ status: cl_int, _ function: String) throws {
        guard status == CL_SUCCESS else {
            throw OpenCLError.call(function, code: status, device: "\(name) (\(description.name))")
        }
    }
}

extension String {
    fileprivate var trimmed: Substring {
        var text = self[...]
        while text.last == " " { text.removeLast() }
        return text
    }
}
