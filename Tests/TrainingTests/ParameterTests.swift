import Bijectors
import Compiler
import Distributions
import Graph
import Layers
import Likelihood
import Models
import Testing

@testable import Training

private struct Scale: Module {
    let weight = Parameter([3], .constant(1))
}

private struct Pair: Module {
    let first: Scale
    let second: Scale
}

private struct TwoFlows: Module {
    let prior = Flow.maf(variables: 2, layers: 2, hidden: [4])
    let posterior = Flow.maf(variables: 2, layers: 2, hidden: [4])
}

/// Names of parameters are paths in the module that is asked, and do not depend on who was asked before.
@Suite struct ParameterTests {
    @Test func namesArePaths() throws {
        let pair = Pair(first: Scale(), second: Scale())
        // A part that is asked first, and a tensor that is made first, change nothing.
        #expect(pair.second.namedParameters().map(\.name) == ["weight"])
        _ = pair.first.weight.tensor
        #expect(pair.namedParameters().map(\.name) == ["first.weight", "second.weight"])
        #expect(pair.second.namedParameters().map(\.name) == ["weight"])
        let shared = Scale()
        #expect(Pair(first: shared, second: shared).namedParameters().map(\.name) == ["first.weight"])

        let flows = TwoFlows()
        let parameters = flows.namedParameters()
        #expect(Set(parameters.map(\.name)).count == parameters.count)
        let x = Tensor.input("x", [.batch, 2])
        let loss = -(flows.prior.logProbability(x) + flows.posterior.logProbability(x)).mean()
        let program = try TrainingProgram(loss: loss, parameters: parameters, rule: UpdateRule())
        #expect(Set(program.optimizerStates.map(\.name)).count == 2 * parameters.count)
    }

    /// A property may leave itself out of names; names that are then the same are refused where they would share a state.
    @Test func propertiesMayLeaveThemselvesOut() throws {
        struct Plain: Module {
            let part = Scale()
            func name(ofProperty property: String) -> String { "" }
        }
        #expect(Plain().namedParameters().map(\.name) == ["weight"])
    }

    /// Files of runs from before names were paths in the whole model: parts had named themselves.
    @Test func formerNamesAreRead() {
        let names = FormerNames(["bijector.layers.0.weight", "base.layers.0.weight", "dequantization.bijector.bias"])
        let file = [
            "bijector.layers.0.weight": 1, "layers.0.weight": 2, "bijector.bias": 3,
            "optimizer.layers.0.weight.first": 4,
            "best.bijector.bias": 5, "average.bijector.layers.0.weight": 6,
        ]
        #expect(
            names.today(file) == [
                "bijector.layers.0.weight": 1, "base.layers.0.weight": 2, "dequantization.bijector.bias": 3,
                "optimizer.base.layers.0.weight.first": 4, "best.dequantization.bijector.bias": 5,
                "average.bijector.layers.0.weight": 6,
            ])
        let today = ["bijector.layers.0.weight": 1, "base.layers.0.weight": 2, "dequantization.bijector.bias": 3]
        #expect(names.today(today) == today)
    }

    /// What `inspect` counts of a flow of images: its networks are convolutions.
    @Test func convolutionsOfFlowsAreCounted() throws {
        let flow = Flow.glow(channels: 1, height: 4, width: 6, scales: 1, steps: 1, hidden: 5)
        let layers = try flow.describe().layers.filter { $0.shape.count == 4 }
        #expect(layers.map(\.shape) == [[5, 2, 3, 3], [5, 5, 1, 1], [4, 5, 3, 3]])
        // Two by three positions.
        #expect(layers.map(\.multiplyAdds) == [5 * 2 * 9, 5 * 5, 4 * 5 * 9].map { $0 * 6 })
        for decomposed in [false, true] {
            let flow = Flow.glow(
                channels: 1, height: 4, width: 6, scales: 1, steps: 1, hidden: 5, decomposed: decomposed)
            let matrices = try flow.describe().layers.filter { $0.shape == [4, 4] }
            #expect(matrices.map(\.multiplyAdds).max() == 16 * 6)
        }
        let vector = Flow.realNVP(variables: 6, layers: 1, hidden: [5])
        #expect(try vector.describe().layers.map(\.multiplyAdds) == [6 * 5, 5 * 12])
        #expect(try vector.describe().layers.map(\.liveMultiplyAdds) == [3 * 5, 5 * 6])
    }

    @Test func twoOfOneNameAreRefused() throws {
        let (a, b) = (Scale(), Scale())
        let loss = (a.weight.tensor + b.weight.tensor).sum()
        let error = #expect(throws: UsageError.self) {
            try TrainingProgram(
                loss: loss, parameters: a.namedParameters() + b.namedParameters(), rule: UpdateRule(optimizer: SGD()))
        }
        #expect(error?.description.contains("2 parameters are called “weight”") == true)
        let states = [Tensor.state("s", [2]), Tensor.state("s", [3]).sum().reshaped([1])]
        let clash = #expect(throws: GraphError.self) { try compile([states[0] + states[1]]) }
        #expect(clash?.message.contains("called “s”") == true)
    }

    /// What passes over data find is not moved by gradients.
    @Test func runningStatisticsAreNotTrained() throws {
        let flow = Flow(BatchNormalization(2), base: DiagonalNormal(), exampleShape: [2])
        let x = Tensor.input("x", flow.shape)
        let program = try TrainingProgram(
            loss: -flow.logProbability(x).mean(), parameters: flow.namedParameters(),
            rule: UpdateRule(optimizer: Adam())
        )
        let trained = flow.namedParameters().filter(\.parameter.isTrained).map(\.name)
        #expect(!trained.isEmpty && trained.count < flow.namedParameters().count)
        #expect(program.optimizerStates.allSatisfy { state in trained.contains { state.name.contains($0) } })
    }
}
