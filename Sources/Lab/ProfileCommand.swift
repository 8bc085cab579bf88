import ArgumentParser
import Compiler
import Graph
import Likelihood
import Training

struct ProfileCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "profile",
        abstract: "Time every group of a training step, beside the work in it and what the device can do.",
        discussion: """
            A group is what runs as one kernel. Groups of one kind, of the same extents and from the same line, share a row, the longest
            first. “of peak” is the row's multiply-adds, exps or bytes a second over those of a large product, of exps in a cache and of
            a triad on the same device, measured in the same minute (martlet devices --measure). Bytes count what a group reads and
            writes, so that more than 100 % is what a cache held. A loop is one group, and its bytes are what it is given and leaves.
            Small groups that share a launch of an OpenCL device share its time equally.
            """)

    @Argument(help: "The workload or experiment.") var name: String
    @OptionGroup var device: DeviceOptions
    @OptionGroup var data: DataOptions
    @Option(parsing: .unconditional, help: "Seconds to measure for.") var seconds = 3.0
    @Option(name: .customLong("set"), help: "A setting as key=value; may be repeated.") var settings: [String] = []
    @Option(parsing: .unconditional, help: "How many rows are printed; 0 prints all.") var rows = 20
    @Flag(help: "Print JSON lines.") var json = false

    /// Groups of one kind.
    private struct Row: Encodable {
        let what: String
        let place: String?
        var ms = 0.0
        var groups = 0
        var work = StepWork(multiplyAdds: 0, exps: 0, bytes: 0)
    }

    private struct Whole: Encodable {
        let workload: String
        let device: String
        let batch: Int
        /// The median of steps that run as in training, and the sum of the groups' medians, which run one by one.
        let step_ms: Double
        let groups_ms: Double
        let floor_ms: Double
        let groups: Int
        let work: StepWork
        let rates: FloorRates
    }

    func run() throws {
        guard seconds.isFinite, seconds >= 0 else {
            throw UsageError("--seconds: expected a number of at least 0, found \(seconds)")
        }
        guard rows >= 0 else { throw UsageError("--rows: expected 0 or more, found \(rows)") }
        let device = try device.make()
        let workload = try Workload(named: name, verb: "profile", dataFolder: data.folder)
        let step = try Bench.trainingStep(of: workload, settings: settings, device: device)
        let clock = ContinuousClock()
        _ = try step.executable.run(step.feeds, batch: step.batch)
        let steps = try Self.repeated(for: seconds / 2) {
            [try clock.measure { _ = try step.executable.run(step.feeds, batch: step.batch) }.seconds]
        }
        let times = try Self.repeated(for: seconds / 2) {
            try step.executable.profile(step.feeds, batch: step.batch).map(\.seconds)
        }
        let rates = try FloorRates.measure(on: device)
        let schedule = step.executable.schedule
        let total = times.reduce(0.0) { $0 + $1 }
        let whole = Whole(
            workload: name, device: device.name, batch: step.batch, step_ms: steps[0] * 1e3, groups_ms: total * 1e3,
            floor_ms: step.work.seconds(at: rates) * 1e3, groups: schedule.groups.count, work: step.work, rates: rates)
        let all = Self.rows(of: schedule, times, batch: step.batch)
        if json {
            try printJSON(whole)
            for row in all { try printJSON(row) }
            return
        }
        printLine(
            "\(name) on \(device.summary): a step of \(step.batch) examples takes \(fixed(whole.step_ms, 3)) ms; its \(whole.groups) groups, one by one, \(fixed(whole.groups_ms, 3)) ms; its floor is \(fixed(whole.floor_ms, 3)) ms"
        )
        printLine(
            "100 % of the device: \(fixed(rates.multiplyAdds / 1e9, 1)) G multiply-adds, \(fixed(rates.exps / 1e9, 2)) G exps and \(fixed(rates.bytes / 1e9, 1)) GB a second"
        )
        let shown = rows == 0 ? all : Array(all.prefix(rows))
        TextTable(
            heading: [
                "ms", "of all", "groups", "M multiply-adds", "of peak", "M exps", "of peak", "MB", "of peak", "what",
            ],
            rows: shown.map { cells($0, of: total, rates) }
        ).print()
        let rest = all.dropFirst(shown.count)
        if !rest.isEmpty {
            printLine(
                "and \(rest.count) rows more, together \(fixed(rest.reduce(0) { $0 + $1.ms }, 3)) ms; --rows 0 prints all"
            )
        }
    }

    private func cells(_ row: Row, of total: Double, _ rates: FloorRates) -> [String] {
        var cells = [fixed(row.ms, 3), percent(row.ms / 1e3, of: total), "\(row.groups)"]
        let parts = [
            (row.work.multiplyAdds, rates.multiplyAdds), (row.work.exps, rates.exps), (row.work.bytes, rates.bytes),
        ]
        for (count, rate) in parts {
            cells.append(count == 0 ? "" : fixed(Double(count) / 1e6, 2))
            cells.append(count == 0 ? "" : percent(Double(count) / rate, of: row.ms / 1e3))
        }
        cells.append(row.what + (row.place.map { "  \($0)" } ?? ""))
        return cells
    }

    private func percent(_ part: Double, of whole: Double) -> String {
        whole > 0 ? "\(fixed(part / whole * 100, part < 0.1 * whole ? 1 : 0)) %" : ""
    }

    /// The medians of what `body` measures, which runs until the time is over and at least three times.
    private static func repeated(for seconds: Double, _ body: () throws -> [Double]) rethrows -> [Double] {
        let clock = ContinuousClock()
        let start = clock.now
        var runs: [[Double]] = []
        while runs.count < 3 || (start.duration(to: clock.now).seconds < seconds && runs.count < 10_000) {
            runs.append(try body())
        }
        return runs[0].indices.map { index in runs.map { $0[index] }.sorted()[runs.count / 2] }
    }

    private static func rows(of schedule: Schedule, _ times: [Double], batch: Int) -> [Row] {
        var (rows, places) = ([Row](), [String: Int]())
        for (index, group) in schedule.groups.enumerated() {
            let extents = group.kind.extents.map { "\($0.resolved(batch: batch))" }.joined(separator: " x ")
            let what = group.label + (extents.isEmpty ? "" : " [\(extents)]")
            let place = group.location.map { "\($0)" }
            let key = "\(what)\n\(place ?? "")"
            if places[key] == nil {
                places[key] = rows.count
                rows.append(Row(what: what, place: place))
            }
            let row = places[key] ?? 0
            rows[row].ms += times[index] * 1e3
            rows[row].groups += 1
            rows[row].work = rows[row].work + schedule.work(ofGroup: index, batch: batch)
        }
        return rows.sorted { $0.ms > $1.ms }
    }
}
