import CPU
import Compiler
import Graph
import OpenCL

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

struct UnknownCase: Error, CustomStringConvertible {
    let name: String
    var description: String {
        "expected products, layers, convolutions, couplings or elementwise, found '\(name)'"
    }
}

/// Times of single groups: `kernel-bench products|layers|convolutions|couplings|elementwise [cpu|opencl|opencl:N] [threads] [portable|avx2|avx512]`;
/// `only=TEXT` takes the convolutions with that text in their names. `MARTLET_KERNELS=gpu` makes an OpenCL processor run the kernels of GPUs.
@main struct KernelBench {
    static func main() throws {
        let only = CommandLine.arguments.filter { $0.hasPrefix("only=") }.map { String($0.dropFirst(5)) }
        let arguments = CommandLine.arguments.dropFirst().filter { !$0.hasPrefix("only=") }
        let what = arguments.first ?? ""
        let name = arguments.dropFirst().first ?? "cpu"
        let cpu = try CPUDevice(
            threads: arguments.dropFirst(2).first.flatMap { Int($0) },
            instructionSet: arguments.dropFirst(3).first.flatMap { InstructionSet(rawValue: $0) })
        let device: any Device = name == "cpu" ? cpu : try OpenCLDevice.named(name)
        print(device.summary)
        switch what {
        case "products": try products(device)
        case "layers": try layers(device)
        case "convolutions": try convolutions(device, only: only)
        case "couplings": try couplings(device)
        case "elementwise": try elementwise(device)
        default: throw UnknownCase(name: what)
        }
    }

    /// Adam over many parameters, and some single functions, in elements a second and bytes moved.
    static func elementwise(_ device: any Device) throws {
        func run(_ name: String, _ updates: [StateUpdate], elements: Int, bytes: Int) throws {
            let t = try measure(updates, on: device)
            print(
                "\(name), \(elements) elements: \(milliseconds(t.minimum)) ms, "
                    + "\(milliseconds(Double(elements) / t.minimum / 1e12)) G/s, "
                    + "\(milliseconds(Double(elements * bytes) / t.minimum / 1e12)) GB/s")
        }
        for count in [20_000_000, 50_000] {
            let (g, w, m, v) = (
                Tensor.state("g", [Extent(count)]), Tensor.state("w", [Extent(count)]),
                Tensor.state("m", [Extent(count)]), Tensor.state("v", [Extent(count)])
            )
            // Kingma & Ba 2015, algorithm 1, with the corrections folded into the rate.
            let first = 0.9 * m + 0.1 * g
            let second = 0.999 * v + 0.001 * g * g
            let updates = [
                StateUpdate(w, w - 0.001 * first / (second.sqrt() + 1e-8)), StateUpdate(m, first),
                StateUpdate(v, second),
            ]
            try run("adam", updates, elements: count, bytes: 28)
        }
        let x = Tensor.state("x", [16_000])
        for function in [ElementwiseFunction.negate, .exp, .log, .tanh, .sigmoid, .softplus, .erf, .hazard, .sin] {
            try run(
                function.name, [StateUpdate(Tensor.state("y", x.shape), x.apply(function))], elements: 16_000, bytes: 8)
        }
    }

    /// The rates that a training step's floor is made of.
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
}
