import Bijectors
import Compiler
import Distributions
import Graph
import Layers
import Likelihood
import Testing

@testable import Models

/// The list of a model's multiply-adds, against its parameters counted one by one.
@Suite struct ModelWorkTests {
    /// Name, weights and live weights of every parameter that has a matrix in it.
    private func matrices(_ module: any Module) -> [String: Work] {
        Dictionary(
            uniqueKeysWithValues: module.namedParameters().filter { $0.parameter.shape.count >= 2 }.map {
                name, parameter in
                let count = parameter.shape.reduce(1, *)
                let live = (0..<count).count { parameter.mask?.isDead($0, shape: parameter.shape) != true }
                return (parameter.label, Work(dense: count, live: live))
            })
    }

    private func listed(_ contractions: [Contraction]) -> [String: Work] {
        Dictionary(uniqueKeysWithValues: contractions.map { ($0.weight?.placeholder?.label ?? $0.operation, $0.work) })
    }

    /// An inverse autoregressive flow draws in one pass: every layer once, and of its weights the live ones.
    @Test func inverseAutoregressiveFlow() throws {
        let flow = Inverted(
            Autoregressive(.natural(5), AffineTransformer(.standardize), hidden: [7, 6], startsAtIdentity: false))
        let found = contractions(of: [flow.inverse(.input("z", [.batch, 5]), Context()).value])
        let expected = matrices(flow)
        #expect(listed(found) == expected)
        #expect(found.allSatisfy { $0.live < $0.dense && $0.degrees != nil } && found.count == 3)
        #expect(found.map(\.degrees?.isStrict) == [false, false, true])
        // Its density takes a pass for every variable; the first one, which reads none, too.
        let density = contractions(of: [flow.forward(.input("x", [.batch, 5]), Context()).value])
        #expect(listed(density) == expected.mapValues { $0 * 5 })
    }

    /// Encoder, what comes out of it, the flow between and the decoder, for one draw and for three.
    @Test func autoencoder() throws {
        let vae = try VAE([6]) {
            $0.latents = 4
            $0.hidden = [9, 8]
            $0.posterior = "iaf:2"
            $0.iafHidden = [7]
        }
        let x = Tensor.input("x", [.batch, 6])
        let expected = matrices(vae)
        #expect(listed(contractions(of: [vae.logWeights(x, draws: 1, Context())])) == expected)
        let three = listed(contractions(of: [vae.logWeights(x, draws: 3, Context())]))
        for (name, parameter) in vae.namedParameters() {
            guard let work = expected[parameter.label] else { continue }
            let isOnce =
                name.hasPrefix("encoder") || name.hasPrefix("mean") || name.hasPrefix("logDeviation")
                || name.hasPrefix("context")
            #expect(three[parameter.label] == work * (isOnce ? 1 : 3), "\(name)")
        }
    }

    /// Convolutions at every position, and the matrices of the 1x1 convolutions too.
    @Test(arguments: [false, true]) func glow(decomposed: Bool) {
        let flow = Flow.glow(
            channels: 1, height: 4, width: 6, scales: 1, steps: 1, hidden: 5, decomposed: decomposed)
        let found = contractions(of: [flow.logProbability(Tensor.input("x", flow.shape))])
        #expect(found.filter { $0.shape.count == 4 }.map(\.shape) == [[5, 2, 3, 3], [5, 5, 1, 1], [4, 5, 3, 3]])
        #expect(found.filter { $0.shape.count == 4 }.map(\.dense) == [5 * 2 * 9, 5 * 5, 4 * 5 * 9].map { $0 * 6 })
        #expect(found.filter { $0.shape == [4, 4] }.map(\.dense).reduce(0, +) == 16 * 6)
        #expect(found.filter { $0.shape == [4, 4] }.allSatisfy { $0.weight != nil })
    }

    /// Dense layers at every position, and what attention multiplies with itself.
    @Test func transformer() throws {
        let model = try ImageTransformer([1, 3, 4]) {
            $0.width = 6
            $0.heads = 2
            $0.blocks = 2
        }
        let x = Tensor.input("x", [.batch, 12])
        let found = contractions(of: [model.conditionalParameters(x, Context())])
        for (name, work) in matrices(model) where name != model.positionEmbedding?.label {
            #expect(found.first { $0.weight?.placeholder?.label == name }?.work == work * 12, "\(name)")
        }
        let attention = found.filter { $0.weight == nil }
        // Scores and sums of values: 2 heads of depth 3, 12 queries each of the keys up to its own, in two blocks.
        let pairs = Work(dense: 12 * 12, live: 12 * 13 / 2)
        #expect(attention.map(\.work).reduce(Work(0), +) == pairs * (2 * 2 * 2 * 3))
        #expect(attention.map(\.uses).reduce(0, +) == 2)
    }

    /// What a model says it costs is what its sampler computes.
    @Test func sampler() throws {
        let model = try MADE([5]) {
            $0.hidden = [6, 4]
            $0.ordering = "2,0,4,1,3"
            $0.direct = true
        }
        let x = Tensor.input("x", [.batch, 5])
        let (drawn, parameters) = model.draw(x)
        let program = try SamplingProgram(
            variable: x, drawn: drawn, order: model.order, outputs: [parameters])
        let found = contractions(of: [model.logProbability(x)])
        #expect(found.reduce(0) { $0 + $1.live } == program.multiplyAdds)
        #expect(listed(found) == matrices(model))
    }

    /// 4096 pixels: proved, and drawn by the multiply-adds of one pass, of all that is read and of windows.
    @Test(arguments: ["causal", "window:64", "axial"]) func drawOfLargeImages(pattern: String) throws {
        let model = try ImageTransformer([1, 64, 64]) {
            $0.levels = 4
            $0.width = 8
            $0.heads = 2
            $0.blocks = 2
            $0.pattern = pattern
        }
        let x = model.makeInput()
        let (drawn, parameters) = model.draw(x)
        let program = try SamplingProgram(variable: x, drawn: drawn, order: model.order, outputs: [parameters])
        let pass = contractions(of: [parameters]).reduce(0) { $0 + $1.live }
        #expect(program.fullPasses == nil && program.stepCount <= 4097)
        #expect(Double(program.multiplyAdds) <= 1.2 * Double(pass), "\(program.multiplyAdds) of \(pass)")
        // Keys and values of what is still read, and what a step needs.
        let kept = program.values.reduce(0) { $0 + $1.count }
        #expect(kept <= (pattern == "window:64" ? 25 : 60) * 4096, "\(kept)")
    }

    /// Both products of NADE, whatever its blocks: the running sum of the first begins with that of the block before.
    @Test(arguments: [1, 3, 8]) func nade(block: Int) throws {
        let model = try NADE(ExampleShape([6])) {
            $0.hidden = 5
            $0.block = block
        }
        let found = contractions(of: [model.logProbability(.input("x", [.batch, 6]), Context())])
        let variables = (6 + min(block, 6) - 1) / min(block, 6) * min(block, 6)
        #expect(found.map(\.work.dense) == [variables * 5, variables * 5], "\(found)")
    }
}
