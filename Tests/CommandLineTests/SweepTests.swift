import Datasets
import FoundationEssentials
import Graph
import Testing

@testable import Lab

#if canImport(Glibc)
    import Glibc
#endif

/// Sweeps: the product of grids as ordinary run folders, a table, the best by validation, and going on after a stop.
@Suite(.serialized) struct SweepTests {
    private let session: CommandLineSession
    private let data: [String]

    init() throws {
        session = try CommandLineSession()
        data = try session.data()
    }

    private func sweep(_ name: String, _ more: String...) -> [String] {
        [
            "sweep", "made", "--runs", session.folder, "--name", name, "--device", "cpu", "--epochs", "3", "--set",
            "patience=0", "--set", "dropout=0",
        ] + data + more
    }

    struct Table: Decodable {
        struct Row: Decodable {
            let values: [String]
            let folder: String
            let valid: Double
            let epochs: Int
        }
        struct Result: Decodable {
            struct Test: Decodable { let mean: Double }
            let test: Test
            let folder: String
        }
        let keys: [String]
        let runs: [Row]
        let best: Int
        let result: Result
    }

    @Test func gridsAreRead() throws {
        func values(_ text: String) throws -> [String] { try Grid(text).values }
        #expect(try values("weightDecay=0,1e-3,3e-3") == ["0", "1e-3", "3e-3"])
        #expect(try values("hidden=500,1000") == ["500", "1000"])
        #expect(try values("hidden=[500,500],1000,[]") == ["500,500", "1000", ""])
        #expect(try values("conditional=mixture:3,table:2") == ["mixture:3", "table:2"])
        #expect(try values("a=b=c") == ["b=c"])
        for wrong in [
            "", "=1", "hidden", "hidden=", "hidden=1,", "hidden=,1", "hidden=[1,2", "hidden=1]", "hidden=[1]2",
            "hidden=1[2]",
            "hidden=[[1]]", "hidden=1,1", "hidden=[],[]",
        ] {
            #expect(throws: (any Error).self, "\(wrong)") { try Grid(wrong) }
        }
        let grids = try [Grid("a=1,2"), Grid("b=x,y,z")]
        #expect(Grid.product(grids) == [["1", "x"], ["1", "y"], ["1", "z"], ["2", "x"], ["2", "y"], ["2", "z"]])
    }

    @Test func theBestByValidationIsNamed() throws {
        let grids = ["--grid", "hidden=[12,9],16,[]", "--grid", "learningRate=0.01,1e-5"]
        let found = try session.run(sweep("a") + grids + ["--json"])
        #expect(found.status == 0, "\(found.errors)")
        let table = try JSONDecoder().decode(Table.self, from: Data(found.output.utf8))
        #expect(table.keys == ["hidden", "learningRate"] && table.runs.count == 6)
        #expect(table.runs.map(\.values)[2] == ["16", "0.01"] && table.runs.allSatisfy { $0.epochs == 3 })
        let best = table.runs[table.best]
        #expect(table.runs.allSatisfy { $0.valid >= best.valid } && best.values[1] == "0.01")
        #expect(table.result.folder == session.path("a/\(best.folder)"))
        // Test figures are of the best alone; the others are ordinary runs nevertheless.
        for row in table.runs {
            let folder = session.path("a/\(row.folder)")
            #expect(Files.exists("\(folder)/result.json") == (row.folder == best.folder))
        }
        let evaluated = try session.run("evaluate", session.path("a/\(best.folder)"), "--json")
        #expect(evaluated.status == 0 && evaluated.output.contains("\(table.result.test.mean)"), "\(evaluated.output)")
        let other = try #require(table.runs.first { $0.folder != best.folder })
        #expect(
            try session.run("sample", session.path("a/\(other.folder)"), "--count", "2", "--out", session.path("x.npy"))
                .status == 0)
        #expect(try session.run("resume", session.path("a/\(other.folder)")).status == 0)
        #expect(Files.exists(session.path("a/\(other.folder)/result.json")))
        // A run alone with these settings ends in the same figure.
        let alone =
            ["run"] + sweep("alone").dropFirst() + ["--set", "hidden=12,9", "--set", "learningRate=0.01", "--json"]
        let single = try session.run(Array(alone))
        #expect(
            single.status == 0 && single.output.contains("\"validNats\":\(table.runs[0].valid)"), "\(single.output)")
        let lines = try session.text("a/table.csv").split(separator: "\n")
        #expect(lines.count == 7 && lines[0] == "hidden,learningRate,valid,best epoch,epochs,seconds,folder")
        #expect(lines[1].hasPrefix("\"[12,9]\",0.01,") && lines[5].hasPrefix("[],0.01,"))
    }

    /// Killed in its second run, it goes on there, and ends as one that was not.
    @Test func aSweepGoesOn() throws {
        let grid = ["--grid", "learningRate=0.01,0.003,0.001", "--epochs", "40"]
        let whole = try session.run(sweep("whole") + grid)
        #expect(whole.status == 0, "\(whole.errors)")
        let process = try session.start(sweep("killed") + grid, number: "killed")
        while (try? Files.read(session.path("killed/2/metrics.jsonl")).isEmpty) ?? true { usleep(500) }
        kill(process.id, SIGKILL)
        _ = process.wait()
        #expect(!Files.exists(session.path("killed/table.csv")))
        let again = try session.run(sweep("killed") + grid)
        #expect(again.status == 1 && again.errors.contains("resume"), "\(again.errors)")
        let first = try Files.read(session.path("killed/1/state.safetensors"))
        let rest = try session.run("resume", session.path("killed"))
        #expect(
            rest.status == 0 && rest.errors.contains("run 2 of 3") && !rest.errors.contains("run 1 of 3"),
            "\(rest.errors)")
        #expect(try Files.read(session.path("killed/1/state.safetensors")) == first)
        for run in 1...3 {
            #expect(
                try Files.read(session.path("killed/\(run)/model.safetensors"))
                    == Files.read(session.path("whole/\(run)/model.safetensors")))
        }
        func figures(_ name: String) throws -> [[Substring]] {
            try session.text("\(name)/table.csv").split(separator: "\n").map {
                Array($0.split(separator: ",").prefix(4))
            }
        }
        #expect(try figures("killed") == figures("whole"))
        // Nothing is left to do; the answer is the same.
        let done = try session.run("resume", session.path("killed"))
        #expect(done.status == 0 && done.output.contains("the best by validation: learningRate=0.01"), "\(done.output)")
    }

    /// A run that leaves the finite numbers has no figure, and is no reason for the others to end.
    @Test func aFailedRunIsPassedOver() throws {
        let found = try session.run(sweep("f", "--set", "optimizer=sgd", "--grid", "learningRate=1e30,0.01"))
        #expect(found.status == 0 && found.errors.contains("run 1: NaN or infinity"), "\(found.errors)")
        #expect(found.output.contains("the best by validation: learningRate=0.01"), "\(found.output)")
        #expect(try session.text("f/table.csv").contains("1e30,failed,,,,"))
        #expect(try session.run("resume", session.path("f")).status == 0)
        let none = try session.run(sweep("g", "--set", "optimizer=sgd", "--grid", "learningRate=1e30"))
        #expect(none.status != 0 && none.errors.contains("no run has a figure"), "\(none.errors)")
    }

    /// A series of which no fit exists leaves no run behind, and is passed over in a sweep.
    @Test func whatCannotBeFittedLeavesNoRun() throws {
        // Columns that are copies of one another: a step follows from the step before without an error.
        let rows = (0..<12).flatMap { row in [Float](repeating: Float(row * row % 7) - 2.5, count: 6) }
        try NumPy.write(HostArray(rows, shape: [12, 6]), npy: session.path("copies.npy"))
        let files = ["train", "valid", "test"].flatMap { ["--\($0)", session.path("copies.npy")] }
        let options = ["--runs", session.folder, "--device", "cpu", "--set", "order=all"] + files
        let run = try session.run(["run", "ar", "--name", "alone"] + options)
        #expect(run.status != 0 && run.errors.contains("Error: "), "\(run.errors)")
        #expect(!Files.exists(session.path("alone")))
        let sweep = try session.run(["sweep", "ar", "--name", "some", "--grid", "lags=2,0"] + options)
        #expect(sweep.status == 0 && sweep.errors.contains("run 1: "), "\(sweep.errors)")
        #expect(try session.text("some/table.csv").contains("2,failed,,,,"))
    }

    @Test func mistakesAreFoundFirst() throws {
        for (arguments, says) in [
            ([], "expected --grid key=value,value"),
            (["--grid", "hiden=1"], "--grid hiden: there is no such setting; did you mean hidden?"),
            (["--grid", "hidden="], "a value is empty"), (["--grid", "epochs=1,x"], "--grid epochs=x"),
            (["--grid", "hidden=4", "--grid", "hidden=5"], "is given twice"),
            (["--grid", "dropout=0.1"], "--set gives it a value too"),
            (["--grid", "seed=1,2", "--by", "test"], "--by test: expected valid"),
            (["--grid", "hidden=4,0"], "hidden: expected up to 64 layers"),
            (
                [
                    "--grid", "seed=" + (1...40).map { "\($0)" }.joined(separator: ","), "--grid",
                    "batch=" + (1...40).map { "\($0)" }.joined(separator: ","),
                ],
                "these are 1600 runs; expected at most 1000"
            ),
        ] as [([String], String)] {
            let found = try session.run(sweep("wrong") + arguments)
            #expect(found.status != 0 && found.errors.contains(says), "\(arguments): \(found.errors)")
            #expect(!Files.exists(session.path("wrong")))
        }
    }
}
