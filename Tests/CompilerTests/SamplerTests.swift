import Graph
import Testing

@testable import Compiler

@Suite struct SamplerTests {
    /// The incremental program draws what the loop over full forward passes draws, and computes nothing twice.
    private func check(
        _ x: Tensor, logits: Tensor, order: Order, multiplyAdds: Int? = nil,
        sourceLocation: Testing.SourceLocation = #_sourceLocation
    ) throws {
        let count = x.shape.removing(axes: [0]).count.coefficient
        let noise = Tensor.input("noise", x.shape)
        // A smooth draw: every bit of an error in the logits would be seen in the values.
        let drawn = logits + noise
        let program = try SamplingProgram(variable: x, drawn: drawn, order: order, outputs: [logits])
        let batch = 3
        var bindings: [String: Values] = [:]
        for (seed, node) in topologicalOrder([drawn]).enumerated() {
            guard let placeholder = node.operation as? Placeholder, placeholder.label != "x" else { continue }
            let shape = placeholder.type.shape.resolved(batch: batch)
            bindings[placeholder.label] = Values(
                shape: shape, elements: numbers(shape.reduce(1, *), seed: UInt64(seed + 5)))
        }
        var machine = try SamplingInterpreter(program, batch: batch, bindings)
        let results = machine.run()
        let found = results[0]
        var naive = Values(shape: x.shape.resolved(batch: batch))
        for group in order.groups {
            bindings["x"] = naive
            let next = try Interpreter(batch: batch, bindings).run(drawn)
            for v in group { for b in 0..<batch { naive.elements[b * count + v] = next.elements[b * count + v] } }
        }
        for (a, b) in zip(found.elements, naive.elements) {
            #expect(abs(a - b) <= 1e-12 * max(1, abs(b)), sourceLocation: sourceLocation)
        }
        bindings["x"] = naive
        for (a, b) in zip(results[1].elements, try Interpreter(batch: batch, bindings).run(logits).elements) {
            #expect(abs(a - b) <= 1e-12 * max(1, abs(b)), sourceLocation: sourceLocation)
        }
        if let multiplyAdds { #expect(machine.multiplyAdds == multiplyAdds, sourceLocation: sourceLocation) }
    }

    @Test func masked() throws {
        let x = Tensor.input("x", [.batch, 5])
        let degrees: [[Int32]] = [[3, 1, 5, 2, 4], [1, 1, 2, 3, 3, 4, 4]]
        let h =
            (x.maskedDense(.state("w0", [7, 5]), mask: .degrees(input: degrees[0], output: degrees[1], strict: false))
            + Tensor.state("b0", [7])).relu()
        let y =
            h.maskedDense(.state("w1", [5, 7]), mask: .degrees(input: degrees[1], output: degrees[0], strict: true))
            + Tensor.state("b1", [5])
        // The live weights, each once for an example.
        let live = (1 + 1 + 2 + 3 + 3 + 4 + 4) + (3 + 0 + 7 + 2 + 5)
        try check(x, logits: y.tanh(), order: Order(index: degrees[0].map { $0 - 1 }), multiplyAdds: live)
    }

    /// What is fed cannot be compared with the order; that is no leak.
    @Test func fedDegreesAreNamed() throws {
        let (x, degrees) = (Tensor.input("x", [.batch, 3]), Tensor.input("degrees", [3], .int32))
        let drawn = x.maskedDense(.state("w", [3, 3]), mask: .runtime(strict: true), degrees: (degrees, degrees))
        let error = try #require(throws: DependencyLeak.self) {
            try SamplingProgram(variable: x, drawn: drawn, order: Order(index: [0, 1, 2]))
        }
        #expect(error.description.contains("cannot be shown"))
        #expect(error.description.contains("degrees are fed"))
    }

    @Test func someoneElsesGraph() throws {
        let x = Tensor.input("x", [.batch, 6])
        let bits = BitMatrix(rows: 8, columns: 6) { $1 * 2 < $0 && ($0 + $1) % 3 != 0 }
        let left = x.maskedDense(.state("a", [8, 6]), mask: .matrix(bits)).tanh()
        let right =
            (x.maskedDense(
                .state("b", [4, 6]), mask: .degrees(input: [1, 2, 3, 4, 5, 6], output: [1, 2, 3, 5], strict: false)) * 2)
            .sigmoid()
        let joined = Tensor.concatenate([left, right], axis: 1)
        let degreesLeft = (0..<8).map { row in (0..<6).filter { bits[row, $0] }.max().map { Int32($0 + 1) } ?? 0 }
        let head = joined.maskedDense(
            .state("c", [6, 12]),
            mask: .degrees(input: degreesLeft + [1, 2, 3, 5], output: [1, 2, 3, 4, 5, 6], strict: true))
        let shift = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 6)
        try check(x, logits: head + shift * 0.5 - shift.squared(), order: .natural(6))
    }

    @Test func causalAttention() throws {
        let x = Tensor.input("x", [.batch, 5])
        let embedded = x.reshaped([.batch, 5, 1]).matmul(Tensor.state("e", [1, 4]).broadcast(to: [.batch, 1, 4])).tanh()
        let scores = embedded.matmul(embedded.matrixTransposed()) * 0.5
        let causal = Tensor.iota([5, 5], axis: 1).lessOrEqual(.iota([5, 5], axis: 0))
        let attended = Tensor.select(causal, scores, .scalar(-.infinity)).softmax().matmul(embedded)
        let out = attended.matmul(Tensor.state("o", [4, 1]).broadcast(to: [.batch, 4, 1])).reshaped([.batch, 5])
        try check(
            x, logits: out.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 5), order: .natural(5))
    }

    /// Running sums are drawn one addition at a time.
    @Test func runningSums() throws {
        let x = Tensor.input("x", [.batch, 6])
        let grid = x.reshaped([.batch, 2, 3])
        let rows = grid.cumulativeSum(axis: 2, exclusive: true).tanh()
        let before = grid.cumulativeSum(axis: 1, exclusive: true).sum(axes: [2], keepingAxes: true)
        try check(x, logits: (rows + before).reshaped([.batch, 6]), order: .natural(6))
    }

    /// A recurrent network: every step's products are computed once, when its variable is known.
    @Test func recurrent() throws {
        let x = Tensor.input("x", [.batch, 5])
        func network(_ read: Tensor) -> Tensor {
            let (w, u) = (Tensor.state("w", [1, 4]), Tensor.state("u", [4, 4]))
            return Tensor.scan(
                [Tensor.scalar(0.5).broadcast(to: [.batch, 4])],
                over: [read.transposed([1, 0]).reshaped([5, .batch, 1])]
            ) { carries, slices in
                let h = (carries[0].matmul(u) + slices[0].matmul(w)).tanh()
                return ([h], [h.matmul(.state("v", [4, 1]))])
            }.outputs[0].reshaped([5, .batch]).transposed([1, 0])
        }
        let shifted = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 5)
        // Those of one pass through all steps, though the first step reads a zero, which the rule of all steps does not know.
        try check(x, logits: network(shifted), order: .natural(5), multiplyAdds: 5 * (16 + 4 + 4))
        let leak = #expect(throws: DependencyLeak.self) {
            try SamplingProgram(variable: x, drawn: network(x), order: .natural(5))
        }
        #expect(leak?.path.contains { $0.hasPrefix("tanh[0]") } == true)
        // Every step of the way is where the author wrote it.
        #expect(leak?.path.allSatisfy { $0.contains("SamplerTests.swift") } == true, "\(leak?.path ?? [])")
    }

    /// A view that is read before it is given memory of its own, for a gather, is written before either reads it.
    @Test func viewsThatAreStoredLate() throws {
        let x = Tensor.input("x", [.batch, 9])
        let grid = x.reshaped([.batch, 3, 3])
        let squashed = grid.tanh().max(axes: [2], keepingAxes: true)
        let picked = grid.gathered(.constant(HostArray([2] as [Int32])), axis: 2)
        let out = (squashed + picked * 0.5).broadcast(to: [.batch, 3, 3]) + Tensor.state("b", [3])
        try check(
            x,
            logits: out.padded(low: [0, 1, 0], high: [0, 0, 0]).sliced(axis: 1, from: 0, count: 3).reshaped([.batch, 9]
            ),
            order: Order(index: [0, 0, 0, 1, 1, 1, 2, 2, 2]))
    }

    /// What is handed back may read every variable, the last included.
    @Test func outputsOfWholeExamples() throws {
        let x = Tensor.input("x", [.batch, 4])
        let shifted = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 4).tanh()
        let total = (x * 2 - shifted).squared().sum(axes: [1], keepingAxes: true)
        let program = try SamplingProgram(
            variable: x, drawn: shifted + Tensor.input("noise", x.shape), order: .natural(4), outputs: [total, x * 2])
        var machine = try SamplingInterpreter(
            program, batch: 2, ["noise": Values(shape: [2, 4], elements: numbers(8, seed: 3))])
        let found = machine.run()
        let expected = try Interpreter(batch: 2, ["x": found[0]]).run([total, x * 2])
        for (a, b) in zip(found.dropFirst(), expected) {
            #expect(zip(a.elements, b.elements).allSatisfy { abs($0 - $1) <= 1e-12 })
        }
    }

    /// What is handed back or drawn may be what was fed, or never vary.
    @Test func outputsThatNoWorkWrites() throws {
        let x = Tensor.input("x", [.batch, 2])
        let noise = Tensor.input("noise", x.shape)
        let still = x.padded(low: [0, 2], high: [0, 0], fill: 0.5).sliced(axis: 1, from: 0, count: 2).tanh()
        let program = try SamplingProgram(variable: x, drawn: noise, order: .natural(2), outputs: [still])
        let given = Values(shape: [3, 2], elements: numbers(6, seed: 3))
        var machine = try SamplingInterpreter(program, batch: 3, ["noise": given])
        let found = machine.run()
        #expect(found[0].elements == given.elements)
        #expect(try found[1].elements == Interpreter(batch: 3, ["x": given]).run(still).elements)
    }

    /// A variable times a structural zero is zero before the variable is drawn, behind an anchor and in front of one too.
    @Test func variablesTimesZero() throws {
        let x = Tensor.input("x", [.batch, 4])
        let shifted = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 4)
        let mixed = (shifted * x + Tensor.state("b", [4])).tanh()
        let later = { (t: Tensor) in t.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 4) }
        try check(x, logits: later(mixed), order: .natural(4))
        // What is multiplied by zero is not computed at all.
        let same = shifted.gathered(.constant(HostArray([0, 1, 2, 3] as [Int32])), axis: 1)
        try check(x, logits: later((shifted * same).sigmoid() * Tensor.state("d", [4])), order: .natural(4))
        // Here by a mask that multiplies, in front of a reduction.
        let mask = Tensor.constant(
            HostArray([1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 1, 1, 1] as [Float], shape: [4, 4]))
        let terms = x.reshaped([.batch, 1, 4]) * mask + Tensor.state("c", [4, 4])
        try check(x, logits: later((terms.tanh() * 0.5).sum(axes: [2])), order: .natural(4))
        try check(x, logits: later(terms.tanh().max(axes: [2]) + terms.sum(axes: [2])), order: .natural(4))
    }

    @Test func refusesWhatReadsTheFuture() throws {
        let x = Tensor.input("x", [.batch, 4])
        #expect(throws: DependencyLeak.self) { try SamplingProgram(variable: x, drawn: x * 2, order: .natural(4)) }
    }
}
