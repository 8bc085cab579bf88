import CPU
import Compiler
import OpenCL
import Likelihood

/// The devices of this machine.
public enum Devices {
    /// The CPU backend and every OpenCL device that opens.
    public static func all() throws -> [any Device] {
        [try CPUDevice()] + OpenCLDevice.attempts().compactMap { try? $0.device.get() }
    }

    /// What keeps an OpenCL device from being used, a line for each such device.
    public static func problems() -> [String] {
        OpenCLDevice.attempts().compactMap { name, _, device in
            if case .failure(let error) = device { "\(name)\tcannot be used: \(error)" } else { nil }
        }
    }

    /// The first GPU that opens, or else the CPU: a machine without OpenCL still has one.
    /// - Parameter threads: of the CPU backend; all cores if not given.
    public static func best(threads: Int? = nil) throws -> any Device {
        for (_, isGPU, device) in OpenCLDevice.attempts() where isGPU {
            if case .success(let gpu) = device { return gpu }
        }
        return try CPUDevice(threads: threads)
    }

    /// - Parameter name: auto (the best), cpu, opencl or opencl:N.
    public static func named(_ name: String, threads: Int? = nil) throws -> any Device {
        switch name {
        case "cpu": return try CPUDevice(threads: threads)
        case "auto": return try best(threads: threads)
        case _ where name == "opencl" || name.hasPrefix("opencl:"): return try OpenCLDevice.named(name)
        default: throw UsageError("--device \(name): expected auto, cpu, opencl or opencl:N")
        }
    }
}
