import Distributions
import Graph
import Likelihood
import Testing

@testable import Datasets

/// Tables as people have them.
@Suite struct TableTests {
    let io: Loading
    init() throws { io = try Loading() }

    private func raw(_ text: String, _ name: String = "a.csv") throws -> RawTable {
        try RawTable(Array(text.utf8), name)
    }

    @Test(arguments: [
        "a,b,c\n1,2.5,x\n3,-4,y\n", "a;b;c\n1;2.5;x\n3;-4;y\n", "a\tb\tc\n1\t2.5\tx\n3\t-4\ty\n",
        "a;b;c\r\n1;2,5;x\r\n3;-4;y\r\n", "\u{FEFF}\"a\",\"b\",\"c\"\r1,\"2.5\",\"x\"\r3,-4,y",
        " a  b c\n 1   2.5\tx \n3 -4 y\n",
    ])
    func separatorsAreFoundOut(_ text: String) throws {
        let table = try raw(text)
        #expect(table.names == ["a", "b", "c"])
        #expect(table.values == HostArray([1, 2.5, 0, 3, -4, 1] as [Float], shape: [2, 3]), "\(table.values.floats)")
        #expect(table.texts[2] == ["x", "y"] && table.texts[0] == nil)
    }

    @Test func quotedCellsHoldAnything() throws {
        let table = try raw("\"a, in \"\"m\"\"\",b\n1,\"x,y\"\n2,\"say \"\"no\"\"\"\n3,'z'\n")
        #expect(table.names == ["a, in \"m\"", "b"])
        #expect(table.texts[1] == ["x,y", "say \"no\"", "'z'"])
        let semicolons = try raw("\"a,b\";\"c,d\"\n1;\"2,3\"\n4;5\n")
        #expect(semicolons.names == ["a,b", "c,d"] && semicolons.values.floats == [1, 2.3, 4, 5])
    }

    @Test func mixedDecimalSignsAreRefused() {
        #expect(throws: FileError.self) { try raw("a;b\n1,5;2.5\n3;4\n") }
    }

    /// Which first lines are names, which rows.
    @Test func firstLines() throws {
        func isNamed(_ text: String) throws -> Bool? {
            let table = try raw(text)
            return table.rows == text.split(separator: "\n").count ? false : table.isNamed
        }
        #expect(try isNamed("a,b\n1,2\n3,4\n") == true)
        #expect(try isNamed("1,2\n3,4\n") == false)
        // Years among names.
        #expect(try isNamed("land,1990,2000\n1,2,3\n4,5,6\n") == true)
        // Measured numbers stand in no heading.
        #expect(try isNamed("bad,1.5\n1,2\n4,5\n") == false)
        // Nothing but text: a heading does not come again.
        #expect(try isNamed("p,x,s\np,x,y\ne,b,s\n") == false)
        #expect(try isNamed("class,cap,odor\np,x,y\ne,b,s\n") == true)
        #expect(try isNamed("1,0,g\n1,0,b\n") == false)
        #expect(try isNamed("x\n1\n2\n") == true)
        let counted = try raw("0,1,2\n5,6,7\n8,9,9\n")
        #expect(counted.rows == 2 && counted.notices[0].contains("counts the columns"))
        let texts = try raw("p,x\np,y\ne,x\n")
        #expect(texts.values.floats == [0, 1, 0, 0, 1, 1] && texts.texts[1] == ["y", "x"])
    }

    @Test(arguments: [
        (",x,y\n", true), ("Unnamed: 0,x,y\n", true), ("id,x,y\n", true), ("INDEX,x,y\n", true), (",0,1\n", true),
        ("n,x,y\n", false),
    ])
    func indexColumns(_ heading: String, _ isLeftOut: Bool) throws {
        for shift in [0, 1, 40] {
            let path = try io.write("a.csv", heading + lines(20) { "\(($0 * 7) % 20 + shift),\($0 % 3)5.5,-\($0).25" })
            let (loaded, notices) = try io.load(path)
            #expect(loaded.examples.count == (isLeftOut ? 2 : 3))
            #expect(notices.contains { $0.contains("numbers the rows") } == isLeftOut, "\(notices)")
        }
    }

    @Test func countsWithoutAHeading() throws {
        let (loaded, notices) = try io.load(io.write("a.csv", lines(30) { "\($0 + 1),\($0 * $0).5" }))
        #expect(
            loaded.examples.count == 2 && notices.contains { $0.contains("column 1 counts the rows") }, "\(notices)")
    }

    /// Every kind of column, with the numbers that standardise it.
    @Test func kindsOfColumns() throws {
        let rows = { (range: Range<Int>) in
            "real,count,flag,name,large,few\n"
                + range.map {
                    "\($0).5,\($0 % 7),\($0 % 2),\(["b", "a", "ä"][$0 % 3]),\($0 * 1000),\($0 % 2 * 99999)\n"
                }.joined()
        }
        let (train, valid, test) = try (
            io.write("a.csv", rows(0..<200)), io.write("b.csv", rows(0..<9)), io.write("c.csv", rows(5..<9))
        )
        let (loaded, notices) = try io.load(train) {
            $0.valid = valid
            $0.test = test
        }
        let columns = try #require(loaded.examples.columns)
        #expect(loaded.values == .table(columns) && loaded.rows == nil)
        #expect(columns.map(\.name) == ["real", "count", "flag", "name", "large", "few"])
        #expect(columns[2].kind == .category(["0", "1"]) && columns[3].kind == .category(["a", "b", "ä"]))
        guard case .real(let mean, let deviation) = columns[0].kind, case .whole(let counts, _) = columns[1].kind,
            case .real = columns[4].kind, case .whole = columns[5].kind
        else {
            Issue.record("\(columns)")
            return
        }
        #expect(abs(mean - 100) < 1e-9 && abs(deviation - (Double(200 * 200 - 1) / 12).squareRoot()) < 1e-9)
        #expect(abs(counts - (0..<200).reduce(0.0) { $0 + Double($1 % 7) } / 200) < 1e-9)
        #expect(loaded.dataset.test.floats.prefix(6) == [5.5, 5, 1, 2, 5000, 99999])
        #expect(loaded.values.problem(in: loaded.dataset.train) == nil)
        #expect(
            notices.contains { $0.contains("6 columns: 2 of real numbers, 2 of whole numbers, 2 of names") },
            "\(notices)")
        #expect(loaded.examples.isPossible)
    }

    @Test func realTablesAndPixels() throws {
        let real = try io.load(io.write("a.csv", lines(50) { "\($0).5,\($0 * $0).25" })).0
        #expect(real.values == .real && real.examples.columns?.count == 2)
        // Pixels: all from 0, most up to the same number, a border that is always dark.
        let pixels = lines(40) { row in (0..<9).map { "\($0 == 0 ? 0 : (row * ($0 + 3)) % 17)" }.joined(separator: " ")
        }
        let levels = try io.load(io.write("a.txt", pixels)).0
        #expect(levels.values == .levels(17) && levels.examples.columns == nil)
        let images = try io.load(io.write("b.txt", pixels), as: .images) { $0.layout = "hw" }.0
        #expect(images.examples.dimensions == [1, 3, 3])
        #expect(io.refusal(try io.write("c.txt", pixels), as: .images).contains("--set layout=hw"))
        let binary = try io.load(io.write("a.csv", "x,y\n" + lines(40) { "\($0 % 2),\($0 / 2 % 2)" })).0
        #expect(binary.values == .binary && binary.examples.columns?.map(\.name) == ["x", "y"])
        // Ages and children are counts, not levels.
        let mixed = try io.load(io.write("d.csv", "age,children\n" + lines(60) { "\(18 + $0),\($0 % 4)" })).0
        guard case .table = mixed.values else { Issue.record("\(mixed.values)"); return }
    }

    @Test func whatIsRefusedWithItsPlace() throws {
        func refusal(_ text: String, _ set: (inout DataFiles) -> Void = { _ in }) throws -> String {
            io.refusal(try io.write("a.csv", text), set)
        }
        let constant = try refusal("a,b\n" + lines(20) { "\($0).5,3" })
        #expect(constant.contains("column 2 (“b”) holds 3 alone") && constant.contains("leave it out"), "\(constant)")
        let name = try refusal("a,b\n" + lines(20) { "\($0).5,x" })
        #expect(name.contains("column 2 (“b”) holds “x” alone"), "\(name)")
        let identifier = try refusal("a,b\n" + lines(1200) { "\($0).5,n\($0)" })
        #expect(identifier.contains("line 1002, column 2 (“b”)") && identifier.contains("identifier"), "\(identifier)")
        let ragged = try refusal("a,b\n1,2\n3\n")
        #expect(ragged.contains("line 3: expected 2 columns, found 1"), "\(ragged)")
        let infinite = try refusal("a,b\n1,2\n3,inf\n")
        #expect(infinite.contains("line 3, column 2: expected a finite number"), "\(infinite)")
        let large = try refusal("a,b\n1,2\n3,1e40\n")
        #expect(large.contains("line 3, column 2: 1e40 is beyond float32"), "\(large)")
        #expect(try refusal("a,b\n").contains("holds"))
        #expect(try refusal("").contains("holds no numbers"))
        #expect(try refusal("a,b\n1,2\n").contains("takes three or more"))
    }

    @Test(arguments: ["", "NA", "nan", "?", "null", "None", "\"\""]) func missingCells(_ word: String) throws {
        let text =
            "a,b,c\n" + lines(30) { "\($0).5,\($0 == 4 ? word : "\($0 % 5)"),\($0 == 8 ? word : ["x", "y"][$0 % 2])" }
        let path = try io.write("a.csv", text)
        let refusal = io.refusal(path)
        #expect(refusal.contains("line 6, column 2 (“b”) holds nothing"), "\(refusal)")
        #expect(refusal.contains("--missing marginalize"))
        let (loaded, notices) = try io.load(path) { $0.missing = "marginalize" }
        let all = Dataset.Split.allCases.flatMap { loaded.dataset.examples($0).floats }
        #expect(all.count { $0.isNaN } == 2 && all.count == 90)
        #expect(notices.contains { $0.contains("column 2 (“b”), column 3 (“c”)") }, "\(notices)")
        #expect(loaded.values.problem(in: loaded.dataset.train, allowsMissing: true) == nil)
        guard case .table(let columns) = loaded.values else { Issue.record("\(loaded.values)"); return }
        #expect(columns[2].kind == .category(["x", "y"]))
    }

    @Test func missingCellsAreLeftOutOfMeans() throws {
        let part = "a,b\n1.5,NA\n2.5,3.5\n3.5,4.5\n"
        let path = try io.write("a.csv", part)
        let loaded = try io.load(path) {
            $0.valid = path
            $0.test = path
            $0.missing = "marginalize"
        }.0
        #expect(loaded.examples.columns?[1].kind == .real(mean: 4, deviation: 0.5))
    }

    @Test func namesThatTrainingLacks() throws {
        let train = try io.write("a.csv", "v,c\n1.5,x\n2.5,y\n3.5,x\n")
        let valid = try io.write("b.csv", "v,c\n1.5,x\n\n2.5,z\n")
        let refusal = io.refusal(train) {
            $0.valid = valid
            $0.test = train
        }
        #expect(
            refusal.hasPrefix(valid) && refusal.contains("line 4, column 2 (“c”): “z” does not occur"), "\(refusal)")
        // In one file that is split: the row's own line is named.
        let path = try io.write("c.csv", "v,c\n" + lines(400) { "\($0).5,\($0 == 300 ? "rare" : ["x", "y"][$0 % 2])" })
        let seed = try #require(
            (UInt64(0)..<100).first { seed in
                let rows = try? Partition(400, [80, 10, 10], seed: seed, of: "", "").rows
                return rows?[.train]?.contains(300) == false
            })
        let error = #expect(throws: FileError.self) { try io.load(path, seed: seed) }
        #expect(error?.message.contains("line 302, column 2 (“c”): “rare”") == true, "\(String(describing: error))")
        #expect(error?.message.contains("another seed") == true)
    }

    @Test func columnsThatDiffer() throws {
        let train = try io.write("a.csv", "v,c\n1.5,2\n2.5,3\n")
        func refusal(_ text: String) throws -> String {
            let other = try io.write("b.csv", text)
            return io.refusal(train) {
                $0.valid = train
                $0.test = other
            }
        }
        #expect(try refusal("v,d\n1.5,2\n").contains("column 2 is “d”, but “c” in"))
        #expect(try refusal("v\n1.5\n").contains("has 1 columns, but"))
        #expect(try refusal("v,c\n1.5,2\n1,x\n").contains("line 3, column 2 (“c”): “x” is no number"))
        // Numbers where training has names are names.
        let names = try io.write("c.csv", "v,c\n1.5,1\n2.5,a\n3.5,1\n")
        let numbers = try io.write("d.csv", "v,c\n1.5,1\n")
        let loaded = try io.load(names) {
            $0.valid = numbers
            $0.test = numbers
        }.0
        #expect(loaded.dataset.valid.floats == [1.5, 0] && loaded.examples.columns?[1].kind == .category(["1", "a"]))
        // A fraction anywhere makes a column real.
        let fraction = try io.write("e.csv", "v,c\n1.5,2.5\n")
        let real = try io.load(train) {
            $0.valid = fraction
            $0.test = train
        }.0
        #expect(real.values == .real)
    }

    @Test func columnsOfOtherUses() throws {
        let text =
            "x,y,label,town,hour,w\n"
            + lines(90) {
                "\($0).5,\($0 * $0).5,\(["no", "yes", "maybe"][$0 % 3]),\(["b", "a"][$0 % 2]),\($0 % 24),\($0 % 2 + 1)"
            }
        let path = try io.write("a.csv", text)
        let (loaded, notices) = try io.load(path) {
            $0.labels = "label"
            $0.context = "hour,town"
            $0.weightsColumn = "w"
        }
        #expect(loaded.examples.columns?.map(\.name) == ["x", "y"] && loaded.values == .real)
        #expect(loaded.examples.classes == 3 && loaded.examples.features == 3)
        let rows = try #require(loaded.rows)
        for split in Dataset.Split.allCases {
            let examples = loaded.dataset[split]
            let weights = try #require(loaded.dataset.weights?[split])
            for (i, row) in rows[split]!.enumerated() {
                #expect(examples.rows.rows(i..<i + 1).floats == [Float(row) + 0.5, Float(row * row) + 0.5])
                #expect(examples.labels?[i] == [1, 2, 0][row % 3])
                #expect(
                    examples.features?.rows(i..<i + 1).floats == [Float(row % 24), Float(row % 2), Float(1 - row % 2)])
                #expect(abs(weights[i] / weights[0] - Float(row % 2 + 1) / Float(rows[split]![0] % 2 + 1)) < 1e-6)
            }
        }
        let weights = try #require(loaded.dataset.weights?[.train])
        #expect(abs(weights.reduce(0, +) / Float(weights.count) - 1) < 1e-5)
        #expect(notices.contains { $0.contains("3 classes, 0 “maybe”, 1 “no”, 2 “yes”") }, "\(notices)")
        #expect(notices.contains { $0.contains("town") && $0.contains("a, b") })
        #expect(io.refusal(path) { $0.labels = "colour" }.contains("has x, y, label"))
        #expect(io.refusal(path) { $0.weightsColumn = "v" }.contains("no column"))
        #expect(io.refusal(path) { ($0.labels, $0.context) = ("label", "label") }.contains("twice"))
        // Without names columns have numbers.
        let plain = try io.write("b.csv", lines(60) { "\($0).5,\($0 * $0).25,\($0 % 3 + 4)" })
        let numbered = try io.load(plain) { $0.labels = "3" }.0
        #expect(numbered.examples.count == 2 && numbered.examples.classes == 3)
        #expect(numbered.dataset.labels?.train.max() == 2)
        // Labels of a file, with counts that differ.
        let labels = try io.write("l.csv", lines(59) { "\($0 % 3)" })
        let refusal = io.refusal(plain) { $0.labels = labels }
        #expect(refusal.contains("holds 59 labels for the 60 examples"), "\(refusal)")
    }

    // MARK: writing and reading back

    @Test func tablesComeBackToTheBit() throws {
        let columns = [
            Column("a,b", .real(mean: 0, deviation: 1)), Column("n \"q\"", .whole(mean: 0, deviation: 1)),
            Column("c", .category(["x", "y, z", "7"])), Column("f", .category(["0", "1"])),
        ]
        let values: [Float] = [
            0.1, 3, 0, 1, -1e-30, -7, 1, 0, .nan, 16_777_216, 2, .nan, Float.leastNonzeroMagnitude, 0, .nan, 1,
        ]
        let rows = HostArray(values, shape: [4, 4])
        let path = io.folder.path + "/t.csv"
        try Table.write(rows, columns: columns, extra: [("nats", [1.5, .nan, -2, 3])], to: path)
        let shape = ExampleShape([4], columns: columns)
        let back = try LoadedFiles.read(path, like: shape, values: .table(columns), allowsMissing: true)
        #expect(
            zip(back.floats, values).allSatisfy { $0.bitPattern == $1.bitPattern || $0.isNaN && $1.isNaN },
            "\(back.floats)")
        let text = String(decoding: try Files.read(path), as: UTF8.self)
        #expect(text.hasPrefix("\"a,b\",\"n \"\"q\"\"\",c,f,nats\n0.1,3,x,1,1.5\n"), "\(text)")
        let error = #expect(throws: FileError.self) { try LoadedFiles.read(path, like: shape, values: .table(columns)) }
        #expect(error?.message.contains("holds nothing") == true)
        // Without names there is no heading; a row of nothing is still a row.
        let plain = [Column("", .real(mean: 0, deviation: 1))]
        try Table.write(HostArray([1.5, .nan, 2] as [Float], shape: [3, 1]), columns: plain, to: path)
        #expect(String(decoding: try Files.read(path), as: UTF8.self) == "1.5\n\"\"\n2.0\n")
        let again = try LoadedFiles.read(
            path, like: ExampleShape([1], columns: plain), values: .real, allowsMissing: true)
        #expect(again.shape == [3, 1])
        #expect(throws: FileError.self) {
            try Table.write(HostArray([5, 5, 5, 5] as [Float], shape: [1, 4]), columns: columns, to: path)
        }
    }

    @Test func rowsForAModelOfATable() throws {
        let columns = [Column("v", .real(mean: 0, deviation: 1)), Column("c", .category(["1", "a"]))]
        let shape = ExampleShape([2], columns: columns)
        func read(_ text: String) throws -> [Float] {
            try LoadedFiles.read(io.write("q.csv", text), like: shape, values: .table(columns)).floats
        }
        #expect(try read("v,c\n2.5,a\n") == [2.5, 1])
        // Another order, and columns that are of no use.
        #expect(try read("c,w,v\n1,9,2.5\na,9,3\n") == [2.5, 0, 3, 1])
        #expect(try read("2.5,1\n") == [2.5, 0])
        for (text, says) in [
            ("v,d\n2.5,a\n", "has no column “c”"), ("v,c\n2.5,b\n", "line 2, column 2 (“c”): “b” is none of the names"),
            ("v,c\nx,a\n", "line 2, column 1 (“v”): expected a number, found “x”"),
            ("1,2,3\n", "has 3 columns; expected 2"),
            ("v,c\n,a\n", "line 2, column 1 (“v”) holds nothing"),
        ] {
            let error = #expect(throws: FileError.self, "\(text)") { try read(text) }
            #expect(error?.message.contains(says) == true, "\(text): \(String(describing: error))")
        }
        // All of names, one row: what is known of the columns tells the heading.
        let names = [Column("k", .category(["a", "b"])), Column("l", .category(["c", "d"]))]
        let all = ExampleShape([2], columns: names)
        for text in ["k,l\nb,c\n", "b,c\n"] {
            #expect(try LoadedFiles.read(io.write("n.csv", text), like: all, values: .table(names)).floats == [1, 0])
        }
    }
}

/// Real tables.
@Suite(.enabled(if: sharedData != nil)) struct RealTableTests {
    let io: Loading
    init() throws { io = try Loading() }

    private func load(_ path: String, _ set: (inout DataFiles) -> Void = { _ in }) throws -> (LoadedFiles, [String]) {
        try io.load("\(sharedData!)/\(path)", set)
    }

    @Test func wine() throws {
        let (loaded, notices) = try load("uci_small_rnade/winequality-red.csv")
        #expect(loaded.examples.count == 12)
        guard case .table(let columns) = loaded.values, case .whole = columns[11].kind,
            case .real(let mean, _) = columns[0].kind
        else { Issue.record("\(loaded.values)"); return }
        #expect(abs(mean - 8.3) < 0.2)
        #expect(notices.contains { $0.contains("copies are kept") }, "\(notices)")
        // As the repository of the data set has it.
        let text = try String(decoding: Files.read("\(sharedData!)/uci_small_rnade/winequality-red.csv"), as: UTF8.self)
        let semicolons =
            "\"fixed acidity\";\"volatile\";\"citric\";\"sugar\";\"chlorides\";\"free\";\"total\";\"density\";\"pH\";\"sulphates\";\"alcohol\";\"quality\"\n"
            + String(text.map { $0 == "," ? ";" : $0 })
        let same = try io.load(io.write("w.csv", semicolons)).0
        #expect(same.dataset.train == loaded.dataset.train && same.examples.columns?[1].name == "volatile")
    }

    @Test func ionosphere() throws {
        let refusal = io.refusal("\(sharedData!)/uci_small_rnade/ionosphere.csv")
        #expect(refusal.contains("column 2 holds 0 alone"), "\(refusal)")
        let table = try RawTable(Files.read("\(sharedData!)/uci_small_rnade/ionosphere.csv"), "i.csv")
        #expect(table.rows == 351 && table.texts[34]?.sorted() == ["b", "g"] && !table.isNamed)
    }

    @Test func housing() throws {
        let loaded = try load("uci_small_rnade/housing.data").0
        let count = Dataset.Split.allCases.reduce(0) { $0 + loaded.dataset.examples($1).shape[0] }
        #expect(loaded.examples.count == 14 && count >= 505)
    }

    @Test func parkinsons() throws {
        let loaded = try load("uci_small_rnade/parkinsons_updrs.data").0
        #expect(loaded.examples.columns?.prefix(3).map(\.name) == ["subject#", "age", "sex"])
        #expect(loaded.examples.columns?[2].kind == .category(["0", "1"]) && loaded.examples.count == 22)
    }

    @Test func digits() throws {
        let test = "\(sharedData!)/optdigits8x8/optdigits.tes"
        let (loaded, notices) = try load("optdigits8x8/optdigits.tra") {
            $0.valid = test
            $0.test = test
            $0.labels = "65"
        }
        #expect(loaded.values == .levels(17) && loaded.examples.columns == nil && loaded.examples.classes == 10)
        #expect(loaded.dataset.train.shape == [3823, 64] && loaded.dataset.test.shape == [1797, 64], "\(notices)")
    }
}
