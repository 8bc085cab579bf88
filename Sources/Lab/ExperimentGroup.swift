import Datasets
import Likelihood
import Training

/// Several experiments on the same examples, which `run` trains one after the other and tells as one table and one picture:
///
///     static let groups = [ExperimentGroup(name: "zoo-birds", summary: "every model of birds", members: [nadeBirds, madeBirds])]
///
/// Every member is an experiment like any other, for every verb.
public struct ExperimentGroup: Sendable {
    /// What `run` is given.
    public let name: String
    /// In one line, for `list`.
    public let summary: String
    /// About how long all take together.
    public let duration: String?
    /// In the order in which they are trained.
    public let members: [Experiment]
    /// The names of several data sets of points on a plane, where members are called `MODEL-NAME`: their densities become one picture.
    public let columns: [String]

    /// - Parameters:
    ///   - members: experiments on the same examples, or on those that `columns` names; each has a name of its own.
    ///   - columns: names of data sets of points on a plane.
    public init(
        name: String, summary: String, duration: String? = nil, members: [Experiment], columns: [String] = []
    ) {
        (self.name, self.summary, self.duration, self.members) = (name, summary, duration, members)
        self.columns = columns
    }
}

extension RunOptions {
    /// Makes the folder of a group, a run folder below it for every member, and trains them.
    /// - Parameter names: of the members that are wanted; nothing means all.
    func run(_ group: ExperimentGroup, only names: [String]?) throws {
        for name in names ?? [] {
            try require(
                group.members.contains { $0.name == name },
                "--only \(name): expected members of \(group.name): \(group.members.map(\.name).joined(separator: ", "))"
            )
        }
        var ownFiles = DataFiles()
        try files.apply(to: &ownFiles)
        let given = [
            ("--set", !settings.isEmpty), ("--weights", weights != nil),
            ("--train and the like", ownFiles != DataFiles()),
        ]
        if let (option, _) = given.first(where: \.1) {
            throw UsageError(
                "\(option): \(group.name) is several experiments, each with its own settings and data; run those that you mean by their names: \(group.members.map(\.name).joined(separator: ", "))"
            )
        }
        let members = try group.members.filter { names?.contains($0.name) != false }.map { member in
            var settings = member.configuration
            try override(&settings)
            if let seed { settings.seed = seed }
            // Whatever is wrong with the command line itself is an error, and no refusal of a model's.
            try settings.training.validate()
            return (member, settings)
        }
        _ = try device.make()
        let path = try makeFolder("") { path in
            var rows: [GroupRun.Row] = []
            for (member, settings) in members {
                var row = GroupRun.Row(experiment: member.name)
                do {
                    let (run, data, stored, _) = try makeRun(member, settings) { _ in }
                    row.parameters = run.model.parameterCount
                    try Files.makeFolder("\(path)/\(member.name)")
                    try RunFolder("\(path)/\(member.name)").fill(run, stored, data)
                } catch let error as UsageError {
                    // A model that cannot have such examples says so in the table.
                    row.refusal = error.description
                }
                rows.append(row)
            }
            try GroupRun(path: path, group: group.name, rows: rows, columns: group.columns).write()
        }
        if !json { printLine("\(members.count) experiments in \(path)") }
        try GroupRun(path).goOn(device, dataFolder: nil, isJSON: json)
    }
}

/// The folder of a group: an ordinary run folder for each member, and beside them `group.json`, `table.csv`, `table.svg` and, of points on
/// a plane, `densities.svg`.
struct GroupRun {
    /// A member, and what came of it.
    struct Row: Codable {
        /// Its name, and that of its folder below the group's.
        let experiment: String
        var parameters: Int?
        /// The test figure in `unit`, and whether it is a bound from above.
        var test: Estimate?
        var unit: String?
        var isLikelihood: Bool?
        var isBound: Bool?
        /// How many nats the figure lies above the generator's own, where that is known.
        var aboveOptimum: Estimate?
        var epochs: Int?
        /// Of training.
        var seconds: Double?
        /// Of drawing `GroupRun.draws` examples with a sampler that is compiled.
        var drawingSeconds: Double?
        /// Why the model cannot have such examples.
        var refusal: String?
        /// Why there is no figure, where training left the finite numbers or a model cannot be fitted.
        var failure: String?

        var isDone: Bool { test != nil || refusal != nil || failure != nil }
    }

    private struct Record: Codable {
        var group: String
        var rows: [Row]
        /// Of the group; `nil` in folders from before there were such.
        var columns: [String]?
    }

    static let draws = 100
    /// In a member's folder.
    static let smallDensity = "density-small.png"

    let path: String
    private var record: Record
    var rows: [Row] { record.rows }

    static func isFolder(_ path: String) -> Bool { Files.exists("\(path)/group.json") }

    init(path: String, group: String, rows: [Row], columns: [String]) {
        self.path = path
        record = Record(group: group, rows: rows, columns: columns)
    }

    init(_ path: String) throws {
        self.path = path
        record = try readRecord("\(path)/group.json", "a group's")
        guard record.rows.allSatisfy({ !$0.experiment.contains("/") }) else {
            throw FileError("\(path)/group.json", "names a folder outside of the group's; it is damaged")
        }
    }

    func write() throws { try RunFolder(path).write(record, to: "\(path)/group.json") }

    /// Trains the members that are not finished, one after the other, then writes and prints what came of all.
    func goOn(_ device: DeviceOptions, dataFolder: String?, isJSON: Bool) throws {
        let lock = try RunLock(RunFolder(path))
        defer { withExtendedLifetime(lock) {} }
        var group = self
        for (index, row) in rows.enumerated() where !row.isDone {
            errorLine("\(index + 1) of \(rows.count): \(row.experiment)")
            group.record.rows[index] = try result(of: row, device, dataFolder: dataFolder)
            try group.write()
        }
        let sorted = group.sorted
        try group.table.write(csv: "\(path)/table.csv")
        try Files.write(Array(GroupPicture(title: record.group, sorted).svg.utf8), to: "\(path)/table.svg")
        if let columns = record.columns, !columns.isEmpty {
            let picture = GridPicture(title: record.group, group.rows, columns: columns, folder: path)
            try Files.write(Array(picture.svg.utf8), to: "\(path)/densities.svg")
        }
        if isJSON { return try printJSON(group.record) }
        group.table.print()
        if sorted.contains(where: { $0.isBound == true }) {
            printLine("<= is a bound: the model's own likelihood is at least as good")
        }
        for row in sorted {
            if let reason = row.refusal ?? row.failure { printLine("\(row.experiment): \(reason)") }
        }
        printLine("table and picture: \(path)/table.csv, \(path)/table.svg")
        if record.columns?.isEmpty == false { printLine("densities: \(path)/densities.svg") }
    }

    /// Trains a member to its end, evaluates it and draws from it.
    private func result(of row: Row, _ device: DeviceOptions, dataFolder: String?) throws -> Row {
        let prepared = try PreparedRun(
            resuming: RunFolder("\(path)/\(row.experiment)"), device, dataFolder: dataFolder, files: nil, isQuiet: true)
        var row = row
        let result: TestResult?
        do {
            _ = try train(prepared.trainer, prepared.display, goOnWith: path)
            row.seconds = try prepared.folder.secondsOfTraining()
            result = try finish(
                prepared.trainer, in: prepared.folder, prepared.run, prepared.experiment, prepared.data,
                prepared.display, seconds: row.seconds, as: .none)
        } catch  where error is NonFiniteError || error is UsageError {
            // It would end so again: the others go on without it.
            row.failure = "\(error)"
            return row
        }
        row.epochs = prepared.trainer.epochsDone
        row.test = result?.test
        row.aboveOptimum = result?.difference
        let metric = prepared.run.model.metric
        (row.unit, row.isLikelihood) = (metric.unit, metric.isLogLikelihood)
        row.isBound = metric == .boundInNats
        if record.columns?.isEmpty == false {
            try PlanePictures.writeDensity(
                prepared.run, side: 160, to: "\(path)/\(row.experiment)/\(Self.smallDensity)")
        }
        guard prepared.run.model.conditions == Conditions(), prepared.run.canDraw else { return row }
        // The first draw compiles the sampler.
        _ = try prepared.run.sample(count: Self.draws)
        let clock = ContinuousClock()
        row.drawingSeconds = try clock.measure { _ = try prepared.run.sample(count: Self.draws) }.seconds
        return row
    }

    /// The best first; then what has no likelihood, then what has no figure.
    var sorted: [Row] {
        func rank(_ row: Row) -> (Int, Double) {
            guard let test = row.test else { return (2, 0) }
            return (row.isLikelihood == true ? 0 : 1, row.aboveOptimum?.mean ?? test.mean)
        }
        return rows.sorted { rank($0) < rank($1) }
    }

    private var table: TextTable {
        let hasOptimum = rows.contains { $0.aboveOptimum != nil }
        func pair(_ estimate: Estimate?, bound: Bool?) -> [String] {
            guard let estimate else { return ["", ""] }
            return [(bound == true ? "<= " : "") + fixed(estimate.mean, 3), fixed(estimate.standardError, 3)]
        }
        return TextTable(
            heading: ["experiment", "test", "±"] + (hasOptimum ? ["above the optimum", "± of that"] : [])
                + ["unit", "parameters", "epochs", "seconds", "\(Self.draws) draws, s", "folder"],
            rows: sorted.map { row in
                [row.experiment] + pair(row.test, bound: row.isBound)
                    + (hasOptimum ? pair(row.aboveOptimum, bound: row.isBound) : [])
                    + [
                        row.unit ?? (row.refusal == nil ? "failed" : "refused"),
                        row.parameters.map { "\($0)" } ?? "",
                        row.epochs.map { "\($0)" } ?? "", row.seconds.map { fixed($0, 1) } ?? "",
                        row.drawingSeconds.map { fixed($0, 3) } ?? "",
                        row.refusal == nil ? "\(path)/\(row.experiment)" : "",
                    ]
            })
    }
}
