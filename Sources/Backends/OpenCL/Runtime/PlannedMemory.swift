import Compiler
import Graph

/// The memory of a program's values and groups on its device.
struct PlannedMemory {
    /// Of every value that has memory; temporaries lie in blocks that they share.
    private(set) var values: [Int: OpenCLBuffer] = [:]
    /// Of each group.
    private(set) var scratch: [[OpenCLBuffer]] = []
    /// Of all but the states, which outlive the program.
    private(set) var byteCount = 0

    /// - Parameter states: by value.
    init(
        _ device: OpenCLDevice, _ schedule: Schedule, _ lowered: LoweredProgram, maximumBatch: Int,
        states: [Int: OpenCLBuffer]
    ) throws {
        let alignment = max(256, device.description.baseAlignment)
        // As many blocks as a device's largest allocation makes necessary.
        let blockBytes = max(alignment, device.description.maximumBufferBytes / alignment * alignment)
        let pieces = lowered.groups.enumerated().flatMap { index, group in
            group.scratch.map { MemoryPlan.Scratch(group: index, byteCount: $0) }
        }
        let plan = MemoryPlan(
            schedule, batch: maximumBatch, alignment: alignment, blockBytes: blockBytes, times: lowered.order.times,
            scratch: pieces)
        let arena = try stride(from: 0, to: max(1, plan.byteCount), by: blockBytes).map {
            try OpenCLBuffer(device, byteCount: min(blockBytes, plan.byteCount - $0), zeroed: false)
        }
        byteCount = plan.byteCount
        func part(at offset: Int, _ bytes: Int, of label: String) throws -> OpenCLBuffer {
            guard bytes <= blockBytes else {
                throw OpenCLError.mismatch(
                    "\(label) has \(bytes) bytes, more than \(device.name) allocates at once (\(blockBytes)): use a smaller "
                        + "batch or model, or `--device cpu`")
            }
            return try OpenCLBuffer(arena[offset / blockBytes], offset: offset % blockBytes, byteCount: bytes)
        }
        for (id, value) in schedule.values.enumerated() {
            let bytes = value.type.byteCount(batch: maximumBatch)
            switch value.storage {
            case .temporary: values[id] = try plan.offsets[id].map { try part(at: $0, bytes, of: value.label) }
            case .input:
                values[id] = try OpenCLBuffer(device, byteCount: bytes, zeroed: false)
                byteCount += bytes
            case .constant(let array):
                guard array.bytes.count >= bytes else {
                    throw OpenCLError.mismatch(
                        "constant \(value.label): expected \(bytes) bytes (\(value.type)), found \(array.bytes.count)")
                }
                let buffer = try OpenCLBuffer(device, byteCount: max(bytes, array.bytes.count), zeroed: false)
                try array.withUnsafeBytes { try buffer.write($0) }
                byteCount += buffer.byteCount
                values[id] = buffer
            case .state: values[id] = states[id]
            }
        }
        scratch = lowered.groups.map { _ in [] }
        for (index, piece) in pieces.enumerated() {
            // A group without steps has no time.
            guard let offset = plan.offsets[schedule.values.count + index] else { continue }
            let label = "the work of \(schedule.groups[piece.group].label)"
            scratch[piece.group].append(try part(at: offset, piece.byteCount, of: label))
        }
    }
}
