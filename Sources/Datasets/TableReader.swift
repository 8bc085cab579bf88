import Graph

private let newline = UInt8(ascii: "\n")
private let carriageReturn = UInt8(ascii: "\r")
private let comma = UInt8(ascii: ",")
private let semicolon = UInt8(ascii: ";")
private let tab = UInt8(ascii: "\t")
private let quote = UInt8(ascii: "\"")
private let space = UInt8(ascii: " ")

/// Takes a table of text apart, from its beginning to its end: cells between separators, one row a line.
struct TableReader {
    let path: String
    let text: UnsafeRawBufferPointer
    /// A space stands for blanks: spaces and tabs, as many as there are.
    let separator: UInt8
    /// What is done about cells that are no numbers; without, they are refused.
    var other: OtherCells?
    private(set) var columns = 0
    /// From 1.
    private(set) var line = 1
    private var position = 0
    /// The numbers, row by row.
    private var output: UnsafeMutableRawPointer?
    private var count = 0
    private var isInFirstLine = false
    /// The greatest byte that may end a cell.
    private let lastEnd: UInt8

    struct FirstLine {
        let cells: [Range<Int>]
        let line: Int
    }

    static func read<Result>(
        _ bytes: [UInt8], _ path: String, separator: UInt8,
        _ body: (inout TableReader) throws(FileError) -> Result
    ) throws(FileError) -> Result {
        let result: Swift.Result<Result, FileError> = bytes.withUnsafeBytes { text in
            do throws(FileError) {
                guard !text.starts(with: [0xFF, 0xFE]), !text.starts(with: [0xFE, 0xFF]) else {
                    throw FileError(path, "is text in UTF-16; save it in UTF-8")
                }
                var reader = TableReader(path: path, text: text, separator: separator)
                return .success(try body(&reader))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private init(path: String, text: UnsafeRawBufferPointer, separator: UInt8) {
        (self.path, self.text, self.separator) = (path, text, separator)
        lastEnd = max(separator, carriageReturn)
    }

    // MARK: lines

    /// The cells of the first line that is not blank; the position is then behind it.
    mutating func firstLine() throws(FileError) -> FirstLine {
        // Spreadsheets begin with a byte-order mark.
        position = text.starts(with: [0xEF, 0xBB, 0xBF]) ? 3 : 0
        line = 1
        skipBlankLines()
        guard position < text.count else { throw FileError(path, "holds no numbers") }
        var cells: [Range<Int>] = []
        repeat { cells.append(try cell(cells.count + 1)) } while takeSeparator()
        columns = cells.count
        let first = FirstLine(cells: cells, line: line)
        endLine()
        return first
    }

    /// All rows as float32 `[rows, columns]`.
    /// - Parameter isHeading: whether the first line is no row.
    mutating func rows(after first: FirstLine, isHeading: Bool) throws(FileError) -> HostArray {
        let (product, overflow) = lineCount.multipliedReportingOverflow(by: columns)
        // A cell and its separator are a byte or more.
        let expected = overflow ? text.count + 1 : min(product, text.count + 1)
        try Memory.require(4 * expected, for: path)
        let bar = ReadingBar(path, total: text.count)
        defer { bar.end() }
        var rows = 0
        var failure: FileError?
        let bytes = [UInt8](unsafeUninitializedCapacity: 4 * expected) { buffer, filled in
            output = UnsafeMutableRawPointer(buffer.baseAddress)
            defer { output = nil }
            do throws(FileError) {
                if !isHeading { try appendFirst(first) }
                rows = try appendRows(isHeading: isHeading, bar.show) + (isHeading ? 0 : 1)
                filled = 4 * count
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return HostArray(type: .float32, shape: [rows, columns], bytes: bytes)
    }

    private mutating func appendFirst(_ first: FirstLine) throws(FileError) {
        let after = line
        line = first.line
        isInFirstLine = true
        for (i, cell) in first.cells.enumerated() { try append(cell, i + 1) }
        isInFirstLine = false
        line = after
    }

    private mutating func appendRows(isHeading: Bool, _ progress: (Int) -> Void) throws(FileError) -> Int {
        var (rows, reported) = (0, 0)
        while true {
            skipBlankLines()
            if position - reported >= 1 << 24 {
                reported = position
                progress(position)
            }
            guard position < text.count else { return rows }
            var column = 0
            repeat {
                column += 1
                let cell = try cell(column)
                // Of the others only the count is wanted.
                if column <= columns { try append(cell, column) }
            } while takeSeparator()
            guard column == columns else {
                throw FileError(
                    path,
                    "line \(line): expected \(columns) columns\(isHeading && rows == 0 ? " as the first line names" : ""), found \(column)"
                )
            }
            rows += 1
            endLine()
        }
    }

    /// Visits the cells of the rows behind the first line once more.
    /// - Parameter body: is given the row, from 0, the column, from 0, and the cell.
    mutating func visit(_ body: (inout TableReader, Int, Int, Range<Int>) throws(FileError) -> Void) throws(FileError) {
        _ = try firstLine()
        var row = 0
        while true {
            skipBlankLines()
            guard position < text.count else { return }
            var column = 0
            repeat {
                let cell = try cell(column + 1)
                try body(&self, row, column, cell)
                column += 1
            } while takeSeparator()
            row += 1
            endLine()
        }
    }

    private var lineCount: Int {
        var (count, before): (Int, UInt8) = (1, 0)
        for byte in text {
            count &+= byte == newline ? 1 : 0
            count &+= byte == carriageReturn ? 1 : 0
            count &-= byte == newline && before == carriageReturn ? 1 : 0
            before = byte
        }
        return count
    }

    private mutating func skipBlankLines() {
        while position < text.count {
            var end = position
            while end < text.count, text[end] == space { end += 1 }
            guard end == text.count || isLineEnd(text[end]) else { return }
            position = end
            endLine()
        }
    }

    /// Steps over the end of a line: a newline, a carriage return, or both.
    private mutating func endLine() {
        guard position < text.count else { return }
        if text[position] == carriageReturn, position + 1 < text.count, text[position + 1] == newline {
            position += 1
        }
        position += 1
        line += 1
    }

    // MARK: cells

    private mutating func takeSeparator() -> Bool {
        guard position < text.count else { return false }
        if separator == space {
            let start = position
            while position < text.count, isBlank(text[position]) { position += 1 }
            return position > start && position < text.count && !isLineEnd(text[position])
        }
        guard text[position] == separator else { return false }
        position += 1
        return true
    }

    /// The cell at the position, without the spaces and the quotation marks around it; the position is then behind it.
    private mutating func cell(_ column: Int) throws(FileError) -> Range<Int> {
        while position < text.count, isBlank(text[position]) { position += 1 }
        let start = position
        if position < text.count, text[position] == quote { return try quotedCell(column) }
        // Digits, points and signs lie above most separators.
        while position < text.count, text[position] > lastEnd || !isEnd(text[position]) { position += 1 }
        var end = position
        while end > start, text[end - 1] == space { end -= 1 }
        return start..<end
    }

    private mutating func quotedCell(_ column: Int) throws(FileError) -> Range<Int> {
        let start = position + 1
        position = start
        while position < text.count {
            if text[position] == quote {
                // Two of them stand for one.
                guard position + 1 < text.count, text[position + 1] == quote else { break }
                position += 1
            }
            if isLineEnd(text[position]) { break }
            position += 1
        }
        guard position < text.count, text[position] == quote else {
            throw FileError(path, "line \(line), column \(column): its quotation mark is not closed on the line")
        }
        let end = position
        position += 1
        if separator != space { while position < text.count, text[position] == space { position += 1 } }
        guard position == text.count || isEnd(text[position]) else {
            throw bad(start - 1..<min(position + 1, text.count), column)
        }
        return start..<end
    }

    private func isLineEnd(_ byte: UInt8) -> Bool { byte == newline || byte == carriageReturn }

    /// What may stand around a cell.
    private func isBlank(_ byte: UInt8) -> Bool { byte == space || byte == tab && separator == space }

    private func isEnd(_ byte: UInt8) -> Bool {
        byte == separator || isLineEnd(byte) || byte == tab && separator == space
    }

    func number(_ cell: Range<Int>) -> Float? {
        Float(decimal: UnsafeRawBufferPointer(rebasing: text[cell]))
    }

    private mutating func append(_ cell: Range<Int>, _ column: Int) throws(FileError) {
        var value: Float
        if let number = number(cell), number.isFinite {
            value = number
        } else {
            value = try self.value(ofOther: cell, column)
        }
        output?.storeBytes(of: value, toByteOffset: 4 * count, as: Float.self)
        count += 1
    }

    private mutating func value(ofOther cell: Range<Int>, _ column: Int) throws(FileError) -> Float {
        let number = number(cell)
        // The words for infinity begin with a letter.
        if let number, number.isInfinite, text[cell].contains(where: { (48...57).contains($0) }) {
            throw FileError(
                path, "line \(line), column \(column): \(string(cell)) is beyond float32, which ends at 3.4e38")
        }
        if other != nil {
            return try other!.value(
                of: text[cell], number: number, path, line: line, column: column, isInFirstLine: isInFirstLine,
                hasDecimalCommas: separator == semicolon)
        }
        guard let number else { throw bad(cell, column) }
        return number
    }

    /// The beginning of a cell, for messages.
    func string(_ cell: Range<Int>) -> String { String(decoding: text[cell].prefix(40), as: UTF8.self) }

    /// The whole cell; two quotation marks within stand for one.
    func name(_ cell: Range<Int>) -> String {
        guard text[cell].contains(quote), cell.lowerBound > 0, text[cell.lowerBound - 1] == quote else {
            return String(decoding: text[cell], as: UTF8.self)
        }
        var (bytes, isSecond): ([UInt8], Bool) = ([], false)
        for byte in text[cell] {
            isSecond = byte == quote && !isSecond
            if byte != quote || isSecond { bytes.append(byte) }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    // MARK: what is no number

    private func bad(_ cell: Range<Int>, _ column: Int) -> FileError {
        let found = text[cell]
        let advice =
            other != nil
            ? "; a cell in quotation marks ends with the second one"
            : found.contains(semicolon)
                ? "; separate columns by commas, not semicolons"
                : found.contains(tab)
                    ? "; separate columns by commas, not tabs"
                    : isInFirstLine ? "; a first line of names has no numbers among them" : ""
        return FileError(path, "line \(line), column \(column): expected a number, found “\(string(cell))”\(advice)")
    }

    /// Refuses a first line without numbers that holds something else than names: it would be left out.
    func requireNames(_ first: FirstLine) throws(FileError) {
        let cells = first.cells
        func refused(_ column: Int, _ expected: String, _ advice: String) -> FileError {
            FileError(
                path,
                "line \(first.line), column \(column): expected \(expected), found “\(string(cells[column - 1]))”\(advice)"
            )
        }
        let missing = ["", "na", "n/a", "nil", "null", "none", "missing", "?", "-", "."]
        if cells.allSatisfy({ missing.contains(string($0).lowercased()) }) {
            throw refused(
                1, "a number or the name of a column", "; leave rows out in which values are missing")
        }
        for (i, cell) in cells.enumerated() {
            let scalars = String(decoding: text[cell], as: UTF8.self).unicodeScalars
            let isOfNumbers =
                scalars.contains { ("0"..."9").contains($0) }
                && scalars.allSatisfy { "0123456789+-.eE;: \t".unicodeScalars.contains($0) }
            let isOfLines = scalars.contains {
                [.control, .lineSeparator, .paragraphSeparator].contains($0.properties.generalCategory)
            }
            if isOfNumbers || isOfLines || cells.count == 1 && scalars.contains(";") {
                throw refused(
                    i + 1, "a number",
                    scalars.contains(";")
                        ? "; separate columns by commas, not semicolons"
                        : scalars.contains("\t")
                            ? "; separate columns by commas, not tabs"
                            : "; a first line of names has no numbers among them")
            }
        }
    }
}
