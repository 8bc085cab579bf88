import CPU
import Compiler
import Graph
import OpenCL
import Testing

extension ElementwiseFunction {
    /// x^3 + x of a package of one's own: one row, no kernel of its own on the processor.
    fileprivate static let cubed = ElementwiseFunction(
        "cubed", meaning: .unary { x, _ in x * x * x + x }, gradient: { x, _, g in [g * (x[0] * x[0] * 3 + 1)] },
        openCL: .body("return x0 * x0 * x0 + x0;"))

    /// Of several operands, of which one is a condition.
    fileprivate static let gated = ElementwiseFunction(
        "gated", types: { $0[0] == .bool && $0[1] == $0[2] ? $0[1] : nil },
        meaning: .operands(3) { x, _ in x[0] != 0 ? x[1] * x[2] : x[1] },
        gradient: { x, _, g in [nil, .select(x[0], g * x[2], g), .select(x[0], g * x[1], 0)] },
        openCL: .expression("martlet_select($0 != 0, $1 * $2, $1)"))
}

/// Operations that say what they are: fused, proved, drawn and compared like the library's first ones.
@Suite(.serialized) struct OwnOperationTests {
    private func devices() throws -> [any Device] {
        var devices: [any Device] = try InstructionSet.available.map {
            try CPUDevice(threads: 2, instructionSet: $0)
        }
        for family in [KernelFamily.cpu, .gpu] {
            if let device = try? OpenCLDevice.named("opencl", kernels: family) { devices.append(device) }
        }
        return devices
    }

    /// Every device against the interpreter, over sizes that no vector and no tile divides.
    private func compare(_ outputs: [Tensor], shapes: [String: [Int]], batch: Int) throws {
        var bindings: [String: Values] = [:]
        for (index, (name, shape)) in shapes.sorted(by: { $0.key < $1.key }).enumerated() {
            bindings[name] = Values(shape: shape, elements: numbers(shape.reduce(1, *), seed: UInt64(index + 3)))
        }
        let expected = try Interpreter(batch: batch, bindings).run(outputs)
        let schedule = try compile(outputs)
        let feeds = bindings.mapValues { Feed.host(HostArray($0, as: .float32)) }
        for device in try devices() {
            let found = try device.load(schedule, maximumBatch: batch + 2, states: [:]).run(feeds, batch: batch)
            for (array, values) in zip(found, expected) {
                #expect(array.shape == values.shape)
                for (a, b) in zip(array.doubles, values.elements) {
                    #expect(abs(a - b) <= 2e-6 * max(1, abs(b)), "\(device.summary): \(a), \(b)")
                }
            }
        }
    }

    /// A model in which variable i is computed from those before it through `mixed`: proved, and drawn by an incremental program that gives
    /// what full passes give.
    private func prove(_ count: Int, _ mixed: (Tensor) -> Tensor) throws {
        let x = Tensor.input("x", [.batch, Extent(count)])
        let before = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: count)
        let drawn = mixed(before) * 0.5 + Tensor.input("noise", [.batch, Extent(count)])
        _ = try AutoregressiveProof(
            [ConditionalParameters("mixed", mixed(before), variables: (0..<Int32(count)).map { $0 })], of: x,
            order: .natural(count))
        let program = try SamplingProgram(variable: x, drawn: drawn, order: .natural(count), outputs: [mixed(before)])
        #expect(program.fullPasses == nil, "\(program.fullPasses?.reason ?? "")")
        let naive = try SamplingProgram(
            fullPassesOver: x, drawn: drawn, order: .natural(count), outputs: [mixed(before)])
        let noise = HostArray(
            Values(shape: [3, count], elements: numbers(3 * count, seed: 8)), as: .float32)
        for device in try devices() {
            let found = try device.load(program, maximumBatch: 5, states: [:]).run(["noise": noise], batch: 3)
            let expected = try device.load(naive, maximumBatch: 5, states: [:]).run(["noise": noise], batch: 3)
            for (a, b) in zip(found, expected) {
                #expect(zip(a.doubles, b.doubles).allSatisfy { abs($0 - $1) <= 1e-5 }, "\(device.summary)")
            }
        }
    }

    @Test func aFunctionIsOneRow() throws {
        let (x, y) = (Tensor.input("x", [.batch, 37]), Tensor.input("y", [37]))
        let z = x.apply(.cubed) * 2 + y
        let gate = Tensor.elementwise(.gated, [x.greater(0), z, x])
        #expect(try compile([gate]).groups.count == 1)
        try compare([z, gate, z.apply(.cubed).sum(axes: [1])], shapes: ["x": [5, 37], "y": [37]], batch: 5)
        let g = try gradients(of: (gate * gate).sum(), with: [x, y])
        try compare(g, shapes: ["x": [5, 37], "y": [37]], batch: 5)
        try prove(9) { ($0 * 0.5).apply(.cubed) }
        // A row that is known to the vector kernels, and one that is not, in double precision too.
        let w = Tensor.input("w", [7], .float64)
        let double = [w.apply(.cubed), (w.absolute() + 0.5).apply(.log1mexp)]
        let values = Values(shape: [7], elements: numbers(7, seed: 2))
        let expected = try Interpreter(["w": values]).run(double)
        let found = try CPUDevice(threads: 1).load(compile(double), maximumBatch: 1, states: [:])
            .run(["w": .host(HostArray(values, as: .float64))], batch: 1)
        for (a, b) in zip(found, expected) {
            #expect(zip(a.doubles, b.elements).allSatisfy { abs($0 - $1) <= 1e-14 })
        }
    }

    @Test func log1mexp() throws {
        let x = Tensor.input("x", [.batch, 41])
        let y = ((x.absolute() + 0.01) * 3).apply(.log1mexp)
        #expect(try compile([y * 2 + 1]).groups.count == 1)
        try compare([y] + gradients(of: y.sum(), with: [x]), shapes: ["x": [3, 41]], batch: 3)
        try prove(9) { ($0.absolute() + 0.2).apply(.log1mexp) }
    }

    @Test func rolls() throws {
        let (x, y) = (Tensor.input("x", [.batch, 7, 5]), Tensor.input("y", [7, 5]))
        let rolled = x.rolled(axis: 1, by: 3)
        // Two boxes, each with the functions behind; the function in front has to be in memory, as boxes are read from it.
        #expect(try compile([(rolled * 2 + y).exp()]).groups.count == 2)
        #expect(try compile([(x.exp().rolled(axis: 2, by: -2) * y).sum(axes: [1])]).groups.count == 4)
        #expect(try compile([x.rolled(axis: 1, by: 7) * 2]).groups.count == 1)
        let both = rolled * x.rolled(axis: 2, by: -1) + x
        try compare(
            [rolled, (rolled * 2 + y).tanh(), both, x.transposed([0, 2, 1]).rolled(axis: 1, by: 11)]
                + gradients(of: (both * both).sum(), with: [x]), shapes: ["x": [3, 7, 5], "y": [7, 5]], batch: 3)
        // What comes round the end is padding, so that nothing is read too early.
        try prove(6) { before in
            before.padded(low: [0, 0], high: [0, 2]).rolled(axis: 1, by: 2).sliced(axis: 1, from: 0, count: 6).tanh()
        }
        #expect(throws: DependencyLeak.self) { try prove(6) { $0.rolled(axis: 1, by: -1) } }
        #expect(throws: GraphError.self) { try x.rolled(axis: 0, by: 1).validated() }
    }

    @Test func segmentedSums() throws {
        let (x, y) = (Tensor.input("x", [.batch, 9, 5]), Tensor.input("y", [4, 5]))
        let sums = x.segmentedSum(axis: 1, lengths: [3, 0, 5, 1])
        #expect(try compile([(sums * 2 + y).exp()]).groups.count == 1)
        try compare(
            [sums, (sums * y).tanh(), sums.sum(axes: [1]), x.segmentedSum(axis: 2, lengths: [1, 4]).exp()]
                + gradients(of: (sums * sums).sum(), with: [x]), shapes: ["x": [3, 9, 5], "y": [4, 5]], batch: 3)
        // Sums over longer and longer pasts, of all that was drawn before.
        try prove(6) { before in
            let pasts = Tensor.concatenate((0..<6).map { before.sliced(axis: 1, from: 0, count: $0 + 1) }, axis: 1)
            return pasts.segmentedSum(axis: 1, lengths: Array(1...6)).tanh()
        }
        #expect(throws: DependencyLeak.self) {
            try prove(6) { before in
                Tensor.concatenate([before, before.rolled(axis: 1, by: -1)], axis: 1)
                    .segmentedSum(axis: 1, lengths: [Int](repeating: 2, count: 6))
            }
        }
        #expect(throws: GraphError.self) { try x.segmentedSum(axis: 1, lengths: [3, 3]).validated() }
    }
}
