import Datasets
import Graph
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// Every family on files of one's own, as docs/data.md says: what it takes trains a few steps, and what it does not take is refused in
/// one line that says what would.
@Suite(.serialized) struct FamilyTests {
    private static let tables = [
        "made", "fvbn", "bengio", "nade", "maf", "realnvp", "spline", "spline-coupling", "naf", "vae",
        "ffjord",
    ]
    private static let ungiven = ["nice", "planar", "radial", "autoencoder"]
    private static let images = [
        "pixelcnn", "gated-pixelcnn", "pixelcnnpp", "image-transformer", "pixelsnail", "glow", "realnvp-image",
        "tarflow",
    ]
    private static let sequences = ["wavenet", "bytenet"]

    /// Settings that make a family small.
    private static let small: [String: [String]] = [
        "made": ["hidden=8"], "fvbn": [], "bengio": ["hidden=3"], "nade": ["hidden=8"],
        "autoencoder": ["hidden=8", "code=4", "steps=3"], "vae": ["hidden=8", "iafHidden=8", "latents=2", "draws=2"],
        "pixelcnn": ["channels=12", "blocks=1"], "gated-pixelcnn": ["channels=6", "blocks=1", "headChannels=6"],
        "pixelcnnpp": ["channels=6", "blocks=1", "components=2"],
        "image-transformer": ["width=8", "heads=2", "blocks=1"],
        "pixelsnail": ["channels=4", "blocks=1", "residuals=1", "components=2"],
        "tarflow": ["width=8", "heads=2", "blocks=2", "layers=1"],
        "glow": ["hidden=6", "steps=1"], "realnvp-image": ["hidden=6"], "planar": ["layers=2"], "radial": ["layers=2"],
        "wavenet": ["residual=4", "skip=4", "stacks=1", "layers=2"], "bytenet": ["channels=8", "sets=1"],
        "ffjord": ["hidden=4", "steps=2", "tolerance=0.001"],
        "vpn": ["channels=4", "encoderBlocks=1", "decoderBlocks=1"],
        "videoflow": ["hidden=4", "steps=1", "priorHidden=4", "priorBlocks=1"], "ar": ["lags=1"],
        "tabular": ["smoothing=0.5"],
    ]

    private func settings(_ family: String) -> [String] {
        (Self.small[family] ?? ["hidden=8", "layers=2"]).flatMap { ["--set", $0] } + [
            "--epochs", "1", "--set", "samples=2",
        ]
    }

    private func random(_ count: Int, _ stream: String) -> [Double] {
        let random = HostRandom(seed: 5, stream: stream)
        return (0..<count).map { random.uniform(example: $0) }
    }

    /// Files of every kind.
    private func session() throws -> CommandLineSession {
        let session = try CommandLineSession()
        let noise = random(20_000, "files")
        func write(_ name: String, _ shape: [Int], _ value: (Double) -> Float) throws {
            let values = noise.prefix(shape.reduce(1, *)).map(value)
            let isBytes = values.allSatisfy { $0 >= 0 && $0 == $0.rounded() }
            let array =
                isBytes ? HostArray(values.map { UInt8($0) }, shape: shape) : HostArray(values, shape: shape)
            try NumPy.write(array, npy: session.path(name))
        }
        try write("real.npy", [60, 3]) { Float($0 * 40 - 3) }
        try write("one.npy", [60, 1]) { Float($0 * 40 - 3) }
        try write("binary.npy", [60, 5]) { $0 < 0.4 ? 1 : 0 }
        try write("levels.npy", [60, 5]) { Float(Int($0 * 7)) }
        try write("grey.npy", [40, 4, 6]) { Float(Int($0 * 256)) }
        try write("binary-images.npy", [40, 4, 6]) { $0 < 0.4 ? 1 : 0 }
        try write("colour.npy", [40, 4, 4, 3]) { Float(Int($0 * 256)) }
        try write("real-images.npy", [40, 4, 6]) { Float($0 * 3) }
        try write("video.npy", [40, 3, 4, 4]) { $0 < 0.4 ? 1 : 0 }
        try write("classes.npy", [60]) { Float(Int($0 * 3)) }
        try write("given.npy", [60, 2]) { Float($0 * 100) }
        var lines = ["height,colour,count,smokes"]
        for row in 0..<80 {
            let u = noise[row]
            lines.append(
                "\(150 + u * 50),\(["red", "green", "blue"][Int(noise[row + 100] * 3)]),\(Int(noise[row + 200] * 9)),\(u < 0.5 ? 0 : 1)"
            )
        }
        try Files.write(Array(lines.joined(separator: "\n").utf8), to: session.path("mixed.csv"))
        let text = (0..<3000).map { Array("abcdefgh ".utf8)[Int(noise[$0] * 9)] }
        try Files.write(text, to: session.path("novel.txt"))
        try Files.makeFolder(session.path("sounds"))
        try Files.makeFolder(session.path("pictures"))
        for index in 0..<12 {
            let samples = (0..<200).map { noise[$0 + index * 200] * 2 - 1 }
            try Sound.write(samples, rate: 8000, to: session.path("sounds/\(index).wav"))
            let pixels = (0..<16).map { UInt8(noise[$0 + index * 16] * 255) }
            try PNG.write(HostArray(pixels, shape: [4, 4]), to: session.path("pictures/\(index).png"))
        }
        return session
    }

    private func run(_ session: CommandLineSession, _ family: String, _ arguments: [String]) throws -> String? {
        try session.remove("r")
        let all =
            ["run", family, "--runs", session.folder, "--name", "r", "--device", "cpu"] + settings(family) + arguments
        let status = try session.start(all).wait()
        if status == 0 { return nil }
        #expect(!Files.exists(session.path("r")), "\(family) leaves a folder behind")
        return try session.text("errors")
    }

    /// What docs/data.md calls a yes.
    private static var taken: [(String, [String])] {
        let vectors = tables + ungiven
        return vectors.map { ($0, ["real.npy", "binary.npy", "levels.npy", "grey.npy"]) }
            + [("made", ["mixed.csv", "novel.txt", "video.npy", "one.npy"]), ("vae", ["mixed.csv"])]
            + ["fvbn", "bengio", "nade"].map { ($0, ["mixed.csv", "one.npy"]) } + [("autoencoder", ["mixed.csv"])]
            + ["maf", "spline", "spline-coupling", "naf", "planar", "radial", "vae", "ffjord"].map { ($0, ["one.npy"]) }
            + images.map { ($0, ["grey.npy", "binary-images.npy", "colour.npy", "pictures"]) }
            + ["glow", "realnvp-image"].map { ($0, ["real-images.npy"]) }
            + sequences.map { ($0, ["novel.txt", "sounds", "levels.npy"]) } + [
                ("vpn", ["video.npy"]), ("videoflow", ["video.npy"]),
            ]
            + [("ar", ["real.npy"]), ("tabular", ["binary.npy", "levels.npy"])]
    }

    @Test func familiesTakeWhatTheySay() throws {
        let session = try session()
        for (family, files) in Self.taken {
            for file in files {
                let window = ["novel.txt", "sounds"].contains(file) ? ["--set", "window=20"] : []
                let errors = try run(session, family, ["--train", session.path(file)] + window)
                #expect(errors == nil, "\(family) on \(file): \(errors ?? "")")
                guard errors == nil else { continue }
                #expect(Files.exists(session.path("r/result.json")))
                // Sounds and texts are split in time, or by file.
                #expect(Files.exists(session.path("r/split.json")) == window.isEmpty)
                let draw = ["sample", session.path("r"), "--count", "3", "--out", session.path("out.npy")]
                #expect(try session.start(draw + ["--device", "cpu"]).wait() == 0, "\(family) on \(file)")
            }
        }
    }

    /// Given classes and features, in every verb; one draw for each row.
    @Test func familiesAreGivenThings() throws {
        let session = try session()
        let given = ["--labels", session.path("classes.npy"), "--context", session.path("given.npy")]
        for (families, file) in [
            (Self.tables, "real.npy"), (Self.sequences, "levels.npy"), (["made", "nade", "vae"], "binary.npy"),
        ] {
            for family in families {
                let errors = try run(session, family, ["--train", session.path(file)] + given)
                #expect(errors == nil, "\(family): \(errors ?? "")")
                guard errors == nil else { continue }
                let (folder, out) = (session.path("r"), session.path("out.npy"))
                let draw = try session.run("sample", folder, "--out", out, given[0], given[1], given[2], given[3])
                #expect(draw.status == 0, "\(family): \(draw.errors)")
                guard draw.status == 0 else { continue }
                #expect(try NumPy.read(npy: out).shape[0] == 60)
                let evaluated = try session.run(
                    "evaluate", folder, "--input", out, given[0], given[1], given[2], given[3])
                #expect(evaluated.status == 0, "\(family): \(evaluated.errors)")
            }
        }
        // Images have as many rows as their own conditions.
        try NumPy.write(HostArray((0..<40).map { UInt8($0 % 3) }, shape: [40]), npy: session.path("forty.npy"))
        try NumPy.write(HostArray((0..<40).map { Float($0) }, shape: [40, 1]), npy: session.path("ages.npy"))
        let beside = ["--labels", session.path("forty.npy"), "--context", session.path("ages.npy")]
        for (family, file) in Self.images.map({ ($0, "grey.npy") }) + [
            ("vpn", "video.npy"), ("videoflow", "video.npy"),
        ] {
            let errors = try run(session, family, ["--train", session.path(file)] + beside)
            #expect(errors == nil, "\(family): \(errors ?? "")")
        }
    }

    /// Classes go by their names; a latent that is read and written is given the same.
    @Test func classesHaveNames() throws {
        let session = try session()
        let names = ["cat", "dog", "3"]
        let lines = (0..<90).map { "\(Double($0 % 30) * 1.5),\(Double($0 % 7) / 3),\(names[$0 % 3])" }
        try Files.write(
            Array((["a,b,kind"] + lines).joined(separator: "\n").utf8), to: session.path("animals.csv"))
        #expect(try run(session, "maf", ["--train", session.path("animals.csv"), "--labels", "kind"]) == nil)
        let (folder, out) = (session.path("r"), session.path("out.csv"))
        func draw(_ options: String...) throws -> CommandLineSession.Result {
            try session.run(["sample", folder, "--out", out] + options)
        }
        #expect(try draw("--class", "dog", "--count", "4").status == 0)
        let byName = try Files.read(out)
        #expect(try draw("--class", "2", "--count", "4").status == 0 && Files.read(out) == byName)
        let refused = try draw("--class", "cow", "--count", "4")
        #expect(refused.errors.contains("“cow” is none of the classes; expected “3”, “cat”, “dog”"), "\(refused)")
        // Not all of the classes occur; a number that is a name is that name.
        try Files.write(Array("kind\ndog\ncat\ndog\n".utf8), to: session.path("some.csv"))
        #expect(try draw("--labels", session.path("some.csv")).status == 0)
        try Files.write(Array("kind\ndog\ncow\n".utf8), to: session.path("some.csv"))
        #expect(try draw("--labels", session.path("some.csv")).errors.contains("label 1: “cow” is none"))
        let (input, latents) = (session.path("rows.csv"), session.path("z.npy"))
        try Files.write(Array("a,b\n3,1\n6,0.5\n".utf8), to: input)
        for verb in [
            ["evaluate", folder, "--input", input, "--class", "cat"],
            ["encode", folder, "--input", input, "--class", "cat", "--out", latents],
            ["decode", folder, "--input", latents, "--class", "cat", "--out", out],
            ["interpolate", folder, "0", "1", "--class", "cat", "--count", "3", "--out", out],
        ] {
            let found = try session.run(verb)
            #expect(found.status == 0, "\(verb[0]): \(found.errors)")
            guard verb[0] == "decode" else { continue }
            let back = String(decoding: try Files.read(out), as: UTF8.self).split(separator: "\n").dropFirst()
            let cells = back.flatMap { $0.split(separator: ",").map { Float($0) ?? .nan } }
            #expect(zip(cells, [3, 1, 6, 0.5] as [Float]).allSatisfy { abs($0 - $1) < 1e-3 }, "\(cells)")
        }
        let line = ["interpolate", folder, "0", "1", "--labels", input, "--count", "3", "--out", out]
        #expect(try session.run(line).errors.contains("name the one class of all with --class"))
    }

    /// A column of 0 and 1 among numbers is one of whole numbers to a flow, and comes back as such.
    @Test func flowsTakeZeroAndOne() throws {
        let session = try session()
        let lines = (0..<120).map { "\(Double($0 % 37) * 1.5),\($0 % 3 == 0 ? 1 : 0),\($0 % 11)" }
        let table = session.path("flags.csv")
        try Files.write(Array((["a,flag,count"] + lines).joined(separator: "\n").utf8), to: table)
        for family in ["maf", "spline", "vae"] {
            let errors = try run(session, family, ["--train", table])
            #expect(errors == nil, "\(family): \(errors ?? "")")
            let out = session.path("out.csv")
            #expect(try session.run("sample", session.path("r"), "--count", "50", "--out", out).status == 0)
            let rows = try session.text("out.csv").split(separator: "\n").dropFirst().map { $0.split(separator: ",") }
            #expect(rows.count == 50 && rows.allSatisfy { ["0", "1"].contains($0[1]) }, "\(rows.prefix(3))")
            #expect(try session.run("evaluate", session.path("r"), "--input", out).status == 0)
        }
    }

    /// Columns of the table are given; a table of other rows has them too.
    @Test func columnsAreGiven() throws {
        let session = try session()
        let lines = (0..<90).map { "\(Double($0 % 30) * 1.5 + Double($0) / 100),\($0 % 30),\(Double($0 % 7) / 3)" }
        let text = (["y,x,other"] + lines).joined(separator: "\n")
        try Files.write(Array(text.utf8), to: session.path("pairs.csv"))
        #expect(try run(session, "spline", ["--train", session.path("pairs.csv"), "--context", "x,other"]) == nil)
        let found = try session.run("evaluate", session.path("r"), "--input", session.path("pairs.csv"))
        #expect(found.status == 0 && found.output.contains("90 examples"), "\(found.errors)")
        try Files.write(Array("y\n1\n2\n".utf8), to: session.path("alone.csv"))
        let refused = try session.run("evaluate", session.path("r"), "--input", session.path("alone.csv"))
        #expect(refused.errors.contains("has no column “x”"), "\(refused.errors)")
    }

    /// A table goes in and comes out with its header, names and units; gaps are filled; the figures stand beside the rows.
    @Test func tablesComeBack() throws {
        let session = try session()
        let table = session.path("mixed.csv")
        #expect(try run(session, "made", ["--train", table]) == nil)
        let folder = session.path("r")
        func rows(_ name: String) throws -> [[Substring]] {
            try session.text(name).split(separator: "\n").map {
                $0.split(separator: ",", omittingEmptySubsequences: false)
            }
        }
        #expect(try session.run("sample", folder, "--count", "20", "--out", session.path("out.csv")).status == 0)
        let drawn = try rows("out.csv")
        #expect(drawn[0] == ["height", "colour", "count", "smokes"] && drawn.count == 21)
        for row in drawn.dropFirst() {
            #expect(Double(row[0])! > 50 && ["red", "green", "blue"].contains(row[1]))
            #expect(Int(row[2]) != nil && ["0", "1"].contains(row[3]))
        }
        let scores = try session.run(
            "evaluate", folder, "--input", session.path("out.csv"), "--per-example", session.path("scores.csv"))
        #expect(scores.status == 0, "\(scores.errors)")
        #expect(try rows("scores.csv")[0] == ["height", "colour", "count", "smokes", "nats"])

        // Every other cell of every row is empty.
        var lines = try session.text("mixed.csv").split(separator: "\n").map { String($0) }
        for row in 1..<lines.count {
            var cells = lines[row].split(separator: ",").map { String($0) }
            cells[row % 4] = ""
            lines[row] = cells.joined(separator: ",")
        }
        try Files.write(Array(lines.joined(separator: "\n").utf8), to: session.path("gaps.csv"))
        let refused = try run(session, "made", ["--train", session.path("gaps.csv")])
        #expect(
            refused?.contains("--missing marginalize") == true && refused?.contains("line 2") == true,
            "\(refused ?? "")")
        let other = try run(session, "maf", ["--train", session.path("real.npy"), "--missing", "marginalize"])
        #expect(other?.contains("take made") == true, "\(other ?? "")")
        let errors = try run(session, "made", ["--train", session.path("gaps.csv"), "--missing", "marginalize"])
        #expect(errors == nil, "\(errors ?? "")")
        let filled = try session.run(
            "complete", folder, "--input", session.path("gaps.csv"), "--draws", "2", "--out", session.path("full.csv"))
        #expect(filled.status == 0, "\(filled.errors)")
        let (given, full) = (try rows("gaps.csv"), try rows("full.csv"))
        #expect(full.count == 161)
        for row in 1..<given.count {
            for (a, b) in zip(given[row], full[2 * row - 1]) where !a.isEmpty {
                #expect(a == b || Float(a)! == Float(b)!)
            }
            #expect(full[2 * row].allSatisfy { !$0.isEmpty })
        }
        #expect(try session.run("evaluate", folder, "--input", session.path("gaps.csv")).status == 0)
        // Of an array too, whose simple models need every value.
        let holes = (0..<300).map { $0 % 7 == 3 ? Float.nan : Float($0 % 2) }
        try NumPy.write(HostArray(holes, shape: [60, 5]), npy: session.path("holes.npy"))
        let array = try run(session, "made", ["--train", session.path("holes.npy"), "--missing", "marginalize"])
        #expect(array == nil, "\(array ?? "")")
    }

    /// The run knows its data, wherever it is started and wherever they are.
    @Test func dataMayMove() throws {
        let session = try session()
        #expect(try run(session, "made", ["--train", session.path("mixed.csv")]) == nil)
        let folder = session.path("r")
        let before = try session.run("evaluate", folder)
        try session.copy("mixed.csv", to: "moved.csv")
        try session.remove("mixed.csv")
        #expect(try session.run("evaluate", folder).status != 0)
        let after = try session.run("evaluate", folder, "--train", session.path("moved.csv"))
        #expect(after.status == 0 && after.output == before.output, "\(after.errors)")
        #expect(try session.run("resume", folder, "--train", session.path("moved.csv")).status == 0)
        var text = try session.text("moved.csv")
        text.replace("red", with: "tan")
        try Files.write(Array(text.utf8), to: session.path("moved.csv"))
        let refused = try session.run("evaluate", folder, "--train", session.path("moved.csv"))
        #expect(refused.status != 0 && refused.errors.contains("checksum"), "\(refused.errors)")
    }

    /// One line that says what to do, and nothing left behind.
    @Test func badDataAreRefused() throws {
        let session = try session()
        func write(_ name: String, _ text: String) throws { try Files.write(Array(text.utf8), to: session.path(name)) }
        func table(_ header: String, _ row: (Int) -> String) -> String {
            ([header] + (0..<30).map(row)).joined(separator: "\n")
        }
        try write("a.csv", table("x,y,c") { "\(Double($0) * 1.7),\(Double($0 * $0) / 7),\($0 % 2 == 0 ? "p" : "q")" })
        try write("b.csv", table("x,z,c") { "\(Double($0) * 1.7),\(Double($0 * $0) / 7),\($0 % 2 == 0 ? "p" : "q")" })
        try write("c.csv", table("x,y,c") { "\(Double($0) * 1.7),\(Double($0 * $0) / 7),\($0 % 3 == 0 ? "new" : "q")" })
        try write("constant.csv", table("x,y") { "\(Double($0) * 1.7),3.5" })
        try write("word.txt", String(repeating: "some words of a text. ", count: 100))
        let path = session.path
        let cases: [(String, [String], String)] = [
            ("made", ["--train", path("a.csv"), "--valid", path("b.csv"), "--test", path("a.csv")], "“z”"),
            ("made", ["--train", path("a.csv"), "--valid", path("c.csv"), "--test", path("a.csv")], "“new”"),
            ("made", ["--train", path("constant.csv")], "leave it out"),
            ("maf", ["--train", path("a.csv")], "holds names"),
            ("pixelcnn", ["--train", path("real.npy")], "take"),
            ("pixelcnn", ["--train", path("real-images.npy")], "take glow or realnvp-image"),
            ("wavenet", ["--train", path("real.npy")], "take made or maf"),
            ("vpn", ["--train", path("grey.npy")], "video"),
            ("realnvp", ["--train", path("one.npy")], "take spline or naf"),
            ("planar", ["--train", path("real.npy"), "--labels", path("classes.npy")], "takes no classes or features"),
            ("made", ["--train", path("real.npy"), "--labels", path("given.npy")], "labels"),
            ("made", ["--train", path("real.npy"), "--context", path("forty.npy")], "forty.npy"),
            ("made", ["--train", path("real.npy"), "--split", "80/30/10"], "100"),
            ("made", ["--train", path("real.npy"), "--valid", path("real.npy")], "go together"),
            ("ar", ["--train", path("binary.npy")], "take made"),
            ("ar", ["--train", path("a.csv")], "take made"),
            ("tabular", ["--train", path("binary-images.npy")], "expected at most 65536 (limit)"),
            ("tabular", ["--train", path("real.npy")], "take made or maf"),
            ("made", [], "--train"),
            ("made", ["--train", path("real.npy"), "--set", "hiden=4"], "did you mean hidden?"),
            ("mad", ["--train", path("real.npy")], "did you mean made?"),
        ]
        for (family, arguments, says) in cases {
            let errors = try run(session, family, arguments)
            #expect(errors?.contains(says) == true, "\(family) \(arguments): \(errors ?? "taken")")
            #expect(errors?.split(separator: "\n").count == 1, "\(errors ?? "taken")")
        }
    }

    /// Rows that weigh nothing might as well not be there.
    @Test func rowsAreWeighed() throws {
        let session = try session()
        // Half of the rows are 0 and weigh three times those that are 1.
        let lines = (0..<200).map { "\($0 % 2),\($0 / 2 % 2),\($0 % 2 == 0 ? 3 : 1)" }
        try Files.write(Array((["a,b,w"] + lines).joined(separator: "\n").utf8), to: session.path("weighed.csv"))
        let all = ["--train", session.path("weighed.csv"), "--weights-column", "w", "--epochs", "200"]
        #expect(try run(session, "made", all) == nil)
        let draw = ["sample", session.path("r"), "--count", "4000", "--out", session.path("out.npy")]
        #expect(try session.start(draw).wait() == 0)
        let drawn = try NumPy.read(npy: session.path("out.npy")).floats
        let share = stride(from: 0, to: drawn.count, by: 2).reduce(0) { $0 + drawn[$1] } / 4000
        #expect(abs(share - 0.25) < 0.06, "\(share)")
    }

    /// Marginals of what comes first in the order, and a line that says where there are none.
    @Test func partsAreEvaluated() throws {
        let session = try session()
        #expect(try run(session, "made", ["--train", session.path("binary.npy")]) == nil)
        for (mask, says) in [([1, 1, 0, 0, 0], ""), ([0, 1, 0, 0, 1], "first ones of the order")] as [([UInt8], String)]
        {
            try NumPy.write(HostArray(mask, shape: [5]), npy: session.path("mask.npy"))
            let found = try session.run("evaluate", session.path("r"), "--observed", session.path("mask.npy"))
            #expect((found.status == 0) == says.isEmpty && found.errors.contains(says), "\(found.errors)")
        }
        #expect(try run(session, "maf", ["--train", session.path("real.npy")]) == nil)
        try NumPy.write(HostArray([1, 0, 0] as [UInt8], shape: [3]), npy: session.path("mask.npy"))
        let found = try session.run("evaluate", session.path("r"), "--observed", session.path("mask.npy"))
        #expect(found.status != 0 && found.errors.contains("take a made"), "\(found.errors)")
    }

    /// What has no effect beside the other settings is refused; every preset has effects alone.
    @Test func settingsHaveEffects() throws {
        let session = try session()
        let data = ["--train", session.path("real.npy"), "--set"]
        for (family, setting) in [("maf", "transformer=spline:8"), ("planar", "hidden=8"), ("maf", "components=3")] {
            let errors = try run(session, family, data + [setting])
            #expect(errors?.contains("has no effect with flow=\(family)") == true, "\(errors ?? "taken")")
        }
    }

    /// Every setting has a meaning, and no meaning is left over.
    @Test func everySettingHasAMeaning() throws {
        let session = try session()
        let listed = try session.run("list", "--json").output.split(separator: "\n")
        let families = listed.filter { $0.contains("\"isFamily\":true") }
        #expect(families.count == 31)
        for line in families {
            let name = String(line.split(separator: "\"name\":\"")[1].prefix { $0 != "\"" })
            let found = try session.run("settings", name)
            #expect(found.status == 0)
            for setting in found.output.split(separator: "\n") {
                #expect(setting.contains("): "), "\(name): \(setting)")
            }
        }
    }
}
