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

    /// What `auto` takes: the first GPU that opens and multiplies faster than the processor, by what is known of both, or else the CPU. A
    /// machine without OpenCL still has one; an emulator that calls itself a GPU is not taken for one.
    ///
    /// Where a draw should be done sooner by the processor, it is done there (see `AutomaticDevice`).
    /// - Parameters:
    ///   - threads: of the CPU backend; all cores if not given.
    ///   - note: is told, a line each, why GPUs were passed over and which draws go to the processor.
    public static func best(
        threads: Int? = nil, note: @escaping @Sendable (String) -> Void = { _ in }
    ) throws -> any Device {
        let processor = try CPUDevice(threads: threads)
        for (name, isGPU, device) in OpenCLDevice.attempts() where isGPU {
            switch device {
            case .failure(let error): note("\(name) cannot be used: \(error)")
            case .success(let gpu) where gpu.multiplyAddsPerSecond > processor.multiplyAddsPerSecond:
                return AutomaticDevice(gpu, processor, note: note)
            case .success(let gpu):
                note(
                    "\(name) (\(gpu.hardware)) calls itself a GPU, but this processor should be faster; `--device \(name)` takes it"
                )
            }
        }
        return processor
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
