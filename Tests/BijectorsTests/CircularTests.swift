import CPU
import Compiler
import Distributions
import Graph
import Layers
import Models
import Testing

@testable import Bijectors

/// Flows some of whose columns are points of a circle.
@Suite(.serialized) struct CircularTests {
    private static let turn = 2 * Double.pi

    private static let torus = FlowCase(name: "coupling, torus") {
        .coupling(
            variables: $0, layers: 2, hidden: [8], transformer: SplineTransformer(bins: 3), activation: .tanh,
            circular: CircularColumns(Array(0..<$0), CircularSplineTransformer(bins: 5)))
    }
    private static let cylinder = FlowCase(name: "autoregressive, cylinder") {
        .autoregressive(
            variables: $0, layers: 2, hidden: [8], transformer: SplineTransformer(bins: 3), activation: .tanh,
            base: StudentT(degrees: 8), circular: CircularColumns([0], CircularSplineTransformer(bins: 4)))
    }

    /// log p of rows `[n, 2]` under a flow whose parameters were moved off their starts.
    private func logs(_ flow: Flow, _ rows: [Float]) throws -> [Double] {
        let device = try CPUDevice(threads: 2)
        let batch = rows.count / 2
        return try device.load(
            compile([flow.logProbability(.input("x", [.batch, 2]))]), maximumBatch: batch,
            states: states(flow, device, noise: 0.6)
        ).run(["x": .host(HostArray(rows, shape: [batch, 2]))], batch: batch)[0].doubles
    }

    /// On a grid around the circle, whose sums of smooth functions are exact but for what the knots cost.
    @Test func integratesToOne() throws {
        /// Middles of equal parts.
        func middles(_ count: Int, from low: Double, to high: Double) -> [Double] {
            (0..<count).map { low + (high - low) * (Double($0) + 0.5) / Double(count) }
        }
        let around = middles(200, from: 0, to: Self.turn)
        for (test, second, area) in [
            (Self.torus, middles(600, from: 0, to: Self.turn), Self.turn * Self.turn),
            (Self.cylinder, middles(4000, from: -25, to: 25), Self.turn * 50),
        ] {
            let rows = around.flatMap { x in second.flatMap { [Float(x), Float($0)] } }
            let found = try logs(test.make(2), rows)
            let sum: Double = found.reduce(0.0) { $0 + Math.exp($1) }
            let total = sum * area / Double(found.count)
            #expect(abs(total - 1) < 1e-4, "\(test.name): \(total)")
            // It is no uniform density whose integral is tested.
            #expect(found.max()! - found.min()! > 1, "\(test.name)")
        }
    }

    /// No step where the circle closes, neither of the circle's own density nor of what is conditioned on it; and no other density a
    /// turn further.
    @Test func densitiesCloseTheirCircles() throws {
        for test in [Self.torus, Self.cylinder] {
            let places: [Float] = [0.3, 1.7, 2.9, 4.2, 5.5]
            func at(_ x: Double) throws -> [Double] { try logs(test.make(2), places.flatMap { [Float(x), $0] }) }
            for (a, b) in zip(try at(1e-5), try at(Self.turn - 1e-5)) {
                #expect(abs(a - b) < 1e-3, "\(test.name): \(a) and \(b)")
            }
            for x in [0.4, 3.0, 6.1] {
                for (a, b) in zip(try at(x), try at(x + Self.turn)) { #expect(abs(a - b) < 1e-4, "\(test.name)") }
                for (a, b) in zip(try at(x), try at(x - 3 * Self.turn)) { #expect(abs(a - b) < 1e-4, "\(test.name)") }
            }
            #expect(abs(try at(0.4)[0] - at(3)[0]) > 1e-3, "\(test.name)")
        }
    }

    /// x, x + period and x - 7 periods have one z within the circle, and z comes back to its number there.
    @Test func numbersStandForPoints() throws {
        let count = 400
        for (low, period) in [(0.0, Self.turn), (-180, 360), (5, 0.25)] {
            let spline = CircularSplineTransformer(bins: 6, low: low, period: period)
            for element in [ElementType.float32, .float64] {
                let x = Tensor.input("x", [.batch], element)
                let raw = numbers(spline.parameterCount, seed: 3).map {
                    Tensor.scalar($0 * 2, element).broadcast(to: [.batch])
                }
                let here = spline.forward(x, raw)
                let (next, before) = (spline.forward(x + period, raw), spline.forward(x - 7 * period, raw))
                let back = spline.inverse(here.value, raw)
                let far = spline.inverse(here.value - 2 * period, raw)
                let points = numbers(count, seed: 8).map { low + period * ($0 * 0.499 + 0.5) }
                let found = try CPUDevice(threads: 1).load(
                    compile([
                        here.value, next.value, before.value, back.value, far.value, here.logDerivative,
                        back.logDerivative,
                    ]), maximumBatch: count, states: [:]
                ).run(["x": .host(HostArray(Values(shape: [count], elements: points), as: element))], batch: count)
                    .map(\.doubles)
                // The rounding of eight periods, times the slopes.
                let tolerance = (element == .float32 ? 1e-4 : 1e-12) * (period + abs(low))
                /// How far two points lie apart on the circle.
                func gap(_ a: Double, _ b: Double) -> Double {
                    let turns = (a - b) / period
                    return abs(turns - turns.rounded()) * period
                }
                for i in 0..<count {
                    let z = found[0][i]
                    #expect(z >= low - tolerance && z <= low + period + tolerance, "\(element): \(z)")
                    #expect(gap(z, found[1][i]) < tolerance && gap(z, found[2][i]) < tolerance, "\(element): \(i)")
                    #expect(abs(found[3][i] - points[i]) < tolerance, "\(element): \(found[3][i]) for \(points[i])")
                    #expect(gap(found[4][i], points[i]) < tolerance, "\(element): \(found[4][i]) for \(points[i])")
                    #expect(abs(found[5][i] + found[6][i]) < 200 * tolerance / period, "\(element): \(i)")
                }
            }
        }
    }

    /// Latents go back to where they came from, through formulas and compiled incremental programs.
    @Test func latentsComeBack() throws {
        let (count, batch) = (4, 60)
        let given = HostArray(numbers(batch * count, seed: 5).map { Float($0 * 3 + 3.1) }, shape: [batch, count])
        let device = try CPUDevice(threads: 2)
        for test in [Self.torus, Self.cylinder] {
            let flow = test.make(count)
            let own = try states(flow, device)
            let z = flow.bijector.forward(.input("x", flow.shape), Context()).value
            let latents = try device.load(compile([z]), maximumBatch: batch, states: own)
                .run(["x": .host(given)], batch: batch)[0]
            let back = try InverseProgram(
                flow.bijector, example: flow.shape, device: device, maximumBatch: batch, states: own
            ).run(latents)
            for (a, b) in zip(back.floats, given.floats) {
                #expect(abs(a - b) <= 1e-3 * max(1, abs(b)), "\(test.name): \(a) for \(b)")
            }
        }
    }

    /// OpenCL against the CPU, on a flow that its compilers take seconds for.
    @Test func devicesAgree() throws {
        let (count, batch) = (3, 40)
        let given = HostArray(numbers(batch * count, seed: 5).map { Float($0 * 3 + 3.1) }, shape: [batch, count])
        let results = try devices().map { device in
            let flow = Flow.coupling(
                variables: count, layers: 1, hidden: [4], transformer: AdditiveTransformer(),
                circular: CircularColumns([1, 2], CircularSplineTransformer(bins: 2)))
            let log = flow.logProbability(.input("x", flow.shape))
            let outputs = try [log] + gradients(of: -log.mean(), with: flow.parameters.map(\.tensor))
            return try device.load(compile(outputs), maximumBatch: batch, states: states(flow, device))
                .run(["x": .host(given)], batch: batch)
        }
        for (a, b) in zip(results[0], results[results.count - 1]) {
            let scale = max(1, a.floats.map(\.magnitude).max() ?? 0)
            let worst = zip(a.floats, b.floats).map { abs($0 - $1) }.max() ?? 0
            #expect(worst <= 2e-5 * scale, "\(worst) of \(scale)")
        }
    }

    /// Claims hold for what is built here and are refused for a transformer or a network that breaks them.
    @Test func onlyTheTruthIsProved() throws {
        for test in [Self.torus, Self.cylinder] {
            #expect(try test.make(5).proveStructure().count == 2)
        }
        let mixed = ColumnTransformer([AdditiveTransformer(), Shuffling()], choice: [0, 1, 0, 1])
        let leak = #expect(throws: DependencyLeak.self) {
            try Autoregressive(.natural(4), mixed, hidden: [6]).proveStructure([.batch, 4])
        }
        #expect(leak?.description.contains("transformed") == true)
        // A sine that may be read as early as any column.
        let degrees = NetworkDegrees.constant(
            input: [0, 1, 2, 0], hidden: [[0, 0, 1, 1]], output: [0, 1, 2], isStrict: true)
        let careless = Autoregressive(
            .natural(3), AdditiveTransformer(), conditioner: PeriodicEncoding([2], period: 1, MaskedMLP(degrees)))
        #expect(throws: DependencyLeak.self) { try careless.proveStructure([.batch, 3]) }
    }

    /// Reads its right neighbour's x.
    private struct Shuffling: Transformer {
        let name = "shuffling"
        let parameterCount = 1
        let inverseFormula = "none"
        func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
            (x.flipped(axes: [1]) + p[0], Tensor.scalar(0).broadcast(to: x.shape))
        }
        func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) { forward(z, p) }
    }

    /// Examples of another width than the columns are for are an error of the graph.
    @Test func widthsAreNotBroadcast() throws {
        let circular = CircularColumns([1], CircularSplineTransformer(bins: 2))
        let transformer = circular.transformer(AdditiveTransformer(), variables: 4)
        let network = DenseNetwork(2, hidden: [], outputs: 2 * transformer.parameterCount)
        let encoded = PeriodicEncoding([4], period: 1, network)
        for bijector in [
            // Half of the columns, where the transformer is for all.
            Coupling(.half(keepsSecond: false), transformer, conditioner: network),
            Coupling(.half(keepsSecond: false), AdditiveTransformer(), conditioner: encoded),
        ] {
            let x = Tensor.input("x", [.batch, 4])
            #expect(throws: GraphError.self) { try compile([bijector.forward(x, Context()).value]) }
            #expect(throws: GraphError.self) { try compile([bijector.inverse(x, Context()).value]) }
        }
    }

    @Test func impossibleSettingsAreRefused() async {
        await #expect(processExitsWith: .failure) { _ = CircularSplineTransformer(period: 0) }
        await #expect(processExitsWith: .failure) { _ = CircularSplineTransformer(low: 1e9, period: 1) }
        await #expect(processExitsWith: .failure) { _ = CircularSplineTransformer(bins: 0) }
        await #expect(processExitsWith: .failure) { _ = CircularColumns([1, 1]) }
        await #expect(processExitsWith: .failure) { _ = CircularColumns([3]).base(DiagonalNormal(), variables: 3) }
        await #expect(processExitsWith: .failure) { _ = ColumnTransformer([AdditiveTransformer()], choice: [0, 1]) }
        await #expect(processExitsWith: .failure) {
            _ = Flow.coupling(
                variables: 2, layers: 1, hidden: [], transformer: SplineTransformer(), normalization: .actNorm,
                circular: CircularColumns([0]))
        }
    }
}
