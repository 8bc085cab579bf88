import Compiler
import Graph

/// What the lowering of a schedule's groups shares.
struct LoweringContext {
    let device: OpenCLDevice
    let maximumBatch: Int
    var library = KernelLibrary()
    /// The names of operations that brought text of their own.
    var operations: [String] = []
    private var degrees: [RuntimeDegreesKey: RuntimeDegrees] = [:]
    private var tables: [[Int32]: OpenCLBuffer] = [:]
    /// Bytes held by tables.
    private(set) var tableBytes = 0

    var family: KernelFamily { device.family }

    init(_ device: OpenCLDevice, maximumBatch: Int) {
        self.device = device
        self.maximumBatch = maximumBatch
    }

    /// A constant table on the device; equal tables are one.
    mutating func upload(_ table: [Int32]) throws -> OpenCLBuffer {
        if let known = tables[table] { return known }
        let buffer = try OpenCLBuffer(device, byteCount: table.count * 4, zeroed: false)
        try table.withUnsafeBytes { try buffer.write($0) }
        tables[table] = buffer
        tableBytes += table.count * 4
        return buffer
    }

    /// Where the sorted degrees of a pair of values go.
    mutating func runtimeDegrees(_ key: RuntimeDegreesKey, inputs: Int, outputs: Int) throws -> RuntimeDegrees {
        if let known = degrees[key] { return known }
        let make = { [device] (count: Int) in try OpenCLBuffer(device, byteCount: count * 4, zeroed: false) }
        let made = RuntimeDegrees(
            inputOrder: try make(inputs), outputOrder: try make(outputs), extents: try make(outputs),
            starts: try make(inputs), inputPlace: try make(inputs), outputPlace: try make(outputs))
        degrees[key] = made
        tableBytes += (inputs + outputs) * 12
        return made
    }

    mutating func counter() throws -> OpenCLBuffer { try OpenCLBuffer(device, byteCount: 4, zeroed: true) }
}
