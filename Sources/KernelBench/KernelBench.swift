import CPU
import Compiler
import Graph
import OpenCL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Times of the CPU's groups: `kernel-bench [products|layers|convolutions|convolutions-opencl|couplings|made|made-large|elementwise|all] [threads] [portable|avx2|avx512]`.
@main struct KernelBench {
    static func main() throws {
        let arguments = CommandLine.arguments
        let what = arguments.count > 1 ? arguments[1] : "all"
        let threads = arguments.count > 2 ? Int(arguments[2]) : nil
        let level = arguments.count > 3 ? VectorLevel(rawValue: arguments[3]) : nil
        let device = try CPUDevice(threads: threads, level: level)
        print(device.summary)
        if what == "all" || what == "products" { try products(device) }
        if what == "all" || what == "layers" { try layers(device) }
        if what == "all" || what == "convolutions" { try convolutions(device) }
        if what == "convolutions-opencl" { try convolutions(OpenCLDevice.named("opencl")) }
        if what == "couplings" { try couplings([device, OpenCLDevice.named("opencl")]) }
        if what == "all" || what == "elementwise" { try elementwise(device) }
        if what == "all" || what == "made" { try made([784, 500, 500, 784], batch: 100, device) }
        if what == "all" || what == "made-large" { try made([784, 4096, 4096, 784], batch: 256, device) }
    }

    static func products(_ device: CPUDevice) throws {
        let bench = CPUBenchmark(device: device)
        for (m, k, n) in [(2048, 2048, 2048), (100, 784, 500), (512, 1024, 1024), (1, 4096, 4096)] {
            show(try bench.product(m: m, k: k, n: n))
        }
    }

    static func layers(_ device: CPUDevice) throws {
        let bench = CPUBenchmark(device: device)
        let width = 4096
        let rows = 256
        let sorted = (0..<width).map { Int32($0) }
        let shuffled = sorted.map { $0 * 1237 % Int32(width) }
        for role in [ProductGroup.Role.forward, .inputGradient, .weightGradient] {
            let dense = try bench.layer(role, width: width, rows: rows, mask: nil)
            show(dense)
            let cases: [(String, MaskStructure, [Int32]?)] = [
                ("staircase", .degrees(input: sorted, output: sorted, strict: false), nil),
                ("unsorted", .degrees(input: shuffled, output: shuffled, strict: false), nil),
                ("run-time", .runtime(strict: false), shuffled),
            ]
            for (name, mask, degrees) in cases {
                let result = try bench.layer(role, width: width, rows: rows, mask: mask, degrees: degrees)
                print("    \(name): ", terminator: "")
                show(result, ratio: result.minimum / dense.minimum)
            }
        }
    }

    /// A training step: the whole, and each group by itself.
    static func made(_ widths: [Int], batch: Int, _ device: CPUDevice) throws {
        let step = try MADEStep(widths: widths, batch: batch, device: device)
        let executable = try device.load(step.schedule, maximumBatch: batch, states: step.states) as! CPUExecutable
        let x = HostArray(
            (0..<(batch * widths[0])).map { ($0 &* 31) % 7 < 2 ? 1 : 0 } as [Float], shape: [batch, widths[0]])
        let feeds: [String: Feed] = ["x": .host(x), "rate": .host(HostArray([0.001] as [Float]))]
        let whole = try time(2) { _ = try executable.run(feeds, batch: batch) }
        print(
            "made \(widths), batch \(batch): \(milliseconds(whole.minimum)) ms (median \(milliseconds(whole.median)))")
        var sum = 0.0
        for (index, group) in step.schedule.groups.enumerated() {
            executable.resetCounters()
            try executable.run(group: index, batch: batch)
            let executed = Double(executable.executedMultiplyAdds)
            let t = try time(0.2) { try executable.run(group: index, batch: batch) }
            sum += t.minimum
            print(
                "    \(group.label): \(milliseconds(t.minimum)) ms"
                    + (executed > 0 ? ", \(Int(2 * executed / t.minimum / 1e9)) GFLOP/s" : ""))
        }
        print("    sum of the groups: \(milliseconds(sum)) ms; planned \(executable.plannedBytes / 1024) KiB")
    }

    /// Adam over many parameters, and some single functions, in bytes moved and elements a second.
    static func elementwise(_ device: CPUDevice) throws {
        let count = 20_000_000
        let whole = { (value: Int) in Operand(.value(value), strides: [1], element: .float32) }
        var schedule = Schedule()
        var states: [String: any DeviceBuffer] = [:]
        for name in ["g", "w", "m", "v"] {
            schedule.values.append(Value(TensorType([Extent(count)]), .state(name), label: name))
            states[name] = try device.makeBuffer(byteCount: 4 * count)
        }
        schedule.values.append(Value(TensorType([1]), .constant(HostArray([0.001] as [Float])), label: "rate"))
        func run(_ name: String, _ group: ElementwiseGroup, bytes: Int) throws {
            schedule.groups = [Group(.elementwise(group), label: name, location: nil)]
            let executable = try device.load(schedule, maximumBatch: 1, states: states)
            let t = try time(0.5) { try executable.run(group: 0, batch: 1) }
            let elements = Double(group.iteration[0].coefficient)
            print(
                "\(name), \(Int(elements)) elements: \(milliseconds(t.minimum)) ms, \(milliseconds(elements / t.minimum / 1e12)) G/s, "
                    + "\(milliseconds(elements * Double(bytes) / t.minimum / 1e12)) GB/s")
        }
        for elements in [count, 50_000] {
            try run(
                "adam",
                ElementwiseGroup(
                    iteration: [Extent(elements)],
                    inputs: (0..<4).map(whole) + [Operand(.value(4), strides: [0], element: .float32)],
                    program: MADEStep.adam, outputs: (1..<4).map(whole)), bytes: 28)
        }
        for function in [ElementwiseFunction.negate, .exp, .log, .tanh, .sigmoid, .softplus, .erf, .sin, .power] {
            let operands = function.operandCount
            try run(
                function.name,
                ElementwiseGroup(
                    iteration: [16_000], inputs: (0..<operands).map(whole),
                    program: Program(
                        inputs: [ElementType](repeating: .float32, count: operands),
                        instructions: [.init(function, Array(0..<operands), .float32)], outputs: [operands]),
                    outputs: [whole(3)]),
                bytes: 8)
        }
    }

    static func time(_ seconds: Double, _ body: () throws -> Void) rethrows -> (minimum: Double, median: Double) {
        try body()
        var times: [Double] = []
        let start = now()
        while now() - start < seconds || times.count < 3 {
            let before = now()
            try body()
            times.append(now() - before)
        }
        times.sort()
        return (times[0], times[times.count / 2])
    }

    static func now() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + 1e-9 * Double(time.tv_nsec)
    }

    static func milliseconds(_ seconds: Double) -> Double { Double(Int(seconds * 1e6 + 0.5)) / 1e3 }

    static func show(_ result: CPUBenchmark.Result, ratio: Double? = nil) {
        print(
            "\(result.name): \(milliseconds(result.minimum)) ms (median \(milliseconds(result.median))), "
                + "\(Int(result.gigaflops)) GFLOP/s, \(100 * result.multiplyAdds / result.denseMultiplyAdds) % of the dense multiply-adds"
                + (ratio.map { ", \(milliseconds($0 / 1e3)) of the dense time" } ?? ""))
    }
}
