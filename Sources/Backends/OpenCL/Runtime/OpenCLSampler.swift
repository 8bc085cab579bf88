import COpenCL
import Compiler
import Graph

/// A sampler on an OpenCL device: one kernel that draws every variable in one launch.
final class OpenCLSampler: SamplingExecutable {
    let program: SamplingProgram
    let maximumBatch: Int
    /// The generated program.
    let source: String
    private let device: OpenCLDevice
    private let binding: ProgramBinding
    /// A whole number of groups, at least as many as examples.
    private let lanes: Int
    private let memory: SamplerMemory
    /// The values with a lane for every example.
    private let laneValues: Set<Int>
    private let kernel: cl_kernel
    /// Computes what all examples and steps share, before a draw.
    private let prelude: (any Executable)?

    var plannedBytes: Int { memory.plannedBytes }

    init(
        _ device: OpenCLDevice, _ program: SamplingProgram, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws {
        binding = try ProgramBinding(program, maximumBatch: maximumBatch)
        let bound = try binding.bind(states: states, device: device.name, own: device.own)
        self.device = device
        self.program = program
        self.maximumBatch = maximumBatch
        prelude =
            program.prelude.isEmpty
            ? nil : try device.load(compile(program.prelude.map(\.tensor)), maximumBatch: 1, states: states)
        let group = SamplerTables.lanesPerGroup
        lanes = (maximumBatch + group - 1) / group * group
        var tables = try SamplerTables(program, family: device.family)
        laneValues = Set(tables.laneValues)
        memory = try SamplerMemory(device, tables.program, &tables, lanes: lanes, states: bound)
        source = try tables.programSource()
        if debugLevel >= 3 { debugLine("// \(device.name): \(device.summary)\n\(source)") }
        kernel = try CompiledProgram(device, source: source).makeKernel("martlet_sample")
        try setArguments(pointers: tables.pointers)
        try device.finish()
    }

    /// In the order of the kernel's parameters: the block, the tables, the lanes, and the shared values.
    private func setArguments(pointers: [Int]) throws {
        var index: cl_uint = 0
        func set<T: BitwiseCopyable>(_ argument: T) throws {
            var argument = argument
            try device.check(clSetKernelArg(kernel, index, MemoryLayout<T>.size, &argument), "clSetKernelArg")
            index += 1
        }
        try set(memory.block.memory as cl_mem?)
        try set(memory.tables.memory as cl_mem?)
        try set(cl_int(lanes))
        for id in pointers { try set(memory.values[id].memory as cl_mem?) }
    }

    deinit { clReleaseKernel(kernel) }

    func run(_ feeds: [String: HostArray], batch: Int) throws -> [HostArray] {
        try binding.check(batch: batch)
        let feeds = try program.preluded(feeds, by: prelude).mapValues { Feed.host($0) }
        let bound = try binding.bind(feeds, batch: batch, device: device.name, own: device.own)
        for case (let id, .host(let array)) in bound {
            let value = program.values[id]
            let given =
                laneValues.contains(id) ? array.intoLanes(lanes, count: value.count, batch: batch) : array
            try device.queue.upload(given, to: memory.values[id])
        }
        let groups = (batch + SamplerTables.lanesPerGroup - 1) / SamplerTables.lanesPerGroup
        let local = device.family == .cpu ? 1 : 64
        try device.queue.launch(kernel, "martlet_sample", global: [groups * local], local: [local])
        return try program.results.map { output in
            let value = program.values[output.value]
            let buffer = memory.values[output.value]
            let all = try HostArray(reading: buffer, type: value.element, shape: [value.count, lanes])
            return all.columnsAsRows(
                rows: value.count, columns: lanes, keeping: batch, shape: [batch] + output.exampleShape,
                places: output.places)
        }
    }
}
