import CPU
import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Likelihood
import Models
import Testing
import Training

/// Models of tables: their densities in the units of the data, what is given, and what is missing.
@Suite struct TableModelTests {
    private let device: CPUDevice

    init() throws { device = try CPUDevice(threads: 2) }

    private func run(_ model: any LikelihoodModel, seed: UInt64 = 4, sharpened by: Float = 1) throws -> Run {
        var settings = TrainingSettings()
        settings.seed = seed
        let run = try Run(model, settings: settings, device: device)
        try run.initialize()
        // Starting weights make conditionals that hardly differ.
        for (_, parameter) in run.parameters where by != 1 {
            let values = try run.states.get(parameter)!
            try run.states.set(parameter, HostArray(values.floats.map { $0 * by }, shape: values.shape))
        }
        return run
    }

    private func rows(_ rows: [[Float]]) -> HostArray { Examples(rows).rows }

    /// Probabilities of names and whole numbers times densities of real ones sum and integrate to one, for each thing given.
    @Test(arguments: ["made", "orderless"]) func mixedTablesIntegrateToOne(_ kind: String) throws {
        let columns = [
            Column("colour", .category(["blue", "green", "red"])), Column("weight", .real(mean: 70, deviation: 12)),
            Column("is old", .category(["0", "1"])), Column("count", .whole(mean: 3, deviation: 2.5)),
        ]
        var shape = ExampleShape([4], classes: 2, features: 1, columns: columns)
        shape.featureColumns = [Column("", .real(mean: 5, deviation: 2))]
        let model = try MADE.Settings {
            $0.hidden = [12, 12]
            $0.conditional = "table:2"
            $0.orderless = kind == "orderless"
        }.makeModel(shape, seed: 2)
        let run = try run(model, sharpened: 1.5)
        let weights = (0..<160).map { 70 + (Float($0) - 79.5) * 1.5 }
        let counts = (-30..<40).map { Float($0) }
        let all = (0..<3).flatMap { colour in
            (0..<2).flatMap { old in
                weights.flatMap { weight in counts.map { [Float(colour), weight, Float(old), $0] } }
            }
        }
        for (label, feature) in [(0, 3), (1, 5), (1, 9)] as [(Int32, Float)] {
            let features = HostArray([Float](repeating: feature, count: all.count), shape: [all.count, 1])
            let labels = [Int32](repeating: label, count: all.count)
            let figures = try run.evaluations(Examples(rows(all), labels: labels, features: features))
            let sum = figures.reduce(0) { $0 + Math.exp(-$1) } * 1.5
            #expect(abs(sum - 1) < 5e-3, "\(sum) given class \(label) and \(feature)")
        }
        let options = SamplingOptions(
            labels: [0, 1, 1, 0], features: HostArray([3, 5, 9, 3] as [Float], shape: [4, 1]))
        let drawn = try run.sample(count: 4, options).examples
        #expect(model.domain.problem(in: drawn) == nil)
    }

    /// A column of whole numbers between real ones: means and frequencies of draws are those of the density.
    @Test func drawsFollowTheDensity() throws {
        let columns = [Column("a", .whole(mean: 10, deviation: 3)), Column("b", .category(["x", "y", "z"]))]
        let model = try MADE(ExampleShape([2], columns: columns)) {
            $0.hidden = [8]
            $0.conditional = "table:3"
        }
        let run = try run(model, sharpened: 1.5)
        let cells = (-40..<60).flatMap { a in (0..<3).map { [Float(a), Float($0)] } }
        let p = try run.evaluations(Examples(rows(cells))).map { Math.exp(-$0) }
        #expect(abs(p.reduce(0) { $0 + $1 } - 1) < 1e-4)
        let count = 20_000
        let drawn = try run.sample(count: count).examples.floats
        for name in 0..<3 {
            let expected = zip(cells, p).filter { $0.0[1] == Float(name) }.reduce(0.0) { $0 + $1.1 }
            let found = Double((0..<count).count { drawn[2 * $0 + 1] == Float(name) }) / Double(count)
            #expect(abs(expected - found) < 0.015, "\(name): \(found) for \(expected)")
        }
        for value in [7, 10, 12] {
            let expected = zip(cells, p).filter { $0.0[0] == Float(value) }.reduce(0.0) { $0 + $1.1 }
            let found = Double((0..<count).count { drawn[2 * $0] == Float(value) }) / Double(count)
            #expect(abs(expected - found) < 0.01, "\(value): \(found) for \(expected)")
        }
    }

    /// Densities of standardised columns are those of the original units.
    @Test(arguments: ["maf", "realnvp", "autoregressive", "coupling", "planar", "radial", "nice"], [1, 2])
    func standardizedFlowsIntegrateToOne(_ flow: String, _ variables: Int) throws {
        let columns = [Column("a", .real(mean: 1000, deviation: 25)), Column("b", .real(mean: -3, deviation: 0.01))]
        let settings = Flow.VectorSettings {
            $0.flow = flow
            $0.hidden = [8]
            $0.layers = 2
            $0.transformer = ["autoregressive", "coupling"].contains(flow) ? "spline:4" : "affine"
        }
        let shape = ExampleShape([variables], columns: Array(columns.prefix(variables)))
        if variables == 1, ["realnvp", "coupling", "nice"].contains(flow) {
            let problem = #expect(throws: UsageError.self) { try settings.makeModel(shape, seed: 1) }
            #expect(problem?.description.contains("a coupling of one variable") == true)
            return
        }
        let run = try run(settings.makeModel(shape, seed: 1), sharpened: 1.2)
        let side = variables == 1 ? 4001 : 301
        func grid(_ middle: Float, _ reach: Float) -> [Float] {
            (0..<side).map { place in
                let share = Float(place) / Float(side - 1)
                return middle + reach * (2 * share - 1)
            }
        }
        let (a, b) = (grid(1000, 300), grid(-3, 0.12))
        let points = variables == 1 ? a.map { [$0] } : a.flatMap { a in b.map { [a, $0] } }
        let (width, height) = (600 / Double(side - 1), 0.24 / Double(side - 1))
        let cell = variables == 1 ? width : width * height
        let sum = try run.evaluations(Examples(rows(points))).reduce(0.0) { $0 + Math.exp(-$1) } * cell
        #expect(abs(sum - 1) < 5e-3, "\(sum)")
        let drawn = try run.sample(count: 500).examples.floats
        let mean = stride(from: 0, to: drawn.count, by: variables).reduce(0) { $0 + drawn[$1] } / 500
        #expect(abs(mean - 1000) < 40, "\(mean)")
    }

    // MARK: gaps

    private func orderless(_ order: String = "natural") throws -> Run {
        try run(
            MADE.Settings {
                $0.hidden = [16, 16]
                $0.orderless = true
                $0.ordering = order
            }.makeModel([8], seed: 1), sharpened: 4)
    }

    /// The marginal of what is known is the sum over all that is not, under an order that puts the known first.
    @Test func marginalsAreSums() throws {
        for (order, known) in [("natural", [0, 1, 2]), ("5,2,7,0,1,3,4,6", [5, 2, 7]), ("3,0,1,2,4,5,6,7", [3])] {
            let run = try orderless(order)
            for code in 0..<(1 << known.count) {
                var partial = [Float](repeating: .nan, count: 8)
                for (bit, variable) in known.enumerated() { partial[variable] = Float(code >> bit & 1) }
                let free = (0..<8).filter { !known.contains($0) }
                let all = (0..<(1 << free.count)).map { code in
                    var row = partial
                    for (bit, variable) in free.enumerated() { row[variable] = Float(code >> bit & 1) }
                    return row
                }
                let sum = try run.evaluations(Examples(rows(all))).reduce(0) { $0 + Math.exp(-$1) }
                let marginal = Math.exp(-(try run.evaluations(Examples(rows([partial])))[0]))
                #expect(abs(sum - marginal) < 1e-5 * marginal, "\(known) \(code): \(sum) for \(marginal)")
                let mask = HostArray((0..<8).map { known.contains($0) ? 1 : 0 } as [Float], shape: [1, 8])
                let asked = try run.evaluations(Examples(rows([all[0]])), observed: mask)[0]
                #expect(abs(asked + Math.log(marginal)) < 1e-5)
            }
        }
    }

    /// The figure of training is the mean over all orders of an example's own terms, where what is missing is drawn given the rest.
    @Test func trainingScoresTheMeanOverOrders() throws {
        func run(_ order: [Int]) throws -> Run {
            try self.run(
                MADE.Settings {
                    $0.hidden = [16]
                    $0.orderless = true
                    $0.ordering = order.map { "\($0)" }.joined(separator: ",")
                }.makeModel([4], seed: 1), sharpened: 3)
        }
        var orders: [[Int]] = [[]]
        for _ in 0..<4 {
            orders = orders.flatMap { order in (0..<4).filter { !order.contains($0) }.map { order + [$0] } }
        }
        let runs = try orders.map { ($0, try run($0)) }
        /// The mean over orders of the terms of some variables.
        func terms(_ row: [Float], of scored: Set<Int>) throws -> Double {
            var sum = 0.0
            for (order, run) in runs {
                var before = 0.0
                for end in 1...4 {
                    let mask = HostArray((0..<4).map { order[..<end].contains($0) ? 1 : 0 } as [Float], shape: [1, 4])
                    let figure = try run.evaluations(Examples(rows([row])), observed: mask)[0]
                    if scored.contains(order[end - 1]) { sum += figure - before }
                    before = figure
                }
            }
            return sum / Double(runs.count)
        }
        let run = runs[0].1
        let whole = try terms([1, 0, 0, 1], of: [0, 1, 2, 3])
        // Variable 2 is missing: both of its values, as likely as they are given the others, whose terms alone count.
        let joint = try ([0, 1] as [Float]).map { value in
            let last = try #require(runs.first { $0.0.last == 2 }).1
            return Math.exp(-(try last.evaluations(Examples(rows([[1, 0, value, 1]])))[0]))
        }
        let parts = try ([0, 1] as [Float]).map { try terms([1, 0, $0, 1], of: [0, 1, 3]) }
        let withGap = (joint[0] * parts[0] + joint[1] * parts[1]) / (joint[0] + joint[1])
        #expect(abs(parts[0] - parts[1]) > 0.05)
        for (row, expected) in [([1, 0, 0, 1], whole), ([1, 0, .nan, 1], withGap)] as [([Float], Double)] {
            let count = 40_000
            let program = try device.load(
                compile([run.model.objective(run.x, run.model.makeContext())]), maximumBatch: count,
                states: run.states.buffers)
            var feeds = RandomSource.feeds(seed: 7, step: 3, examples: Array(0..<count)).mapValues { Feed.host($0) }
            feeds["x"] = .host(rows([[Float]](repeating: row, count: count)))
            let found = Double(try program.run(feeds, batch: count)[0].floats[0])
            #expect(abs(found - expected) < 0.02, "\(row): \(found) for \(expected)")
        }
    }

    /// What is known decides the rest, wherever it lies in the order, each row with gaps of its own; drawn in one program.
    @Test func gapsAreFilledByTheirConditional() throws {
        let run = try orderless()
        let known = [6, 3]
        var partial = [Float](repeating: .nan, count: 8)
        for variable in known { partial[variable] = 1 }
        // Exactly: the known first, the others in their order.
        let exact = try orderless("6,3,0,1,2,4,5,7")
        let all = (0..<64).map { code in
            var row = partial
            for (bit, variable) in [0, 1, 2, 4, 5, 7].enumerated() { row[variable] = Float(code >> bit & 1) }
            return row
        }
        let joint = try exact.evaluations(Examples(rows(all))).map { Math.exp(-$0) }
        let total = joint.reduce(0) { $0 + $1 }
        let count = 8000
        let input = rows([[Float]](repeating: partial, count: count))
        let mask = HostArray(type: .float32, shape: [count, 8])
        let ones = HostArray([Float](repeating: 1, count: mask.count), shape: mask.shape)
        let filled = try run.complete(input, observed: ones).floats
        for (place, variable) in [0, 1, 2, 4, 5, 7].enumerated() {
            let expected = joint.indices.filter { $0 >> place & 1 == 1 }.reduce(0.0) { $0 + joint[$1] } / total
            let found = (0..<count).reduce(0.0) { $0 + Double(filled[$1 * 8 + variable]) } / Double(count)
            #expect(abs(expected - found) < 0.025, "\(variable): \(found) for \(expected)")
        }
        #expect((0..<count).allSatisfy { filled[$0 * 8 + 6] == 1 && filled[$0 * 8 + 3] == 1 })
    }

    /// The draw is the compiled one, equal to the loop's, and one pass of the network for each variable is all that it costs.
    @Test func drawsAreIncremental() throws {
        let run = try orderless()
        let (context, request) = (run.model.makeContext(), DrawingRequest())
        let drawing = try run.model.drawing(run.x, context, request)
        let sampler = try Sampler(run, drawing, SamplingOptions(), maximumBatch: 4)
        #expect(sampler.programs.count == 1 && sampler.programs[0].fullPasses == nil)
        let compiled = try run.sample(count: 50, SamplingOptions(seed: 3)).examples
        #expect(try run.sample(count: 50, SamplingOptions(seed: 3, isNaive: true)).examples == compiled)
        let work = contractions(of: [run.model.evaluation(run.x, context)]).reduce(0) { $0 + $1.live }
        #expect(sampler.programs[0].multiplyAdds <= work)
    }
}
