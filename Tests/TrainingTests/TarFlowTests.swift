import Bijectors
import CPU
import Datasets
import Distributions
import Graph
import Layers
import Likelihood
import Models
import Testing

@testable import Training

/// Autoregressive flows of transformers over patches.
@Suite struct TarFlowTests {
    private func settings(noise: Double = 0) -> Flow.PatchSettings {
        Flow.PatchSettings {
            ($0.patch, $0.blocks, $0.layers) = (2, 3, 1)
            ($0.width, $0.heads) = (8, 2)
            $0.levels = 0
            $0.noise = noise
        }
    }

    private func run(_ settings: Flow.PatchSettings) throws -> Run {
        let run = try Run(
            RunConfiguration(settings) { $0.seed = 9 }, examples: ExampleShape([1, 4, 6]),
            device: CPUDevice(threads: 2))
        try run.initialize()
        return run
    }

    /// Every block is proved under its own order, and refused under the other one.
    @Test func blocksRespectTheirOrders() throws {
        let flow = try #require(settings().makeModel(ExampleShape([1, 4, 6]), seed: 1) as? Flow)
        #expect(try flow.proveStructure().count == 3)
        let conditioner = PatchTransformer(
            patch: 4, positions: 6, width: 8, heads: 2, layers: 1, parameters: 2, isReversed: true)
        let natural = PatchTransformer(
            patch: 4, positions: 6, width: 8, heads: 2, layers: 1, parameters: 2, isReversed: false
        ).order
        let wrong = Autoregressive(natural, AffineTransformer(), conditioner: conditioner)
        #expect(throws: DependencyLeak.self) { try wrong.proveStructure([.batch, 24]) }
    }

    /// Draws go back to the latents that they were made from, patch after patch, whatever was learned.
    @Test func drawsAreTheInverse() throws {
        var settings = settings()
        settings.limit = 0.5
        let run = try run(settings)
        for (name, parameter) in run.parameters {
            let values = parameter.initialValue(named: name, seed: 4).floats
            let moved = HostRandom.numbers(values.count, name).map { Float($0 * 0.3) }
            try run.states.set(
                parameter, HostArray(zip(values, moved).map { $0 + $1 }, shape: parameter.shape))
        }
        let draws = try run.sample(count: 20, SamplingOptions(seed: 5, batch: 7)).examples
        let naive = try run.sample(count: 20, SamplingOptions(seed: 5, isNaive: true, batch: 20)).examples
        #expect(zip(draws.floats, naive.floats).allSatisfy { abs($0 - $1) <= 1e-3 * max(1, abs($1)) })
    }

    /// A flow that has learned nothing is a standard normal distribution, of which a draw is rid of noise by a factor.
    @Test func drawsAreRidOfNoise() throws {
        let clean = try run(settings()).sample(count: 9, SamplingOptions(seed: 5, batch: 9)).examples
        let denoised = try run(settings(noise: 0.3)).sample(count: 9, SamplingOptions(seed: 5, batch: 9)).examples
        #expect(zip(denoised.floats, clean.floats).allSatisfy { abs($0 - $1 * (1 - 0.09)) <= 1e-5 })
    }

    /// Noise is added while training, and changes no likelihood that is evaluated.
    @Test func onlyTrainingIsNoisy() throws {
        let shape = ExampleShape([1, 4, 6])
        let flow = try #require(settings(noise: 0.3).makeModel(shape, seed: 1) as? Flow)
        let x = Tensor.input("x", [.batch, 24])
        var bindings: [String: Values] = [:]
        for (name, parameter) in flow.namedParameters() {
            bindings[parameter.label] = parameter.initialValue(named: name, seed: 3).values
        }
        for (name, array) in RandomSource.feeds(seed: 1, examples: [0, 1]) { bindings[name] = array.values }
        bindings["x"] = Values(shape: [2, 24], elements: (0..<48).map { Double($0) / 50 })
        let interpreter = Interpreter(batch: 2, bindings)
        let clean = try interpreter.run(flow.logProbability(x, Context(.evaluate))).elements
        let noisy = try interpreter.run(flow.logProbability(x, Context(.train))).elements
        for (row, (a, b)) in zip(clean, noisy).enumerated() {
            let square = bindings["x"]!.elements[(24 * row)..<(24 * row + 24)].reduce(0.0) { $0 + $1 * $1 }
            #expect(abs(a + square / 2 + 12 * Math.log(2 * .pi)) < 1e-5)
            #expect(abs(a - b) > 1e-3)
        }
    }
}

extension HostRandom {
    fileprivate static func numbers(_ count: Int, _ stream: String) -> [Double] {
        let random = HostRandom(seed: 5, stream: stream)
        return (0..<count).map { 2 * random.uniform(example: $0) - 1 }
    }
}
