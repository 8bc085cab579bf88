import Bijectors
import CPU
import Compiler
import Graph
import Layers
import Models
import Testing

@testable import Distributions

/// Where distributions end: values that cannot be drawn, shapes and settings that do not fit.
@Suite struct DistributionLimitTests {
    /// What a CPU computes of tensors of a distribution whose parameters were moved off their starts.
    private func run(
        _ outputs: [Tensor], of distribution: any Distribution, _ x: [Float], width: Int = 1
    ) throws -> [[Float]] {
        let device = try CPUDevice(threads: 1)
        var states: [String: any DeviceBuffer] = [:]
        for (index, (name, parameter)) in distribution.namedParameters().enumerated() {
            let moved = numbers(parameter.shape.reduce(1, *), seed: UInt64(index) + 7)
            let values = zip(parameter.initialValue(named: name, seed: 1).floats, moved).map { $0 + Float($1) * 0.4 }
            let buffer = try device.makeBuffer(byteCount: 4 * values.count)
            try values.withUnsafeBytes { try buffer.write($0) }
            states[parameter.label] = buffer
        }
        let batch = x.count / width
        return try device.load(compile(outputs), maximumBatch: batch, states: states)
            .run(["x": .host(HostArray(x, shape: [batch, width]))], batch: batch).map(\.floats)
    }

    // MARK: Support

    /// Numbers that cannot be drawn have minus infinity, NaN has NaN, and both leave the gradients what the others make
    /// them.
    @Test func impossibleNumbersHaveNoProbability() throws {
        let cases: [(distribution: any Distribution, possible: [Float], impossible: [Float])] = [
            (Bernoulli([1]), [0, 1], [-1, 0.5, 2, 1e30, .infinity, -.infinity]),
            (
                Categorical(variables: 1, levels: 3), [0, 1, 2],
                [-1, 0.5, 3, 99, 1e30, .infinity, -.infinity]
            ),
            (
                DiscretizedLogistic([1], levels: 8), (0..<8).map { Float($0) },
                [-1, 3.5, 8, 1e30, .infinity, -.infinity]
            ),
            (Mixture([Uniform(0, 1), Uniform(2, 3)]), [0, 0.5, 2], [-1, 1, 1.5, 3, .infinity, -.infinity]),
            (
                Mixture([Bernoulli([1]), Categorical(variables: 1, levels: 4)]), [0, 1, 2, 3],
                [-1, 0.5, 4, .infinity]
            ),
        ]
        for (distribution, possible, impossible) in cases {
            let parameters = distribution.namedParameters().map(\.parameter.tensor)
            let x = Tensor.input("x", [.batch, 1])
            let logs = distribution.logProbability(x)
            let slopes = try gradients(of: logs.sum(), with: parameters)
            let alone = try run([logs] + slopes, of: distribution, possible)
            let areFinite = alone.joined().allSatisfy(\.isFinite)
            #expect(areFinite, "\(distribution.name): \(alone)")
            #expect(alone[1...].joined().contains { $0 != 0 }, "\(distribution.name): \(alone)")
            let all = try run([logs] + slopes, of: distribution, possible + impossible)
            #expect(Array(all[0].prefix(possible.count)) == alone[0], "\(distribution.name): \(all[0])")
            #expect(all[0].dropFirst(possible.count).allSatisfy { $0 == -.infinity }, "\(distribution.name): \(all[0])")
            for (a, b) in zip(all[1...].joined(), alone[1...].joined()) {
                #expect(abs(a - b) <= 1e-5 * max(1, abs(b)), "\(distribution.name): \(all) and \(alone)")
            }
            let none = try run([logs], of: distribution, [.nan])[0]
            #expect(none[0].isNaN, "\(distribution.name): \(none)")
        }
    }

    /// Whole numbers may come in a type of whole numbers.
    @Test func levelsOfWholeTypes() throws {
        for distribution in [
            Bernoulli([1]) as any Distribution, Categorical(variables: 1, levels: 2),
            DiscretizedLogistic([1], levels: 2),
        ] {
            let x = Tensor.input("x", [.batch, 1])
            let pair = [distribution.logProbability(x), distribution.logProbability(x.cast(to: .int32))]
            let found = try run(pair, of: distribution, [0, 1, 2, -3])
            #expect(found[0] == found[1] && found[0][0].isFinite && found[0][2] == -.infinity, "\(found)")
        }
    }

    /// Densities of double precision are described in it.
    @Test func densitiesInDouble() throws {
        for distribution in [
            Bernoulli([2]) as any Distribution, Categorical(variables: 2, levels: 3),
            DiscretizedLogistic([2], levels: 4), DiagonalNormal([2]), Mixture([Uniform(0, 1), DiagonalNormal([2])]),
        ] {
            distribution.use(.float64)
            let log = distribution.logProbability(.input("x", [.batch, 2], .float64))
            #expect(try log.validated().elementType == .float64, "\(distribution.name)")
        }
    }

    /// Where there is one level, it is certain.
    @Test func oneLevelIsCertain() throws {
        for distribution in [
            DiscretizedLogistic([1], levels: 1) as any Distribution, Categorical(variables: 1, levels: 1),
        ] {
            let parameters = distribution.namedParameters().map(\.parameter.tensor)
            let logs = distribution.logProbability(.input("x", [.batch, 1]))
            let slopes = try gradients(of: logs.sum(), with: parameters)
            let found = try run([logs] + slopes, of: distribution, [0, 1])
            #expect(found[0] == [0, -.infinity], "\(distribution.name): \(found)")
            #expect(found[1...].joined().allSatisfy { $0 == 0 }, "\(distribution.name): \(found)")
        }
    }

    /// A sum that rounds up to the end of the interval is not drawn, nor is what rounds down below its start.
    @Test func uniformDrawsLieInside() throws {
        let device = try CPUDevice(threads: 1)
        let count = 1_000_000
        for (low, high) in [(1000.0, 1001.0), (-1e6, -1e6 + 1), (0, 1), (0.7, 0.8), (16_777_216, 16_777_220)] {
            let uniform = Uniform(low, high)
            let x = uniform.sample([.batch, 1], RandomSource())
            let found = try device.load(
                compile([x, uniform.logProbability(x)]), maximumBatch: count, states: [:]
            ).run(RandomSource.feeds(seed: 3, examples: Array(0..<count)).mapValues { .host($0) }, batch: count)
            let (drawn, logs) = (found[0].doubles, found[1].floats)
            let (least, greatest) = (drawn.min()!, drawn.max()!)
            #expect(least >= low && greatest < high, "\(uniform.name): \(least) to \(greatest)")
            let areFinite = logs.allSatisfy(\.isFinite)
            #expect(areFinite, "\(uniform.name)")
            let mean: Double = drawn.reduce(0) { $0 + ($1 - low) / (high - low) } / Double(count)
            #expect(abs(mean - 0.5) < (high > 1e7 ? 0.2 : 0.05), "\(uniform.name): \(mean)")
        }
    }

    // MARK: Shapes

    /// What broadcasting would let pass: one number for a vector, a vector for several, parameters of another shape.
    @Test func exampleShapesAreNotBroadcast() throws {
        let cases: [(distribution: any Distribution, shape: [Int], others: [[Int]])] = [
            (DiagonalNormal([3]), [3], [[1], [4], [2, 3], []]), (DiagonalNormal([1]), [1], [[3], [3, 1], []]),
            (FullNormal(3), [3], [[1], [4], [2, 3], []]), (FullNormal(1), [1], [[3], [2, 1], []]),
            (Bernoulli([3]), [3], [[1], [4], [2, 3], []]),
            (Bernoulli([2, 3]), [2, 3], [[3], [6], [1, 3], []]),
            (Categorical(variables: 3, levels: 4), [3], [[1], [4], [2, 3], []]),
            (DiscretizedLogistic([3], levels: 4), [3], [[1], [4], [2, 3], []]),
            (Mixture([DiagonalNormal(), FullNormal(3)]), [3], [[1], [2, 3]]),
        ]
        for (distribution, shape, others) in cases {
            let batch = { (example: [Int]) in Shape([.batch] + example.map { Extent($0) }) }
            let log = try compile([distribution.logProbability(.input("x", batch(shape)))])
            #expect(log.outputs.count == 1)
            #expect(distribution.sample(batch(shape), RandomSource()).shape == batch(shape))
            for other in others {
                let x = Tensor.input("x", batch(other))
                let error = #expect(throws: GraphError.self, "\(distribution.name) of \(other)") {
                    try compile([distribution.logProbability(x)])
                }
                if !(distribution is Mixture) {
                    let text = error?.description ?? ""
                    #expect(error?.operation == distribution.name, "\(text)")
                    let expected = (["batch"] + shape.map(\.description)).joined(separator: ", ")
                    #expect(text.contains("[\(expected)], found \(batch(other)) (DistributionLimitTests"), "\(text)")
                }
                #expect(throws: GraphError.self, "\(distribution.name), draws of \(other)") {
                    try compile([distribution.sample(batch(other), RandomSource())])
                }
                if let entropy = distribution.entropy(other) {
                    #expect(throws: GraphError.self, "\(distribution.name), entropy of \(other)") {
                        try compile([entropy])
                    }
                }
            }
        }
    }

    /// A flow has the width of its base.
    @Test func flowsFitTheirBases() throws {
        for base in [
            FullNormal(3) as any Distribution, Bernoulli([5]), DiagonalNormal([2]),
            Categorical(variables: 2, levels: 2), DiscretizedLogistic([2], levels: 2),
        ] {
            let flow = Flow(LeakyReLU(slope: 0.5), base: base, exampleShape: [1])
            #expect(throws: GraphError.self, "\(base.name)") {
                try compile([flow.logProbability(.input("x", flow.shape))])
            }
        }
        let flow = Flow(LeakyReLU(slope: 0.5), base: FullNormal(3), exampleShape: [3])
        #expect(try compile([flow.logProbability(.input("x", flow.shape))]).outputs.count == 1)
    }

    // MARK: Settings

    /// Settings that no distribution belongs to.
    @Test func impossibleSettingsAreRefused() async {
        await #expect(processExitsWith: .failure) { _ = Uniform(0, .infinity) }
        await #expect(processExitsWith: .failure) { _ = Uniform(-.infinity, 0) }
        await #expect(processExitsWith: .failure) { _ = Uniform(-3e38, 3e38) }
        await #expect(processExitsWith: .failure) { _ = Uniform(1, 1 + 1e-12) }
        await #expect(processExitsWith: .failure) { _ = FullNormal(0) }
        await #expect(processExitsWith: .failure) { _ = CategoricalConditional(levels: 0) }
        await #expect(processExitsWith: .failure) { _ = Categorical(variables: 1, levels: 0) }
        await #expect(processExitsWith: .failure) { _ = DiscretizedLogistic([1], levels: 0) }
        await #expect(processExitsWith: .failure) { _ = Mixture([]) }
        await #expect(processExitsWith: .failure) { _ = MixtureOfGaussians(components: 0) }
        await #expect(processExitsWith: .failure) { _ = DiscretizedLogisticMixture(levels: 1) }
        await #expect(processExitsWith: .failure) { _ = DiscretizedLogisticMixture(components: 0) }
        await #expect(processExitsWith: .failure) { _ = CoupledLogisticMixture(levels: 1) }
        await #expect(processExitsWith: .failure) { _ = CoupledLogisticMixture(components: 0) }
    }
}
