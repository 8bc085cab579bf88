import ArgumentParser
import Compiler
import Datasets
import Graph
import Likelihood
import Training

struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
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
        let (settings, examples) = try configured()
        let run = try Run(settings, examples: examples, device: Devices.named("cpu", threads: 1))
        let proof = try run.model.prove()
        let description = try run.model.describe()
        let report = Report(
            experiment: settings.experiment, variables: examples.count, exampleShape: examples.dimensions,
            settings: try settings.fields(),
            parameters: run.parameters.map { ParameterReport(name: $0.name, shape: $0.parameter.shape) },
            parameterCount: run.model.parameterCount, description: description,
            multiplyAdds: description.layers.reduce(0) { $0 + $1.multiplyAdds },
            liveMultiplyAdds: description.layers.reduce(0) { $0 + $1.liveMultiplyAdds }, proof: proof)
        if let dependencies { try drawDependencies(run, to: dependencies) }
        let field = try receptiveField.map { try drawReceptiveField(run, to: $0) }
        if json {
            try printJSON(report)
            return
        }
        printLine(
            "\(report.experiment): \(description.conditional.map { "\($0), " } ?? "")\(report.parameterCount) parameters"
        )
        for layer in description.layers {
            printLine(
                "  \(layer.name)  \(layer.shape)  \(layer.liveMultiplyAdds) of \(layer.multiplyAdds) multiply-adds live"
            )
        }
        if report.multiplyAdds > 0 {
            let share = 1 - Double(report.liveMultiplyAdds) / Double(report.multiplyAdds)
            printLine(
                "  in all \(report.liveMultiplyAdds) of \(report.multiplyAdds): the masks save \(fixed(share * 100, 1)) %"
            )
        }
        for remark in description.remarks { printLine("  \(remark)") }
        printLine("  \(report.proof)")
        if let dependencies { printLine("  structural Jacobian: \(dependencies)") }
        if let field, let receptiveField {
            printLine(
                "  receptive field of \(field.layers.count) layers: \(receptiveField); \(field.missing) earlier variables are not read, \(field.leaking) leak"
            )
        }
    }

    /// The settings and the examples of an experiment, or of a stored run.
    private func configured() throws -> (RunConfiguration, ExampleShape) {
        guard Files.isFolder(name) else {
            let experiment = try Catalogue.experiment(name)
            var settings = experiment.configuration
            for assignment in self.settings { try settings.set(assignment) }
            return (settings, try experiment.data(settings, dataFolder: data.folder).examples)
        }
        guard settings.isEmpty else {
            throw UsageError("--set goes with the name of an experiment; the settings of a run are in its folder")
        }
        let folder = RunFolder(name)
        let stored = try folder.readConfig()
        let preset = try Catalogue.experiment(stored.experiment).configuration
        return (try stored.configuration(preset: preset, path: folder.config), stored.examples)
    }

    private func drawReceptiveField(_ run: Run, to path: String) throws -> ReceptiveField {
        guard let (output, order) = try run.model.dependencies(run.x, run.model.makeContext()) else {
            throw UsageError("--receptive-field: \(run.name) has no conditional for each variable")
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
    private func drawDependencies(_ run: Run, to path: String) throws {
        guard let (output, order) = try run.model.dependencies(run.x, run.model.makeContext()) else {
            throw UsageError("--dependencies: \(run.name) has no picture of its dependencies")
        }
        let jacobian = try Graph.Dependencies([output]).structuralJacobian(of: output, variable: run.x)
        let sequence = order.groups.flatMap { $0 }
        let pixels = sequence.flatMap { o in sequence.map { i -> UInt8 in jacobian[o, i] ? 255 : o == i ? 96 : 0 } }
        try PNG.write(HostArray(pixels, shape: [sequence.count, sequence.count]), to: path)
    }
}
