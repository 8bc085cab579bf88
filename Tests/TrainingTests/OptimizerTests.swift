import CPU
import Datasets
import FoundationEssentials
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

/// The rules in double precision against the formulas of their papers, and as settings.
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
        var states = ["weight": Values(shape: [2, 3], elements: start)]
        for slot in chosen.slots { states[slot] = Values(shape: [2, 3]) }
        var result: [[Double]] = []
        for (index, gradient) in gradients.enumerated() {
            var bindings = states
            bindings["gradient"] = Values(shape: [2, 3], elements: gradient)
            for (name, value) in rule.scalars(rate: RuleCase.rate, step: index + 1) {
                bindings[name] = Values(shape: [], elements: [value])
            }
            let values = try Interpreter(bindings).run([new] + newSlots)
            for (name, value) in zip(["weight"] + chosen.slots, values) { states[name] = value }
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

    // MARK: settings

    private func configuration(_ assignments: String...) throws -> RunConfiguration {
        var result = RunConfiguration(MADESettings())
        for assignment in assignments { try result.set(assignment) }
        return result
    }

    @Test func hyperparametersAreSettings() throws {
        func made(_ assignments: String...) throws -> any Optimizer {
            var result = RunConfiguration(MADESettings())
            for assignment in assignments { try result.set(assignment) }
            return try result.training.makeOptimizer()
        }
        let adam = try #require(try made("beta2=0.95", "epsilon=1e-5") as? Adam)
        #expect((adam.beta1, adam.beta2, adam.epsilon) == (0.9, 0.95, 1e-5))
        // Zero is a value of its own, not the default.
        let adamax = try #require(try made("optimizer=adamax", "beta1=0") as? Adamax)
        #expect((adamax.beta1, adamax.beta2, adamax.epsilon) == (0, 0.999, 1e-8))
        let adamw = try #require(
            try made("optimizer=adamw", "beta1=0.5", "beta1=0.25", "beta2=0.5", "beta2=default") as? AdamW)
        #expect((adamw.beta1, adamw.beta2, adamw.epsilon) == (0.25, 0.999, 1e-8))
        #expect((try made("optimizer=sgd") as? SGD)?.momentum == 0)
        #expect((try made("optimizer=sgd", "momentum=0.5") as? SGD)?.momentum == 0.5)
        #expect((try made("optimizer=momentum") as? SGD)?.momentum == 0.9)
        #expect((try made("optimizer=momentum", "momentum=0.99") as? SGD)?.momentum == 0.99)
        #expect((try made("optimizer=adagrad", "epsilon=0.1") as? Adagrad)?.epsilon == 0.1)
        let adadelta = try #require(try made("optimizer=adadelta", "decay=0.9", "epsilon=1e-3") as? Adadelta)
        #expect((adadelta.decay, adadelta.epsilon) == (0.9, 1e-3))
        let muon = try #require(
            try made("optimizer=muon", "momentum=0.9", "beta1=0.8", "beta2=0.95", "epsilon=0.1") as? Muon)
        #expect((muon.momentum, muon.others.beta1, muon.others.beta2, muon.others.epsilon) == (0.9, 0.8, 0.95, 0.1))
    }

    @Test func hyperparametersSurviveTheirFile() throws {
        var written = try configuration("beta1=0", "beta2=0.95")
        let fields = try written.fields()
        #expect(
            ["beta1", "beta2", "epsilon", "momentum"].map { fields[$0]?.description } == [
                "0", "0.95", "default", "default",
            ])
        let read = try RunConfiguration(MADESettings()).replacing(fields)
        #expect(read.training == written.training && read.beta1 == 0 && read.beta2 == 0.95 && read.epsilon == nil)
        try written.set("beta2=0.5")
        #expect(read.training != written.training)
        // A file from before there were hyperparameters.
        let names = ["beta1", "beta2", "decay", "epsilon", "momentum"]
        let stored = StoredRunText(try configuration("optimizer=muon").fields().filter { !names.contains($0.key) })
        let older = try stored.decoded().configuration(preset: RunConfiguration(MADESettings()), path: "config.json")
        #expect(older.training == (try configuration("optimizer=muon")).training)
    }

    @Test func wrongHyperparametersAreRefused() throws {
        let wrong: [([String], String)] = [
            (["optimizer=sgd", "beta2=0.9"], "beta2: sgd has no such hyperparameter; it has momentum"),
            (["optimizer=momentum", "epsilon=1"], "epsilon: momentum has no such hyperparameter; it has momentum"),
            (["optimizer=adagrad", "momentum=0"], "momentum: adagrad has no such hyperparameter; it has epsilon"),
            (["optimizer=adadelta", "beta1=0"], "beta1: adadelta has no such hyperparameter; it has decay, epsilon"),
            (["momentum=0.5"], "momentum: adam has no such hyperparameter; it has beta1, beta2, epsilon"),
            (
                ["optimizer=muon", "decay=0.5"],
                "decay: muon has no such hyperparameter; it has momentum, beta1, beta2, epsilon"
            ),
            (["beta1=1"], "beta1: expected at least 0 and less than 1, found 1.0"),
            (["optimizer=adamw", "beta2=-0.1"], "beta2: expected at least 0 and less than 1, found -0.1"),
            (["optimizer=adamax", "beta2=2"], "beta2: expected at least 0 and less than 1, found 2.0"),
            (["optimizer=sgd", "momentum=1"], "momentum: expected at least 0 and less than 1, found 1.0"),
            (["optimizer=muon", "momentum=-1"], "momentum: expected at least 0 and less than 1, found -1.0"),
            (["optimizer=muon", "beta1=1"], "beta1: expected at least 0 and less than 1, found 1.0"),
            (["optimizer=adadelta", "decay=1"], "decay: expected at least 0 and less than 1, found 1.0"),
            (["optimizer=adagrad", "epsilon=0"], "epsilon: expected a number of at least 1.2e-38, found 0.0"),
            (["optimizer=adadelta", "epsilon=-1"], "epsilon: expected a number of at least 1.2e-38, found -1.0"),
            (["epsilon=0"], "epsilon: expected a number of at least 1.2e-38, found 0.0"),
            (["optimizer=adamax", "epsilon=1e-60"], "epsilon: expected a number of at least 1.2e-38, found 1e-60"),
        ]
        for (assignments, message) in wrong {
            var configuration = RunConfiguration(MADESettings())
            for assignment in assignments { try configuration.set(assignment) }
            let error = #expect(throws: UsageError.self, "\(assignments)") {
                try configuration.validate(ExampleShape([4]))
            }
            #expect(error?.description == message)
        }
        for (assignment, found) in [
            ("beta1=much", "much"), ("beta1=", ""), ("beta1=nan", "nan"), ("beta1=true", "true"),
        ] {
            var configuration = RunConfiguration(MADESettings())
            try configuration.set("beta1=0.5")
            let error = #expect(throws: UsageError.self, "\(assignment)") { try configuration.set(assignment) }
            #expect(
                error?.description == "--set \(assignment): “beta1”: expected a number or default, found “\(found)”")
        }
        let error = #expect(throws: UsageError.self) { try configuration("optimizer=best") }
        #expect(
            error?.description.contains(
                "expected sgd, momentum, adagrad, adadelta, adam, adamw, adamax, muon, found “best”") == true)
        // A program's own loop meets the ranges too.
        let module = Scaled()
        #expect(throws: UsageError.self) {
            try TrainingProgram(
                loss: module.weight.tensor.sum(), parameters: module.namedParameters(),
                rule: UpdateRule(optimizer: Adam(beta1: 1)))
        }
    }

    // MARK: rules of one's own

    @Test func ownRulesTrain() throws {
        let random = HostRandom(seed: 3, stream: "own")
        let rows = HostArray(
            (0..<400 * 4).map { UInt8(random.uniform(example: $0 / 4, variable: $0 % 4) < 0.1 ? 1 : 0) },
            shape: [400, 4])
        let data = try Dataset(
            name: "own", train: rows.rows(0..<200), valid: rows.rows(200..<300), test: rows.rows(300..<400))
        func train(_ optimizer: OptimizerChoice) throws -> (gain: Double, memories: [String]) {
            let configuration = RunConfiguration(MADESettings { $0.hidden = [8] }) {
                $0.optimizer = optimizer
                ($0.rate, $0.batch, $0.epochs) = (0.01, 20, 15)
            }
            let run = try Run(configuration, examples: ExampleShape([4]), device: CPUDevice(threads: 1))
            try run.initialize()
            let before = -Estimate(try run.logProbability(data.valid)).mean
            let trainer = try Trainer(run, dataset: data, folder: nil)
            try trainer.start()
            _ = try trainer.train()
            return (before - trainer.bestValidation, try run.makeTrainingProgram().optimizerStates.map(\.name))
        }
        let (gain, memories) = try train(.own(Lion(beta1: 0.9, beta2: 0.99)))
        #expect(gain > 0.5)
        #expect(!memories.isEmpty && memories.allSatisfy { $0.hasSuffix(".trend") })
        // The rule's own numbers matter: with steps of length zero nothing is learned.
        #expect(try train(.own(Lion(beta1: 0.9, beta2: 0.99, length: 0))).gain == 0)
    }

    @Test func ownRulesAreInNoFile() throws {
        let own = RunConfiguration(MADESettings()) { $0.optimizer = .own(Lion(beta1: 0.9, beta2: 0.99)) }
        var changed = own
        try changed.set("rate=0.5")
        #expect(changed.rate == 0.5 && changed.optimizer == own.optimizer)
        #expect(
            own.optimizer != .own(Lion(beta1: 0.5, beta2: 0.99)) && own.optimizer != .own(SGD())
                && own.optimizer != .sgd)
        let stored = try StoredRun(changed, examples: ExampleShape([4]), dataFolder: "data", device: "cpu")
        #expect(try stored.configuration(preset: own, path: "config.json").training == changed.training)
        let error = #expect(throws: FileError.self) {
            try stored.configuration(preset: RunConfiguration(MADESettings()), path: "config.json")
        }
        #expect(error?.description.contains("optimizer = own") == true, "\(error?.description ?? "")")
        let refused = #expect(throws: UsageError.self) { try configuration("optimizer=own") }
        #expect(refused?.description.contains("set in the code of that program") == true)
        // What has a name can take its place.
        try changed.set("optimizer=sgd")
        #expect(changed.optimizer == .sgd)
        changed.optimizer = own.optimizer
        changed.beta1 = 0.5
        let hyperparameter = #expect(throws: UsageError.self) { try changed.training.makeOptimizer() }
        #expect(hyperparameter?.description.hasPrefix("beta1: a rule of one's own") == true)
    }

    @Test func ownRulesGiveEveryMemory() throws {
        struct Forgetful: Optimizer {
            var slots: [String] { ["a", "b"] }
            func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
                parameter: Tensor, slots: [Tensor]
            ) { (parameter.tensor - gradient, [slots[0]]) }
        }
        let module = Scaled()
        let error = #expect(throws: UsageError.self) {
            try TrainingProgram(
                loss: module.weight.tensor.sum(), parameters: module.namedParameters(),
                rule: UpdateRule(optimizer: Forgetful()))
        }
        #expect(error?.description == "Forgetful gives 1 new memories of “weight”; expected 2: a, b")
    }
}

private struct Scaled: Module {
    let weight = Parameter([2, 3], .constant(1))
}

/// A `config.json` with the given settings and no others.
private struct StoredRunText: Encodable {
    let experiment = "made"
    let settings: [String: JSON]
    let examples = ExampleShape([4])
    let dataFolder = "data"
    let device = "cpu"

    init(_ settings: [String: JSON]) { self.settings = settings }

    func decoded() throws -> StoredRun {
        try JSONDecoder().decode(StoredRun.self, from: JSONEncoder().encode(self))
    }
}

/// Steps of one length in the direction of a running average (Chen et al. 2023, “Symbolic discovery of optimization algorithms”).
private struct Lion: Optimizer {
    var beta1: Double
    var beta2: Double
    var length = 1.0

    var slots: [String] { ["trend"] }

    func scalars(rate: Double, step: Int) -> [String: Double] { ["optimizer.length": rate * length] }

    func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        let mixed = slots[0] * beta1 + gradient * (1 - beta1)
        let sign = mixed / (mixed.absolute() + 1e-12)
        return (
            parameter.tensor - scalar("optimizer.length", for: parameter) * sign,
            [slots[0] * beta2 + gradient * (1 - beta2)]
        )
    }
}
