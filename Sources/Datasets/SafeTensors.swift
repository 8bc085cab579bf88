import FoundationEssentials
import Graph

/// The safetensors format: a length, a JSON header, then raw little-endian arrays. Weights go to and from PyTorch through it.
public enum SafeTensors {
    private struct Entry: Codable {
        let dtype: String
        let shape: [Int]
        let data_offsets: [Int]
    }

    private enum HeaderValue: Codable {
        case entry(Entry)
        case metadata([String: String])

        init(from decoder: any Decoder) throws {
            if let entry = try? Entry(from: decoder) {
                self = .entry(entry)
            } else {
                self = .metadata(try [String: String](from: decoder))
            }
        }

        func encode(to encoder: any Encoder) throws {
            switch self {
            case .entry(let entry): try entry.encode(to: encoder)
            case .metadata(let metadata): try metadata.encode(to: encoder)
            }
        }
    }

    private static let names: [ElementType: String] = [
        .float32: "F32", .float64: "F64", .int32: "I32", .uint8: "U8", .bool: "BOOL",
    ]

    /// Every array of a file by name, and its metadata.
    public static func read(_ path: String) throws(FileError) -> (
        arrays: [String: HostArray], metadata: [String: String]
    ) {
        let bytes = try Files.read(path)
        guard bytes.count >= 8 else { throw FileError(path, "expected a safetensors file, found \(bytes.count) bytes") }
        let length = bytes[0..<8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= 100 << 20, 8 + Int(length) <= bytes.count else {
            throw FileError(
                path, "expected a safetensors file, found a header of \(length) bytes in a file of \(bytes.count)")
        }
        let start = 8 + Int(length)
        let header: [String: HeaderValue]
        do {
            header = try JSONDecoder().decode([String: HeaderValue].self, from: Data(bytes[8..<start]))
        } catch {
            throw FileError(
                path, "expected a safetensors file, but its header is not the JSON that the format asks for")
        }
        var arrays: [String: HostArray] = [:]
        var metadata: [String: String] = [:]
        var spans: [(Int, Int)] = []
        for (name, value) in header {
            switch value {
            case .metadata(let entries):
                guard name == "__metadata__" else { throw FileError(path, "“\(name)” has no type, shape and offsets") }
                metadata = entries
            case .entry(let entry):
                guard let type = names.first(where: { $0.value == entry.dtype })?.key else {
                    throw FileError(path, "“\(name)” holds \(entry.dtype); convert it to F32, F64, I32, U8 or BOOL")
                }
                var count = type.byteCount
                for extent in entry.shape {
                    let (product, overflow) = count.multipliedReportingOverflow(by: extent)
                    guard extent >= 0, !overflow else {
                        throw FileError(path, "“\(name)” has the impossible shape \(entry.shape)")
                    }
                    count = product
                }
                guard entry.data_offsets.count == 2, entry.data_offsets[0] >= 0,
                    entry.data_offsets[0] <= entry.data_offsets[1],
                    entry.data_offsets[1] <= bytes.count - start, entry.data_offsets[1] - entry.data_offsets[0] == count
                else {
                    throw FileError(
                        path,
                        "“\(name)” of \(entry.shape) needs \(count) bytes, but its offsets \(entry.data_offsets) do not give them in a file with \(bytes.count - start)"
                    )
                }
                spans.append((entry.data_offsets[0], entry.data_offsets[1]))
                arrays[name] = HostArray(
                    type: type, shape: entry.shape,
                    bytes: Array(bytes[start + entry.data_offsets[0]..<start + entry.data_offsets[1]]))
            }
        }
        try Checksum.verify(bytes, header: 8..<start, metadata, path)
        metadata[Checksum.key] = nil
        spans.sort { $0 < $1 }
        for (a, b) in zip(spans, spans.dropFirst()) where b.0 < a.1 {
            throw FileError(path, "arrays overlap; the file is damaged")
        }
        return (arrays, metadata)
    }

    /// Writes arrays in the order given, replacing the file in one step. Its metadata hold a checksum besides those given, by which
    /// `read` finds damage.
    ///
    /// - Parameter former: what the file that is replaced is called from then on, if it is to be kept.
    public static func write(
        _ arrays: [(name: String, array: HostArray)], metadata: [String: String] = [:], to path: String,
        keepingAs former: String? = nil
    ) throws(FileError) {
        var header = ["__metadata__": HeaderValue.metadata(metadata.merging(Checksum.blank) { $1 })]
        var offset = 0
        for (name, array) in arrays {
            header[name] = .entry(
                Entry(
                    dtype: names[array.type]!, shape: array.shape, data_offsets: [offset, offset + array.bytes.count]))
            offset += array.bytes.count
        }
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard var json = (try? encoder.encode(header)).map({ [UInt8]($0) }) else {
            throw FileError(path, "its header cannot be encoded")
        }
        // Arrays begin on a multiple of eight.
        json += [UInt8](repeating: 0x20, count: (8 - json.count % 8) % 8)
        let front = Checksum.fill((0..<8).map { UInt8(truncatingIfNeeded: json.count >> (8 * $0)) } + json, arrays)
        try Files.replace(path, keepingAs: former) { (descriptor) throws(FileError) in
            try Files.writeAll(front, descriptor, path)
            for (_, array) in arrays { try Files.writeAll(array.bytes, descriptor, path) }
        }
    }
}
