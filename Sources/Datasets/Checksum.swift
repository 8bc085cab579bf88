import CLZMA
import Graph

/// The checksum of a safetensors file: the CRC-64 of ECMA-182, as xz computes it, of all its bytes, with the checksum's own digits taken
/// as zeros. It stands in the metadata, `"martlet-checksum": "crc64-xz:0123456789abcdef"`, where other readers pass it over.
enum Checksum {
    static let key = "martlet-checksum"
    private static let kind = "crc64-xz:"
    private static let zeros = String(repeating: "0", count: 16)

    /// The entry of the metadata before the sum is known.
    static var blank: [String: String] { [key: kind + zeros] }

    /// Puts the sum into the front of a file, which is followed by the bytes of the arrays.
    static func fill(_ front: [UInt8], _ arrays: [(name: String, array: HostArray)]) -> [UInt8] {
        guard let digits = digits(in: front[...]) else { return front }
        var sum = extended(0, by: front[...])
        for (_, array) in arrays { sum = extended(sum, by: array.bytes[...]) }
        var front = front
        front.replaceSubrange(digits, with: text(sum))
        return front
    }

    /// Refuses a file whose bytes are not those that were written. One without a checksum, of another program or an older version,
    /// passes.
    /// - Parameter header: where the header lies.
    static func verify(
        _ bytes: [UInt8], header: Range<Int>, _ metadata: [String: String], _ path: String
    ) throws(FileError) {
        // Damage may lie in the entry's name, or in the kind of the checksum; not in both.
        guard metadata[key] != nil || metadata.values.contains(where: { $0.hasPrefix(kind) }) else { return }
        if let digits = digits(in: bytes[header]) {
            let parts = [bytes[..<digits.lowerBound], Array(zeros.utf8)[...], bytes[digits.upperBound...]]
            if text(parts.reduce(0, extended)) == Array(bytes[digits]) { return }
        }
        throw FileError(
            path,
            "is damaged: its checksum is not that of its bytes; take another copy (a program that changes such a file has to leave “\(key)” out of its metadata)"
        )
    }

    private static func digits(in bytes: ArraySlice<UInt8>) -> Range<Int>? {
        guard let end = bytes.firstRange(of: Array(kind.utf8))?.upperBound, bytes.endIndex - end >= 16 else {
            return nil
        }
        return end..<end + 16
    }

    private static func text(_ sum: UInt64) -> [UInt8] {
        let digits = Array(String(sum, radix: 16).utf8)
        return [UInt8](repeating: 48, count: 16 - digits.count) + digits
    }

    private static func extended(_ sum: UInt64, by bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.withUnsafeBufferPointer { lzma_crc64($0.baseAddress, $0.count, sum) }
    }
}
