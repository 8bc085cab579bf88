import Distributions
import Graph
import Likelihood
import Testing

@testable import Datasets
@testable import fuzz_readers

/// Pictures in folders and archives.
@Suite struct PictureTests {
    let io: Loading
    init() throws { io = try Loading() }

    private func png(_ i: Int, height: Int = 3, width: Int = 2, isColoured: Bool = false) -> HostArray {
        let shape = [height, width] + (isColoured ? [3] : [])
        return HostArray((0..<shape.reduce(1, *)).map { UInt8(($0 * 31 + i * 17) % 256) }, shape: shape)
    }

    private func write(_ name: String, _ pixels: HostArray) throws {
        try Files.makeFolder(String("\(io.folder.path)/\(name)".reversed().drop { $0 != "/" }.reversed()))
        try PNG.write(pixels, to: "\(io.folder.path)/\(name)")
    }

    @Test func foldersOfPictures() throws {
        for i in 0..<20 { try write("set/\(["b", "a"][i % 2])/\(i + 10).png", png(i)) }
        try io.write("set/readme.txt", "Pictures.")
        try io.write("set/a/.hidden.png", "no picture")
        let (loaded, notices) = try io.load("\(io.folder.path)/set", as: .images) { $0.labels = "folders" }
        #expect(
            loaded.examples.dimensions == [1, 3, 2] && loaded.examples.classes == 2 && loaded.values == .levels(256))
        #expect(notices.contains { $0.contains("0 “a”, 1 “b”") }, "\(notices)")
        // Sorted by name: those of a, which are odd, and then those of b.
        let order = (0..<10).map { 2 * $0 + 1 } + (0..<10).map { 2 * $0 }
        for split in Dataset.Split.allCases {
            for (i, row) in loaded.rows![split]!.enumerated() {
                #expect(loaded.dataset.examples(split).rows(i..<i + 1).bytes == png(order[row]).bytes)
                #expect(loaded.dataset[split].labels?[i] == (row < 10 ? 0 : 1))
            }
        }
        #expect(loaded.sources.count == 1 && loaded.sources[0].path.hasSuffix("/set"))
        let read = try LoadedFiles.read("\(io.folder.path)/set/b/10.png", like: loaded.examples, values: loaded.values)
        #expect(read.bytes == png(0).bytes && read.shape == [1, 6])
        #expect(io.refusal("\(io.folder.path)/set", as: .sequences).contains("takes sequences"))
        #expect(io.refusal("\(io.folder.path)/set", as: .videos).contains("takes videos"))
        try write("set/a/99.png", png(1, width: 4))
        #expect(io.refusal("\(io.folder.path)/set").contains("99.png: is grey of 4x3, but"))
    }

    @Test func archivesOfPictures() throws {
        var files: [(name: String, bytes: [UInt8])] = []
        for i in 0..<12 {
            try write("p.png", png(i, isColoured: true))
            files.append(("x/\(["cat", "dog"][i % 2])/\(i + 10).png", try Files.read("\(io.folder.path)/p.png")))
        }
        let packs: [(String, ([UInt8]) -> [UInt8])] = [
            ("a.tar", { $0 }), ("a.tar.xz", Container.xz), ("a.tar.gz", Container.gzip),
        ]
        for (name, pack) in packs {
            let path = try io.write(name, pack(Container.tar(files.reversed())))
            let loaded = try io.load(path) { $0.labels = "folders" }.0
            #expect(loaded.examples.dimensions == [3, 3, 2] && loaded.examples.classes == 2)
            let row = loaded.rows![.train]![0]
            let (found, expected) = (
                loaded.dataset.train.rows(0..<1).bytes,
                png(row < 6 ? 2 * row : 2 * (row - 6) + 1, isColoured: true).bytes
            )
            for pixel in 0..<6 { for c in 0..<3 { #expect(found[c * 6 + pixel] == expected[pixel * 3 + c]) } }
        }
    }

    @Test func blackAndWhite() throws {
        for i in 0..<12 {
            let pixels: [UInt8] = [0, 255, i % 2 == 0 ? 255 : 0, i % 3 == 0 ? 255 : 0]
            try write("bw/\(i).png", HostArray(pixels, shape: [2, 2]))
        }
        let (loaded, notices) = try io.load("\(io.folder.path)/bw")
        #expect(loaded.values == .binary && notices.contains { $0.contains("black or white") })
        let read = try LoadedFiles.read("\(io.folder.path)/bw/0.png", like: loaded.examples, values: loaded.values)
        #expect(read.bytes == [0, 1, 1, 1])
    }

    @Test func kindsOfPNG() throws {
        // 16 bits: the upper eight stay, whatever the file says of gamma.
        let deep = Container.png(
            width: 2, height: 2, depth: 16, colour: 0, [[0x12, 0x34, 0xAB, 0xCD], [0, 0, 0xFF, 0xFF]])
        let picture = try PNG.read(deep, name: "a.png")
        #expect(picture.had16Bits && picture.shape == [1, 2, 2])
        #expect(zip(picture.pixels, [0x12, 0xAB, 0, 0xFF]).allSatisfy { abs(Int($0) - $1) <= 1 }, "\(picture.pixels)")
        // A palette.
        let palette: [UInt8] = [10, 20, 30, 200, 100, 50]
        let indexed = Container.png(width: 2, height: 1, depth: 8, colour: 3, [[1, 0]], palette: palette)
        #expect(try PNG.read(indexed, name: "a.png").pixels == [200, 10, 100, 20, 50, 30])
        // Transparency is left out, and changes no colour.
        let alpha = Container.png(width: 2, height: 1, depth: 8, colour: 6, [[1, 2, 3, 0, 4, 5, 6, 128]])
        let opaque = try PNG.read(alpha, name: "a.png")
        #expect(opaque.pixels == [1, 4, 2, 5, 3, 6] && opaque.hadAlpha)
        let grey = Container.png(width: 2, height: 1, depth: 8, colour: 4, [[7, 0, 9, 255]])
        #expect(try PNG.read(grey, name: "a.png").pixels == [7, 9])
        // One bit a pixel.
        let bits = Container.png(width: 4, height: 1, depth: 1, colour: 0, [[0b1010_0000]])
        #expect(try PNG.read(bits, name: "a.png").pixels == [255, 0, 255, 0])
        // Gamma is a matter of screens.
        let gamma = Container.png(
            width: 2, height: 1, depth: 8, colour: 0, [[100, 200]], extra: [("gAMA", [0, 0, 0xFF, 0xFF])])
        #expect(try PNG.read(gamma, name: "a.png").pixels == [100, 200])
        for (bytes, says) in [
            (Array(deep.dropLast(20)), "damaged"), (Array("GIF89a".utf8), "expected a PNG"),
            (Container.png(width: 60_000, height: 60_000, depth: 8, colour: 0, [[1]]), "5 million pixels"),
            (Container.png(width: 2, height: 9, depth: 8, colour: 0, [[1, 2]]), "damaged"),
        ] {
            let error = #expect(throws: FileError.self) { try PNG.read(bytes, name: "b.png") }
            #expect(error?.message.contains(says) == true, "\(says): \(String(describing: error))")
        }
        var flipped = indexed
        flipped[flipped.count - 20] ^= 1
        #expect(throws: FileError.self) { try PNG.read(flipped, name: "b.png") }
        // What was dropped is said once for all pictures.
        for i in 0..<3 {
            try io.write(
                "deep/\(i).png",
                Container.png(width: 2, height: 1, depth: 16, colour: 4, [[UInt8(i), 0, 0, 0, 9, 9, 1, 1]]))
        }
        let notices = try io.load("\(io.folder.path)/deep").1
        #expect(
            notices.contains { $0.contains("3 of 3 pictures have 16 bits") }
                && notices.contains { $0.contains("transparency of 3 of 3") })
    }
}

/// Sounds and texts, cut into windows.
@Suite struct SequenceLoadingTests {
    let io: Loading
    init() throws { io = try Loading() }

    private func wave(_ samples: [[UInt8]], code: Int, bits: Int, channels: Int = 1, rate: Int = 8000) -> [UInt8] {
        let little = Container.little
        let data = Array(samples.joined())
        let align = channels * bits / 8
        return Array("RIFF".utf8) + little([36 + data.count], 4) + Array("WAVEfmt ".utf8) + little([16], 4)
            + little([code, channels], 2) + little([rate, rate * align], 4) + little([align, bits], 2)
            + Array("data".utf8)
            + little([data.count], 4) + data
    }

    private func bytes<T>(_ value: T) -> [UInt8] { withUnsafeBytes(of: value) { Array($0) } }

    /// The same sound in every format that there is.
    @Test func formatsOfSounds() throws {
        let values: [Double] = [0, 0.5, -0.5, -1, 0.25, 0.75]
        func samples(_ code: Int, _ bits: Int, _ sample: (Double) -> [UInt8]) throws -> [Float] {
            try Sound.read(wav: wave(values.map(sample), code: code, bits: bits), name: "a.wav").samples
        }
        let expected = values.map(Float.init)
        #expect(try samples(1, 8) { [UInt8($0 * 128 + 128)] } == expected)
        #expect(try samples(1, 16) { bytes(Int16($0 * 0x1p15)) } == expected)
        #expect(try samples(1, 24) { Array(bytes(Int32($0 * 0x1p23))[..<3]) } == expected)
        #expect(try samples(1, 32) { bytes(Int32($0 * 0x1p31)) } == expected)
        #expect(try samples(3, 32) { bytes(Float($0)) } == expected)
        #expect(try samples(3, 64) { bytes($0) } == expected)
        // Louder than can be is cut; what is no number is refused.
        #expect(try samples(3, 32) { bytes(Float($0 * 3)) } == [0, 1, -1, -1, 0.75, 1])
        #expect(throws: FileError.self) { try samples(3, 32) { _ in bytes(Float.nan) } }
        #expect(throws: FileError.self) { try samples(1, 12) { _ in [0, 0] } }
        // Two channels are averaged.
        let stereo = wave([bytes(Int16(100)), bytes(Int16(300))], code: 1, bits: 16, channels: 2)
        #expect(try Sound.read(wav: stereo, name: "a.wav").samples == [200 / 32768])
    }

    private func tone(_ count: Int, start: Int = 0) -> [UInt8] {
        (start..<start + count).map { UInt8(128 + ($0 * 7) % 100) }
    }

    @Test func windowsOfSounds() throws {
        for i in 0..<10 {
            try io.write("s/\(i % 2)/\(i).wav", wave([tone(250, start: i * 31)], code: 1, bits: 8))
        }
        let (loaded, notices) = try io.load("\(io.folder.path)/s", as: .sequences) { $0.window = 100 }
        #expect(loaded.values == .levels(256) && loaded.examples.presentation == .sound(rate: 8000))
        #expect(
            [loaded.dataset.train, loaded.dataset.valid, loaded.dataset.test].map(\.shape) == [
                [20, 100], [2, 100], [2, 100],
            ])
        #expect(notices.contains { $0.contains("100 samples at the ends are left out") }, "\(notices)")
        // The test windows are the beginning of one of the files.
        let found = loaded.dataset.test.bytes
        #expect(
            (0..<10).contains { i in
                found == tone(200, start: i * 31).map { UInt8(Sound.muLaw((Double($0) - 128) / 128)) }
            })
        let one = "\(io.folder.path)/s/0/0.wav"
        let read = try LoadedFiles.read(one, like: loaded.examples, values: loaded.values)
        #expect(read.shape == [2, 100])
        // One file: in the order of its time.
        let single = try io.load(one) { $0.window = 20 }.0
        #expect(single.dataset.train.bytes == Array(read.bytes[..<200]))
        #expect(io.refusal(one).contains("less than one window of 4000"))
        #expect(io.refusal("\(io.folder.path)/s", as: .images).contains("holds sounds; this family takes images"))
        let other = try io.write("s/1/x.wav", wave([tone(250)], code: 1, bits: 8, rate: 16000))
        #expect(io.refusal("\(io.folder.path)/s").contains("x.wav: is at 16000 Hz, but"))
        let error = #expect(throws: FileError.self) {
            try LoadedFiles.read(other, like: loaded.examples, values: loaded.values)
        }
        #expect(error?.message.contains("expected 8000 Hz") == true)
        // Of three folders each is a part.
        let parts = try io.load(one) {
            ($0.valid, $0.test, $0.window) = ("\(io.folder.path)/s/0", one, 50)
        }.0
        #expect(parts.dataset.valid.shape == [25, 50] && parts.sources.count == 2)
    }

    /// No window is of two classes, or of two recordings with other features.
    @Test func whatIsKnownOfSounds() throws {
        let folder = "\(io.folder.path)/c"
        // A recording of class i % 3 holds that sample alone.
        for i in 0..<30 {
            let samples = [UInt8](repeating: UInt8(100 + 20 * (i % 3)), count: 130 + i)
            try io.write("c/\(["cat", "dog", "ape"][i % 3])/\(i + 10).wav", wave([samples], code: 1, bits: 8))
        }
        let codes = (0..<3).map { UInt8(Sound.muLaw(Double(100 + 20 * $0 - 128) / 128)) }
        let (loaded, notices) = try io.load(folder, as: .sequences) { ($0.window, $0.labels) = (100, "folders") }
        #expect(loaded.examples.classes == 3 && loaded.examples.classNames == ["ape", "cat", "dog"])
        #expect(notices.contains { $0.contains("0 “ape”, 1 “cat”, 2 “dog”") }, "\(notices)")
        for split in Dataset.Split.allCases {
            let part = loaded.dataset[split]
            #expect(part.labels?.count == part.count)
            for (i, label) in (part.labels ?? []).enumerated() {
                let code = codes[[2, 0, 1][Int(label)]]
                #expect(part.rows.rows(i..<i + 1).bytes.allSatisfy { $0 == code })
            }
        }
        // Recordings of one class follow one another: of 145 samples each, 24 in all make more windows than one apiece.
        #expect(loaded.dataset.train.shape[0] > 24, "\(loaded.dataset.train.shape)")
        // Features are those of each recording, sorted by name; one that is too short has no window.
        let features = (0..<30).map { "\($0).5" }
        let table = try io.write("f.csv", Array((["age"] + features).joined(separator: "\n").utf8))
        let aged = try io.load(folder) { ($0.window, $0.context) = (150, table) }.0
        #expect(aged.examples.features == 1)
        let sizes = Dataset.Split.allCases.map { aged.dataset.examples($0).shape[0] }
        #expect(sizes.reduce(0, +) == 10, "\(sizes)")
        let names = (0..<30).map { "\(["cat", "dog", "ape"][$0 % 3])/\($0 + 10)" }.sorted()
        for split in Dataset.Split.allCases {
            let part = aged.dataset[split]
            for i in 0..<part.count {
                let name = names[Int(part.features!.floats[i])]
                #expect(part.rows.rows(i..<i + 1).bytes[0] == codes[(Int(name.suffix(2))! - 10) % 3])
                #expect(Int(name.suffix(2))! >= 30)
            }
        }
        #expect(
            io.refusal(folder) { ($0.window, $0.context) = (170, table) }.contains(
                "in files shorter than one window of 170")
        )
        let short = try io.write("g.csv", Array("age\n1\n2\n".utf8))
        #expect(
            io.refusal(folder) { ($0.window, $0.context) = (100, short) }.contains(
                "holds features of 2 examples for the 30"))
        let one = "\(folder)/cat/10.wav"
        #expect(io.refusal(one) { ($0.window, $0.labels) = (10, "folders") }.contains("give a folder of several"))
    }

    @Test func windowsOfTexts() throws {
        let text = Array(String(repeating: "Ein Gespräch über Bäume.\n", count: 100).utf8)
        let path = try io.write("a.txt", text)
        let (loaded, notices) = try io.load(path, as: .sequences) { $0.window = 40 }
        guard case .text(let alphabet)? = loaded.examples.presentation else {
            Issue.record("\(loaded.examples)"); return
        }
        #expect(alphabet == Alphabet(of: text) && loaded.values == .levels(alphabet.count))
        func decoded(_ array: HostArray) -> [UInt8] { alphabet.decode(array.bytes.map { Int($0) }) }
        let count = text.count
        let (held, train) = (Int((Double(count) * 0.1).rounded()), loaded.dataset.train.count)
        #expect(decoded(loaded.dataset.train) == Array(text[..<train]) && train > count * 8 / 10 - 40)
        #expect(decoded(loaded.dataset.test) == Array(text[(count - held)...].prefix(loaded.dataset.test.count)))
        #expect(notices.contains { $0.contains("those of the whole text") }, "\(notices)")
        let read = try LoadedFiles.read(path, like: loaded.examples, values: loaded.values)
        #expect(read.shape == [count / 40, 40])
        let foreign = try io.write("b.txt", Array("Ein Gespräch\nüber Bäume # ".utf8) + text)
        let error = #expect(throws: FileError.self) {
            try LoadedFiles.read(foreign, like: loaded.examples, values: loaded.values)
        }
        #expect(error?.message.contains("line 2, byte 27 of the text is “#”") == true, "\(String(describing: error))")
        // A folder is split by its files; files of other parts may not hold what training lacks.
        for i in 0..<10 { try io.write("t/\(i).txt", "\(i)" + String(repeating: "abcab", count: 10)) }
        let folder = try io.load("\(io.folder.path)/t") { $0.window = 10 }.0
        #expect(folder.dataset.train.shape == [40, 10] && folder.values == .levels(13))
        let refusal = io.refusal("\(io.folder.path)/t") { ($0.valid, $0.test, $0.window) = (path, path, 10) }
        #expect(refusal.hasPrefix(path) && refusal.contains("does not occur in the training text"), "\(refusal)")
        #expect(io.refusal(try io.write("u.txt", [0xFF, 0xFE, 65, 0])).contains("UTF-16"))
        for i in 0..<20 {
            try io.write("v/\(["x", "y"][i % 2])/\(i).txt", String(repeating: ["ab", "cd"][i % 2], count: 21))
        }
        let spoken = try io.load("\(io.folder.path)/v") { ($0.window, $0.labels) = (20, "folders") }.0
        let part = spoken.dataset[.train]
        #expect(spoken.examples.classNames == ["x", "y"] && part.count >= 32)
        for (i, label) in part.labels!.enumerated() {
            #expect(part.rows.rows(i..<i + 1).bytes.allSatisfy { Int32($0) / 2 == label })
        }
        // Rows of numbers are a table.
        #expect(try io.load(io.write("n.txt", lines(30) { "\($0).5 \($0 * $0).25" })).0.values == .real)
        try Files.makeFolder("\(io.folder.path)/empty")
        #expect(io.refusal("\(io.folder.path)/empty").contains("holds no .png, .wav or .txt"))
    }
}

@Suite(.enabled(if: sharedData != nil)) struct RealSequenceTests {
    @Test func spokenDigits() throws {
        let io = try Loading()
        let loaded = try io.load("\(sharedData!)/fsdd/fsdd_recordings.tar.xz", as: .sequences).0
        #expect(loaded.examples.presentation == .sound(rate: 8000) && loaded.examples.count == 4000)
        let seconds = Dataset.Split.allCases.reduce(0) { $0 + loaded.dataset.examples($1).count } / 8000
        #expect(seconds > 1200 && seconds < 1320, "\(seconds)")
    }

    @Test func shakespeare() throws {
        let io = try Loading()
        let loaded = try io.load("\(sharedData!)/tiny_shakespeare/input.txt", as: .sequences).0
        #expect(loaded.values == .levels(65) && loaded.dataset.train.shape == [1784, 500])
    }
}
