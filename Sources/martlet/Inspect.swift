import ArgumentParser
import CPU
import Compiler
import Datasets
import Distributions
import Experiments
import Graph
import Layers
import Models
import Training

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Layers, parameters, work and the share of it that the masks save, and the proof that the model looks only backwards."
    )

    @Argument(help: "An experiment or a run's folder.") var name: String
    @OptionGroup var data: DataOptions
    @Option(name: .customLong("set"), help: "A setting as key=value; may be repeated.") var settings: [String] = []
    @Option(help: "Draw the structural Jacobian of the conditionals to this png.") var dependencies: String?
    @Flag(
        help: "Print JSON: names, shapes, the order and every layer's degrees, enough to rebuild the network elsewhere."
    )
    var json = false

    struct LayerReport: Encodable {
        let name: String
        let shape: [Int]
        let multiplyAdds: Int
        let liveMultiplyAdds: Int
        let inputDegrees: [Int32]
        let outputDegrees: [Int32]
        let isStrict: Bool
    }

    struct MaskReport: Encodable {
        let order: [Int32]
        let hiddenDegrees: [[Int32]]
    }

    struct Report: Encodable {
        let experiment: String
        let conditional: String
        let activation: String
        let variables: Int
        let parameters: [ParameterReport]
        let parameterCount: Int
        let inputOrdering: [Int32]
        let layers: [LayerReport]
        let ensemble: [MaskReport]
        let multiplyAdds: Int
        let liveMultiplyAdds: Int
        let proof: String
    }

    struct ParameterReport: Encodable {
        let name: String
        let shape: [Int]
    }

    func run() throws {
        var settings: RunConfiguration
        let variables: Int
        if Files.isFolder(name) {
            let stored = try RunFolder(name).readConfig(StoredRun.self)
            (settings, variables) = (stored.settings, stored.variables)
        } else {
            let experiment = try Experiment.named(name)
            settings = experiment.configuration
            for assignment in self.settings { try settings.set(assignment) }
            variables = try experiment.data(settings, dataFolder: data.folder).dataset.variableCount
        }
        let run = try MADERun(settings, variables: variables, device: CPUDevice(threads: 1))
        let proof = try run.prove()
        let report = try describe(run, settings, variables, proof)
        if let dependencies { try drawDependencies(run, to: dependencies) }
        if json {
            try printJSON(report)
            return
        }
        print("\(report.experiment): \(report.conditional), \(report.parameterCount) parameters")
        for layer in report.layers {
            print(
                "  \(layer.name)  \(layer.shape)  \(layer.liveMultiplyAdds) of \(layer.multiplyAdds) multiply-adds live"
            )
        }
        let share = 1 - Double(report.liveMultiplyAdds) / Double(max(1, report.multiplyAdds))
        print(
            "  in all \(report.liveMultiplyAdds) of \(report.multiplyAdds): the masks save \(fixed(share * 100, 1)) %")
        print("  \(report.proof)")
        if let dependencies { print("  structural Jacobian: \(dependencies)") }
    }

    private func describe(_ run: MADERun, _ settings: RunConfiguration, _ variables: Int, _ proof: AutoregressiveProof)
        throws -> Report
    {
        let masks = settings.ensembleMasks.map { run.masks.mask($0) }
        let conditional = run.model.conditional
        let repeated = { (order: [Int32], count: Int) in (0..<count).flatMap { _ in order } }
        let sides =
            [repeated(masks[0].order, conditional.inputCount)] + masks[0].hidden + [
                repeated(masks[0].order, conditional.parameterCount)
            ]
        var layers: [LayerReport] = []
        func add(_ name: String, _ layer: MaskedDense, _ input: [Int32], _ output: [Int32], strict: Bool) {
            let live = Staircase(input: input, output: output, strict: strict).liveCount
            layers.append(
                LayerReport(
                    name: name, shape: layer.weight.shape, multiplyAdds: layer.weight.shape.reduce(1, *),
                    liveMultiplyAdds: live,
                    inputDegrees: input, outputDegrees: output, isStrict: strict))
        }
        for (index, layer) in run.model.layers.enumerated() {
            add("layers.\(index)", layer, sides[index], sides[index + 1], strict: index == run.model.layers.count - 1)
        }
        if let direct = run.model.direct { add("direct", direct, sides[0], sides[sides.count - 1], strict: true) }
        var text = "proved: every conditional reads only earlier variables"
        if proof.isSymbolic { text += ", for every order and all degrees" }
        if let pairs = proof.dependencies {
            text += " (\(pairs.present) of \(pairs.allowed) allowed dependencies are present)"
        }
        return Report(
            experiment: settings.experiment, conditional: conditional.name, activation: settings.activation,
            variables: variables,
            parameters: run.parameters.map { ParameterReport(name: $0.name, shape: $0.parameter.shape) },
            parameterCount: run.model.parameterCount, inputOrdering: masks[0].order, layers: layers,
            ensemble: masks.map { MaskReport(order: $0.order, hiddenDegrees: $0.hidden) },
            multiplyAdds: layers.reduce(0) { $0 + $1.multiplyAdds },
            liveMultiplyAdds: layers.reduce(0) { $0 + $1.liveMultiplyAdds },
            proof: text)
    }

    /// White where conditional `row` may read variable `column`; rows and columns in the order of drawing.
    private func drawDependencies(_ run: MADERun, to path: String) throws {
        let mask = run.masks.mask(0)
        let orders = ModelOrders.constant(order: mask.order, hidden: mask.hidden)
        let parameters = run.model.conditionalParameters(run.x, orders)
        let first = parameters.sliced(axis: 1, from: 0, count: 1).reshaped(run.x.shape)
        let jacobian = try Graph.Dependencies([first]).structuralJacobian(of: first, variable: run.x)
        let sequence = Order(index: mask.order.map { $0 - 1 }).groups.flatMap { $0 }
        let pixels = sequence.flatMap { o in sequence.map { i -> UInt8 in jacobian[o, i] ? 255 : o == i ? 96 : 0 } }
        try PNG.write(HostArray(pixels, shape: [sequence.count, sequence.count]), to: path)
    }
}

struct Compare: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Run a training step on two devices kernel by kernel: the largest absolute and relative difference of each."
    )

    @Argument(help: "The experiment.") var name: String
    @OptionGroup var data: DataOptions
    @Option(help: "Two devices, separated by a comma.") var devices = "cpu,opencl"
    @Option(name: .customLong("set"), help: "A setting as key=value; may be repeated.") var settings: [String] = []
    @Option(help: "max|a-b| of a group may be at most this times max|a|.") var tolerance = 1e-5
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let experiment = try Experiment.named(name)
        var settings = experiment.configuration
        for assignment in self.settings { try settings.set(assignment) }
        let data = try experiment.data(settings, dataFolder: data.folder).dataset
        let names = devices.split(separator: ",").map(String.init)
        guard names.count == 2 else { throw UsageError("--devices \(devices): expected two, separated by a comma") }
        let pair = try names.map { name in
            var options = DeviceOptions()
            options.device = name
            options.threads = nil
            return try options.make()
        }
        var executables: [any Executable] = []
        for device in pair {
            let run = try MADERun(settings, variables: data.variableCount, device: device)
            try run.initialize()
            let program = try TrainingProgram(
                loss: -run.model.logProbability(run.x, run.orders).mean(), parameters: run.parameters,
                rule: UpdateRule(
                    optimizer: settings.optimizer, weightDecay: settings.weightDecay, clipNorm: settings.clipNorm,
                    averaging: settings.averaging))
            for (name, shape) in program.optimizerStates {
                try run.states.set(name, HostArray(type: .float32, shape: shape))
            }
            executables.append(
                try device.load(program.schedule, maximumBatch: settings.batch, states: run.states.buffers))
        }
        let run = try MADERun(settings, variables: data.variableCount, device: pair[0])
        let rows = data.train.rows(0..<min(settings.batch, data.train.shape[0]))
        var feeds: [String: HostArray] = ["x": HostArray(rows.floats, shape: rows.shape)]
        for (name, feed) in run.feeds(mask: 0) { if case .host(let array) = feed { feeds[name] = array } }
        for (name, value) in settings.optimizer.scalars(rate: settings.rate, step: 1) {
            feeds[name] = HostArray([Float(value)], shape: [])
        }
        let known = Set(executables[0].schedule.inputs.map { executables[0].schedule.values[$0].label })
        let (groups, outputs) = try compareGroups(
            executables[0], executables[1], feeds: feeds.filter { known.contains($0.key) }, batch: rows.shape[0])
        struct Row: Encodable {
            let group: Int
            let label: String
            let absolute: Double
            let relative: Double
        }
        for g in groups {
            if json {
                try printJSON(
                    Row(group: g.index, label: g.label, absolute: g.largestDifference, relative: g.relativeDifference))
            } else {
                print(
                    "\(g.index)\t\(g.largestDifference)\t\(g.largestValue)\t\(g.relativeDifference)\t\(g.label)"
                        + (g.location.map { " (\($0))" } ?? ""))
            }
        }
        if !json { print("end to end, the loss: relative difference \(outputs.first ?? 0)") }
        if let bad = groups.first(where: { !($0.relativeDifference <= tolerance) }) {
            errorLine(
                "group \(bad.index), \(bad.label), differs by \(bad.relativeDifference) of its largest value, more than \(tolerance)"
            )
            throw ExitCode(1)
        }
    }
}

struct Bench: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Time the workloads that the project is measured on.")

    @OptionGroup var device: DeviceOptions
    @Option(help: "Workloads, separated by commas; all if not given.") var only: String?
    @Option(help: "train, evaluate, sample, separated by commas.") var what = "train,evaluate,sample"
    @Option(help: "Seconds for each figure.") var seconds = 3.0
    @Flag(help: "Print JSON lines.") var json = false

    func run() throws {
        guard seconds.isFinite, seconds >= 0 else {
            throw UsageError("--seconds: expected a number of at least 0, found \(seconds)")
        }
        let device = try device.make()
        let wanted = what.split(separator: ",").map(String.init)
        for activity in wanted where !["train", "evaluate", "sample"].contains(activity) {
            throw UsageError("--what \(activity): expected train, evaluate or sample")
        }
        for workload in only.map({ $0.split(separator: ",").map(String.init) }) ?? Training.Bench.workloads {
            guard Training.Bench.workloads.contains(workload) else {
                throw UsageError(
                    "bench: there is no workload “\(workload)”; there are \(Training.Bench.workloads.joined(separator: ", "))"
                )
            }
            for activity in Training.Bench.activities(workload) where wanted.contains(activity) {
                let row = try Training.Bench.run(workload, activity, device: device, seconds: seconds)
                if json {
                    try printJSON(row)
                } else {
                    print(
                        "\(row.workload) \(row.what): \(fixed(row.median_ms, 3)) ms (least \(fixed(row.min_ms, 3)), \(row.runs) runs), \(fixed(row.per_second, 1)) a second, \(bytes(row.peak_bytes))"
                    )
                }
            }
        }
    }
}
