import Graph
import Layers
import Testing

@testable import Training

/// The direction of a step of Muon, in double precision.
@Suite struct MuonTests {
    private func step(_ rows: [[Double]], mask: MaskStructure? = nil) throws -> [[Double]] {
        let columns = rows[0].count
        let parameter = Parameter([rows.count, columns], .zeros, mask: mask)
        let direction = Tensor.constant(HostArray(rows.flatMap { $0 }, shape: [rows.count, columns]))
        let values = try Interpreter().run(Muon.direction(direction, of: parameter)).elements
        return (0..<rows.count).map { Array(values[$0 * columns..<($0 + 1) * columns]) }
    }

    /// What five steps of the quintic make of a singular value.
    private func quintic(_ s: Double) -> Double {
        var x = s
        for _ in 0..<5 {
            let square = x * x
            x *= 3.4445 - 4.7750 * square + 2.0315 * square * square
        }
        return x
    }

    /// Singular values are moved one by one, and rotations pass through.
    @Test(arguments: [false, true]) func singularValuesBecomeAlike(isTall: Bool) throws {
        let (singular, angle) = ([3.0, 0.5, 0.1], 0.7)
        let norm = singular.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let (c, s) = (Math.cos(angle), Math.sin(angle))
        let rotation = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
        func matrix(_ singular: [Double]) -> [[Double]] {
            (0..<3).map { r in (0..<5).map { $0 < 3 ? rotation[r][$0] * singular[$0] : 0 } }
        }
        func transposed(_ m: [[Double]]) -> [[Double]] { m[0].indices.map { c in m.map { $0[c] } } }
        let found = try step(isTall ? transposed(matrix(singular)) : matrix(singular))
        // As long as a step of Adam: equal singular values would have a root mean square of 0.2.
        let scale = 0.2 * 5.0.squareRoot()
        let expected = matrix(singular.map { scale * quintic($0 / norm) })
        for (row, want) in zip(isTall ? transposed(found) : found, expected) {
            for (a, b) in zip(row, want) { #expect(abs(a - b) < 1e-12) }
        }
        for value in singular { #expect((0.65...1.25).contains(quintic(value / norm))) }
    }

    /// Dead weights do not move, and the live ones are as long as before.
    @Test func deadWeightsStay() throws {
        let mask = MaskStructure.degrees(input: [1, 2, 3, 4], output: [1, 2, 3], strict: false)
        let rows: [[Double]] = [[1, -2, 3, 4], [0.5, 2, -1, 3], [2, 2, 1, -5]]
        let found = try step(rows, mask: mask)
        for r in 0..<3 {
            for c in 0..<4 {
                let isLive = mask.isLive(output: r, input: c)
                #expect((found[r][c] != 0) == isLive)
            }
        }
    }

    @Test func whatIsNoWeightGoesByAdam() {
        let muon = Muon(others: AdamW(beta2: 0.95))
        #expect(muon.rule(for: "layers.0.weight", Parameter([3, 4], .zeros)) is Muon)
        for (name, parameter) in [("bias", Parameter([3], .zeros)), ("places", Parameter([3, 4, 4], .zeros))] {
            #expect((muon.rule(for: name, parameter) as? AdamW)?.beta2 == 0.95, "\(name)")
        }
        #expect(SGD(momentum: 0.9).rule(for: "layers.0.bias", Parameter([3], .zeros)) is SGD)
    }
}

/// A parameter of double precision, as the papers compute.
private struct Exact: Module {
    let weight: Parameter

    init(_ shape: [Int]) {
        weight = Parameter(shape, .zeros)
        use(.float64)
    }
}

private typealias Matrix = [[Double]]

private func product(_ a: Matrix, _ b: Matrix) -> Matrix {
    a.map { row in b[0].indices.map { c in row.indices.reduce(0) { $0 + row[$1] * b[$1][c] } } }
}

private func transposed(_ a: Matrix) -> Matrix { a[0].indices.map { c in a.map { $0[c] } } }

/// A sum over the gradients so far in which each counts less by a factor than the one after it.
private func discounted(_ values: [Double], by factor: Double) -> Double {
    values.reduce(0) { $0 * factor + $1 }
}

/// What a paper says that one element moves in a step: by all its gradients so far, the last one last.
private typealias Paper = @Sendable (_ gradients: [Double]) -> Double

/// A rule beside its paper's formula, both with the rate `rate`.
private struct RuleCase: Sendable, CustomTestStringConvertible {
    static let rate = 0.05

    let testDescription: String
    let rule: any Optimizer
    /// Whether weight decay acts on the weight and not on the gradient.
    var isDecoupled = false
    let paper: Paper

    static func sgd(_ rule: SGD, momentum: Double) -> RuleCase {
        RuleCase(testDescription: "\(rule)", rule: rule) { rate * discounted($0, by: momentum) }
    }

    static func adagrad(_ rule: Adagrad, epsilon: Double) -> RuleCase {
        RuleCase(testDescription: "\(rule)", rule: rule) { g in
            rate * g.last! / (g.reduce(0) { $0 + $1 * $1 }.squareRoot() + epsilon)
        }
    }

    static func adadelta(_ rule: Adadelta, decay: Double, epsilon: Double) -> RuleCase {
        RuleCase(testDescription: "\(rule)", rule: rule) { gradients in
            var (meanSquare, meanChange, change) = (0.0, 0.0, 0.0)
            for g in gradients {
                meanSquare = decay * meanSquare + (1 - decay) * g * g
                // RMS[x] of the paper is the root of the mean square and epsilon.
                change = (meanChange + epsilon).squareRoot() / (meanSquare + epsilon).squareRoot() * g
                meanChange = decay * meanChange + (1 - decay) * change * change
            }
            return rate * change
        }
    }

    static func adamPaper(_ beta1: Double, _ beta2: Double, _ epsilon: Double) -> Paper {
        { g in
            let t = Double(g.count)
            let first = (1 - beta1) * discounted(g, by: beta1) / (1 - Math.pow(beta1, t))
            let second = (1 - beta2) * discounted(g.map { $0 * $0 }, by: beta2) / (1 - Math.pow(beta2, t))
            return rate * first / (second.squareRoot() + epsilon)
        }
    }

    static func adamax(_ rule: Adamax, _ beta1: Double, _ beta2: Double, _ epsilon: Double) -> RuleCase {
        RuleCase(testDescription: "\(rule)", rule: rule) { g in
            let t = Double(g.count)
            let first = (1 - beta1) * discounted(g, by: beta1) / (1 - Math.pow(beta1, t))
            // The paper's u is a maximum over all gradients, each shrunk by its age.
            let norm = g.enumerated().map { i, x in Math.pow(beta2, t - 1 - Double(i)) * (abs(x) + epsilon) }.max()!
            return rate * first / norm
        }
    }

    static let all = [
        sgd(SGD(), momentum: 0), sgd(SGD(momentum: 0.9), momentum: 0.9), sgd(SGD(momentum: 0.3), momentum: 0.3),
        adagrad(Adagrad(), epsilon: 1e-10), adagrad(Adagrad(epsilon: 0.2), epsilon: 0.2),
        adadelta(Adadelta(), decay: 0.95, epsilon: 1e-6),
        adadelta(Adadelta(decay: 0.7, epsilon: 0.01), decay: 0.7, epsilon: 0.01),
        RuleCase(testDescription: "Adam", rule: Adam(), paper: adamPaper(0.9, 0.999, 1e-8)),
        RuleCase(
            testDescription: "Adam with others", rule: Adam(beta1: 0.5, beta2: 0.9, epsilon: 0.1),
            paper: adamPaper(0.5, 0.9, 0.1)),
        RuleCase(testDescription: "AdamW", rule: AdamW(), isDecoupled: true, paper: adamPaper(0.9, 0.999, 1e-8)),
        RuleCase(
            testDescription: "AdamW with others", rule: AdamW(beta1: 0.8, beta2: 0.95, epsilon: 0.3), isDecoupled: true,
            paper: adamPaper(0.8, 0.95, 0.3)),
        adamax(Adamax(), 0.9, 0.999, 1e-8), adamax(Adamax(beta1: 0.6, beta2: 0.5, epsilon: 0.2), 0.6, 0.5, 0.2),
    ]
}

/// The rules in double precision against the formulas of their papers.
@Suite struct OptimizerTests {
    /// The gradients of three steps: of both signs, far apart in size, one zero, one so small that every epsilon shows.
    private let gradients: [[Double]] = [
        [0.5, -2, 0, 3e-9, -0.1, 7], [-1, -1, 0.25, -2e-9, 0.1, 0.01], [0.3, 4, -0.125, 5e-9, -0.1, -20],
    ]
    private let start: [Double] = [1, -0.5, 0.25, 2, -3, 0.1]

    /// The parameter after every step of a rule, as the training program moves it.
    private func trajectory(_ rule: any Optimizer, weightDecay: Double) throws -> [[Double]] {
        let module = Exact([2, 3])
        let (name, parameter) = module.namedParameters()[0]
        #expect(name == "weight")
        let chosen = rule.rule(for: name, parameter)
        let slots = chosen.slots.map { Tensor.state($0, [2, 3], .float64) }
        let (new, newSlots) = chosen.update(
            parameter, gradient: .input("gradient", [2, 3], .float64), slots: slots, weightDecay: weightDecay)
        var states = [parameter.label: Values(shape: [2, 3], elements: start)]
        for slot in chosen.slots { states[slot] = Values(shape: [2, 3]) }
        var result: [[Double]] = []
        for (index, gradient) in gradients.enumerated() {
            var bindings = states
            bindings["gradient"] = Values(shape: [2, 3], elements: gradient)
            for (name, value) in rule.scalars(rate: RuleCase.rate, step: index + 1) {
                bindings[name] = Values(shape: [], elements: [value])
            }
            let values = try Interpreter(bindings).run([new] + newSlots)
            for (name, value) in zip([parameter.label] + chosen.slots, values) { states[name] = value }
            result.append(values[0].elements)
        }
        return result
    }

    private func expectClose(_ found: [Double], _ expected: [Double], _ comment: String) {
        let isClose = zip(found, expected).allSatisfy { abs($0 - $1) <= 1e-13 * max(1, abs($1)) }
        #expect(isClose, "\(comment): \(found), \(expected)")
    }

    @Test(arguments: RuleCase.all, [0, 0.1]) private func stepsAreThoseOfThePaper(_ rule: RuleCase, decay: Double)
        throws
    {
        let found = try trajectory(rule.rule, weightDecay: decay)
        var p = start
        var seen = [[Double]](repeating: [], count: p.count)
        for (t, gradient) in gradients.enumerated() {
            for i in p.indices {
                seen[i].append(gradient[i] + (rule.isDecoupled ? 0 : decay * p[i]))
                let shrinking = rule.isDecoupled ? RuleCase.rate * decay * p[i] : 0
                p[i] -= shrinking + rule.paper(seen[i])
            }
            expectClose(found[t], p, "step \(t + 1)")
        }
    }

    /// Momentum and decay of Muon; that its direction is orthogonal is tested with singular values.
    @Test(arguments: [nil, 0.5], [0, 0.1]) func stepsOfMuonAreThoseOfItsPage(_ given: Double?, decay: Double) throws {
        let momentum = given ?? 0.95
        let found = try trajectory(given.map { Muon(momentum: $0) } ?? Muon(), weightDecay: decay)
        var p = start
        for t in gradients.indices {
            let direction = p.indices.map { i in
                let seen = gradients[...t].map { $0[i] }
                return seen.last! + momentum * discounted(seen, by: momentum)
            }
            let norm = direction.reduce(0) { $0 + $1 * $1 }.squareRoot()
            var x: Matrix = [0, 3].map { row in direction[row..<row + 3].map { $0 / norm } }
            for _ in 0..<5 {
                let a = product(x, transposed(x))
                let b = product(a, a)
                let ax = product(a, x)
                let bx = product(b, x)
                for r in x.indices {
                    for c in x[r].indices { x[r][c] = 3.4445 * x[r][c] - 4.7750 * ax[r][c] + 2.0315 * bx[r][c] }
                }
            }
            // Liu et al. 2025, equation 4: 0.2 times the root of the longer side.
            let step = x.flatMap { $0 }.map { $0 * 0.2 * 3.0.squareRoot() }
            for i in p.indices { p[i] -= RuleCase.rate * (step[i] + decay * p[i]) }
            expectClose(found[t], p, "step \(t + 1)")
        }
    }

    /// Files of runs know the states by these names.
    @Test func namesOfStatesAndScalarsStay() throws {
        let expected: [(OptimizerChoice, slots: [String], scalars: [String])] = [
            (.sgd, [], ["rate"]), (.momentum, ["momentum"], ["rate"]), (.adagrad, ["sum"], ["rate"]),
            (.adadelta, ["square", "change"], ["rate"]), (.adam, ["first", "second"], ["rate", "root", "scale"]),
            (.adamw, ["first", "second"], ["rate", "root", "scale"]),
            (.adamax, ["first", "second"], ["rate", "scale"]),
            (.muon, ["momentum"], ["rate", "root", "scale"]),
        ]
        for (choice, slots, scalars) in expected {
            var settings = TrainingSettings()
            settings.optimizer = choice
            let rule = try settings.makeOptimizer()
            #expect(rule.slots == slots, "\(choice.name)")
            #expect(rule.scalars(rate: 1, step: 1).keys.sorted() == scalars.map { "optimizer." + $0 }, "\(choice.name)")
            let module = Scaled()
            let program = try TrainingProgram(
                loss: module.weight.tensor.sum(), parameters: module.namedParameters(),
                rule: UpdateRule(optimizer: rule))
            #expect(program.optimizerStates.map(\.name) == slots.map { "optimizer.weight." + $0 }, "\(choice.name)")
        }
    }
}

private struct Scaled: Module {
    let weight = Parameter([2, 3], .constant(1))
}
