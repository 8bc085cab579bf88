import Graph
import Layers
import Testing

@Suite struct AttentionTests {
    /// Against the equation.
    @Test func readsItselfAndEarlier() throws {
        let (batch, width, heads, positions) = (2, 8, 2, 7)
        let depth = width / heads
        let attention = CausalAttention(width, heads: heads)
        var (bound, named) = ([String: Values](), [String: Values]())
        for (name, parameter) in attention.namedParameters() {
            bound[parameter.label] = parameter.initialValue(named: name, seed: 5).values
            named[name] = bound[parameter.label]
        }
        let x = Tensor.input("x", [.batch, Extent(width), Extent(positions)])
        let elements = (0..<batch * width * positions).map { Double($0 * 37 % 23) / 7 - 1.5 }
        bound["x"] = Values(shape: [batch, width, positions], elements: elements)
        let found = try Interpreter(batch: batch, bound).run(attention(x)).elements

        /// A layer over channels, `[width, positions]` of one example.
        func layer(_ name: String, _ input: [[Double]]) -> [[Double]] {
            let (weight, bias) = (named["\(name).weight"]!.elements, named["\(name).bias"]!.elements)
            return bias.indices.map { row in
                (0..<positions).map { t in
                    input.indices.reduce(bias[row]) { $0 + weight[row * input.count + $1] * input[$1][t] }
                }
            }
        }
        for example in 0..<batch {
            let input = (0..<width).map { c in
                Array(elements[(example * width + c) * positions..<(example * width + c + 1) * positions])
            }
            let parts = layer("project", input)
            var read = [[Double]](repeating: [Double](repeating: 0, count: positions), count: width)
            for head in 0..<heads {
                let (q, k, v) = (head * depth, width + head * depth, 2 * width + head * depth)
                for t in 0..<positions {
                    let weights = (0...t).map { s -> Double in
                        let score = (0..<depth).reduce(0) { $0 + parts[q + $1][t] * parts[k + $1][s] }
                        return Math.exp(score / Double(depth).squareRoot())
                    }
                    let total: Double = weights.reduce(0) { $0 + $1 }
                    for d in 0..<depth {
                        read[q + d][t] = (0...t).reduce(0) { $0 + weights[$1] * parts[v + d][$1] } / total
                    }
                }
            }
            for (c, row) in layer("combine", read).enumerated() {
                for (t, value) in row.enumerated() {
                    #expect(abs(found[(example * width + c) * positions + t] - value) < 1e-12)
                }
            }
        }
        // Each position reads itself and the earlier ones, and no others.
        let output = attention(x)
        let relation = try Dependencies([output]).structuralJacobian(of: output, variable: x)
        for t in 0..<positions {
            for s in 0..<positions { #expect(relation[t, s] == (s <= t)) }
        }
    }

    /// What stands in padded positions of a source changes nothing: the result is that of the source without them.
    @Test func paddedSourcesAreNotRead() throws {
        let (batch, width, sourceWidth, positions) = (2, 8, 6, 5)
        let attention = CrossAttention(width, sourceWidth: sourceWidth, heads: 2)
        func numbers(_ count: Int, _ step: Int) -> [Double] { (0..<count).map { Double($0 * step % 23) / 7 - 1.5 } }
        func run(_ length: Int, counted: Bool, _ source: (_ channel: Int, _ position: Int) -> Double) throws -> [Double]
        {
            var bound: [String: Values] = [:]
            for (name, parameter) in attention.namedParameters() {
                bound[parameter.label] = parameter.initialValue(named: name, seed: 5).values
            }
            bound["x"] = Values(shape: [batch, width, positions], elements: numbers(batch * width * positions, 37))
            bound["source"] = Values(
                shape: [batch, sourceWidth, length],
                elements: (0..<batch * sourceWidth * length).map { source($0 / length, $0 % length) })
            bound["counted"] = Values(
                shape: [batch, length], elements: (0..<batch * length).map { $0 % length < 4 ? 1 : 0 })
            let result = attention(
                .input("x", [.batch, Extent(width), Extent(positions)]),
                source: .input("source", [.batch, Extent(sourceWidth), Extent(length)]),
                counted: counted ? .input("counted", [.batch, Extent(length)]) : nil)
            return try Interpreter(batch: batch, bound).run(result).elements
        }
        func source(_ channel: Int, _ position: Int) -> Double { Double((channel * 5 + position) * 11 % 17) / 5 - 1 }
        let short = try run(4, counted: false, source)
        let padded = try run(7, counted: true) { $1 < 4 ? source($0, $1) : 9 }
        #expect(zip(short, padded).allSatisfy { abs($0 - $1) < 1e-12 })
        let unpadded = try run(7, counted: false) { $1 < 4 ? source($0, $1) : 9 }
        #expect(zip(short, unpadded).contains { abs($0 - $1) > 1e-3 })
    }
}
