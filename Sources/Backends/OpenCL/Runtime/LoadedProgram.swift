import Compiler

/// A lowered program on its device: kernels that are compiled, and the memory that it has beside the schedule's values.
struct LoadedProgram {
    let groups: [LoweredGroup]
    let kernels: CompiledProgram
    /// Shared by all groups; each slot holds what the group that wants most of it wants.
    let scratch: [OpenCLBuffer]
    let owned: [OpenCLBuffer]
    let loops: [DeviceLoop]

    /// - Parameter values: of the schedule that was lowered.
    init(_ device: OpenCLDevice, _ lowered: LoweredProgram, values: [Value], maximumBatch: Int) throws {
        groups = lowered.groups
        loops = try lowered.loops.map {
            try DeviceLoop($0, values: values, device: device, maximumBatch: maximumBatch)
        }
        let slots = groups.map(\.scratch.count).max() ?? 0
        scratch = try (0..<slots).map { [groups] slot in
            let bytes = groups.map { slot < $0.scratch.count ? $0.scratch[slot] : 0 }.max() ?? 0
            return try OpenCLBuffer(device, byteCount: bytes, zeroed: false)
        }
        owned = try lowered.memory.map { try OpenCLBuffer(device, $0) }
        if debugLevel >= 3 { debugLine("// \(device.name): \(device.summary)\n\(lowered.source)") }
        kernels = try CompiledProgram(device, source: lowered.source, operations: lowered.operations)
    }

    var plannedBytes: Int {
        (scratch + owned).reduce(0) { $0 + $1.byteCount } + loops.reduce(0) { $0 + $1.plannedBytes }
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
