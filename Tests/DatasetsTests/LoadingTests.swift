import CZip
import Distributions
import Graph
import Likelihood
import Testing

@testable import Datasets
@testable import fuzz_readers

#if canImport(Glibc)
    import Glibc
#endif

/// Arrays, and how they are split.
@Suite struct ArrayLoadingTests {
    let io: Loading
    init() throws { io = try Loading() }

    private func bytes(_ shape: [Int], most: Int = 255) -> HostArray {
        HostArray((0..<shape.reduce(1, *)).map { UInt8(($0 * 7 + $0 / 5) % (most + 1)) }, shape: shape)
    }

    @Test func arraysOfArchives() throws {
        let (train, valid, test) = (bytes([6, 4], most: 1), bytes([3, 4], most: 1), bytes([2, 4], most: 1))
        let path = try io.write("a.npz", [("train", train), ("valid", valid), ("test", test), ("other", bytes([1]))])
        let loaded = try io.load(path).0
        #expect(loaded.dataset.train == train && loaded.dataset.valid == valid && loaded.dataset.test == test)
        #expect(loaded.values == .binary && loaded.rows == nil && loaded.sources.count == 1)
        // One array by its name, or alone.
        #expect(try io.load("\(path):train").0.rows?.values.map(\.count).reduce(0, +) == 6)
        let alone = try io.write("b.npz", [("x", bytes([20, 4], most: 1))])
        #expect(try io.load(alone).0.dataset.train.shape == [16, 4])
        let two = try io.write("c.npz", [("x", train), ("y", train)])
        #expect(io.refusal(two).contains("found x, y; name one as \(two):x"))
        #expect(io.refusal("\(two):z").contains("has no array “z”; it has x, y"))
        #expect(
            io.refusal(try io.write("d.npz", [("train", train), ("test", test)])).contains(
                "expected the arrays train, valid and test"))
    }

    /// A value that only the test set holds makes the model one of more values, which is said.
    @Test func valuesThatTrainingDoesNotHave() throws {
        let (few, many) = (bytes([30, 4], most: 3), HostArray((0..<120).map { UInt8($0 % 6) }, shape: [30, 4]))
        let path = try io.write("a.npz", [("train", few), ("valid", few), ("test", many)])
        let (loaded, notices) = try io.load(path)
        #expect(loaded.values == .levels(6))
        #expect(notices.contains { $0.contains("has none above 3, others up to 5") }, "\(notices)")
        let alike = try io.load(io.write("b.npz", [("train", many), ("valid", few), ("test", few)])).1
        #expect(!alike.contains { $0.contains("none above") }, "\(alike)")
    }

    @Test func labelsAndFeaturesOfArchives() throws {
        let x = bytes([40, 3], most: 9)
        let labels = HostArray((0..<40).map { Int32($0 % 4) })
        let context = HostArray((0..<80).map(Float.init), shape: [40, 2])
        let path = try io.write("a.npz", [("x", x), ("labels", labels), ("context", context)])
        let (loaded, _) = try io.load(path) { ($0.labels, $0.context) = ("labels", "context") }
        #expect(loaded.examples.classes == 4 && loaded.examples.features == 2)
        for split in Dataset.Split.allCases {
            let examples = loaded.dataset[split]
            for (i, row) in loaded.rows![split]!.enumerated() {
                #expect(examples.rows.rows(i..<i + 1) == x.rows(row..<row + 1))
                #expect(examples.labels?[i] == Int32(row % 4))
                #expect(examples.features?.rows(i..<i + 1).floats == [Float(2 * row), Float(2 * row + 1)])
            }
        }
        // Not asked for, they are not used; then there is not one array alone.
        #expect(io.refusal(path).contains("expected the arrays"))
        let parts = try io.write(
            "b.npz",
            [
                ("train", x), ("valid", x), ("test", x), ("train_labels", labels), ("valid_labels", labels),
                ("test_labels", labels),
            ])
        #expect(try io.load(parts) { $0.labels = "labels" }.0.dataset.labels?.test.count == 40)
        #expect(try io.load(parts).0.dataset.labels == nil)
        // Files beside an array.
        let npy = try io.write("x.npy", x)
        let names = try io.write("l.csv", "name\n" + lines(40) { ["cat", "ant"][$0 % 2] })
        let named = try io.load(npy) { $0.labels = names }.0
        #expect(named.dataset.labels?.classes == 2)
        #expect(named.dataset.labels?.train == named.rows?[.train]?.map { Int32(1 - $0 % 2) })
        #expect(io.refusal(npy) { $0.labels = "a,b,c" }.contains("expected one file"))
        let short = try io.write("s.npy", HostArray([0, 1] as [Int32]))
        #expect(io.refusal(npy) { $0.labels = short }.contains("holds 2 labels for the 40 examples"))
        let negative = try io.write("n.npy", HostArray((0..<40).map { Int32($0 - 1) }))
        #expect(io.refusal(npy) { $0.labels = negative }.contains("label 0 is -1.0"))
        #expect(io.refusal(npy) { $0.context = short }.contains("features of 2 examples for the 40"))
    }

    @Test func layouts() throws {
        func load(_ shape: [Int], as wanted: ExampleKind? = nil, _ layout: String = "") throws -> ExampleShape {
            try io.load(io.write("a.npy", bytes(shape)), as: wanted) { $0.layout = layout }.0.examples
        }
        func refusal(_ shape: [Int], as wanted: ExampleKind? = nil, _ layout: String = "") throws -> String {
            io.refusal(try io.write("a.npy", bytes(shape)), as: wanted) { $0.layout = layout }
        }
        #expect(try load([30, 6]).dimensions == [6])
        #expect(try load([30]).dimensions == [1])
        #expect(try load([30, 4, 5]).dimensions == [1, 4, 5])
        #expect(try load([30, 4, 5, 3]).dimensions == [3, 4, 5])
        #expect(try load([30, 3, 4, 5]).dimensions == [3, 4, 5])
        #expect(try load([30, 1, 4, 5]).dimensions == [1, 4, 5])
        let video = try load([30, 3, 4, 5], as: .videos)
        #expect(video.dimensions == [3, 4, 5] && video.presentation == .video)
        #expect(try load([30, 3, 4, 3], "hwc").dimensions == [3, 3, 4])
        #expect(try load([30, 3, 4, 3], "chw").dimensions == [3, 4, 3])
        #expect(try load([30, 7, 4, 5], "video").presentation == .video)
        #expect(try load([30, 7, 4, 5], "vectors").dimensions == [140])
        #expect(try load([30, 16], as: .images, "hw").dimensions == [1, 4, 4])
        for (shape, wanted, says) in [
            ([30, 3, 4, 3], nil, "--set layout=hwc, chw, video or vectors"),
            ([30, 7, 4, 5], .images, "--set layout=hwc, chw, video"),
            ([30, 6], .images, "takes images"), ([30, 16], .images, "--set layout=hw"),
            ([30, 4, 5], .sequences, "takes sequences"),
            ([30, 4, 5], .videos, "takes videos"), ([5, 2, 2, 2, 2], nil, "layout=vectors"),
            ([0, 4], nil, "one example or more"),
        ] as [([Int], ExampleKind?, String)] {
            let found = try refusal(shape, as: wanted)
            #expect(found.contains(says), "\(shape): \(found)")
        }
        #expect(try refusal([30, 6], as: .images, "hw").contains("no square"))
        #expect(try refusal([30, 6], "hwc").contains("cannot be of layout hwc"))
    }

    private func load(_ shape: [Int], _ layout: String) throws -> ExampleShape {
        try io.load(io.write("a.npy", bytes(shape))) { $0.layout = layout }.0.examples
    }

    private func refusal(_ shape: [Int], _ layout: String) throws -> String {
        io.refusal(try io.write("a.npy", bytes(shape))) { $0.layout = layout }
    }

    @Test func channelsMoveToTheFront() throws {
        let images = bytes([30, 4, 5, 3])
        let loaded = try io.load(io.write("a.npy", images)).0
        let rows = try #require(loaded.rows?[.train])
        for (i, row) in rows.enumerated() {
            let (found, expected) = (loaded.dataset.train.rows(i..<i + 1).bytes, images.rows(row..<row + 1).bytes)
            for c in 0..<3 { for p in 0..<20 { #expect(found[c * 20 + p] == expected[p * 3 + c]) } }
        }
        // An input of either order, or of one image.
        let path = try io.write("b.npy", images.rows(rows))
        let read = try LoadedFiles.read(path, like: loaded.examples, values: loaded.values)
        #expect(read == loaded.dataset.train)
        let one = try io.write("c.npy", HostArray(loaded.dataset.train.rows(0..<1).bytes, shape: [3, 4, 5]))
        #expect(try LoadedFiles.read(one, like: loaded.examples, values: loaded.values) == read.rows(0..<1))
        let other = try io.write("d.npy", bytes([2, 5, 4, 3]))
        #expect(throws: FileError.self) { try LoadedFiles.read(other, like: loaded.examples, values: loaded.values) }
    }

    @Test func domainsOfArrays() throws {
        func values(_ array: HostArray) throws -> VariableDomain { try io.load(io.write("a.npy", array)).0.values }
        func whole(_ most: Int, shape: [Int] = [50, 4]) -> HostArray {
            HostArray((0..<200).map { Int32($0 == 7 ? most : $0 % (most + 1)) }, shape: shape)
        }
        #expect(try values(bytes([50, 4], most: 1)) == .binary)
        #expect(try values(HostArray((0..<200).map { Double($0 % 2) }, shape: [50, 4])) == .binary)
        #expect(try values(whole(5)) == .levels(6))
        #expect(try values(whole(16)) == .levels(17))
        #expect(try values(whole(100)) == .levels(256))
        #expect(try values(whole(300)) == .levels(301))
        #expect(try values(whole(70000)) == .real)
        // Dark images are of bytes; four kinds of something are not.
        #expect(try values(bytes([50, 2, 2], most: 5)) == .levels(256))
        #expect(try values(bytes([50, 4], most: 6)) == .levels(7))
        let negative = HostArray((0..<200).map { Int32($0 - 3) }, shape: [50, 4])
        #expect(try values(negative) == .real)
        let real = HostArray((0..<200).map { Double($0) / 8 }, shape: [50, 4])
        let loaded = try io.load(io.write("a.npy", real)).0
        #expect(loaded.values == .real && loaded.dataset.train.type == .float32)
        let column = try #require(loaded.examples.columns?[2])
        let rows = loaded.rows![.train]!.map { Double(4 * $0 + 2) / 8 }
        let mean = rows.reduce(0, +) / Double(rows.count)
        let variance = rows.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(rows.count)
        #expect(abs(column.scaling.mean - mean) < 1e-9 && abs(column.scaling.deviation - variance.squareRoot()) < 1e-9)
        #expect(column.name.isEmpty && loaded.examples.isPossible)
    }

    @Test func valuesThatAreRefused() throws {
        func refusal(_ values: [Float], shape: [Int]? = nil, _ set: (inout DataFiles) -> Void = { _ in }) throws
            -> String
        {
            io.refusal(try io.write("a.npy", HostArray(values, shape: shape ?? [values.count / 2, 2])), set)
        }
        var values = (0..<40).map { Float($0) + 0.5 }
        values[7] = .nan
        #expect(try refusal(values).contains("example 3, variable 1 is not known"))
        let loaded = try io.load(io.folder.path + "/a.npy") { $0.missing = "marginalize" }.0
        #expect(loaded.values == .real && loaded.examples.columns!.allSatisfy { $0.scaling.mean.isFinite })
        values[7] = .infinity
        #expect(try refusal(values) { $0.missing = "marginalize" }.contains("is infinite"))
        #expect(try refusal([Float](repeating: 3, count: 40)).contains("one value alone"))
        // A constant column of vectors is refused; a constant pixel is not.
        let constant = (0..<80).map { $0 % 4 == 1 ? 5 : Float($0) / 3 }
        #expect(try refusal(constant, shape: [20, 4]).contains("column 2 holds 5.0 alone"))
        let image = try io.load(io.write("b.npy", HostArray(constant, shape: [20, 2, 2]))).0
        #expect(image.examples.columns?[1].scaling.deviation == 1)
    }

    // MARK: splits

    @Test func splitsAreOfTheSeed() throws {
        let path = try io.write("a.npy", HostArray((0..<2000).map { Float($0) * 1.5 }, shape: [1000, 2]))
        let first = try io.load(path, seed: 7).0
        let again = try io.load(path, seed: 7).0
        let other = try io.load(path, seed: 8).0
        #expect(first.rows == again.rows && first.dataset.train == again.dataset.train && first.rows != other.rows)
        let rows = Dataset.Split.allCases.map { first.rows![$0]! }
        #expect(rows.map(\.count) == [800, 100, 100] && rows.allSatisfy { $0 == $0.sorted() })
        #expect(rows.joined().sorted() == Array(0..<1000))
        for (split, rows) in zip(Dataset.Split.allCases, rows) {
            let expected: [Float] = rows.flatMap { (row: Int) -> [Float] in [Float(3 * row), Float(3 * row) + 1.5] }
            #expect(first.dataset.examples(split).floats == expected)
        }
        let halves = try io.load(path) { $0.split = "50/25/25" }.0
        #expect(halves.dataset.valid.shape == [250, 2])
        for split in ["80/20", "80/10/20", "100/0/0", "a/b/c", ""] {
            #expect(io.refusal(path) { $0.split = split }.contains("expected percent"), "\(split)")
        }
        #expect(io.refusal(path) { $0.valid = path }.contains("--valid and --test go together"))
        #expect(io.refusal(path) { $0.test = path }.contains("--valid and --test go together"))
        #expect(io.refusal("").contains("--train"))
        #expect(io.refusal(path) { $0.missing = "guess" }.contains("expected refuse or marginalize"))
        #expect(io.refusal(path) { $0.layout = "wide" }.contains("expected vectors"))
        #expect(io.refusal(path) { $0.weightsColumn = "w" }.contains("only rows of a table"))
        #expect(io.refusal("/nowhere/a.npy").contains("is not there"))
        #expect(io.refusal(try io.write("a.xyz", "a")).contains("expected .npy"))
    }

    /// Copies of an example go to one part, unless there is little else.
    @Test func copiesStayTogether() throws {
        // 100 rows thrice and 300 alone.
        let values = (0..<600).map { Float($0 < 300 ? $0 % 100 : $0) + 0.5 }
        let path = try io.write("a.npy", HostArray(values, shape: [600, 1]))
        for seed in 0..<5 {
            let (loaded, notices) = try io.load(path, seed: UInt64(seed))
            let parts = Dataset.Split.allCases.map { Set(loaded.dataset.examples($0).floats) }
            #expect(
                parts[0].isDisjoint(with: parts[1]) && parts[0].isDisjoint(with: parts[2])
                    && parts[1].isDisjoint(with: parts[2]))
            #expect(Dataset.Split.allCases.map { loaded.dataset.examples($0).shape[0] } == [480, 60, 60])
            #expect(notices.contains { $0.contains("100 examples stand more than once, 300 in all") }, "\(notices)")
        }
        // With other labels they are no copies.
        let labels = try io.write("l.npy", HostArray((0..<600).map { Int32($0 < 300 ? $0 / 100 : 0) }))
        let notices = try io.load(path) { $0.labels = labels }.1
        #expect(!notices.contains { $0.contains("more than once") }, "\(notices)")
        let few = try io.write("b.npy", HostArray((0..<600).map { UInt8($0 % 8) }, shape: [600, 1]))
        let (loaded, said) = try io.load(few)
        #expect(loaded.dataset.test.shape[0] == 60 && said.contains { $0.contains("only 8 differ") }, "\(said)")
    }

    @Test func sourcesNameTheirBytes() throws {
        let path = try io.write("a.npy", bytes([20, 4]))
        let labels = try io.write("l.csv", lines(20) { "\($0 % 2)" })
        let sources = try io.load(path) { $0.labels = labels }.0.sources
        #expect(sources.map(\.path) == [path, labels])
        for source in sources {
            let content = try Files.read(source.path)
            #expect(source.bytes == content.count && source.checksum == crc(content))
        }
        let idx = try io.write("a.idx.gz", Container.gzip([0, 0, 8, 2, 0, 0, 0, 9, 0, 0, 0, 1] + (0..<9)))
        #expect(try io.load(idx).0.sources[0].checksum == crc(Files.read(idx)))
    }

    /// Bit by bit, of the reflected polynomial of ECMA-182.
    private func crc(_ bytes: [UInt8]) -> String {
        var sum = ~UInt64(0)
        for byte in bytes {
            sum ^= UInt64(byte)
            for _ in 0..<8 { sum = sum & 1 == 1 ? sum >> 1 ^ 0xC96C_5795_D787_0F42 : sum >> 1 }
        }
        let text = String(~sum, radix: 16)
        return String(repeating: "0", count: 16 - text.count) + text
    }

    /// A large file lies in memory once, split or not.
    @Test(
        .enabled(if: dlsym(nil, "__tsan_init") == nil, "the thread sanitizer's own memory would count"),
        arguments: ["|u1", "<f4", "<f8"])
    func largeArraysTakeTheirSize(_ type: String) throws {
        let width = ["|u1": 1, "<f4": 4, "<f8": 8][type]!
        let (rows, columns) = (1 << 12, (1 << 15) / width)
        let header = "{'descr': '\(type)', 'fortran_order': False, 'shape': (\(rows), \(columns)), }"
        let front: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, UInt8(header.utf8.count), 0]
        var body = [UInt8](repeating: 0, count: rows * columns * width)
        let random = HostRandom(seed: 1, stream: "large")
        body.withUnsafeMutableBytes { bytes in
            for i in stride(from: 0, to: bytes.count, by: 256) {
                let value = Float(random.bits(example: i) % 1000) / 4
                switch width {
                case 1: bytes[i] = UInt8(value)
                case 4: bytes.storeBytes(of: value, toByteOffset: i, as: Float.self)
                default: bytes.storeBytes(of: Double(value), toByteOffset: i, as: Double.self)
                }
            }
            // No variable is constant.
            for column in 0..<columns {
                switch width {
                case 1: bytes[column] = 7
                case 4: bytes.storeBytes(of: 1.5, toByteOffset: column * 4, as: Float.self)
                default: bytes.storeBytes(of: 1.5, toByteOffset: column * 8, as: Double.self)
                }
            }
        }
        let path = "\(io.folder.path)/large.npy"
        try Files.write(front + Array(header.utf8) + body, to: path)
        let size = body.count
        body = []
        let files = io.files(path)
        let child = try peak { _ = try files.load(seed: 3) }
        #expect(child < size * 3 / 2 + 1 << 25, "\(child >> 20) MiB for \(size >> 20)")
    }

    /// The memory that a piece of work takes at most, in bytes: the peak of a process of its own would count the same.
    private func peak(_ work: () throws -> Void) throws -> Int {
        let reset = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)
        _ = Glibc.write(reset, "5", 1)
        close(reset)
        func field(_ name: String) throws -> Int {
            let descriptor = open("/proc/self/status", O_RDONLY | O_CLOEXEC)
            defer { close(descriptor) }
            let text = String(unsafeUninitializedCapacity: 1 << 14) {
                max(0, read(descriptor, $0.baseAddress!, $0.count))
            }
            let line = try #require(text.split(separator: "\n").first { $0.hasPrefix(name) })
            return try #require(Int(line.split(whereSeparator: \.isWhitespace)[1])) * 1024
        }
        let before = try field("VmRSS:")
        try work()
        return try field("VmHWM:") - before
    }
}

/// Parts of arrays share memory, and changes take none.
@Suite struct ArrayPartTests {
    @Test func partsShareTheirMemory() {
        let array = HostArray((0..<24).map(Float.init), shape: [6, 4])
        let part = array.rows(2..<4)
        let place = array.withUnsafeBytes { $0.baseAddress! }
        #expect(part.withUnsafeBytes { $0.baseAddress } == place + 32)
        let expected = HostArray((8..<16).map(Float.init), shape: [2, 4])
        #expect(part == expected && part.hashValue == expected.hashValue && part != array.rows(3..<5))
        #expect(part.floats == (8..<16).map(Float.init) && part.bytes == expected.bytes && part.byteCount == 32)
        #expect(part.rows([1, 0]).floats == [12, 13, 14, 15, 8, 9, 10, 11] && part.element(1) == 9)
        #expect(part.rows(1..<2).reshaped([2, 2]).doubles == [12, 13, 14, 15])
        // A change is of the part alone.
        var changed = part
        changed.withUnsafeMutableBytes { $0.storeBytes(of: -1, as: Float.self) }
        #expect(changed.floats[0] == -1 && part.floats[0] == 8 && array.floats[8] == 8)
        #expect(array.rows(6..<6).count == 0)
    }

    @Test func rowsAreBroughtIntoAnyOrder() {
        let random = HostRandom(seed: 1, stream: "order")
        for count in [1, 2, 5, 100] {
            let array = HostArray((0..<3 * count).map(Int32.init), shape: [count, 3])
            let order = random.permutation(count, step: count)
            var permuted = array
            permuted.permuteRows(order)
            #expect(permuted == array.rows(order))
        }
        var matrix = HostArray((0..<12).map(Float.init), shape: [3, 4])
        matrix.keepColumns([1, 3])
        #expect(matrix == HostArray([1, 3, 5, 7, 9, 11] as [Float], shape: [3, 2]))
    }

    @Test func columnsFirstAreReadInParts() throws {
        let io = try Loading()
        // More than one part of the reading, and a last part that is not whole.
        let (rows, columns) = (70_001, 5)
        let header = "{'descr': '<f8', 'fortran_order': True, 'shape': (\(rows), \(columns)), }"
        let values = (0..<rows * columns).map(Double.init)
        let front: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, UInt8(header.utf8.count), 0]
        let path = try io.write("a.npy", front + Array(header.utf8) + values.withUnsafeBytes { Array($0) })
        let array = try NumPy.read(npy: path)
        #expect(array.type == .float64 && array.shape == [rows, columns])
        for (row, column) in [(0, 0), (1, 0), (0, 1), (70_000, 4), (33_333, 2)] {
            #expect(array.element(row * columns + column) == Double(column * rows + row))
        }
        let narrow = try NumPy.decode(ByteStream(file: path), isNarrow: true)
        #expect(narrow.type == .float32 && narrow.floats == array.floats)
    }
}
