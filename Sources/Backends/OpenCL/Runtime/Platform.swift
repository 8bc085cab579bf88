import COpenCL

/// What an OpenCL device says of itself, read once.
struct DeviceDescription: @unchecked Sendable {
    /// Handles of root devices and platforms live as long as the process.
    let id: cl_device_id
    let platform: String
    let name: String
    let vendor: String
    let version: String
    let driver: String
    let isGPU: Bool
    let isCPU: Bool
    var computeUnits: Int
    let maximumWorkGroup: Int
    let localBytes: Int
    let globalBytes: Int
    let maximumBufferBytes: Int
    /// Bytes.
    let baseAlignment: Int

    /// MHz; zero where the device does not say it.
    let clock: Int

    /// About as many as the device does at most.
    var multiplyAddsPerSecond: Double {
        let names = (name + " " + platform).lowercased()
        if ["llvmpipe", "softpipe", "swiftshader", "oclgrind"].contains(where: names.contains) { return 0 }
        // Lanes of what a vendor calls a unit.
        let maker = vendor.lowercased()
        let known = [("nvidia", 128), ("advanced micro", 64), ("amd", 64), ("intel", 8)]
        let lanes = known.first { maker.contains($0.0) }?.1 ?? 32
        return Double(computeUnits * lanes) * Double(clock == 0 ? 1000 : clock) * 1e6
    }

    /// Kernels for GPUs want groups of 256 work-items and 12 KiB of local memory; smaller devices get those for processors, whose groups
    /// are single work-items.
    var takesGPUKernels: Bool { !isCPU && maximumWorkGroup >= 256 && localBytes >= 12 << 10 }

    /// Devices of every platform: GPUs and accelerators first, then processors, each in the platforms' order. Asked for
    /// once: drivers are started by the first question, and two at a time have been seen to find nothing.
    static let all = findAll()

    private static func findAll() -> [DeviceDescription] {
        var platformCount: cl_uint = 0
        guard clGetPlatformIDs(0, nil, &platformCount) == CL_SUCCESS, platformCount > 0 else { return [] }
        var platforms = [cl_platform_id?](repeating: nil, count: Int(platformCount))
        guard clGetPlatformIDs(platformCount, &platforms, nil) == CL_SUCCESS else { return [] }
        var found: [DeviceDescription] = []
        for platform in platforms.compactMap({ $0 }) {
            var count: cl_uint = 0
            let every = cl_device_type(CL_DEVICE_TYPE_ALL)
            guard clGetDeviceIDs(platform, every, 0, nil, &count) == CL_SUCCESS, count > 0 else { continue }
            var devices = [cl_device_id?](repeating: nil, count: Int(count))
            guard clGetDeviceIDs(platform, every, count, &devices, nil) == CL_SUCCESS else { continue }
            found += devices.compactMap { $0 }.compactMap { DeviceDescription($0) }
        }
        return found.filter { !$0.isCPU } + found.filter(\.isCPU)
    }

    /// `nil` for a device that is not available, has no compiler or is older than OpenCL 1.2.
    private init?(_ id: cl_device_id) {
        guard Self.integer(id, CL_DEVICE_AVAILABLE, cl_bool.self) != 0,
            Self.integer(id, CL_DEVICE_COMPILER_AVAILABLE, cl_bool.self) != 0
        else { return nil }
        version = Self.text(id, CL_DEVICE_VERSION)
        // "OpenCL <major>.<minor> <vendor-specific>"
        let number = version.split(separator: " ").dropFirst().first?.split(separator: ".").compactMap { Int($0) } ?? []
        guard number.count == 2, (number[0], number[1]) >= (1, 2) else { return nil }
        self.id = id
        name = Self.text(id, CL_DEVICE_NAME)
        vendor = Self.text(id, CL_DEVICE_VENDOR)
        driver = Self.text(id, CL_DRIVER_VERSION)
        let type = Self.integer(id, CL_DEVICE_TYPE, cl_device_type.self)
        isCPU = type & cl_device_type(CL_DEVICE_TYPE_CPU) != 0
        isGPU = type & cl_device_type(CL_DEVICE_TYPE_GPU) != 0
        computeUnits = max(1, Int(Self.integer(id, CL_DEVICE_MAX_COMPUTE_UNITS, cl_uint.self)))
        clock = Int(Self.integer(id, CL_DEVICE_MAX_CLOCK_FREQUENCY, cl_uint.self))
        maximumWorkGroup = Self.integer(id, CL_DEVICE_MAX_WORK_GROUP_SIZE, Int.self)
        localBytes = Int(Self.integer(id, CL_DEVICE_LOCAL_MEM_SIZE, cl_ulong.self))
        globalBytes = Int(clamping: Self.integer(id, CL_DEVICE_GLOBAL_MEM_SIZE, cl_ulong.self))
        maximumBufferBytes = Int(clamping: Self.integer(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, cl_ulong.self))
        baseAlignment = max(1, Int(Self.integer(id, CL_DEVICE_MEM_BASE_ADDR_ALIGN, cl_uint.self)) / 8)
        let platform = Self.integer(id, CL_DEVICE_PLATFORM, Int.self)
        self.platform = Self.platformName(OpaquePointer(bitPattern: platform))
    }

    private static func integer<T: FixedWidthInteger>(_ id: cl_device_id, _ key: Int32, _: T.Type) -> T {
        var value = T.zero
        let status = clGetDeviceInfo(id, cl_device_info(key), MemoryLayout<T>.size, &value, nil)
        return status == CL_SUCCESS ? value : 0
    }

    private static func text(_ id: cl_device_id, _ key: Int32) -> String {
        readText { clGetDeviceInfo(id, cl_device_info(key), $0, $1, $2) }
    }

    private static func platformName(_ id: cl_platform_id?) -> String {
        readText { clGetPlatformInfo(id, cl_platform_info(CL_PLATFORM_NAME), $0, $1, $2) }
    }
}

/// Reads a string by the two-call convention of OpenCL: ask for the size, then for the bytes.
func readText(_ call: (Int, UnsafeMutableRawPointer?, UnsafeMutablePointer<Int>?) -> cl_int) -> String {
    var size = 0
    guard call(0, nil, &size) == CL_SUCCESS, size > 0 else { return "" }
    var bytes = [UInt8](repeating: 0, count: size)
    guard bytes.withUnsafeMutableBytes({ call(size, $0.baseAddress, nil) }) == CL_SUCCESS else { return "" }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
}
