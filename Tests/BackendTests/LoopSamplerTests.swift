import CPU
import Compiler
import Graph
import Testing

/// Scans in samplers: never written out, drawn as by full passes.
extension DeviceSamplerTests {
    private func checkLoop(
        _ name: String, _ x: Tensor, logits: Tensor, order: Order, outputs: [Tensor] = [],
        sourceLocation: Testing.SourceLocation = #_sourceLocation
    ) throws {
        let drawn = logits + .input("noise", x.shape)
        let program = try SamplingProgram(variable: x, drawn: drawn, order: order, outputs: outputs)
        #expect(
            program.sections.contains { $0.passes.contains { $0.iteration > 0 } }, "\(name) is written out",
            sourceLocation: sourceLocation)
        try check(name, x, drawn: drawn, order: order, outputs: outputs, on: devices(), sourceLocation: sourceLocation)
    }

    private func weight(_ name: String, _ shape: Shape) -> Tensor { .input(name, shape) }

    /// x `[batch, steps]` as slices `[batch, 1]`, one variable late.
    private func late(_ x: Tensor) -> Tensor { shifted(x).transposed([1, 0]).reshaped([x.shape[1], .batch, 1]) }

    private func zeros(_ shape: Shape) -> Tensor { Tensor.scalar(0).broadcast(to: shape) }

    @Test func recurrentLoops() throws {
        let x = Tensor.input("x", [.batch, 7])
        func layer(_ name: String, _ inputs: Tensor, _ units: Extent) -> (carries: [Tensor], outputs: Tensor) {
            let (steps, count) = (inputs.shape[0], inputs.shape[2])
            // The products of all inputs in front of the loop, as a layer has them.
            let products = inputs.reshaped([steps * .batch, count]).matmul(weight("\(name).w", [count, 4 * units]))
                .reshaped([steps, .batch, 4 * units])
            let (carries, outputs) = Tensor.scan(
                [zeros([.batch, units]), .input("\(name).c0", [.batch, units])], over: [products]
            ) { carries, slices in
                let a = slices[0] + carries[0].matmul(weight("\(name).u", [4 * units, units]).matrixTransposed())
                func gate(_ k: Int) -> Tensor {
                    a.sliced(axis: 1, from: k * units.coefficient, count: units.coefficient)
                }
                let c = gate(1).sigmoid() * carries[1] + gate(0).sigmoid() * gate(2).tanh()
                let h = gate(3).sigmoid() * c.tanh()
                return ([h, c], [h])
            }
            return (carries, outputs[0])
        }
        let first = layer("a", late(x), 3)
        let second = layer("b", first.outputs, 2)
        func logits(_ outputs: Tensor) -> Tensor {
            outputs.reshaped([outputs.shape[0] * .batch, outputs.shape[2]])
                .matmul(weight("v", [outputs.shape[2], 1])).reshaped([7, .batch]).transposed([1, 0])
        }
        try checkLoop("one layer", x, logits: logits(first.outputs), order: .natural(7))
        try checkLoop(
            "two layers", x, logits: logits(second.outputs), order: .natural(7),
            outputs: [second.outputs.transposed([1, 0, 2]), first.carries[1]])
        // Backwards: the last variable is drawn first.
        let backwards = layer("a", late(x.flipped(axes: [1])), 3).outputs
        try checkLoop(
            "backwards", x, logits: logits(backwards).flipped(axes: [1]),
            order: Order(index: (0..<7).reversed().map { Int32($0) }))
    }

    /// Carries that are operands, that are one tensor, and that start as something else than zeros.
    @Test func carriesOfAllKinds() throws {
        let x = Tensor.input("x", [.batch, 6])
        let register = Tensor.scan(
            [zeros([.batch, 1]), weight("start", [.batch, 1]), weight("other", [.batch, 1])], over: [late(x)]
        ) { carries, slices in
            let sum = (carries[0] * 0.5 + carries[1] - slices[0]).tanh()
            // A shift register of two, and what stays as it was.
            return ([slices[0], carries[0], carries[2]], [sum + carries[2]])
        }
        try checkLoop(
            "a shift register", x, logits: register.outputs[0].reshaped([6, .batch]).transposed([1, 0]),
            order: .natural(6))
        let twice = Tensor.scan([zeros([.batch, 1]), weight("start", [.batch, 1])], over: [late(x)]) {
            carries, slices in
            let h = (carries[0] + carries[1] * 0.3 + slices[0]).sigmoid()
            return ([h, h], [h, h, h * 2])
        }
        try checkLoop(
            "one tensor twice", x,
            logits: (twice.outputs[0] + twice.outputs[1] * twice.outputs[2]).reshaped([6, .batch]).transposed([1, 0]),
            order: .natural(6))
        let constant = Tensor.scan([weight("start", [.batch, 1])], over: [late(x)]) { carries, slices in
            ([zeros([.batch, 1])], [carries[0] * slices[0] + slices[0]])
        }
        let half = Tensor.scan([weight("start", [.batch, 2])], over: [late(x)]) { carries, slices in
            // One of two elements is known to be one.
            let h = (carries[0].sum(axes: [1], keepingAxes: true) * 0.4 + slices[0]).tanh()
            let both = Tensor.concatenate([h, zeros([.batch, 1]) + 1], axis: 1)
            return ([both], [both])
        }
        try checkLoop(
            "a carry that is half known", x,
            logits: half.outputs[0].sum(axes: [2]).reshaped([6, .batch]).transposed([1, 0]), order: .natural(6))
        try checkLoop(
            "a constant carry", x, logits: constant.outputs[0].reshaped([6, .batch]).transposed([1, 0]),
            order: .natural(6))
    }

    /// What is known beside the variables: the same for every step, and step by step.
    @Test func conditionedLoops() throws {
        let x = Tensor.input("x", [.batch, 5])
        let features = weight("features", [.batch, 2]).matmul(weight("f", [2, 3])).tanh()
        let local = weight("local", [.batch, 5]).transposed([1, 0]).reshaped([5, .batch, 1])
        let outputs = Tensor.scan([features], over: [late(x), local, weight("rows", [5, 3])]) { carries, slices in
            let h = (carries[0] * slices[2] + slices[0] + slices[1].exp() * 0.2 + features).tanh()
            return ([h], [h.matmul(weight("v", [3, 1]))])
        }.outputs[0]
        try checkLoop("conditioned", x, logits: outputs.reshaped([5, .batch]).transposed([1, 0]), order: .natural(5))
    }

    /// Running sums over blocks of variables, as NADE has them: four at a time, two more than there are.
    @Test func blocks() throws {
        let (d, h, block) = (10, 3, 4)
        let x = Tensor.input("x", [.batch, Extent(d)])
        let order = Order(index: [3, 0, 9, 5, 1, 2, 8, 7, 4, 6])
        let sequence = Tensor.constant(HostArray(order.groups.map { Int32($0[0]) }))
        let inputs = x.gathered(sequence, axis: 1).padded(low: [0, 0], high: [0, 2])
            .reshaped([.batch, 3, Extent(block)]).transposed([1, 0, 2])
        func rows(_ seed: Int) -> Tensor {
            constant((0..<d * h).map { Float(($0 * 7 + seed) % 11) / 11 - 0.4 }, [d, h]).gathered(sequence, axis: 0)
                .padded(low: [0, 0], high: [2, 0])
                .reshaped([3, Extent(block), Extent(h)])
        }
        let outputs = Tensor.scan(
            [weight("c", [Extent(h)]).broadcast(to: [.batch, Extent(h)])], over: [inputs, rows(1), rows(5)]
        ) { carries, slices in
            let terms = slices[0].reshaped([.batch, Extent(block), 1]) * slices[1]
            let sums = terms.cumulativeSum(axis: 1, exclusive: true) + carries[0].reshaped([.batch, 1, Extent(h)])
            return ([carries[0] + terms.sum(axes: [1])], [(sums.sigmoid() * slices[2]).sum(axes: [2])])
        }.outputs[0]
        let ordered = outputs.transposed([1, 0, 2]).reshaped([.batch, 12]).sliced(axis: 1, from: 0, count: d)
        try checkLoop(
            "blocks", x, logits: ordered.gathered(.constant(HostArray(order.index)), axis: 1), order: order)
    }

    /// Rows and diagonals of images, whose iterations overlap in the order of drawing.
    @Test func imageLoops() throws {
        let (height, width, units) = (4, 3, 2)
        let x = Tensor.input("x", [.batch, Extent(height * width)])
        let image = shifted(x).reshaped([.batch, 1, Extent(height), Extent(width)])
        let map = image.convolution(weight("first", [2, 1, 1, 1])).tanh()
        let rows = Tensor.scan([zeros([.batch, 2, Extent(width)])], over: [map.transposed([2, 0, 1, 3])]) { c, s in
            let h = (s[0] + c[0].convolution(weight("u", [2, 2, 3]), padding: [(1, 1)])).tanh()
            return ([h], [h])
        }.outputs[0].transposed([1, 2, 0, 3])
        func logits(_ maps: Tensor) -> Tensor {
            maps.convolution(weight("v", [1, Extent(units), 1, 1])).reshaped(x.shape)
        }
        try checkLoop("rows", x, logits: logits(rows), order: .natural(height * width))
        let length = width + height - 1
        let skewed = map.padded(low: [0, 0, 0, 0], high: [0, 0, 0, height])
            .reshaped([.batch, 2, Extent(height * (width + height))]).sliced(axis: 2, from: 0, count: height * length)
            .reshaped([.batch, 2, Extent(height), Extent(length)])
        let columns = Tensor.scan([zeros([.batch, 2, Extent(height)])], over: [skewed.transposed([3, 0, 1, 2])]) {
            c, s in
            let h = (s[0] + c[0].convolution(weight("u", [2, 2, 2]), padding: [(1, 0)])).tanh()
            return ([h], [h])
        }.outputs[0].transposed([1, 2, 3, 0])
        let back = columns.reshaped([.batch, 2, Extent(height * length)]).padded(low: [0, 0, 0], high: [0, 0, height])
            .reshaped([.batch, 2, Extent(height), Extent(length + 1)]).sliced(axis: 3, from: 0, count: width)
        try checkLoop("diagonals", x, logits: logits(back), order: .natural(height * width))
    }

    /// What an iteration carries is kept for as long as it is read, and no longer.
    @Test func loopsKeepTwoIterations() throws {
        func memory(_ steps: Int) throws -> Int {
            let x = Tensor.input("x", [.batch, Extent(steps)])
            let outputs = Tensor.scan([zeros([.batch, 64])], over: [late(x)]) { carries, slices in
                let h = (carries[0].matmul(weight("u", [64, 64])) + slices[0]).tanh()
                return ([h], [h.matmul(weight("v", [64, 1]))])
            }.outputs[0]
            let program = try SamplingProgram(
                variable: x, drawn: outputs.reshaped([Extent(steps), .batch]).transposed([1, 0]),
                order: .natural(steps))
            #expect(program.fullPasses == nil)
            return program.values.reduce(0) { $0 + $1.count }
        }
        // Each step more has a variable, an input, a logit and a drawn number or two more.
        #expect(try memory(200) - memory(100) <= 1000)
    }
}
