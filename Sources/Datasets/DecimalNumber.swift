#if canImport(Glibc)
    import Glibc
#endif

extension Float {
    /// The float32 nearest to a decimal number: digits, with or without a sign, a point and an exponent, or one of the words
    /// `nan`, `inf` and `infinity`. Ties go to the even one, as IEEE 754 asks for.
    ///
    /// A product or quotient of two doubles settles nearly all of them (Clinger 1990, How to read floating point numbers accurately);
    /// where it lies too near to the middle between two floats for its own rounding, `strtof` decides.
    ///
    /// - Returns: nil for anything else, spaces included; infinity for a number that is beyond float32.
    init?(decimal text: UnsafeRawBufferPointer) {
        guard let number = DecimalNumber(text) else {
            guard let word = Self.word(text) else { return nil }
            self = word
            return
        }
        guard let quick = number.quick else {
            self = Self.careful(text)
            return
        }
        self = number.isNegative ? -quick : quick
    }

    /// Of a text that is a number.
    private static func careful(_ text: UnsafeRawBufferPointer) -> Float {
        // A string of C ends in a zero.
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: text.count + 1) { copy in
            for i in 0..<text.count { copy[i] = CChar(bitPattern: text[i]) }
            copy[text.count] = 0
            return strtof(copy.baseAddress!, nil)
        }
    }

    private static func word(_ text: UnsafeRawBufferPointer) -> Float? {
        let isSigned = text.first == 43 || text.first == 45
        guard (3...9).contains(text.count) else { return nil }
        // The bit of small letters.
        let letters = text.dropFirst(isSigned ? 1 : 0).map { $0 | 0x20 }
        let value: Float
        switch String(decoding: letters, as: UTF8.self) {
        case "nan": value = .nan
        case "inf", "infinity": value = .infinity
        default: return nil
        }
        return text.first == 45 ? -value : value
    }
}

/// A decimal number, taken apart: `digits` x 10^`exponent`.
private struct DecimalNumber {
    var isNegative = false
    /// The first 19 digits from the first that is not 0; further ones are counted in the exponent only.
    var digits: UInt64 = 0
    var exponent = 0

    /// The powers of ten that float32 and 19 digits can need, each rounded once.
    private static let powers: [Double] = (0...64).map { Double("1e\($0)")! }

    init?(_ text: UnsafeRawBufferPointer) {
        var i = 0
        let end = text.count
        if i < end, text[i] == 45 || text[i] == 43 {
            isNegative = text[i] == 45
            i += 1
        }
        var (count, hasDigits) = (0, false)
        func take(_ scale: Int) {
            while i < end, case let digit = text[i] &- 48, digit < 10 {
                hasDigits = true
                if count < 19 {
                    digits = digits &* 10 &+ UInt64(digit)
                    if digits != 0 { count &+= 1 }
                    exponent &-= scale
                } else {
                    exponent &+= 1 &- scale
                }
                i &+= 1
            }
        }
        take(0)
        if i < end, text[i] == 46 {
            i += 1
            take(1)
        }
        guard hasDigits else { return nil }
        if i < end, text[i] | 0x20 == 101 {
            i += 1
            let isSmall = i < end && text[i] == 45
            if i < end, text[i] == 45 || text[i] == 43 { i += 1 }
            guard i < end else { return nil }
            var power = 0
            while i < end, case let digit = text[i] &- 48, digit < 10 {
                power = min(power * 10 + Int(digit), 1 << 40)
                i += 1
            }
            exponent += isSmall ? -power : power
        }
        guard i == end else { return nil }
    }

    /// The nearest float of the magnitude, where doubles are enough to know it.
    var quick: Float? {
        if digits == 0 { return 0 }
        guard (-64...64).contains(exponent) else { return nil }
        let power = Self.powers[abs(exponent)]
        let value = exponent < 0 ? Double(digits) / power : Double(digits) * power
        // Neither subnormal nor near to the largest.
        guard value >= 0x1p-126, value < 0x1p127 else { return nil }
        // The digits, the power and the result are each rounded by half a unit at most, and digits left out are less than
        // another: what a float drops of the double, 29 bits, decides unless it is that near to one half.
        let dropped = Int64(value.bitPattern & 0x1FFF_FFFF)
        return abs(dropped - 0x1000_0000) > 8 ? Float(value) : nil
    }
}
