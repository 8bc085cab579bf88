import Graph

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// How fast this project's own kernels are on a device where nothing stands in their way: the denominators of a step's floor. A machine
/// that others share is not the same from one minute to the next, so rates and steps are measured beside each other.
public struct FloorRates: Hashable, Sendable, Codable {
    /// A second, in a product of 2048 x 2048 x 2048 floats; twice as many floating-point operations.
    public var multiplyAdds: Double
    /// A second, of numbers that stay in a cache.
    public var exps: Double
    /// A second, from and to memory, in y = a x + b over vectors that no cache holds.
    public var bytes: Double

    public init(multiplyAdds: Double, exps: Double, bytes: Double) {
        self.multiplyAdds = multiplyAdds
        self.exps = exps
        self.bytes = bytes
    }

    /// Runs three small programs whose data lie on the device, each for about `seconds` and at least three times, and takes the
    /// shortest run of each. Needs 384 MiB on the device.
    ///
    /// - Throws: what the device throws, which may lack the memory.
    public static func measure(on device: any Device, seconds: Double = 0.3) throws -> FloorRates {
        FloorRates(
            multiplyAdds: try product(device, seconds), exps: try exponentials(device, seconds),
            bytes: try triad(device, seconds))
    }

    /// The size in bytes of the last cache of this machine's first processor, as Linux tells it; nil where it does not.
    public static var sharedCacheBytes: Int? {
        #if canImport(Glibc) || canImport(Musl)
            // The C library's own answer (sysconf) counts the caches of a whole package on some virtual machines.
            return (0..<8).compactMap { index -> Int? in
                guard let file = fopen("/sys/devices/system/cpu/cpu0/cache/index\(index)/size", "r") else { return nil }
                defer { fclose(file) }
                // A number of KiB and the letter K.
                var text = [UInt8](repeating: 0, count: 32)
                let count = fread(&text, 1, text.count, file)
                let digits = text.prefix(count).prefix { (48...57).contains($0) }
                return Int(String(decoding: digits, as: UTF8.self)).map { $0 << 10 }
            }.max()
        #else
            return nil
        #endif
    }

    private static func product(_ device: any Device, _ seconds: Double) throws -> Double {
        let n = 2048
        let (a, b) = (Tensor.state("a", [Extent(n), Extent(n)]), Tensor.state("b", [Extent(n), Extent(n)]))
        let c = Tensor.state("c", a.shape)
        return Double(n * n * n) / (try shortest([StateUpdate(c, a.matmul(b))], device, seconds))
    }

    private static func exponentials(_ device: any Device, _ seconds: Double) throws -> Double {
        // Many of each element, so that starting the program and fetching the element cost little beside them. exp(-x) stays between
        // zero and one.
        let (count, repetitions) = (1 << 18, 24)
        let x = Tensor.state("x", [Extent(count)])
        let y = (0..<repetitions).reduce(x) { y, _ in (-y).exp() }
        return Double(count * repetitions) / (try shortest([StateUpdate(x, y)], device, seconds))
    }

    private static func triad(_ device: any Device, _ seconds: Double) throws -> Double {
        let count = 1 << 25
        let (x, b) = (Tensor.state("x", [Extent(count)]), Tensor.state("b", [Extent(count)]))
        let y = Tensor.state("y", x.shape)
        return Double(3 * 4 * count) / (try shortest([StateUpdate(y, x * 0.5 + b)], device, seconds))
    }

    /// The shortest of some runs, in seconds; the first does not count.
    private static func shortest(_ updates: [StateUpdate], _ device: any Device, _ seconds: Double) throws -> Double {
        let schedule = try compile([], updates: updates)
        var buffers: [String: any DeviceBuffer] = [:]
        for id in schedule.states {
            let (label, type) = (schedule.values[id].label, schedule.values[id].type)
            let buffer = try device.makeBuffer(byteCount: type.byteCount(batch: 1))
            buffers[label] = buffer
            // Numbers from 0 to 1, written by the device: memory that nobody wrote may not exist yet.
            let last = type.shape.rank - 1
            let filling = StateUpdate(
                .state(label, type.shape, type.element),
                Tensor.iota(type.shape, axis: last).cast(to: type.element) * (1 / Double(type.shape[last].coefficient)))
            _ = try device.load(compile([], updates: [filling]), maximumBatch: 1, states: [label: buffer])
                .run([:], batch: 1)
        }
        let executable = try device.load(schedule, maximumBatch: 1, states: buffers)
        _ = try executable.run([:], batch: 1)
        let clock = ContinuousClock()
        var (least, total, runs) = (Double.infinity, 0.0, 0)
        while runs < 3 || total < seconds {
            let elapsed = try clock.measure { _ = try executable.run([:], batch: 1) } / .seconds(1)
            (least, total, runs) = (min(least, elapsed), total + elapsed, runs + 1)
        }
        return least
    }
}
