import Compiler
import Distributions
import Graph
import Layers
import Likelihood
import Testing

@testable import Models

@Suite struct MADETests {
    private func bindings(_ model: MADE, seed: UInt64 = 3, scale: Double = 3) -> [String: Values] {
        var result: [String: Values] = [:]
        for (name, parameter) in model.namedParameters() {
            var values = parameter.initialValue(named: name, seed: seed).values
            for i in values.elements.indices { values.elements[i] *= scale }
            result[parameter.label] = values
        }
        return result
    }

    /// exp(log p) summed over every input of a discrete model.
    private func total(_ model: MADE, levels: Int, extra: [String: Values] = [:]) throws
        -> Double
    {
        let d = model.variableCount
        let count = (0..<d).reduce(1) { total, _ in total * levels }
        var inputs = Values(shape: [count, d])
        for i in 0..<count {
            var rest = i
            for v in 0..<d {
                inputs.elements[i * d + v] = Double(rest % levels)
                rest /= levels
            }
        }
        let x = Tensor.input("x", [.batch, Extent(d)])
        let logp = model.logProbability(x)
        let bound = bindings(model).merging(extra) { a, _ in a }.merging(["x": inputs]) { a, _ in a }
        return try Interpreter(batch: count, bound).run(logp).elements.reduce(0) { $0 + Math.exp($1) }
    }

    @Test(arguments: [false, true]) func bernoulliSumsToOne(direct: Bool) throws {
        let sampler = MaskSampler(variables: 10, hidden: [13, 11], ordering: .random, seed: 5)
        let model = MADE([10], masks: sampler, hasDirectConnections: direct)
        #expect(abs(try total(model, levels: 2) - 1) < 1e-9)
        #expect(try model.proveAutoregressive().dependencies?.present == 45)
    }

    @Test func ordersKnownAtRunTimeSumToOne() throws {
        let sampler = MaskSampler(variables: 10, hidden: [9, 8], isOrderAgnostic: true, drawsDegrees: true, seed: 7)
        let model = MADE([10], masks: sampler, hasDirectConnections: true, cycle: nil)
        #expect(try model.proveAutoregressive().isSymbolic)
        for k in 0..<3 {
            let extra = model.feeds(step: k).mapValues { $0.values }
            #expect(
                extra["degrees.0"]?.elements == sampler.order(model.cycle.map { k % $0 } ?? k).index.map { Double($0) })
            #expect(abs(try total(model, levels: 2, extra: extra) - 1) < 1e-9)
        }
    }

    @Test func categoricalSumsToOne() throws {
        let sampler = MaskSampler(variables: 5, hidden: [17], ordering: .given([2, 0, 4, 1, 3]))
        let model = MADE([5], conditional: CategoricalConditional(levels: 4), masks: sampler)
        #expect(abs(try total(model, levels: 4) - 1) < 1e-9)
        #expect(throws: Never.self) { try model.proveAutoregressive() }
    }

    @Test func mixtureIntegratesToOne() throws {
        let model = MADE(
            [2], conditional: MixtureOfGaussians(components: 3), masks: MaskSampler(variables: 2, hidden: [9]),
            activation: .tanh)
        let side = 200
        let width = 24.0
        var grid = Values(shape: [side * side, 2])
        for i in 0..<side * side {
            grid.elements[i * 2] = (Double(i % side) + 0.5) / Double(side) * width - width / 2
            grid.elements[i * 2 + 1] = (Double(i / side) + 0.5) / Double(side) * width - width / 2
        }
        let x = Tensor.input("x", [.batch, 2])
        let logp = model.logProbability(x)
        let values = try Interpreter(batch: side * side, bindings(model, scale: 1).merging(["x": grid]) { a, _ in a })
            .run(logp)
        let cell = (width / Double(side)) * (width / Double(side))
        #expect(abs(values.elements.reduce(0) { $0 + Math.exp($1) } * cell - 1) < 1e-5)
    }

    @Test func parametersAreNamedAsInPyTorch() {
        let model = MADE([4], masks: MaskSampler(variables: 4, hidden: [6, 5]))
        #expect(
            model.namedParameters().map(\.name) == [
                "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias", "layers.2.weight",
                "layers.2.bias",
            ])
    }

    /// The sampler's program on a real model: same draw as the loop of full passes, one pass' worth of arithmetic.
    @Test(arguments: ["bernoulli", "categorical", "mixture"]) func samplesInOnePassOfWork(name: String) throws {
        let conditional: any Conditional =
            switch name {
            case "bernoulli": BernoulliConditional()
            case "categorical": CategoricalConditional(levels: 3)
            default: MixtureOfGaussians(components: 2)
            }
        let model = MADE(
            [7], conditional: conditional, masks: MaskSampler(variables: 7, hidden: [12, 9], ordering: .random))
        let x = Tensor.input("x", [.batch, 7])
        let (drawn, parameters) = model.draw(x)
        let index = model.order
        let program = try SamplingProgram(variable: x, drawn: drawn, order: index, outputs: [parameters])
        var bound = bindings(model)
        for (name, feed) in RandomSource.feeds(seed: 42, examples: [0, 1, 2, 3, 4]) { bound[name] = feed.values }
        var machine = try SamplingInterpreter(program, batch: 5, bound)
        let found = machine.run()
        var naive = Values(shape: [5, 7])
        for group in index.groups {
            bound["x"] = naive
            let next = try Interpreter(batch: 5, bound).run(drawn)
            for v in group { for b in 0..<5 { naive.elements[b * 7 + v] = next.elements[b * 7 + v] } }
        }
        #expect(zip(found[0].elements, naive.elements).allSatisfy { abs($0 - $1) <= 1e-12 * max(1, abs($1)) })
        #expect(machine.multiplyAdds == program.multiplyAdds)
    }

    /// Degrees for another number of layers than there are.
    @Test func degreesForEveryHiddenLayer() async {
        await #expect(processExitsWith: .failure) {
            let model = MADE([3], masks: MaskSampler(variables: 3, hidden: [3]))
            let orders = ModelOrders.constant(order: .natural(3), hidden: [[0, 0, 1], [0, 0, 1]])
            _ = model.conditionalParameters(model.makeInput(), Context(orders: orders))
        }
    }
}
