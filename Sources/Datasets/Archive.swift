/// Files out of a tar archive, plain or compressed with xz, or with gzip where its stream takes that.
public enum Archive {
    /// Every file whose name ends in `suffix`, by its path in the archive. What is not asked for is passed over and takes no memory.
    /// - Throws: `FileError` if the archive is absent, damaged or cut short.
    public static func files(_ path: String, suffix: String) throws(FileError) -> [(name: String, bytes: [UInt8])] {
        try files(ByteStream(file: path)) { $0.hasSuffix(suffix) }
    }

    /// The same of those whose path is wanted.
    static func files(
        _ file: ByteStream, _ isNameWanted: (String) -> Bool
    ) throws(FileError) -> [(name: String, bytes: [UInt8])] {
        let stream = file.name.hasSuffix(".xz") ? try ByteStream(xz: file) : file
        var result: [(String, [UInt8])] = []
        // Names of more than 100 bytes stand in an entry of their own before the file.
        var longName: String?
        while let header = try Header(stream) {
            let padding = (512 - header.size % 512) % 512
            var content: [UInt8] = []
            let name = longName ?? header.name
            let isWanted = !["L", "x", "g"].contains(header.type) && isNameWanted(name)
            guard !isWanted || "\0" == header.type || "07".contains(header.type) else {
                throw FileError(
                    stream.name,
                    "holds “\(name)” as an entry of type \(header.type); expected plain files, without links or holes")
            }
            if let total = stream.count, total - stream.position < header.size { throw cutShort(stream) }
            if isWanted || ["L", "x"].contains(header.type) {
                guard isWanted || header.size <= 1 << 20 else {
                    throw FileError(stream.name, "is damaged: it has a name of \(header.size) bytes")
                }
                content = try stream.read(upTo: header.size)
                guard content.count == header.size else { throw cutShort(stream) }
            } else if try stream.skip(header.size) < header.size {
                throw cutShort(stream)
            }
            guard try stream.skip(padding) == padding else { throw cutShort(stream) }
            switch header.type {
            case "L": longName = text(content[...], 0, content.count)
            case "x": longName = pathRecord(content[...]) ?? longName
            case "g": break
            default:
                longName = nil
                if isWanted { result.append((name, content)) }
            }
        }
        return result
    }

    private static func cutShort(_ stream: ByteStream) -> FileError {
        FileError(stream.name, "ends within a file; it was cut short")
    }

    /// What stands before each file.
    private struct Header {
        let name: String
        let size: Int
        let type: Character

        /// - Returns: nil at the end of the archive, which is zeros.
        init?(_ stream: ByteStream) throws(FileError) {
            let position = stream.position
            let bytes = try stream.read(upTo: 512)
            guard bytes.count == 512 else {
                throw FileError(stream.name, "ends without the end of an archive; it was cut short")
            }
            if bytes.allSatisfy({ $0 == 0 }) {
                // A compressed archive is whole if what follows, which fills a block of the tape, can be decompressed.
                guard try stream.skip(1 << 20) < 1 << 20 else {
                    throw FileError(stream.name, "is damaged: much follows the end of the archive")
                }
                return nil
            }
            guard let size = octal(bytes, 124, 12), let checksum = octal(bytes, 148, 8) else {
                throw FileError(stream.name, "is not a tar archive: the header at byte \(position) has no size")
            }
            // The sum of the header's bytes, its own field taken as spaces.
            let sum = bytes.enumerated().reduce(0) { $0 + ((148..<156).contains($1.offset) ? 32 : Int($1.element)) }
            guard sum == checksum else {
                throw FileError(
                    stream.name, "is damaged: the checksum of the header at byte \(position) is wrong")
            }
            self.size = size
            type = Character(Unicode.Scalar(bytes[156]))
            let prefix = text(bytes[...], 345, 155)
            name = (prefix.isEmpty ? "" : prefix + "/") + text(bytes[...], 0, 100)
        }
    }

    /// A number of octal digits between spaces and zero bytes.
    private static func octal(_ header: [UInt8], _ offset: Int, _ length: Int) -> Int? {
        let field = header[offset..<offset + length].drop { $0 == 32 }
        let digits = field.prefix { (48...55).contains($0) }
        guard !digits.isEmpty, field[digits.endIndex...].allSatisfy({ $0 == 0 || $0 == 32 }) else { return nil }
        return digits.reduce(0) { $0 << 3 | Int($1 - 48) }
    }

    /// The path among the records “LENGTH KEY=VALUE\n” of a pax header.
    private static func pathRecord(_ content: ArraySlice<UInt8>) -> String? {
        var rest = content
        while let space = rest.firstIndex(of: 32), let length = Int(String(decoding: rest[..<space], as: UTF8.self)),
            length > space - rest.startIndex + 1, length <= rest.count
        {
            let record = rest.prefix(length).dropLast()[(space + 1)...]
            if record.starts(with: "path=".utf8) { return String(decoding: record.dropFirst(5), as: UTF8.self) }
            rest = rest.dropFirst(length)
        }
        return nil
    }

    private static func text(_ header: ArraySlice<UInt8>, _ offset: Int, _ length: Int) -> String {
        String(decoding: header.dropFirst(offset).prefix(length).prefix { $0 != 0 }, as: UTF8.self)
    }
}
