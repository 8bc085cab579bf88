import CPU
import Compiler
import Graph
import OpenCL
import Testing

/// Attention under patterns: its meaning, its gradients, its kernels on every device, its proofs and its draws.
@Suite(.serialized) struct AttentionOperationTests {
    private func inputs(
        heads: Int, depth: Int, width: Int, queries: Int, keys: Int, _ element: ElementType = .float32
    ) -> [Tensor] {
        [
            .input("q", [.batch, Extent(heads), Extent(depth), Extent(queries)], element),
            .input("k", [.batch, Extent(heads), Extent(depth), Extent(keys)], element),
            .input("v", [.batch, Extent(heads), Extent(width), Extent(keys)], element),
        ]
    }

    /// The output and the gradients of a sum of its elements with different weights.
    private func results(_ output: Tensor, _ inputs: [Tensor]) throws -> [Tensor] {
        let weights = Tensor.input("r", output.shape, output.elementType)
        return try [output] + gradients(of: (output * weights).sum(), with: inputs)
    }

    private func values(_ tensors: [Tensor], batch: Int, seed: UInt64 = 1) -> [String: Values] {
        var found: [String: Values] = [:]
        for node in topologicalOrder(tensors) {
            guard let placeholder = Tensor(node).placeholder else { continue }
            let shape = node.types[0].shape.resolved(batch: batch)
            let own = seed + UInt64(placeholder.label.utf8.first ?? 0)
            found[placeholder.label] = Values(
                shape: shape, elements: numbers(shape.reduce(1, *), seed: own).map { $0 * 2 })
        }
        return found
    }

    private static func patterns(_ positions: Int) -> [AttentionPattern] {
        let blocks = (0..<(positions + 6) / 7).map { row in
            (0..<(positions + 6) / 7).map { ($0 * 5 + row * 3) % 4 != 1 }
        }
        return [
            .all, .causal, .strictlyCausal, .prefix(positions / 3), .window(1), .window(max(1, positions / 2)),
            .strided(max(1, positions / 5)), .row(width: max(1, positions / 4)), .column(width: 3),
            .blocks(AttentionPattern.Blocks(size: 7, reads: blocks)),
        ]
    }

    /// The runs of keys are those of each pattern's definition.
    @Test func patternsReadWhatTheySay() {
        for count in [1, 2, 17, 40] {
            let definitions: [(AttentionPattern, (Int, Int) -> Bool)] = [
                (.all, { _, _ in true }), (.causal, { $1 <= $0 }), (.strictlyCausal, { $1 < $0 }),
                (.prefix(5), { $1 <= $0 || $1 < 5 }), (.window(4), { $1 <= $0 && $0 - $1 < 4 }),
                (.strided(6), { $1 <= $0 && ($0 - $1 < 6 || ($0 - $1) % 6 == 0) }),
                (.row(width: 5), { $1 <= $0 && $0 / 5 == $1 / 5 }),
                (.column(width: 5), { $1 <= $0 && $0 % 5 == $1 % 5 }),
                (
                    .blocks(AttentionPattern.Blocks(size: 9, reads: [[true, false], [true, true], [false, true]])),
                    { query, key in
                        query < 27 && key < 18 && [[true, false], [true, true], [false, true]][query / 9][key / 9]
                    }
                ),
            ]
            for (pattern, reads) in definitions {
                for query in 0..<count {
                    for keys in [count, count / 2, count + 3] {
                        let found = Array(pattern.keys(of: query, count: keys).joined())
                        #expect(found == (0..<keys).filter { reads(query, $0) }, "\(pattern), \(query) of \(keys)")
                    }
                }
            }
        }
    }

    /// The operation means what the products, the softmax and the products after it mean; so do its gradients, and theirs.
    @Test func meaning() throws {
        for pattern in Self.patterns(19) {
            let x = inputs(heads: 2, depth: 3, width: 4, queries: 19, keys: 19, .float64)
            let output = Tensor.attention(byDepth: x[0], x[1], x[2], pattern)
            let whole = try results(output, x)
            let again = try gradients(
                of: whole.dropFirst().map { ($0 * $0).sum() }.reduce(.scalar(0, .float64), +), with: x)
            let expected = try results(composed([output])[0], x)
            let second = try gradients(
                of: expected.dropFirst().map { ($0 * $0).sum() }.reduce(.scalar(0, .float64), +), with: x)
            let bindings = values(whole, batch: 2)
            let found = try Interpreter(batch: 2, bindings).run(whole + again)
            let right = try Interpreter(batch: 2, bindings).run(expected + second)
            for (a, b) in zip(found, right) {
                let most = b.elements.map(\.magnitude).max() ?? 0
                #expect(zip(a.elements, b.elements).allSatisfy { abs($0 - $1) <= 1e-11 * max(1, most) }, "\(pattern)")
            }
        }
    }

    /// By finite differences, the logarithms of the sums included.
    @Test func gradientsOfBothResults() throws {
        let x = inputs(heads: 1, depth: 2, width: 3, queries: 6, keys: 7, .float64)
        let output = Tensor.attention(byDepth: x[0], x[1], x[2], .prefix(3))
        let loss = (output * output).sum() + (Tensor(output.node, 1) * .input("s", [.batch, 1, 6], .float64)).sum()
        let g = try gradients(of: loss, with: x)
        let bindings = values([loss], batch: 2)
        let found = try Interpreter(batch: 2, bindings).run(g)
        for (tensor, gradient) in zip(["q", "k", "v"], found) {
            for element in stride(from: 0, to: gradient.elements.count, by: 5) {
                let sides = try [1e-5, -1e-5].map { step -> Double in
                    var moved = bindings
                    moved[tensor]?.elements[element] += step
                    return try Interpreter(batch: 2, moved).run(loss).elements[0]
                }
                #expect(abs((sides[0] - sides[1]) / 2e-5 - gradient.elements[element]) < 1e-7, "\(tensor) \(element)")
            }
        }
    }

    private func check(
        _ pattern: AttentionPattern, batch: Int, heads: Int, depth: Int, width: Int, queries: Int, keys: Int,
        on devices: [any Device]
    ) throws {
        let x = inputs(heads: heads, depth: depth, width: width, queries: queries, keys: keys)
        let whole = try results(.attention(byDepth: x[0], x[1], x[2], pattern), x)
        let bindings = values(whole, batch: batch)
        let expected = try Interpreter(batch: batch, bindings).run(whole)
        let schedule = try compile(whole)
        for device in devices {
            let found = try device.load(schedule, maximumBatch: batch + 1, states: [:]).run(
                bindings.mapValues { .host(HostArray($0, as: .float32)) }, batch: batch)
            for (index, (a, b)) in zip(found, expected).enumerated() {
                let most = b.elements.map(\.magnitude).max() ?? 0
                let worst = zip(a.doubles, b.elements).map { abs($0 - $1) }.max() ?? 0
                // A query with one key has gradients of zero, of which rounding leaves what it leaves of the numbers around one that cancel.
                #expect(
                    worst <= 1e-5 * max(most, 0.5) && a.doubles.allSatisfy(\.isFinite),
                    "\(device.summary), \(pattern), batch \(batch), \(heads) heads, depth \(depth) and \(width), \(queries) queries, \(keys) keys, result \(index): \(worst) of \(most)"
                )
            }
        }
    }

    private func processors() throws -> [any Device] {
        try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
    }

    private func openCL() -> [any Device] {
        [KernelFamily.cpu, .gpu].compactMap { try? OpenCLDevice.named("opencl", kernels: $0) }
    }

    /// Positions that divide nothing, one position, one head, depths that no vector divides.
    @Test func everyDeviceAgrees() throws {
        let devices = try processors() + openCL()
        for pattern in Self.patterns(150) {
            try check(pattern, batch: 1, heads: 2, depth: 8, width: 8, queries: 150, keys: 150, on: devices)
        }
        try check(.causal, batch: 3, heads: 1, depth: 13, width: 5, queries: 1, keys: 1, on: devices)
        try check(.all, batch: 2, heads: 3, depth: 5, width: 17, queries: 70, keys: 9, on: devices)
        try check(.all, batch: 2, heads: 1, depth: 16, width: 8, queries: 3, keys: 131, on: devices)
    }

    @Test func randomConfigurations() throws {
        let devices = try processors()
        let random = numbers(200 * 6, seed: 32)
        func draw(_ i: Int, _ variable: Int, below count: Int) -> Int {
            Int((random[6 * i + variable] + 1) / 2 * Double(count)) % count
        }
        for i in 0..<200 {
            let positions = 1 + draw(i, 0, below: i % 50 == 0 ? 1000 : i % 10 == 0 ? 400 : 150)
            let patterns = Self.patterns(positions)
            let depth = 8 + draw(i, 1, below: i % 10 == 1 ? 121 : 30)
            try check(
                patterns[draw(i, 2, below: patterns.count)], batch: 1 + draw(i, 3, below: 2),
                heads: 1 + draw(i, 4, below: 3), depth: depth, width: i % 3 == 0 ? 8 + draw(i, 5, below: 20) : depth,
                queries: positions, keys: positions, on: devices)
        }
    }

    /// Large scores do not overflow, and are exact where one key takes all.
    @Test func largeScores() throws {
        let x = inputs(heads: 1, depth: 4, width: 4, queries: 70, keys: 70)
        let whole = try results(.attention(byDepth: x[0], x[1], x[2], .causal, scale: 10), x)
        let bindings = values(whole, batch: 1).mapValues {
            Values(shape: $0.shape, elements: $0.elements.map { $0 * 3 })
        }
        let expected = try Interpreter(batch: 1, bindings).run(whole)
        let schedule = try compile(whole)
        for device in try processors() + openCL() {
            let found = try device.load(schedule, maximumBatch: 1, states: [:]).run(
                bindings.mapValues { .host(HostArray($0, as: .float32)) }, batch: 1)
            for (a, b) in zip(found, expected) {
                let most = b.elements.map(\.magnitude).max() ?? 0
                // Scores of a thousand have an absolute error of 1e-4, which is the relative one of their weights.
                #expect(zip(a.doubles, b.elements).allSatisfy { abs($0 - $1) <= 2e-3 * most }, "\(device.summary)")
            }
        }
    }

    /// What a step stores grows with the positions, and not with their square.
    @Test func nothingOfTheSizeOfTheScoresIsStored() throws {
        func bytes(_ positions: Int) throws -> Int {
            let x = inputs(heads: 4, depth: 16, width: 16, queries: positions, keys: positions)
            let q = x[0] * 2
            let output = Tensor.attention(byDepth: q, x[1], x[2], .causal)
            return MemoryPlan(try compile(results(output.tanh(), x)), batch: 2).byteCount
        }
        #expect(try Double(bytes(2048)) <= 2.1 * Double(bytes(1024)))
    }

    /// x `[batch, positions]` as a value and its square for one head.
    private func layer(_ x: Tensor, _ pattern: AttentionPattern) -> Tensor {
        let count = x.shape[1]
        let late = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: count.coefficient)
        let both = Tensor.concatenate([late, late * late], axis: 1).reshaped([.batch, 1, 2, count])
        return Tensor.attention(byDepth: both, both + 1, both.tanh(), pattern).sum(axes: [1, 2])
    }

    /// Every pattern that looks back is proved; one entry too many is refused, with the line.
    @Test func proofs() throws {
        let x = Tensor.input("x", [.batch, 12])
        func prove(_ pattern: AttentionPattern) throws -> AutoregressiveProof {
            try AutoregressiveProof(
                [ConditionalParameters("mixed", layer(x, pattern), variables: (0..<12).map { Int32($0) })], of: x,
                order: .natural(12))
        }
        for pattern: AttentionPattern in [
            .causal, .strictlyCausal, .window(3), .strided(4), .row(width: 4), .column(width: 4),
            .blocks(AttentionPattern.Blocks(size: 1, reads: (0..<12).map { i in (0..<12).map { $0 <= i } })),
        ] {
            _ = try prove(pattern)
        }
        var reads = (0..<12).map { i in (0..<12).map { $0 <= i } }
        reads[4][5] = true
        for pattern: AttentionPattern in [.all, .prefix(2), .blocks(AttentionPattern.Blocks(size: 1, reads: reads))] {
            do {
                _ = try prove(pattern)
                Issue.record("\(pattern) is accepted")
            } catch let leak as DependencyLeak {
                #expect("\(leak)".contains("AttentionOperationTests.swift:"), "\(leak)")
            }
        }
    }

    @Test func draws() throws {
        let x = Tensor.input("x", [.batch, 12])
        let noise = HostArray(Values(shape: [3, 12], elements: numbers(36, seed: 8)), as: .float32)
        for pattern: AttentionPattern in [.causal, .strictlyCausal, .window(3), .strided(4), .row(width: 4)] {
            let drawn = layer(x, pattern) + Tensor.input("noise", [.batch, 12])
            let program = try SamplingProgram(variable: x, drawn: drawn, order: .natural(12))
            #expect(program.fullPasses == nil, "\(pattern): \(program.fullPasses?.reason ?? "")")
            let naive = try SamplingProgram(
                fullPassesOver: x, drawn: drawn, order: .natural(12), outputs: [])
            for device in try processors() + openCL() {
                let found = try device.load(program, maximumBatch: 3, states: [:]).run(["noise": noise], batch: 3)
                let expected = try device.load(naive, maximumBatch: 3, states: [:]).run(["noise": noise], batch: 3)
                #expect(
                    zip(found[0].doubles, expected[0].doubles).allSatisfy { abs($0 - $1) <= 1e-5 },
                    "\(device.summary), \(pattern)")
            }
        }
    }

    @Test func refusals() {
        let x = inputs(heads: 2, depth: 3, width: 3, queries: 5, keys: 5)
        let other = Tensor.input("k", [.batch, 2, 4, 5])
        #expect(throws: GraphError.self) { try Tensor.attention(byDepth: x[0], other, x[2], .causal).validated() }
        #expect(throws: GraphError.self) { try Tensor.attention(byDepth: x[0], x[1], x[2], .window(0)).validated() }
        #expect(throws: GraphError.self) {
            try Tensor.attention(byDepth: x[0], x[1], .input("v", [.batch, 2, 3, 6]), .all).validated()
        }
    }
}
