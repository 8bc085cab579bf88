import Graph
import Testing

@testable import Compiler

func numbers(_ count: Int, seed: UInt64) -> [Double] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15
    return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Double(Int64(bitPattern: state) >> 11) * 0x1p-52
    }
}

@Suite struct CompileTests {
    /// A schedule computes what the graph says, for several batch sizes from one compilation.
    private func check(
        _ outputs: [Tensor], updates: [StateUpdate] = [], maskedStates: [Tensor: WeightMask] = [:], groups: Int? = nil,
        sourceLocation: Testing.SourceLocation = #_sourceLocation
    ) throws {
        let schedule = try compile(outputs, updates: updates, maskedStates: maskedStates)
        if let groups {
            #expect(schedule.groups.count == groups, "\(schedule.groups.map(\.label))", sourceLocation: sourceLocation)
        }
        for batch in [1, 3] {
            var bindings: [String: Values] = [:]
            for (seed, node) in topologicalOrder(outputs + updates.flatMap { [$0.state, $0.value] }).enumerated() {
                guard let placeholder = node.operation as? Placeholder else { continue }
                let shape = placeholder.type.shape.resolved(batch: batch)
                bindings[placeholder.label] = Values(
                    shape: shape, elements: numbers(shape.reduce(1, *), seed: UInt64(seed + 1)))
            }
            for (tensor, mask) in maskedStates {
                let shape = tensor.shape.resolved(batch: 1)
                for e in 0..<shape.reduce(1, *) where mask.isDead(e, shape: shape) {
                    bindings[tensor.placeholder!.label]!.elements[e] = 0
                }
            }
            let expected = try Interpreter(batch: batch, bindings).run(outputs + updates.map(\.value))
            var machine = ScheduleInterpreter(schedule, batch: batch, bindings)
            let found = machine.run()
            let new = updates.map { machine.state($0.state.placeholder!.label) }
            for (index, (a, b)) in zip(expected.map(\.elements), found + new).enumerated() {
                #expect(
                    a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-12 * max(1, abs($0)) },
                    "output \(index), batch \(batch)", sourceLocation: sourceLocation)
            }
        }
    }

    @Test func fusesElementwiseChains() throws {
        let x = Tensor.input("x", [.batch, 4])
        let b = Tensor.input("b", [4])
        try check([((x + b).tanh() * 2 - x).sigmoid()], groups: 1)
        try check([(x * 2).sum(axes: [1]) + 1, (x + b).mean()], groups: 2)
    }

    /// What a product, a convolution or a view reads is in memory before its group runs, also where the group's own nodes read the
    /// same tensor element by element: a residual.
    @Test func residualsAroundWhatReadsElsewhere() throws {
        let x = Tensor.input("x", [.batch, 4])
        let h = x.tanh()
        try check([h.matmul(.state("w", [4, 4])) + h], groups: 2)
        let (c, d) = (Tensor.input("c", [4, 4]).tanh(), Tensor.input("d", [4, 4]).sigmoid())
        try check([(d + c.matrixTransposed()) * c], groups: 2)
        let image = Tensor.input("image", [.batch, 2, 5]).tanh()
        try check([image.convolution(.state("k", [2, 2, 3]), padding: [(before: 1, after: 1)]) + image])
        let (v, square) = (Tensor.input("u", [5, 2]), Tensor.input("s", [.batch, 3, 3]).tanh())
        try check([square.matmul(square) + square], groups: 2)
        let u = v.tanh()
        try check([u.flipped(axes: [0]) * v + u], groups: 2)
        let turned = u.flipped(axes: [0]).exp()
        try check([turned.tanh() + u.sigmoid(), turned])
        try check([turned * v.sum(axes: [1], keepingAxes: true) + u, u])
        // The gradient of a sum over an axis of one element.
        let (y, n) = (Tensor.input("y", [.batch, 1]), Tensor.input("n", [1]).broadcast(to: [.batch, 1]))
        func reflected(_ x: Tensor) -> Tensor {
            x - n * ((x * n).sum(axes: [1], keepingAxes: true) * 2 / n.squared().sum(axes: [1], keepingAxes: true))
        }
        let z = reflected(reflected(y))
        try check([z] + gradients(of: z.sum(), with: [y]))
    }

    /// Shapes whose leading products do not divide one another are still one run of elements.
    @Test func reshapesAcrossAxes() throws {
        let x = Tensor.input("x", [.batch, 10, 6])
        try check([(x * 2).reshaped([.batch, 4, 3, 5]) + 1], groups: 2)
        try check([x.reshaped([.batch, 4, 3, 5]), (x.tanh() * 3).reshaped([4, 3, Extent(5, power: 1)])])
        try check([x.transposed([0, 2, 1]).reshaped([4, Extent(3, power: 1), 5]).tanh()])
    }

    @Test func foldsMovementIntoOperands() throws {
        let x = Tensor.input("x", [.batch, 6])
        try check([x.reshaped([.batch, 2, 3]).transposed([2, 0, 1]) * 2], groups: 1)
        try check([x.flipped(axes: [1]).sliced(axis: 1, from: 1, count: 3, step: 2) + 1], groups: 1)
        try check([x.transposed([1, 0]).reshaped([6 * .batch]) + 1])
        try check([x.reshaped([6 * .batch])])
        try check([
            Tensor.concatenate([x, x.sum(axes: [1], keepingAxes: true), x.flipped(axes: [1])], axis: 1).padded(
                low: [0, 1], high: [0, 2], fill: 5)
        ])
        try check([Tensor.iota([.batch, 6], axis: 1).cast(to: .float32) + x, Tensor.extent(.batch).cast(to: .float32)])
    }

    @Test func products() throws {
        let x = Tensor.input("x", [.batch, 4])
        let w = Tensor.input("w", [5, 4])
        let mask = MaskStructure.degrees(input: [1, 2, 3, 4], output: [1, 2, 3, 1, 4], strict: false)
        try check([(x.maskedDense(w, mask: mask) + Tensor.input("b", [5])).relu()], groups: 1)
        try check([x.matmul(w.matrixTransposed()).softmax().logSumExp(axes: [0])])
        let q = Tensor.input("q", [.batch, 2, 3, 4])
        try check([q.matmul(q.matrixTransposed()).softmax().matmul(q)])
    }

    @Test func convolutions() throws {
        let x = Tensor.input("x", [.batch, 4, 5, 6])
        let w = Tensor.input("w", [6, 2, 3, 2])
        let b = Tensor.input("b", [6, 1, 1])
        let y = x.convolution(w, stride: [2, 1], padding: [(1, 1), (1, -1)], dilation: [1, 2], groups: 2)
        try check([(y + b).relu() * 2], groups: 1)
        // Gradients take what is behind them, and read their operands through views.
        let flipped = x.flipped(axes: [2]).convolution(w.transposed([0, 1, 3, 2]), groups: 2)
        let grads = try gradients(of: ((y + b).tanh().sum() + flipped.squared().sum()), with: [x, w])
        try check(grads)
        let mask = ConvolutionMask.causal(.b, kernel: [3, 2], outputs: 6, inputs: 4, channelGroups: 2)
        let v = Tensor.input("v", [6, 4, 3, 2])
        let z = x.convolution(v, padding: [(2, 1), (0, 1)], mask: mask)
        try check(try gradients(of: z.squared().sum(), with: [x, v]) + [z])
        try check([
            z.transposedConvolution(v, stride: [2, 3], padding: [(1, 0), (0, 2)], outputPadding: [1, 2], mask: mask)
        ])
        let line = Tensor.input("line", [.batch, 4, 9])
        try check(
            try gradients(
                of: line.convolution(.input("k", [3, 4, 2]), padding: [(2, 0)], dilation: [2]).squared().sum(),
                with: [line]))
    }

    @Test func concatenationsAreWrittenInParts() throws {
        let x = Tensor.input("x", [.batch, 4, 6])
        try check([.concatenate([x.tanh(), x.sliced(axis: 2, from: 0, count: 2).exp()], axis: 2)], groups: 2)
        // Read elsewhere, handed back, or taken twice: a part is a value of its own.
        let t = x.tanh()
        try check([.concatenate([t, t], axis: 1), .concatenate([x.sigmoid(), t], axis: 2) * 2])
        try check([t, .concatenate([t, x], axis: 0 + 1)])
        let sums = Tensor.concatenate(
            [x.sum(axes: [2]), x.matmul(.input("w", [1, 6, 1])).reshaped([.batch, 4])], axis: 1)
        try check([sums, sums.exp()])
        // The gradients of three slices lie behind one another.
        let parts = [(0, 2), (2, 1), (3, 3)].map { x.tanh().sliced(axis: 2, from: $0.0, count: $0.1) }
        try check(
            try gradients(of: (parts[0].exp().sum() + parts[1].sigmoid().sum() + parts[2].squared().sum()), with: [x]))
    }

    @Test func concatenationsAreReadInParts() throws {
        let x = Tensor.input("x", [.batch, 4, 6])
        let w = Tensor.input("w", [6, 6])
        let t = x.matmul(w)
        // What a product makes lies in the concatenation, where others read it, through views too.
        let whole = Tensor.concatenate([x.sliced(axis: 2, from: 0, count: 1).exp(), t], axis: 2)
        try check([whole, t.sum(axes: [1])], groups: 3)
        try check([whole, t.sliced(axis: 2, from: 1, count: 3).matmul(.input("v", [3, 2]))], groups: 3)
        try check([whole, t.transposed([0, 2, 1]).flipped(axes: [2]).matmul(.input("u", [4, 2]))], groups: 3)
        try check([whole, t.reshaped([.batch, 4, 2, 3]).sum(axes: [3])], groups: 3)
        // Rows that lie apart are not one row; then the part is copied as before.
        try check([whole, t.reshaped([.batch, 24]).matmul(.input("z", [24, 2]))], groups: 4)
        let above = Tensor.concatenate([x.sliced(axis: 1, from: 0, count: 1).exp(), t], axis: 1)
        try check([above, t.reshaped([.batch, 24]).matmul(.input("z", [24, 2]))], groups: 3)
        // A group does not read what it writes; nor does the concatenation itself.
        try check([.concatenate([t, t.matmul(w)], axis: 1)], groups: 3)
        try check([.concatenate([t, t.flipped(axes: [2])], axis: 1)])
        // A chain of layers, all of whose results are concatenated.
        var (h, features) = (x, [Tensor]())
        for _ in 0..<3 {
            let y = h.matmul(w).tanh()
            features.append(y)
            h = h + y.matmul(w)
        }
        try check([Tensor.concatenate(features, axis: 1).sum(axes: [2]) + 1], groups: 6)
    }

    @Test func trainingStepUpdatesInPlace() throws {
        let x = Tensor.input("x", [.batch, 4])
        let masks = [
            MaskStructure.degrees(input: [1, 2, 3, 4], output: [1, 2, 3, 1, 3], strict: false),
            .degrees(input: [1, 2, 3, 1, 3], output: [1, 2, 3, 4], strict: true),
        ]
        let weights = [Tensor.state("w0", [5, 4]), .state("w1", [4, 5])]
        let biases = [Tensor.state("b0", [5]), .state("b1", [4])]
        let h = (x.maskedDense(weights[0], mask: masks[0]) + biases[0]).relu()
        let logits = h.maskedDense(weights[1], mask: masks[1]) + biases[1]
        let loss = (logits.softplus() - x * logits).sum(axes: [1]).mean()
        let parameters = weights + biases
        let grads = try gradients(of: loss, with: parameters)
        var updates: [StateUpdate] = []
        var maskedStates: [Tensor: WeightMask] = [:]
        for (index, (p, g)) in zip(parameters, grads).enumerated() {
            let (m, v) = (Tensor.state("m\(index)", p.shape), Tensor.state("v\(index)", p.shape))
            let (m1, v1) = (m * 0.9 + g * 0.1, v.absolute() * 0.99 + g * g * 0.01)
            updates += [StateUpdate(m, m1), StateUpdate(v, v1), StateUpdate(p, p - m1 * 0.01 / (v1.sqrt() + 1e-8))]
            if index < 2 { for t in [m, v, p] { maskedStates[t] = .dense(masks[index]) } }
        }
        try check([loss], updates: updates, maskedStates: maskedStates)
        let schedule = try compile([loss], updates: updates, maskedStates: maskedStates)
        // Two layers forward, the loss in two reductions, two weight gradients, one input gradient, two bias gradients: neither
        // the optimizer nor the scalar 1 / batch adds a group.
        #expect(schedule.groups.count == 9, "\(schedule.groups.map(\.label))")
        let skipping = schedule.groups.filter {
            ($0.kind as? ProductGroup)?.mask?.deadOutputsStayZero == true
        }
        #expect(skipping.count == 2)
    }

    @Test func countedTensorsAreComputedWhereTheyAreRead() throws {
        let x = Tensor.input("x", [.batch, 4])
        let ramp = Tensor.iota([4, 4], axis: 1).cast(to: .float32) * 0.5
        try check([x.matmul(ramp)])
        try check([ramp.transposed([1, 0]).sum(axes: [0]) + 1, ramp], groups: 2)
        try check([x * Tensor.iota([.batch], axis: 0).cast(to: .float32).reshaped([.batch, 1])], groups: 1)
    }

    /// The gradient of a tanh wants `1 - y * y`, which every reader of `y` can make for itself.
    @Test func cheapFunctionsAreComputedByTheirReaders() throws {
        let x = Tensor.input("x", [.batch, 4])
        let w = Tensor.input("w", [4, 4])
        let y = x.matmul(w).tanh()
        let slope = 1 - y * y
        let z = y.matmul(w)
        let outputs = [(z + y) * slope, z.matmul(w) * slope - y]
        try check(outputs)
        func stored(_ outputs: [Tensor]) throws -> Int {
            let first = try compile(outputs).groups.first { $0.label.contains("tanh") }
            guard let product = first?.kind as? ProductGroup else { return 0 }
            return product.outputs.count
        }
        #expect(try stored(outputs) == 1)
        // Handed back, or read by a product or through a view, it has to lie in memory.
        for other in [[slope], [slope.matmul(w)], [slope.flipped(axes: [1]).tanh()]] {
            try check(outputs + other)
            #expect(try stored(outputs + other) == 2)
        }
        // So has what lies on the way to it, if that is handed back: it is not the readers' alone to compute.
        let square = y * y
        let behind = 1 - square
        try check([(z + y) * behind, z.matmul(w) * behind - y, square])
        // Where `y` is not at hand it would have to be read in its place.
        #expect(try stored([y.matmul(w), x * slope]) == 2)
        try check([y.matmul(w), x * slope])
    }

    /// The transpose of a product is written as a product, row by row; one that is read elsewhere as well is not made twice.
    @Test func transposedProductsAreProducts() throws {
        let x = Tensor.input("x", [.batch, 4])
        let w = Tensor.state("w", [5, 4])
        let y = x.matmul(w.matrixTransposed())
        let gradient = try gradients(of: (y * y).sum(), with: [w])[0]
        try check([], updates: [StateUpdate(w, w - 0.1 * gradient)], groups: 2)
        let product = Tensor.input("a", [2, 3, 4]).matmul(.input("b", [2, 4, 5]))
        try check([product.matrixTransposed() * 2], groups: 1)
        try check([product.matrixTransposed() * 2, product], groups: 2)
        try check([product.transposed([1, 0, 2]) * 2])
        // A reshape that changes nothing is no other reader's product.
        try check([product.reshaped([2, 3, 5]).matrixTransposed() * 2, product], groups: 2)
    }

    /// A group takes no more than a device does, however many cheap functions its readers want.
    @Test func recomputingLeavesRoom() throws {
        let x = Tensor.input("x", [.batch, 4])
        let w = Tensor.input("w", [4, 4])
        let y = x.matmul(w).tanh()
        let z = y.matmul(w)
        let many = (1...24).map { (k: Int) -> Tensor in
            let factor = Double(k)
            return 1 - y * y * factor
        }
        let outputs = [many.reduce(z) { $0 * $1 } + y, many.reduce(z.matmul(w)) { $0 + $1 } * y]
        try check(outputs)
        for group in try compile(outputs).groups {
            let program: Program? =
                switch group.kind {
                case let g as ElementwiseGroup: g.program
                case let g as ProductGroup: g.epilogue
                default: nil
                }
            if let program { #expect(program.instructions.count <= Cluster.limit.nodes + 4, "\(group.label)") }
        }
    }

    /// Pieces that only a concatenation reads are written to their place in it, and the gradients of slices are put side by
    /// side: a coupling moves each element once.
    @Test func piecesAreWrittenInPlace() throws {
        let x = Tensor.input("x", [.batch, 6, 2])
        let kept = x.sliced(axis: 1, from: 0, count: 3)
        let moved = (x.sliced(axis: 1, from: 3, count: 3) * 2 + kept).tanh()
        // The kept half is copied, the other one written straight.
        try check([.concatenate([kept, moved], axis: 1)], groups: 2)
        // Read elsewhere, handed back, or put in twice, it keeps memory of its own.
        try check([.concatenate([kept, moved], axis: 1), moved])
        try check([.concatenate([moved, moved], axis: 1)])
        // A piece of a concatenation that is padded too is moved there from the concatenation.
        try check([
            .concatenate([kept, moved], axis: 1),
            moved.padded(low: [0, 0, 1], high: [0, 1, 0]).matmul(.input("p", [3, 2])),
        ])
        let frames = Tensor.input("frames", [.batch, 1, 6])
        let marked = Tensor.concatenate([frames, Tensor.scalar(1).broadcast(to: frames.shape)], axis: 1)
        let before = marked.sliced(axis: 2, from: 0, count: 4).padded(low: [0, 0, 2], high: [0, 0, 0])
        let halves = Tensor.input("v", [1, 2, 2]).matmul(before)
        let mean = halves.sliced(axis: 1, from: 0, count: 1) + before.sliced(axis: 1, from: 0, count: 1)
        let scaled = (frames - mean) * halves.sliced(axis: 1, from: 1, count: 1).exp()
        try check(try gradients(of: scaled.squared().sum(), with: [frames]))
        try check([.concatenate([moved, kept], axis: 1), moved.matmul(moved.matrixTransposed())])
        let thirds = (0..<3).map { x.sliced(axis: 1, from: 2 * $0, count: 2) }
        let loss = (thirds[0].exp() * thirds[1] * thirds[2]).sum()
        let gradient = try gradients(of: loss, with: [x])[0]
        try check([gradient])
        let labels = try compile([gradient]).groups.map(\.label)
        #expect(!labels.contains { $0.hasPrefix("pad") }, "\(labels)")
        // A copy that was given memory after a view of it was made.
        let blocks = x.reshaped([.batch, 3, 2, 2, 1]).transposed([0, 1, 3, 2, 4])
        let flat = blocks.reshaped([.batch, 12])
        let back = flat.reshaped([.batch, 3, 2, 2, 1]).transposed([0, 1, 3, 2, 4]).reshaped([.batch, 6, 2])
        try check([back, flat])
    }

    @Test func statesCanBeExchanged() throws {
        let a = Tensor.state("a", [3])
        let b = Tensor.state("b", [3])
        try check([a + b], updates: [StateUpdate(a, b), StateUpdate(b, a)])
        try check([], updates: [StateUpdate(a, a + b), StateUpdate(b, a * 2)])
        // One takes over what the other held, which is written in place.
        try check([], updates: [StateUpdate(a, b.tanh()), StateUpdate(b, a)])
        try check([], updates: [StateUpdate(a, b.tanh()), StateUpdate(b, a.flipped(axes: [0]))])
        try check([a], updates: [StateUpdate(a, a + 1)])
        let reversed = a.flipped(axes: [0])
        try check([], updates: [StateUpdate(a, reversed + a)])
    }

    /// Positions that an operation needs in memory, where somebody before it counts with them.
    @Test func positionsThatAreStoredLater() throws {
        let x = Tensor.input("x", [.batch, 7])
        let positions = Tensor.iota([7], axis: 0)
        let counted = Tensor.select(positions.less(.scalar(3, .int32)), x, x.tanh()).squared()
        let w = Tensor.input("w", [7, 7])
        let masked = x.maskedDense(w, mask: .runtime(strict: true), degrees: (positions, positions))
        try check([counted, counted.sum(), masked])
    }

    /// Work that grew with the cube of the depth would not end. A sanitizer takes a minute for it.
    @Test(.timeLimit(.minutes(5))) func deepGraphsAreCompiled() throws {
        var x = Tensor.input("x", [.batch, 2])
        var total = Tensor.scalar(0).broadcast(to: [.batch])
        var states: [Tensor] = []
        for layer in 0..<512 {
            let (u, w) = (Tensor.state("u\(layer)", [2]), Tensor.state("w\(layer)", [2]))
            let h = (x * w).sum(axes: [1], keepingAxes: true).tanh()
            total = total + ((1 - h * h) * (u * w).sum() + 1).log().reshaped([.batch])
            x = x + u * h
            states += [u, w]
        }
        let slopes = try gradients(of: (x.squared().sum(axes: [1]) - total).mean(), with: states)
        _ = try compile([], updates: zip(states, slopes).map { StateUpdate($0, $0 - $1) })
    }

    @Test func planReusesMemory() throws {
        let x = Tensor.input("x", [.batch, 64])
        var y = x
        for _ in 0..<6 { y = y.matmul(.input("w", [64, 64])).tanh() }
        let schedule = try compile([y])
        #expect(MemoryPlan(schedule, batch: 10).byteCount == 2 * 64 * 10 * 4)
    }

    /// A reduction runs while what it reads is in a cache, before another product that was built earlier.
    @Test func reductionsComeBehindWhatTheyRead() throws {
        let x = Tensor.input("x", [.batch, 64])
        let a = x.matmul(.input("w", [64, 64]))
        let b = x.matmul(.input("v", [64, 64]))
        let schedule = try compile([a, b, a.sum(axes: [0])])
        #expect(schedule.groups.map { $0.label.prefix { $0 != " " } } == ["matmul", "sum", "matmul"])
    }

    /// A gradient updates its weights before those of the layers in front of it are computed.
    @Test func planForgetsUsedGradients() throws {
        let (layers, batch) = (8, 100)
        let weights = (0..<layers).map { Tensor.state("w\($0)", [64, 64]) }
        var y = Tensor.input("x", [.batch, 64])
        for w in weights { y = y.matmul(w).tanh() }
        let slopes = try gradients(of: y.squared().sum(), with: weights)
        let schedule = try compile([], updates: zip(weights, slopes).map { StateUpdate($0, $0 - 0.1 * $1) })
        // What the layers computed, and two gradients.
        #expect(MemoryPlan(schedule, batch: batch).byteCount <= (layers + 2) * 64 * batch * 4)
    }
}
