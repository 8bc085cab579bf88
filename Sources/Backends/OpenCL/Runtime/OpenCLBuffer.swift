import COpenCL
import Compiler

/// Memory on an OpenCL device: a buffer of its own, or a part of another one.
public final class OpenCLBuffer: DeviceBuffer, @unchecked Sendable {
    let device: OpenCLDevice
    let memory: cl_mem
    public let byteCount: Int
    /// A part keeps the whole alive.
    private let parent: OpenCLBuffer?

    init(_ device: OpenCLDevice, byteCount: Int, zeroed: Bool) throws {
        guard byteCount >= 0, byteCount <= device.description.maximumBufferBytes else {
            throw OpenCLError.mismatch(
                "a buffer of \(byteCount) bytes is more than \(device.name) allocates at once "
                    + "(\(device.description.maximumBufferBytes)): use a smaller batch or model, or `--device cpu`")
        }
        var status: cl_int = 0
        // OpenCL has no empty buffers.
        let size = max(byteCount, 16)
        guard let memory = clCreateBuffer(device.context, cl_mem_flags(CL_MEM_READ_WRITE), size, nil, &status),
            status == CL_SUCCESS
        else { throw OpenCLError.call("clCreateBuffer of \(byteCount) bytes", code: status, device: device.name) }
        self.device = device
        self.memory = memory
        self.byteCount = byteCount
        parent = nil
        if zeroed { try device.queue.fillWithZeros(memory, byteCount: size) }
    }

    /// The bytes `offset..<offset + byteCount` of another buffer; `offset` must suit the device's base alignment.
    init(_ parent: OpenCLBuffer, offset: Int, byteCount: Int) throws {
        var status: cl_int = 0
        var region = cl_buffer_region(origin: offset, size: max(byteCount, 16))
        guard
            let memory = clCreateSubBuffer(
                parent.memory, cl_mem_flags(CL_MEM_READ_WRITE), cl_buffer_create_type(CL_BUFFER_CREATE_TYPE_REGION),
                &region, &status), status == CL_SUCCESS
        else { throw OpenCLError.call("clCreateSubBuffer", code: status, device: parent.device.name) }
        device = parent.device
        self.memory = memory
        self.byteCount = byteCount
        self.parent = parent
    }

    deinit { clReleaseMemObject(memory) }

    /// Copies the host's bytes to the start of the buffer and waits.
    public func write(_ source: UnsafeRawBufferPointer) throws {
        guard source.count <= byteCount else {
            throw OpenCLError.mismatch("\(source.count) bytes do not fit a buffer of \(byteCount)")
        }
        try device.queue.write(source, to: self)
    }

    /// Copies the start of the buffer to the host once everything enqueued before has run.
    public func read(into target: UnsafeMutableRawBufferPointer) throws {
        guard target.count <= byteCount else {
            throw OpenCLError.mismatch("\(target.count) bytes were asked of a buffer of \(byteCount)")
        }
        try device.queue.read(self, into: target)
    }
}
