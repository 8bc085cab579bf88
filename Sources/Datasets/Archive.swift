import CLZMA

/// Files out of a tar archive, plain or compressed with xz.
public enum Archive {
    /// Every file whose name ends in `suffix`, by its path in the archive.
    /// - Throws: `FileError` if the archive is absent, damaged or cut short.
    public static func files(_ path: String, suffix: String) throws(FileError) -> [(name: String, bytes: [UInt8])] {
        var bytes = try Files.read(path)
        if path.hasSuffix(".xz") { bytes = try decompress(bytes, path) }
        var result: [(String, [UInt8])] = []
        var position = 0
        // Names of more than 100 bytes stand in an entry of their own before the file.
        var longName: String?
        while position + 512 <= bytes.count {
            let header = bytes[position..<position + 512]
            if header.allSatisfy({ $0 == 0 }) { return result }
            guard let size = octal(header, 124, 12), let checksum = octal(header, 148, 8) else {
                throw FileError(path, "is not a tar archive: the header at byte \(position) has no size")
            }
            // The sum of the header's bytes, its own field taken as spaces.
            let sum = header.enumerated().reduce(0) { $0 + ((148..<156).contains($1.offset) ? 32 : Int($1.element)) }
            guard sum == checksum else {
                throw FileError(path, "is damaged: the checksum of the header at byte \(position) is wrong")
            }
            let start = position + 512
            guard start + size <= bytes.count else { throw FileError(path, "ends within a file; it was cut short") }
            let content = bytes[start..<start + size]
            let type = Character(Unicode.Scalar(header[position + 156]))
            position = start + (size + 511) / 512 * 512
            switch type {
            case "L":
                longName = text(content, 0, size)
                continue
            case "x":
                longName = pathRecord(content) ?? longName
                continue
            default: break
            }
            let prefix = text(header, 345, 155)
            let name = longName ?? (prefix.isEmpty ? "" : prefix + "/") + text(header, 0, 100)
            longName = nil
            guard name.hasSuffix(suffix) else { continue }
            guard "\0" == type || "07".contains(type) else {
                throw FileError(
                    path, "holds “\(name)” as an entry of type \(type); expected plain files, without links or holes")
            }
            result.append((name, Array(content)))
        }
        throw FileError(path, "ends without the end of an archive; it was cut short")
    }

    private static func octal(_ header: ArraySlice<UInt8>, _ offset: Int, _ length: Int) -> Int? {
        let digits = header.dropFirst(offset).prefix(length).filter { (48...55).contains($0) }
        return digits.isEmpty ? nil : digits.reduce(0) { $0 << 3 | Int($1 - 48) }
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

    /// The content of an xz file.
    static func decompress(_ bytes: [UInt8], _ path: String) throws(FileError) -> [UInt8] {
        var stream = lzma_stream()
        // A file may hold several streams, as parallel compressors and `cat` leave them. Swift does not see the macro.
        let concatenated: UInt32 = 0x08
        guard lzma_stream_decoder(&stream, 1 << 30, concatenated) == LZMA_OK else {
            throw FileError(path, "cannot be decompressed: no memory")
        }
        defer { lzma_end(&stream) }
        var result: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 20)
        let code = bytes.withUnsafeBufferPointer { source in
            stream.next_in = source.baseAddress
            stream.avail_in = source.count
            while true {
                let code = chunk.withUnsafeMutableBufferPointer { target in
                    stream.next_out = target.baseAddress
                    stream.avail_out = target.count
                    return lzma_code(&stream, LZMA_FINISH)
                }
                result += chunk[..<(chunk.count - stream.avail_out)]
                guard code == LZMA_OK, result.count <= 1 << 33 else { return code }
            }
        }
        guard code == LZMA_STREAM_END else {
            throw FileError(path, "its compressed data is damaged or cut short (xz code \(code.rawValue))")
        }
        return result
    }
}
