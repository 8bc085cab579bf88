import Graph
import Likelihood

/// What a file or folder holds, before it is known what it is to a model.
enum FileContent {
    case array(HostArray)
    case table(RawTable)
    case pictures(PictureFiles)
    case sounds(SoundFiles)
    case texts([NamedBytes])
    /// Handed over to somebody else.
    case taken

    var words: String {
        switch self {
        case .array: "an array"
        case .table: "a table"
        case .pictures: "pictures"
        case .sounds: "sounds"
        case .texts: "text"
        case .taken: "nothing"
        }
    }
}

typealias NamedBytes = (name: String, bytes: [UInt8])

/// Recordings of one rate, as mu-law codes.
struct SoundFiles {
    private(set) var rate = 0
    private(set) var files: [NamedBytes] = []

    mutating func append(_ name: String, _ bytes: [UInt8]) throws(FileError) {
        let (samples, rate) = try Sound.read(wav: bytes, name: name)
        if files.isEmpty { self.rate = rate }
        guard rate == self.rate else {
            throw FileError(
                name, "is at \(rate) Hz, but \(files[0].name) is at \(self.rate); bring all recordings to one rate")
        }
        files.append((name, samples.map { UInt8(Sound.muLaw(Double($0))) }))
    }
}

/// Reads files of any kind, and keeps which they were.
struct ContentReader {
    private(set) var sources: [LoadedFiles.Source] = []
    /// Arrays by their files and names, for parts of a set that are one array: it is read once and lies in memory once. `nil` keeps none.
    var known: [String: HostArray]?

    static let tableEndings = [".csv", ".tsv", ".tab", ".data", ".dat", ".tra", ".tes"]

    /// - Parameters:
    ///   - role: the array of an archive that is taken, where it has one of that name.
    ///   - expected: what is known of a table.
    mutating func read(
        _ path: String, role: String? = nil, like expected: RawTable.Expectation? = nil
    ) throws(FileError) -> FileContent {
        let (file, member) = Self.member(path)
        if file.hasSuffix(".npz") {
            let archive = try NumPyArchive(file)
            if let member, !archive.names.contains(member) {
                throw FileError(file, "has no array “\(member)”; it has \(archive.names.joined(separator: ", "))")
            }
            let name = if let member { member } else { try ArrayFile.member(archive, role) }
            return .array(try array(name, of: archive))
        }
        if Files.isFolder(path) { return try folder(path) }
        let name = path.lowercased()
        if name.hasSuffix(".npy") || ArrayFile.idxEndings.contains(where: path.hasSuffix) {
            return .array(try array(path))
        }
        if [".tar", ".tar.xz", ".tar.gz", ".tgz"].contains(where: name.hasSuffix) { return try archive(path) }
        let isTable = Self.tableEndings.contains(where: name.hasSuffix)
        if isTable || [".txt", ".wav", ".png"].contains(where: name.hasSuffix) {
            let bytes = try bytes(of: path)
            if isTable || name.hasSuffix(".txt") && TableReader.holdsNumbers(bytes) {
                return .table(try RawTable(bytes, path, like: expected))
            }
            return try content([(path, bytes)], of: path)
        }
        guard Files.exists(path) else { throw FileError(path, "is not there; check the name") }
        throw FileError(
            path,
            "expected .npy, .npz, .idx, -ubyte, a table (.csv, .tsv, .data, .dat), .txt, .wav, .png, a folder or a .tar of these"
        )
    }

    /// A file of an archive and the array's name behind a colon.
    static func member(_ path: String) -> (file: String, member: String?) {
        guard let range = path.ranges(of: ".npz:").last else { return (path, nil) }
        return (String(path[..<range.upperBound].dropLast()), String(path[range.upperBound...]))
    }

    mutating func array(_ name: String, of archive: NumPyArchive) throws(FileError) -> HostArray {
        try once("\(name)\0\(archive.path)") { reader throws(FileError) in
            let array = try archive.read(name, isNarrow: true)
            try reader.sum(archive.path)
            return array
        }
    }

    /// A file of one array.
    private mutating func array(_ path: String) throws(FileError) -> HostArray {
        try once(path) { reader throws(FileError) in
            guard !path.hasSuffix(".gz") else {
                let array = try IDX.read(path)
                try reader.sum(path)
                return array
            }
            return try reader.summed(path) { stream throws(FileError) in
                path.lowercased().hasSuffix(".npy")
                    ? try NumPy.decode(stream, isNarrow: true) : try IDX.decode(stream)
            }
        }
    }

    private mutating func once(
        _ key: String, _ read: (inout ContentReader) throws(FileError) -> HostArray
    ) throws(FileError) -> HostArray {
        if let array = known?[key] { return array }
        let array = try read(&self)
        known?[key] = array
        return array
    }

    // MARK: checksums

    private mutating func summed<Result>(
        _ path: String, _ body: (ByteStream) throws(FileError) -> Result
    ) throws(FileError) -> Result {
        let stream = try ByteStream(file: path)
        stream.isSummed = true
        let result = try body(stream)
        // What a reader leaves is part of the file too.
        _ = try stream.skip(.max)
        note(path, stream.position, stream.checksum)
        return result
    }

    /// Of a file whose library reads it by itself.
    private mutating func sum(_ path: String) throws(FileError) {
        if !sources.contains(where: { $0.path == path }) { try summed(path) { _ in } }
    }

    private mutating func bytes(of path: String) throws(FileError) -> [UInt8] {
        try summed(path) { stream throws(FileError) in
            let bytes = try stream.read(upTo: stream.count ?? 0)
            guard bytes.count == stream.count else { throw FileError(path, "became shorter while it was read") }
            return bytes
        }
    }

    private mutating func note(_ path: String, _ bytes: Int, _ sum: UInt64) {
        guard !sources.contains(where: { $0.path == path }) else { return }
        sources.append(
            LoadedFiles.Source(
                path: path, bytes: bytes, checksum: String(decoding: Checksum.text(sum), as: UTF8.self)))
    }

    // MARK: folders and archives

    /// The ending of the files that are examples: where there are pictures or sounds, texts beside them are not.
    private static func ending(_ names: [String], _ path: String) throws(FileError) -> String {
        let found = [".png", ".wav", ".txt"].filter { ending in
            names.contains { $0.lowercased().hasSuffix(ending) }
        }
        let examples = found.filter { $0 != ".txt" }
        guard examples.count < 2 else {
            throw FileError(path, "holds pictures and sounds; put them into folders of their own")
        }
        guard let ending = examples.first ?? found.first else {
            throw FileError(path, "holds no .png, .wav or .txt files, in itself or in the folders in it")
        }
        return ending
    }

    /// Names that begin with a point are those of programs.
    private static func isVisible(_ name: String) -> Bool { name.split(separator: "/").last?.hasPrefix(".") == false }

    private mutating func folder(_ path: String) throws(FileError) -> FileContent {
        let path = path.count > 1 && path.hasSuffix("/") ? String(path.dropLast()) : path
        var names: [String] = []
        for name in try Files.list(path) where Self.isVisible(name) {
            if Files.isFolder("\(path)/\(name)") {
                names += try Files.list("\(path)/\(name)").filter(Self.isVisible).map { "\(name)/\($0)" }
            } else {
                names.append(name)
            }
        }
        let ending = try Self.ending(names, path)
        let wanted = names.filter { $0.lowercased().hasSuffix(ending) }.sorted()
        let before = sources
        var (sums, total): ([UInt8], Int) = ([], 0)
        let content = try content(wanted, of: path) { reader, name throws(FileError) in
            let full = "\(path)/\(name)"
            reader.sources = []
            let bytes = try reader.bytes(of: full)
            sums += Array(reader.sources[0].checksum.utf8)
            total += bytes.count
            return (full, bytes)
        }
        sources = before
        note(path, total, sums.withUnsafeBytes { Checksum.extended(0, by: $0[...]) })
        return content
    }

    private mutating func archive(_ path: String) throws(FileError) -> FileContent {
        let isWanted = { (name: String) in
            Self.isVisible(name) && [".png", ".wav", ".txt"].contains { name.lowercased().hasSuffix($0) }
        }
        let files: [NamedBytes]
        if path.lowercased().hasSuffix("gz") {
            files = try Archive.files(ByteStream(gzip: path), isWanted)
            try sum(path)
        } else {
            files = try summed(path) { stream throws(FileError) in try Archive.files(stream, isWanted) }
        }
        let ending = try Self.ending(files.map(\.name), path)
        return try content(
            files.filter { $0.name.lowercased().hasSuffix(ending) }.sorted { $0.name < $1.name }, of: path)
    }

    private mutating func content(_ files: [NamedBytes], of path: String) throws(FileError) -> FileContent {
        let bytes = Dictionary(files.map { ($0.name, $0.bytes) }) { a, _ in a }
        return try content(files.map(\.name), of: path) { _, name in (name, bytes[name]!) }
    }

    /// Files of one ending, each of which is read when its turn comes.
    private mutating func content(
        _ names: [String], of path: String,
        _ read: (inout ContentReader, String) throws(FileError) -> NamedBytes
    ) throws(FileError) -> FileContent {
        let ending = names[0].lowercased()
        if ending.hasSuffix(".png") {
            var pictures = PictureFiles(path)
            for name in names {
                let file = try read(&self, name)
                try pictures.append(file.name, file.bytes, of: names.count)
            }
            return .pictures(pictures)
        }
        if ending.hasSuffix(".wav") {
            var sounds = SoundFiles()
            for name in names {
                let file = try read(&self, name)
                try sounds.append(file.name, file.bytes)
            }
            return .sounds(sounds)
        }
        var texts: [NamedBytes] = []
        for name in names {
            let file = try read(&self, name)
            guard !file.bytes.starts(with: [0xFF, 0xFE]), !file.bytes.starts(with: [0xFE, 0xFF]) else {
                throw FileError(file.name, "is text in UTF-16; save it in UTF-8")
            }
            texts.append(file)
        }
        return .texts(texts)
    }
}
