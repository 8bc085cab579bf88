import CPU
import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Models
import OpenCL
import Testing

@testable import Bijectors

/// Flows in continuous time: solvers, traces, gradients by the adjoint, and other people's numbers.
@Suite struct ContinuousTests {
    /// dz/dt = rate z, or any other function of z and t.
    private struct Formula: VelocityField {
        let formula: (_ z: Tensor, _ t: Tensor) -> Tensor
        func velocity(_ z: Tensor, at t: Tensor, _ context: Context) -> Tensor { formula(z, t) }
    }

    private static var decay: Formula { Formula { z, t in -z * (t + 1) } }

    private func rows(_ count: Int, _ width: Int, seed: UInt64 = 3, _ element: ElementType = .float64) -> HostArray {
        HostArray(
            Values(shape: [count, width], elements: numbers(count * width, seed: seed).map { $0 * 2 }), as: element)
    }

    private func random(_ examples: Int) -> [String: HostArray] {
        RandomSource.feeds(seed: 5, examples: Array(0..<examples))
    }

    // MARK: solvers

    /// Twice the steps make the error less by two to the power of the order.
    @Test(arguments: [(FixedStepSolver.euler, 1.0), (.midpoint, 2), (.rk4, 4)]) func ordersOfConvergence(
        _ solver: FixedStepSolver, order: Double
    ) throws {
        let x = Tensor.input("x", [.batch, 2], .float64)
        let values = [0.3, -1.2, 2, 0.7]
        func error(_ steps: Int) throws -> Double {
            let flow = ContinuousFlow(Self.decay, solver: .fixed(solver, steps: steps))
            let z = try Interpreter(batch: 2, ["x": Values(shape: [2, 2], elements: values)])
                .run(flow.inverse(x, Context()).value)
            // z(1) = z(0) exp(-3/2)
            return zip(z.elements, values).map { abs($0 - $1 * Math.exp(-1.5)) }.max()!
        }
        let ratio = try error(20) / error(40)
        #expect(abs(Math.log(ratio) / Math.log(2) - order) < 0.1, "\(ratio)")
    }

    /// The adaptive solver's error follows its tolerance, its log-determinant is exact for a linear velocity, and fewer evaluations are
    /// needed for less.
    @Test func tolerancesAreKept() throws {
        let x = Tensor.input("x", [.batch, 2], .float64)
        let values = [0.3, -1.2, 2, 0.7]
        var counts: [Double] = []
        for tolerance in [1e-3, 1e-6, 1e-9] {
            let flow = ContinuousFlow(Self.decay, solver: .adaptive(tolerance: tolerance))
            let back = flow.inverse(x, Context())
            let found = try Interpreter(batch: 2, ["x": Values(shape: [2, 2], elements: values)])
                .run([back.value, back.logDeterminant, flow.evaluations(of: x, Context())])
            for (z, x) in zip(found[0].elements, values) { #expect(abs(z - x * Math.exp(-1.5)) < 5 * tolerance) }
            for log in found[1].elements { #expect(abs(log + 3) < 5 * tolerance) }
            counts.append(found[2].elements[0])
        }
        #expect(counts[0] < counts[1] && counts[1] < counts[2] && counts[2] < 400, "\(counts)")
        #expect(counts.allSatisfy { ($0 - 2).truncatingRemainder(dividingBy: 6) == 0 })
        let fixed = ContinuousFlow(Self.decay, solver: .fixed(.rk4, steps: 7))
        #expect(
            try Interpreter(batch: 2, ["x": Values(shape: [2, 2], elements: values)])
                .run(fixed.evaluations(of: x, Context())).elements == [28, 28])
    }

    /// What runs into infinity before the end is no number, beside others that are; the solve ends.
    @Test func explosionsAreNoNumbers() throws {
        // z(t) = 1 / (1 / z(0) - t)
        let flow = ContinuousFlow(Formula { z, _ in z * z }, solver: .adaptive(tolerance: 1e-6))
        for element in [ElementType.float32, .float64] {
            let z = Tensor.input("z", [.batch, 1], element)
            let program = try CPUDevice(threads: 1).load(
                compile([flow.inverse(z, Context()).value]), maximumBatch: 3, states: [:])
            let feed = HostArray(Values(shape: [3, 1], elements: [0.5, 2, -1]), as: element)
            let found = try program.run(["z": .host(feed)], batch: 3)[0].doubles
            #expect(abs(found[0] - 1) < 1e-4 && found[1].isNaN && abs(found[2] + 0.5) < 1e-4, "\(found)")
        }
    }

    /// The latents of examples that are known exactly: a rotation keeps volumes and comes home.
    @Test func rotationsComeHome() throws {
        let field = Formula { z, _ in
            .concatenate(
                [-z.sliced(axis: 1, from: 1, count: 1), z.sliced(axis: 1, from: 0, count: 1)], axis: 1)
                * (2 * Double.pi)
        }
        let x = Tensor.input("x", [.batch, 2], .float64)
        let given = rows(5, 2)
        let found = try Bench(ContinuousFlow(field, solver: .adaptive(tolerance: 1e-9)), .float64)
        let mapped = found.bijector.forward(x, Context())
        let results = try found.run([mapped.value, mapped.logDeterminant], ["x": given], batch: 5)
        for (a, b) in zip(results[0].doubles, given.doubles) { #expect(abs(a - b) < 1e-7) }
        for log in results[1].doubles { #expect(abs(log) < 1e-12) }
    }

    /// Halving the tolerance hardly moves log p.
    @Test func halvedTolerances() throws {
        for (element, tolerance) in [(ElementType.float32, 1e-5), (.float64, 1e-5)] {
            let x = Tensor.input("x", [.batch, 2], element)
            let network = TimeNetwork(variables: 2, hidden: [16, 16, 16], startsAtIdentity: false)
            func logs(_ tolerance: Double) throws -> [Double] {
                let flow = ContinuousFlow(network, solver: .adaptive(tolerance: tolerance))
                let found = try Bench(flow, element, scale: 3)
                let z = flow.forward(x, Context())
                let logs = DiagonalNormal().logProbability(z.value) + z.logDeterminant
                return try found.run([logs], ["x": rows(50, 2, element)], batch: 50)[0].doubles
            }
            for (a, b) in zip(try logs(tolerance), try logs(tolerance / 2)) { #expect(abs(a - b) < 1e-3, "\(a), \(b)") }
        }
    }

    /// What an example gives, and how often its velocity is computed, do not depend on those beside it, to the bit.
    @Test func stepsAreAnExamplesOwn() throws {
        let flow = ContinuousFlow(TimeNetwork(variables: 3, hidden: [6, 5, 4], startsAtIdentity: false))
        let bench = try Bench(flow, .float32, scale: 4)
        let x = Tensor.input("x", [.batch, 3])
        let mapped = flow.forward(x, Context())
        let outputs = [mapped.value, mapped.logDeterminant, flow.evaluations(of: x, Context())]
        let given = rows(9, 3, .float32)
        let together = try bench.run(outputs, ["x": given], batch: 9)
        #expect(Set(together[2].floats).count > 1)
        for row in 0..<9 {
            let alone = try bench.run(outputs, ["x": given.rows(row..<row + 1)], batch: 1)
            for (a, b) in zip(alone, together) { #expect(a.floats == b.rows(row..<row + 1).floats, "row \(row)") }
        }
    }

    // MARK: the trace

    /// The trace from the structure of a network against one found element by element.
    @Test(arguments: [[], [5], [5, 4], [5, 4, 3], [4, 3, 4, 3]]) func structuredTraces(_ hidden: [Int]) throws {
        for (time, features) in [(TimeInput.squash, 0), (.squash, 2), (.concat, 0)] {
            let network = TimeNetwork(
                variables: 3, hidden: hidden, time: time, activation: .softplus, features: features,
                startsAtIdentity: false)
            network.use(.float64)
            let z = Tensor.input("x", [.batch, 3], .float64)
            let context = Context(features: features > 0 ? .input("c", [.batch, 2], .float64) : nil)
            let generic = Formula { z, t in network.velocity(z, at: t, context) }
            var bindings = ["x": rows(4, 3).values, "c": rows(4, 2, seed: 8).values]
            for (index, parameter) in network.parameters.enumerated() {
                bindings[parameter.label] = Values(
                    shape: parameter.shape,
                    elements: numbers(parameter.shape.reduce(1, *), seed: UInt64(index + 1)))
            }
            for t in [Tensor.scalar(0.3, .float64).reshaped([1, 1]), z.sliced(axis: 1, from: 1, count: 1).sigmoid()] {
                let (f, trace) = network.velocityAndTrace(z, at: t.stoppingGradient(), context)
                let (g, other) = generic.velocityAndTrace(z, at: t.stoppingGradient(), context)
                #expect(trace.shape == [.batch, 1])
                let found = try Interpreter(batch: 4, bindings).run([f, g, trace, other])
                for (a, b) in zip(found[0].elements, found[1].elements) { #expect(abs(a - b) < 1e-13) }
                for (a, b) in zip(found[2].elements, found[3].elements) { #expect(abs(a - b) < 1e-12, "\(a), \(b)") }
            }
        }
    }

    /// The mean of Hutchinson's estimate over 1000 draws lies within three standard errors of the trace, in a whole solve.
    @Test func estimatedTraces() throws {
        let network = TimeNetwork(variables: 4, hidden: [6, 6], startsAtIdentity: false)
        let draws = 1000
        let x = Tensor.input("x", [.batch, 4], .float64)
        let solver = ContinuousFlow.Solver.fixed(.rk4, steps: 8)
        let exact = ContinuousFlow(network, solver: solver)
        let bench = try Bench(exact, .float64, scale: 2)
        let estimated = ContinuousFlow(network, solver: solver, trace: .hutchinson)
        let logs = [exact, estimated].map { $0.forward(x, Context()).logDeterminant }
        let point = rows(1, 4).doubles
        let feeds = random(draws).merging(
            ["x": HostArray(Values(shape: [draws, 4], elements: (0..<draws).flatMap { _ in point }), as: .float64)]
        ) { $1 }
        let found = try bench.run(logs, feeds, batch: draws).map(\.doubles)
        let mean = found[1].reduce(0) { $0 + $1 } / Double(draws)
        let variance = found[1].reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(draws - 1)
        let error = (variance / Double(draws)).squareRoot()
        #expect(error > 1e-3 && abs(mean - found[0][0]) < 3 * error, "\(mean) ± \(error) for \(found[0][0])")
    }

    // MARK: gradients

    /// The adjoint's gradients against those through the steps of RK4, of loss and penalties, by everything that they go to.
    @Test(arguments: [ContinuousFlow.Trace.exact, .hutchinson]) func adjointsAreGradients(
        _ trace: ContinuousFlow.Trace
    ) throws {
        let network = TimeNetwork(variables: 2, hidden: [8, 7, 6], features: 2, startsAtIdentity: false)
        func flow(_ solver: ContinuousFlow.Solver) -> ContinuousFlow {
            var training = ContinuousFlow.Training()
            (training.solver, training.trace, training.kinetic, training.jacobian) = (solver, trace, 0.3, 0.2)
            return ContinuousFlow(network, training: training)
        }
        let count = 20
        let bench = try Bench(flow(.adaptive(tolerance: 1e-8)), .float64, scale: 2)
        let x = Tensor.input("x", [.batch, 2], .float64)
        let features = Tensor.input("features", [.batch, 2], .float64)
        let variables = [x, features] + network.parameters.map(\.tensor)
        let feeds = random(count).merging(["x": rows(count, 2), "features": rows(count, 2, seed: 4)]) { $1 }
        let found = try [ContinuousFlow.Solver.adaptive(tolerance: 1e-8), .fixed(.rk4, steps: 200)].map { solver in
            let loss = flow(solver).loss(x, base: DiagonalNormal(), Context(.train, features: features)).mean()
            return try bench.run([loss] + gradients(of: loss, with: variables), feeds, batch: count).map(\.doubles)
        }
        #expect(found[0].count == 21)
        for (adjoint, unrolled) in zip(found[0], found[1]) {
            let scale = unrolled.map(\.magnitude).max()!
            #expect(scale > 1e-4)
            for (a, b) in zip(adjoint, unrolled) { #expect(abs(a - b) <= 1e-4 * scale, "\(a) for \(b)") }
        }
    }

    /// The gradient of the loss with penalties, through the steps, against differences.
    @Test func lossesAgainstDifferences() throws {
        var training = ContinuousFlow.Training()
        (training.solver, training.kinetic, training.jacobian) = (.fixed(.midpoint, steps: 4), 0.5, 0.4)
        var matching = ContinuousFlow.Training()
        matching.isMatching = true
        for training in [training, matching] {
            let flow = ContinuousFlow(
                TimeNetwork(variables: 2, hidden: [4, 3], startsAtIdentity: false), training: training)
            let bench = try Bench(flow, .float64)
            let x = Tensor.input("x", [.batch, 2], .float64)
            let loss = flow.loss(x, base: DiagonalNormal(), Context(.train)).mean()
            let feeds = random(3).merging(["x": rows(3, 2)]) { $1 }
            let exact = try bench.run(
                gradients(of: loss, with: bench.parameters.map(\.parameter.tensor)), feeds, batch: 3)
            var bindings = feeds.mapValues(\.values).merging(bench.values.mapValues(\.values)) { $1 }
            for ((_, parameter), gradient) in zip(bench.parameters, exact) {
                for e in stride(from: 0, to: gradient.count, by: max(1, gradient.count / 3)) {
                    let start = bindings[parameter.label]!.elements[e]
                    let sides = try [1e-5, -1e-5].map { move in
                        bindings[parameter.label]!.elements[e] = start + move
                        return try Interpreter(batch: 3, bindings).run(loss).elements[0]
                    }
                    bindings[parameter.label]!.elements[e] = start
                    let numeric = (sides[0] - sides[1]) / 2e-5
                    #expect(abs(numeric - gradient.doubles[e]) < 1e-7 * max(1, abs(numeric)))
                }
            }
        }
    }

    /// A velocity of one parameter, so that a solve is few kernels, which OpenCL's compilers take long for.
    private struct Pull: VelocityField {
        let rate = Parameter([2], .constant(1))
        func velocity(_ z: Tensor, at t: Tensor, _ context: Context) -> Tensor { -(z * rate.tensor).tanh() }
    }

    /// OpenCL's adaptive solves and the adjoint, against the processor's.
    @Test func devicesAgree() throws {
        let all = try devices()
        guard all.count == 2 else { return }
        var training = ContinuousFlow.Training()
        training.solver = .adaptive(tolerance: 1e-4)
        let flow = Flow(ContinuousFlow(Pull(), training: training), base: DiagonalNormal(), exampleShape: [2])
        let x = Tensor.input("x", flow.shape)
        let loss = flow.objective(x, Context(.train))
        let slopes = try gradients(of: loss, with: flow.parameters.map(\.tensor) + [x])
        let given = HostArray(numbers(60, seed: 7).map { Float($0 * 2) }, shape: [30, 2])
        let found = try all.map { device in
            try device.load(
                compile([loss] + slopes), maximumBatch: 30, states: try states(flow, device)
            ).run(["x": .host(given)], batch: 30).map(\.doubles)
        }
        for (a, b) in zip(found[0], found[1]) {
            let scale = a.map(\.magnitude).max()!
            #expect(scale > 0)
            for (a, b) in zip(a, b) { #expect(abs(a - b) <= 1e-4 * scale, "\(a), \(b)") }
        }
    }

    // MARK: mistakes

    /// A velocity of another shape, features that are missing, examples that are no vectors.
    @Test func misfitsAreGraphErrors() throws {
        let wide = ContinuousFlow(Formula { z, _ in .concatenate([z, z], axis: 1) })
        let given = ContinuousFlow(TimeNetwork(variables: 2, hidden: [4], features: 3))
        let cases: [(ContinuousFlow, Shape, String)] = [
            (wide, [.batch, 2], "expected a velocity"), (given, [.batch, 2], "features"),
            (ContinuousFlow(Self.decay), [.batch, 2, 2], "expected [batch, variables]"),
        ]
        for (flow, shape, text) in cases {
            for tensor in [flow.forward(.input("x", shape), Context()), flow.inverse(.input("x", shape), Context())] {
                let error = #expect(throws: GraphError.self) {
                    try compile([tensor.value, tensor.logDeterminant])
                }
                #expect(error?.description.contains(text) == true, "\(error?.description ?? "")")
            }
        }
    }

    /// A velocity that reads other examples is refused; one that does not is proved.
    @Test func examplesAreOnTheirOwn() throws {
        let mixing = ContinuousFlow(Formula { z, _ in z - z.mean(axes: [0]).broadcast(to: z.shape) })
        #expect(throws: DependencyLeak.self) { try mixing.proveStructure([.batch, 3]) }
        let network = ContinuousFlow(TimeNetwork(variables: 3, hidden: [4], features: 2))
        let features = Tensor.input("features", [.batch, 2])
        let proof = try #require(try network.proveStructure([.batch, 3], features: features).first).proof
        #expect(proof.dependencies?.present == 9)
    }

    // MARK: others' numbers

    private static let arrays: [String: HostArray] = {
        let folder = #filePath.split(separator: "/").dropLast().joined(separator: "/")
        return (try? SafeTensors.read("/\(folder)/Goldens/continuous.safetensors").0) ?? [:]
    }()

    /// zuko's network: frequencies of the time beside z and what it is given, exponential linear units; from the data at 0 to the latents
    /// at 1.
    private struct ZukoField: VelocityField {
        let layers = [Dense(11, 8), Dense(8, 8), Dense(8, 3)]
        func velocity(_ z: Tensor, at t: Tensor, _ context: Context) -> Tensor {
            let angles = (1...3).map { (1 - t) * (Double.pi * Double($0)) }
            let waves = Tensor.concatenate(angles.map { $0.apply(.cos) } + angles.map { $0.apply(.sin) }, axis: 1)
            let given = context.features(beside: z, shape: [2])
            var h = Tensor.concatenate([waves.broadcast(to: [z.shape[0], 6]), z, given], axis: 1)
            for layer in layers.dropLast() { h = layer(h).elu() }
            return -layers[2](h)
        }
    }

    /// The same weights as torchdiffeq's and zuko's cases (`Scripts/make-continuous-goldens.py`): log p within 1e-6 in double precision and
    /// 1e-4 in float32.
    @Test(arguments: ["midpoint", "squash", "concat", "shallow", "zuko"]) func goldens(_ name: String) throws {
        for element in [ElementType.float64, .float32] {
            let tolerance = element == .float64 ? 1e-9 : 1e-6
            let flow =
                switch name {
                case "midpoint":
                    ContinuousFlow(
                        TimeNetwork(variables: 2, hidden: [5, 6, 4]), solver: .fixed(.midpoint, steps: 10))
                case "squash":
                    ContinuousFlow(
                        TimeNetwork(variables: 2, hidden: [5, 6, 4]), solver: .adaptive(tolerance: tolerance))
                case "concat":
                    ContinuousFlow(
                        TimeNetwork(variables: 3, hidden: [6, 5], time: .concat, activation: .softplus),
                        solver: .adaptive(tolerance: tolerance))
                case "shallow":
                    ContinuousFlow(
                        TimeNetwork(variables: 4, hidden: [7]), solver: .adaptive(tolerance: tolerance))
                default: ContinuousFlow(ZukoField(), solver: .adaptive(tolerance: tolerance))
                }
            flow.use(element)
            func array(_ key: String) throws -> HostArray {
                let given = try #require(Self.arrays["\(name)/\(key)"], "\(name)/\(key)")
                return HostArray(Values(shape: given.shape, elements: given.doubles), as: element)
            }
            let device = try CPUDevice(threads: 1)
            var states: [String: any DeviceBuffer] = [:]
            for (path, parameter) in flow.field.namedParameters() {
                let given = try array(path)
                #expect(given.shape == parameter.shape, "\(path)")
                let buffer = try device.makeBuffer(byteCount: given.bytes.count)
                try given.withUnsafeBytes { try buffer.write($0) }
                states[parameter.label] = buffer
            }
            let data = try array("x")
            let x = Tensor.input("x", [.batch, Extent(data.shape[1])], element)
            let isGiven = name == "zuko"
            let context = Context(features: isGiven ? .input("features", [.batch, 2], element) : nil)
            let z = flow.forward(x, context)
            let program = try device.load(
                compile([DiagonalNormal().logProbability(z.value) + z.logDeterminant]), maximumBatch: data.shape[0],
                states: states)
            var feeds: [String: Feed] = ["x": .host(data)]
            if isGiven { feeds["features"] = .host(try array("features")) }
            let found = try program.run(feeds, batch: data.shape[0])[0].doubles
            let allowed = element == .float64 ? 1e-6 : 1e-4
            for (a, b) in zip(found, try array("logProbability").doubles) {
                #expect(abs(a - b) <= allowed * max(1, abs(b)), "\(element): \(a) for \(b)")
            }
        }
    }
}
