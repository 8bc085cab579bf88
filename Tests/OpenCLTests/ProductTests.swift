import Compiler
import Graph
import Testing

@testable import OpenCL

/// How degrees or a matrix are laid over a weight `[out, in]`.
enum MaskKind: CaseIterable {
    case none, sorted, sortedStrict, permuted, matrix, emptyMatrix, runtime, runtimeStrict
}

/// A schedule with one product in a given role, weights `[out, in]`.
func productSchedule(
    role: ProductGroup.Role, mask kind: MaskKind, inputs: Int, outputs: Int, settled: Bool = false, seed: UInt64 = 7
) -> (Schedule, feeds: (Int) -> [String: HostArray]) {
    var dice = Dice(seed)
    var input = dice.integers(inputs, below: max(2, inputs / 2))
    var output = dice.integers(outputs, below: max(2, inputs / 2))
    if kind == .sorted || kind == .sortedStrict { (input, output) = (input.sorted(), output.sorted()) }
    let bits =
        kind == .emptyMatrix
        ? BitMatrix(rows: outputs, columns: inputs)
        : BitMatrix(rows: outputs, columns: inputs) { o, i in (o / 5 + i / 7) % 3 == 0 && dice.integer(below: 4) > 0 }
    var s = Schedule()
    let weights: Shape = [Extent(outputs), Extent(inputs)]
    var runtime: (input: Int, output: Int)?
    if kind == .runtime || kind == .runtimeStrict {
        runtime = (s.input("inputDegrees", [Extent(inputs)], .int32), s.input("outputDegrees", [Extent(outputs)], .int32))
    }
    let structure: MaskStructure? =
        switch kind {
        case .none: nil
        case .sorted, .permuted: .degrees(input: input, output: output, strict: false)
        case .sortedStrict: .degrees(input: input, output: output, strict: true)
        case .matrix, .emptyMatrix: .matrix(bits)
        case .runtime: .runtime(strict: false)
        case .runtimeStrict: .runtime(strict: true)
        }
    let mask = structure.map {
        ProductGroup.Mask($0, role, runtimeDegrees: runtime, deadOutputsAreSettled: settled)
    }
    let (ins, outs) = (Extent(inputs), Extent(outputs))
    // A bias by column and a value beside each element show that the epilogue meets the right places.
    let epilogue = Program(
        inputs: [.float32, .float32, .float32],
        instructions: [.init(.add, [0, 1], .float32), .init(.multiply, [3, 2], .float32), .init(.add, [4, 0], .float32)],
        outputs: [5])
    switch role {
    case .forward:
        let (x, w) = (s.input("x", [.batch, ins]), s.input("w", weights))
        let (bias, beside) = (s.input("bias", [outs]), s.input("beside", [.batch, outs]))
        let y = s.output([.batch, outs])
        s.add(
            .product(
                ProductGroup(
                    m: .batch, n: outs, k: ins, a: Operand(.value(x), strides: [ins, 1], element: .float32),
                    b: Operand(.value(w), strides: [1, ins], element: .float32), mask: mask,
                    epilogueInputs: [Operand(.value(bias), strides: [0, 1], element: .float32), s.whole(beside)],
                    epilogue: epilogue, outputs: [s.whole(y)])))
    case .inputGradient:
        let (dy, w) = (s.input("dy", [.batch, outs]), s.input("w", weights))
        let (bias, beside) = (s.input("bias", [ins]), s.input("beside", [.batch, ins]))
        let dx = s.output([.batch, ins])
        s.add(
            .product(
                ProductGroup(
                    m: .batch, n: ins, k: outs, a: Operand(.value(dy), strides: [outs, 1], element: .float32),
                    b: Operand(.value(w), strides: [ins, 1], element: .float32), mask: mask,
                    epilogueInputs: [Operand(.value(bias), strides: [0, 1], element: .float32), s.whole(beside)],
                    epilogue: epilogue, outputs: [s.whole(dx)])))
    case .weightGradient:
        let (dy, x) = (s.input("dy", [.batch, outs]), s.input("x", [.batch, ins]))
        let dw = s.output(weights)
        var inputs: [Operand] = []
        var program = Program.identity()
        if !settled {
            let (bias, beside) = (s.input("bias", [ins]), s.input("beside", weights))
            inputs = [Operand(.value(bias), strides: [0, 1], element: .float32), s.whole(beside)]
            program = epilogue
        }
        s.add(
            .product(
                ProductGroup(
                    m: outs, n: ins, k: .batch, a: Operand(.value(dy), strides: [1, outs], element: .float32),
                    b: Operand(.value(x), strides: [ins, 1], element: .float32), mask: mask, epilogueInputs: inputs,
                    epilogue: program, outputs: [s.whole(dw)])))
    }
    let schedule = s
    return (
        schedule,
        { batch in
            var feeds = randomFeeds(schedule, batch: batch)
            if runtime != nil {
                feeds["inputDegrees"] = HostArray(input)
                feeds["outputDegrees"] = HostArray(output)
            }
            return feeds
        }
    )
}

extension ProductGroup.Role {
    static let all: [ProductGroup.Role] = [.forward, .inputGradient, .weightGradient]
}

@Suite(.serialized) struct ProductTests {
    /// Weights that the mask kills are not zero in these feeds, and must count for nothing.
    @Test(arguments: KernelFamily.allCases, ProductGroup.Role.all)
    func masksInEveryRole(family: KernelFamily, role: ProductGroup.Role) throws {
        for kind in MaskKind.allCases {
            for (inputs, outputs) in [(37, 21), (70, 133)] {
                let (schedule, feeds) = productSchedule(role: role, mask: kind, inputs: inputs, outputs: outputs)
                for batch in [1, 19] {
                    try expectMatch(
                        schedule, family, feeds: feeds(batch), batches: [batch],
                        "\(family) \(role) \(kind) \(inputs) to \(outputs), batch \(batch)")
                }
            }
        }
    }

    /// Dead tiles may be left alone when they are settled; dead elements of live tiles must still be zero.
    @Test(arguments: KernelFamily.allCases)
    func settledWeightGradient(family: KernelFamily) throws {
        for kind in [MaskKind.sorted, .permuted, .matrix, .runtime] {
            let (schedule, feeds) = productSchedule(
                role: .weightGradient, mask: kind, inputs: 150, outputs: 140, settled: true)
            try expectMatch(settledAsState(schedule), family, feeds: feeds(9), batches: [9], "\(family) \(kind)")
        }
    }

    /// The output starts as zeros, as a weight's moments do.
    private func settledAsState(_ schedule: Schedule) -> Schedule {
        var s = schedule
        let output = s.outputs[0]
        var clear = ElementwiseGroup(
            iteration: s.values[output].type.shape.dimensions, inputs: [],
            program: Program(inputs: [], constants: [.init(0, .float32)], outputs: [0]), outputs: [s.whole(output)])
        clear.inputs = []
        s.groups.insert(Group(.elementwise(clear), label: "clear", location: nil), at: 0)
        return s
    }

    @Test(arguments: KernelFamily.allCases)
    func plainShapes(family: KernelFamily) throws {
        for (m, n, k) in [(1, 1, 1), (1, 70, 33), (65, 1, 17), (5, 64, 1), (64, 64, 64), (129, 131, 40), (6, 16, 16)] {
            for transposed in [(false, false), (true, false), (false, true), (true, true)] {
                var s = Schedule()
                let a = s.input("a", transposed.0 ? [Extent(k), Extent(m)] : [Extent(m), Extent(k)])
                let b = s.input("b", transposed.1 ? [Extent(n), Extent(k)] : [Extent(k), Extent(n)])
                let c = s.output([Extent(m), Extent(n)])
                s.add(
                    .product(
                        ProductGroup(
                            m: Extent(m), n: Extent(n), k: Extent(k),
                            a: Operand(
                                .value(a), strides: transposed.0 ? [1, Extent(m)] : [Extent(k), 1], element: .float32),
                            b: Operand(
                                .value(b), strides: transposed.1 ? [1, Extent(k)] : [Extent(n), 1], element: .float32),
                            epilogueInputs: [], epilogue: .identity(), outputs: [s.whole(c)])))
                try expectMatch(s, family, batches: [1], "\(family) \(m)x\(n)x\(k) \(transposed)")
            }
        }
    }

    /// Two batch axes, one operand shared along one of them, a transposed result with an offset.
    @Test(arguments: KernelFamily.allCases)
    func batchedProduct(family: KernelFamily) throws {
        var s = Schedule()
        let a = s.input("a", [.batch, 3, 11, 5])
        let b = s.input("b", [3, 5, 18])
        let c = s.output([.batch, 3, 19, 11])
        // The last row of each [19, 11] is not the product's.
        let fill = ElementwiseGroup(
            iteration: [.batch, 3, 19, 11], inputs: [], program: Program(inputs: [], constants: [.init(2, .float32)], outputs: [0]),
            outputs: [s.whole(c)])
        s.add(.elementwise(fill))
        s.add(
            .product(
                ProductGroup(
                    batch: [.batch, 3], m: 11, n: 18, k: 5,
                    a: Operand(.value(a), strides: [165, 55, 5, 1], element: .float32),
                    b: Operand(.value(b), strides: [0, 90, 18, 1], element: .float32), epilogueInputs: [],
                    epilogue: .identity(),
                    outputs: [Operand(.value(c), offset: [11], strides: [627, 209, 1, 11], element: .float32)])))
        try expectMatch(s, family, batches: [4, 1, 2])
    }

    /// One load serves every batch; the program is not built again.
    @Test(arguments: KernelFamily.allCases)
    func batchChangesWithoutRebuild(family: KernelFamily) throws {
        let (schedule, feeds) = productSchedule(role: .forward, mask: .permuted, inputs: 40, outputs: 30)
        let executable = try Devices.of(family).load(schedule, maximumBatch: 50, states: [:])
        for batch in [50, 1, 7, 49, 50, 12, 13, 14, 15, 16, 17, 18, 19, 1] {
            let given = feeds(batch)
            let result = try executable.run(given.mapValues { .host($0) }, batch: batch)
            let reference = Reference(schedule, feeds: given, batch: batch)
            expectClose(result[0].doubles, reference.arrays[schedule.outputs[0]]!, tolerance: 1e-5, "batch \(batch)")
        }
    }

    /// The staircase of a square layer leaves about half of the tiles to do.
    @Test(arguments: KernelFamily.allCases, ProductGroup.Role.all)
    func staircaseSkipsTiles(family: KernelFamily, role: ProductGroup.Role) throws {
        for kind in [MaskKind.sorted, .permuted, .runtime] {
            let (schedule, feeds) = productSchedule(role: role, mask: kind, inputs: 1024, outputs: 1024, settled: role == .weightGradient)
            let loaded = try Devices.of(family).load(schedule, maximumBatch: 4, states: [:])
            let executable = try #require(loaded as? OpenCLExecutable)
            _ = try executable.run(feeds(4).mapValues { .host($0) }, batch: 4)
            let counts = try executable.executedTiles(batch: 4)
            #expect(counts.count == 1)
            let share = Double(counts[0].executed) / Double(counts[0].dense)
            #expect(share > 0.45 && share < 0.62, "\(family) \(role) \(kind): \(counts)")
        }
    }
}
