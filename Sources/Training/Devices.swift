import CPU
import Compiler
import OpenCL
import Likelihood

/// The devices of this machine.
public enum Devices {
    /// The CPU backend and every OpenCL device.
    public static func all() throws -> [any Device] { [try CPUDevice()] + ((try? OpenCLDevice.all()) ?? []) }

    /// A GPU, or else the CPU: a machine without OpenCL still has one.
    /// - Parameter threads: of the CPU backend; all cores if not given.
    public static func best(threads: Int? = nil) throws -> any Device {
        if let gpu = (try? OpenCLDevice.all())?.first(where: \.isGPU) { return gpu }
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
