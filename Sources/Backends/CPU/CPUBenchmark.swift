import CPUKernels
import Compiler
import Graph

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Times of single products on the CPU backend, for choosing and checking kernels.
public struct CPUBenchmark {
    public struct Result: Sendable {
        public var name: String
        /// The shortest and the middle one of the runs, in seconds.
        public var minimum: Double
        public var median: Double
        /// Multiply-adds that one run executes, and those of the dense product.
        public var multiplyAdds: Int
        public var denseMultiplyAdds: Int
        /// Executed floating-point operations in 1e9 per second, at the shortest time.
        public var gigaflops: Double { 2 * Double(multiplyAdds) / minimum / 1e9 }
    }

    public let device: CPUDevice
    /// How long each product is repeated.
    public var seconds = 1.0

    public init(device: CPUDevice) { self.device = device }

    /// A plain product of row-major matrices [m, k] and [k, n].
    public func product(m: Int, k: Int, n: Int) throws -> Result {
        try measure("product \(m)x\(k)x\(n)", m: m, n: n, k: k, aStrides: [k, 1], bStrides: [n, 1], mask: nil)
    }

    /// A layer of weights [width, width] on `rows` examples in one of its roles, masked by degrees or not.
    public func layer(
        _ role: ProductGroup.Role, width: Int, rows: Int, mask: MaskStructure?, degrees: [Int32]? = nil
    ) throws -> Result {
        let name = "\(role) \(width)x\(width), \(rows) rows"
        let group = mask.map { ProductGroup.Mask($0, role, deadOutputsAreSettled: role == .weightGradient) }
        switch role {
        case .forward:
            return try measure(
                name, m: rows, n: width, k: width, aStrides: [width, 1], bStrides: [1, width], mask: group,
                degrees: degrees)
        case .inputGradient:
            return try measure(
                name, m: rows, n: width, k: width, aStrides: [width, 1], bStrides: [width, 1], mask: group,
                degrees: degrees)
        case .weightGradient:
            return try measure(
                name, m: width, n: width, k: rows, aStrides: [1, width], bStrides: [width, 1], mask: group,
                degrees: degrees)
        }
    }

    private func measure(
        _ name: String, m: Int, n: Int, k: Int, aStrides: [Int], bStrides: [Int], mask: ProductGroup.Mask?,
        degrees: [Int32]? = nil
    ) throws -> Result {
        var schedule = Schedule()
        let add = { (shape: Shape, element: ElementType, storage: Value.Storage) -> Int in
            schedule.values.append(Value(TensorType(shape, element), storage, label: name))
            return schedule.values.count - 1
        }
        let a = add([Extent(m * k)], .float32, .input("a"))
        let b = add([Extent(k * n)], .float32, .input("b"))
        let c = add([Extent(m), Extent(n)], .float32, .state("c"))
        var mask = mask
        var feeds: [String: Feed] = [:]
        if let degrees {
            mask?.runtimeDegrees = (
                add([Extent(degrees.count)], .int32, .input("input degrees")),
                add([Extent(degrees.count)], .int32, .input("output degrees"))
            )
            feeds["input degrees"] = try .device(buffer(HostArray(degrees)))
            feeds["output degrees"] = feeds["input degrees"]
        }
        schedule.inputs = schedule.values.indices.filter { $0 != c }
        schedule.groups = [
            Group(
                .product(
                    ProductGroup(
                        m: Extent(m), n: Extent(n), k: Extent(k),
                        a: Operand(.value(a), strides: aStrides.map { Extent($0) }, element: .float32),
                        b: Operand(.value(b), strides: bStrides.map { Extent($0) }, element: .float32), mask: mask,
                        epilogueInputs: [],
                        epilogue: Program(inputs: [.float32], outputs: [0]),
                        outputs: [Operand(.value(c), strides: [Extent(n), 1], element: .float32)])), label: name,
                location: nil)
        ]
        feeds["a"] = try .device(buffer(HostArray((0..<(m * k)).map { Float($0 % 17) - 8 })))
        feeds["b"] = try .device(buffer(HostArray((0..<(k * n)).map { Float($0 % 13) - 6 })))
        let executable = try CPUExecutable(
            schedule, maximumBatch: 1, states: ["c": device.makeBuffer(byteCount: 4 * m * n)], device: device)
        _ = try executable.run(feeds, batch: 1)
        executable.resetCounters()
        _ = try executable.run(feeds, batch: 1)
        let executed = executable.executedMultiplyAdds
        var times: [Double] = []
        let start = Self.now()
        while Self.now() - start < seconds || times.count < 3 {
            let before = Self.now()
            _ = try executable.run(feeds, batch: 1)
            times.append(Self.now() - before)
        }
        times.sort()
        return Result(
            name: name, minimum: times[0], median: times[times.count / 2], multiplyAdds: executed,
            denseMultiplyAdds: m * n * k)
    }

    private func buffer(_ array: HostArray) throws -> any DeviceBuffer {
        let buffer = try device.makeBuffer(byteCount: array.bytes.count)
        try array.withUnsafeBytes { try buffer.write($0) }
        return buffer
    }

    private static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
    }
}
