private let newline = UInt8(ascii: "\n")
private let carriageReturn = UInt8(ascii: "\r")
private let comma = UInt8(ascii: ",")
private let semicolon = UInt8(ascii: ";")
private let tab = UInt8(ascii: "\t")
private let quote = UInt8(ascii: "\"")
private let space = UInt8(ascii: " ")

extension TableReader {
    /// What separates the columns: of tabs, semicolons and commas that which every one of the first lines has as often, outside of
    /// quotation marks, or else blanks.
    static func separator(of bytes: [UInt8]) -> UInt8 {
        let sample = LineSample(bytes)
        let candidates = [tab, semicolon, comma]
        for candidate in candidates {
            let counts = sample.lines.map { $0.counts[candidate] ?? 0 }
            if let first = counts.first, first > 0, counts.allSatisfy({ $0 == first }) { return candidate }
        }
        let words = sample.lines.map(\.words)
        if let first = words.first, first > 1, words.allSatisfy({ $0 == first }), sample.lines.last!.hasNumber {
            return space
        }
        let totals = candidates.map { candidate in sample.lines.reduce(0) { $0 + ($1.counts[candidate] ?? 0) } }
        if let most = totals.max(), most > 0 { return candidates[totals.firstIndex(of: most)!] }
        return sample.lines.allSatisfy({ $0.words > 1 && $0.hasNumber }) ? space : comma
    }

    /// Whether the first lines of a text are rows of numbers, as many in each.
    static func holdsNumbers(_ bytes: [UInt8]) -> Bool {
        let sample = LineSample(bytes)
        return !sample.lines.isEmpty && sample.lines.allSatisfy { $0.isOfNumbers && $0.words == sample.lines[0].words }
    }
}

/// What is seen in the first lines of a text.
private struct LineSample {
    struct Line {
        var counts: [UInt8: Int] = [:]
        /// Parts between blanks, commas and semicolons.
        var words = 0
        var hasNumber = false
        var isOfNumbers = true
    }

    var lines: [Line] = []

    init(_ bytes: [UInt8]) {
        let limit = 1 << 16
        let start = bytes.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        var parts = bytes.prefix(limit).dropFirst(start).split(maxSplits: 32) { $0 == newline || $0 == carriageReturn }
        // The last may go on behind the sample.
        if parts.count > 1, parts.count > 32 || bytes.count > limit { parts.removeLast() }
        for part in parts where !part.allSatisfy({ $0 == space }) { lines.append(Self.line(part)) }
    }

    private static func line(_ bytes: ArraySlice<UInt8>) -> Line {
        var line = Line()
        var isQuoted = false
        for byte in bytes {
            if byte == quote { isQuoted.toggle() }
            if !isQuoted, byte == tab || byte == semicolon || byte == comma { line.counts[byte, default: 0] += 1 }
        }
        for word in bytes.split(whereSeparator: { [space, tab, semicolon, comma].contains($0) }) {
            line.words += 1
            let isNumber = Array(word).withUnsafeBytes { Float(decimal: $0) } != nil
            line.hasNumber = line.hasNumber || isNumber
            line.isOfNumbers = line.isOfNumbers && isNumber
        }
        return line
    }
}
