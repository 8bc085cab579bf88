import CPU
import Compiler
import Distributions
import Graph
import Layers
import Models
import OpenCL
import Testing

@testable import Bijectors

struct FlowCase: CustomTestStringConvertible, Sendable {
    let name: String
    /// Half the side of the square that holds the density's mass in two dimensions.
    var reach = 12.0
    /// Whether its inverse searches roots: unrolled, such a program takes OpenCL compilers minutes, so its samples are
    /// tested on the CPU.
    var searches = false
    let make: @Sendable (_ variables: Int) -> Flow
    var testDescription: String { name }
}

private let flowCases: [FlowCase] = [
    FlowCase(name: "NICE") { .nice(variables: $0, layers: 4, hidden: [8]) },
    FlowCase(name: "RealNVP") { .realNVP(variables: $0, layers: 4, hidden: [8], limit: 2) },
    FlowCase(name: "MAF") { .maf(variables: $0, layers: 3, hidden: [8], limit: 3, normalization: .actNorm) },
    FlowCase(name: "MAF, batch norm") {
        .maf(variables: $0, layers: 2, hidden: [8], limit: 3, normalization: .batchNorm)
    },
    FlowCase(name: "MAF MoG") { .mafMoG(variables: $0, layers: 2, hidden: [8], components: 3, limit: 3) },
    FlowCase(name: "IAF") { .iaf(variables: $0, layers: 2, hidden: [8]) },
    FlowCase(name: "spline coupling") {
        .coupling(variables: $0, layers: 2, hidden: [8], transformer: SplineTransformer(bins: 4))
    },
    FlowCase(name: "NAF", reach: 40, searches: true) {
        .autoregressive(
            variables: $0, layers: 1, hidden: [8], transformer: DeepSigmoidTransformer(units: 3), activation: .tanh)
    },
    FlowCase(name: "mixture coupling", searches: true) {
        .coupling(variables: $0, layers: 2, hidden: [8], transformer: MixtureCDFTransformer(components: 2))
    },
    FlowCase(name: "Gaussian mixtures", reach: 40, searches: true) {
        .autoregressive(
            variables: $0, layers: 1, hidden: [8], transformer: MixtureCDFTransformer(.gaussian, components: 2))
    },
    FlowCase(name: "mixture of four flows") { variables in
        Flow(
            ElementwiseAffine([variables]),
            base: Mixture(
                (0..<4).map { index in
                    index % 2 == 0
                        ? Flow.realNVP(variables: variables, layers: 2, hidden: [6], limit: 1)
                        : Flow.maf(variables: variables, layers: 2, hidden: [6], limit: 1)
                }), exampleShape: [variables])
    },
    FlowCase(name: "flow on a flow", reach: 14) { variables in
        .maf(
            variables: variables, layers: 2, hidden: [8], limit: 1,
            base: Flow.coupling(variables: variables, layers: 2, hidden: [8], transformer: SplineTransformer(bins: 4)))
    },
    FlowCase(name: "transformers over patches") { variables in
        Flow(
            Chain(
                (0..<2).map { index in
                    let conditioner = PatchTransformer(
                        patch: 1, positions: variables, width: 8, heads: 2, layers: 1, parameters: 2,
                        isReversed: index == 1, index: index)
                    return Autoregressive(
                        conditioner.order, AffineTransformer(.standardize, bound: .tanh(limit: 1)),
                        conditioner: conditioner)
                }), base: DiagonalNormal(), exampleShape: [variables])
    },
    FlowCase(name: "planar") { .planar(variables: $0, layers: 4) },
    FlowCase(name: "radial") { .radial(variables: $0, layers: 4) },
    FlowCase(name: "continuous") { .continuous(variables: $0, hidden: [8], startsAtIdentity: false) },
    FlowCase(name: "continuous, RK4") {
        .continuous(variables: $0, hidden: [8, 8], solver: .fixed(.rk4, steps: 20), startsAtIdentity: false)
    },
]

/// The CPU, and OpenCL where there is one.
func devices() throws -> [any Device] {
    var result: [any Device] = [try CPUDevice(threads: 2)]
    if let other = try? OpenCLDevice.named("opencl") { result.append(other) }
    return result
}

/// A flow's parameters on a device, moved off their starts.
func states(_ flow: Flow, _ device: any Device, noise: Double = 0.3) throws -> [String: any DeviceBuffer] {
    var result: [String: any DeviceBuffer] = [:]
    for (index, (name, parameter)) in flow.namedParameters().enumerated() {
        let moved = numbers(parameter.shape.reduce(1, *), seed: UInt64(index + 9)).map { Float($0 * noise) }
        var values = zip(parameter.initialValue(named: name, seed: 4).floats, moved).map {
            parameter.isTrained ? $0 + $1 : $0
        }
        parameter.clearDead(&values)
        let buffer = try device.makeBuffer(byteCount: values.count * 4)
        try HostArray(values, shape: parameter.shape).withUnsafeBytes { try buffer.write($0) }
        result[parameter.label] = buffer
    }
    return result
}

@Suite(.serialized) struct FlowTests {
    /// Every two-dimensional density integrates to one on a grid.
    @Test(arguments: flowCases) func integratesToOne(_ test: FlowCase) throws {
        let device = try CPUDevice(threads: 2)
        let flow = test.make(2)
        let x = Tensor.input("x", [.batch, 2])
        let side = test.reach > 20 ? 1200 : 500
        let width = 2 * test.reach
        let program = try device.load(
            compile([flow.logProbability(x)]), maximumBatch: side * side, states: try states(flow, device))
        var grid: [Float] = []
        for i in 0..<side * side {
            grid.append(Float((Double(i % side) + 0.5) / Double(side) * width - width / 2))
            grid.append(Float((Double(i / side) + 0.5) / Double(side) * width - width / 2))
        }
        let logs = try program.run(["x": .host(HostArray(grid, shape: [side * side, 2]))], batch: side * side)[0]
            .doubles
        let cell = (width / Double(side)) * (width / Double(side))
        let total = logs.reduce(0) { $0 + Math.exp($1) } * cell
        #expect(abs(total - 1) < 1e-3, "\(total)")
    }

    /// Latents go back to where they came from, through formulas and compiled incremental programs, on every device.
    @Test(arguments: flowCases) func inverseComesBack(_ test: FlowCase) throws {
        let (count, batch) = (6, 70)
        for device in test.searches ? [try CPUDevice(threads: 2)] : try devices() {
            let flow = test.make(count)
            let own = try states(flow, device)
            let x = Tensor.input("x", flow.shape)
            let forward = try device.load(
                compile([flow.bijector.forward(x, Context()).value]), maximumBatch: batch, states: own)
            let given = HostArray(numbers(batch * count, seed: 77).map { Float($0 * 2) }, shape: [batch, count])
            let z = try forward.run(["x": .host(given)], batch: batch)[0]
            let inverse = try InverseProgram(
                flow.bijector, example: flow.shape, device: device, maximumBatch: batch, states: own)
            let back = try inverse.run(z)
            for (a, b) in zip(back.floats, given.floats) {
                #expect(abs(a - b) <= 1e-3 * max(1, abs(b)), "\(device.name)")
            }
        }
    }

    /// OpenCL against the CPU, group by group.
    @Test(arguments: flowCases) func devicesAgree(_ test: FlowCase) throws {
        let all = try devices()
        guard all.count == 2 else { return }
        let flow = test.make(6)
        let x = Tensor.input("x", flow.shape)
        let log = flow.logProbability(x)
        let loss = -log.mean()
        let schedule = try compile(
            [log] + gradients(of: loss, with: flow.parameters.filter(\.isTrained).map(\.tensor)))
        let given = HostArray(numbers(40 * 6, seed: 5).map { Float($0 * 2) }, shape: [40, 6])
        var results: [[HostArray]] = []
        for device in all {
            let program = try device.load(schedule, maximumBatch: 40, states: try states(flow, device))
            results.append(try program.run(["x": .host(given)], batch: 40))
        }
        for (a, b) in zip(results[0], results[1]) {
            let scale = max(1, a.floats.map(\.magnitude).max() ?? 0)
            let worst = zip(a.floats, b.floats).map { abs($0 - $1) }.max() ?? 0
            #expect(worst <= 2e-5 * scale, "\(worst) of \(scale)")
        }
    }

    /// A conditioner that reads what it must not is refused, and the way is named.
    @Test func brokenConditionersAreRefused() throws {
        let all = BitMatrix(rows: 7, columns: 4) { _, _ in true }
        let out = BitMatrix(rows: 8, columns: 7) { _, _ in true }
        let maf = Autoregressive(
            .natural(4), AffineTransformer(), conditioner: MaskedMLP(masks: [all, out]))
        let leak = #expect(throws: DependencyLeak.self) { try maf.proveStructure([.batch, 4]) }
        #expect(leak?.description.contains("x[") == true)
        let coupling = Coupling(
            .alternating(keepsOdd: true), AffineTransformer(),
            conditioner: PeekingConditioner())
        #expect(throws: DependencyLeak.self) { try coupling.proveStructure([.batch, 4]) }
        let device = try CPUDevice(threads: 1)
        #expect(throws: DependencyLeak.self) {
            try InverseProgram(
                maf, example: [.batch, 4], device: device, maximumBatch: 1,
                states: try states(Flow(maf, base: DiagonalNormal(), exampleShape: [4]), device))
        }
    }

    /// What a conditioner's order does not show: a transformer that mixes elements, and examples that reach a conditioner by another way.
    @Test func nothingFalseIsProved() throws {
        for mixing in [MixingTransformer(reads: .before), MixingTransformer(reads: .behind)] {
            let bijectors: [any Bijector] = [
                Autoregressive(.natural(4), mixing, hidden: [6]),
                Coupling(
                    .half(keepsSecond: false), mixing, conditioner: DenseNetwork(2, hidden: [], outputs: 2)),
                Coupling(
                    .alternating(keepsOdd: true), mixing,
                    conditioner: MaskedMLP.coupling(kept: [false, true, false, true], hidden: [6], parameters: 1)),
            ]
            for bijector in bijectors {
                let leak = #expect(throws: DependencyLeak.self) { try bijector.proveStructure([.batch, 4]) }
                #expect(leak?.description.contains("mixing, transformed") == true)
            }
        }
        let x = Tensor.input("x", [.batch, 4])
        let coupling = Coupling(
            .half(keepsSecond: false), AdditiveTransformer(), conditioner: RememberingConditioner(x: x))
        let error = #expect(throws: GraphError.self) { try coupling.proveStructure([.batch, 4]) }
        #expect(error?.description.contains("“x”") == true)
        // A context may be computed from an input.
        let context = Tensor.input("image", [.batch, 3]).tanh()
        let maf = Autoregressive(.natural(4), AffineTransformer(), hidden: [6], features: 3)
        #expect(try maf.proveStructure([.batch, 4], features: context).count == 1)
    }

    /// A bijector that does not fit its examples is an error of the graph, in every direction and in the proof.
    @Test func misfitsAreGraphErrors() throws {
        let network = DenseNetwork(6, hidden: [], outputs: 12)
        for partition in [Partition.mask([true, false]), .checkerboard(keepsOdd: true)] {
            let coupling = Coupling(partition, AffineTransformer(), conditioner: network)
            let x = Tensor.input("x", [.batch, 6])
            #expect(throws: GraphError.self) { try compile([coupling.forward(x, Context()).value]) }
            #expect(throws: GraphError.self) { try compile([coupling.inverse(x, Context()).logDeterminant]) }
            #expect(throws: GraphError.self) { try coupling.proveStructure([.batch, 6]) }
            #expect(throws: GraphError.self) { try Chain([coupling, coupling]).proveStructure([.batch, 6]) }
        }
        for flow in [
            Flow.glow(channels: 1, height: 6, width: 6, steps: 1, hidden: 2),
            .realNVPImage(channels: 1, height: 5, width: 6, hidden: 2),
        ] {
            let shape = flow.shape
            #expect(throws: GraphError.self) { try compile([flow.logProbability(.input("x", shape))]) }
            #expect(throws: GraphError.self) {
                try compile([flow.bijector.inverse(.input("z", [.batch, 36]), Context()).value])
            }
            #expect(throws: GraphError.self) { try flow.proveStructure() }
        }
    }

    /// What broadcasting would let pass: maps of another width than the examples', and conditioners of another than their
    /// elements', whose determinants would silently be wrong.
    @Test func widthsAreNotBroadcast() throws {
        let cases: [(any Bijector, [Int])] = [
            (Permutation([1, 0, 2]), [4]), (Permutation([1, 0, 4, 2, 3]), [4]), (Permutation.reversal(3), [4]),
            (Householder(1, reflections: 1), [4]), (Householder(4, reflections: 1), [1]), (Planar(4), [1]),
            (Planar(1), [4]), (Radial(4), [1]), (Radial(1), [4]), (Sylvester(3, .householder(reflections: 2)), [1]),
            (Sylvester(3, .householder(reflections: 2)), [2]), (Sylvester(1, .triangular(reversed: false)), [3]),
            (Sylvester(3, .orthogonal(columns: 2)), [1]),
        ]
        // More latents, or a larger image, than the levels of a flow have.
        let glow = Flow.glow(channels: 1, height: 4, width: 4, scales: 2, steps: 1, hidden: 2).bijector
        for count in [15, 20] {
            #expect(throws: GraphError.self) {
                try compile([glow.inverse(.input("z", [.batch, Extent(count)]), Context()).value])
            }
        }
        #expect(throws: GraphError.self) {
            try compile([glow.forward(.input("x", [.batch, 1, 8, 8]), Context()).value])
        }
        let square = Tensor.input("x", [.batch, 2, 2])
        #expect(throws: GraphError.self) {
            try compile([Reshaped(from: [4], to: [2, 2]).forward(square, Context()).value])
        }
        for (bijector, shape) in cases {
            let x = Tensor.input("x", Shape([.batch] + shape.map { Extent($0) }))
            #expect(throws: GraphError.self) { try compile([bijector.forward(x, Context()).value]) }
            #expect(throws: GraphError.self) { try compile([bijector.inverse(x, Context()).value]) }
        }
        let conditioned: [(any Bijector, [Int])] = [
            // One scale for all elements of a half, and a number more than two for each.
            (
                Coupling(
                    .half(keepsSecond: false), AffineTransformer(), conditioner: DenseNetwork(3, hidden: [], outputs: 2)
                ), [6]
            ),
            (
                Coupling(
                    .half(keepsSecond: false), AffineTransformer(), conditioner: DenseNetwork(3, hidden: [], outputs: 7)
                ), [6]
            ),
            (
                Coupling(
                    .checkerboard(keepsOdd: true), AffineTransformer(),
                    conditioner: ConvolutionNetwork(channels: [3, 2], kernels: [3])), [3, 4, 4]
            ),
            // An order of fewer variables than there are.
            (
                Autoregressive(
                    .natural(3), AffineTransformer(),
                    conditioner: MaskedMLP.autoregressive(order: .natural(6), hidden: [], parameters: 2)), [6]
            ),
            // A convolution of something that is no image.
            (
                Coupling(
                    .alternating(keepsOdd: true), AffineTransformer(),
                    conditioner: ConvolutionNetwork(channels: [4, 8], kernels: [1])), [4]
            ),
        ]
        for (bijector, shape) in conditioned {
            let example = Shape([.batch] + shape.map { Extent($0) })
            let x = Tensor.input("x", example)
            #expect(throws: GraphError.self) { try compile([bijector.forward(x, Context()).value]) }
            #expect(throws: GraphError.self) { try compile([bijector.inverse(x, Context()).value]) }
            #expect(throws: GraphError.self) { try bijector.proveStructure(example) }
        }
    }

    /// The proof of an inverse reads what the original reads, whose shape is another where the original changes shapes.
    @Test func inversesThatChangeShapesAreProved() throws {
        let coupling = Coupling(
            .half(keepsSecond: false), AffineTransformer(),
            conditioner: ConvolutionNetwork(channels: [2, 4], kernels: [3], startsAtIdentity: false))
        let chain = Chain([Squeeze(), coupling])
        let flow = Flow.glow(channels: 1, height: 8, width: 8, scales: 2, steps: 1, hidden: 4)
        let inverses: [(any Bijector, Shape)] = [
            (Inverted(chain), [.batch, 4, 4, 4]), (Chain([chain, Inverted(chain)]), [.batch, 1, 8, 8]),
            (Inverted(Inverted(Inverted(chain))), [.batch, 4, 4, 4]), (Inverted(flow.bijector), [.batch, 64]),
        ]
        for (bijector, shape) in inverses {
            #expect(try bijector.proveStructure(shape).isEmpty == false)
        }
    }

    /// The inverse of an inverse is the original, also for what is said of it and for how it is inverted.
    @Test func inversesOfInverses() throws {
        let maf = Autoregressive(.natural(4), AffineTransformer(), hidden: [6])
        let twice = Inverted(Inverted(maf))
        #expect(twice.structure.description == maf.structure.description)
        let chains: [(any Bijector, Int)] = [
            (twice, 1), (Inverted(Chain([Permutation([1, 0, 3, 2]), Inverted(maf)])), 1),
            (Inverted(Chain([Inverted(maf), Inverted(maf)])), 2), (Inverted(maf), 0),
        ]
        for (bijector, sequential) in chains {
            let stages = try bijector.inverseStages([.batch, 4], input: "z")
            let found = stages.count { if case .sequential = $0 { true } else { false } }
            #expect(found == sequential)
            #expect((bijector.structure.inversion == .sequential) == (sequential > 0))
        }
        let device = try CPUDevice(threads: 1)
        let bijector = chains[1].0
        let flow = Flow(bijector, base: DiagonalNormal(), exampleShape: [4])
        let all = try states(flow, device)
        let z = HostArray(numbers(12, seed: 9).map { Float($0) }, shape: [3, 4])
        let x = try InverseProgram(bijector, example: [.batch, 4], device: device, maximumBatch: 3, states: all).run(z)
        let again = try device.load(
            compile([bijector.forward(.input("x", [.batch, 4]), Context()).value]), maximumBatch: 3, states: all
        ).run(["x": .host(x)], batch: 3)[0]
        for (a, b) in zip(again.floats, z.floats) { #expect(abs(a - b) < 1e-5) }
    }

    /// Reads the mean of the batch: examples would leak into one another.
    private struct PeekingConditioner: Conditioner {
        func callAsFunction(_ x: Tensor, _ features: Context) -> Tensor {
            let y = (x - x.mean(axes: [0]).broadcast(to: x.shape)).flipped(axes: [1])
            return .concatenate([y, y], axis: 1)
        }
    }

    private struct MixingTransformer: Transformer {
        enum Reads { case before, behind }
        let reads: Reads
        let name = "mixing"
        let parameterCount = 1
        let inverseFormula = "none"

        func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
            let sums =
                reads == .before
                ? x.cumulativeSum(axis: 1) : x.flipped(axes: [1]).cumulativeSum(axis: 1).flipped(axes: [1])
            return (sums + p[0], Tensor.scalar(0).broadcast(to: x.shape))
        }

        func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) { forward(z, p) }
    }

    private struct RememberingConditioner: Conditioner {
        let x: Tensor
        func callAsFunction(_ seen: Tensor, _ features: Context) -> Tensor { x.sliced(axis: 1, from: 2, count: 2) }
    }

    /// Every column the same mixture of two distant Gaussians: flat between them.
    private struct FlatConditioner: Conditioner {
        func callAsFunction(_ x: Tensor, _ features: Context) -> Tensor {
            .concatenate(
                [0, 0, -5, 5, -4, -4].map { Tensor.scalar($0, x.elementType).broadcast(to: x.shape) }, axis: 1)
        }
    }

    /// A latent without an inverse is refused, whatever the examples beside it hold.
    @Test func latentsAreRefusedOneByOne() throws {
        let bijector = Autoregressive(
            .natural(1), MixtureCDFTransformer(.gaussian, components: 2), conditioner: FlatConditioner())
        let program = try InverseProgram(
            bijector, example: [.batch, 1], device: CPUDevice(threads: 1), maximumBatch: 2, states: [:])
        func run(_ z: [Float]) throws -> [Float] { try program.run(HostArray(z, shape: [2, 1])).floats }
        let error = #expect(throws: InversionError.self) { try run([.infinity, 0]) }
        #expect(error?.count == 1 && error?.example == 1)
        #expect(throws: InversionError.self) { try run([0, 1]) }
        // Of what is no number nothing is asked.
        let found = try run([.nan, 1])
        #expect(!found[0].isFinite && found[1].isFinite)
    }

    @Test func drawingInDoublePrecisionIsRefused() throws {
        let bijector = Autoregressive(.natural(3), AffineTransformer(), hidden: [4])
        bijector.use(.float64)
        let device = try CPUDevice(threads: 1)
        let flow = Flow(bijector, base: DiagonalNormal(), exampleShape: [3])
        let error = #expect(throws: GraphError.self) {
            try InverseProgram(
                bijector, example: [.batch, 3], device: device, maximumBatch: 2, states: try states(flow, device))
        }
        #expect(error?.message.contains("use(.float32)") == true, "\(error?.description ?? "")")
    }

    /// ActNorm's first batch leaves mean 0 and variance 1; batch norm's statistics are the batch's in training and the running
    /// ones else.
    @Test func normalizationStatistics() throws {
        let x = Tensor.input("x", [.batch, 3])
        let values = Values(
            shape: [50, 3], elements: numbers(150, seed: 8).enumerated().map { $1 * 3 + Double($0 % 3) })
        let act = ActNorm(3)
        // In a flow that is turned round its inverse meets the examples.
        for bijector in [act, Inverted(act)] as [any Bijector] {
            let context = Context(.initialize)
            let z = try Interpreter(batch: 50, ["x": values]).run(bijector.forward(x, context).value)
            for c in 0..<3 {
                let column = (0..<50).map { z.elements[$0 * 3 + c] }
                let mean: Double = column.reduce(0.0) { $0 + $1 } * 0.02
                let variance: Double = column.reduce(0.0) { $0 + $1 * $1 } * 0.02
                #expect(abs(mean) < 1e-9)
                #expect(abs(variance - 1) < 1e-5)
            }
            #expect(context.updates.count == 2)
            // What was found is what a later pass uses.
            var found = ["x": values]
            for update in context.updates {
                found[update.parameter.label] = try Interpreter(batch: 50, ["x": values]).run(update.value)
            }
            let later = try Interpreter(batch: 50, found).run(bijector.forward(x, Context()).value)
            for (a, b) in zip(z.elements, later.elements) { #expect(abs(a - b) < 1e-12) }
        }
        let norm = BatchNormalization(3)
        let training = Context(.train)
        let output = norm.forward(x, training).value
        #expect(training.updates.map(\.parameter.label) == [norm.runningMean.label, norm.runningVariance.label])
        var bound: [String: Values] = ["x": values]
        for (name, parameter) in norm.namedParameters() {
            bound[parameter.label] = parameter.initialValue(named: name, seed: 1).values
        }
        let trained = try Interpreter(batch: 50, bound).run([output] + training.updates.map(\.value))
        let normalized: Double = (0..<50).reduce(0.0) { $0 + trained[0].elements[$1 * 3] }
        #expect(abs(normalized) < 1e-9)
        let mean: Double = (0..<50).reduce(0.0) { $0 + values.elements[$1 * 3] } * 0.02
        let running = trained[1].elements[0]
        #expect(abs(running - 0.1 * mean) < 1e-9)
        // Evaluation is a function of each example alone.
        let one = try Interpreter(
            batch: 1, bound.merging(["x": Values(shape: [1, 3], elements: Array(values.elements[0..<3]))]) { $1 }
        )
        .run(norm.forward(x, Context()).value)
        let many = try Interpreter(batch: 50, bound).run(norm.forward(x, Context()).value)
        #expect(one.elements == Array(many.elements[0..<3]))
    }
}
