import CPU
import Compiler
import Graph
import OpenCL
import Testing

@testable import Bijectors

/// What the compiler makes of a coupling around its network.
@Suite(.serialized) struct CouplingKernelTests {
    struct Case: CustomTestStringConvertible, Sendable {
        let name: String
        let partition: Partition
        let transformer: any Transformer
        let shape: [Int]
        var testDescription: String { name }
    }

    static let cases: [Case] = {
        let forms: [(String, any Transformer)] = [
            ("additive", AdditiveTransformer()),
            ("realnvp", AffineTransformer(.scaleThenShift, bound: .tanh(limit: 1))),
            ("clipped", AffineTransformer(.standardize, bound: .softClip(limit: 2))),
            ("glow", AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2))),
            ("gated", AffineTransformer(.gated, bound: .sigmoid(shift: 1))),
        ]
        let places: [(String, Partition, [Int])] = [
            ("odd elements of 7", .alternating(keepsOdd: true), [7]),
            ("even elements of 63", .alternating(keepsOdd: false), [63]),
            ("first half of 5 channels", .half(keepsSecond: false), [5, 3, 5]),
            ("second half of 6 channels", .half(keepsSecond: true), [6, 5, 3]),
            ("checkerboard of 3 channels", .checkerboard(keepsOdd: true), [3, 5, 7]),
        ]
        return forms.enumerated().flatMap { index, form in
            [places[index], places[(index + 3) % places.count]].map {
                Case(name: "\(form.0), \($0.0)", partition: $0.1, transformer: form.1, shape: $0.2)
            }
        }
    }()

    private func devices() throws -> [any Device] {
        var devices: [any Device] = [try CPUDevice(threads: 2)]
        for family in [KernelFamily.cpu, .gpu] {
            if let device = try? OpenCLDevice.named("opencl", kernels: family) { devices.append(device) }
        }
        return devices
    }

    /// Every direction of a coupling on every device.
    @Test(arguments: cases) func everyDeviceAgreesWithTheInterpreter(_ test: Case) throws {
        let batch = 9
        let devices = try devices()
        for direction in CouplingKernel.Direction.allCases {
            let kernel = try CouplingKernel(direction, test.partition, test.transformer, shape: test.shape)
            var bindings: [String: Values] = [:]
            for (index, input) in kernel.inputs.enumerated() {
                let shape = input.shape.resolved(batch: batch)
                let elements = numbers(shape.reduce(1, *), seed: UInt64(index + 3)).map { Double(Float($0 * 3)) }
                bindings[input.name] = Values(shape: shape, elements: elements)
            }
            let expected = try Interpreter(batch: batch, bindings).run(kernel.outputs)
            let schedule = try compile(kernel.outputs)
            let names = Set(schedule.inputs.map { schedule.values[$0].label })
            let feeds = bindings.filter { names.contains($0.key) }.mapValues { Feed.host(HostArray($0, as: .float32)) }
            for device in devices {
                let found = try device.load(schedule, maximumBatch: batch, states: [:]).run(feeds, batch: batch)
                for (index, (expected, found)) in zip(expected, found).enumerated() {
                    let largest = max(1, expected.elements.map { abs($0) }.max() ?? 0)
                    let worst = zip(expected.elements, found.doubles).map { abs($0 - $1) }.max() ?? 0
                    #expect(
                        worst <= 2e-6 * largest,
                        "\(direction.rawValue), output \(index) on \(device.summary): \(worst)")
                }
            }
        }
    }

    /// At most 1.15 times the bytes that have to be moved, at the shapes of the workloads `realnvp` and `glow`.
    @Test(arguments: CouplingKernel.Direction.allCases) func nothingIsMovedTwice(_ direction: CouplingKernel.Direction)
        throws
    {
        let realNVP = AffineTransformer(.scaleThenShift, bound: .tanh(limit: 1))
        let glow = AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2))
        let places: [(Partition, AffineTransformer, [Int], Int)] = [
            (.alternating(keepsOdd: true), realNVP, [63], 512), (.alternating(keepsOdd: false), realNVP, [63], 512),
            (.checkerboard(keepsOdd: false), realNVP, [3, 32, 32], 16),
            (.half(keepsSecond: true), glow, [12, 16, 16], 16), (.half(keepsSecond: true), glow, [24, 8, 8], 16),
            (.half(keepsSecond: true), glow, [48, 4, 4], 16),
        ]
        for (partition, transformer, shape, batch) in places {
            let kernel = try CouplingKernel(direction, partition, transformer, shape: shape)
            let schedule = try compile(kernel.outputs)
            let (moved, compulsory) = (schedule.movedBytes(batch: batch), schedule.compulsoryBytes(batch: batch))
            #expect(
                Double(moved) <= 1.15 * Double(compulsory),
                "\(partition.name) of \(shape): \(moved) of \(compulsory) bytes in \(schedule)")
        }
    }
}
