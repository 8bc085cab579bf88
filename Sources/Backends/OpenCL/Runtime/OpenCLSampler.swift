import COpenCL
import Compiler
import Graph

/// A sampler on an OpenCL device. On processors one launch draws every variable, a work-item for sixteen examples; on GPUs a
/// `SamplerPlan` says what is launched.
final class OpenCLSampler: SamplingExecutable {
    let program: SamplingProgram
    let maximumBatch: Int
    /// The generated program.
    let source: String
    /// Of GPUs.
    let plan: SamplerPlan?
    private let device: OpenCLDevice
    private let binding: ProgramBinding
    private let tables: SamplerTables
    /// At least as many as examples, and whole groups of sixteen.
    private let lanes: Int
    private let memory: SamplerMemory
    private let kernels: Kernels
    /// Computes what all examples and steps share, before a draw.
    private let prelude: (any Executable)?

    var plannedBytes: Int { memory.plannedBytes }

    /// - Parameter plan: how a GPU draws, if not as the model of the device says.
    init(
        _ device: OpenCLDevice, _ program: SamplingProgram, maximumBatch: Int, states: [String: any DeviceBuffer],
        plan: ((SamplerTables) -> SamplerPlan)? = nil
    ) throws {
        binding = try ProgramBinding(program, maximumBatch: maximumBatch)
        let bound = try binding.bind(states: states, device: device.name, own: device.own)
        self.device = device
        self.program = program
        self.maximumBatch = maximumBatch
        prelude =
            program.prelude.isEmpty
            ? nil : try device.load(compile(program.prelude.map(\.tensor)), maximumBatch: 1, states: states)
        lanes = (maximumBatch + 15) / 16 * 16
        var tables = try SamplerTables(
            program, family: device.family, partials: device.description.samplerLimits.partials)
        memory = try SamplerMemory(device, tables.program, &tables, lanes: lanes, states: bound)
        self.tables = tables
        let make = plan ?? { SamplerPlan($0, device.description.samplerLimits, batch: maximumBatch) }
        self.plan = device.family == .cpu ? nil : make(tables)
        source = try tables.programSource(self.plan?.shape)
        if debugLevel >= 3 { debugLine("// \(device.name): \(device.summary)\n\(source)") }
        if debugLevel >= 1, let plan = self.plan {
            debugLine("\(device.name): a draw of \(maximumBatch): \(plan.description)")
        }
        if debugLevel >= 2, let plan = self.plan { for line in plan.lines { debugLine("\(device.name): \(line)") } }
        kernels = try Kernels(
            device, source: source,
            names: ["martlet_sample"] + (self.plan == nil ? [] : ["martlet_one_work", "martlet_draw_step"]))
        for kernel in kernels.all {
            try kernels.set(kernel, 0, memory.block.memory as cl_mem?)
            try kernels.set(kernel, 1, memory.shared.memory as cl_mem?)
            try kernels.set(kernel, 2, memory.tables.memory as cl_mem?)
            try kernels.set(kernel, 3, cl_int(lanes))
        }
        try device.finish()
    }

    func run(_ feeds: [String: HostArray], batch: Int) throws -> [HostArray] {
        try binding.check(batch: batch)
        let feeds = try program.preluded(feeds, by: prelude).mapValues { Feed.host($0) }
        let bound = try binding.bind(feeds, batch: batch, device: device.name, own: device.own)
        try memory.takeStates(device.queue)
        for case (let id, .host(let array)) in bound {
            let value = program.values[id]
            let given = tables.isLane(id) ? array.intoLanes(lanes, count: value.count, batch: batch) : array
            try device.queue.upload(given, to: memory.values[id])
        }
        if let plan {
            let groups = (batch + plan.shape.lanes - 1) / plan.shape.lanes
            for launch in plan.launches {
                if launch.isWide {
                    try draw(step: launch.steps.lowerBound, plan, groups: groups)
                } else {
                    try draw(launch.steps, groups: groups, of: plan.shape.group)
                    // A device whose watchdog counts until the host hears of a launch gets them one by one.
                    try device.queue.flush()
                }
            }
        } else {
            try draw(0..<program.stepCount, groups: (batch + 15) / 16, of: 1)
        }
        return try program.results.map { output in
            let value = program.values[output.value]
            let buffer = memory.values[output.value]
            let all = try HostArray(reading: buffer, type: value.element, shape: [value.count, lanes])
            return all.columnsAsRows(
                rows: value.count, columns: lanes, keeping: batch, shape: [batch] + output.exampleShape,
                places: output.places)
        }
    }

    /// Steps in one launch.
    private func draw(_ steps: Range<Int>, groups: Int, of items: Int) throws {
        let kernel = kernels.all[0]
        try kernels.set(kernel, 4, cl_int(steps.lowerBound))
        try kernels.set(kernel, 5, cl_int(steps.upperBound))
        try device.queue.launch(kernel, "martlet_sample", global: [groups * items], local: [items])
    }

    /// A step over the whole device.
    private func draw(step: Int, _ plan: SamplerPlan, groups: Int) throws {
        let (work, keep, items) = (kernels.all[1], kernels.all[2], plan.shape.group)
        for section in program.sections {
            for pass in section.passes(step: step) {
                for index in section.works {
                    let positions = program.works[index].positions(slot: Int(pass.slot)).count
                    guard positions > 0 else { continue }
                    let chunks = plan.chunks(work: index, positions: positions)
                    try kernels.set(work, 4, cl_int(index))
                    try kernels.set(work, 5, cl_int(pass.iteration))
                    try kernels.set(work, 6, cl_int(pass.slot))
                    try device.queue.launch(
                        work, "martlet_one_work", global: [groups * items, chunks], local: [items, 1])
                }
            }
        }
        try kernels.set(keep, 4, cl_int(step))
        try device.queue.launch(keep, "martlet_draw_step", global: [groups * items], local: [items])
    }

    /// The kernels of a program.
    private final class Kernels {
        let all: [cl_kernel]
        private let device: OpenCLDevice

        init(_ device: OpenCLDevice, source: String, names: [String]) throws {
            self.device = device
            let program = try CompiledProgram(device, source: source)
            var made: [cl_kernel] = []
            do {
                for name in names { made.append(try program.makeKernel(name)) }
            } catch {
                for kernel in made { clReleaseKernel(kernel) }
                throw error
            }
            all = made
        }

        deinit { for kernel in all { clReleaseKernel(kernel) } }

        func set<T: BitwiseCopyable>(_ kernel: cl_kernel, _ index: cl_uint, _ argument: T) throws {
            var argument = argument
            try device.check(clSetKernelArg(kernel, index, MemoryLayout<T>.size, &argument), "clSetKernelArg")
        }
    }
}

extension DeviceDescription {
    var samplerLimits: SamplerPlan.Limits {
        SamplerPlan.Limits(units: computeUnits, workGroup: maximumWorkGroup, localBytes: localBytes)
    }
}
