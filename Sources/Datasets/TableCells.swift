/// What a table of more than numbers holds besides them.
struct OtherCells {
    /// Of each column, below the first line: whether a cell holds text, and which is the first to; the line of the first that holds
    /// nothing.
    var texts: [(line: Int, text: String)?]
    var gaps: [Int?]
    /// The line of the first number with a comma for its point.
    var decimalComma: Int?

    init(columns: Int) {
        texts = Array(repeating: nil, count: columns)
        gaps = Array(repeating: nil, count: columns)
    }

    private static let words: Set<String> = ["", "na", "nan", "?", "null", "none"]

    /// Whether a cell says that its value is not known.
    static func isMissing(_ cell: UnsafeRawBufferPointer.SubSequence) -> Bool {
        cell.count <= 4 && words.contains(String(decoding: cell, as: UTF8.self).lowercased())
    }

    /// The number that a cell is stored as, which does not look like one: NaN where it holds nothing, or text.
    mutating func value(
        of cell: UnsafeRawBufferPointer.SubSequence, number: Float?, _ path: String, line: Int, column: Int,
        isInFirstLine: Bool, hasDecimalCommas: Bool
    ) throws(FileError) -> Float {
        let i = column - 1
        if Self.isMissing(cell) {
            if !isInFirstLine, gaps[i] == nil { gaps[i] = line }
            return .nan
        }
        if number != nil, !isInFirstLine {
            throw FileError(
                path,
                "line \(line), column \(column): expected a finite number, found “\(String(decoding: cell.prefix(40), as: UTF8.self))”; leave the row out"
            )
        }
        if hasDecimalCommas, let number = Self.number(withComma: cell) {
            decimalComma = decimalComma ?? line
            return number
        }
        if !isInFirstLine, texts[i] == nil { texts[i] = (line, String(decoding: cell.prefix(40), as: UTF8.self)) }
        return .nan
    }

    static func number(withComma cell: UnsafeRawBufferPointer.SubSequence) -> Float? {
        guard let place = cell.firstIndex(of: UInt8(ascii: ",")) else { return nil }
        var digits = Array(cell)
        digits[place - cell.startIndex] = UInt8(ascii: ".")
        let number = digits.withUnsafeBytes { Float(decimal: $0) }
        return number?.isFinite == true ? number : nil
    }
}
