import FoundationEssentials
import Graph

/// The header of a safetensors file: a length of eight bytes, then JSON that gives each array its type, shape and place among the
/// bytes that follow.
struct SafeTensorsHeader {
    struct Entry: Codable {
        let dtype: String
        let shape: [Int]
        let data_offsets: [Int]
    }

    enum Value: Codable {
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

    /// By their places, which follow each other without a gap to the end of the file.
    let entries: [(name: String, entry: Entry, type: StoredType, byteCount: Int)]
    let metadata: [String: String]
    /// All bytes in front of the arrays.
    let bytes: [UInt8]

    /// How elements are stored, by the format's name for it.
    enum StoredType {
        case plain(ElementType)
        /// Read as int32.
        case integer(width: Int, isSigned: Bool)
        /// Read as float32.
        case half, bfloat

        var byteCount: Int {
            switch self {
            case .plain(let type): type.byteCount
            case .integer(let width, _): width
            case .half, .bfloat: 2
            }
        }

        static let named: [String: StoredType] = [
            "F32": .plain(.float32), "F64": .plain(.float64), "I32": .plain(.int32), "U8": .plain(.uint8),
            "BOOL": .plain(.bool), "F16": .half, "BF16": .bfloat, "I8": .integer(width: 1, isSigned: true),
            "I16": .integer(width: 2, isSigned: true), "I64": .integer(width: 8, isSigned: true),
            "U16": .integer(width: 2, isSigned: false), "U32": .integer(width: 4, isSigned: false),
            "U64": .integer(width: 8, isSigned: false),
        ]
    }

    /// Reads up to where the arrays begin.
    init(_ stream: ByteStream) throws(FileError) {
        let path = stream.name
        let front = try stream.read(upTo: 8)
        let size = stream.count ?? 0
        guard front.count == 8 else {
            throw FileError(path, "expected a safetensors file, found \(front.count) bytes")
        }
        let length = front.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard length <= 100_000_000, 8 + Int(length) <= size else {
            throw FileError(
                path, "expected a safetensors file, found a header of \(length) bytes in a file of \(size)")
        }
        let text = try stream.read(upTo: Int(length))
        let values = try Self.values(text, path)
        var entries: [(name: String, entry: Entry, type: StoredType, byteCount: Int)] = []
        var metadata: [String: String] = [:]
        for (name, value) in values {
            switch value {
            case .metadata(let texts):
                guard name == "__metadata__" else { throw FileError(path, "“\(name)” has no type, shape and offsets") }
                metadata = texts
            case .entry(let entry):
                guard name != "__metadata__" else { throw FileError(path, "its metadata are an array; it is damaged") }
                let (type, byteCount) = try Self.size(entry, of: name, path)
                entries.append((name, entry, type, byteCount))
            }
        }
        entries.sort { $0.entry.data_offsets.lexicographicallyPrecedes($1.entry.data_offsets) }
        var end = 0
        for (name, entry, _, _) in entries {
            guard entry.data_offsets[0] == end else {
                throw FileError(
                    path,
                    "“\(name)” begins at \(entry.data_offsets[0]), but the array before it ends at \(end); they may neither overlap nor leave a hole"
                )
            }
            end = entry.data_offsets[1]
        }
        guard end == size - stream.position else {
            throw FileError(
                path,
                "its arrays end after \(end) bytes, but \(size - stream.position) follow the header; it is damaged")
        }
        (self.entries, self.metadata, bytes) = (entries, metadata, front + text)
    }

    private static func values(_ text: [UInt8], _ path: String) throws(FileError) -> [String: Value] {
        let problem = FileError(
            path, "expected a safetensors file, but its header is not the JSON that the format asks for")
        // A zero is in no JSON in UTF-8, but in every one in UTF-16.
        guard text.first == UInt8(ascii: "{"), !text.contains(0), String(validating: text, as: UTF8.self) != nil,
            let keys = JSONKeys(text), let values = try? JSONDecoder().decode([String: Value].self, from: Data(text))
        else { throw problem }
        if let twice = keys.twice { throw FileError(path, "names “\(twice)” twice in its header; it is damaged") }
        return values
    }

    /// The type and the number of bytes of an array, which its offsets have to agree with.
    private static func size(
        _ entry: Entry, of name: String, _ path: String
    ) throws(FileError) -> (type: StoredType, byteCount: Int) {
        guard let type = StoredType.named[entry.dtype] else {
            throw FileError(path, "“\(name)” holds \(entry.dtype); convert it to F32, F16, BF16, F64, I32, U8 or BOOL")
        }
        var count = type.byteCount
        for extent in entry.shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard extent >= 0, !overflow else {
                throw FileError(path, "“\(name)” has the impossible shape \(entry.shape)")
            }
            count = product
        }
        let offsets = entry.data_offsets
        guard offsets.count == 2, offsets[0] >= 0, offsets[0] <= offsets[1], offsets[1] - offsets[0] == count else {
            throw FileError(
                path,
                "“\(name)” of \(entry.shape) needs \(count) bytes, which its offsets \(offsets) do not give")
        }
        return (type, count)
    }
}

/// The keys of a JSON text of objects: readers of JSON keep one value of two that have the same.
private struct JSONKeys {
    /// A key that an object has twice.
    private(set) var twice: String?

    /// - Returns: nil for a text whose strings or brackets do not end, and for numbers that are not whole.
    init?(_ text: [UInt8]) {
        var objects: [Set<String>] = []
        var last = ""
        var i = 0
        while i < text.count {
            switch text[i] {
            case UInt8(ascii: "\""):
                let start = i
                i += 1
                while i < text.count, text[i] != UInt8(ascii: "\"") { i += text[i] == UInt8(ascii: "\\") ? 2 : 1 }
                guard i < text.count else { return nil }
                last = Self.unescaped(text[start...i])
            case UInt8(ascii: "{"):
                guard objects.count < 64 else { return nil }
                objects.append([])
            case UInt8(ascii: "}"):
                guard objects.popLast() != nil else { return nil }
            case UInt8(ascii: ":"):
                guard !objects.isEmpty else { return nil }
                if !objects[objects.count - 1].insert(last).inserted { twice = twice ?? last }
            case UInt8(ascii: "."), UInt8(ascii: "+"), UInt8(ascii: "-"): return nil
            default: break
            }
            i += 1
        }
    }

    /// Two ways of writing a character are the same key.
    private static func unescaped(_ string: ArraySlice<UInt8>) -> String {
        if string.contains(UInt8(ascii: "\\")),
            let text = try? JSONDecoder().decode([String].self, from: Data([0x5B] + string + [0x5D]))
        {
            return text[0]
        }
        return String(decoding: string.dropFirst().dropLast(), as: UTF8.self)
    }
}
