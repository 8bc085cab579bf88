import ArgumentParser
import Datasets
import FoundationEssentials
import Likelihood
import Training

/// One setting and the values that a sweep gives it.
struct Grid: Equatable {
    let key: String
    let values: [String]

    /// - Parameter text: `key=value,value,..`; a value that holds commas, as a list of several, stands in brackets:
    ///   `hidden=[500,500],1000`, and the empty list is `[]`.
    init(_ text: String) throws {
        func refuse(_ problem: String) -> UsageError {
            UsageError(
                "--grid \(text): \(problem); expected key=value,value, with a value that holds commas in brackets, as in hidden=[500,500],1000"
            )
        }
        guard let split = text.firstIndex(of: "="), split > text.startIndex else { throw refuse("it names no setting") }
        key = String(text[..<split])
        var values: [String] = []
        var (value, isOpen, wasOpen) = ("", false, false)
        func end() throws {
            guard !value.isEmpty || wasOpen else { throw refuse("a value is empty") }
            values.append(value)
            (value, wasOpen) = ("", false)
        }
        for character in text[text.index(after: split)...] {
            switch character {
            case "[" where !isOpen && value.isEmpty && !wasOpen: (isOpen, wasOpen) = (true, true)
            case "]" where isOpen: isOpen = false
            case "," where !isOpen: try end()
            case _ where "[]".contains(character) || wasOpen && !isOpen:
                throw refuse("brackets stand around whole values")
            default: value.append(character)
            }
        }
        guard !isOpen else { throw refuse("a bracket is not closed") }
        try end()
        if let twice = values.first(where: { value in values.count { $0 == value } > 1 }) {
            throw refuse("it has \(twice.isEmpty ? "[]" : twice) twice")
        }
        self.values = values
    }

    /// Every choice of one value from each grid, the last grid's changing first.
    static func product(_ grids: [Grid]) -> [[String]] {
        grids.reduce([[]]) { choices, grid in choices.flatMap { choice in grid.values.map { choice + [$0] } } }
    }
}

struct SweepCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sweep",
        abstract:
            "Train an experiment under every choice of some settings, and name the best by its validation figure."
    )

    @OptionGroup var options: RunOptions
    @Option(
        name: .customLong("grid"),
        help:
            "A setting and its values, key=value,value; may be repeated. A value that holds commas stands in brackets: hidden=[500,500],1000."
    )
    var grids: [String] = []
    @Option(help: "What decides: valid, the validation figure. Test figures are computed for the best run alone.")
    var by = "valid"

    /// So many runs are a mistake more often than a plan.
    private static let most = 1000

    func run() throws {
        try require(
            by == "valid",
            "--by \(by): expected valid; a choice by test examples would make their figure say nothing of others")
        try require(
            !grids.isEmpty,
            "sweep: expected --grid key=value,value once or more; \(Catalogue.name) settings \(options.name) lists the keys"
        )
        let grids = try self.grids.map { try Grid($0) }
        for (index, grid) in grids.enumerated() {
            try require(
                !grids[..<index].contains { $0.key == grid.key },
                "--grid \(grid.key): is given twice; give its values in one")
            try require(
                !options.settings.contains { $0.hasPrefix(grid.key + "=") },
                "--grid \(grid.key): --set gives it a value too; leave that out")
        }
        let count = grids.reduce(1.0) { $0 * Double($1.values.count) }
        try require(
            count <= Double(Self.most),
            "--grid: these are \(Int(count)) runs; expected at most \(Self.most), leave out some values")
        let choices = Grid.product(grids)
        let (experiment, base) = try options.configured()
        func set(_ choice: [String], _ settings: inout RunConfiguration) throws {
            try options.override(&settings)
            for (grid, value) in zip(grids, choice) {
                do {
                    try settings.set("\(grid.key)=\(value)")
                } catch let error as UsageError {
                    throw UsageError(
                        error.description.hasPrefix("--set")
                            ? "--grid" + error.description.dropFirst(5) : error.description)
                }
            }
        }
        // A mistake in the last value is found before the first data are read.
        let all = try choices.map { choice in
            var settings = base
            try set(choice, &settings)
            try settings.training.validate()
            return settings
        }
        let path = try options.makeFolder(options.folderName == nil ? "-sweep" : "") { path in
            var runs: [Sweep.Row] = []
            for (index, choice) in choices.enumerated() {
                let (run, data, stored, notices) = try options.makeRun(experiment, all[index]) { try set(choice, &$0) }
                if index == 0 { for notice in notices { errorLine("note: \(notice)") } }
                let name = "\(index + 1)"
                try Files.makeFolder("\(path)/\(name)")
                try RunFolder("\(path)/\(name)").fill(run, stored, data)
                runs.append(Sweep.Row(values: choice, folder: name))
            }
            try Sweep(path: path, experiment: experiment.name, keys: grids.map(\.key), runs: runs).write()
        }
        if !options.json { printLine("\(choices.count) runs in \(path)") }
        try Sweep(path).goOn(options.device, dataFolder: nil, files: nil, isJSON: options.json)
    }
}

/// A folder of runs that differ in some settings: each an ordinary run folder, beside them `sweep.json` and `table.csv`.
struct Sweep {
    /// A run, and what came of it.
    struct Row: Codable {
        /// Of the settings that differ.
        let values: [String]
        /// Below the sweep's.
        let folder: String
        /// The best validation figure, and the epoch that it is of.
        var valid: Double?
        var bestEpoch: Int?
        var epochs: Int?
        /// Of training.
        var seconds: Double?
        /// Why there is no figure, where training left the finite numbers or a model cannot be fitted.
        var failure: String?
    }

    private struct Record: Codable {
        var experiment: String
        var by = "valid"
        var keys: [String]
        var runs: [Row]
    }

    let path: String
    private var record: Record

    static func isFolder(_ path: String) -> Bool { Files.exists("\(path)/sweep.json") }

    init(path: String, experiment: String, keys: [String], runs: [Row]) {
        self.path = path
        record = Record(experiment: experiment, keys: keys, runs: runs)
    }

    init(_ path: String) throws {
        self.path = path
        let file = "\(path)/sweep.json"
        record = try readRecord(file, "a sweep's")
        let (keys, runs) = (record.keys, record.runs)
        guard !runs.isEmpty, runs.allSatisfy({ $0.values.count == keys.count && !$0.folder.contains("/") }) else {
            throw FileError(
                file, "does not give every run a value of each of \(keys.joined(separator: ", ")); it is damaged")
        }
    }

    func write() throws { try RunFolder(path).write(record, to: "\(path)/sweep.json") }

    /// Trains the runs that are not finished, one after the other, then evaluates the best on the test examples.
    func goOn(_ device: DeviceOptions, dataFolder: String?, files: MovedFilesOptions?, isJSON: Bool) throws {
        let lock = try RunLock(RunFolder(path))
        defer { withExtendedLifetime(lock) {} }
        var sweep = self
        func prepare(_ row: Row) throws -> PreparedRun {
            try PreparedRun(
                resuming: RunFolder("\(path)/\(row.folder)"), device, dataFolder: dataFolder, files: files,
                isQuiet: isJSON)
        }
        for (index, row) in record.runs.enumerated() where row.valid == nil && row.failure == nil {
            errorLine("run \(index + 1) of \(record.runs.count): \(settings(row))")
            let prepared = try prepare(row)
            do {
                _ = try train(prepared.trainer, prepared.display, goOnWith: path)
            } catch  where error is NonFiniteError || error is UsageError {
                // It would end so again: the others go on without it.
                errorLine("run \(index + 1): \(error)")
                sweep.record.runs[index].failure = "\(error)"
                try sweep.write()
                continue
            }
            try prepared.trainer.useBest()
            sweep.record.runs[index].valid = prepared.trainer.bestValidation
            sweep.record.runs[index].bestEpoch = prepared.trainer.bestEpoch
            sweep.record.runs[index].epochs = prepared.trainer.epochsDone
            sweep.record.runs[index].seconds = try prepared.folder.secondsOfTraining()
            try sweep.write()
        }
        let figures = sweep.record.runs.map(\.valid)
        let finished = figures.indices.filter { figures[$0] != nil }
        guard let best = finished.min(by: { figures[$0] ?? 0 < figures[$1] ?? 0 }) else {
            throw UsageError(
                "\(path): no run has a figure; \(sweep.record.runs[0].failure ?? "none was trained")")
        }
        let row = sweep.record.runs[best]
        try sweep.table.write(csv: "\(path)/table.csv")
        if !isJSON {
            sweep.table.print(marking: [best: "best"])
            printLine("the best by validation: \(settings(row)), \(path)/\(row.folder); its test figure:")
        }
        let prepared = try prepare(row)
        let result = try finish(
            prepared.trainer, in: prepared.folder, prepared.run, prepared.experiment, prepared.data, prepared.display,
            seconds: row.seconds, as: isJSON ? .none : .text)
        if isJSON, let result {
            try printJSON(Report(by: record.by, keys: record.keys, runs: sweep.record.runs, best: best, result: result))
        }
    }

    private struct Report: Encodable {
        let by: String
        let keys: [String]
        let runs: [Row]
        /// The place of the best among the runs, from 0.
        let best: Int
        let result: TestResult
    }

    private func settings(_ row: Row) -> String {
        zip(record.keys, row.values).map { "\($0)=\(Self.shown($1))" }.joined(separator: " ")
    }

    /// A value as `--grid` takes it.
    private static func shown(_ value: String) -> String {
        value.isEmpty || value.contains(",") ? "[\(value)]" : value
    }

    private var table: TextTable {
        TextTable(
            heading: record.keys + ["valid", "best epoch", "epochs", "seconds", "folder"],
            rows: record.runs.map { row in
                row.values.map(Self.shown) + [
                    row.valid.map { fixed($0, 4) } ?? "failed", row.bestEpoch.map { "\($0)" } ?? "",
                    row.epochs.map { "\($0)" } ?? "", row.seconds.map { fixed($0, 1) } ?? "", "\(path)/\(row.folder)",
                ]
            })
    }
}
