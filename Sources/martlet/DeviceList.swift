import CPU
import Compiler
import OpenCL

/// The CPU backend and every OpenCL device.
func availableDevices() throws -> [any Device] {
    [try CPUDevice()] + ((try? OpenCLDevice.all()) ?? [])
}
