import Bijectors
import CPU
import Compiler
import Graph
import OpenCL

extension KernelBench {
    /// The couplings of the workloads `realnvp` and `glow`.
    private static let couplings:
        [(name: String, partition: Partition, form: AffineTransformer, shape: [Int], batch: Int)] =
            [
                (
                    "realnvp", .alternating(keepsOdd: true), AffineTransformer(.scaleThenShift, bound: .tanh(limit: 1)),
                    [63],
                    512
                )
            ]
            + [[12, 16, 16], [24, 8, 8], [48, 4, 4]].map {
                (
                    "glow", .half(keepsSecond: true), AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2)), $0,
                    16
                )
            }

    /// Bytes that couplings move beside those that they have to, and how fast.
    static func couplings(_ device: any Device) throws {
        for coupling in couplings {
            for direction in CouplingKernel.Direction.allCases {
                let kernel = try CouplingKernel(direction, coupling.partition, coupling.form, shape: coupling.shape)
                let schedule = try compile(kernel.outputs)
                let moved = schedule.movedBytes(batch: coupling.batch)
                let compulsory = schedule.compulsoryBytes(batch: coupling.batch)
                print(
                    "\(coupling.name) \(coupling.shape) x \(coupling.batch), \(direction.rawValue): compulsory \(compulsory), "
                        + "moved \(moved), ratio \(milliseconds(Double(moved) / Double(compulsory) / 1e3))")
                let executable = try device.load(schedule, maximumBatch: coupling.batch, states: [:])
                var feeds: [String: Feed] = [:]
                for (name, shape) in kernel.inputs {
                    let resolved = shape.resolved(batch: coupling.batch)
                    let count = resolved.reduce(1, *)
                    let array = HostArray((0..<count).map { Float($0 % 17) / 16 - 0.5 }, shape: resolved)
                    let buffer = try device.makeBuffer(byteCount: 4 * count)
                    try array.withUnsafeBytes { try buffer.write($0) }
                    feeds[name] = .device(buffer)
                }
                _ = try executable.run(feeds, batch: coupling.batch)
                let t = try time(0.2) {
                    for group in schedule.groups.indices { try executable.run(group: group, batch: coupling.batch) }
                }
                print(
                    "    \(milliseconds(t.minimum)) ms in \(schedule.groups.count) groups, "
                        + "\(milliseconds(Double(moved) / t.minimum / 1e12)) GB/s")
            }
        }
    }
}
