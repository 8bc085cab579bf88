import CPU
import Compiler
import Graph

/// Times of the CPU's products: `kernel-bench [threads] [portable|avx2|avx512]`.
@main struct KernelBench {
    static func main() throws {
        let threads = CommandLine.arguments.count > 1 ? Int(CommandLine.arguments[1]) : nil
        let level = CommandLine.arguments.count > 2 ? VectorLevel(rawValue: CommandLine.arguments[2]) : nil
        let device = try CPUDevice(threads: threads, level: level)
        print(device.summary)
        let bench = CPUBenchmark(device: device)
        for (m, k, n) in [(2048, 2048, 2048), (100, 784, 500), (512, 1024, 1024), (1, 4096, 4096)] {
            show(try bench.product(m: m, k: k, n: n))
        }
        let width = 4096, rows = 256
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

    static func show(_ result: CPUBenchmark.Result, ratio: Double? = nil) {
        let round = { (x: Double) in Double(Int(x * 1000 + 0.5)) / 1000 }
        print(
            "\(result.name): \(round(result.minimum * 1e3)) ms (median \(round(result.median * 1e3))), "
                + "\(round(result.gigaflops)) GFLOP/s, \(round(100 * Double(result.multiplyAdds) / Double(result.denseMultiplyAdds))) % "
                + "of the dense multiply-adds" + (ratio.map { ", \(round($0)) of the dense time" } ?? ""))
    }
}
