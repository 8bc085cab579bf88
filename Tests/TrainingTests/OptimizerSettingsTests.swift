import CPU
import Datasets
import FoundationEssentials
import Graph
import Layers
import Likelihood
import Models
import Testing

@testable import Training

/// Optimizers as settings of a run, and rules that a program brings itself.
@Suite struct OptimizerSettingsTests {
    // MARK: settings

    private func configuration(_ assignments: String...) throws -> RunConfiguration {
        var result = RunConfiguration(MADE.Settings())
        for assignment in assignments { try result.set(assignment) }
        return result
    }

    @Test func hyperparametersAreSettings() throws {
        func made(_ assignments: String...) throws -> any Optimizer {
            var result = RunConfiguration(MADE.Settings())
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
        let read = try RunConfiguration(MADE.Settings()).replacing(fields)
        #expect(read.training == written.training && read.beta1 == 0 && read.beta2 == 0.95 && read.epsilon == nil)
        try written.set("beta2=0.5")
        #expect(read.training != written.training)
        // A file from before there were hyperparameters.
        let names = ["beta1", "beta2", "decay", "epsilon", "momentum"]
        let stored = StoredRunText(try configuration("optimizer=muon").fields().filter { !names.contains($0.key) })
        let older = try stored.decoded().configuration(preset: RunConfiguration(MADE.Settings()), path: "config.json")
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
            var configuration = RunConfiguration(MADE.Settings())
            for assignment in assignments { try configuration.set(assignment) }
            let error = #expect(throws: UsageError.self, "\(assignments)") {
                try configuration.validate(ExampleShape([4]))
            }
            #expect(error?.description == message)
        }
        for (assignment, found) in [
            ("beta1=much", "much"), ("beta1=", ""), ("beta1=nan", "nan"), ("beta1=true", "true"),
        ] {
            var configuration = RunConfiguration(MADE.Settings())
            try configuration.set("beta1=0.5")
            let error = #expect(throws: UsageError.self, "\(assignment)") { try configuration.set(assignment) }
            #expect(
                error?.description == "--set \(assignment): “beta1”: expected a number or default, found “\(found)”")
        }
        let error = #expect(throws: UsageError.self) { try configuration("optimizer=best") }
        #expect(
            error?.description.contains(
                "expected sgd, momentum, adagrad, adadelta, adam, adamw, adamax, muon, lbfgs, found “best”") == true)
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
            let configuration = RunConfiguration(MADE.Settings { $0.hidden = [8] }) {
                $0.optimizer = optimizer
                ($0.learningRate, $0.batch, $0.epochs) = (0.01, 20, 15)
            }
            let run = try Run(configuration, examples: ExampleShape([4]), device: CPUDevice(threads: 1))
            try run.initialize()
            let before = -Estimate(try run.logProbability(data.valid)).mean
            let trainer = try Trainer(run, train: data[.train], valid: data[.valid], folder: nil)
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
        let own = RunConfiguration(MADE.Settings()) { $0.optimizer = .own(Lion(beta1: 0.9, beta2: 0.99)) }
        var changed = own
        try changed.set("learningRate=0.5")
        #expect(changed.learningRate == 0.5 && changed.optimizer == own.optimizer)
        #expect(
            own.optimizer != .own(Lion(beta1: 0.5, beta2: 0.99)) && own.optimizer != .own(SGD())
                && own.optimizer != .sgd)
        let stored = try StoredRun(changed, examples: ExampleShape([4]), dataFolder: "data", device: "cpu")
        #expect(try stored.configuration(preset: own, path: "config.json").training == changed.training)
        let error = #expect(throws: FileError.self) {
            try stored.configuration(preset: RunConfiguration(MADE.Settings()), path: "config.json")
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
