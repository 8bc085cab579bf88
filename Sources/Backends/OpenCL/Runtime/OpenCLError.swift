import COpenCL
import Compiler

/// What can go wrong between a schedule and an OpenCL device. Every message says what was expected, what was found and
/// what to do.
public enum OpenCLError: DetailedError, Sendable, CustomStringConvertible {
    /// The machine has no OpenCL device.
    case noDevice
    /// `opencl:N` names a device that is not there, or is not a device name.
    case unknownDevice(name: String, available: [String])
    /// An OpenCL call failed.
    case call(String, code: Int32, device: String)
    /// A program did not compile.
    /// - Parameter operations: the names of operations whose own text is in it.
    case build(log: String, source: String, device: String, operations: [String] = [])
    /// Something that this backend does not run, and what does.
    case unsupported(String)
    /// A feed, a state or a buffer that does not fit.
    case mismatch(String)

    public var description: String { ([summary] + details).joined(separator: "\n") }

    /// The beginning of what the device's compiler says, where it is what failed: what follows an error repeats it.
    public var details: [String] {
        guard case .build(let log, _, _, _) = self else { return [] }
        let (all, lines, columns) = (log.split(separator: "\n"), 20, 200)
        let shown = all.prefix(lines).map { $0.count > columns ? $0.prefix(columns) + " ..." : String($0) }
        return shown + (all.count > lines ? ["... and \(all.count - lines) lines more"] : [])
    }

    /// What went wrong and what to do, in one line; of a program that did not compile, without the log.
    public var summary: String {
        switch self {
        case .noDevice:
            "no OpenCL device found: install a driver (`apt-get install pocl-opencl-icd` runs OpenCL on the processor; "
                + "GPU vendors ship their own, seen by `clinfo`), or use `--device cpu`"
        case .unknownDevice(let name, let available):
            "no device \"\(name)\": expected \(available.joined(separator: ", ")) (`martlet devices` lists them)"
        case .call(let function, let code, let device):
            "\(function) failed on \(device) with \(Self.name(of: code)) (\(code))"
                + (Self.advice(for: code).map { ": \($0)" } ?? "")
        case .build(_, let source, let device, let operations):
            (operations.isEmpty
                ? "a program did not compile on \(device); if it is so on a second try and with an empty cache of the driver "
                    + "(PoCL keeps its own in ~/.cache/pocl), please report this"
                : "a program did not compile on \(device). It holds the own text of "
                    + operations.map { "'\($0)'" }.joined(separator: ", ")
                    + ": see whether the log below names a line of it")
                + "; its source of \(source.split(separator: "\n").count) lines is printed with MARTLET_DEBUG=3. The device says:"
        case .unsupported(let message), .mismatch(let message): message
        }
    }

    /// What a person can do about an error code, where something can be done.
    static func advice(for code: Int32) -> String? {
        switch code {
        case CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_OUT_OF_RESOURCES, CL_INVALID_BUFFER_SIZE:
            "the device has too little memory; use a smaller batch or model, or `--device cpu`"
        case CL_OUT_OF_HOST_MEMORY: "the machine is out of memory; use a smaller batch or model"
        case CL_INVALID_WORK_GROUP_SIZE, CL_INVALID_WORK_ITEM_SIZE:
            "the device takes smaller work-groups than the kernels use; try MARTLET_KERNELS=cpu"
        case CL_DEVICE_NOT_AVAILABLE: "another program holds the device"
        case CL_INVALID_KERNEL_NAME: "a custom operation's text must define a kernel of the operation's name"
        default: nil
        }
    }

    static func name(of code: Int32) -> String { names[code] ?? "an unknown error" }

    private static let names: [Int32: String] = [
        -1: "CL_DEVICE_NOT_FOUND", -2: "CL_DEVICE_NOT_AVAILABLE", -3: "CL_COMPILER_NOT_AVAILABLE",
        -4: "CL_MEM_OBJECT_ALLOCATION_FAILURE", -5: "CL_OUT_OF_RESOURCES", -6: "CL_OUT_OF_HOST_MEMORY",
        -7: "CL_PROFILING_INFO_NOT_AVAILABLE", -8: "CL_MEM_COPY_OVERLAP", -9: "CL_IMAGE_FORMAT_MISMATCH",
        -10: "CL_IMAGE_FORMAT_NOT_SUPPORTED", -11: "CL_BUILD_PROGRAM_FAILURE", -12: "CL_MAP_FAILURE",
        -13: "CL_MISALIGNED_SUB_BUFFER_OFFSET", -14: "CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
        -15: "CL_COMPILE_PROGRAM_FAILURE", -16: "CL_LINKER_NOT_AVAILABLE", -17: "CL_LINK_PROGRAM_FAILURE",
        -18: "CL_DEVICE_PARTITION_FAILED", -19: "CL_KERNEL_ARG_INFO_NOT_AVAILABLE", -30: "CL_INVALID_VALUE",
        -31: "CL_INVALID_DEVICE_TYPE", -32: "CL_INVALID_PLATFORM", -33: "CL_INVALID_DEVICE", -34: "CL_INVALID_CONTEXT",
        -35: "CL_INVALID_QUEUE_PROPERTIES", -36: "CL_INVALID_COMMAND_QUEUE", -37: "CL_INVALID_HOST_PTR",
        -38: "CL_INVALID_MEM_OBJECT", -42: "CL_INVALID_BINARY", -43: "CL_INVALID_BUILD_OPTIONS",
        -44: "CL_INVALID_PROGRAM", -45: "CL_INVALID_PROGRAM_EXECUTABLE", -46: "CL_INVALID_KERNEL_NAME",
        -47: "CL_INVALID_KERNEL_DEFINITION", -48: "CL_INVALID_KERNEL", -49: "CL_INVALID_ARG_INDEX",
        -50: "CL_INVALID_ARG_VALUE", -51: "CL_INVALID_ARG_SIZE", -52: "CL_INVALID_KERNEL_ARGS",
        -53: "CL_INVALID_WORK_DIMENSION", -54: "CL_INVALID_WORK_GROUP_SIZE", -55: "CL_INVALID_WORK_ITEM_SIZE",
        -56: "CL_INVALID_GLOBAL_OFFSET", -57: "CL_INVALID_EVENT_WAIT_LIST", -58: "CL_INVALID_EVENT",
        -59: "CL_INVALID_OPERATION", -61: "CL_INVALID_BUFFER_SIZE", -63: "CL_INVALID_GLOBAL_WORK_SIZE",
        -1001: "CL_PLATFORM_NOT_FOUND_KHR",
    ]
}
