import Graph

/// Numbers separated by commas, one row a line.
public enum CSV {
    /// A `[rows, columns]` float32 array. A first line of names is a heading, which is no row.
    /// - Parameter notice: is told in words what looks as if it were not meant so.
    /// - Throws: `FileError` with line and column of the first cell that is not a number.
    public static func read(
        _ path: String, notice: (String) -> Void = { _ in }
    ) throws(FileError) -> HostArray {
        let bytes = try Files.read(path, limit: 1 << 32)
        let bar = ReadingBar(path, total: bytes.count)
        defer { bar.end() }
        return try decode(bytes, path, notice: notice, progress: bar.show)
    }

    static func decode(
        _ bytes: [UInt8], _ path: String, notice: (String) -> Void = { _ in },
        progress: (_ done: Int) -> Void = { _ in }
    ) throws(FileError) -> HostArray {
        let result: Result<HostArray, FileError> = bytes.withUnsafeBytes { text in
            do throws(FileError) {
                var reader = TableReader(path: path, text: text)
                try reader.readFirstLine(notice)
                try reader.readRows(progress)
                reader.notice(notice)
                return .success(HostArray(reader.values, shape: [reader.rows, reader.columns]))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }
}

private let newline = UInt8(ascii: "\n")
private let carriageReturn = UInt8(ascii: "\r")
private let comma = UInt8(ascii: ",")
private let quote = UInt8(ascii: "\"")
private let space = UInt8(ascii: " ")

/// Reads a table from its beginning to its end.
private struct TableReader {
    let path: String
    let text: UnsafeRawBufferPointer
    var values: [Float] = []
    var columns = 0
    var rows = 0
    /// From 1.
    private var line = 1
    private var position = 0
    private var hasHeading = false

    init(path: String, text: UnsafeRawBufferPointer) { (self.path, self.text) = (path, text) }

    // MARK: lines

    /// The names of the columns, or the first row.
    mutating func readFirstLine(_ notice: (String) -> Void) throws(FileError) {
        guard !text.starts(with: [0xFF, 0xFE]), !text.starts(with: [0xFE, 0xFF]) else {
            throw FileError(path, "is text in UTF-16; save it in UTF-8")
        }
        // Spreadsheets begin with a byte-order mark.
        if text.starts(with: [0xEF, 0xBB, 0xBF]) { position = 3 }
        skipBlankLines()
        guard position < text.count else { throw FileError(path, "holds no numbers") }
        var cells: [Range<Int>] = []
        repeat { cells.append(try cell(cells.count + 1)) } while takeComma()
        columns = cells.count
        let numbers = cells.map { number($0) }
        if numbers.allSatisfy({ $0 == nil }) {
            try requireNames(cells)
            notice(
                "line \(line) is taken for the names of the columns, not for an example: \(cells.prefix(4).map { "“\(string($0))”" }.joined(separator: ", "))\(columns > 4 ? ", ..." : "")"
            )
            hasHeading = true
        } else {
            for (i, number) in numbers.enumerated() { try append(number, cells[i], i + 1) }
            rows = 1
        }
        endLine()
    }

    mutating func readRows(_ progress: (Int) -> Void) throws(FileError) {
        let lines = text.reduce(into: 1) { $0 &+= $1 == newline ? 1 : 0 }
        let (product, overflow) = lines.multipliedReportingOverflow(by: columns)
        // A number and its comma are two bytes or more.
        let expected = overflow ? text.count / 2 + 1 : min(product, text.count / 2 + 1)
        // What is read, and once more as an array.
        try Memory.require(8 * expected, for: path)
        values.reserveCapacity(expected)
        var reported = 0
        while true {
            skipBlankLines()
            if position - reported >= 1 << 24 {
                reported = position
                progress(position)
            }
            guard position < text.count else { break }
            var column = 0
            repeat {
                column += 1
                let cell = try cell(column)
                try append(number(cell), cell, column)
            } while takeComma()
            guard column == columns else {
                throw FileError(
                    path,
                    "line \(line): expected \(columns) columns\(hasHeading && rows == 0 ? " as the first line names" : ""), found \(column)"
                )
            }
            rows += 1
            endLine()
        }
        guard rows > 0 else { throw FileError(path, "holds no numbers") }
    }

    /// What is read as numbers, but looks as if it had been written for other ends.
    func notice(_ notice: (String) -> Void) {
        guard columns >= 2 else { return }
        if !hasHeading, columns >= 3, rows > 1, (0..<columns).allSatisfy({ values[$0] == Float($0) }) {
            notice(
                "line 1 counts the columns from 0, as a heading of pandas without names does; it is read as an example: leave it out with header=False"
            )
        }
        if rows >= 3, values[0] == 0 || values[0] == 1,
            (0..<rows).allSatisfy({ values[$0 * columns] == values[0] + Float($0) })
        {
            notice(
                "the first column counts the rows, as an index of pandas does; it is read as a variable: leave it out with index=False"
            )
        }
    }

    private mutating func skipBlankLines() {
        while position < text.count {
            var end = position
            while end < text.count, text[end] == space { end += 1 }
            guard end == text.count || text[end] == newline || text[end] == carriageReturn else { return }
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

    private mutating func takeComma() -> Bool {
        guard position < text.count, text[position] == comma else { return false }
        position += 1
        return true
    }

    /// The cell at the position, without the spaces and the quotation marks around it; the position is then behind it.
    private mutating func cell(_ column: Int) throws(FileError) -> Range<Int> {
        while position < text.count, text[position] == space { position += 1 }
        let start = position
        if position < text.count, text[position] == quote { return try quotedCell(column) }
        while position < text.count, !isEnd(text[position]) { position += 1 }
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
            if text[position] == newline || text[position] == carriageReturn { break }
            position += 1
        }
        guard position < text.count, text[position] == quote else {
            throw FileError(path, "line \(line), column \(column): its quotation mark is not closed on the line")
        }
        let end = position
        position += 1
        while position < text.count, text[position] == space { position += 1 }
        guard position == text.count || isEnd(text[position]) else {
            throw bad(start - 1..<min(position + 1, text.count), column)
        }
        return start..<end
    }

    private func isEnd(_ byte: UInt8) -> Bool {
        byte == comma || byte == newline || byte == carriageReturn
    }

    private func number(_ cell: Range<Int>) -> Float? {
        Float(decimal: UnsafeRawBufferPointer(rebasing: text[cell]))
    }

    private mutating func append(_ number: Float?, _ cell: Range<Int>, _ column: Int) throws(FileError) {
        guard let number else { throw bad(cell, column) }
        // The words for infinity begin with a letter.
        guard number.isFinite || text[cell].allSatisfy({ $0 != 48 && !(49...57).contains($0) }) else {
            throw FileError(
                path, "line \(line), column \(column): \(string(cell)) is beyond float32, which ends at 3.4e38")
        }
        values.append(number)
    }

    private func string(_ cell: Range<Int>) -> String { String(decoding: text[cell].prefix(40), as: UTF8.self) }

    // MARK: what is no number

    private func bad(_ cell: Range<Int>, _ column: Int) -> FileError {
        let found = text[cell]
        let advice =
            found.contains(59)
            ? "; separate columns by commas, not semicolons"
            : found.contains(9)
                ? "; separate columns by commas, not tabs"
                : rows == 0 && !hasHeading && column <= columns
                    ? "; a first line of names has no numbers among them" : ""
        return FileError(path, "line \(line), column \(column): expected a number, found “\(string(cell))”\(advice)")
    }

    /// Refuses a first line without numbers that holds something else than names: it would be left out.
    private func requireNames(_ cells: [Range<Int>]) throws(FileError) {
        let missing = ["", "na", "n/a", "nil", "null", "none", "missing", "?", "-", "."]
        if cells.allSatisfy({ missing.contains(string($0).lowercased()) }) {
            throw FileError(
                path,
                "line \(line), column 1: expected a number or the name of a column, found “\(string(cells[0]))”; leave rows out in which values are missing"
            )
        }
        for (i, cell) in cells.enumerated() {
            let scalars = String(decoding: text[cell], as: UTF8.self).unicodeScalars
            let isOfNumbers =
                scalars.contains { ("0"..."9").contains($0) }
                && scalars.allSatisfy { "0123456789+-.eE;: \t".unicodeScalars.contains($0) }
            let isOfLines = scalars.contains {
                [.control, .lineSeparator, .paragraphSeparator].contains($0.properties.generalCategory)
            }
            if isOfNumbers || isOfLines || cells.count == 1 && scalars.contains(";") { throw bad(cell, i + 1) }
        }
    }
}
