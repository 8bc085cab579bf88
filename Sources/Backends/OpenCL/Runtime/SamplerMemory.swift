import Compiler
import Graph

/// The memory of a sampler: the values that its kernel reads and writes, and the tables that it interprets.
struct SamplerMemory {
    /// Values with a lane for every example, one behind another.
    let block: OpenCLBuffer
    let tables: OpenCLBuffer
    /// By value; of a lane value, its part of the block.
    let values: [OpenCLBuffer]
    /// Bytes beside the states.
    let plannedBytes: Int

    /// - Parameter layout: of the program; it is told where the lane values lie.
    init(
        _ device: OpenCLDevice, _ program: SamplingProgram, _ layout: inout SamplerTables, lanes: Int,
        states: [Int: OpenCLBuffer]
    ) throws {
        let (offsets, total) = Self.place(
            program, &layout, lanes: lanes, alignment: max(256, device.description.baseAlignment))
        guard total / 64 < 1 << 31 else {
            throw OpenCLError.unsupported("a sampler of \(total) bytes for \(lanes) examples: draw smaller batches")
        }
        let block = try OpenCLBuffer(device, byteCount: max(total, 64), zeroed: true)
        var planned = total
        values = try program.values.enumerated().map { id, value in
            if let offset = offsets[id] { return try Self.lanes(of: value, lanes, in: block, offset: offset) }
            let (buffer, isOwn) = try Self.shared(value, device, state: states[id])
            if isOwn { planned += buffer.byteCount }
            return buffer
        }
        self.block = block
        tables = try OpenCLBuffer(device, byteCount: layout.words.count * 4, zeroed: false)
        try layout.words.withUnsafeBytes { [tables] in try tables.write($0) }
        plannedBytes = planned + tables.byteCount
    }

    /// Lays the lane values one behind another.
    private static func place(
        _ program: SamplingProgram, _ layout: inout SamplerTables, lanes: Int, alignment: Int
    ) -> (offsets: [Int: Int], total: Int) {
        var offsets: [Int: Int] = [:]
        var total = 0
        for (place, id) in layout.laneValues.enumerated() {
            offsets[id] = total
            layout.setPlace(place, total / 64)
            let bytes = program.values[id].count * lanes * program.values[id].element.byteCount
            total += (bytes + alignment - 1) / alignment * alignment
        }
        return (offsets, total)
    }

    /// A part of the block, with what is known of the value in every lane.
    private static func lanes(
        of value: SamplingProgram.Value, _ lanes: Int, in block: OpenCLBuffer, offset: Int
    ) throws -> OpenCLBuffer {
        let part = try OpenCLBuffer(block, offset: offset, byteCount: value.count * value.element.byteCount * lanes)
        guard let known = value.known else { return part }
        let elements = (0..<value.count).flatMap {
            [Double](repeating: known.isKnown[$0] ? known.values[$0] : 0, count: lanes)
        }
        let whole = Values(shape: [value.count, lanes], elements: elements)
        try HostArray(whole, as: value.element).withUnsafeBytes { try part.write($0) }
        return part
    }

    /// The memory of a value that all examples share, and whether it is the sampler's own.
    private static func shared(
        _ value: SamplingProgram.Value, _ device: OpenCLDevice, state: OpenCLBuffer?
    ) throws -> (OpenCLBuffer, isOwn: Bool) {
        if let state { return (state, false) }
        let bytes = value.count * value.element.byteCount
        switch value.storage {
        case .constant(let array):
            let buffer = try OpenCLBuffer(device, byteCount: array.bytes.count, zeroed: false)
            try array.withUnsafeBytes { try buffer.write($0) }
            return (buffer, true)
        case .state, .input, .temporary, .variable:
            return (try OpenCLBuffer(device, byteCount: bytes, zeroed: true), true)
        }
    }
}
