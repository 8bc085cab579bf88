import Compiler
import Graph
import Layers
import Testing

@testable import Bijectors

/// The papers' equations written out in plain double precision, against the graphs.
@Suite struct ReferenceTests {
    private func bindings(_ bijector: any Bijector, seed: UInt64 = 3) -> [String: Values] {
        var result: [String: Values] = [:]
        for (index, (name, parameter)) in bijector.namedParameters().enumerated() {
            var values = numbers(parameter.shape.reduce(1, *), seed: seed + UInt64(index)).map { Float($0 * 0.7) }
            parameter.clearDead(&values)
            result[name] = Values(shape: parameter.shape, elements: values.map { Double($0) })
        }
        return result
    }

    private func run(_ bijector: any Bijector, _ x: [[Double]]) throws -> (
        z: [[Double]], log: [Double], weights: [String: Values]
    ) {
        bijector.use(.float64)
        let weights = bindings(bijector)
        let d = x[0].count
        let input = Tensor.input("x", [.batch, Extent(d)], .float64)
        let mapped = bijector.forward(input, Context())
        var all = Dictionary(
            uniqueKeysWithValues: bijector.namedParameters().map { ($0.parameter.label, weights[$0.name]!) })
        all["x"] = Values(shape: [x.count, d], elements: x.flatMap { $0 })
        let found = try Interpreter(batch: x.count, all).run([mapped.value, mapped.logDeterminant])
        return (
            x.indices.map { Array(found[0].elements[$0 * d..<($0 + 1) * d]) }, found[1].elements, weights
        )
    }

    private func examples(_ d: Int) -> [[Double]] {
        (0..<6).map { row in numbers(d, seed: UInt64(row + 40)).map { $0 * 2 } }
    }

    /// A masked network of one hidden layer, unit by unit.
    private func network(_ x: [Double], _ weights: [String: Values], _ prefix: String, outputs: Int) -> [Double] {
        func layer(_ input: [Double], _ index: Int, _ count: Int) -> [Double] {
            let w = weights["\(prefix).layers.\(index).weight"]!.elements
            let b = weights["\(prefix).layers.\(index).bias"]!.elements
            return (0..<count).map { o -> Double in
                var sum: Double = b[o]
                for i in input.indices { sum += w[o * input.count + i] * input[i] }
                return sum
            }
        }
        let hidden = weights["\(prefix).layers.0.bias"]!.elements.count
        return layer(layer(x, 0, hidden).map { Math.tanh($0) }, 1, outputs)
    }

    private func sigmoid(_ x: Double) -> Double { 1 / (1 + Math.exp(-x)) }

    /// Kingma et al. 2016, algorithm 1 with the gated update of equation 14: sigma = sigmoid(s + 2), z' = sigma z + (1 - sigma) m.
    @Test func gatedInverseAutoregressiveUpdate() throws {
        let d = 4
        let flow = Autoregressive(
            .natural(d), AffineTransformer(.gated, bound: .sigmoid(shift: 2)), hidden: [7], activation: .tanh)
        let x = examples(d)
        let (z, log, weights) = try run(flow, x)
        for (row, input) in x.enumerated() {
            let outputs = network(input, weights, "conditioner", outputs: 2 * d)
            var sum = 0.0
            for i in 0..<d {
                let sigma = sigmoid(outputs[d + i] + 2)
                sum += Math.log(sigma)
                let expected: Double = sigma * input[i] + (1 - sigma) * outputs[i]
                #expect(abs(z[row][i] - expected) < 1e-12)
            }
            #expect(abs(log[row] - sum) < 1e-12)
        }
    }

    /// Huang et al. 2018, equation 8: x' = logit(w . sigmoid(a x + b)), layer upon layer; derivatives by the chain rule.
    @Test func deepSigmoidalFlow() throws {
        let (d, units, layers) = (3, 4, 2)
        let flow = Autoregressive(
            .natural(d), DeepSigmoidTransformer(units: units, layers: layers), hidden: [7], activation: .tanh)
        let x = examples(d)
        let (z, log, weights) = try run(flow, x)
        for (row, input) in x.enumerated() {
            let outputs = network(input, weights, "conditioner", outputs: 3 * units * layers * d)
            var sum = 0.0
            for i in 0..<d {
                var (value, slope) = (input[i], 1.0)
                for layer in 0..<layers {
                    func raw(_ kind: Int, _ unit: Int) -> Double {
                        outputs[((layer * 3 + kind) * units + unit) * d + i]
                    }
                    let a = (0..<units).map { Math.log(1 + Math.exp(raw(0, $0))) + 0.001 }
                    let exponentials = (0..<units).map { Math.exp(raw(2, $0)) }
                    let norm = exponentials.reduce(0) { $0 + $1 }
                    let s = (0..<units).map { sigmoid(a[$0] * value + raw(1, $0)) }
                    var (mix, rise) = (0.0, 0.0)
                    for unit in 0..<units {
                        let share = exponentials[unit] / norm * s[unit]
                        mix += share
                        rise += share * (1 - s[unit]) * a[unit]
                    }
                    value = Math.log(mix / (1 - mix))
                    slope *= rise / (mix * (1 - mix))
                }
                sum += Math.log(slope)
                #expect(abs(z[row][i] - value) < 1e-9 * max(1, abs(value)))
            }
            #expect(abs(log[row] - sum) < 1e-9 * max(1, abs(sum)))
        }
    }

    /// Over a logistic base the conditionals are mixtures of Gaussians (Papamakarios et al. 2017, section 4.1: MADE MoG): the density
    /// of the flow is the product of theirs, also 12 deviations out.
    @Test func mixturesOfGaussiansAsConditionals() throws {
        let (d, count) = (4, 3)
        let flow = Autoregressive(
            .natural(d), MixtureCDFTransformer(.gaussian, components: count), hidden: [7], activation: .tanh)
        let x = examples(d) + [[12, -12, 0, 5], [-30, 30, 1, -1]]
        let (z, log, weights) = try run(flow, x)
        for (row, input) in x.enumerated() {
            let outputs = network(input, weights, "conditioner", outputs: 3 * count * d)
            func raw(_ kind: Int, _ k: Int, _ i: Int) -> Double { outputs[(kind * count + k) * d + i] }
            var expected = 0.0
            for i in 0..<d {
                let norm = Math.log((0..<count).reduce(0) { $0 + Math.exp(raw(0, $1, i)) })
                let terms = (0..<count).map { k -> Double in
                    let scale = 7 * Math.tanh(raw(2, k, i) / 7)
                    let u = (input[i] - raw(1, k, i)) * Math.exp(-scale)
                    return raw(0, k, i) - norm - u * u / 2 - scale - Math.log(2 * Double.pi) / 2
                }
                let top = terms.max()!
                expected += top + Math.log(terms.reduce(0) { $0 + Math.exp($1 - top) })
            }
            let base = z[row].reduce(0) { $0 - abs($1) - 2 * Math.log1p(Math.exp(-abs($1))) }
            #expect(abs(base + log[row] - expected) < 1e-9 * max(1, abs(expected)), "\(base + log[row]), \(expected)")
        }
    }

    /// Van den Berg et al. 2018, equation 13: z' = z + Q R tanh(S transposed(Q) z + b); the determinant by elimination of the
    /// whole Jacobian I + Q R diag(h') S transposed(Q).
    @Test(arguments: ["orthogonal", "householder", "triangular"]) func sylvester(kind: String) throws {
        let d = 4
        let columns = kind == "orthogonal" ? 2 : d
        let flow = Sylvester(
            d,
            kind == "orthogonal"
                ? .orthogonal(columns: 2)
                : kind == "householder" ? .householder(reflections: 3) : .triangular(reversed: true))
        let x = examples(d)
        let (z, log, weights) = try run(flow, x)
        // Q, `[d][columns]`.
        var q = (0..<d).map { i in (0..<columns).map { $0 == i ? 1.0 : 0.0 } }
        switch kind {
        case "triangular": q = q.reversed()
        case "householder":
            let all = weights["basis.free"]!.elements
            // transposed(Q) is the product of the reflections, the first applied first.
            for reflection in (0..<3).reversed() {
                let v = Array(all[reflection * d..<(reflection + 1) * d])
                let norm = v.reduce(0) { $0 + $1 * $1 }
                for j in 0..<d {
                    let dot = (0..<d).reduce(0) { $0 + v[$1] * q[$1][j] }
                    for i in 0..<d { q[i][j] -= 2 * v[i] * dot / norm }
                }
            }
        default:
            let all = weights["basis.free"]!.elements
            let norm = all.reduce(0) { $0 + $1 * $1 }.squareRoot()
            q = (0..<d).map { i in [all[i * 2] / norm, all[i * 2 + 1] / norm] }
            for _ in 0..<60 {
                var gram = [[0.0, 0.0], [0.0, 0.0]]
                for row in q { for a in 0..<2 { for b in 0..<2 { gram[a][b] += row[a] * row[b] } } }
                q = q.map { row in
                    (0..<2).map { c in
                        let mixed: Double = row[0] * gram[0][c] + row[1] * gram[1][c]
                        return 1.5 * row[c] - 0.5 * mixed
                    }
                }
            }
        }
        func triangle(_ name: String) -> [[Double]] {
            let raw = weights["\(name).free"]!.elements
            var result = [[Double]](repeating: [Double](repeating: 0, count: columns), count: columns)
            for i in 0..<columns {
                result[i][i] = Math.tanh(raw[i * columns + i])
                for j in i + 1..<max(columns, i + 1) { result[i][j] = raw[i * columns + j] }
            }
            return result
        }
        let (r, s, b) = (triangle("outer"), triangle("inner"), weights["offset.free"]!.elements)
        for (row, input) in x.enumerated() {
            let projected: [Double] = (0..<columns).map { c in (0..<d).reduce(0.0) { $0 + q[$1][c] * input[$1] } }
            let h: [Double] = (0..<columns).map { c in
                Math.tanh((0..<columns).reduce(b[c]) { $0 + s[c][$1] * projected[$1] })
            }
            let push: [Double] = (0..<columns).map { c in (0..<columns).reduce(0.0) { $0 + r[c][$1] * h[$1] } }
            for i in 0..<d {
                let value = (0..<columns).reduce(input[i]) { $0 + q[i][$1] * push[$1] }
                #expect(abs(z[row][i] - value) < 1e-11, "\(kind)")
            }
            var jacobian = [Double](repeating: 0, count: d * d)
            for i in 0..<d {
                for j in 0..<d {
                    var sum = i == j ? 1.0 : 0
                    for a in 0..<columns {
                        for c in 0..<columns {
                            let inner: Double = (0..<columns).reduce(0.0) { $0 + s[c][$1] * q[j][$1] }
                            sum += q[i][a] * r[a][c] * (1 - h[c] * h[c]) * inner
                        }
                    }
                    jacobian[i * d + j] = sum
                }
            }
            _ = MatrixOperation.decompose(&jacobian, d)
            let determinant = (0..<d).reduce(0.0) { $0 + Math.log(abs(jacobian[$1 * d + $1])) }
            #expect(abs(log[row] - determinant) < 1e-9, "\(kind)")
        }
    }
}
