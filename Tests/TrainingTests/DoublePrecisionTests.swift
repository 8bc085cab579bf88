import Bijectors
import CPU
import Compiler
import Distributions
import Graph
import Layers
import Likelihood
import Models
import OpenCL
import Testing
import Training

/// Every family in double precision on the CPU: built, proved, differentiated, trained, and equal to the interpreter.
@Suite struct DoublePrecisionTests {
    struct Family: CustomTestStringConvertible, Sendable {
        let testDescription: String
        let make: @Sendable () throws -> any LikelihoodModel

        init(_ name: String, _ make: @escaping @Sendable () throws -> any LikelihoodModel) {
            (testDescription, self.make) = (name, make)
        }
    }

    static let families: [Family] = [
        Family("made") { try MADE([5]) { $0.hidden = [7] } },
        Family("categorical made") {
            try MADE([4]) {
                $0.hidden = [7]
                $0.conditional = "categorical:3"
            }
        },
        Family("made of mixtures") {
            try MADE([4]) {
                $0.hidden = [7]
                $0.conditional = "mixture:3"
            }
        },
        Family("made of logistics") {
            try MADE([4]) {
                $0.hidden = [7]
                $0.conditional = "logistics:3:16"
            }
        },
        Family("order-agnostic made") {
            try MADE([4]) {
                $0.hidden = [7]
                $0.orderAgnostic = true
                $0.masks = "4"
            }
        },
        Family("linear autoregression") { try LinearAutoregression([7, 2]) { $0.lags = 2 } },
        Family("tables") { try TabularConditionals([5]) },
        Family("tables of categories") { try TabularConditionals([4]) { $0.levels = 3 } },
        Family("fvbn") { try FVBN([5]) },
        Family("bengio") { try BengioNetwork([5]) { $0.hidden = 3 } },
        Family("nade") {
            try NADE([7]) {
                $0.hidden = 6
                $0.block = 3
                $0.ordering = "3,0,6,1,5,2,4"
            }
        },
        Family("rnade") {
            try NADE([5]) {
                $0.hidden = 6
                $0.block = 2
                $0.conditional = "mixture:2"
                $0.activation = "softplus"
                $0.scaled = true
                $0.dropout = 0.2
            }
        },
        Family("pixelcnn") {
            try PixelCNN([1, 4, 3]) {
                $0.channels = 4
                $0.blocks = 1
            }
        },
        Family("pixelcnn of three channels") {
            try PixelCNN([3, 2, 3]) {
                $0.levels = 4
                $0.channels = 6
                $0.blocks = 1
            }
        },
        Family("gated pixelcnn of classes") {
            try GatedPixelCNN(ExampleShape([1, 4, 3], classes: 3)) {
                $0.channels = 4
                $0.blocks = 1
                $0.headChannels = 5
            }
        },
        Family("pixelcnn++") {
            try PixelCNNPlusPlus([3, 4, 4]) {
                $0.channels = 4
                $0.blocks = 1
                $0.scales = 2
                $0.components = 2
            }
        },
        // Images one pixel high: rows that are moved down leave nothing.
        Family("pixelcnn++ of rows") {
            try PixelCNNPlusPlus([1, 1, 6]) {
                $0.channels = 4
                $0.blocks = 1
                $0.scales = 1
                $0.components = 2
            }
        },
        Family("wavenet") {
            try WaveNet(ExampleShape([9], classes: 2)) {
                $0.levels = 8
                $0.residual = 4
                $0.skip = 6
                $0.layers = 3
            }
        },
        Family("bytenet with an encoder") {
            try ByteNet([8]) {
                $0.levels = 5
                $0.channels = 8
                $0.sets = 1
                $0.encoder = true
            }
        },
        Family("image transformer") {
            try ImageTransformer([1, 3, 4]) {
                $0.levels = 3
                $0.width = 6
                $0.heads = 2
                $0.blocks = 1
                $0.dropout = 0.1
            }
        },
        Family("recurrent") {
            try RecurrentModel([6]) {
                $0.levels = 3
                $0.units = 4
                $0.layers = 2
                $0.dropout = 0.1
                $0.truncation = 4
            }
        },
        Family("gru over pixels") {
            try RecurrentModel([1, 3, 2]) {
                $0.recurrence = .gru
                $0.units = 4
            }
        },
        Family("row lstm") {
            try PixelRNN([1, 4, 3]) {
                $0.layer = .rowLSTM
                $0.units = 2
                $0.headChannels = 3
            }
        },
        Family("diagonal bilstm of three channels") {
            try PixelRNN([3, 3, 2]) {
                $0.levels = 3
                $0.units = 3
                $0.headChannels = 3
            }
        },
        Family("video pixel network") {
            try VideoPixelNetwork([3, 4, 3]) {
                $0.channels = 4
                $0.encoderBlocks = 1
                $0.decoderBlocks = 1
            }
        },
        Family("vae") {
            try VAE([6]) {
                $0.latents = 3
                $0.hidden = [5]
                $0.iafHidden = [6]
            }
        },
        Family("residual glow with a learned prior") {
            try Flow.ImageSettings {
                $0.scales = 2
                $0.steps = 1
                $0.hidden = 3
                $0.blocks = 1
                $0.norm = "layer"
                $0.dropout = 0.2
                $0.learnedPrior = true
            }.makeModel([1, 4, 4], seed: 1)
        },
        Family("videoflow") {
            try Flow.VideoSettings {
                $0.scales = 2
                $0.steps = 1
                $0.hidden = 3
                $0.priorHidden = 3
                $0.priorBlocks = 1
                $0.levels = 2
            }.makeModel([3, 4, 4], seed: 1)
        },
        Family("vae with a flow as prior") {
            try VAE([6]) {
                $0.latents = 3
                $0.hidden = [5]
                $0.posterior = "diagonal"
                $0.prior = "maf:2"
                $0.priorHidden = [4]
            }
        },
        Family("mixture of flows") {
            Flow(
                ElementwiseAffine([3]),
                base: Mixture((0..<3).map { _ in Flow.maf(variables: 3, layers: 1, hidden: [5]) }), exampleShape: [3])
        },
        Family("glow") {
            try Flow.ImageSettings {
                $0.scales = 1
                $0.steps = 1
                $0.hidden = 4
                $0.levels = 16
                $0.dequantization = "variational"
            }.makeModel([1, 4, 4], seed: 1)
        },
        Family("ffjord") {
            try Flow.ContinuousSettings {
                $0.hidden = [5, 4]
                $0.steps = 3
                $0.trace = "hutchinson"
                ($0.kinetic, $0.jacobian) = (0.1, 0.1)
            }.makeModel([3], seed: 1)
        },
        Family("ffjord by the adjoint") {
            try Flow.ContinuousSettings {
                $0.hidden = [5, 4, 3]
                $0.training = .adjoint
                $0.tolerance = 1e-8
            }.makeModel([3], seed: 1)
        },
        Family("flow matching") {
            try Flow.ContinuousSettings {
                $0.hidden = [5]
                $0.training = .matching
                $0.time = "concat"
            }.makeModel([3], seed: 1)
        },
    ]
    /// Columns of every kind.
    static let columns = [
        Column("colour", .category(["blue", "green", "red"])), Column("weight", .real(mean: 70, deviation: 12)),
        Column("is old", .category(["0", "1"])), Column("count", .whole(mean: 3, deviation: 2.5)),
    ]
    private static func given(_ dimensions: [Int], columns: [Column]? = nil) -> ExampleShape {
        var shape = ExampleShape(dimensions, classes: 3, features: 2, columns: columns)
        shape.featureColumns = [Column("", .real(mean: 5, deviation: 2)), Column("", .real(mean: -1, deviation: 0.5))]
        return shape
    }
    /// Families that are given a class and features, and such of tables.
    static let givenFamilies: [Family] = [
        Family("made of a table") {
            try MADE(given([4], columns: columns)) {
                $0.hidden = [7, 6]
                $0.conditional = "table:2"
            }
        },
        Family("fvbn of a table") { try FVBN(given([4], columns: columns)) { $0.conditional = "table:1" } },
        Family("bengio of a table") {
            try BengioNetwork(given([4], columns: columns)) {
                $0.hidden = 3
                $0.conditional = "table:2"
            }
        },
        Family("bengio of shared weights and a table") {
            try BengioNetwork(given([4], columns: columns)) {
                $0.hidden = 3
                $0.conditional = "table:2"
                $0.tied = true
            }
        },
        Family("nade of a table") {
            try NADE(given([4], columns: columns)) {
                $0.hidden = 6
                $0.block = 3
                $0.conditional = "table:2"
            }
        },
        Family("orderless nade of a table") {
            try MADE.Settings {
                $0.hidden = [7, 6]
                $0.conditional = "table:2"
                $0.orderless = true
                $0.ordering = "2,0,3,1"
            }.makeModel(given([4], columns: columns), seed: 1)
        },
        Family("vae of a table") {
            try VAE(given([4], columns: columns)) {
                $0.latents = 3
                $0.hidden = [5]
                $0.iafHidden = [6]
                $0.conditional = "table:1"
            }
        },
        Family("maf of a table") {
            try Flow.VectorSettings {
                $0.hidden = [6]
                $0.layers = 2
            }.makeModel(given([2], columns: [columns[1], columns[3]]), seed: 1)
        },
        Family("maf with a base that is given something") {
            try Flow.VectorSettings {
                $0.hidden = [6]
                $0.layers = 1
                $0.base = "conditional"
            }.makeModel(given([2], columns: [columns[1], columns[3]]), seed: 1)
        },
        Family("maf of mixtures given something") {
            try Flow.VectorSettings {
                $0.flow = "maf-mog"
                $0.hidden = [6]
                $0.layers = 1
                $0.components = 2
            }.makeModel(given([2], columns: [columns[1], columns[3]]), seed: 1)
        },
        Family("flows on flows given something") {
            let shape = given([2])
            let conditions = Conditions(of: shape)
            let features = conditions.vectorCount
            let bases: [any Distribution] = [DiagonalNormal([2]), ConditionalNormal([2], features: features)]
            let mixture = Mixture(
                bases.map {
                    Flow.realNVP(
                        variables: 2, layers: 2, hidden: [4], features: features, base: $0, startsAtIdentity: false)
                })
            return Flow(
                Flow.maf(variables: 2, layers: 1, hidden: [4], features: features).bijector, base: mixture,
                exampleShape: [2], conditions: conditions)
        },
        Family("vae with a prior that is given something") {
            try VAE(given([4], columns: columns)) {
                $0.latents = 3
                $0.hidden = [5]
                $0.posterior = "planar:2"
                $0.prior = "realnvp:2"
                $0.conditional = "table:1"
            }
        },
        Family("ffjord of a table") {
            try Flow.ContinuousSettings {
                $0.hidden = [6]
                $0.steps = 2
            }.makeModel(given([2], columns: [columns[1], columns[3]]), seed: 1)
        },
        Family("pixelcnn given something") {
            try PixelCNN(given([1, 4, 3])) {
                $0.channels = 4
                $0.blocks = 1
            }
        },
        Family("gated pixelcnn given something") {
            try GatedPixelCNN(given([1, 4, 3])) {
                $0.channels = 4
                $0.blocks = 1
                $0.headChannels = 5
            }
        },
        Family("wavenet given something") {
            try WaveNet(given([9])) {
                $0.levels = 8
                $0.residual = 4
                $0.skip = 6
                $0.layers = 2
            }
        },
        Family("bytenet given something") {
            try ByteNet(given([6])) {
                $0.levels = 5
                $0.channels = 8
                $0.sets = 1
            }
        },
        Family("image transformer given something") {
            try ImageTransformer(given([1, 3, 4])) {
                $0.width = 6
                $0.heads = 2
                $0.blocks = 1
            }
        },
        Family("video of levels given something") {
            try VideoPixelNetwork(given([3, 4, 3])) {
                $0.levels = 4
                $0.channels = 4
                $0.encoderBlocks = 1
                $0.decoderBlocks = 1
            }
        },
        Family("tarflow") {
            try Flow.PatchSettings {
                ($0.patch, $0.blocks, $0.layers) = (2, 2, 1)
                ($0.width, $0.heads) = (8, 2)
                $0.levels = 16
                $0.noise = 0.1
            }.makeModel(given([1, 4, 4]), seed: 1)
        },
        Family("pixelsnail") {
            try PixelSNAIL([1, 4, 3]) {
                $0.levels = 2
                ($0.channels, $0.blocks, $0.residuals) = (4, 1, 1)
                $0.queryDepth = 3
            }
        },
        Family("glow given something") {
            try Flow.ImageSettings {
                $0.scales = 1
                $0.steps = 1
                $0.hidden = 4
                $0.levels = 16
            }.makeModel(given([1, 4, 4]), seed: 1)
        },
        Family("residual glow with a learned prior given something") {
            try Flow.ImageSettings {
                $0.scales = 2
                $0.steps = 1
                $0.hidden = 3
                $0.blocks = 1
                $0.norm = "weight"
                $0.learnedPrior = true
            }.makeModel(given([1, 4, 4]), seed: 1)
        },
        Family("videoflow given something") {
            try Flow.VideoSettings {
                $0.scales = 1
                $0.steps = 1
                $0.hidden = 3
                $0.priorHidden = 3
                $0.contextFrames = 1
                $0.levels = 4
                $0.dequantization = "uniform"
            }.makeModel(given([2, 2, 4]), seed: 1)
        },
        Family("image realnvp of real numbers given something") {
            let columns = (0..<16).map { Column("", .real(mean: Double($0), deviation: 2 + Double($0))) }
            return try Flow.ImageSettings {
                $0.flow = "realnvp"
                $0.hidden = 4
                $0.levels = 0
            }.makeModel(given([1, 4, 4], columns: columns), seed: 1)
        },
    ]
    static let vectorFlows = [
        "nice", "realnvp", "coupling", "maf", "maf-mog", "autoregressive", "iaf", "planar", "radial",
    ].map { flow in
        Family(flow) {
            try Flow.VectorSettings {
                $0.flow = flow
                $0.hidden = [6]
                $0.layers = 2
                if flow == "coupling" { $0.transformer = "spline:4" }
                if flow == "autoregressive" { $0.transformer = "mixture:2" }
            }.makeModel([4], seed: 1)
        }
    }

    private static let batch = 3

    /// What the model is fed, and its parameters, by the names that programs know.
    private func bindings(_ model: any LikelihoodModel, batch: Int = batch) -> [String: Values] {
        let count = model.variableCount
        let noise = (0..<batch * count).map { Double($0 * 7919 % 101) / 101 }
        let x = noise.enumerated().map { place, noise in
            if case .table(let columns) = model.domain { return cell(columns[place % count], noise) }
            return model.domain.levelCount.map { (noise * Double($0)).rounded(.down) } ?? noise - 0.5
        }
        var result = ["x": Values(shape: [batch, count], elements: x)]
        for (name, array) in RandomSource.feeds(seed: 11, examples: Array(0..<batch)).merging(
            model.feeds(step: 0), uniquingKeysWith: { $1 })
        {
            result[name] = array.values
        }
        if let classes = model.conditions.classes {
            result["label"] = Values(shape: [batch], elements: (0..<batch).map { Double($0 % classes) })
        }
        if let count = model.conditions.features.first {
            let values = (0..<batch * count).map { 3 + Double($0 * 31 % 17) / 4 }
            result["features"] = Values(shape: [batch, count], elements: values)
        }
        for (label, array) in model.initialValues(seed: 3) { result[label] = array.values }
        return result
    }

    /// A cell of a column for a number of [0, 1).
    private func cell(_ column: Column, _ noise: Double) -> Double {
        switch column.kind {
        case .real(let mean, let deviation): mean + deviation * (noise - 0.5)
        case .whole(let mean, let deviation): (mean + deviation * (noise - 0.5)).rounded()
        case .category(let names): (noise * Double(names.count)).rounded(.down)
        }
    }

    /// Runs a program on the CPU with given values; updates are written back to them.
    private func run(
        _ outputs: [Tensor], updates: [StateUpdate] = [], _ bindings: inout [String: Values]
    ) throws -> [[Double]] {
        let (device, schedule) = (try CPUDevice(threads: 1), try compile(outputs, updates: updates))
        var states: [String: any DeviceBuffer] = [:]
        var feeds: [String: Feed] = [:]
        for value in (schedule.states + schedule.inputs).map({ schedule.values[$0] }) {
            let array = HostArray(bindings[value.label]!, as: value.type.element)
            if schedule.reads(value.label) { feeds[value.label] = .host(array) }
            guard schedule.states.contains(where: { schedule.values[$0].label == value.label }) else { continue }
            feeds[value.label] = nil
            states[value.label] = try device.makeBuffer(byteCount: array.bytes.count)
            try array.withUnsafeBytes { try states[value.label]!.write($0) }
        }
        let found = try device.load(schedule, maximumBatch: Self.batch, states: states).run(feeds, batch: Self.batch)
        for update in updates {
            let placeholder = update.state.placeholder!
            bindings[placeholder.label] = try HostArray(
                reading: states[placeholder.label]!, type: placeholder.type.element,
                shape: placeholder.type.shape.resolved(batch: Self.batch)
            ).values
        }
        return found.map(\.doubles)
    }

    @Test(arguments: families + vectorFlows + givenFamilies) func trains(_ family: Family) throws {
        let model = try family.make()
        model.use(.float64)
        #expect(try model.prove().hasPrefix("proved"))
        var bindings = bindings(model)
        let x = model.makeInput()
        #expect(x.elementType == .float64)
        let fit = model.makeContext(.initialize)
        model.initialize(x, fit)
        if !fit.updates.isEmpty {
            _ = try run([], updates: fit.updates.map { StateUpdate($0.parameter.tensor, $0.value) }, &bindings)
        }
        let loss = model.objective(x, model.makeContext(.train))
        let parameters = model.parameters.filter(\.isTrained).map(\.tensor)
        let slopes = try gradients(of: loss, with: parameters)
        // The processor and the interpreter, for loss, figures and gradients.
        let outputs = [loss, model.evaluation(x, model.makeContext())] + slopes
        let found = try run(outputs, &bindings)
        for (a, b) in zip(found, try Interpreter(batch: Self.batch, bindings).run(outputs)) {
            let scale = max(1, b.elements.map(\.magnitude).max() ?? 0)
            let worst = zip(a, b.elements).map { abs($0 - $1) }.max() ?? 0
            #expect(worst <= 1e-10 * scale, "\(worst) of \(scale)")
        }
        // Steps down the gradient end lower, and move far less than float32 would see.
        var first: Double?
        let norm = slopes.map { $0.squared().sum() }.reduce(Tensor.scalar(1e-9, .float64), +).sqrt()
        let updates = zip(parameters, slopes).map { StateUpdate($0, $0 - $1 * 1e-5 / norm) }
        for _ in 0..<5 {
            let value = try run([loss], updates: updates, &bindings)[0][0]
            if let first { #expect(value < first) }
            first = first ?? value
        }
        // In float32, with the same numbers.
        let single = try family.make()
        let other = single.objective(single.makeInput(), single.makeContext(.train))
        var rounded = bindings
        for (mine, its) in zip(model.parameters, single.parameters) { rounded[its.label] = bindings[mine.label] }
        let (a, b) = (try run([loss], &bindings)[0][0], try run([other], &rounded)[0][0])
        #expect(abs(a - b) <= 2e-4 * max(1, abs(a)), "\(a) in double, \(b) in float32")
    }

    /// Runs are in float32, and say so.
    @Test func runsRefuseDoubles() throws {
        let model = try MADE([4]) { $0.hidden = [6] }
        model.use(.float64)
        let problem = #expect(throws: UsageError.self) { _ = try Run(model, device: CPUDevice(threads: 1)) }
        #expect(problem.map { "\($0)".contains("float64") } == true)
    }

    /// OpenCL has no double precision here, and says so by its name.
    @Test func openCLRefusesDoubles() throws {
        guard let device = try? OpenCLDevice.named("opencl") else { return }
        let model = try MADE([4]) { $0.hidden = [6] }
        model.use(.float64)
        let schedule = try compile([model.objective(model.makeInput(), model.makeContext())])
        let problem = #expect(throws: OpenCLError.self) {
            _ = try device.load(schedule, maximumBatch: 2, states: [:])
        }
        #expect(problem.map { "\($0)".contains("float64") } == true)
    }

    private static let independent = ["gated", "pixelcnn++", "wavenet", "image transformer", "logistics", "maf"]

    /// What an example gives does not depend on those that it is computed with, to the bit, on any device.
    @Test(
        arguments: (families + vectorFlows).filter { family in
            independent.contains { family.testDescription.contains($0) }
        })
    func examplesAreIndependent(_ family: Family) throws {
        let model = try family.make()
        let count = 7
        let x = model.makeInput()
        let schedule = try compile([model.evaluation(x, model.makeContext())])
        var values = bindings(model, batch: count)
        for parameter in model.parameters { values[parameter.label]?.elements.mapInPlace { $0 * 1.5 } }
        let devices: [any Device] =
            [try CPUDevice(threads: 2)]
            + [KernelFamily.cpu, .gpu].compactMap { try? OpenCLDevice.named("opencl", kernels: $0) }
        for device in devices {
            var states: [String: any DeviceBuffer] = [:]
            var feeds: [String: HostArray] = [:]
            for value in (schedule.states + schedule.inputs).map({ schedule.values[$0] }) {
                let array = HostArray(values[value.label]!, as: value.type.element)
                if !schedule.states.contains(where: { schedule.values[$0].label == value.label }) {
                    feeds[value.label] = array
                    continue
                }
                states[value.label] = try device.makeBuffer(byteCount: array.bytes.count)
                try array.withUnsafeBytes { try states[value.label]!.write($0) }
            }
            let program = try device.load(schedule, maximumBatch: count, states: states)
            let together = try program.run(feeds.mapValues { .host($0) }, batch: count)[0].floats
            for row in 0..<count {
                let own = feeds.mapValues { array in
                    Feed.host(array.shape.first == count ? array.rows(row..<row + 1) : array)
                }
                let alone = try program.run(own, batch: 1)[0].floats
                #expect(alone == [together[row]], "row \(row) on \(device.summary)")
            }
        }
    }
}

extension Array {
    fileprivate mutating func mapInPlace(_ change: (Element) -> Element) {
        for i in indices { self[i] = change(self[i]) }
    }
}
