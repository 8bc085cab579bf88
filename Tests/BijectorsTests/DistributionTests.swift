import Bijectors
import CPU
import Compiler
import Datasets
import Graph
import Layers
import Models
import Likelihood
import Testing

@testable import Distributions

@Suite struct DistributionTests {
    private func bindings(_ distribution: any Distribution, seed: UInt64 = 2) -> [String: Values] {
        var result: [String: Values] = [:]
        for (index, (name, parameter)) in distribution.namedParameters().enumerated() {
            let moved = numbers(parameter.shape.reduce(1, *), seed: seed + UInt64(index))
            result[parameter.label] = Values(
                shape: parameter.shape,
                elements: zip(parameter.initialValue(named: name, seed: 1).doubles, moved).map { $0 + $1 * 0.4 })
        }
        return result
    }

    /// Draws, their mean log-probability, and the entropy's formula, which must be minus that mean.
    private func entropyMatches(_ distribution: any Distribution, shape: [Int], tolerance: Double = 0.03) throws {
        let count = 20_000
        let random = RandomSource()
        let event = Shape([.batch] + shape.map { Extent($0) })
        let x = distribution.sample(event, random)
        var all = bindings(distribution)
        for (name, feed) in RandomSource.feeds(seed: 5, examples: Array(0..<count)) { all[name] = feed.values }
        let logs = try Interpreter(batch: count, all).run(distribution.logProbability(x)).elements
        let isFinite = logs.allSatisfy { $0.isFinite }
        #expect(isFinite, "\(distribution.name)")
        let mean: Double = logs.reduce(0.0) { $0 + $1 } / Double(count)
        if let entropy = distribution.entropy(shape) {
            let value = try Interpreter(batch: 1, all.filter { !$0.key.hasPrefix("random.") }).run(entropy).elements[0]
            #expect(abs(mean + value) <= tolerance * max(1, abs(value)), "\(distribution.name): \(mean) and \(value)")
        }
    }

    @Test func entropies() throws {
        try entropyMatches(DiagonalNormal(), shape: [3])
        try entropyMatches(DiagonalNormal([3]), shape: [3])
        try entropyMatches(FullNormal(3), shape: [3])
        try entropyMatches(Logistic(), shape: [2])
        try entropyMatches(Uniform(-1, 3), shape: [2])
        try entropyMatches(Bernoulli([4]), shape: [4])
        try entropyMatches(Categorical(variables: 3, levels: 4), shape: [3])
        try entropyMatches(DiscretizedLogistic([2], levels: 16), shape: [2])
        try entropyMatches(Mixture([DiagonalNormal([2]), DiagonalNormal([2])]), shape: [2])
    }

    /// A mixture of mixtures chooses twice, by numbers that know nothing of one another.
    @Test func nestedMixtures() throws {
        let count = 4000
        let mixture = Mixture([0.0, 2].map { Mixture([Uniform($0, $0 + 1), Uniform($0 + 1, $0 + 2)]) })
        var all: [String: Values] = [:]
        for (name, parameter) in mixture.namedParameters() { all[parameter.label] = Values(shape: parameter.shape) }
        for (name, feed) in RandomSource.feeds(seed: 5, examples: Array(0..<count)) { all[name] = feed.values }
        let drawn = try Interpreter(batch: count, all).run(mixture.sample([.batch, 1], RandomSource())).elements
        for part in 0..<4 {
            let share = drawn.count { Int($0) == part }
            #expect(abs(share - 1000) < 150, "\(share)")
        }
    }

    /// What is no number has no density, not the density 0.
    @Test func densitiesOfNaN() throws {
        let mixture = Mixture([Uniform(0, 1), Uniform(1, 2)])
        let x = Tensor.input("x", [.batch, 1])
        let device = try CPUDevice(threads: 1)
        let logits = try device.makeBuffer(byteCount: 8)
        try [Float](repeating: 0, count: 2).withUnsafeBytes { try logits.write($0) }
        let found = try device.load(
            compile([mixture.logProbability(x), Uniform(0, 1).logProbability(x)]), maximumBatch: 3,
            states: [mixture.logits.label: logits]
        ).run(["x": .host(HostArray([Float.nan, 3, 0.5], shape: [3, 1]))], batch: 3)
        for logs in found.map(\.floats) {
            #expect(logs[0].isNaN)
            #expect(logs[1] == -.infinity)
            #expect(logs[2].isFinite)
        }
    }

    /// Every word that a generator can give makes a finite draw.
    @Test func logisticDrawsAreFinite() throws {
        let device = try CPUDevice(threads: 1)
        let bits = Tensor.input("bits", [.batch], .int32)
        let u = bits.apply(.uniformFromBits)
        let found = try device.load(compile([Logistic.draw(u)]), maximumBatch: 2, states: [:])
            .run(["bits": .host(HostArray([-1, 0] as [Int32]))], batch: 2)[0].doubles
        for x in found { #expect(abs(x) > 15 && abs(x) < 20) }
    }

    /// Probabilities of everything that a discrete distribution can give add up to one.
    @Test func discreteDistributionsSumToOne() throws {
        let logistic = DiscretizedLogistic([1], levels: 16)
        let all = Values(shape: [16, 1], elements: (0..<16).map { Double($0) })
        var bound = bindings(logistic)
        bound["x"] = all
        let logs = try Interpreter(batch: 16, bound).run(logistic.logProbability(.input("x", [.batch, 1]))).elements
        let total: Double = logs.reduce(0.0) { $0 + Math.exp($1) }
        #expect(abs(total - 1) < 1e-12)
    }

    /// A full normal against the closed form of two dimensions.
    @Test func fullNormal() throws {
        let normal = FullNormal(2)
        var bound = bindings(normal)
        bound["x"] = Values(shape: [1, 2], elements: [0.3, -1.2])
        let found = try Interpreter(batch: 1, bound).run(normal.logProbability(.input("x", [.batch, 2]))).elements[0]
        let (m, l, d) = (
            bound[normal.mean.label]!.elements, bound[normal.lower.label]!.elements[2],
            bound[normal.logDiagonal.label]!.elements
        )
        let first = (0.3 - m[0]) / Math.exp(d[0])
        let second = (-1.2 - m[1] - l * first) / Math.exp(d[1])
        let expected: Double = -0.5 * (first * first + second * second) - d[0] - d[1] - 2 * halfLogTwoPi
        // The graph's constants are float32.
        #expect(abs(found - expected) < 1e-6)
    }

    /// The classic baseline finds the mixture that its data were drawn from.
    @Test func gaussianMixtureByEM() throws {
        let density = PlanarDensity.eightGaussians
        let data = density.draw(seed: 4, count: 3000)
        let mixture = try GaussianMixture(fitting: data, components: 24, rounds: 60)
        for (a, b) in zip(mixture.history, mixture.history.dropFirst()) { #expect(b >= a) }
        let test = density.draw(seed: 4, start: 10_000, count: 2000)
        let x = test.doubles
        let model: Double = try mixture.logProbability(test).reduce(0.0) { $0 + $1 } / 2000
        let truth: Double = (0..<2000).reduce(0.0) { $0 + density.logDensity(x[2 * $1], x[2 * $1 + 1]) } / 2000
        #expect(truth - model < 0.15, "\(truth) and \(model)")
    }

    /// Uniform noise costs nothing; a flow's noise costs log q, and both bounds agree with the exact probability of a model
    /// whose density is constant on every unit cube.
    @Test func dequantizationBounds() throws {
        let (levels, d, batch) = (4, 2, 4000)
        let x = Tensor.input("x", [.batch, Extent(d)])
        let values = Values(shape: [batch, d], elements: (0..<batch * d).map { Double(($0 * 7 + $0 / 3) % levels) })
        for noise in [
            UniformDequantization(levels: levels) as any Dequantization,
            VariationalDequantization(variables: d, levels: levels, hidden: [6]),
        ] {
            var bound: [String: Values] = ["x": values]
            for (index, (name, parameter)) in noise.namedParameters().enumerated() {
                let moved = numbers(parameter.shape.reduce(1, *), seed: UInt64(index))
                var start = zip(parameter.initialValue(named: name, seed: 1).floats, moved).map { $0 + Float($1 * 0.3) }
                parameter.clearDead(&start)
                bound[parameter.label] = HostArray(start, shape: parameter.shape).values
            }
            for (name, feed) in RandomSource.feeds(seed: 5, examples: Array(0..<batch)) { bound[name] = feed.values }
            let (y, log) = noise.dequantize(x, Context())
            let found = try Interpreter(batch: batch, bound).run([y, log])
            for (a, b) in zip(found[0].elements, values.elements) { #expect(a >= b && a < b + 1) }
            // E[1 / q] over draws of q is the volume of the cube.
            let volume: Double = found[1].elements.reduce(0.0) { $0 + Math.exp(-$1) } / Double(batch)
            #expect(abs(volume - 1) < 0.1, "\(volume)")
        }
        #expect(abs(bitsPerDimension(nats: -2 * Math.log(4), dimensions: 2) - 2) < 1e-12)
    }

    /// The largest uniform, at which the noise would be infinite, draws nothing that is impossible; all others draw as they did.
    @Test func categoricalDrawsArePossible() throws {
        let device = try CPUDevice(threads: 1)
        let random = RandomSource()
        let (shape, logits): (Shape, Tensor) = ([.batch, 4, 8], .input("l", [.batch, 4, 8]))
        let u = random.uniform(shape, stream: 1)
        let noisy = logits - (-(u + 0x1p-25).log()).log()
        let isBest = noisy.equal(noisy.max(axes: [1], keepingAxes: true))
        let before = Tensor.select(isBest, Tensor.iota(shape, axis: 1).cast(to: .float32), 4).min(axes: [1])
        let program = try device.load(
            compile([u, CategoricalConditional(levels: 4).sample(logits, random), before]), maximumBatch: 300,
            states: [:])
        func draw(_ examples: [Int], _ logits: [Float]) throws -> [[Float]] {
            var feeds = RandomSource.feeds(seed: 11, examples: examples)
            feeds["l"] = HostArray(logits, shape: [examples.count, 4, 8])
            return try program.run(feeds.mapValues { .host($0) }, batch: examples.count).map(\.floats)
        }
        var some = [Float](repeating: 0, count: 32)
        let largest = try #require(try draw([96877], some)[0].firstIndex { $0 == 1 - 0x1p-24 })
        for impossible in [-Float.infinity, -1000] {
            some[largest] = impossible
            let drawn = try draw([96877], some)[1]
            #expect(drawn.allSatisfy { (0..<4).contains($0) } && drawn[largest % 8] != Float(largest / 8), "\(drawn)")
        }
        // What has no distribution has no draw.
        some = [Float](repeating: 0, count: 32)
        some[8] = .nan
        for level in 0..<4 { some[level * 8 + 1] = -.infinity }
        let drawn = try draw([5], some)[1]
        #expect(drawn[0].isNaN && drawn[1].isNaN && drawn[2...].allSatisfy { (0..<4).contains($0) }, "\(drawn)")
        let usual = try draw(Array(0..<300), numbers(300 * 32, seed: 6).map { Float($0 * 4) })
        #expect(usual[1] == usual[2])
    }

    /// A mixture whose weights are no numbers draws none.
    @Test func mixturesOfNaNDrawNaN() throws {
        let device = try CPUDevice(threads: 1)
        let random = RandomSource()
        let mixture = Mixture([Uniform(0, 1), Uniform(1, 2)])
        let logits = try device.makeBuffer(byteCount: 8)
        try [Float]([0, .nan]).withUnsafeBytes { try logits.write($0) }
        let parameters = Tensor.input("p", [.batch, 6, 1])
        let coupled = Tensor.concatenate([parameters, parameters, parameters, parameters], axis: 1)
            .sliced(axis: 1, from: 0, count: 20)
        var feeds = RandomSource.feeds(seed: 1, examples: [0]).mapValues { Feed.host($0) }
        feeds["p"] = .host(HostArray([0, .nan, 1, 2, 3, 4] as [Float], shape: [1, 6, 1]))
        let found = try device.load(
            compile([
                mixture.sample([.batch, 2], random), MixtureOfGaussians(components: 2).sample(parameters, random),
                DiscretizedLogisticMixture(levels: 16, components: 2).sample(parameters, random),
                CoupledLogisticMixture(levels: 16, components: 2).sample(coupled, random),
            ]),
            maximumBatch: 1, states: [mixture.logits.label: logits]
        ).run(feeds, batch: 1)
        for x in found.flatMap(\.floats) { #expect(x.isNaN) }
    }
}
