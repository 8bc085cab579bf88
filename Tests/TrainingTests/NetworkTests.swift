import CPU
import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Likelihood
import OpenCL
import Testing
import Training

@testable import Models

/// The classics from regressions to networks: NADE, FVBN, Bengio and Bengio's.
@Suite(.serialized) struct NetworkTests {
    /// Small models whose weights are large enough that every conditional matters.
    static func model(_ name: String, _ examples: ExampleShape, _ conditional: String, _ ordering: String) throws
        -> any AutoregressiveModel
    {
        let settings: any ModelSettings =
            switch name {
            case "fvbn":
                FVBN.Settings {
                    $0.conditional = conditional
                    $0.ordering = ordering
                }
            case "bengio", "bengio-tied":
                BengioNetwork.Settings {
                    $0.hidden = 3
                    $0.conditional = conditional
                    $0.ordering = ordering
                    $0.tied = name == "bengio-tied"
                    $0.direct = !$0.tied
                }
            default:
                NADE.Settings {
                    $0.hidden = 7
                    // No multiple of it is a number of variables here.
                    $0.block = 3
                    $0.conditional = conditional
                    $0.ordering = ordering
                    $0.tied = name == "nade-tied"
                    $0.scaled = name == "rnade"
                    if $0.scaled { $0.activation = "relu" }
                }
            }
        let model = try settings.makeModel(examples, seed: 7)
        return try #require(model as? any AutoregressiveModel)
    }

    static func run(
        _ model: any AutoregressiveModel, _ device: any Device, sharpened by: Float
    ) throws -> Run {
        let run = try Run(model, device: device)
        for (name, parameter) in run.parameters {
            let values = parameter.initialValue(named: name, seed: 5).floats.enumerated().map { i, value in
                // Biases start at zero.
                (value == 0 && parameter.mask == nil ? Float(i * 7919 % 13 - 6) / 12 : value) * by
            }
            try run.states.set(parameter, HostArray(values, shape: parameter.shape))
        }
        return run
    }

    /// The processor, and the first of OpenCL's kernel families, which take a while to compile.
    func devices(_ count: Int) throws -> [any Device] { Array(try testDevices().prefix(count)) }

    // MARK: distributions

    @Test(
        arguments: ["nade", "nade-tied", "rnade", "fvbn", "bengio", "bengio-tied"],
        ["natural", "random", "3,0,7,9,1,5,2,8,6,4"])
    func binarySumsToOne(_ name: String, _ ordering: String) throws {
        let all = Examples((0..<1024).map { code in (0..<10).map { Float(code >> $0 & 1) } })
        let model = try Self.model(name, [10], "bernoulli", ordering)
        #expect(model.order == (ordering == "natural" ? .natural(10) : model.order))
        for device in try devices(name == "nade" && ordering != "natural" ? 3 : ordering == "random" ? 2 : 1) {
            let figures = try Self.run(model, device, sharpened: 3).evaluations(all)
            let sum = figures.reduce(0) { $0 + Math.exp(-$1) }
            #expect(abs(sum - 1) < 1e-5, "\(name), \(ordering), \(device.summary): \(sum)")
            // They are not all alike.
            #expect((figures.max() ?? 0) - (figures.min() ?? 0) > 3)
        }
    }

    @Test(arguments: ["nade", "nade-tied", "fvbn", "bengio", "bengio-tied"], ["natural", "4,1,0,3,2"])
    func categoricalSumsToOne(_ name: String, _ ordering: String) throws {
        let all = Examples((0..<1024).map { code in (0..<5).map { Float(code >> (2 * $0) & 3) } })
        let model = try Self.model(name, [5], "categorical:4", ordering)
        for device in try devices(ordering == "natural" ? 1 : 2) {
            let sum = try Self.run(model, device, sharpened: 3).evaluations(all).reduce(0) { $0 + Math.exp(-$1) }
            #expect(abs(sum - 1) < 1e-5, "\(name), \(ordering), \(device.summary): \(sum)")
        }
    }

    @Test(arguments: ["nade", "rnade", "fvbn", "bengio", "bengio-tied"], ["natural", "1,0"])
    func densitiesIntegrateToOne(_ name: String, _ ordering: String) throws {
        let (side, width) = (400, 32.0)
        func at(_ i: Int) -> Float { Float((Double(i) + 0.5) / Double(side) * width - width / 2) }
        let grid = Examples((0..<side * side).map { [at($0 % side), at($0 / side)] })
        let model = try Self.model(name, [2], "mixture:2", ordering)
        let cell = (width / Double(side)) * (width / Double(side))
        for device in try devices(ordering == "natural" ? 1 : 2) {
            let sum = try Self.run(model, device, sharpened: 0.7).evaluations(grid).reduce(0) { $0 + Math.exp(-$1) }
            #expect(abs(sum * cell - 1) < 1e-5, "\(name), \(ordering), \(device.summary): \(sum * cell)")
        }
    }

    // MARK: proofs

    /// Every allowed dependency is there, and no other.
    @Test(
        arguments: ["nade", "nade-tied", "rnade", "fvbn", "bengio", "bengio-tied"],
        ["natural", "random", "3,0,7,9,1,5,2,8,6,4"])
    func proofsHold(_ name: String, _ ordering: String) throws {
        let proof = try Self.model(name, [10], "bernoulli", ordering).proveAutoregressive()
        #expect(proof.dependencies?.present == 45 && proof.dependencies?.allowed == 45)
    }

    /// A running sum that includes the own variable is refused, with its line.
    @Test func includedOwnVariableIsRefused() throws {
        var model = try NADE([10]) {
            $0.hidden = 7
            $0.block = 3
        }
        model.isExclusive = false
        let leak = #expect(throws: DependencyLeak.self) { try model.proveAutoregressive() }
        let text = leak?.description ?? ""
        #expect(text.hasPrefix("logits[0] depends on x[0] through add[0] (NADE.swift:"), "\(text)")
        #expect(text.contains("cumulativeSum["), "\(text)")
    }

    // MARK: draws

    @Test(
        arguments: ["nade", "rnade", "fvbn", "bengio", "bengio-tied"], ["bernoulli", "categorical:4", "mixture:2"])
    func drawsEqualFullPasses(_ name: String, _ conditional: String) throws {
        let model = try Self.model(name, [10], conditional, "3,0,7,9,1,5,2,8,6,4")
        let (drawn, parameters) = model.draw(model.makeInput())
        let program = try SamplingProgram(
            variable: model.makeInput(), drawn: drawn, order: model.order, outputs: [parameters])
        #expect(program.fullPasses == nil, "\(program.fullPasses?.reason ?? "")")
        let runs = try devices(name == "nade" ? 3 : 2).map { try Self.run(model, $0, sharpened: 2) }
        let naive = try runs[0].sample(count: 60, SamplingOptions(seed: 5, isNaive: true)).examples.floats
        for run in runs {
            let compiled = try run.sample(count: 60, SamplingOptions(seed: 5, batch: 33)).examples.floats
            let same = (0..<60).count { row in
                (row * 10..<row * 10 + 10).allSatisfy { abs(compiled[$0] - naive[$0]) <= 1e-3 * max(1, abs(naive[$0])) }
            }
            // Rounding may tip a draw that lies on an edge.
            #expect(same >= 59, "\(name), \(conditional), \(run.device.summary): \(same) of 60")
        }
    }

    // MARK: ensembles of orders

    /// The mixture of several orders sums to one, is the mean of its members, and each is proved.
    @Test func orderlessEnsemble() throws {
        let settings = MADE.Settings {
            $0.hidden = [12]
            $0.orderless = true
            $0.ordering = "random"
            $0.ensemble = 4
        }
        let model = try #require(try settings.makeModel([8], seed: 1) as? OrderlessNADE)
        #expect(model.members.count == 4 && Set(model.ensemble).count == 4)
        for order in model.ensemble {
            let context = Context(orders: .constant(order: order, hidden: []))
            let x = model.makeInput()
            let logits = model.conditionalParameters(x, context)
            let claim = ConditionalParameters("logits", logits, variables: (0..<8).map { $0 })
            #expect(try AutoregressiveProof([claim], of: x, order: order).dependencies?.present == 28)
        }
        let all = Examples((0..<256).map { code in (0..<8).map { Float(code >> $0 & 1) } })
        for device in try devices(2) {
            let run = try Self.run(model, device, sharpened: 4)
            let mixture = try run.evaluations(all).map { Math.exp(-$0) }
            #expect(abs(mixture.reduce(0, +) - 1) < 1e-5, "\(device.summary)")
            var mean = [Double](repeating: 0, count: 256)
            var single: [[Double]] = []
            for order in model.ensemble {
                let one = OrderlessNADE(
                    [8], conditional: model.conditional, ensemble: [order], hidden: [12], activation: .relu)
                let member = try Run(one, device: device)
                for (own, its) in zip(one.parameters, model.parameters) {
                    try member.states.set(own, try #require(try run.states.get(its)))
                }
                single.append(try member.evaluations(all).map { Math.exp(-$0) })
                for (i, p) in single[single.count - 1].enumerated() { mean[i] += p / 4 }
            }
            #expect(zip(mean, mixture).allSatisfy { abs($0 - $1) < 1e-6 })
            // The orders differ, so that a mixture is no member.
            #expect(zip(single[0], single[1]).contains { abs($0 - $1) > 1e-4 })
            let drawn = try run.sample(count: 60, SamplingOptions(seed: 2)).examples.floats
            let naive = try run.sample(count: 60, SamplingOptions(seed: 2, isNaive: true)).examples.floats
            #expect(zip(drawn, naive).count { $0 != $1 } <= 8)
        }
    }

    // MARK: memory

    /// Twice the variables take at most 2.1 times the memory of a training step.
    @Test func memoryGrowsWithVariables() throws {
        func planned(_ variables: Int) throws -> Int {
            let model = try NADE([variables]) { $0.hidden = 64 }
            let loss = model.objective(model.makeInput(), model.makeContext(.train))
            let parameters = model.parameters.map(\.tensor)
            let slopes = try gradients(of: loss, with: parameters)
            let schedule = try compile([loss], updates: zip(parameters, slopes).map { StateUpdate($0, $0 - $1 * 0.1) })
            let device = try CPUDevice(threads: 2)
            var states: [String: any DeviceBuffer] = [:]
            for parameter in model.parameters {
                states[parameter.label] = try device.makeBuffer(byteCount: 4 * parameter.shape.reduce(1, *))
            }
            return try device.load(schedule, maximumBatch: 50, states: states).plannedBytes
        }
        let (one, two, four) = (try planned(200), try planned(400), try planned(800))
        #expect(Double(two) <= 2.1 * Double(one) && Double(four) <= 2.1 * Double(two), "\(one), \(two), \(four)")
    }

    // MARK: PyTorch

    private static let goldens: [String: HostArray] = {
        let folder = #filePath.split(separator: "/").dropLast().joined(separator: "/")
        return (try? SafeTensors.read("/\(folder)/Goldens/networks.safetensors").0) ?? [:]
    }()

    private static func golden(_ name: String) throws -> any AutoregressiveModel {
        func order(_ places: [Int]) -> String { places.map(String.init).joined(separator: ",") }
        let bengioOrder = order([2, 0, 5, 1, 4, 3])
        let settings: any ModelSettings =
            switch name {
            case "nade", "nade-tied", "nade-categorical", "rnade":
                NADE.Settings {
                    $0.hidden = name == "nade" ? 7 : name == "nade-tied" ? 5 : 6
                    $0.block = 4
                    $0.tied = name == "nade-tied"
                    if name == "nade" { $0.ordering = order([3, 0, 7, 10, 1, 9, 5, 2, 8, 6, 4]) }
                    if name == "nade-categorical" {
                        $0.conditional = "categorical:4"
                        $0.ordering = "4,1,0,3,2"
                    }
                    if name == "rnade" {
                        $0.conditional = "mixture:2"
                        $0.activation = "relu"
                        $0.scaled = true
                    }
                }
            case "fvbn", "fvbn-categorical", "fvbn-gaussian":
                FVBN.Settings {
                    if name == "fvbn" { $0.ordering = order([8, 2, 0, 7, 1, 3, 6, 5, 4]) }
                    if name == "fvbn-categorical" { $0.conditional = "categorical:3" }
                    if name == "fvbn-gaussian" {
                        $0.conditional = "mixture:1"
                        $0.ordering = "1,0,3,2"
                    }
                }
            default:
                BengioNetwork.Settings {
                    $0.hidden = 3
                    $0.tied = name == "bengio-tied"
                    $0.direct = name != "bengio-tied"
                    if name != "bengio-categorical" { $0.ordering = bengioOrder }
                    if name == "bengio-categorical" { $0.conditional = "categorical:3" }
                }
            }
        let variables = try #require(goldens["\(name)/x"]).shape[1]
        return try #require(try settings.makeModel([variables], seed: 1) as? any AutoregressiveModel)
    }

    /// Outputs and gradients against PyTorch's (Scripts/make-network-goldens.py): in double precision to 1e-10, in float32 to 1e-5.
    @Test(
        arguments: [
            "nade", "nade-tied", "nade-categorical", "rnade", "fvbn", "fvbn-categorical", "fvbn-gaussian", "bengio",
            "bengio-tied", "bengio-categorical",
        ])
    func agreesWithPyTorch(_ name: String) throws {
        let devices = try devices(["nade", "rnade", "bengio"].contains(name) ? 2 : 1)
        for (device, element) in [(devices[0], ElementType.float64)] + devices.map({ ($0, .float32) }) {
            let model = try Self.golden(name)
            model.use(element)
            var states: [String: any DeviceBuffer] = [:]
            for (path, parameter) in model.namedParameters() {
                let given = try #require(Self.goldens["\(name)/\(path)"], "\(name) has no \(path)")
                #expect(given.shape == parameter.shape, "\(name)/\(path)")
                let array = HostArray(Values(shape: given.shape, elements: given.doubles), as: element)
                states[parameter.label] = try device.makeBuffer(byteCount: array.bytes.count)
                try array.withUnsafeBytes { try states[parameter.label]?.write($0) }
            }
            let (x, data) = (model.makeInput(), try #require(Self.goldens["\(name)/x"]))
            let slopes = try gradients(of: model.objective(x, Context()), with: model.parameters.map(\.tensor))
            let outputs = [model.conditionalParameters(x, Context()), model.evaluation(x, Context())] + slopes
            let program = try device.load(compile(outputs), maximumBatch: data.shape[0], states: states)
            let feed = HostArray(Values(shape: data.shape, elements: data.doubles), as: element)
            let found = try program.run(["x": .host(feed)], batch: data.shape[0])
            let keys = ["parameters", "nats"] + model.namedParameters().map { "gradient/\($0.name)" }
            for (key, array) in zip(keys, found) {
                let expected = try #require(Self.goldens["\(name)/\(key)"])
                #expect(expected.shape == array.shape, "\(name)/\(key)")
                let scale = max(1, expected.doubles.map { abs($0) }.max() ?? 0)
                let worst = zip(expected.doubles, array.doubles).map { abs($0 - $1) }.max() ?? .infinity
                #expect(
                    worst <= (element == .float64 ? 1e-10 : 1e-5) * scale,
                    "\(name)/\(key), \(element) on \(device.summary): \(worst) of \(scale)")
            }
        }
    }
}
