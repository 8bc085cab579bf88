import FoundationEssentials
import Graph

/// The safetensors format: a length, a JSON header, then raw little-endian arrays. Weights go to and from PyTorch through it. What
/// the format's reference refuses is refused (github.com/huggingface/safetensors).
public enum SafeTensors {
    /// Every array of a file by name, and its metadata. Numbers of 16 bits are read as float32, and whole numbers of other widths
    /// than ours as int32.
    public static func read(_ path: String) throws(FileError) -> (
        arrays: [String: HostArray], metadata: [String: String]
    ) {
        let stream = try ByteStream(file: path)
        let header = try SafeTensorsHeader(stream)
        var checksum = Checksum(of: header)
        var arrays: [String: HostArray] = [:]
        for (name, entry, type, byteCount) in header.entries {
            let bytes = try stream.read(upTo: byteCount)
            guard bytes.count == byteCount else { throw FileError(path, "became shorter while it was read") }
            checksum?.add(bytes)
            let place = "\(path)(\(name))"
            switch type {
            case .plain(let type):
                if type == .bool, let strange = bytes.first(where: { $0 > 1 }) {
                    throw FileError(path, "“\(name)” holds a boolean of value \(strange)")
                }
                arrays[name] = HostArray(type: type, shape: entry.shape, bytes: bytes)
            case .half:
                arrays[name] = HostArray(
                    NumPy.converted(bytes, place) { Float(half: $0) }, shape: entry.shape)
            case .bfloat:
                arrays[name] = HostArray(
                    NumPy.converted(bytes, place) { Float(bitPattern: UInt32($0) << 16) }, shape: entry.shape)
            case .integer(let width, let isSigned):
                arrays[name] = HostArray(
                    try NumPy.int32(bytes, width: width, isSigned: isSigned, place), shape: entry.shape)
            }
        }
        try checksum?.verify(path)
        return (arrays, header.metadata.filter { $0.key != Checksum.key })
    }

    private static let names: [ElementType: String] = [
        .float32: "F32", .float64: "F64", .int32: "I32", .uint8: "U8", .bool: "BOOL",
    ]

    /// Writes arrays in the order given, replacing the file in one step. Its metadata hold a checksum besides those given, by which
    /// `read` finds damage.
    ///
    /// - Parameter former: what the file that is replaced is called from then on, if it is to be kept.
    public static func write(
        _ arrays: [(name: String, array: HostArray)], metadata: [String: String] = [:], to path: String,
        keepingAs former: String? = nil
    ) throws(FileError) {
        var header: [String: SafeTensorsHeader.Value] = [
            "__metadata__": .metadata(metadata.merging(Checksum.blank) { $1 })
        ]
        var offset = 0
        for (name, array) in arrays {
            let end = offset + array.bytes.count
            header[name] = .entry(
                SafeTensorsHeader.Entry(
                    dtype: names[array.type]!, shape: array.shape, data_offsets: [offset, end]))
            offset = end
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
