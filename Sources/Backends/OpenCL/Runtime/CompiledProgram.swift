import COpenCL

/// A program built for one device; kernels are made from it by name.
final class CompiledProgram {
    let device: OpenCLDevice
    private let handle: ProgramHandle

    /// No relaxed mathematics: NaN and infinity behave, and a run gives the same bits every time. Products may contract
    /// a multiplication with an addition (the language's default within an expression); generated programs have one
    /// operation in each statement and the random-number code switches contraction off, so neither is touched.
    static let options = "-cl-std=CL1.2"

    /// Takes the program from the process, else from the disk, else builds it.
    /// - Parameter operations: the names of operations whose own text is in the source, for the message if it does not compile.
    init(_ device: OpenCLDevice, source: String, operations: [String] = []) throws {
        self.device = device
        handle = try device.programs.program(source) {
            try Self.make(device, source, operations, ProgramCache(for: device.description))
        }
    }

    /// - Parameter cache: where the program is looked for, past those that the process has.
    init(_ device: OpenCLDevice, source: String, cache: ProgramCache) throws {
        self.device = device
        handle = try Self.make(device, source, [], cache)
    }

    private static func make(
        _ device: OpenCLDevice, _ source: String, _ operations: [String], _ cache: ProgramCache
    ) throws -> ProgramHandle {
        let info = device.description
        let key = [info.platform, info.name, info.version, info.driver, options, source].joined(separator: "\n")
        if let binary = cache.read(key) {
            if let program = load(binary, device) { return ProgramHandle(program) }
            cache.remove(key)
        }
        let program = try build(source, device, operations)
        if cache.folder != nil, let binary = binary(of: program) { cache.write(key, binary) }
        return ProgramHandle(program)
    }

    /// A kernel object with arguments of its own.
    func makeKernel(_ name: String) throws -> cl_kernel {
        var status: cl_int = 0
        guard let kernel = clCreateKernel(handle.program, name, &status), status == CL_SUCCESS else {
            throw OpenCLError.call("clCreateKernel(\(name))", code: status, device: device.name)
        }
        return kernel
    }

    private static func build(_ source: String, _ device: OpenCLDevice, _ operations: [String]) throws -> cl_program {
        var status: cl_int = 0
        let made: cl_program? = source.withCString { text in
            var pointer: UnsafePointer<CChar>? = text
            return clCreateProgramWithSource(device.context, 1, &pointer, nil, &status)
        }
        guard let program = made, status == CL_SUCCESS else {
            throw OpenCLError.call("clCreateProgramWithSource", code: status, device: device.name)
        }
        var id: cl_device_id? = device.description.id
        status = clBuildProgram(program, 1, &id, options, nil, nil)
        guard status == CL_SUCCESS else {
            let log = readText {
                clGetProgramBuildInfo(
                    program, device.description.id, cl_program_build_info(CL_PROGRAM_BUILD_LOG), $0, $1, $2)
            }
            clReleaseProgram(program)
            throw OpenCLError.build(
                log: log.isEmpty ? OpenCLError.name(of: status) : log, source: source, device: device.description.name,
                operations: operations)
        }
        return program
    }

    private static func load(_ binary: [UInt8], _ device: OpenCLDevice) -> cl_program? {
        var status: cl_int = 0
        var id: cl_device_id? = device.description.id
        let made: cl_program? = binary.withUnsafeBufferPointer { bytes in
            var pointer = bytes.baseAddress
            var size = bytes.count
            var binaryStatus: cl_int = 0
            return clCreateProgramWithBinary(device.context, 1, &id, &size, &pointer, &binaryStatus, &status)
        }
        guard let program = made else { return nil }
        guard status == CL_SUCCESS, clBuildProgram(program, 1, &id, options, nil, nil) == CL_SUCCESS else {
            clReleaseProgram(program)
            return nil
        }
        return program
    }

    private static func binary(of program: cl_program) -> [UInt8]? {
        var size = 0
        guard
            clGetProgramInfo(program, cl_program_info(CL_PROGRAM_BINARY_SIZES), MemoryLayout<Int>.size, &size, nil)
                == CL_SUCCESS, size > 0
        else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        let status = bytes.withUnsafeMutableBufferPointer { target in
            var pointer = target.baseAddress
            return clGetProgramInfo(
                program, cl_program_info(CL_PROGRAM_BINARIES), MemoryLayout<UnsafeMutablePointer<UInt8>?>.size,
                &pointer, nil)
        }
        return status == CL_SUCCESS ? bytes : nil
    }
}
