import Testing

@testable import Graph

/// The multiply-adds that operations say they cost, against counts made one weight and one position at a time.
@Suite struct WorkTests {
    private func total(_ outputs: Tensor..., batch: Int = 1) -> Work {
        contractions(of: outputs, batch: batch).reduce(Work(0)) { $0 + $1.work }
    }

    /// In all three roles a live weight meets every row.
    @Test func maskedProducts() throws {
        let (input, output): ([Int32], [Int32]) = ([3, 1, 5, 2, 4], [1, 1, 2, 3, 3, 4, 4])
        let bits = BitMatrix(rows: 7, columns: 5) { ($0 * 3 + $1) % 4 == 1 }
        let masks: [MaskStructure] = [
            .degrees(input: input, output: output, strict: false), .degrees(input: input, output: output, strict: true),
            .matrix(bits),
        ]
        for mask in masks {
            let live = (0..<35).count { mask.isLive(output: $0 / 5, input: $0 % 5) == true }
            #expect(mask.liveCount == live)
            let (x, w) = (Tensor.input("x", [.batch, 5]), Tensor.state("w", [7, 5]))
            let y = x.maskedDense(w, mask: mask)
            let found = contractions(of: [y], batch: 3)
            #expect(found.map(\.work) == [Work(dense: 3 * 35, live: 3 * live)])
            #expect(found[0].weight == w && found[0].shape == [7, 5] && found[0].name == "w")
            let grads = try gradients(of: y.squared().sum(), with: [x, w])
            for gradient in grads {
                // The forward product, and one for the gradient.
                #expect(total(gradient, batch: 3) == Work(dense: 2 * 3 * 35, live: 2 * 3 * live))
            }
        }
        // Nobody knows yet what a mask of the running program leaves.
        let (x, degrees) = (Tensor.input("x", [.batch, 5]), Tensor.input("d", [5], .int32))
        let y = x.maskedDense(.state("w", [5, 5]), mask: .runtime(strict: true), degrees: (degrees, degrees))
        let found = contractions(of: [y])
        #expect(found.map(\.work) == [Work(25)])
        #expect(found[0].degrees == nil && found[0].weight?.placeholder?.label == "w")
    }

    @Test func degreesAreListed() throws {
        let degrees: [[Int32]] = [[1, 2, 3], [1, 1, 2, 2]]
        let x = Tensor.input("x", [.batch, 3])
        let h = x.maskedDense(
            .state("first.weight", [4, 3]), mask: .degrees(input: degrees[0], output: degrees[1], strict: false)
        ).relu()
        let y = h.maskedDense(
            .state("second.weight", [3, 4]), mask: .degrees(input: degrees[1], output: degrees[0], strict: true))
        let found = contractions(of: [y])
        #expect(found.map(\.name) == ["first", "second"])
        #expect(found.map(\.live) == [1 + 1 + 2 + 2, 0 + 2 + 4] && found.map(\.dense) == [12, 12])
        #expect(found[1].degrees == .init(input: degrees[1], output: degrees[0], isStrict: true))
        #expect(found[0].degrees?.isStrict == false)
        #expect(found[0].location?.description.hasPrefix("WorkTests.swift") == true)
    }

    /// A product counts by its extents, whichever side the weight is on, broadcast or not.
    @Test func products() throws {
        let x = Tensor.input("x", [.batch, 4])
        let dense = x.matmul(Tensor.state("dense.weight", [6, 4]).matrixTransposed())
        var found = contractions(of: [dense], batch: 5)
        #expect(found.map(\.name) == ["dense"] && found[0].shape == [6, 4] && found[0].work == Work(5 * 24))
        // A 1x1 convolution as a matrix that meets every position.
        let image = Tensor.input("image", [.batch, 3, 8])
        let matrix = Tensor.state("matrix", [3, 3])
        found = contractions(of: [matrix.matmul(image)])
        #expect(found.map(\.name) == ["matrix"] && found[0].shape == [3, 3] && found[0].work == Work(9 * 8))
        // What is computed from weights alone is done once for all examples, and is not listed.
        let solved = matrix.inverse().matmul(matrix).matmul(image)
        found = contractions(of: [solved])
        #expect(found.map(\.work) == [Work(9 * 8)] && found[0].weight == matrix)
        // A weight that is made of several parameters has the name of the largest.
        let normalized = Tensor.state("v", [6, 4]) * Tensor.state("gain", [6, 1])
        #expect(
            contractions(of: [x.matmul(normalized.matrixTransposed())]).map { $0.weight?.placeholder?.label } == ["v"])
        // Two parameters side by side: the extents are those of the product.
        let joined = Tensor.concatenate([Tensor.state("a", [6, 4]), .state("b", [2, 4])], axis: 0)
        found = contractions(of: [x.matmul(joined.matrixTransposed())])
        #expect(found.map(\.name) == ["a"] && found[0].shape == [4, 8] && found[0].work == Work(32))
        // Numbers that are part of the program are no parameter.
        let fixed = Tensor.constant(HostArray((0..<8).map { Float($0) }, shape: [4, 2]))
        found = contractions(of: [x.matmul(fixed)])
        #expect(found.map(\.name) == ["matmul"] && found[0].weight == nil && found[0].shape == [4, 2])
    }

    /// Products of examples with examples have no weight; those that one line makes are one entry.
    @Test func attention() throws {
        let x = Tensor.input("x", [.batch, 6, 4])
        let queries = x.matmul(.state("q", [4, 4]))
        let blocks = [0, 3].map { start in
            queries.sliced(axis: 1, from: start, count: 3).matmul(
                x.sliced(axis: 1, from: 0, count: start + 3).matrixTransposed())
        }
        let found = contractions(of: blocks)
        #expect(found.map(\.name) == ["q", "matmul"])
        #expect(found[1].weight == nil && found[1].uses == 2)
        #expect(found.map(\.work) == [Work(6 * 16), Work(3 * 3 * 4 + 3 * 6 * 4)])
    }

    /// One weight at two places is one entry, and what is applied twice to the same is computed once.
    @Test func sharedWeights() throws {
        let x = Tensor.input("x", [.batch, 4])
        func layer(_ x: Tensor) -> Tensor { x.matmul(.state("w", [4, 4])).tanh() }
        let found = contractions(of: [layer(layer(x)) + x.matmul(.state("u", [4, 4])) + layer(x)])
        #expect(found.map(\.name) == ["w", "u"])
        #expect(found.map(\.uses) == [2, 1] && found.map(\.work) == [Work(32), Work(16)])
    }

    /// Every live weight at every position of the output, padding included.
    @Test(arguments: ConvolutionTests.cases) func convolutions(_ test: ConvolutionTests.Case) throws {
        let (x, w) = (Tensor.input("x", test.x), Tensor.state("w", test.weight))
        let y = test.build(x, w)
        let convolution = try #require(y.node.operation as? Convolution)
        let g = try convolution.geometry(y.node.inputs.map(\.type))
        // Positions of the side that a stride makes small.
        let small = (convolution.role == .forward ? y : x).shape.dimensions.dropFirst(2).reduce(1) {
            $0 * $1.coefficient
        }
        var live = 0
        for o in 0..<g.outputChannels {
            for i in 0..<g.inputsPerGroup {
                for tap in 0..<g.tapCount where convolution.mask?.isLive(output: o, input: i, tap: tap) != false {
                    live += small
                }
            }
        }
        let weights = test.weight.dimensions.reduce(1) { $0 * $1.coefficient }
        let expected = Work(dense: weights * small, live: live)
        let found = contractions(of: [y], batch: 2)
        #expect(found.map(\.work) == [expected * 2])
        #expect(found[0].weight == w && found[0].shape == test.weight.dimensions.map(\.coefficient))
        for gradient in try gradients(of: y.squared().sum(), with: [x, w]) {
            #expect(total(gradient, batch: 2) == expected * 4)
        }
    }

    /// What padding takes away from a convolution without a mask: its products are those of the pairs that its meaning visits.
    @Test func convolutionsWithoutPaddingVisitEveryPair() throws {
        let (x, w) = (Tensor.input("x", [.batch, 4, 7, 5]), Tensor.state("w", [6, 2, 3, 2]))
        let y = x.convolution(w, stride: [2, 1], groups: 2)
        let convolution = try #require(y.node.operation as? Convolution)
        let spans = try convolution.geometry(y.node.inputs.map(\.type)).spans()
        let visited = spans.reduce(0) { $0 + $1.reduce(0) { $0 + $1.count } } * 6 * 2
        #expect(total(y) == Work(visited))
    }

    /// A scan's body once for each step; what all steps share once.
    @Test func recurrent() throws {
        let x = Tensor.input("x", [.batch, 5])
        let steps = x.transposed([1, 0]).reshaped([5, .batch, 1])
        func network(_ start: Tensor) -> [Tensor] {
            Tensor.scan([start], over: [steps]) { carries, slices in
                let (w, u) = (Tensor.state("w", [1, 4]), Tensor.state("u", [4, 4]))
                let shared = u.matmul(u)
                let h = (carries[0].matmul(shared) + slices[0].matmul(w)).tanh()
                return ([h], [h.matmul(.state("v", [4, 2]))])
            }.outputs
        }
        for start in [
            Tensor.scalar(0.5).broadcast(to: [.batch, 4]), Tensor.state("h0", [1, 4]).broadcast(to: [.batch, 4]),
        ] {
            let found = contractions(of: network(start), batch: 2)
            #expect(found.map(\.name) == ["u", "w", "v"])
            #expect(found.map(\.work) == [16, 4, 8].map { Work(2 * 5 * $0) })
            #expect(found.map(\.shape) == [[4, 4], [1, 4], [4, 2]])
            let node = network(start)[0].node
            // The operation itself says the same.
            #expect(
                node.operation.multiplyAdds(node.inputs.map(\.type), node.types, batch: 2) == Work(2 * 5 * (16 + 4 + 8))
            )
            let unrolled = Graph.unrolled(network(start))
            #expect(contractions(of: unrolled, batch: 2).map(\.work).reduce(Work(0), +) == Work(2 * 5 * (16 + 4 + 8)))
        }
        // The way back: for each product two more, but that nobody asks for the gradient of x.
        let loss = network(Tensor.scalar(0.5).broadcast(to: [.batch, 4]))[0].squared().sum()
        let parameters = topologicalOrder([loss]).map { Tensor($0) }.filter { $0.placeholder?.role == .state }
        #expect(parameters.count == 3)
        let all = try gradients(of: loss, with: parameters)
        let forward = 5 * (16 + 4 + 8)
        #expect(total(loss) == Work(forward))
        let back = contractions(of: all).reduce(Work(0)) { $0 + $1.work }
        // The product of u with itself is of no example; the two that carry the gradient back through it are.
        #expect(back == Work(forward + 5 * (2 * 16 + 4 + 2 * 8) + 2 * 64))
    }

    /// Of a loop whose end only the running program knows, one step.
    @Test func iterations() throws {
        let x = Tensor.input("x", [.batch, 3])
        let (carries, _) = Tensor.iterate(
            [x], limit: 50, while: { $0[0].sum().less(100) },
            { [$0[0].matmul(.state("w", [3, 3])) + x.matmul(.state("u", [3, 3]))] })
        let found = contractions(of: carries)
        #expect(found.map(\.name) == ["u", "w"] && found.map(\.work) == [Work(9), Work(9)])
    }

    /// A weight that is the same for all examples may be a state of one step among many.
    @Test func stackedWeights() throws {
        let x = Tensor.input("x", [.batch, 3])
        let layers = Tensor.state("layers", [4, 3, 3])
        let (carries, _) = Tensor.scan([x], over: [layers]) { ([$0[0].matmul($1[0])], []) }
        let found = contractions(of: carries)
        #expect(found.map(\.name) == ["layers"] && found[0].shape == [3, 3] && found[0].work == Work(4 * 9))
    }

    /// Against the loops of their meanings, with a division for every diagonal element.
    @Test func linearAlgebra() throws {
        for n in 1...5 {
            let a = Tensor.input("a", [.batch, Extent(n), Extent(n)])
            var (lu, solve) = (0, 0)
            for k in 0..<n {
                for _ in k + 1..<max(n, k + 1) { lu += 1 + (n - k - 1) }
                solve += k + 1
            }
            #expect(total(a.lu().packed, batch: 2) == Work(2 * lu))
            #expect(total(a.logAbsoluteDeterminant()) == Work(lu))
            // Forward without divisions, and back.
            #expect(total(a.inverse()) == Work(lu + n * (solve - n) + n * solve))
            let b = Tensor.input("b", [.batch, Extent(n), 3])
            #expect(
                total(a.triangularSolve(b, isLower: true), batch: 2) == Work(dense: 2 * 3 * n * n, live: 2 * 3 * solve))
        }
    }

    /// A graph without a batch axis is one of examples all the same.
    @Test func withoutBatch() throws {
        let found = contractions(of: [Tensor.input("x", [2, 3]).matmul(.state("w", [3, 4]))])
        #expect(found.map { $0.weight?.placeholder?.label } == ["w"] && found.map(\.work) == [Work(24)])
        // Where there is one, what else is fed (a step, a temperature) makes no example of a weight.
        let temperature = Tensor.input("temperature", .scalar)
        let weight = Tensor.state("w", [3, 4]) * temperature
        #expect(
            contractions(of: [Tensor.input("x", [.batch, 3]).matmul(weight)]).map { $0.weight?.placeholder?.label } == [
                "w"
            ])
    }

    /// A mistake in a graph is somebody else's to report.
    @Test func invalid() {
        #expect(contractions(of: [Tensor.input("x", [.batch, 3]).matmul(.state("w", [4, 4]))]).isEmpty)
    }

    /// NADE's running sums, and its logits, are products with a parameter in other words; a norm's sum of squares is none.
    @Test func sumsOfProducts() {
        let x = Tensor.input("x", [.batch, 6])
        let (w, v) = (Tensor.state("w", [4, 6]), Tensor.state("v", [4, 6]))
        let sums = (x.reshaped([.batch, 1, 6]) * w).cumulativeSum(axis: 2, exclusive: true)
        let logits = (sums.sigmoid() * v).sum(axes: [1])
        let found = contractions(of: [logits])
        #expect(found.map { $0.weight?.placeholder?.label } == ["w", "v"])
        #expect(found.map(\.work) == [Work(24), Work(24)])
        #expect(contractions(of: [x.squared().sum(axes: [1]), (x * 3).sum(axes: [1])]).isEmpty)
    }
}

extension Contraction {
    /// The weight's label without `.weight`; the operation's name where there is no weight.
    fileprivate var name: String {
        guard let label = weight?.placeholder?.label else { return operation }
        return label.hasSuffix(".weight") ? String(label.dropLast(7)) : label
    }
}
