import Datasets
import Graph
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// Files are replaced whole, follow no links, keep their permissions, and what killed writers left is removed.
@Suite(.serialized) struct FileWritingTests {
    private let folder: String

    init() throws {
        var template = Array("/tmp/martlet-files-XXXXXX".utf8CString)
        folder = String(cString: try #require(mkdtemp(&template)))
    }

    private func path(_ name: String) -> String { "\(folder)/\(name)" }

    private func permissions(_ name: String) -> mode_t {
        var status = stat()
        return stat(path(name), &status) == 0 ? status.st_mode & 0o7777 : 0
    }

    @Test func linksAreNotFollowed() throws {
        try Files.write([1], to: path("victim"))
        try #require(symlink(path("victim"), path("z.npy.partial")) == 0)
        try #require(symlink(path("victim"), path("z.npy")) == 0)
        try Files.write([2], to: path("z.npy"))
        #expect(try Files.read(path("z.npy")) == [2])
        #expect(try Files.read(path("victim")) == [1])
        #expect(try Files.read(path("z.npy.partial")) == [1])
    }

    @Test func permissionsStay() throws {
        let before = umask(0o027)
        defer { umask(before) }
        try Files.write([1], to: path("new"))
        try Files.append("line", to: path("lines"))
        try Files.makeFolder(path("a/b"))
        #expect(permissions("new") == 0o640 && permissions("lines") == 0o640 && permissions("a/b") == 0o750)
        for mode in [0o600, 0o664, 0o444] as [mode_t] {
            try #require(chmod(path("new"), mode) == 0)
            try Files.write([2], to: path("new"))
            #expect(permissions("new") == mode)
        }
    }

    /// Only what this file's writers left, and not while they live.
    @Test func leavingsAreRemoved() throws {
        let random = "0123456789abcdef"
        let others = [
            "z.npy.partial", "z.npy.0123.partial", "y.npy.\(random).partial", "z.npy.\(random).png",
            "z.npy.0123456789ABCDEF.partial", "z.npy.x\(random.dropFirst()).partial",
        ]
        for name in others + ["z.npy.\(random).partial"] { try Files.write([1], to: path(name)) }
        try Files.makeFolder(path("z.npy.f\(random.dropFirst()).partial/inner/more"))
        try Files.write([1], to: path("z.npy.f\(random.dropFirst()).partial/inner/file"))
        try #require(symlink(path("inner"), path("z.npy.e\(random.dropFirst()).partial")) == 0)
        let living = path("z.npy.a\(random.dropFirst()).partial")
        let descriptor = open(living, O_CREAT | O_RDWR, 0o600)
        try #require(flock(descriptor, LOCK_EX) == 0)
        try Files.write([2], to: path("z.npy"))
        let link = "z.npy.e\(random.dropFirst()).partial"
        let expected = (others + ["z.npy", "z.npy.a\(random.dropFirst()).partial", link]).sorted()
        #expect(try Files.list(folder) == expected)
        // Once its writer is gone, that too.
        close(descriptor)
        try Files.write([3], to: path("z.npy"))
        #expect(!Files.exists(living))
    }

    /// A folder appears filled, or not at all, and leaves nothing else behind.
    @Test func foldersAppearFilled() throws {
        struct Stop: Error {}
        #expect(throws: Stop.self) {
            _ = try Files.makeFolder(path("new")) { place in
                try Files.makeFolder("\(place)/inner")
                try Files.write([1], to: "\(place)/inner/file")
                throw Stop()
            }
        }
        #expect(try Files.list(folder).isEmpty)
        var wasThere = false
        let isNew = try Files.makeFolder(path("new")) { place in
            try Files.makeFolder("\(place)/inner")
            wasThere = Files.exists(path("new"))
        }
        #expect(isNew && !wasThere)
        #expect(try Files.list(path("new")) == ["inner"])
        let again = try Files.makeFolder(path("new")) { try Files.write([1], to: "\($0)/other") }
        #expect(try !again && Files.list(path("new")) == ["inner"] && Files.list(folder) == ["new"])
    }

    @Test func longNamesAreWritten() throws {
        for name in [String(repeating: "n", count: 250), String(repeating: "ä", count: 127)] {
            try Files.write([1], to: path(name))
            #expect(try Files.read(path(name)) == [1])
        }
        #expect(try Files.list(folder).count == 2)
    }

    // MARK: checksums

    private func write() throws -> String {
        let arrays = [
            (name: "w", array: HostArray([1, -2, 3.5, 0] as [Float], shape: [2, 2])),
            (name: "b", array: HostArray([7, 9] as [UInt8])),
        ]
        try SafeTensors.write(arrays, metadata: ["step": "7"], to: path("a.safetensors"))
        return path("a.safetensors")
    }

    /// The sum is that of the standard, so that others can check it: the reflected polynomial of ECMA-182, bit by bit.
    @Test func checksumsAreThoseOfTheStandard() throws {
        var bytes = try Files.read(write())
        let end = try #require(bytes.firstRange(of: Array("crc64-xz:".utf8))).upperBound
        let written = String(decoding: bytes[end..<end + 16], as: UTF8.self)
        bytes.replaceSubrange(end..<end + 16, with: [UInt8](repeating: 48, count: 16))
        var sum = ~UInt64(0)
        for byte in bytes {
            sum ^= UInt64(byte)
            for _ in 0..<8 { sum = sum & 1 == 1 ? sum >> 1 ^ 0xC96C_5795_D787_0F42 : sum >> 1 }
        }
        #expect(UInt64(written, radix: 16) == ~sum)
    }

    @Test func everyFlippedBitIsFound() throws {
        let path = try write()
        let whole = try Files.read(path)
        let damaged = self.path("damaged.safetensors")
        for bit in 0..<8 * whole.count {
            var bytes = whole
            bytes[bit / 8] ^= 1 << UInt8(bit % 8)
            let file = fopen(damaged, "w")
            fwrite(bytes, 1, bytes.count, file)
            fclose(file)
            let error = #expect(throws: FileError.self, "bit \(bit)") { try SafeTensors.read(damaged) }
            #expect(error?.path == damaged)
        }
        #expect(try SafeTensors.read(path).metadata == ["step": "7"])
    }

    /// Such as were written before there were checksums, or elsewhere.
    @Test func filesWithoutAChecksumAreRead() throws {
        let header = #"{"__metadata__":{"step":"7"},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}} "#
        let length = [UInt8(header.utf8.count)] + [UInt8](repeating: 0, count: 7)
        try Files.write(length + Array(header.utf8) + [7, 9], to: path("old.safetensors"))
        let (arrays, metadata) = try SafeTensors.read(path("old.safetensors"))
        #expect(arrays["b"]?.bytes == [7, 9] && metadata == ["step": "7"])
    }
}
