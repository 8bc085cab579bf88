import Compiler
import Graph

/// Work of the host's between kernels, with everything enqueued before it finished.
struct HostStep {
    /// The values that it reads and writes.
    var inputs: [Int]
    var outputs: [Int]
    var inputTypes: [TensorType]
    var outputTypes: [TensorType]
    var body: @Sendable (OpenCLHostContext) throws -> Void

    func run(on queue: CommandQueue, _ device: OpenCLDevice, memory: [Int: OpenCLBuffer], batch: Int) throws {
        let context = OpenCLHostContext(
            batch: batch, device: device, inputs: inputs.compactMap { memory[$0] },
            outputs: outputs.compactMap { memory[$0] }, inputTypes: inputTypes, outputTypes: outputTypes)
        try queue.onHost { try body(context) }
    }
}

/// The operands of an operation whose step runs on the host.
public struct OpenCLHostContext {
    public let batch: Int
    public let device: OpenCLDevice
    /// The memory of the operands.
    public let inputs: [OpenCLBuffer]
    public let outputs: [OpenCLBuffer]
    let inputTypes: [TensorType]
    let outputTypes: [TensorType]

    /// Reads an operand.
    public func read(input index: Int) throws -> HostArray {
        let type = inputTypes[index]
        return try HostArray(reading: inputs[index], type: type.element, shape: type.shape.resolved(batch: batch))
    }

    /// Writes a result, which must have the output's type and shape.
    public func write(_ array: HostArray, output index: Int) throws {
        let shape = outputTypes[index].shape.resolved(batch: batch)
        guard array.type == outputTypes[index].element, array.shape == shape else {
            throw OpenCLError.mismatch(
                "output \(index): expected \(outputTypes[index].element)\(shape), found \(array.type)\(array.shape)")
        }
        try array.withUnsafeBytes { try outputs[index].write($0) }
    }
}
