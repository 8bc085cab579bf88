import Graph
import Testing

@testable import Compiler

/// What a graph says it costs is what its sampler computes, once each, when all variables are drawn.
@Suite struct SamplerWorkTests {
    private func counts(_ x: Tensor, _ logits: Tensor, _ order: Order) throws -> (graph: Int, program: Int, run: Int) {
        let drawn = logits + Tensor.input("noise", x.shape)
        let program = try SamplingProgram(variable: x, drawn: drawn, order: order, outputs: [logits])
        var bindings: [String: Values] = [:]
        for node in topologicalOrder([drawn]) {
            guard let placeholder = node.operation as? Placeholder, placeholder.label != "x" else { continue }
            bindings[placeholder.label] = Values(shape: placeholder.type.shape.resolved(batch: 2), repeating: 0.5)
        }
        var machine = try SamplingInterpreter(program, batch: 2, bindings)
        _ = machine.run()
        return (contractions(of: [drawn]).reduce(0) { $0 + $1.live }, program.multiplyAdds, machine.multiplyAdds)
    }

    @Test func maskedNetwork() throws {
        let x = Tensor.input("x", [.batch, 5])
        let degrees: [[Int32]] = [[3, 1, 5, 2, 4], [1, 1, 2, 3, 3, 4, 4], [4, 3, 2, 1, 1, 2]]
        var h = x
        let sides = [degrees[0], degrees[1], degrees[2], degrees[0]]
        for layer in 0..<3 {
            let (input, output) = (sides[layer], sides[layer + 1])
            h = h.maskedDense(
                .state("w\(layer)", [Extent(output.count), Extent(input.count)]),
                mask: .degrees(input: input, output: output, strict: layer == 2))
            if layer < 2 { h = h.relu() }
        }
        let found = try counts(x, h, Order(index: degrees[0].map { $0 - 1 }))
        #expect(found.graph == found.program && found.graph == found.run)
        // Not all of them and not none.
        #expect(found.graph > 0 && found.graph < 5 * 7 + 7 * 6 + 6 * 5)
    }

    /// A sampler leaves out what lies on padding, which the graph counts.
    @Test func causalConvolution() throws {
        let x = Tensor.input("x", [.batch, 6])
        let mask = ConvolutionMask.causal(.a, kernel: [3])
        let first = x.reshaped([.batch, 1, 6]).convolution(
            .state("first", [4, 1, 3]), padding: [(1, 1)], mask: mask
        ).tanh()
        let second = first.convolution(.state("second", [3, 4, 2]), padding: [(2, 0)], dilation: [2]).tanh()
        let last = second.convolution(.state("last", [1, 3, 1])).reshaped([.batch, 6])
        let found = try counts(x, last, .natural(6))
        #expect(found.graph == 6 * 4 * 1 + 6 * 3 * 4 * 2 + 6 * 3)
        // The first position of the first layer reads padding through its one live tap, the first two of the second through their
        // first tap.
        #expect(found.run == found.program)
        #expect(found.graph - found.program == 4 + 2 * 3 * 4)
    }
}

/// The floor of a step, counted by hand.
@Suite struct StepWorkTests {
    private let x = Tensor.input("x", [.batch, 6])

    private func work(
        _ outputs: [Tensor], _ updates: [StateUpdate] = [], maskedStates: [Tensor: WeightMask] = [:], batch: Int = 10,
        cacheBytes: Int = 1 << 30
    ) throws -> StepWork {
        StepWork(
            outputs, updates: updates, maskedStates: maskedStates,
            schedule: try compile(outputs, updates: updates, maskedStates: maskedStates), batch: batch,
            cacheBytes: cacheBytes)
    }

    /// A masked layer and its gradient: live weights meet every row three times, less the gradient of x, which nobody asks for.
    @Test func multiplyAdds() throws {
        let mask = MaskStructure.degrees(input: [1, 2, 3, 4, 5, 6], output: [1, 3, 5], strict: false)
        let live = 1 + 3 + 5
        let (w, v) = (Tensor.state("w", [3, 6]), Tensor.state("v", [3, 2]))
        let loss = x.maskedDense(w, mask: mask).tanh().matmul(v).squared().mean()
        let grads = try gradients(of: loss, with: [w, v])
        let updates = zip([w, v], grads).map { StateUpdate($0, $0 - $1 * 0.1) }
        let found = try work([loss], updates)
        #expect(found.multiplyAdds == 10 * (2 * live + 3 * 6))
        // One tanh for each hidden unit; its gradient is made of it.
        #expect(found.exps == 10 * 3)
        #expect(found.bytes == 0)
        // What a step does once whatever the batch holds counts too.
        let square = Tensor.state("square", [4, 4])
        #expect(try work([square.matmul(square)]).multiplyAdds == 64)
    }

    /// Equal applications count once, constants not at all, the body of a loop for every step.
    @Test func exps() throws {
        func twice(_ x: Tensor) -> Tensor { x.exp() + x.exp() * x.sigmoid() }
        #expect(try work([twice(x)]).exps == 2 * 60)
        #expect(try work([x + Tensor.scalar(2).exp().broadcast(to: x.shape)]).exps == 0)
        #expect(try work([x.squared().sqrt() + x.absolute()]).exps == 0)
        let steps = x.transposed([1, 0])
        let (carries, _) = Tensor.scan([steps.sum(axes: [0])], over: [steps]) { ([($0[0] + $1[0]).tanh()], []) }
        #expect(try work(carries).exps == 6 * 10)
    }

    /// What outlives a step is fetched once and stored once where not everything fits the cache.
    @Test func states() throws {
        let (w, m) = (Tensor.state("w", [100]), Tensor.state("m", [100]))
        let still = Tensor.state("still", [50])
        let moment = m * 0.9 + w * 0.1
        let updates = [StateUpdate(m, moment), StateUpdate(w, w - moment)]
        let outputs = [still.sum()]
        // 1000 bytes of states, and the scalar.
        #expect(try work(outputs, updates, cacheBytes: 2000).bytes == 0)
        #expect(try work(outputs, updates, cacheBytes: 900).bytes == 2 * 400 + 2 * 400 + 200)
        // Of masked states live elements alone.
        let mask = WeightMask.dense(.matrix(BitMatrix(rows: 10, columns: 10) { $0 == $1 }))
        let square = Tensor.state("square", [10, 10])
        let change = [StateUpdate(square, square * 0.5)]
        #expect(try work([], change, cacheBytes: 200).bytes == 2 * 400)
        #expect(try work([], change, maskedStates: [square: mask], cacheBytes: 200).bytes == 2 * 40)
        #expect(try work([], change, maskedStates: [square: mask], cacheBytes: 100).bytes == 2 * 40)
    }

    /// A value that is larger than the cache goes through memory for every group.
    @Test func largeValues() throws {
        let total = x.sum(axes: [0], keepingAxes: true)
        // The input is read by the sum and again by what subtracts it, and the result is written: 240 bytes each.
        let result = x - total
        let schedule = try compile([result])
        #expect(schedule.groups.count == 2)
        #expect(try work([result], cacheBytes: 239).bytes == 3 * 240)
        // Larger than the cache together, each of them smaller: the input is fetched once.
        #expect(try work([result], cacheBytes: 240).bytes == 240)
        #expect(try work([result], cacheBytes: 1000).bytes == 0)
        // Half of the input.
        #expect(try work([x.sliced(axis: 1, from: 0, count: 3).sum()], cacheBytes: 200).bytes == 120)
    }

    /// A convolution that reads a part of a larger value fetches that part; its weight and its result are small.
    @Test func convolutionsOfParts() throws {
        let image = Tensor.input("image", [.batch, 8, 5, 4])
        let weight = Tensor.state("w", [1, 2, 3, 1])
        let y = image.sliced(axis: 1, from: 3, count: 2).convolution(weight)
        let schedule = try compile([y])
        #expect(schedule.groups.count == 1)
        // Two channels of eight, in ten examples.
        #expect(try work([y], cacheBytes: 2000).bytes == 4 * 10 * 2 * 20 + 4 * 6)
        let gradient = try gradients(of: y.sum(), with: [weight])
        // Beside it the one number that the gradient of every result is.
        #expect(try work(gradient, cacheBytes: 2000).bytes == 4 * 10 * 2 * 20 + 4)
    }

    /// What is known to be live of a weight is what is not known to be dead.
    @Test func liveWeights() {
        let (dense, image) = (
            WeightMask.dense(.degrees(input: [1, 2, 3], output: [2, 1], strict: true)),
            WeightMask.convolution(.causal(.a, kernel: [3, 3], outputs: 6, inputs: 3, channelGroups: 3))
        )
        for (mask, shape) in [(dense, [2, 3]), (image, [6, 3, 3, 3]), (.dense(.runtime(strict: true)), [2, 3])] {
            #expect(mask.liveCount(shape: shape) == (0..<shape.reduce(1, *)).count { !mask.isDead($0, shape: shape) })
        }
    }

    /// What the groups have to do is what the step has to do, however it is cut: products, the functions behind them, functions behind an
    /// assembly in each of its boxes, and a loop.
    @Test func groupsShareTheWork() throws {
        let (w, v) = (Tensor.state("w", [4, 6]), Tensor.state("v", [4, 4]))
        let mask = MaskStructure.degrees(input: [1, 2, 3, 4, 5, 6], output: [1, 3, 5, 2], strict: false)
        let h = x.maskedDense(w, mask: mask).apply(.tanh)
        let (_, steps) = Tensor.scan([h], over: [Tensor.constant(HostArray([1, 2, 3] as [Float], shape: [3, 1]))]) {
            carries, slices in
            let next = (carries[0] * slices[0]).matmul(v).apply(.tanh)
            return ([next], [next])
        }
        let loss = Tensor.concatenate([h, h * 2, steps[0].sum(axes: [0])], axis: 1).exp().sum()
        let updates = zip([w, v], try gradients(of: loss, with: [w, v])).map { StateUpdate($0, $0 - $1) }
        for updates in [[], updates] {
            let schedule = try compile([loss], updates: updates)
            let groups = schedule.groups.indices.map { schedule.work(ofGroup: $0, batch: 10) }
            let whole = try work([loss], updates)
            #expect(groups.reduce(0) { $0 + $1.multiplyAdds } == whole.multiplyAdds)
            #expect(groups.reduce(0) { $0 + $1.exps } == whole.exps)
        }
        let whole = try work([loss])
        #expect(whole.multiplyAdds == 10 * (11 + 3 * 16) && whole.exps == 10 * (4 + 3 * 4 + 12))
    }

    @Test func seconds() {
        let rates = FloorRates(multiplyAdds: 100, exps: 10, bytes: 1000)
        #expect(StepWork(multiplyAdds: 50, exps: 20, bytes: 250).seconds(at: rates) == 0.5 + 2 + 0.25)
    }
}
