import Compiler
import Graph
import Layers

/// The states of a run on a device, by name: parameters, the optimizer's memories, averages. Programs that are loaded with
/// the same store share them.
public final class StateStore {
    public let device: any Device
    public private(set) var buffers: [String: any DeviceBuffer] = [:]
    private var shapes: [String: [Int]] = [:]

    public init(_ device: any Device) { self.device = device }

    /// Puts an array on the device under a name, replacing what was there.
    public func set(_ name: String, _ array: HostArray) throws {
        if shapes[name] != array.shape || buffers[name] == nil {
            buffers[name] = try device.makeBuffer(byteCount: max(4, array.bytes.count))
            shapes[name] = array.shape
        }
        try array.withUnsafeBytes { try buffers[name]!.write($0) }
    }

    public func get(_ name: String) throws -> HostArray? {
        guard let buffer = buffers[name], let shape = shapes[name] else { return nil }
        return try HostArray(reading: buffer, type: .float32, shape: shape)
    }

    /// Puts a parameter's value on the device.
    public func set(_ parameter: Parameter, _ array: HostArray) throws { try set(parameter.label, array) }
    public func get(_ parameter: Parameter) throws -> HostArray? { try get(parameter.label) }

    public var names: [String] { buffers.keys.sorted() }
    public var byteCount: Int { buffers.values.reduce(0) { $0 + $1.byteCount } }
}
