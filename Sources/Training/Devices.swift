import CPU
import Compiler
import OpenCL
import Likelihood

/// The devices of this machine.
public enum Devices {
    /// The CPU backend and every OpenCL device that opens.
    public static func all() throws -> [any Device] { try found().devices }

    /// The CPU backend and every OpenCL device that opens; and what keeps the others from it, a line for each.
    public static func found() throws -> (devices: [any Device], problems: [String]) {
        var (devices, problems): ([any Device], [String]) = ([try CPUDevice()], [])
        for (name, _, device) in OpenCLDevice.attempts() {
            switch device {
            case .success(let device): devices.append(device)
            case .failure(let error): problems.append("\(name)\tcannot be used: \(error)")
            }
        }
        return (devices, problems)
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
