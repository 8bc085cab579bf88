import Testing

@testable import Graph

/// A scan's own rule says what the rules of its steps, written out one by one, say.
@Suite struct LoopRuleTests {
    private func check(
        _ output: Tensor, _ x: Tensor, order: [Int32], sourceLocation: Testing.SourceLocation = #_sourceLocation
    ) throws {
        let own = try Dependencies([output])
        #expect(!own.nodes.allSatisfy { $0.stepwiseLoop == nil }, sourceLocation: sourceLocation)
        let written = unrolled([output])[0]
        let steps = try Dependencies([written])
        #expect(
            own.levels(of: x, order: order)[output] == steps.levels(of: x, order: order)[written],
            sourceLocation: sourceLocation)
        #expect(
            own.structuralJacobian(of: output, variable: x) == steps.structuralJacobian(of: written, variable: x),
            sourceLocation: sourceLocation)
        for element in 0..<own.count(output) {
            #expect(
                own.reach(from: output, element: element)[x] == steps.reach(from: written, element: element)[x],
                sourceLocation: sourceLocation)
        }
        let pair = (try Dependencies([output], batch: 2), try Dependencies([written], batch: 2))
        #expect(
            pair.0.examplesRead(of: [x])[output] == pair.1.examplesRead(of: [x])[written],
            sourceLocation: sourceLocation)
    }

    private func recurrent(_ read: Tensor, isMixed: Bool = false) -> Tensor {
        let (w, u, v) = (Tensor.state("w", [1, 4]), Tensor.state("u", [4, 4]), Tensor.state("v", [4, 1]))
        let steps = read.shape[1]
        let products = read.transposed([1, 0]).reshaped([steps * .batch, 1]).matmul(w).reshaped([steps, .batch, 4])
        let (last, outputs) = Tensor.scan([.scalar(0.5).broadcast(to: [.batch, 4])], over: [products]) {
            carries, slices in
            let h = (carries[0].matmul(u) + slices[0]).tanh()
            return ([isMixed ? h - h.mean(axes: [0], keepingAxes: true) : h], [h])
        }
        return outputs[0].reshaped([steps * .batch, 4]).matmul(v).reshaped([steps, .batch]).transposed([1, 0])
            + last[0].matmul(v) * 0
    }

    @Test func recurrentSteps() throws {
        let x = Tensor.input("x", [.batch, 6])
        try check(recurrent(x), x, order: [0, 1, 2, 3, 4, 5])
        try check(recurrent(x), x, order: [3, 1, 5, 0, 4, 2])
        try check(recurrent(x.flipped(axes: [1])), x, order: [0, 0, 1, 1, 2, 2])
        try check(recurrent(x, isMixed: true), x, order: [0, 1, 2, 3, 4, 5])
    }

    /// A carry that one step in two passes on, slices that are not all read, and a loop in a loop.
    @Test func bodiesOfAllKinds() throws {
        let x = Tensor.input("x", [.batch, 6])
        let slices = x.transposed([1, 0]).reshaped([6, .batch, 1])
        let pairs = x.reshaped([.batch, 3, 2]).transposed([1, 2, 0]).reshaped([3, 2, .batch, 1])
        let zero = Tensor.scalar(0).broadcast(to: [.batch, 1])
        let register = Tensor.scan([zero, zero], over: [slices]) { carries, slices in
            ([slices[0], carries[0]], [carries[1] * 2])
        }.outputs[0]
        try check(register.reshaped([6, .batch]).transposed([1, 0]), x, order: [0, 1, 2, 3, 4, 5])
        let nested = Tensor.scan([zero], over: [pairs]) { carries, slices in
            let (last, inner) = Tensor.scan([carries[0]], over: [slices[0]]) { c, s in
                let h = (c[0] + s[0]).tanh()
                return ([h], [c[0]])
            }
            return ([last[0]], [inner[0]])
        }.outputs[0]
        try check(nested.reshaped([6, .batch]).transposed([1, 0]), x, order: [0, 1, 2, 3, 4, 5])
    }

    /// What looks like a leak to the rule of all steps, which does not know that a slice is zero at some step, is looked at step by step.
    @Test func whatOneStepKnows() throws {
        let x = Tensor.input("x", [.batch, 4])
        let flags = Tensor.constant(HostArray([0, 1, 1, 1] as [Float])).reshaped([4, 1, 1])
        // The first step would read the last variable.
        let rolled = Tensor.concatenate(
            [x.sliced(axis: 1, from: 3, count: 1), x.sliced(axis: 1, from: 0, count: 3)], axis: 1)
        func logits(_ flags: Tensor) -> Tensor {
            Tensor.scan(
                [.scalar(0).broadcast(to: [.batch, 1])],
                over: [
                    rolled.transposed([1, 0]).reshaped([4, .batch, 1]), flags,
                ]
            ) { carries, slices in
                let h = carries[0] + slices[0] * slices[1]
                return ([h], [h])
            }.outputs[0].reshaped([4, .batch]).transposed([1, 0])
        }
        let claim = { (tensor: Tensor) in ConditionalParameters("logits", tensor, variables: [0, 1, 2, 3]) }
        _ = try AutoregressiveProof([claim(logits(flags))], of: x, order: .natural(4))
        let leak = try #require(throws: DependencyLeak.self) {
            try AutoregressiveProof([claim(logits(flags + 1))], of: x, order: .natural(4))
        }
        #expect(leak.description.contains("logits[0] depends on x[3]"))
    }

    /// As many steps as one likes cost no more rules than one.
    @Test func manySteps() throws {
        let x = Tensor.input("x", [.batch, 4000])
        let shifted = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 4000)
        let logits = recurrent(shifted)
        let proof = try AutoregressiveProof(
            [ConditionalParameters("logits", logits, variables: (0..<4000).map { Int32($0) })], of: x,
            order: .natural(4000))
        #expect(proof.dependencies == nil)
        let rules = try Dependencies([logits])
        #expect(rules.nodes.count < 60)
        let levels = try #require(rules.levels(of: x, order: (0..<4000).map { Int32($0) })[logits])
        #expect(levels == (0..<4000).map { Int32($0) - 1 })
    }
}
