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
    @Option(
        name: .customLong("receptive-field"),
        help:
            "Draw to this png what a conditional may read, layer by layer: white what it reads, red what it should and does not."
    ) var receptiveField: String?
    @Option(
        parsing: .unconditional, help: "The variable of --receptive-field, counted from 0; the middle one if not given."
    ) var variable: Int?
    @Flag(
        help:
            "Print JSON: the settings, names, shapes, the order and every masked layer's degrees, enough to rebuild the network elsewhere beside the model's file."
    )
    var json = false

    struct Report: Encodable {
        let experiment: String
        let variables: Int
        let exampleShape: [Int]
        let settings: [String: JSON]
        let parameters: [ParameterReport]
        let parameterCount: Int
        let description: ModelDescription
        let multiplyAdds: Int
        let liveMultiplyAdds: Int
        let proof: String

        /// The description's fields lie beside the report's own.
        func encode(to encoder: any Encoder) throws {
            try description.encode(to: encoder)
            var container = encoder.container(keyedBy: Key.self)
            try container.encode(experiment, forKey: .experiment)
            try container.encode(variables, forKey: .variables)
            try container.encode(exampleShape, forKey: .exampleShape)
            try container.encode(settings, forKey: .settings)
            try container.encode(parameters, forKey: .parameters)
            try container.encode(parameterCount, forKey: .parameterCount)
            try container.encode(multiplyAdds, forKey: .multiplyAdds)
            try container.encode(liveMultiplyAdds, forKey: .liveMultiplyAdds)
            try container.encode(proof, forKey: .proof)
        }

        enum Key: String, CodingKey {
            case experiment, variables, exampleShape, settings, parameters, parameterCount, multiplyAdds
            case liveMultiplyAdds, proof
        }
    }

    struct ParameterReport: Encodable {
        let name: String
        let shape: [Int]
    }

    func run() throws {
        try Output.check(dependencies, suffix: ".png", option: "--dependencies")
        try Output.check(receptiveField, suffix: ".png", option: "--receptive-field")
        guard variable == nil || receptiveField != nil else {
            throw UsageError("--variable goes with --receptive-field OUT.png")
        }
        var settings: RunConfiguration
        let examples: ExampleShape
        if Files.isFolder(name) {
            guard self.settings.isEmpty else {
                throw UsageError("--set goes with the name of an experiment; the settings of a run are in its folder")
            }
            let folder = RunFolder(name)
            let stored = try folder.readConfig()
            settings = try stored.configuration(
                preset: try Experiment.named(stored.experiment).configuration, path: folder.config)
            examples = stored.examples
        } else {
            let experiment = try Experiment.named(name)
            settings = experiment.configuration
            for assignment in self.settings { try settings.set(assignment) }
            examples = try experiment.data(settings, dataFolder: data.folder).examples
        }
        let run = try Training.Run(settings, examples: examples, device: CPUDevice(threads: 1))
        let proof = try run.model.prove()
        let description = run.model.describe()
        let report = Report(
            experiment: settings.experiment, variables: examples.count, exampleShape: examples.dimensions,
            settings: try settings.fields(),
            parameters: run.parameters.map { ParameterReport(name: $0.name, shape: $0.parameter.shape) },
            parameterCount: run.model.module.parameterCount, description: description,
            multiplyAdds: description.layers.reduce(0) { $0 + $1.multiplyAdds },
            liveMultiplyAdds: description.layers.reduce(0) { $0 + $1.liveMultiplyAdds }, proof: proof)
        if let dependencies { try drawDependencies(run, to: dependencies) }
        let field = try receptiveField.map { try drawReceptiveField(run, to: $0) }
        if json {
            try printJSON(report)
            return
        }
        print(
            "\(report.experiment): \(description.conditional.map { "\($0), " } ?? "")\(report.parameterCount) parameters"
        )
        for layer in description.layers {
            print(
                "  \(layer.name)  \(layer.shape)  \(layer.liveMultiplyAdds) of \(layer.multiplyAdds) multiply-adds live"
            )
        }
        if report.multiplyAdds > 0 {
            let share = 1 - Double(report.liveMultiplyAdds) / Double(report.multiplyAdds)
            print(
                "  in all \(report.liveMultiplyAdds) of \(report.multiplyAdds): the masks save \(fixed(share * 100, 1)) %"
            )
        }
        for remark in description.remarks { print("  \(remark)") }
        print("  \(report.proof)")
        if let dependencies { print("  structural Jacobian: \(dependencies)") }
        if let field, let receptiveField {
            print(
                "  receptive field of \(field.layers.count) layers: \(receptiveField); \(field.missing) earlier variables are not read, \(field.leaking) leak"
            )
        }
    }

    private func drawReceptiveField(_ run: Training.Run, to path: String) throws -> ReceptiveField {
        guard let (output, order) = try run.model.dependencies(run.x) else {
            throw UsageError("--receptive-field: \(run.configuration.experiment) has no conditional for each variable")
        }
        let shape = run.examples.dimensions
        let count = run.examples.count
        // The middle of an image's first channel, or of a sequence.
        let middle = shape.count == 3 ? shape[1] / 2 * shape[2] + shape[2] / 2 : count / 2
        let chosen = variable ?? middle
        guard (0..<count).contains(chosen) else {
            throw UsageError("--variable \(chosen): expected 0 to \(count - 1)")
        }
        let field = try ReceptiveField(output: output, of: run.x, order: order, shape: shape, variable: chosen)
        try PNG.write(field.picture(), to: path)
        return field
    }

    /// White where conditional `row` may read variable `column`; rows and columns in the order of drawing.
    private func drawDependencies(_ run: Training.Run, to path: String) throws {
        guard let (output, order) = try run.model.dependencies(run.x) else {
            throw UsageError("--dependencies: \(run.configuration.experiment) has no picture of its dependencies")
        }
        let jacobian = try Graph.Dependencies([output]).structuralJacobian(of: output, variable: run.x)
        let sequence = order.groups.flatMap { $0 }
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
    @Option(parsing: .unconditional, help: "max|a-b| of a group may be at most this times max|a|.") var tolerance = 1e-5
    @Flag(help: "Print JSON.") var json = false

    func run() throws {
        let experiment = try Experiment.named(name)
        var settings = experiment.configuration
        for assignment in self.settings { try settings.set(assignment) }
        let loaded = try experiment.data(settings, dataFolder: data.folder)
        let names = devices.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard names.count == 2 else { throw UsageError("--devices \(devices): expected two, separated by a comma") }
        let runs = try names.map { name in
            var options = DeviceOptions()
            options.device = name
            options.threads = nil
            let run = try Training.Run(settings, examples: loaded.examples, device: try options.make())
            try run.initialize(loaded.dataset.train, labels: loaded.dataset.labels(.train))
            return run
        }
        let executables = try runs.map { run in
            let program = try run.makeTrainingProgram()
            try run.warmOptimizer(of: program)
            return try run.device.load(program.schedule, maximumBatch: settings.batch, states: run.states.buffers)
        }
        let count = min(settings.batch, loaded.dataset.train.shape[0])
        let rows = loaded.dataset.train.rows(0..<count)
        var feeds = runs[0].stepFeeds(step: 0, rate: settings.rate, examples: Array(0..<count))
        feeds["x"] = HostArray(rows.floats, shape: rows.shape)
        feeds["label"] = loaded.dataset.labels(.train)?.rows(0..<count)
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
    @Option(parsing: .unconditional, help: "Seconds for each figure.") var seconds = 3.0
    @Option(
        name: .customLong("set"), help: "key=value: changes a workload's setting, such as batch or hidden, for series.")
    var settings: [String] = []
    @Flag(help: "Print JSON lines.") var json = false

    func run() throws {
        guard seconds.isFinite, seconds >= 0 else {
            throw UsageError("--seconds: expected a number of at least 0, found \(seconds)")
        }
        let device = try device.make()
        let wanted = what.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        for activity in wanted where !["train", "evaluate", "sample"].contains(activity) {
            throw UsageError("--what \(activity): expected train, evaluate or sample")
        }
        let all = Training.Bench.workloads
        let chosen = only?.split(separator: ",", omittingEmptySubsequences: false).map(String.init) ?? all
        for workload in chosen {
            guard all.contains(workload) else {
                throw UsageError(
                    "bench: there is no workload “\(workload)”; there are \(all.joined(separator: ", "))")
            }
            let activities = Training.Bench.activities(workload)
            guard only == nil || activities.contains(where: wanted.contains) else {
                throw UsageError("--what \(what): \(workload) can \(activities.joined(separator: " and ")) only")
            }
        }
        for workload in chosen {
            for activity in Training.Bench.activities(workload) where wanted.contains(activity) {
                let row = try Training.Bench.run(
                    workload, activity, device: device, seconds: seconds, settings: settings)
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
