import Compiler
import Graph
import Testing

@testable import OpenCL

/// Arrays that are fed are read later than `run` and `runOnDevice` return, and are what they were when they were fed.
@Suite(.serialized) struct UploadTests {
    private let device: OpenCLDevice
    private static let count = 300_000

    init() throws { device = try OpenCLDevice.named(kernels: .cpu) }

    /// total += x, and y = x.
    private func accumulator() -> Schedule {
        var s = Schedule()
        let (x, total) = (s.input("x", [Extent(Self.count)]), s.state("total", [Extent(Self.count)]))
        let y = s.output([Extent(Self.count)])
        s.add(
            ElementwiseGroup(
                iteration: [Extent(Self.count)], inputs: [s.whole(total), s.whole(x)],
                program: Program(
                    inputs: [.float32, .float32], instructions: [.init(.add, [0, 1], .float32)], outputs: [2, 1]),
                outputs: [s.whole(total), s.whole(y)]))
        return s
    }

    private func filled(_ value: Float) -> HostArray { HostArray([Float](repeating: value, count: Self.count)) }

    @Test func whatIsFedStaysWhatItWas() throws {
        let total = try device.makeBuffer(byteCount: Self.count * 4)
        let executable = try OpenCLExecutable(device, accumulator(), maximumBatch: 1, states: ["total": total])
        for step in 1...5 {
            var array = filled(Float(step))
            let results = try executable.runOnDevice(["x": .host(array)], batch: 1)
            array.withUnsafeMutableBytes { for i in $0.indices { $0[i] = 0xFF } }
            #expect(try HostArray(reading: results[0], type: .float32, shape: [Self.count]) == filled(Float(step)))
        }
        #expect(device.queue.heldCount == 0)
        #expect(try HostArray(reading: total, type: .float32, shape: [Self.count]) == filled(15))
    }

    /// Outputs of runs that were started are what they were then, in whatever order they are asked for, or if never.
    @Test func outputsOfStartedRuns() throws {
        let total = try device.makeBuffer(byteCount: Self.count * 4)
        let executable = try OpenCLExecutable(device, accumulator(), maximumBatch: 1, states: ["total": total])
        let started = try (1...6).map { try executable.start(["x": .host(filled(Float($0)))], batch: 1) }
        #expect(started.allSatisfy { !$0.isFinished })
        for step in [5, 2, 5, 1] { #expect(try started[step - 1].outputs() == [filled(Float(step))]) }
        _ = try executable.start(["x": .host(filled(100))], batch: 1)
        #expect(try HostArray(reading: total, type: .float32, shape: [Self.count]) == filled(121))
    }

    /// Without anything read between: the next array is fed while the device may still be at the one before.
    @Test func manyRunsInARow() throws {
        let total = try device.makeBuffer(byteCount: Self.count * 4)
        let executable = try OpenCLExecutable(device, accumulator(), maximumBatch: 1, states: ["total": total])
        var array = filled(0)
        for step in 1...100 {
            array.withUnsafeMutableBytes { $0.bindMemory(to: Float.self).update(repeating: Float(step)) }
            _ = try executable.runOnDevice(["x": .host(array)], batch: 1)
        }
        array.withUnsafeMutableBytes { $0.bindMemory(to: Float.self).update(repeating: -1) }
        #expect(device.queue.heldCount > 0)
        // What waits for the device is bounded.
        #expect(device.queue.heldCount * Self.count * 4 <= 64 << 20)
        try device.finish()
        #expect(device.queue.heldCount == 0)
        #expect(try HostArray(reading: total, type: .float32, shape: [Self.count]) == filled(5050))
    }
}
