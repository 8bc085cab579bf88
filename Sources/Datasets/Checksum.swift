import CLZMA
import Graph

/// The checksum of a safetensors file: the CRC-64 of ECMA-182, as xz computes it, of all its bytes, with the checksum's own digits taken
/// as zeros. It stands in the metadata, `"martlet-checksum": "crc64-xz:0123456789abcdef"`, where other readers pass it over.
struct Checksum {
    static let key = "martlet-checksum"
    private static let kind = "crc64-xz:"
    private static let zeros = String(repeating: "0", count: 16)

    /// The entry of the metadata before the sum is known.
    static var blank: [String: String] { [key: kind + zeros] }

    /// Puts the sum into the front of a file, which is followed by the bytes of the arrays.
    static func fill(_ front: [UInt8], _ arrays: [(name: String, array: HostArray)]) -> [UInt8] {
        guard let digits = digits(in: front) else { return front }
        var sum = extended(0, by: front[...])
        for (_, array) in arrays { sum = extended(sum, by: array.bytes[...]) }
        var front = front
        front.replaceSubrange(digits, with: text(sum))
        return front
    }

    /// What the file says; `nil` where it holds no digits to compare with.
    private let stated: [UInt8]?
    private var sum: UInt64

    /// The checksum of a file whose header was read and whose arrays follow; `nil` for a file without one, of another program or an
    /// older version.
    init?(of header: SafeTensorsHeader) {
        // Damage may lie in the entry's name, or in the kind of the checksum; not in both.
        let texts = header.metadata
        guard texts[Self.key] != nil || texts.values.contains(where: { $0.hasPrefix(Self.kind) }) else { return nil }
        let bytes = header.bytes
        guard let digits = Self.digits(in: bytes) else {
            (stated, sum) = (nil, 0)
            return
        }
        stated = Array(bytes[digits])
        sum = [bytes[..<digits.lowerBound], Array(Self.zeros.utf8)[...], bytes[digits.upperBound...]]
            .reduce(0, Self.extended)
    }

    /// Takes in the bytes that follow.
    mutating func add(_ bytes: [UInt8]) { sum = Self.extended(sum, by: bytes[...]) }

    /// Refuses a file whose bytes are not those that were written.
    func verify(_ path: String) throws(FileError) {
        guard stated != Self.text(sum) else { return }
        throw FileError(
            path,
            "is damaged: its checksum is not that of its bytes; take another copy (a program that changes such a file has to leave “\(Self.key)” out of its metadata)"
        )
    }

    private static func digits(in bytes: [UInt8]) -> Range<Int>? {
        guard let end = bytes.firstRange(of: Array(kind.utf8))?.upperBound, bytes.count - end >= 16 else {
            return nil
        }
        return end..<end + 16
    }

    /// The sum in hexadecimal digits.
    static func text(_ sum: UInt64) -> [UInt8] {
        let digits = Array(String(sum, radix: 16).utf8)
        return [UInt8](repeating: 48, count: 16 - digits.count) + digits
    }

    private static func extended(_ sum: UInt64, by bytes: ArraySlice<UInt8>) -> UInt64 {
        bytes.withUnsafeBytes { extended(sum, by: $0[...]) }
    }

    /// The sum of what was summed before and some bytes behind it.
    static func extended(_ sum: UInt64, by bytes: UnsafeRawBufferPointer.SubSequence) -> UInt64 {
        let bytes = UnsafeRawBufferPointer(rebasing: bytes)
        return lzma_crc64(bytes.bindMemory(to: UInt8.self).baseAddress, bytes.count, sum)
    }
}
