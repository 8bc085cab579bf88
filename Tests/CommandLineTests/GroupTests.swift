import Datasets
import FoundationEssentials
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// A group of experiments: its members as ordinary run folders, one table and one picture, going on after a stop.
@Suite(.serialized) struct GroupTests {
    private let session: CommandLineSession

    init() throws { session = try CommandLineSession() }

    private func zoo(_ name: String, _ more: String...) -> [String] {
        ["run", "zoo-glyphs", "--runs", session.folder, "--name", name, "--device", "cpu", "--epochs", "1"] + more
    }

    private struct Listed: Decodable {
        let name: String
        let summary: String
        let isFamily: Bool
        let groups: [String]
    }

    @Test func everyFamilyIsInTheZoo() throws {
        let listed = try session.run("list", "--json").output.split(separator: "\n").map {
            try JSONDecoder().decode(Listed.self, from: Data($0.utf8))
        }
        let members = listed.filter { $0.groups.contains("zoo-glyphs") }
        for family in listed where family.isFamily {
            #expect(
                members.contains {
                    $0.name == "\(family.name)-glyphs" || $0.summary.hasPrefix("\(family.name) as ")
                }, "\(family.name)")
        }
    }

    private struct Table: Decodable {
        struct Estimate: Decodable { let mean: Double }
        struct Row: Decodable {
            let experiment: String
            let test: Estimate?
            let aboveOptimum: Estimate?
            let isBound: Bool?
            let isLikelihood: Bool?
            let parameters: Int?
            let seconds: Double?
            let drawingSeconds: Double?
            let refusal: String?
        }
        let group: String
        let rows: [Row]
    }

    /// Densities on the plane stand side by side, a row for each model.
    @Test func aGridOfDensities() throws {
        let run = [
            "run", "flows-densities", "--runs", session.folder, "--name", "d", "--device", "cpu", "--epochs", "1",
            "--only", "nice-moons,nice-rings,radial-rings",
        ]
        let found = try session.run(run)
        #expect(found.status == 0 && found.output.contains("densities.svg"), "\(found.errors)")
        let picture = try session.text("d/densities.svg")
        #expect(picture.hasSuffix("</svg>\n"))
        for text in [">nice<", ">radial<", ">moons<", ">pinwheel<"] { #expect(picture.contains(text), "\(text)") }
        #expect(picture.split(separator: "data:image/png;base64,iVBOR").count == 4)
        let listed = try session.run("list", "--json").output
        for flow in ["iaf", "maf", "naf", "planar", "ffjord", "flow-matching"] {
            #expect(listed.contains("\"\(flow)-checkerboard\""), "\(flow)")
        }
    }

    /// One that has a likelihood, one with a bound, one without, and one that cannot have such images.
    @Test func aTableOfItsMembers() throws {
        let only = ["--only", "fvbn-glyphs,maf-glyphs,autoencoder-glyphs,tabular-glyphs"]
        let found = try session.run(zoo("z") + only + ["--json"])
        #expect(found.status == 0, "\(found.errors)")
        let table = try JSONDecoder().decode(Table.self, from: Data(found.output.utf8))
        func row(_ name: String) throws -> Table.Row {
            try #require(table.rows.first { $0.experiment == "\(name)-glyphs" })
        }
        let (fvbn, maf, autoencoder, tabular) = try (row("fvbn"), row("maf"), row("autoencoder"), row("tabular"))
        #expect(table.group == "zoo-glyphs" && table.rows.count == 4)
        #expect(fvbn.isBound == false && maf.isBound == true && fvbn.parameters == 80 * 81)
        #expect(try #require(fvbn.aboveOptimum).mean > 0 && fvbn.seconds != nil && fvbn.drawingSeconds != nil)
        #expect(autoencoder.isLikelihood == false && autoencoder.aboveOptimum == nil && autoencoder.test != nil)
        #expect(tabular.test == nil && tabular.refusal?.contains("tables of 80 variables") == true)
        let lines = try session.text("z/table.csv").split(separator: "\n")
        #expect(lines.count == 5 && lines[0].hasPrefix("experiment,test,±,above the optimum,± of that,unit,parameters"))
        #expect(lines[4].hasPrefix("tabular-glyphs,,,,,refused"))
        let picture = try session.text("z/table.svg")
        #expect(picture.contains(">fvbn-glyphs<") && !picture.contains("autoencoder") && picture.hasSuffix("</svg>\n"))
        // A member is a run as any other.
        let evaluated = try session.run("evaluate", session.path("z/fvbn-glyphs"), "--json")
        let figure = try #require(fvbn.test).mean
        #expect(evaluated.status == 0 && evaluated.output.contains("\(figure)"), "\(evaluated.output)")
        #expect(Files.exists(session.path("z/fvbn-glyphs/samples-1.png")))
        // Nothing is left to do; the answer is the same.
        let again = try session.run("resume", session.path("z"), "--json")
        #expect(again.status == 0 && again.output == found.output, "\(again.errors)")
    }

    /// Killed in its second member, it goes on there.
    @Test func aGroupGoesOn() throws {
        let members = ["--only", "fvbn-glyphs,nade-glyphs", "--epochs", "4"]
        let process = try session.start(zoo("killed") + members, number: "killed")
        while (try? Files.read(session.path("killed/nade-glyphs/metrics.jsonl")).isEmpty) ?? true { usleep(500) }
        kill(process.id, SIGKILL)
        _ = process.wait()
        #expect(!Files.exists(session.path("killed/table.csv")))
        let first = try Files.read(session.path("killed/fvbn-glyphs/state.safetensors"))
        let rest = try session.run("resume", session.path("killed"))
        #expect(
            rest.status == 0 && rest.errors.contains("2 of 2: nade-glyphs") && !rest.errors.contains("1 of 2"),
            "\(rest.errors)")
        #expect(try Files.read(session.path("killed/fvbn-glyphs/state.safetensors")) == first)
        #expect(rest.output.contains("table and picture: "))
    }

    @Test func mistakesAreFoundFirst() throws {
        for (arguments, says) in [
            (zoo("w", "--set", "hidden=3"), "--set: zoo-glyphs is several experiments"),
            (zoo("w", "--train", "x.npy"), "--train and the like: zoo-glyphs is several experiments"),
            (zoo("w", "--only", "nothing"), "--only nothing: expected members of zoo-glyphs: tabular-glyphs"),
            (zoo("w", "--only", ""), "--only : expected members of zoo-glyphs: tabular-glyphs"),
            (zoo("w", "--threads", "0"), "--threads: expected 1 to 1024"),
            (zoo("w", "--epochs", "-1"), "epochs"),
            (zoo("w", "--seeds", "1,2"), "--seeds: zoo-glyphs is several experiments"),
            (["run", "fvbn-glyphs", "--only", "x"], "--only: fvbn-glyphs is one experiment"),
            (["settings", "zoo-glyphs"], "zoo-glyphs is several experiments"),
            (["sweep", "zoo-glyphs", "--grid", "seed=1"], "zoo-glyphs is several experiments"),
        ] {
            let found = try session.run(arguments)
            #expect(found.status != 0 && found.errors.contains(says), "\(arguments): \(found.errors)")
            #expect(!Files.exists(session.path("w")))
        }
    }
}
