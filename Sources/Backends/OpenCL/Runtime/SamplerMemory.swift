import Compiler
import Graph

/// The memory of a sampler: the values that its kernels read and write, and the tables that they interpret.
struct SamplerMemory {
    /// Values with a lane for every example, one behind another.
    let block: OpenCLBuffer
    /// Values that all examples share, one behind another: kernels have one argument for all weights, as some devices take no more than
    /// 1024 bytes of arguments.
    let shared: OpenCLBuffer
    let tables: OpenCLBuffer
    /// By value, its part of one of the two.
    let values: [OpenCLBuffer]
    /// The states, which lie elsewhere, and their places among the shared values.
    private let states: [(source: OpenCLBuffer, offset: Int)]
    /// Bytes beside the states.
    var plannedBytes: Int { block.byteCount + shared.byteCount + tables.byteCount }

    /// - Parameter layout: of the program; it is told where the values lie.
    init(
        _ device: OpenCLDevice, _ program: SamplingProgram, _ layout: inout SamplerTables, lanes: Int,
        states: [Int: OpenCLBuffer]
    ) throws {
        let alignment = max(256, device.description.baseAlignment)
        let bytes = program.values.indices.map { id in
            program.values[id].count * program.values[id].element.byteCount * (layout.isLane(id) ? lanes : 1)
        }
        var offsets: [Int] = []
        var (laneBytes, sharedBytes) = (0, 0)
        for id in program.values.indices {
            let size = (max(bytes[id], 16) + alignment - 1) / alignment * alignment
            if layout.isLane(id) {
                offsets.append(laneBytes)
                laneBytes += size
            } else {
                offsets.append(sharedBytes)
                sharedBytes += size
            }
            layout.setPlace(of: id, offsets[id] / 64)
        }
        guard max(laneBytes, sharedBytes) / 64 < 1 << 31 else {
            throw OpenCLError.unsupported("a sampler of \(laneBytes) bytes for \(lanes) examples: draw smaller batches")
        }
        let block = try OpenCLBuffer(device, byteCount: laneBytes, zeroed: true)
        let shared = try OpenCLBuffer(device, byteCount: sharedBytes, zeroed: true)
        values = try program.values.indices.map { id in
            let part = try OpenCLBuffer(
                layout.isLane(id) ? block : shared, offset: offsets[id], byteCount: bytes[id])
            try Self.fill(part, with: program.values[id], lanes: layout.isLane(id) ? lanes : 1)
            return part
        }
        self.states = states.map { ($0.value, offsets[$0.key]) }
        (self.block, self.shared) = (block, shared)
        tables = try OpenCLBuffer(device, byteCount: layout.words.count * 4, zeroed: false)
        try layout.words.withUnsafeBytes { [tables] in try tables.write($0) }
    }

    /// Brings the states as they are now to the shared values.
    func takeStates(_ queue: CommandQueue) throws {
        for (source, offset) in states { try queue.copy(source, 0, to: shared, offset, byteCount: source.byteCount) }
    }

    /// Writes what is known of a value from the start.
    private static func fill(_ part: OpenCLBuffer, with value: SamplingProgram.Value, lanes: Int) throws {
        if case .constant(let array) = value.storage {
            try array.withUnsafeBytes { try part.write($0) }
        } else if let known = value.known {
            let elements = (0..<value.count).flatMap {
                [Double](repeating: known.isKnown[$0] ? known.values[$0] : 0, count: lanes)
            }
            let whole = Values(shape: [value.count, lanes], elements: elements)
            try HostArray(whole, as: value.element).withUnsafeBytes { try part.write($0) }
        }
    }
}
