/// Random numbers that a seed repeats (Steele, Lea and Flood 2014).
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
        return z ^ z >> 31
    }

    mutating func below(_ count: Int) -> Int { count < 1 ? 0 : Int(next() % UInt64(count)) }
}

/// Damage as it happens to files, and as somebody would do it who means harm.
enum Mutation: CaseIterable {
    case bit, byte, integer, digits, token, truncation, removal, repetition, splice, swap

    static let largest = 1 << 20

    private static let numbers = [
        "-1", "0", "1", "255", "256", "65536", "2147483648", "4294967296", "9223372036854775807",
        "18446744073709551616",
        "1e308", "1e-400", "nan", "0.1", "00",
    ]

    /// Changes some bytes.
    /// - Parameters:
    ///   - other: another seed of the same kind.
    ///   - tokens: words of the format.
    func apply(_ bytes: inout [UInt8], other: [UInt8], tokens: [String], _ random: inout SplitMix) {
        let at = random.below(bytes.count)
        // Headers are where most of the meaning is.
        let place = Bool.random(using: &random) ? at : min(at, random.below(64))
        let length = min(bytes.count - place, 1 << random.below(10))
        switch self {
        case .bit: if !bytes.isEmpty { bytes[place] ^= 1 << UInt8(random.below(8)) }
        case .byte: if !bytes.isEmpty { bytes[place] = UInt8(truncatingIfNeeded: random.next()) }
        case .integer: Self.writeInteger(&bytes, place, &random)
        case .digits: Self.replaceDigits(&bytes, place, &random)
        case .token:
            if let token = tokens.randomElement(using: &random) { bytes.insert(contentsOf: token.utf8, at: place) }
        case .truncation: bytes.removeLast(random.below(bytes.count))
        case .removal: bytes.removeSubrange(place..<place + length)
        case .repetition:
            let part = bytes[place..<place + length]
            for _ in 0...random.below(16) { bytes.insert(contentsOf: part, at: place) }
        case .splice:
            let from = random.below(other.count)
            bytes.insert(contentsOf: other[from..<min(other.count, from + 1 << random.below(10))], at: place)
        case .swap:
            if !bytes.isEmpty { bytes.swapAt(place, random.below(bytes.count)) }
        }
        if bytes.count > Self.largest { bytes.removeLast(bytes.count - Self.largest) }
    }

    /// A number at the edge of what its bytes hold, in either order.
    private static func writeInteger(_ bytes: inout [UInt8], _ place: Int, _ random: inout SplitMix) {
        let width = 1 << random.below(4)
        guard place + width <= bytes.count else { return }
        let edges: [Int] = [
            0, 1, -1, Int.max, Int.min, 0x7F, 0x80, 0x7FFF, 0x8000, 0x7FFF_FFFF, 0x8000_0000, bytes.count,
            bytes.count - 1,
            bytes.count + 1, bytes.count - place,
        ]
        let value = edges.randomElement(using: &random)!
        let isLittle = Bool.random(using: &random)
        for i in 0..<width {
            bytes[place + i] = UInt8(truncatingIfNeeded: value >> (8 * (isLittle ? i : width - 1 - i)))
        }
    }

    /// A number in words, in the place of the next one.
    private static func replaceDigits(_ bytes: inout [UInt8], _ place: Int, _ random: inout SplitMix) {
        let isDigit = { (byte: UInt8) in (48...57).contains(byte) }
        guard let start = bytes[place...].firstIndex(where: isDigit) else { return }
        let end = bytes[start...].firstIndex { !isDigit($0) } ?? bytes.count
        bytes.replaceSubrange(start..<end, with: numbers.randomElement(using: &random)!.utf8)
    }
}
