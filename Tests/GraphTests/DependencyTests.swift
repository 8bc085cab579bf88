import Testing

@testable import Graph

@Suite struct DependencyTests {
    /// Kernels count elements in 32 bits, and so do relations.
    @Test func tensorsThatCannotBeCountedAreRefused() {
        #expect(Tensor.state("w", [40_000, 65_536]).error != nil)
        #expect(Tensor.input("x", [.batch, 1_000_000_000_000, 1_000_000_000_000]).error != nil)
        let row = Tensor.input("x", [.batch, 1, 65_536])
        #expect(row.error == nil)
        #expect(row.broadcast(to: [.batch, 65_536, 65_536]).error?.message.contains("32 bits") == true)
    }

    /// The union of the non-zeros of the numerical Jacobian over random draws equals the structural Jacobian.
    @Test func structuralJacobianIsExact() throws {
        let x = Tensor.input("x", [.batch, 6])
        let w = Tensor.input("w", [5, 6])
        let v = Tensor.input("v", [6, 5])
        let mask = BitMatrix(rows: 5, columns: 6) { ($0 * 5 + $1 * 3) % 7 < 3 }
        let hidden = x.maskedDense(w, mask: .matrix(mask)).tanh()
        let causal = Tensor.select(
            Tensor.iota([6, 6], axis: 1).lessOrEqual(.iota([6, 6], axis: 0)),
            Tensor.iota([6, 6], axis: 1).cast(to: .float32) * 0.1,
            .scalar(-.infinity)
        ).softmax()
        let mixed = (x.broadcast(to: [.batch, 6])).matmul(causal.matrixTransposed())
        let shifted = x.sliced(axis: 1, from: 0, count: 5).padded(low: [0, 1], high: [0, 0])
        let corner = BitMatrix(rows: 5, columns: 5) { $0 == $1 + 1 || ($0 == 1 && $1 == 4) }
        let cases: [(String, Tensor)] = [
            ("masked", hidden),
            ("skip", .concatenate([hidden, x.sliced(axis: 1, from: 1, count: 2)], axis: 1)),
            (
                "two layers",
                hidden.maskedDense(
                    v, mask: .degrees(input: [1, 1, 2, 3, 3], output: [0, 1, 2, 3, 2, 1], strict: true))
            ),
            ("causal", mixed), ("shift", shifted * x), ("sum", x * x.sum(axes: [1], keepingAxes: true)),
            ("select", .select(Tensor.iota([.batch, 6], axis: 1).less(.scalar(3, .int32)), x, x.flipped(axes: [1]))),
            (
                "scan",
                Tensor.scan(
                    [Tensor.scalar(0).broadcast(to: [.batch, 5])],
                    over: [x.transposed([1, 0]).reshaped([6, .batch, 1])]
                ) { carries, slices in
                    let h =
                        carries[0].maskedDense(w.sliced(axis: 1, from: 0, count: 5), mask: .matrix(corner)) + slices[0]
                    return ([h], [h.sliced(axis: 1, from: 1, count: 1) * slices[0]])
                }.outputs[0].reshaped([6, .batch]).transposed([1, 0])
            ),
            ("zeroed", x * Tensor.constant(HostArray([0, 1, 0, 2, 0, 3] as [Float]))),
        ]
        for (name, output) in cases {
            let structural = try Dependencies([output]).structuralJacobian(of: output, variable: x)
            var numerical = BitMatrix(rows: structural.rows, columns: structural.columns)
            for draw in 0..<8 {
                let base = [
                    "x": Values(shape: [1, 6], elements: numbers(6, seed: UInt64(draw * 3 + 1))),
                    "w": Values(shape: [5, 6], elements: numbers(30, seed: UInt64(draw * 3 + 2))),
                    "v": Values(shape: [6, 5], elements: numbers(30, seed: UInt64(draw * 3 + 3))),
                ]
                let before = try Interpreter(base).run(output)
                for i in 0..<6 {
                    var moved = base
                    moved["x"]!.elements[i] += 0.01
                    let after = try Interpreter(moved).run(output)
                    for o in after.elements.indices where after.elements[o] != before.elements[o] {
                        numerical[o, i] = true
                    }
                }
            }
            #expect(numerical == structural, "\(name)")
        }
    }

    private func made(
        inputDegrees: [Int32] = [1, 2, 3, 4], hidden: [Int32] = [1, 1, 2, 2, 3, 3], output: [Int32] = [1, 2, 3, 4],
        strict: Bool = true
    ) -> (x: Tensor, parameters: [ConditionalParameters]) {
        let x = Tensor.input("x", [.batch, 4])
        let h = x.maskedDense(.state("w0", [6, 4]), mask: .degrees(input: inputDegrees, output: hidden, strict: false))
            .relu()
        let logits = h.maskedDense(.state("w1", [4, 6]), mask: .degrees(input: hidden, output: output, strict: strict))
        return (x, [ConditionalParameters("logits", logits, variables: [0, 1, 2, 3])])
    }

    @Test func provesMADE() throws {
        let (x, parameters) = made()
        let proof = try AutoregressiveProof(parameters, of: x, order: .natural(4))
        #expect(proof.dependencies?.present == 6 && proof.dependencies?.allowed == 6)
    }

    @Test func namesTheLeak() throws {
        let wrong: [(String, (x: Tensor, parameters: [ConditionalParameters]), Order)] = [
            (">= for >", made(strict: false), .natural(4)),
            ("wrong degrees", made(hidden: [1, 1, 2, 2, 3, 4]).self, .sequence([1, 0, 2, 3])),
            ("reversed order", made(), .sequence([3, 2, 1, 0])),
        ]
        for (name, (x, parameters), order) in wrong {
            let leak = #expect(throws: DependencyLeak.self, "\(name)") {
                try AutoregressiveProof(parameters, of: x, order: order)
            }
            #expect(
                leak?.description.hasPrefix("logits[") == true
                    && leak?.description.contains("DependencyTests.swift") == true)
        }
    }

    /// A device feeds inputs by name: one that was made again, for a model's context say, is the same variable.
    @Test func inputsOfOneNameAreOneVariable() throws {
        let (x, again) = (Tensor.input("x", [.batch, 4]), Tensor.input("x", [.batch, 4]))
        let shifted = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 4)
        let leak = #expect(throws: DependencyLeak.self) {
            try AutoregressiveProof(
                [ConditionalParameters("mean", shifted + again, variables: [0, 1, 2, 3])], of: x, order: .natural(4))
        }
        #expect(leak?.description.contains("mean[0] depends on x[0]") == true)
    }

    @Test func refusesMixedExamples() throws {
        let x = Tensor.input("x", [.batch, 4])
        let centred = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 4) - x.mean(axes: [0]) * 0
        let parameters = [ConditionalParameters("mean", centred, variables: [0, 1, 2, 3])]
        // Multiplied by zero it is structurally nothing.
        #expect(throws: Never.self) { try AutoregressiveProof(parameters, of: x, order: .natural(4)) }
        let leaky = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 4) - x.mean(axes: [0])
        let leak = #expect(throws: DependencyLeak.self) {
            try AutoregressiveProof(
                [ConditionalParameters("mean", leaky, variables: [0, 1, 2, 3])], of: x, order: .natural(4))
        }
        #expect(leak?.description.contains("another example") == true)
    }

    /// What holds for the first example, or in a batch of one, is not known of the others.
    @Test func countersOfExamplesAreNotKnown() throws {
        let x = Tensor.input("x", [.batch, 4])
        let isFirst = Tensor.iota(x.shape, axis: 0).less(1)
        let ones = Tensor.scalar(1).broadcast(to: x.shape).sum(axes: [0])
        let size = Tensor.extent(.batch).cast(to: .float32)
        for leaky in [Tensor.select(isFirst, .scalar(0), x), (ones - 1) * x, (size - 1) * x] {
            #expect(throws: DependencyLeak.self) {
                try AutoregressiveProof(
                    [ConditionalParameters("mean", leaky, variables: [0, 1, 2, 3])], of: x, order: .natural(4))
            }
        }
        let place = Tensor.iota(x.shape, axis: 1)
        let knownValues = try Dependencies([place]).knownValues(place)
        #expect(knownValues?.values == [0, 1, 2, 3])
    }

    @Test func provesOrdersKnownAtRunTime() throws {
        let x = Tensor.input("x", [.batch, 4])
        let order = Tensor.input("order", [4], .int32)
        let hidden = Tensor.input("hidden", [6], .int32)
        func build(last: Tensor, strict: Bool) -> [ConditionalParameters] {
            let h = x.maskedDense(.state("w0", [6, 4]), mask: .runtime(strict: false), degrees: (order, hidden)).relu()
            let y = h.maskedDense(.state("w1", [4, 6]), mask: .runtime(strict: strict), degrees: (last, order))
            let direct = x.maskedDense(.state("d", [4, 4]), mask: .runtime(strict: true), degrees: (order, order))
            return [ConditionalParameters("logits", y + direct, variables: [0, 1, 2, 3])]
        }
        let proof = try AutoregressiveProof(
            build(last: hidden, strict: true), of: x, order: .natural(4), degrees: order)
        #expect(proof.isSymbolic)
        #expect(throws: DependencyLeak.self) {
            try AutoregressiveProof(build(last: hidden, strict: false), of: x, order: .natural(4), degrees: order)
        }
        #expect(throws: DependencyLeak.self) {
            let other = Tensor.input("other", [6], .int32)
            return try AutoregressiveProof(build(last: other, strict: true), of: x, order: .natural(4), degrees: order)
        }
    }

    /// An operation that says nothing of an input would pass every proof.
    @Test func everyInputNeedsARelation() throws {
        let sum = CustomOperation(
            "sum", outputType: { $0[0] }, gradient: { _, _, g in [g, g] }, relations: { _ in [.none] },
            evaluate: { inputs, output in for i in output.indices { output[i] = inputs[0][i] + inputs[1][i] } },
            cpu: { inputs, output in for i in output.indices { output[i] = inputs[0][i] + inputs[1][i] } }, openCL: "")
        let x = Tensor.input("x", [.batch, 4])
        let parameters = [ConditionalParameters("mean", sum(x, x), variables: [0, 1, 2, 3])]
        let error = #expect(throws: GraphError.self) { try AutoregressiveProof(parameters, of: x, order: .natural(4)) }
        #expect(error?.operation == "sum" && error?.message.contains("2 inputs, found 1") == true)
    }
}
