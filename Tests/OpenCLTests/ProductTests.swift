import Compiler
import Graph
import Testing

@testable import OpenCL

/// How degrees or a matrix are laid over a weight `[out, in]`.
enum MaskKind: CaseIterable {
    case none, sorted, sortedStrict, permuted, permutedInputs, permutedOutputs, matrix, emptyMatrix, runtime
    case runtimeStrict
}

/// Adds one product in a given role, weights `[out, in]`, to a schedule; the names of its inputs begin with `name`.
/// - Returns: what to feed beside random numbers: degrees.
@discardableResult
func addProduct(
    to s: inout Schedule, _ name: String, role: ProductGroup.Role, mask kind: MaskKind, inputs: Int, outputs: Int,
    staysZero: Bool = false
) -> [String: HostArray] {
    var dice = Dice(7)
    var input = dice.integers(inputs, below: max(2, inputs / 2))
    var output = dice.integers(outputs, below: max(2, inputs / 2))
    if [.sorted, .sortedStrict, .permutedOutputs].contains(kind) { input.sort() }
    if [.sorted, .sortedStrict, .permutedInputs].contains(kind) { output.sort() }
    let bits =
        kind == .emptyMatrix
        ? BitMatrix(rows: outputs, columns: inputs)
        : BitMatrix(rows: outputs, columns: inputs) { o, i in (o / 5 + i / 7) % 3 == 0 && dice.integer(below: 4) > 0 }
    let weights: Shape = [Extent(outputs), Extent(inputs)]
    var runtime: (input: Int, output: Int)?
    var feeds: [String: HostArray] = [:]
    if kind == .runtime || kind == .runtimeStrict {
        runtime = (
            s.input("\(name).inputDegrees", [Extent(inputs)], .int32),
            s.input("\(name).outputDegrees", [Extent(outputs)], .int32)
        )
        feeds = ["\(name).inputDegrees": HostArray(input), "\(name).outputDegrees": HostArray(output)]
    }
    let structure: MaskStructure? =
        switch kind {
        case .none: nil
        case .sorted, .permuted, .permutedInputs, .permutedOutputs:
            .degrees(input: input, output: output, strict: false)
        case .sortedStrict: .degrees(input: input, output: output, strict: true)
        case .matrix, .emptyMatrix: .matrix(bits)
        case .runtime: .runtime(strict: false)
        case .runtimeStrict: .runtime(strict: true)
        }
    let mask = structure.map {
        ProductGroup.Mask($0, role, runtimeDegrees: runtime, deadOutputsStayZero: staysZero)
    }
    let (ins, outs) = (Extent(inputs), Extent(outputs))
    // The product's shape and operands by role: [m, k] and [k, n].
    let (m, n, k, a, b): (Extent, Extent, Extent, Operand, Operand)
    switch role {
    case .forward:
        let (x, w) = (s.input("\(name).x", [.batch, ins]), s.input("\(name).w", weights))
        (m, n, k) = (.batch, outs, ins)
        a = Operand(.value(x), strides: [ins, 1], element: .float32)
        b = Operand(.value(w), strides: [1, ins], element: .float32)
    case .inputGradient:
        let (dy, w) = (s.input("\(name).dy", [.batch, outs]), s.input("\(name).w", weights))
        (m, n, k) = (.batch, ins, outs)
        a = Operand(.value(dy), strides: [outs, 1], element: .float32)
        b = Operand(.value(w), strides: [ins, 1], element: .float32)
    case .weightGradient:
        let (dy, x) = (s.input("\(name).dy", [.batch, outs]), s.input("\(name).x", [.batch, ins]))
        (m, n, k) = (outs, ins, .batch)
        a = Operand(.value(dy), strides: [1, outs], element: .float32)
        b = Operand(.value(x), strides: [ins, 1], element: .float32)
    }
    let y = s.output([m, n])
    var epilogueInputs: [Operand] = []
    var epilogue = Program.identity()
    if staysZero {
        // The output starts as zeros, as a weight's moments do.
        s.add(
            ElementwiseGroup(
                iteration: [m, n], inputs: [],
                program: Program(inputs: [], constants: [.init(0, .float32)], outputs: [0]),
                outputs: [s.whole(y)]))
    } else {
        // A bias by column and a value beside each element show that the epilogue meets the right places.
        let (bias, beside) = (s.input("\(name).bias", [n]), s.input("\(name).beside", [m, n]))
        epilogueInputs = [Operand(.value(bias), strides: [0, 1], element: .float32), s.whole(beside)]
        epilogue = Program(
            inputs: [.float32, .float32, .float32],
            instructions: [
                .init(.add, [0, 1], .float32), .init(.multiply, [3, 2], .float32), .init(.add, [4, 0], .float32),
            ],
            outputs: [5])
    }
    s.add(
        ProductGroup(
            m: m, n: n, k: k, a: a, b: b, mask: mask, epilogueInputs: epilogueInputs, epilogue: epilogue,
            outputs: [s.whole(y)]), name)
    return feeds
}

extension ProductGroup.Role {
    static let all: [ProductGroup.Role] = [.forward, .inputGradient, .weightGradient]
}

@Suite(.serialized) struct ProductTests {
    /// Weights that the mask kills are not zero in these feeds, and must count for nothing.
    @Test(arguments: KernelFamily.allCases, ProductGroup.Role.all)
    func masksInEveryRole(family: KernelFamily, role: ProductGroup.Role) throws {
        var s = Schedule()
        var degrees: [String: HostArray] = [:]
        for kind in MaskKind.allCases {
            for (inputs, outputs) in [(37, 21), (70, 133), (300, 90)] {
                let name = "\(kind) \(inputs) to \(outputs)"
                degrees.merge(addProduct(to: &s, name, role: role, mask: kind, inputs: inputs, outputs: outputs)) { $1 }
            }
        }
        for batch in [1, 19] {
            let feeds = randomFeeds(s, batch: batch).merging(degrees) { $1 }
            try expectMatch(s, family, feeds: feeds, batches: [batch], "\(family) \(role) batch \(batch)")
        }
    }

    /// Dead tiles may be left alone when they stay zero; dead elements of live tiles must still be zero.
    @Test(arguments: KernelFamily.allCases)
    func weightGradientWhoseDeadOutputsStayZero(family: KernelFamily) throws {
        var s = Schedule()
        var degrees: [String: HostArray] = [:]
        for kind in [MaskKind.sorted, .permuted, .matrix, .runtime] {
            degrees.merge(
                addProduct(
                    to: &s, "\(kind)", role: .weightGradient, mask: kind, inputs: 150, outputs: 140, staysZero: true)
            ) { $1 }
        }
        try expectMatch(s, family, feeds: randomFeeds(s, batch: 9).merging(degrees) { $1 }, batches: [9])
    }

    @Test(arguments: KernelFamily.allCases)
    func plainShapes(family: KernelFamily) throws {
        var s = Schedule()
        for (m, n, k) in [
            (1, 1, 1), (1, 70, 33), (65, 1, 17), (5, 64, 1), (64, 64, 64), (129, 131, 40), (6, 16, 300), (230, 70, 5),
        ] {
            for transposed in [(false, false), (true, false), (false, true), (true, true)] {
                let name = "\(m)x\(n)x\(k) \(transposed)"
                let a = s.input("a \(name)", transposed.0 ? [Extent(k), Extent(m)] : [Extent(m), Extent(k)])
                let b = s.input("b \(name)", transposed.1 ? [Extent(n), Extent(k)] : [Extent(k), Extent(n)])
                let c = s.output([Extent(m), Extent(n)])
                s.add(
                    ProductGroup(
                        m: Extent(m), n: Extent(n), k: Extent(k),
                        a: Operand(
                            .value(a), strides: transposed.0 ? [1, Extent(m)] : [Extent(k), 1], element: .float32),
                        b: Operand(
                            .value(b), strides: transposed.1 ? [1, Extent(k)] : [Extent(n), 1], element: .float32),
                        epilogueInputs: [], epilogue: .identity(), outputs: [s.whole(c)]), name)
            }
        }
        try expectMatch(s, family, batches: [1])
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
            iteration: [.batch, 3, 19, 11], inputs: [],
            program: Program(inputs: [], constants: [.init(2, .float32)], outputs: [0]),
            outputs: [s.whole(c)])
        s.add(fill)
        s.add(
            ProductGroup(
                batch: [.batch, 3], m: 11, n: 18, k: 5,
                a: Operand(.value(a), strides: [165, 55, 5, 1], element: .float32),
                b: Operand(.value(b), strides: [0, 90, 18, 1], element: .float32), epilogueInputs: [],
                epilogue: .identity(),
                outputs: [Operand(.value(c), offset: [11], strides: [627, 209, 1, 11], element: .float32)]))
        try expectMatch(s, family, batches: [4, 1, 2])
    }

    /// One load serves every batch; the program is not built again.
    @Test(arguments: KernelFamily.allCases)
    func batchChangesWithoutRebuild(family: KernelFamily) throws {
        var schedule = Schedule()
        addProduct(to: &schedule, "layer", role: .forward, mask: .permuted, inputs: 40, outputs: 30)
        let executable = try Devices.of(family).load(schedule, maximumBatch: 50, states: [:])
        for batch in [50, 1, 7, 49, 50, 12, 13, 14, 15, 16, 17, 18, 19, 1] {
            let given = randomFeeds(schedule, batch: batch)
            let result = try executable.run(given.mapValues { .host($0) }, batch: batch)
            let reference = Reference(schedule, feeds: given, batch: batch)
            expectClose(result[0].doubles, reference.arrays[schedule.outputs[0]]!, tolerance: 1e-5, "batch \(batch)")
        }
    }

    /// The staircase of a square layer leaves about half of the tiles to do.
    @Test(arguments: KernelFamily.allCases, ProductGroup.Role.all)
    func staircaseSkipsTiles(family: KernelFamily, role: ProductGroup.Role) throws {
        var schedule = Schedule()
        var degrees: [String: HostArray] = [:]
        for kind in [MaskKind.none, .sorted, .permuted, .runtime] {
            degrees.merge(
                addProduct(
                    to: &schedule, "\(kind)", role: role, mask: kind, inputs: 1024, outputs: 1024,
                    staysZero: role == .weightGradient)
            ) { $1 }
        }
        let loaded = try Devices.of(family).load(schedule, maximumBatch: 4, states: [:])
        let executable = try #require(loaded as? OpenCLExecutable)
        let feeds = randomFeeds(schedule, batch: 4).merging(degrees) { $1 }
        _ = try executable.run(feeds.mapValues { .host($0) }, batch: 4)
        let counts = try executable.executedTiles(batch: 4)
        #expect(counts.count == 4)
        #expect(counts[0].executed == counts[0].dense)
        for count in counts.dropFirst() {
            let share = Double(count.executed) / Double(count.dense)
            #expect(share > 0.45 && share < 0.62, "\(family) \(role) \(schedule.groups[count.group].label): \(count)")
        }
    }
}
