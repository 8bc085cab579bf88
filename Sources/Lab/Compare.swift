import ArgumentParser
import Compiler
import Datasets
import Graph
import Likelihood
import Training

struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
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
        let experiment = try Catalogue.experiment(name)
        var settings = experiment.configuration
        for assignment in self.settings { try settings.set(assignment) }
        let loaded = try experiment.data(settings, dataFolder: data.folder)
        let names = devices.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard names.count == 2 else { throw UsageError("--devices \(devices): expected two, separated by a comma") }
        let runs = try names.map { name in
            var options = DeviceOptions()
            options.device = name
            options.threads = nil
            let run = try Run(settings, examples: loaded.examples, device: try options.make())
            try loaded.validate(for: run)
            try run.initialize(loaded.dataset[.train])
            return run
        }
        let executables = try runs.map { run in
            let program = try run.makeTrainingProgram()
            try run.warmOptimizer(of: program)
            return try run.device.load(program.schedule, maximumBatch: settings.batch, states: run.states.buffers)
        }
        let count = min(settings.batch, loaded.dataset.train.shape[0])
        var feeds = runs[0].stepFeeds(step: 0, rate: settings.learningRate, examples: Array(0..<count))
        feeds.merge(loaded.dataset[.train][0..<count].feeds) { $1 }
        let known = Set(executables[0].schedule.inputs.map { executables[0].schedule.values[$0].label })
        let (groups, outputs) = try compareGroups(
            executables[0], executables[1], feeds: feeds.filter { known.contains($0.key) }, batch: count)
        struct Row: Encodable {
            let group: Int
            let label: String
            let absolute: Double
            let relative: Double
        }
        if json {
            for g in groups {
                try printJSON(
                    Row(group: g.index, label: g.label, absolute: g.largestDifference, relative: g.relativeDifference))
            }
        } else {
            TextTable(
                heading: ["group", "largest difference", "largest value", "relative", "what"],
                rows: groups.map { g in
                    [
                        "\(g.index)", "\(g.largestDifference)", "\(g.largestValue)", "\(g.relativeDifference)",
                        g.label + (g.location.map { " (\($0))" } ?? ""),
                    ]
                }
            ).print()
            printLine("end to end, the loss: relative difference \(outputs.first ?? 0)")
        }
        if let bad = groups.first(where: { !($0.relativeDifference <= tolerance) }) {
            errorLine(
                "group \(bad.index), \(bad.label), differs by \(bad.relativeDifference) of its largest value, more than \(tolerance)"
            )
            throw ExitCode(1)
        }
    }
}
