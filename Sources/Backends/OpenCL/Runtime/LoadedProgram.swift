import Compiler

/// A lowered program on its device: kernels that are compiled, and the memory that it has beside the schedule's values.
struct LoadedProgram {
    let groups: [LoweredGroup]
    let order: LaunchOrder
    let kernels: CompiledProgram
    /// By group.
    let scratch: [[OpenCLBuffer]]
    let owned: [OpenCLBuffer]
    let loops: [DeviceLoop]

    /// - Parameters:
    ///   - values: of the schedule that was lowered.
    ///   - scratch: the memory of each group.
    init(
        _ device: OpenCLDevice, _ lowered: LoweredProgram, values: [Value], scratch: [[OpenCLBuffer]], maximumBatch: Int
    ) throws {
        (groups, order, self.scratch) = (lowered.groups, lowered.order, scratch)
        loops = try lowered.loops.map {
            try DeviceLoop($0, values: values, device: device, maximumBatch: maximumBatch)
        }
        owned = try lowered.memory.map { try OpenCLBuffer(device, $0) }
        if debugLevel >= 3 { debugLine("// \(device.name): \(device.summary)\n\(lowered.source)") }
        kernels = try CompiledProgram(device, source: lowered.source, operations: lowered.operations)
    }

    var plannedBytes: Int {
        owned.reduce(0) { $0 + $1.byteCount } + loops.reduce(0) { $0 + $1.plannedBytes }
    }
}

extension OpenCLBuffer {
    fileprivate convenience init(_ device: OpenCLDevice, _ memory: OwnedMemory) throws {
        switch memory {
        case .uninitialized(let bytes): try self.init(device, byteCount: bytes, zeroed: false)
        case .zeros(let bytes): try self.init(device, byteCount: bytes, zeroed: true)
        case .table(let table):
            try self.init(device, byteCount: table.count * 4, zeroed: false)
            try table.withUnsafeBytes { try write($0) }
        }
    }
}
