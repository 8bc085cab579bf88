import CPU
import Compiler
import Graph
import OpenCL

/// Times of plain products and of one masked layer in its three roles.
extension KernelBench {
    static func products(_ device: any Device) throws {
        for (m, k, n) in [(2048, 2048, 2048), (100, 784, 500), (512, 1024, 1024), (1, 4096, 4096)] {
            let a = Tensor.state("a", [Extent(m), Extent(k)])
            let b = Tensor.state("b", [Extent(k), Extent(n)])
            try show("product \(m)x\(k)x\(n)", measure(a.matmul(b), on: device), dense: m * k * n)
        }
    }

    /// A layer of 4096 to 4096 units on 256 rows: with no mask, and with a staircase whose degrees lie in order, in none, and are
    /// known at run time only.
    static func layers(_ device: any Device) throws {
        let (width, rows) = (4096, 256)
        let sorted = (0..<width).map { Int32($0) }
        let shuffled = sorted.map { $0 * 1237 % Int32(width) }
        let cases: [(String, MaskStructure?)] = [
            ("dense", nil), ("staircase", .degrees(input: sorted, output: sorted, strict: false)),
            ("unsorted", .degrees(input: shuffled, output: shuffled, strict: false)),
            ("run-time", .runtime(strict: false)),
        ]
        let x = Tensor.state("x", [Extent(rows), Extent(width)])
        let weight = Tensor.state("weight", [Extent(width), Extent(width)])
        let dy = Tensor.state("dy", [Extent(rows), Extent(width)])
        let degrees = Tensor.state("degrees", [Extent(width)], .int32)
        var denseTimes: [Double] = []
        for (name, mask) in cases {
            let y =
                mask.map {
                    var isRuntime = false
                    if case .runtime = $0 { isRuntime = true }
                    return x.maskedDense(weight, mask: $0, degrees: isRuntime ? (degrees, degrees) : nil)
                } ?? x.matmul(weight.transposed([1, 0]))
            let grads = try gradients(of: (y * dy).sum(), with: [x, weight])
            for (index, result) in ([y] + grads).enumerated() {
                let time = try measure(result, on: device, values: ["degrees": HostArray(shuffled)])
                if mask == nil { denseTimes.append(time.minimum) }
                try show(
                    "\(name) \(["forward", "input gradient", "weight gradient"][index]) \(width)x\(width), \(rows) rows",
                    time,
                    dense: width * width * rows, ratio: time.minimum / denseTimes[index])
            }
        }
    }

    struct Measurement {
        /// The shortest and the middle one of the runs, in seconds.
        var minimum: Double
        var median: Double
        /// Multiply-adds of a run as counted by the kernels, where the device counts them.
        var multiplyAdds: Int?
    }

    static func measure(_ result: Tensor, on device: any Device, values: [String: HostArray] = [:]) throws
        -> Measurement
    {
        try measure([StateUpdate(Tensor.state("result", result.shape), result)], on: device, values: values)
    }

    /// Times updates of states, which hold small numbers unless `values` names them.
    static func measure(
        _ updates: [StateUpdate], on device: any Device, values: [String: HostArray] = [:]
    ) throws -> Measurement {
        let schedule = try compile([], updates: updates)
        var states: [String: any DeviceBuffer] = [:]
        for value in schedule.states {
            let (label, type) = (schedule.values[value].label, schedule.values[value].type)
            let count = type.shape.count.coefficient
            let buffer = try device.makeBuffer(byteCount: type.element.byteCount * count)
            let filling = values[label] ?? HostArray((0..<count).map { (i: Int) -> Float in Float(i % 17) / 8 - 1 })
            try filling.withUnsafeBytes { try buffer.write($0) }
            states[label] = buffer
        }
        let executable = try device.load(schedule, maximumBatch: 1, states: states)
        _ = try executable.run([:], batch: 1)
        let counter = executable as? CPUExecutable
        counter?.resetCounters()
        _ = try executable.run([:], batch: 1)
        let executed = counter?.executedMultiplyAdds
        let t = try time(0.5) { _ = try executable.run([:], batch: 1) }
        return Measurement(minimum: t.minimum, median: t.median, multiplyAdds: executed)
    }

    static func show(_ name: String, _ time: Measurement, dense: Int, ratio: Double? = nil) throws {
        let executed = time.multiplyAdds ?? dense
        print(
            "\(name): \(milliseconds(time.minimum)) ms (median \(milliseconds(time.median)))"
                + (time.multiplyAdds == nil ? "" : ", \(Int(2 * Double(executed) / time.minimum / 1e9)) GFLOP/s")
                + (time.multiplyAdds.map { ", \(100 * $0 / dense) % of the dense multiply-adds" } ?? "")
                + (ratio.map { ", \(milliseconds($0 / 1e3)) of the dense time" } ?? ""))
    }
}
