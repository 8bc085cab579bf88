import CPU
import Compiler
import Graph
import Layers
import Testing

@testable import Bijectors

/// Every bijector passes the same tests; a new one adds a line.
let bijectorCases: [BijectorCase] = {
    let shuffled = Order.sequence([3, 0, 4, 2, 1])
    var list: [BijectorCase] = [
        BijectorCase(name: "fixed affine", shape: [3], range: 1000) { FixedAffine(scale: -2.5, shift: 1) },
        BijectorCase(name: "affine", shape: [3], range: 1000) { ElementwiseAffine([3]) },
        BijectorCase(name: "exp", shape: [3], range: 80) { Exp() },
        // d(logit)/dz = 1 / (z (1 - z)), up to 3000 at |x| = 8.
        BijectorCase(name: "sigmoid", shape: [3], range: 8, condition: 3000) { Sigmoid() },
        BijectorCase(name: "logit", shape: [3], range: 0.999, condition: 1000) {
            Chain([FixedAffine(scale: 0.5, shift: 0.5), Logit(alpha: 1e-6)])
        },
        BijectorCase(name: "tanh", shape: [3], range: 4, condition: 800) { Tanh() },
        BijectorCase(name: "softplus", shape: [3], range: 8, condition: 8) { Softplus() },
        BijectorCase(name: "leaky ReLU", shape: [3], range: 1000) { LeakyReLU(slope: 0.1) },
        BijectorCase(name: "permutation", shape: [5]) { Permutation([3, 0, 4, 2, 1]) },
        BijectorCase(name: "reversal", shape: [5]) { Permutation.reversal(5) },
        BijectorCase(name: "reshape", shape: [2, 3]) { Reshaped(from: [2, 3], to: [6]) },
        BijectorCase(name: "squeeze", shape: [2, 4, 2]) { Squeeze() },
        BijectorCase(name: "squeeze of frames", shape: [1, 3, 4, 2]) { Squeeze() },
        BijectorCase(name: "dense linear", shape: [4], condition: 20) { DenseLinear(4) },
        BijectorCase(name: "1x1 convolution", shape: [3, 2, 2], condition: 20) { DenseLinear(3) },
        BijectorCase(name: "PLU", shape: [3, 2, 2], condition: 20) { PLULinear(3, permutation: [1, 2, 0]) },
        BijectorCase(name: "triangular", shape: [4], condition: 20) { TriangularLinear(4) },
        BijectorCase(name: "orthogonal", shape: [4], condition: 4) { OrthogonalLinear(4) },
        BijectorCase(name: "Householder", shape: [4], condition: 4) { Householder(4, reflections: 3) },
        BijectorCase(name: "Householder flow", shape: [4], features: 3, condition: 4) {
            Householder(4, reflections: 3, features: 3)
        },
        BijectorCase(name: "ActNorm", shape: [3, 2, 2]) { ActNorm(3) },
        BijectorCase(name: "batch normalisation", shape: [3, 2, 2]) { BatchNormalization(3) },
        BijectorCase(name: "planar", shape: [3], condition: 10) { Planar(3) },
        BijectorCase(name: "planar, amortized", shape: [3], features: 2, condition: 30) { Planar(3, features: 2) },
        BijectorCase(name: "radial", shape: [3], condition: 10) { Radial(3) },
        BijectorCase(name: "radial, amortized", shape: [3], features: 2, condition: 10) { Radial(3, features: 2) },
        BijectorCase(name: "Sylvester, orthogonal", shape: [4], condition: 50) {
            Sylvester(4, .orthogonal(columns: 2))
        },
        BijectorCase(name: "Sylvester, Householder", shape: [4], features: 2, condition: 50) {
            Sylvester(4, .householder(reflections: 2), features: 2)
        },
        BijectorCase(name: "Sylvester, triangular", shape: [4], condition: 50) {
            Sylvester(4, .triangular(reversed: true))
        },
    ]
    let transformers: [(String, Double, any Transformer)] = [
        ("additive", 2, AdditiveTransformer()),
        ("affine", 30, AffineTransformer()),
        ("affine, standardize", 30, AffineTransformer(.standardize, bound: .tanh(limit: 2))),
        ("affine, Glow", 30, AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2))),
        (
            "affine, Glow with a least scale", 30,
            AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2, least: 0.05))
        ),
        ("affine, gated", 30, AffineTransformer(.gated, bound: .sigmoid(shift: 2))),
        ("mixture CDF", 100, MixtureCDFTransformer(components: 3)),
        ("mixture of Gaussians", 100, MixtureCDFTransformer(.gaussian, components: 3)),
        ("deep sigmoidal", 100, DeepSigmoidTransformer(units: 3, layers: 2)),
        ("spline", 100, SplineTransformer(bins: 5)),
    ]
    for (name, condition, transformer) in transformers {
        // Searched inverses are unrolled once for each variable; three are enough to see every mistake that five show.
        let count = transformer is MixtureCDFTransformer || transformer is DeepSigmoidTransformer ? 3 : 5
        list.append(
            BijectorCase(name: "coupling, half, \(name)", shape: [5], condition: condition) {
                Coupling(
                    .half(keepsSecond: true), transformer,
                    conditioner: DenseNetwork(
                        3, hidden: [7], outputs: 2 * transformer.parameterCount, activation: .tanh))
            })
        list.append(
            BijectorCase(name: "coupling, alternating, \(name)", shape: [5], features: 2, condition: condition) {
                Coupling(
                    .alternating(keepsOdd: false), transformer,
                    conditioner: MaskedMLP.coupling(
                        kept: Partition.alternating(keepsOdd: false).kept([5]), hidden: [7, 6],
                        parameters: transformer.parameterCount, features: 2, activation: .tanh))
            })
        list.append(
            BijectorCase(name: "autoregressive, \(name)", shape: [count], condition: condition * 10) {
                Autoregressive(
                    count == 5 ? shuffled : .sequence([2, 0, 1]), transformer, hidden: [9, 8], activation: .tanh)
            })
        list.append(
            BijectorCase(
                name: "inverse autoregressive, \(name)", shape: [count], features: 2, condition: condition * 10
            ) {
                Inverted(
                    Autoregressive(.natural(count), transformer, hidden: [9], features: 2, activation: .tanh))
            })
    }
    list += circularCases
    list += imageCases
    list += continuousCases
    list.append(
        BijectorCase(name: "composition", shape: [4], condition: 100) {
            Chain([
                Coupling(
                    .half(keepsSecond: false), AffineTransformer(),
                    conditioner: DenseNetwork(2, hidden: [6], outputs: 4)),
                Permutation([2, 0, 3, 1]), ActNorm(4),
                Autoregressive(.natural(4), SplineTransformer(bins: 4), hidden: [8]),
            ])
        })
    return list
}()

/// Splines of circles in columns 0 and 2, conditioners that read them by cosine and sine.
private let circularCases: [BijectorCase] = {
    let circular = CircularColumns([0, 2], CircularSplineTransformer(bins: 4, low: -.pi))
    let transformer = circular.transformer(SplineTransformer(bins: 3), variables: 4)
    return [
        BijectorCase(name: "coupling, circular columns", shape: [4], features: 2, condition: 100) {
            let partition = Partition.alternating(keepsOdd: true)
            return Coupling(
                partition, transformer,
                conditioner: circular.coupling(
                    kept: partition.kept([4]), hidden: [7], parameters: transformer.parameterCount, features: 2,
                    activation: .tanh))
        },
        BijectorCase(name: "autoregressive, circular columns", shape: [4], features: 2, condition: 1000) {
            let order = Order.sequence([2, 1, 0, 3])
            return Autoregressive(
                order, transformer,
                conditioner: circular.autoregressive(
                    order: order, hidden: [9], parameters: transformer.parameterCount, features: 2, activation: .tanh))
        },
        BijectorCase(name: "coupling, half, circular spline", shape: [5], condition: 100) {
            Coupling(
                .half(keepsSecond: true), CircularSplineTransformer(bins: 4, low: -.pi),
                conditioner: DenseNetwork(3, hidden: [7], outputs: 2 * 13, activation: .tanh))
        },
    ]
}()

/// Couplings of images whose networks are residual, of videos, and the latents of a video's frames.
private let imageCases: [BijectorCase] = {
    func residual(_ norm: ConvolutionNorm, features: Int = 0) -> BijectorCase {
        BijectorCase(name: "coupling, residual, norm \(norm)", shape: [2, 3, 2], features: features, condition: 30) {
            Coupling(
                .checkerboard(keepsOdd: true), AffineTransformer(),
                conditioner: ResidualNetwork(
                    2, hidden: 3, blocks: 2, outputs: 4, features: features, norm: norm, dropout: 0.3,
                    activation: .tanh, startsAtIdentity: false))
        }
    }
    func dynamics(_ name: String, kept: Int, contextFrames: Int, features: Int = 0) -> BijectorCase {
        BijectorCase(
            name: "latent dynamics, \(name)", shape: [kept + 1, 3, 2, 1], features: features, condition: 1000
        ) {
            LatentDynamics(
                kept: kept, channels: 1, frames: 3, contextFrames: contextFrames, hidden: 3, blocks: 1,
                features: features, limit: 1)
        }
    }
    return [
        residual(.none), residual(.layer, features: 2), residual(.weight, features: 2),
        BijectorCase(name: "coupling of frames", shape: [2, 2, 2, 2], features: 2, condition: 30) {
            Coupling(
                .half(keepsSecond: true), AffineTransformer(),
                conditioner: ConvolutionNetwork(
                    channels: [1, 3, 2], kernels: [3, 3], features: 2, activation: .tanh, startsAtIdentity: false,
                    isVideo: true))
        },
        dynamics("two earlier frames", kept: 1, contextFrames: 2, features: 2),
        dynamics("more than there are", kept: 2, contextFrames: 5),
        dynamics("no level above", kept: 0, contextFrames: 1),
        dynamics("no earlier frames", kept: 1, contextFrames: 0),
    ]
}()

/// In so little time, and at such tolerances, that solvers err by rounding alone.
private let continuousCases: [BijectorCase] = {
    [
        BijectorCase(name: "continuous, RK4", shape: [2], condition: 1000) {
            ContinuousFlow(
                TimeNetwork(variables: 2, hidden: [4, 3], startsAtIdentity: false), solver: .fixed(.rk4, steps: 12),
                duration: 0.1)
        },
        BijectorCase(name: "continuous, adaptive", shape: [3], features: 2, condition: 10_000) {
            ContinuousFlow(
                TimeNetwork(variables: 3, hidden: [4, 3, 4], time: .concat, features: 2, startsAtIdentity: false),
                solver: .adaptive(tolerance: 1e-11), duration: 0.2)
        },
    ]
}()

@Suite struct BijectorTests {
    private func input(_ test: BijectorCase, batch: Int, _ element: ElementType, seed: UInt64 = 11) -> [String:
        HostArray]
    {
        let count = test.shape.reduce(1, *)
        var feeds = [
            "x": HostArray(
                Values(
                    shape: [batch] + test.shape, elements: numbers(batch * count, seed: seed).map { $0 * test.range }),
                as: element)
        ]
        if test.features > 0 {
            feeds["features"] = HostArray(
                Values(shape: [batch, test.features], elements: numbers(batch * test.features, seed: seed + 1)),
                as: element)
        }
        return feeds
    }

    private func pass(_ test: BijectorCase, _ element: ElementType) -> Context {
        Context(features: test.features > 0 ? .input("features", [.batch, Extent(test.features)], element) : nil)
    }

    /// |x - inverse(forward(x))| is at most 64 units in the last place times the condition number, in both types, and the
    /// log-determinants of both ways cancel.
    @Test(arguments: bijectorCases) func comesBack(_ test: BijectorCase) throws {
        for element in [ElementType.float32, .float64] {
            let bench = try Bench(test, element)
            let x = Tensor.input("x", test.exampleShape, element)
            let forward = bench.bijector.forward(x, pass(test, element))
            let back = bench.bijector.inverse(forward.value, pass(test, element))
            let batch = 50
            let feeds = input(test, batch: batch, element)
            let found = try bench.run(
                [back.value, forward.logDeterminant, back.logDeterminant, forward.value], feeds, batch: batch)
            let unit = element == .float64 ? 0x1p-52 : 0x1p-23
            let given = feeds["x"]!.doubles
            let scale = given.map(\.magnitude).max()!
            for (a, b) in zip(found[0].doubles, given) {
                let allowed = 64 * unit * test.condition * max(abs(b), test.condition > 1 ? min(1, scale) : abs(b))
                #expect(
                    abs(a - b) <= max(allowed, unit * 4),
                    "\(element): \(a) for \(b), \(abs(a - b) / (unit * max(abs(b), 1e-30))) ulp")
            }
            for (a, b) in zip(found[1].doubles, found[2].doubles) {
                #expect(
                    abs(a + b) <= 1e3 * unit * test.condition * max(1, abs(a)),
                    "\(element): log-determinants \(a) and \(b)")
            }
        }
    }

    /// The log-determinant against that of the Jacobian: by central differences of the double interpreter for 1e-9, which the
    /// gradient graph gives exactly.
    @Test(arguments: bijectorCases) func logDeterminantIsTheJacobians(_ test: BijectorCase) throws {
        for element in [ElementType.float32, .float64] {
            let bench = try Bench(test, element)
            let x = Tensor.input("x", test.exampleShape, element)
            let forward = bench.bijector.forward(x, pass(test, element))
            let count = test.shape.reduce(1, *)
            // Row i of the Jacobian is the gradient of output i.
            let flat = forward.value.reshaped([.batch, Extent(count)])
            let rows = try (0..<count).map { i in
                try gradients(of: flat.sliced(axis: 1, from: i, count: 1).sum(), with: [x])[0].reshaped([
                    .batch, Extent(count),
                ])
            }
            let batch = 6
            let found = try bench.run([forward.logDeterminant] + rows, input(test, batch: batch, element), batch: batch)
            for b in 0..<batch {
                var matrix = (0..<count).flatMap { i in found[1 + i].rows(b..<b + 1).doubles }
                _ = MatrixOperation.decompose(&matrix, count)
                let brute = (0..<count).reduce(0.0) { $0 + Math.log(abs(matrix[$1 * count + $1])) }
                let value = found[0].doubles[b]
                let tolerance = element == .float64 ? 1e-9 : 1e-5
                // The float32 Jacobian itself is rounded; its condition is the map's.
                let slack = element == .float64 ? 1 : max(1, test.condition / 10)
                #expect(
                    abs(value - brute) <= tolerance * slack * max(1, abs(brute)),
                    "\(element): \(value) against \(brute)")
            }
        }
    }

    /// Gradients of log p under a standard normal, with respect to every parameter and to x, against central differences in
    /// double precision; at the start and after 100 steps of training.
    @Test(arguments: bijectorCases, [0, 100]) func gradientsMatchFiniteDifferences(
        _ test: BijectorCase, steps: Int
    )
        async throws
    {
        let bench = try Bench(test, .float64)
        let x = Tensor.input("x", test.exampleShape, .float64)
        let batch = 3
        var feeds = input(test, batch: batch, .float64)
        for (name, value) in feeds where name == "x" {
            feeds[name] = HostArray(Values(shape: value.shape, elements: value.doubles.map { $0 * 0.5 }), as: .float64)
        }
        let forward = bench.bijector.forward(x, pass(test, .float64))
        let bent = forward.value / Double(max(1, test.range))
        let loss = (bent.squared() * -0.5).sum() + forward.logDeterminant.sum()
        let variables = bench.parameters.map(\.parameter.tensor) + [x]
        if steps > 0, !bench.parameters.isEmpty {
            let own = Array(variables.dropLast())
            let slopes = try gradients(of: loss, with: own)
            // Steps of one length, so that any loss stays in reach.
            let norm = slopes.map { ($0 * $0).sum() }.reduce(Tensor.scalar(1e-3, .float64)) { $0 + $1 }.sqrt()
            let schedule = try compile([], updates: zip(own, slopes).map { StateUpdate($0, $0 + $1 * 0.005 / norm) })
            let step = try bench.device.load(schedule, maximumBatch: batch, states: bench.states)
            for _ in 0..<steps {
                _ = try step.run(
                    feeds.mapValues { .host($0) }.filter { name, _ in
                        schedule.inputs.contains { schedule.values[$0].label == name }
                    }, batch: batch)
            }
        }
        let exact = try bench.run(try gradients(of: loss, with: variables), feeds, batch: batch)
        var bindings = feeds.mapValues(\.values)
        for (name, value) in bench.values {
            bindings[name] = try HostArray(reading: bench.states[name]!, type: .float64, shape: value.shape).values
        }
        let names = bench.parameters.map(\.parameter.label) + ["x"]
        for (name, gradient) in zip(names, exact) {
            let value = bindings[name]!
            let picked = stride(from: 0, to: value.elements.count, by: max(1, value.elements.count / 6))
            for e in picked {
                let step = 1e-6 * max(1, abs(value.elements[e]))
                let side = { @Sendable [bindings] (move: Double) in
                    var moved = bindings
                    moved[name]!.elements[e] += move
                    return try Interpreter(batch: batch, moved).run(loss).elements[0]
                }
                async let above = side(step)
                async let below = side(-step)
                let sides = try await (above: above, below: below)
                let numeric = (sides.above - sides.below) / (2 * step)
                #expect(
                    abs(numeric - gradient.doubles[e]) <= 2e-6 * max(1, abs(numeric), abs(sides.above) * 1e-3),
                    "\(name)[\(e)]: \(gradient.doubles[e]) against \(numeric)")
            }
        }
    }

    /// What a bijector says of its Jacobian holds for its graph.
    @Test(arguments: bijectorCases) func structureIsProved(_ test: BijectorCase) throws {
        let bijector = test.make()
        let context = test.features > 0 ? Tensor.input("features", [.batch, Extent(test.features)]) : nil
        let proofs = try bijector.proveStructure(test.exampleShape, features: context)
        let claiming = ["coupling", "autoregressive", "dynamics"]
        if claiming.contains(where: test.name.contains) { #expect(proofs.count == 1) }
        #expect(!bijector.structure.description.isEmpty)
    }
}
