import ArgumentParser
import Compiler
import Datasets
import Graph
import Likelihood
import Training

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Time a training step and a draw of workloads or experiments.")

    @OptionGroup var device: DeviceOptions
    @OptionGroup var data: DataOptions
    @Option(help: "Workloads or experiments, separated by commas; all workloads if not given.") var only: String?
    @Option(help: "train, evaluate, sample, separated by commas.") var what = "train,evaluate,sample"
    @Option(parsing: .unconditional, help: "Seconds for each figure.") var seconds = 3.0
    @Option(
        name: .customLong("set"), help: "key=value: changes a workload's setting, such as batch or hidden, for series.")
    var settings: [String] = []
    @Flag(
        help:
            "Print beside each training step its floor: live multiply-adds over this machine's rate of a product, exps over its rate of exps, bytes beyond a cache over its rate of a triad, all measured in the same minute."
    )
    var floor = false
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
        let chosen = try workloads()
        for workload in chosen {
            guard only == nil || workload.activities.contains(where: wanted.contains) else {
                throw UsageError(
                    "--what \(what): \(workload.name) can \(workload.activities.joined(separator: " and ")) only")
            }
        }
        for workload in chosen {
            for activity in workload.activities where wanted.contains(activity) {
                guard
                    let row = try Bench.run(
                        workload, activity, device: device, seconds: seconds, settings: settings, withFloor: floor)
                else {
                    if !json { printLine("\(workload.name) \(activity): the model does not draw examples") }
                    continue
                }
                if json {
                    try printJSON(row)
                } else {
                    printLine(
                        "\(row.workload) \(row.what): \(fixed(row.median_ms, 3)) ms (least \(fixed(row.min_ms, 3)), \(row.runs) runs), \(fixed(row.per_second, 1)) a second, \(bytes(row.peak_bytes))"
                            + (row.floor_ms.map {
                                "; floor \(fixed($0, 3)) ms, \(fixed(row.over_floor ?? 0, 2)) times that"
                            } ?? ""))
                }
            }
        }
    }

    /// The named workloads and experiments; all workloads, or where there are none all experiments, if none is named.
    private func workloads() throws -> [Workload] {
        guard let only else {
            return Catalogue.workloads.isEmpty
                ? Catalogue.experiments.map { Workload($0, dataFolder: data.folder) } : Catalogue.workloads
        }
        return try only.split(separator: ",", omittingEmptySubsequences: false).map {
            try Workload(named: String($0), verb: "bench", dataFolder: data.folder)
        }
    }
}

extension Workload {
    /// A workload, or an experiment's model.
    init(named name: String, verb: String, dataFolder: String) throws {
        let known = Catalogue.workloads + Catalogue.experiments.map { Workload($0, dataFolder: dataFolder) }
        guard let workload = known.first(where: { $0.name == name }) else {
            throw UsageError(
                "\(verb): there is no workload “\(name)” and no such experiment; there are \((Catalogue.workloads.isEmpty ? known : Catalogue.workloads).map(\.name).joined(separator: ", "))"
            )
        }
        self = workload
    }
}
