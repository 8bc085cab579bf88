import Compiler
import Foundation
import Graph
import Testing

@testable import OpenCL

/// Every kernel on tiny shapes. `make check-kernels` runs this suite under a simulator that finds races, reads of memory
/// that was never written and accesses out of bounds, and assembles the programs that it leaves in
/// `MARTLET_KERNEL_SOURCES` for a GPU.
@Suite(.serialized) struct KernelCheckTests {
    @Test(arguments: KernelFamily.allCases)
    func everyKernel(family: KernelFamily) throws {
        try check(elementwise(), family, "elementwise")
        try check(reductions(), family, "reductions")
        for role in ProductGroup.Role.all {
            var s = Schedule()
            var degrees: [String: HostArray] = [:]
            for kind in [MaskKind.none, .sorted, .permuted, .matrix, .runtime] {
                for (inputs, outputs) in [(21, 9), (66, 70)] where inputs < 60 || kind == .none || kind == .permuted {
                    let name = "\(kind) \(inputs)"
                    degrees.merge(
                        addProduct(
                            to: &s, name, role: role, mask: kind, inputs: inputs, outputs: outputs,
                            staysZero: kind == .sorted && role == .weightGradient)
                    ) { $1 }
                }
            }
            // A batch of more than 64 gives the large tiles something to do; the simulator is spared it.
            try check(s, family, "\(role)", batch: 5, planned: 70, feeds: degrees)
        }
    }

    /// Products in tiles of every size, which are assembled and not run: shapes are large for devices of few units.
    @Test(arguments: [1, 16]) func tiles(units: Int) throws {
        for role in ProductGroup.Role.all {
            var s = Schedule()
            for kind in [MaskKind.none, .sorted, .permuted, .matrix, .runtime] {
                addProduct(to: &s, "\(kind)", role: role, mask: kind, inputs: 200, outputs: 200)
            }
            let executable = try OpenCLExecutable(Devices.gpu(units: units), s, maximumBatch: 200, states: [:])
            try writeSource(executable, "gpu-\(role)-\(units)")
        }
    }

    /// Convolutions on tiny shapes: padded and not, strided, grouped, masked by taps and by channels, all three roles.
    @Test(arguments: KernelFamily.allCases)
    func convolutions(family: KernelFamily) throws {
        let colours = ConvolutionMask.causal(.b, kernel: [3, 3], outputs: 9, inputs: 6, channelGroups: 3)
        // Half a tile and a bit less, told apart by channels.
        let halves = ConvolutionMask(
            taps: (0..<9).map { tap in
                .channels(BitMatrix(rows: 10, columns: 6) { ($0 + $1 * 2 + tap) % 3 > 0 })
            })
        let (image, line) = (Tensor.input("image", [.batch, 6, 5, 4]), Tensor.input("line", [.batch, 3, 20]))
        let results = [
            image.convolution(.input("w0", [9, 6, 3, 3]), padding: [(1, 1), (1, 1)], mask: colours),
            image.convolution(.input("w1", [8, 3, 2, 3]), stride: [2, 1], padding: [(1, 0), (0, 2)], groups: 2),
            image.convolution(.input("w2", [3, 6, 1, 1])),
            line.convolution(.input("w3", [2, 3, 2]), padding: [(3, 0)], dilation: [3]),
            image.transposedConvolution(.input("w4", [6, 2, 2, 2]), stride: [2, 2]),
            gate(image.convolution(.input("w5", [18, 6, 3, 3]), padding: [(1, 1), (1, 1)])),
            gate(image.convolution(.input("w6", [10, 6, 3, 3]), mask: halves)),
        ]
        let weights = topologicalOrder(results).filter { Tensor($0).placeholder?.label.hasPrefix("w") == true }.map {
            Tensor($0)
        }
        let loss = results.enumerated().map { ($1 * .input("d\($0)", $1.shape)).sum() }.reduce(.scalar(0), +)
        let outputs = results.map { ($0 + 0.5).tanh() } + (try gradients(of: loss, with: [image, line] + weights))
        // Wide enough for the large tiles of the GPU family, which the simulator is spared.
        let executable = try OpenCLExecutable(
            OpenCLDevice.named(kernels: family), compile(outputs), maximumBatch: 2, states: [:])
        let feeds = randomFeeds(executable.schedule, batch: 2)
        let found = try executable.run(feeds.mapValues { .host($0) }, batch: 2)
        let expected = try Interpreter(batch: 2, feeds.mapValues { $0.values }).run(outputs)
        for (index, (a, b)) in zip(expected, found).enumerated() {
            expectClose(b.doubles, a.elements, tolerance: 1e-5, "\(family) convolution \(index)")
        }
        try writeSource(executable, "\(family)-convolutions")
        // The large tiles are assembled, not run.
        let wide = Tensor.input("wide", [.batch, 128, 24, 24])
        let large = wide.convolution(.input("v", [128, 128, 3, 3]), padding: [(1, 1), (1, 1)])
        let gated = gate(wide.convolution(.input("u", [192, 128, 3, 3]), padding: [(1, 1), (1, 1)]))
        let assembled = try OpenCLExecutable(
            OpenCLDevice.named(kernels: family), compile([large, gated]), maximumBatch: 64, states: [:])
        try writeSource(assembled, "\(family)-convolutions-wide")
    }

    /// Attention, forward and backward, over positions that no tile divides, under patterns with masks and without.
    @Test(arguments: KernelFamily.allCases)
    func attention(family: KernelFamily) throws {
        let (q, k) = (Tensor.input("q", [.batch, 2, 3, 5]), Tensor.input("k", [.batch, 2, 3, 67]))
        let v = Tensor.input("v", [.batch, 2, 2, 67])
        let results = [AttentionPattern.all, .strictlyCausal].map { Tensor.attention(byDepth: q, k, v, $0) }
        let loss = results.enumerated().map { ($1 * .input("d\($0)", $1.shape)).sum() }.reduce(.scalar(0), +)
        let outputs = results + (try gradients(of: loss, with: [q, k, v]))
        let executable = try OpenCLExecutable(
            OpenCLDevice.named(kernels: family), compile(outputs), maximumBatch: 2, states: [:])
        let feeds = randomFeeds(executable.schedule, batch: 2)
        let found = try executable.run(feeds.mapValues { .host($0) }, batch: 2)
        let expected = try Interpreter(batch: 2, feeds.mapValues { $0.values }).run(outputs)
        for (index, (a, b)) in zip(expected, found).enumerated() {
            expectClose(b.doubles, a.elements, tolerance: 1e-5, "\(family) attention \(index)")
        }
        try writeSource(executable, "\(family)-attention")
    }

    private func gate(_ y: Tensor) -> Tensor {
        let half = y.shape[1].coefficient / 2
        return y.sliced(axis: 1, from: 0, count: half).tanh() * y.sliced(axis: 1, from: half, count: half).sigmoid()
    }

    /// Leaves a program for the assembler.
    private func writeSource(_ executable: OpenCLExecutable, _ name: String) throws {
        guard let folder = ProcessInfo.processInfo.environment["MARTLET_KERNEL_SOURCES"] else { return }
        try executable.source.write(toFile: "\(folder)/\(name).cl", atomically: true, encoding: .utf8)
    }

    private func check(
        _ schedule: Schedule, _ family: KernelFamily, _ name: String, batch: Int = 3, planned: Int = 3,
        feeds: [String: HostArray] = [:]
    ) throws {
        let device = try OpenCLDevice.named(kernels: family)
        let executable = try OpenCLExecutable(device, schedule, maximumBatch: planned, states: [:])
        let given = randomFeeds(schedule, batch: batch).merging(feeds) { $1 }
        let results = try executable.run(given.mapValues { .host($0) }, batch: batch)
        let reference = Reference(schedule, feeds: given, batch: batch)
        for (value, result) in zip(schedule.outputs, results) {
            expectClose(result.doubles, reference.arrays[value]!, tolerance: 1e-5, "\(family) \(name)")
        }
        try writeSource(executable, "\(family)-\(name)")
    }

    private func elementwise() -> Schedule {
        var s = Schedule()
        let shape: Shape = [.batch, 19]
        let (x, y) = (s.input("x", shape), s.input("y", [19]))
        let (i, bytes) = (s.input("i", shape, .int32), s.input("bytes", shape, .uint8))
        let functions: [ElementwiseFunction] = [
            .exp, .expm1, .tanh, .sigmoid, .softplus, .relu, .floor, .sin, .cos, .erf, .hazard, .sign, .absolute,
        ]
        let outputs = functions.map { _ in s.output(shape) }
        s.add(
            ElementwiseGroup(
                iteration: shape.dimensions, inputs: [s.whole(x)],
                program: Program(
                    inputs: [.float32], instructions: functions.map { .init($0, [0], .float32) },
                    outputs: functions.indices.map { $0 + 1 }), outputs: outputs.map { s.whole($0) }))
        let (normal, mixed) = (s.output(shape), s.output(shape, .bool))
        s.add(
            ElementwiseGroup(
                iteration: shape.dimensions,
                inputs: [s.whole(i), Operand(.position, strides: [19, 1], element: .int32)],
                program: Program(
                    inputs: [.int32, .int32],
                    instructions: [
                        .init(.philox, [0, 1, 0, 1, 0, 1], .int32), .init(.normalFromBits, [2], .float32),
                        .init(.uniformFromBits, [2], .float32), .init(.add, [3, 4], .float32),
                    ], outputs: [5]), outputs: [s.whole(normal)]))
        s.add(
            ElementwiseGroup(
                iteration: shape.dimensions,
                inputs: [
                    s.whole(x), Operand(.value(y), offset: [18], strides: [0, -1], element: .float32),
                    s.whole(bytes),
                ],
                program: Program(
                    inputs: [.float32, .float32, .uint8],
                    instructions: [
                        .init(.maximum, [0, 1], .float32), .init(.cast(.float32), [2], .float32),
                        .init(.less, [3, 4], .bool),
                    ], outputs: [5]), outputs: [s.whole(mixed)]))
        return s
    }

    private func reductions() -> Schedule {
        var s = Schedule()
        let x = s.input("x", [.batch, 40])
        let long = s.input("long", [.batch, 9000])
        func add(
            _ kind: ReductionGroup.Kind, _ input: Int, keptExtents: [Extent], reducedExtents: [Extent],
            strides: [Extent]
        ) {
            let y = s.output(Shape(keptExtents))
            s.add(
                ReductionGroup(
                    kind: kind, keptExtents: keptExtents, reducedExtents: reducedExtents,
                    inputs: [Operand(.value(input), strides: strides, element: .float32)], prologue: .identity(),
                    epilogueInputs: [], epilogue: .identity(), outputs: [s.whole(y)]))
        }
        add(.sum, x, keptExtents: [.batch], reducedExtents: [40], strides: [40, 1])
        add(.maximum, x, keptExtents: [40], reducedExtents: [.batch], strides: [1, 40])
        add(.minimum, x, keptExtents: [], reducedExtents: [.batch, 40], strides: [40, 1])
        add(.sum, long, keptExtents: [], reducedExtents: [.batch, 9000], strides: [9000, 1])
        return s
    }
}
