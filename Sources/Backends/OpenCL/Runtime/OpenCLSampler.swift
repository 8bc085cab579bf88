import COpenCL
import Compiler
import Graph

/// A sampler on an OpenCL device: one kernel that draws every variable in one launch.
final class OpenCLSampler: SamplingExecutable {
    let program: SamplingProgram
    let maximumBatch: Int
    private(set) var plannedBytes = 0
    /// The generated program.
    let source: String
    private let device: OpenCLDevice
    private let lanes: Int
    /// The memory of every value: a part of the block for lane values.
    private var memory: [OpenCLBuffer] = []
    private let laneValues: Set<Int>
    private let compiled: CompiledProgram
    private let kernel: cl_kernel
    private var retained: [OpenCLBuffer] = []
    private let prelude: (any Executable)?

    init(
        _ device: OpenCLDevice, _ program: SamplingProgram, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws {
        guard maximumBatch >= 1 else {
            throw OpenCLError.mismatch("the largest batch must hold at least one example, found \(maximumBatch)")
        }
        self.device = device
        self.program = program
        self.maximumBatch = maximumBatch
        prelude =
            program.prelude.isEmpty
            ? nil : try device.load(compile(program.prelude.map(\.tensor)), maximumBatch: 1, states: states)
        let group = SamplerTables.lanesPerGroup
        lanes = (maximumBatch + group - 1) / group * group
        var layout = try SamplerTables(program, family: device.family)
        laneValues = Set(layout.laneValues)

        let alignment = max(256, device.description.baseAlignment)
        var offsets: [Int: Int] = [:]
        var total = 0
        for (place, id) in layout.laneValues.enumerated() {
            offsets[id] = total
            layout.setPlace(place, total / 64)
            let bytes = program.values[id].count * lanes * program.values[id].element.byteCount
            total += (bytes + alignment - 1) / alignment * alignment
        }
        guard total / 64 < 1 << 31 else {
            throw OpenCLError.unsupported(
                "a sampler of \(total) bytes for \(maximumBatch) examples: draw smaller batches")
        }
        let block = try OpenCLBuffer(device, byteCount: max(total, 64), zeroed: true)
        plannedBytes += total
        for (id, value) in program.values.enumerated() {
            let bytes = value.count * value.element.byteCount
            if let offset = offsets[id] {
                let part = try OpenCLBuffer(block, offset: offset, byteCount: bytes * lanes)
                if let known = value.known {
                    let width = lanes
                    let whole = Values(
                        shape: [value.count, width],
                        elements: (0..<value.count * width).map {
                            known.isKnown[$0 / width] ? known.values[$0 / width] : 0
                        })
                    try HostArray(whole, as: value.element).withUnsafeBytes { try part.write($0) }
                }
                memory.append(part)
                continue
            }
            switch value.storage {
            case .state(let name):
                guard let state = states[name] else {
                    throw OpenCLError.mismatch("the state \"\(name)\" was not given a buffer: expected \(bytes) bytes")
                }
                guard let buffer = state as? OpenCLBuffer, buffer.device.context == device.context,
                    buffer.byteCount >= bytes
                else {
                    throw OpenCLError.mismatch(
                        "the state \"\(name)\" is on another device than \(device.name), or smaller than \(bytes) bytes"
                    )
                }
                memory.append(buffer)
            case .constant(let array):
                let buffer = try OpenCLBuffer(device, byteCount: array.bytes.count, zeroed: false)
                try array.withUnsafeBytes { try buffer.write($0) }
                plannedBytes += buffer.byteCount
                memory.append(buffer)
            case .input, .temporary, .variable:
                let buffer = try OpenCLBuffer(device, byteCount: bytes, zeroed: true)
                plannedBytes += bytes
                memory.append(buffer)
            }
        }
        let tables = try OpenCLBuffer(device, byteCount: layout.words.count * 4, zeroed: false)
        try HostArray(layout.words).withUnsafeBytes { try tables.write($0) }
        plannedBytes += tables.byteCount
        retained = [block, tables]
        var library = KernelLibrary()
        if layout.usesRandom { library.useRandom() }
        library.addOnce(try layout.source())
        source = library.source
        if debugLevel >= 3 { printError("// \(device.name): \(device.summary)\n\(source)") }
        compiled = try CompiledProgram(device, source: source)
        kernel = try compiled.makeKernel("martlet_sample")
        var index: cl_uint = 0
        func set(_ buffer: OpenCLBuffer) throws {
            var memory: cl_mem? = buffer.memory
            try device.check(clSetKernelArg(kernel, index, MemoryLayout<cl_mem?>.size, &memory), "clSetKernelArg")
            index += 1
        }
        try set(block)
        try set(tables)
        var lanes = cl_int(self.lanes)
        try device.check(clSetKernelArg(kernel, index, MemoryLayout<cl_int>.size, &lanes), "clSetKernelArg")
        index += 1
        for id in layout.pointers { try set(memory[id]) }
        try device.finish()
    }

    deinit { clReleaseKernel(kernel) }

    func run(_ feeds: [String: HostArray], batch: Int) throws -> [HostArray] {
        guard (1...maximumBatch).contains(batch) else {
            throw OpenCLError.mismatch("this program was planned for batches of 1 to \(maximumBatch), found \(batch)")
        }
        let feeds = try program.preluded(feeds, by: prelude)
        for (id, value) in program.values.enumerated() {
            guard case .input(let name) = value.storage else { continue }
            guard let array = feeds[name] else {
                throw OpenCLError.mismatch("nothing was fed to the input \"\(name)\"")
            }
            let count = value.count * (value.isShared ? 1 : batch)
            guard array.type == value.element, array.count == count else {
                throw OpenCLError.mismatch(
                    "input \"\(name)\": expected \(count) elements of \(value.element), found \(array.type)\(array.shape)"
                )
            }
            let given = laneValues.contains(id) ? transposed(array, to: value.count, batch: batch) : array
            try given.withUnsafeBytes { try memory[id].write($0) }
        }
        let groups = (batch + SamplerTables.lanesPerGroup - 1) / SamplerTables.lanesPerGroup
        var local = device.family == .cpu ? 1 : 64
        var global = groups * local
        try device.check(
            clEnqueueNDRangeKernel(device.queue, kernel, 1, nil, &global, &local, 0, nil, nil),
            "clEnqueueNDRangeKernel(martlet_sample)")
        return try program.results.map { output in
            let value = program.values[output.value]
            let all = try HostArray(reading: memory[output.value], type: value.element, shape: [value.count, lanes])
            return move(
                all, rows: value.count, columns: lanes, keeping: batch, shape: [batch] + output.exampleShape,
                places: output.places)
        }
    }

    /// `[batch, count]` as `[count, lanes]`.
    private func transposed(_ array: HostArray, to count: Int, batch: Int) -> HostArray {
        let padded = move(array, rows: batch, columns: count, keeping: count, shape: [count, batch])
        var result = HostArray(type: array.type, shape: [count, lanes])
        let row = batch * array.type.byteCount
        padded.withUnsafeBytes { source in
            result.withUnsafeMutableBytes { target in
                for e in 0..<count {
                    UnsafeMutableRawBufferPointer(
                        rebasing: target[e * lanes * array.type.byteCount..<e * lanes * array.type.byteCount + row]
                    )
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: source[e * row..<(e + 1) * row]))
                }
            }
        }
        return result
    }

    /// The first `keeping` columns of a matrix, as rows.
    /// - Parameter places: the rows in the order in which they are taken, if not their own.
    private func move(
        _ array: HostArray, rows: Int, columns: Int, keeping: Int, shape: [Int], places: [Int32]? = nil
    ) -> HostArray {
        let starts = places.map { $0.map { Int($0) * columns } } ?? (0..<rows).map { $0 * columns }
        var result = HostArray(type: array.type, shape: shape)
        let size = array.type.byteCount
        array.withUnsafeBytes { source in
            result.withUnsafeMutableBytes { target in
                if size == 4 {
                    let (from, to) = (source.bindMemory(to: UInt32.self), target.bindMemory(to: UInt32.self))
                    for c in 0..<keeping { for r in 0..<rows { to[c * rows + r] = from[starts[r] + c] } }
                } else {
                    for c in 0..<keeping { for r in 0..<rows { target[c * rows + r] = source[starts[r] + c] } }
                }
            }
        }
        return result
    }
}
