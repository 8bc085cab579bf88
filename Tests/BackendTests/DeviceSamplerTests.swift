import CPU
import Compiler
import Graph
import OpenCL
import Testing

/// Compiled samplers on every device, and their interpreter, against the loop over full passes.
@Suite(.serialized) struct DeviceSamplerTests {
    typealias Generator = RandomGraphTests.Generator

    func devices() throws -> [any Device] {
        var devices: [any Device] = [try CPUDevice(threads: 2)]
        for family in [KernelFamily.cpu, .gpu] {
            if let device = try? OpenCLDevice.named("opencl", kernels: family) { devices.append(device) }
        }
        return devices
    }

    /// - Parameter reason: how the reason begins for which the program is one of full passes; nil where it has to be incremental.
    func check(
        _ name: String, _ x: Tensor, drawn: Tensor, order: Order, outputs: [Tensor] = [], batch: Int = 3,
        fullPasses reason: String? = nil, on devices: [any Device],
        sourceLocation: Testing.SourceLocation = #_sourceLocation
    ) throws {
        let program = try SamplingProgram(variable: x, drawn: drawn, order: order, outputs: outputs)
        let found = program.fullPasses?.reason
        #expect(
            reason.map { found?.hasPrefix($0) == true } ?? (program.fullPasses == nil), "\(name): \(found ?? "none")",
            sourceLocation: sourceLocation)
        var g = Generator(7)
        var (bindings, types) = ([String: Values](), [String: ElementType]())
        for case let placeholder as Placeholder in topologicalOrder([drawn] + outputs).map(\.operation)
        where placeholder.label != "x" {
            bindings[placeholder.label] = g.values(placeholder.type.shape.resolved(batch: batch))
            types[placeholder.label] = placeholder.type.element
        }
        let feeds = bindings.filter { program.inputNames.contains($0.key) }
        var naive = Values(shape: x.shape.resolved(batch: batch))
        let count = naive.elements.count / batch
        for group in order.groups {
            bindings["x"] = naive
            let next = try Interpreter(batch: batch, bindings).run(drawn)
            for v in group { for b in 0..<batch { naive.elements[b * count + v] = next.elements[b * count + v] } }
        }
        bindings["x"] = naive
        let expected = [naive] + (outputs.isEmpty ? [] : try Interpreter(batch: batch, bindings).run(outputs))
        func compare(_ results: [[Double]], _ tolerance: Double, _ device: String) {
            #expect(results.count == expected.count, "\(name) on \(device)", sourceLocation: sourceLocation)
            for (index, (result, expected)) in zip(results, expected).enumerated() {
                let isEqual =
                    result.count == expected.elements.count
                    && zip(result, expected.elements).allSatisfy { abs($0 - $1) <= tolerance * max(1, abs($1)) }
                #expect(
                    isEqual, "result \(index) of \(name) on \(device): \(result) for \(expected.elements)",
                    sourceLocation: sourceLocation)
            }
        }
        if program.fullPasses == nil {
            var machine = try SamplingInterpreter(program, batch: batch, bindings)
            compare(machine.run().map(\.elements), 1e-12, "the interpreter")
        }
        for device in devices {
            let sampler = try device.load(program, maximumBatch: batch + 2, states: [:])
            let arrays = Dictionary(uniqueKeysWithValues: feeds.map { ($0, HostArray($1, as: types[$0]!)) })
            compare(try sampler.run(arrays, batch: batch).map(\.doubles), 1e-5, device.summary)
        }
    }

    /// The elements before each one along the last axis, zero in front.
    func shifted(_ t: Tensor) -> Tensor {
        let (axis, low) = (t.shape.rank - 1, [Int](repeating: 0, count: t.shape.rank - 1) + [1])
        return t.padded(low: low, high: low.map { _ in 0 }).sliced(
            axis: axis, from: 0, count: t.shape[axis].coefficient)
    }

    func constant(_ elements: [Float], _ shape: [Int]) -> Tensor {
        .constant(HostArray(elements, shape: shape))
    }

    // MARK: channels

    /// Movement of which only a later channel is read: the first one says nothing about the others.
    @Test func laterChannelsOfMovement() throws {
        let x = Tensor.input("x", [.batch, 12])
        let order = Order(index: (0..<12).map { Int32($0 % 6) })
        let h0 = shifted(x.reshaped([.batch, 2, 6]))
        let h1 = shifted(h0)
        let conv = h0.convolution(constant([0.7, -0.4, 0.9, 0.3], [2, 2, 1]))
        func channel(_ t: Tensor, _ c: Int) -> Tensor { t.sliced(axis: 1, from: c, count: 1) }
        let pair = Tensor.concatenate([h0, h0.tanh()], axis: 1)
        let cases: [(String, Tensor)] = [
            ("a slice of a pad", conv + channel(h1, 1)),
            ("a gather of a pad", conv + h1.gathered(.constant(HostArray([1] as [Int32])), axis: 1)),
            ("a masked pad", conv + h1 * constant([0, 1], [2, 1])),
            ("a masked convolution of a pad", conv + h1.convolution(constant([0, 1], [1, 2, 1]))),
            ("a slice of a concatenation", conv + channel(pair, 1)),
            ("the last channel of a concatenation", conv + channel(pair, 3)),
            ("convolutions side by side", conv + channel(.concatenate([conv, conv * 2], axis: 1), 1)),
            (
                "one behind the other",
                conv + channel(Tensor.concatenate([conv, conv * 2], axis: 2).sliced(axis: 2, from: 0, count: 6), 1)
            ),
            ("the first channel", conv + channel(h1, 0)), ("both channels", conv + h1),
            ("no convolution", h0 * 0.5 + channel(h1, 1)),
        ]
        for (name, y) in cases {
            try check(
                name, x, drawn: y.reshaped(x.shape) + .input("noise", x.shape), order: order, on: devices())
        }
    }

    /// More different channels than are taken in runs.
    @Test func manyChannelsWithoutAPattern() throws {
        let x = Tensor.input("x", [.batch, 320])
        let h0 = shifted(x.reshaped([.batch, 80, 4]))
        let read = (0..<80).map { Int32($0) }.filter { $0 * 7 % 5 < 2 }
        let later =
            shifted(shifted(h0)).gathered(.constant(HostArray(read)), axis: 1).sum(axes: [1], keepingAxes: true) * 0.1
        let conv = h0.convolution(constant((0..<80).map { Float($0 % 7) / 40 }, [1, 80, 1]))
        let y = (conv + later).broadcast(to: [.batch, 80, 4]).tanh()
        try check(
            "80 channels", x, drawn: y.reshaped(x.shape) + .input("noise", x.shape),
            order: Order(index: (0..<320).map { Int32($0 % 4) }), on: [CPUDevice(threads: 2)])
    }

    /// Rows of an example that a convolution takes for examples of their own.
    @Test func convolutionsOfRows() throws {
        let x = Tensor.input("x", [.batch, 12])
        let rows = shifted(x.reshaped([Extent(2, power: 1), 2, 3]))
        let y = rows.convolution(constant([0.7, -0.4, 0.9, 0.3], [2, 2, 1])).tanh() + shifted(rows)
        try check(
            "rows", x, drawn: y.reshaped(x.shape) + .input("noise", x.shape),
            order: Order(index: (0..<12).map { Int32($0 % 3) }), fullPasses: "convolution has no incremental form",
            on: devices())
    }

    /// A graph of channels at positions, of which some are read and others are not: position p of the result reads positions
    /// before p.
    private func channels(_ x: Tensor, _ g: inout Generator) -> Tensor {
        func convolution(_ t: Tensor) -> Tensor {
            let (count, width) = (t.shape[1].coefficient, g.next(1...2))
            return t.convolution(
                .constant(HostArray(g.values([2, count, width]), as: .float32)) * 0.5, padding: [(width - 1, 0)])
        }
        func channel(_ t: Tensor) -> Tensor {
            t.sliced(axis: 1, from: g.next(0...t.shape[1].coefficient - 1), count: 1)
        }
        let first = shifted(x.reshaped([.batch, 2, 6]))
        var pool = [first, convolution(first)]
        for _ in 0..<g.next(2...7) {
            let a = g.pick(pool)
            let count = a.shape[1].coefficient
            switch g.next(0...7) {
            case 0: pool.append(shifted(a))
            case 1: pool.append(a.tanh())
            case 2: pool.append(.concatenate([a, g.pick(pool)], axis: 1))
            case 3:
                let picked = (0..<g.next(1...3)).map { _ in Int32(g.next(0...count - 1)) }
                pool.append(a.gathered(.constant(HostArray(picked)), axis: 1))
            case 4: pool.append(a * constant((0..<count).map { _ in Float(g.next(0...1)) }, [count, 1]))
            case 5: pool.append(convolution(a))
            case 6: pool.append(a + channel(g.pick(pool)))
            default: pool.append(a.flipped(axes: [1]))
            }
        }
        return pool.suffix(3).map { channel($0) }.reduce(pool[1], +).tanh()
    }

    @Test func randomChannels() throws {
        let device = try CPUDevice(threads: 2)
        let x = Tensor.input("x", [.batch, 12])
        for seed in UInt64(1)...120 {
            var g = Generator(seed)
            try check(
                "graph \(seed)", x, drawn: channels(x, &g).reshaped(x.shape) + .input("noise", x.shape),
                order: Order(index: (0..<12).map { Int32($0 % 6) }), on: [device])
        }
    }

    // MARK: types of elements

    /// Variables of one byte: a device that wrote words would write over its neighbours.
    @Test func bytes() throws {
        for type in [ElementType.uint8, .bool, .int32] {
            let x = Tensor.input("x", [.batch, 6], type)
            let noise = Tensor.input("noise", x.shape)
            let before = shifted(x)
            let drawn =
                type == .bool
                ? before.not().or(noise.greater(0.4))
                : (before.cast(to: .float32) * 0.5 + (noise + 1) * 20).cast(to: type)
            try check(
                "\(type)", x, drawn: drawn, order: .natural(6), outputs: [before.cast(to: .float32), before],
                batch: 16, on: devices())
        }
    }

    /// Sums of integers are no sums of floats.
    @Test func sumsOfIntegers() throws {
        let x = Tensor.input("x", [.batch, 6])
        let before = shifted(x.reshaped([.batch, 2, 3]))
        let count = (before * 4).cast(to: .int32).sum(axes: [1], keepingAxes: true).cast(to: .float32)
        try check(
            "a count", x, drawn: (before * 0.5 + count).reshaped(x.shape) + .input("noise", x.shape),
            order: Order(index: (0..<6).map { Int32($0 % 3) }), fullPasses: "sum of int32", on: devices())
    }

    // MARK: the batch

    /// Counters along the batch differ from example to example.
    @Test func positionsAlongTheBatch() throws {
        let x = Tensor.input("x", [.batch, 6])
        let noise = Tensor.input("noise", x.shape)
        let count = Tensor.iota([.batch, 6], axis: 0)
        let image = shifted(x.reshaped([.batch, 2, 3]))
        let conv = image.convolution(constant([0.7, -0.4, 0.9, 0.3], [2, 2, 1]))
        let cases: [(String, Tensor)] = [
            ("a counter", shifted(x) + count.cast(to: .float32)),
            ("a counter alone", count.cast(to: .float32)),
            ("a moved counter", shifted(x) + shifted(count.cast(to: .float32) * 0.5).tanh()),
            (
                "a stored counter",
                shifted(x)
                    + .concatenate([count, count], axis: 1).sliced(axis: 1, from: 3, count: 6).cast(to: .float32)
            ),
            ("a selection", Tensor.select(count.less(2), shifted(x), 0.5) + noise),
            ("a factor that is zero for the first example", shifted(x) * count.cast(to: .float32) + noise),
            (
                "elements counted through",
                shifted(x)
                    + Tensor(
                        Position(shape: [.batch, 6], offset: 3, strides: [6, 1]), []
                    ).cast(to: .float32)
            ),
            ("a sum of counters", shifted(x) + count.cast(to: .float32).sum(axes: [1], keepingAxes: true) * 0.1),
            (
                "a counter that is read in both ways",
                shifted(x)
                    * .concatenate([count, count], axis: 1).sliced(axis: 1, from: 3, count: 6).cast(to: .float32)
                    + count.cast(to: .float32)
            ),
            (
                "a counter of its own",
                shifted(x) + Tensor.iota([6], axis: 0).broadcast(to: [.batch, 6]).cast(to: .float32)
            ),
            (
                "steps in front of the batch",
                (shifted(x).transposed([1, 0]).reshaped([Extent(6, power: 1), 1]) * constant([2, -1], [2]))
                    .sum(axes: [1]).reshaped([6, .batch]).transposed([1, 0]) + noise
            ),
            ("of channels", (conv + Tensor.iota([.batch, 1, 1], axis: 0).cast(to: .float32)).reshaped(x.shape)),
        ]
        for (name, drawn) in cases {
            try check(
                name, x, drawn: drawn,
                order: name == "of channels" ? Order(index: (0..<6).map { Int32($0 % 3) }) : .natural(6), batch: 5,
                on: devices())
        }
    }

    /// What one example cannot know by itself is drawn by full passes.
    @Test func whatReadsTheWholeBatch() throws {
        let x = Tensor.input("x", [.batch, 6])
        let noise = Tensor.input("noise", x.shape)
        let one = Tensor.scalar(1).broadcast(to: x.shape)
        let size = Tensor.extent(.batch).cast(to: .float32)
        let weights = Tensor.input("weights", [6])
        let turned = Tensor.input("turned", [6, .batch])
        let through = Tensor(Position(shape: [Extent(6, power: 1)], strides: [1]), []).cast(to: .float32)
        let cases: [(String, Tensor, String)] = [
            ("the size", size, "position counts the examples"),
            ("a weight times the size", weights * size, "position counts the examples"),
            ("a sum of ones", one.sum(axes: [0]), "sum joins the examples"),
            ("the mean of the noise", noise.mean(axes: [0]), "sum joins the examples"),
            ("the largest noise", noise.max(axes: [0], keepingAxes: true), "maximum joins the examples"),
            ("the last counter", Tensor.iota([.batch], axis: 0).max().cast(to: .float32), "maximum joins the examples"),
            (
                "products of examples", noise.matmul(noise.matrixTransposed()).sum(axes: [1], keepingAxes: true),
                "matmul joins the examples"
            ),
            ("noise read across", noise.reshaped([6, .batch]).transposed([1, 0]), "add reads another example"),
            (
                "counters in another order", through.reshaped([6, .batch]).transposed([1, 0]),
                "add reads another example"
            ),
            ("an input that is fed the other way round", turned.transposed([1, 0]), "turned is fed"),
        ]
        for (name, term, reason) in cases {
            try check(
                name, x, drawn: shifted(x) * 0.5 + term, order: .natural(6), batch: 5, fullPasses: reason,
                on: devices())
        }
    }
}
