import Testing

@testable import Graph

@Suite struct ConvolutionTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let name: String
        let x: Shape
        let weight: Shape
        let build: @Sendable (Tensor, Tensor) -> Tensor
        var testDescription: String { name }
    }

    static let cases: [Case] = [
        Case(name: "causal 1d", x: [.batch, 2, 9], weight: [3, 2, 3]) {
            $0.convolution($1, padding: [(4, 0)], dilation: [2])
        },
        Case(name: "strided, grouped", x: [.batch, 4, 5, 4], weight: [2, 2, 3, 2]) {
            $0.convolution($1, stride: [2, 1], padding: [(1, 1), (0, 1)], groups: 2)
        },
        Case(name: "mask A of colours", x: [.batch, 3, 3, 3], weight: [6, 3, 3, 3]) {
            $0.convolution(
                $1, padding: [(1, 1), (1, 1)],
                mask: .causal(.a, kernel: [3, 3], outputs: 6, inputs: 3, channelGroups: 3))
        },
        Case(name: "any channels", x: [.batch, 4, 3, 3], weight: [5, 4, 2, 2]) {
            let bits = BitMatrix(rows: 5, columns: 4) { ($0 * 7 + $1 * 3) % 4 < 2 }
            return $0.convolution($1, mask: ConvolutionMask(taps: [.channels(bits), .dead, .live, .channels(bits)]))
        },
        Case(name: "transposed", x: [.batch, 4, 3, 2], weight: [4, 1, 2, 3]) {
            $0.transposedConvolution($1, stride: [2, 2], padding: [(1, 0), (0, 1)], outputPadding: [1, 0], groups: 2)
        },
    ]

    /// The union of the numerical Jacobian's non-zeros over random draws is the structural one; levels and reach read the
    /// same relation.
    @Test(arguments: cases) func structureIsExact(_ test: Case) throws {
        let (x, w) = (Tensor.input("x", test.x), Tensor.input("w", test.weight))
        let y = test.build(x, w)
        let batch = 2
        let dependencies = try Dependencies([y], batch: batch)
        let structural = dependencies.structuralJacobian(of: y, variable: x)
        let (nx, nw) = (dependencies.count(x), dependencies.count(w))
        var numerical = BitMatrix(rows: structural.rows, columns: structural.columns)
        for draw in 0..<4 {
            let base = [
                "x": Values(shape: test.x.resolved(batch: batch), elements: numbers(nx, seed: UInt64(draw * 2 + 1))),
                "w": Values(
                    shape: test.weight.resolved(batch: batch), elements: numbers(nw, seed: UInt64(draw * 2 + 2))),
            ]
            let before = try Interpreter(batch: batch, base).run(y)
            for i in 0..<nx {
                var moved = base
                moved["x"]!.elements[i] += 0.5
                let after = try Interpreter(batch: batch, moved).run(y)
                for o in after.elements.indices where after.elements[o] != before.elements[o] { numerical[o, i] = true }
            }
        }
        #expect(numerical == structural)
        let relation = dependencies.relations(y)[0]
        for o in 0..<structural.rows {
            var read: [Int] = []
            relation.forEachSource(of: o, inputCount: nx) { read.append($0) }
            #expect(Set(read).count == read.count && Set(read) == Set((0..<nx).filter { structural[o, $0] }))
            #expect(dependencies.reach(from: y, element: o)[x] == (0..<nx).map { structural[o, $0] })
        }
        let order = (0..<Int32(nx)).map { $0 * 31 % Int32(nx) }
        let levels = dependencies.levels(of: x, order: order)[y]
        #expect(
            levels
                == (0..<structural.rows).map { o in (0..<nx).filter { structural[o, $0] }.map { order[$0] }.max() ?? -1
                })
    }

    /// Which weights matter to what, and that dead weights matter to nothing and have no gradient.
    @Test func weightsThatAreDead() throws {
        let mask = ConvolutionMask.causal(.a, kernel: [3, 3], outputs: 4, inputs: 2, channelGroups: 2)
        let (x, w) = (Tensor.input("x", [1, 2, 3, 3]), Tensor.input("w", [4, 2, 3, 3]))
        let y = x.convolution(w, padding: [(1, 1), (1, 1)], mask: mask)
        let gradient = try gradients(of: (y * y).sum(), with: [w])[0]
        let values = try Interpreter([
            "x": Values(shape: [1, 2, 3, 3], elements: numbers(18)),
            "w": Values(shape: [4, 2, 3, 3], elements: numbers(72)),
        ]).run(gradient)
        let weightMask = WeightMask.convolution(mask)
        let dead = (0..<72).map { weightMask.isDead($0, shape: [4, 2, 3, 3]) }
        #expect(values.elements.map { $0 == 0 } == dead)
        #expect(dead.filter { !$0 }.count == mask.liveCount(outputs: 4, inputs: 2))
        let reach = try Dependencies([y]).reach(from: [y])
        #expect(reach[w] == dead.map { !$0 })
        let needed = try Dependencies([gradient]).structuralJacobian(of: gradient, variable: x)
        for e in 0..<72 { #expect((0..<18).contains { needed[e, $0] } == !dead[e]) }
    }

    @Test func causalMasks() {
        let a = ConvolutionMask.causal(.a, kernel: [3, 5])
        #expect(a.liveTaps == Array(0..<7))
        #expect(ConvolutionMask.causal(.b, kernel: [3, 5]).liveTaps == Array(0..<8))
        #expect(ConvolutionMask.causal(.b, kernel: [2]).liveTaps == [0, 1])
        #expect(ConvolutionMask.causal(.a, kernel: [3, 3, 3]).liveTaps == Array(0..<13))
        // R before G before B: 6 maps of 3 groups from 3 channels.
        let rgb = ConvolutionMask.causal(.a, kernel: [1], outputs: 6, inputs: 3, channelGroups: 3)
        let live = (0..<6).map { o in (0..<3).filter { rgb.isLive(output: o, input: $0, tap: 0) } }
        #expect(live == [[], [], [0], [0], [0, 1], [0, 1]])
        let own = ConvolutionMask.causal(.b, kernel: [1], outputGroups: [2, 0], inputGroups: [0, 1, 2])
        #expect(own.isLive(output: 0, input: 2, tap: 0) && !own.isLive(output: 1, input: 1, tap: 0))
    }

    /// Levels of a deep stack of wide layers go by classes of channels.
    @Test func levelsOfADeepStack() throws {
        let x = Tensor.input("x", [.batch, 3, 28, 28])
        let first = ConvolutionMask.causal(.a, kernel: [7, 7], outputs: 120, inputs: 3, channelGroups: 3)
        let inner = ConvolutionMask.causal(.b, kernel: [3, 3], outputs: 120, inputs: 120, channelGroups: 3)
        var h = x.convolution(
            .input("w", [120, 3, 7, 7]), padding: [(3, 3), (3, 3)], mask: first)
        for _ in 0..<24 {
            h = h.relu().convolution(.input("v", [120, 120, 3, 3]), padding: [(1, 1), (1, 1)], mask: inner)
        }
        // Sub-pixels in raster order, R before G before B.
        let order = (0..<Int32(3 * 784)).map { $0 % 784 * 3 + $0 / 784 }
        let levels = try #require(try Dependencies([h]).levels(of: x, order: order)[h])
        for c in 0..<120 {
            for p in 0..<784 {
                // At the left edge no path leads to the end of the row above: the blind spot.
                let isEdge = c < 40 && p % 28 == 0 && p > 0
                #expect(Int(levels[c * 784 + p]) == (isEdge ? (p - 28 + 3) * 3 + 2 : p * 3 + c / 40 - 1))
            }
        }
    }

    @Test func refusesWhatDoesNotFit() {
        let x = Tensor.input("x", [.batch, 4, 8, 8])
        let wrong: [(Tensor, String)] = [
            (x.convolution(.input("w", [6, 3, 3, 3])), "[6, 3, 3, 3]"),
            (x.convolution(.input("w", [6, 4, 9, 3])), "lies within"),
            (x.convolution(.input("w", [6, 2, 3, 3]), groups: 3), "groups"),
            (x.convolution(.input("w", [6, 4, 3, 3]), stride: [0, 1]), "stride [0, 1]"),
            (x.convolution(.input("w", [6, 4, 3, 3]), mask: .causal(.a, kernel: [5, 5])), "25 taps"),
            (
                x.convolution(
                    .input("w", [6, 4, 3, 3]),
                    mask: .causal(.a, kernel: [3, 3], outputs: 4, inputs: 4, channelGroups: 2)), "[4, 4]"
            ),
            (x.transposedConvolution(.input("w", [4, 2, 3, 3]), stride: [2, 2], outputPadding: [2, 0]), "gives"),
        ]
        for (tensor, part) in wrong {
            #expect(tensor.error?.message.contains(part) == true, "\(tensor.error.map(\.description) ?? "no error")")
        }
    }
}
