import CZip
import Graph
import Testing

@testable import Datasets

#if canImport(Glibc)
    import Glibc
#endif

/// A folder that is removed at the end.
final class TemporaryFolder {
    let path: String
    init() throws {
        var template = Array("/tmp/martlet-test-XXXXXX".utf8CString)
        path = String(cString: try #require(mkdtemp(&template)))
    }
    deinit { _ = system("rm -rf \(path)") }
}

@Suite struct ReaderTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private var arrays: [HostArray] {
        [
            HostArray([1, -2.5, 3e-8, 4, 5, .infinity] as [Float], shape: [2, 3]), HostArray([1, 2, 3] as [Double]),
            HostArray([1, -7] as [Int32], shape: [2, 1]), HostArray([0, 255, 7, 9] as [UInt8], shape: [2, 2]),
            HostArray([true, false, true]), HostArray([3] as [Float], shape: []),
        ]
    }

    @Test func npyRoundTrip() throws {
        for (i, array) in arrays.enumerated() {
            let path = "\(folder.path)/\(i).npy"
            try NumPy.write(array, npy: path)
            #expect(try NumPy.read(npy: path) == array)
        }
    }

    @Test func safetensorsRoundTrip() throws {
        let path = "\(folder.path)/a.safetensors"
        let named = arrays.enumerated().map { (name: "layers.\($0).weight", array: $1) }
        try SafeTensors.write(named, metadata: ["step": "7"], to: path)
        let (found, metadata) = try SafeTensors.read(path)
        #expect(metadata == ["step": "7"])
        for (name, array) in named { #expect(found[name] == array) }
    }

    /// Every prefix and many single-byte changes of a good file are read or refused, never more.
    @Test func damagedFilesAreRefused() throws {
        let path = "\(folder.path)/good.safetensors"
        try SafeTensors.write([(name: "w", array: arrays[0]), (name: "b", array: arrays[2])], to: path)
        try NumPy.write(arrays[0], npy: "\(folder.path)/good.npy")
        for (file, read) in [
            (path, { _ = try SafeTensors.read($0) }), ("\(folder.path)/good.npy", { _ = try NumPy.read(npy: $0) }),
        ] as [(String, (String) throws -> Void)] {
            let good = try Files.read(file)
            let damaged = "\(folder.path)/damaged"
            for length in 0..<good.count {
                try Files.write(good[..<length], to: damaged)
                #expect(throws: FileError.self) { try read(damaged) }
            }
            let random = HostRandom(seed: 1, stream: "damage")
            for trial in 0..<400 {
                var bytes = good
                bytes[Int(random.bits(example: trial)) % min(bytes.count, 200)] = UInt8(
                    truncatingIfNeeded: random.bits(example: trial, variable: 1))
                try Files.write(bytes, to: damaged)
                do { try read(damaged) } catch { #expect(error is FileError, "\(error)") }
            }
        }
    }

    /// Weights of half the precision are read as float32, and whole numbers as int32, as PyTorch's counts of batches are.
    @Test func tensorsOfOtherTypes() throws {
        let path = "\(folder.path)/a.safetensors"
        func read(_ type: String, _ bytes: [UInt8], width: Int) throws -> HostArray? {
            let header =
                #"{"w":{"dtype":"\#(type)","shape":[\#(bytes.count / width)],"data_offsets":[0,\#(bytes.count)]}}"#
            let length = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
            try Files.write(length + Array(header.utf8) + bytes, to: path)
            return try SafeTensors.read(path).arrays["w"]
        }
        #expect(try read("F16", [0, 0x3C, 0, 0xC1], width: 2) == HostArray([1, -2.5] as [Float]))
        #expect(try read("BF16", [0x80, 0x3F, 0x20, 0xC0], width: 2) == HostArray([1, -2.5] as [Float]))
        #expect(try read("I64", [7, 0, 0, 0, 0, 0, 0, 0], width: 8) == HostArray([7] as [Int32]))
        #expect(try read("I16", [255, 255], width: 2) == HostArray([-1] as [Int32]))
        #expect(try read("U8", [], width: 1) == HostArray([] as [UInt8]))
        for (type, width) in [("F8_E4M3", 1), ("C64", 8), ("f32", 4)] {
            let error = #expect(throws: FileError.self) {
                try read(type, [UInt8](repeating: 0, count: width), width: width)
            }
            #expect(error?.message.contains(type) == true)
        }
    }

    @Test func adversarialHeadersAreRefused() throws {
        let path = "\(folder.path)/bad.safetensors"
        for header in [
            #"{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#,
            #"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"v":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            #"{"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#,
            #"{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
            #"{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, #"[]"#, #"{"w":3}"#,
            #"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]},"\u0077":{"dtype":"F32","shape":[0],"data_offsets":[12,12]}}"#,
            #"{"w":{"dtype":"F32","dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#,
            #"{"w":{"dtype":"F32","shape":[3.0],"data_offsets":[0,12]}}"#,
            #"{"__metadata__":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#,
            #"{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}} {}"#,
        ] {
            let length = (0..<8).map { UInt8(truncatingIfNeeded: header.utf8.count >> (8 * $0)) }
            try Files.write(length + Array(header.utf8) + [UInt8](repeating: 0, count: 12), to: path)
            #expect(throws: FileError.self, "\(header)") { try SafeTensors.read(path) }
        }
        let npy = "\(folder.path)/bad.npy"
        for header in [
            "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 2), }",
            "{'descr': '<u8', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (2,), }", "{}",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': [2], }",
            "{'descr': '<f4', 'fortran_order': False, 'fortran_order': False, 'shape': (2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), } x",
            "{'descr': '<f4' 'fortran_order': False, 'shape': (2,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (True,), }",
            "{'descr': ['<f4'], 'fortran_order': False, 'shape': (2,), }",
            String(repeating: "(", count: 200),
        ] {
            try Files.write(npyFile(header, [UInt8](repeating: 255, count: 8)), to: npy)
            #expect(throws: FileError.self, "\(header)") { try NumPy.read(npy: npy) }
        }
    }

    private func npyFile(_ header: String, _ body: [UInt8]) -> [UInt8] {
        [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, UInt8(header.utf8.count), 0] + Array(header.utf8) + body
    }

    /// Columns first, half precision, and integers of other widths than ours.
    @Test func otherNumPyArrays() throws {
        let path = "\(folder.path)/a.npy"
        func read(_ descriptor: String, _ shape: String, fortran: Bool = false, _ body: [UInt8]) throws -> HostArray {
            let header =
                "{'descr': '\(descriptor)', 'fortran_order': \(fortran ? "True" : "False"), 'shape': \(shape), }"
            try Files.write(npyFile(header, body), to: path)
            return try NumPy.read(npy: path)
        }
        let columns = try read("<i2", "(2, 3)", fortran: true, [1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 255, 255])
        #expect(columns == HostArray([1, 2, 3, 4, 5, -1] as [Int32], shape: [2, 3]))
        let cube = try read("|u1", "(2, 2, 2)", fortran: true, [0, 4, 2, 6, 1, 5, 3, 7])
        #expect(cube == HostArray((0..<8).map { UInt8($0) }, shape: [2, 2, 2]))
        let halves = try read("<f2", "(6,)", [0, 0x3C, 0, 0xC1, 0xFF, 0x7B, 1, 0, 0, 0xFC, 0, 0x80])
        #expect(halves == HostArray([1, -2.5, 65504, 0x1p-24, -.infinity, -0.0] as [Float]))
        #expect(try read("<u4", "(1,)", [9, 0, 0, 0]) == HostArray([9] as [Int32]))
        #expect(try read("<u8", "(1,)", [9, 0, 0, 0, 0, 0, 0, 0]) == HostArray([9] as [Int32]))
        #expect(try read("<i8", "(1,)", [UInt8](repeating: 255, count: 8)) == HostArray([-1] as [Int32]))
        // Python 2 wrote long integers so; a type without an order, or with that of the machine, is our own.
        #expect(try read("f4", "(1L,)", [0, 0, 128, 63]) == HostArray([1] as [Float]))
        #expect(try read("=f4", "( 1 , )", [0, 0, 128, 63]) == HostArray([1] as [Float]))
    }

    /// No more is read than a header promises.
    @Test func bytesBehindThePromisedOnes() throws {
        let path = "\(folder.path)/long.idx"
        try Files.write([0, 0, 8, 1, 0, 0, 0, 2, 7, 8] as [UInt8], to: path)
        #expect(try IDX.read(path) == HostArray([7, 8] as [UInt8]))
        try Files.write([0, 0, 8, 1, 0, 0, 0, 2] + [UInt8](repeating: 0, count: 3 << 20), to: path)
        let error = #expect(throws: FileError.self) { try IDX.read(path) }
        #expect(error?.message.contains("says [2], 2 bytes in all, but 3145728 follow") == true)
        // Of a compressed one it is not known beforehand how many there are.
        let compressed = path + ".gz"
        let file = try #require(gzopen(compressed, "wb"))
        gzwrite(file, [0, 0, 8, 1, 0, 0, 0, 2, 7, 8, 9] as [UInt8], 11)
        gzclose(file)
        let late = #expect(throws: FileError.self) { try IDX.read(compressed) }
        #expect(late?.message.contains("promises 10 bytes") == true)
    }

    @Test func csvNamesTheCell() throws {
        let path = "\(folder.path)/a.csv"
        try Files.write(Array("x,y\n1,2\n3,nope\n".utf8), to: path)
        let error = #expect(throws: FileError.self) { try CSV.read(path) }
        #expect(error?.message.contains("line 3, column 2") == true)
        try Files.write(Array("x,y\n1,2\n3,4.5\n\n".utf8), to: path)
        #expect(try CSV.read(path) == HostArray([1, 2, 3, 4.5] as [Float], shape: [2, 2]))
        // As spreadsheets write it.
        try Files.write(Array("\u{FEFF}\"1\",2\r\n3, \"4.5\"\r\n".utf8), to: path)
        #expect(try CSV.read(path) == HostArray([1, 2, 3, 4.5] as [Float], shape: [2, 2]))
        for (broken, says) in [
            ("1,2 3\n", "line 1, column 2"), ("1,2\u{0}3\n", "line 1, column 2"),
            ("x\n1\n1e40\n", "line 3, column 1: 1e40"),
            ("a,b\n1,2,3\n", "line 2: expected 2 columns as the first line names, found 3"),
            ("1,2\n3\n", "line 2: expected 2 columns, found 1"),
            ("1,\"2\n3,4\n", "line 1, column 2: its quotation mark"),
            ("1,\"2\"3\n", "line 1, column 2"), ("1 2\n3\n", "line 1, column 1"), ("1\t2\n3\n", "not tabs"),
            ("1,2\n,\n", "line 2, column 1"), ("a,b\n", "holds no numbers"), ("\n\n", "holds no numbers"),
            ("\u{FEFF}", "holds no numbers"), ("1,NA\n", "line 1, column 2"), (",0,1\n0,5,6\n", "line 1, column 1"),
        ] {
            try Files.write(Array(broken.utf8), to: path)
            let error = #expect(throws: FileError.self, "\(broken)") { try CSV.read(path) }
            #expect(error?.message.contains(says) == true, "\(broken): \(String(describing: error))")
        }
        // Names in quotation marks may hold commas; old line ends, and a last line without one.
        try Files.write(Array("\"a, in \"\"m\"\"\",b\r1,2\r3,-4e1".utf8), to: path)
        #expect(try CSV.read(path) == HostArray([1, 2, 3, -40] as [Float], shape: [2, 2]))
    }

    /// Tar's two ways of writing a path of any length: GNU's entry of type L, pax's record.
    @Test func longNamesInArchives() throws {
        let long = String(repeating: "folder/", count: 20) + "7_a_1.wav"
        let record = { (count: Int) in "\(count) path=\(long)\n" }
        let pax = "11 mtime=1\n" + record(record(100).utf8.count)
        let archives = [
            entry("././@LongLink", Array(long.utf8) + [0], type: "L") + entry(String(long.prefix(100)), [1, 2]),
            entry("PaxHeaders/x", Array(pax.utf8), type: "x") + entry(String(long.prefix(100)), [1, 2]),
        ]
        for archive in archives {
            let path = try write(archive + entry("short.wav", [3]))
            let files = try Archive.files(path, suffix: ".wav")
            #expect(files.map(\.name) == [long, "short.wav"])
            #expect(files.map(\.bytes) == [[1, 2], [3]])
        }
    }

    /// A recording that is only a link, or has holes, is not left out in silence.
    @Test func archivesOfLinksAreRefused() throws {
        for type in ["1", "2", "S"] as [Character] {
            let path = try write(entry("a.wav", [1]) + entry("b.wav", [], type: type))
            let error = #expect(throws: FileError.self) { try Archive.files(path, suffix: ".wav") }
            #expect(error?.message.contains("“b.wav”") == true)
        }
    }

    @Test func compressedFilesOfSeveralStreams() throws {
        let bytes: [UInt8] = [
            253, 55, 122, 88, 90, 0, 0, 4, 230, 214, 180, 70, 2, 0, 33, 1, 12, 0, 0, 0, 143, 152, 65, 156, 1,
            0, 3, 111, 110, 101, 32, 0, 90, 140, 131, 163, 49, 53, 239, 126, 0, 1, 28, 4, 111, 44, 156, 193,
            31, 182, 243, 125, 1, 0, 0, 0, 0, 4, 89, 90, 253, 55, 122, 88, 90, 0, 0, 4, 230, 214, 180, 70, 2,
            0, 33, 1, 12, 0, 0, 0, 143, 152, 65, 156, 1, 0, 2, 116, 119, 111, 0, 0, 93, 211, 121, 41, 117, 40,
            82, 3, 0, 1, 27, 3, 11, 47, 185, 16, 31, 182, 243, 125, 1, 0, 0, 0, 0, 4, 89, 90,
        ]
        let stream = try ByteStream(xz: ByteStream(bytes, name: "a.xz"))
        #expect(try stream.read(upTo: 100) == Array("one two".utf8))
    }

    private func write(_ archive: [UInt8]) throws -> String {
        try Files.write(archive + [UInt8](repeating: 0, count: 1024), to: folder.path + "/a.tar")
        return folder.path + "/a.tar"
    }

    /// A file of a tar archive with its header.
    private func entry(_ name: String, _ content: [UInt8], type: Character = "0") -> [UInt8] {
        func octal(_ value: Int, _ length: Int) -> [UInt8] {
            let digits = String(value, radix: 8)
            return Array((String(repeating: "0", count: length - 1 - digits.count) + digits).utf8) + [0]
        }
        var header = Array(name.utf8) + [UInt8](repeating: 0, count: 512 - name.utf8.count)
        header.replaceSubrange(124..<136, with: octal(content.count, 12))
        header.replaceSubrange(148..<156, with: [UInt8](repeating: 32, count: 8))
        header[156] = type.asciiValue!
        header.replaceSubrange(148..<155, with: octal(header.reduce(0) { $0 + Int($1) }, 7))
        return header + content + [UInt8](repeating: 0, count: (512 - content.count % 512) % 512)
    }

    @Test func missingFilesSaySo() {
        #expect(throws: FileError.self) { try NumPy.read(npz: "/nowhere/a.npz") }
        #expect(throws: FileError.self) { try IDX.read("/nowhere/a.gz") }
        #expect(throws: FileError.self) { try Files.write([1], to: "/proc/nowhere/x") }
        let rows = HostArray([1, 0] as [UInt8], shape: [1, 2])
        let error = #expect(throws: FileError.self) {
            try Dataset(name: "a", train: rows.rows(0..<0), valid: rows, test: rows)
        }
        #expect(error?.message.contains("one example or more") == true)
    }
}

@Suite struct GlyphsTests {
    /// The mean log-likelihood of the generator's own images is its negative entropy: the exact likelihood of flips given the
    /// template, plus the uniform choice, bound it from both sides.
    @Test func likelihoodIsTheGeneratorsOwn() {
        let glyphs = Glyphs(seed: 3)
        let images = glyphs.draw(.test, count: 2000)
        let total: Double = glyphs.logProbability(images).reduce(0) { $0 + $1 }
        let mean = total * 0.0005
        let f = Glyphs.flipProbability
        let flips = Double(Glyphs.pixelCount) * (f * Math.log(f) + (1 - f) * Math.log(1 - f))
        #expect(mean < flips + 0.2 && mean > flips - Math.log(640) - 0.2)
        // Image i is the same for any count.
        #expect(glyphs.draw(.test, start: 5, count: 3) == images.rows(5..<8))
    }

    /// On a narrow likelihood the sum over all images cannot be taken, so its ratio to a direct count is checked instead: the
    /// probability of one template's exact image.
    @Test func everyTemplateIsDrawn() {
        let glyphs = Glyphs(seed: 4)
        let images = glyphs.draw(.train, count: 4000)
        var distinct = Set<[UInt8]>()
        for i in 0..<4000 { distinct.insert(Array(images.bytes[i * Glyphs.pixelCount..<(i + 1) * Glyphs.pixelCount])) }
        #expect(distinct.count > 2000)
    }

    @Test func shufflesAreFair() {
        let random = HostRandom(seed: 1, stream: "shuffle")
        var first = [Int](repeating: 0, count: 10)
        for step in 0..<5000 { first[random.permutation(10, step: step)[0]] += 1 }
        #expect(first.allSatisfy { $0 > 400 && $0 < 600 })
        #expect(random.permutation(100, step: 3).sorted() == Array(0..<100))
    }
}
