import Graph

/// A table as its file has it, before it is known what each column is to a model.
struct RawTable {
    let path: String
    /// Of the columns; empty where the first line names none.
    private(set) var names: [String]
    /// Whether the first line is a heading of names.
    private(set) var isNamed: Bool
    /// float32 `[rows, columns]`: NaN where a cell holds nothing, the place among `texts` where a column holds text.
    var values: HostArray
    /// The texts of each column in any order; `nil` for a column of numbers.
    private(set) var texts: [[String]?]
    /// The line of the first cell of each column that holds nothing.
    private(set) var gaps: [Int?]
    /// The first text of a column that holds some.
    private(set) var firstTexts: [(line: Int, text: String)?]
    private(set) var notices: [String] = []
    /// Whether the first line counts the columns behind the first.
    private let hasCountedIndex: Bool
    private var isFirstLineRow = false
    /// The places of the columns in the file.
    private var positions: [Int]

    /// What is known of a table before it is read, from another of its kind.
    struct Expectation {
        /// Empty where that has none.
        var names: [String]
        var isText: [Bool]
    }

    var rows: Int { values.shape[0] }
    var columns: Int { names.count }

    /// More names than this are no categories.
    static let mostNames = 1000

    init(_ bytes: [UInt8], _ path: String, like expected: Expectation? = nil) throws(FileError) {
        let separator = TableReader.separator(of: bytes)
        self = try TableReader.read(bytes, path, separator: separator) {
            (reader: inout TableReader) throws(FileError) in
            try RawTable(&reader, expected)
        }
    }

    private init(_ reader: inout TableReader, _ expected: Expectation?) throws(FileError) {
        path = reader.path
        let first = try reader.firstLine()
        let cells = first.cells.map { reader.name($0) }
        reader.other = OtherCells(columns: cells.count)
        values = try reader.rows(after: first, isHeading: false)
        let other = reader.other!
        (gaps, firstTexts) = (other.gaps, other.texts)
        let heading = Heading(first.cells, cells, reader, other, rows: values.shape[0] - 1, expected)
        names = heading.kind == .names ? cells : [String](repeating: "", count: cells.count)
        texts = [[String]?](repeating: nil, count: cells.count)
        isNamed = heading.kind == .names
        hasCountedIndex = heading.hasCountedIndex
        positions = Array(cells.indices)
        try readTexts(&reader, first, heading, expected)
        if heading.kind == .counts || isNamed {
            values = values.rows(1..<values.shape[0])
        } else {
            isFirstLineRow = true
            for i in cells.indices where OtherCells.isMissing(reader.text[first.cells[i]]) { gaps[i] = first.line }
        }
        guard values.shape[0] > 0 else { throw FileError(path, "holds no rows; it has a first line of names alone") }
        describe(heading, other, line: first.line)
        if other.decimalComma != nil, reader.hasDecimalPoints() {
            throw FileError(
                path,
                "line \(other.decimalComma!): holds a number with a comma for its point, and others have points; write all with points"
            )
        }
    }

    private mutating func describe(_ heading: Heading, _ other: OtherCells, line: Int) {
        switch heading.kind {
        case .names:
            notices.append(
                "line \(line) names the \(columns) columns: \(names.prefix(4).map { "“\($0)”" }.joined(separator: ", "))\(columns > 4 ? ", ..." : "")"
            )
        case .counts: notices.append("line \(line) counts the columns, as pandas does, and is left out")
        case .none: break
        }
        if let line = other.decimalComma { notices.append("line \(line) has a decimal comma; it is read as a point") }
    }

    // MARK: texts

    /// Reads the columns that hold text once more, now as names.
    private mutating func readTexts(
        _ reader: inout TableReader, _ first: TableReader.FirstLine, _ heading: Heading, _ expected: Expectation?
    ) throws(FileError) {
        var isText = heading.isText
        if let expected { for i in isText.indices where expected.forces(i, names) { isText[i] = true } }
        guard isText.contains(true) else { return }
        var places = [[String: Int]](repeating: [:], count: isText.count)
        let (width, path) = (columns, path)
        let titles = (0..<width).map { columnTitle($0) }
        var codes = values
        values = HostArray(type: .float32, shape: [0, width])
        try reader.visit { reader, row, column, cell throws(FileError) in
            guard isText[column], !OtherCells.isMissing(reader.text[cell]) else { return }
            let name = reader.name(cell)
            let code = places[column][name] ?? places[column].count
            if code == places[column].count {
                guard code < Self.mostNames else {
                    throw FileError(
                        path,
                        "line \(reader.line), \(titles[column]): “\(name.prefix(40))” is one of more than \(Self.mostNames) different texts; the column looks like an identifier, leave it out"
                    )
                }
                places[column][name] = code
            }
            codes.withUnsafeMutableBytes {
                $0.storeBytes(of: Float(code), toByteOffset: 4 * ((row + 1) * width + column), as: Float.self)
            }
        }
        // A first line without numbers, of a table without numbers, is one of names unless its texts come again.
        if heading.isOpen {
            let recurs = first.cells.indices.contains { places[$0][reader.name(first.cells[$0])] != nil }
            if !recurs { (names, isNamed) = (first.cells.map { reader.name($0) }, true) }
        }
        if !isNamed, heading.kind != .counts {
            for (column, cell) in first.cells.enumerated()
            where isText[column] && !OtherCells.isMissing(reader.text[cell]) {
                let name = reader.name(cell)
                let code = places[column][name] ?? places[column].count
                places[column][name] = code
                codes.withUnsafeMutableBytes {
                    $0.storeBytes(of: Float(code), toByteOffset: 4 * column, as: Float.self)
                }
            }
        }
        values = codes
        for column in isText.indices where isText[column] {
            texts[column] = places[column].sorted { $0.value < $1.value }.map(\.key)
        }
    }

    // MARK: columns

    /// A column as people find it, from 1.
    func columnTitle(_ i: Int) -> String { RawTable.title(positions[i], names[i]) }

    static func title(_ i: Int, _ name: String) -> String { "column \(i + 1)" + (name.isEmpty ? "" : " (“\(name)”)") }

    /// The place of the column of a name, or of a number from 1 where there are no names.
    func column(named name: String) -> Int? {
        if let place = names.firstIndex(of: name) { return place }
        guard !isNamed, let number = Int(name), (1...columns).contains(number) else { return nil }
        return number - 1
    }

    /// The line of a row, which the file is read again for.
    func line(ofRow row: Int) -> Int? {
        // The first line is a row, or is none.
        let behindFirst = row - (isFirstLineRow ? 1 : 0)
        guard let bytes = try? Files.read(path) else { return nil }
        return try? TableReader.read(bytes, path, separator: TableReader.separator(of: bytes)) {
            (reader: inout TableReader) throws(FileError) -> Int? in
            guard behindFirst >= 0 else { return try reader.firstLine().line }
            var line: Int?
            try reader.visit { reader, found, _, _ in if found == behindFirst { line = reader.line } }
            return line
        }
    }

    /// Gives what is known of columns another order, as `values` were given.
    mutating func reorderColumns(_ order: [Int]) {
        names = order.map { names[$0] }
        positions = order.map { positions[$0] }
        texts = order.map { texts[$0] }
        gaps = order.map { gaps[$0] }
        firstTexts = order.map { firstTexts[$0] }
    }

    mutating func keepColumns(_ kept: [Int]) {
        values.keepColumns(kept)
        reorderColumns(kept)
    }

    /// Columns that hold nothing of the examples: an index in front, and an empty one at the end, as a separator at the end of every
    /// line leaves.
    func columnsBesideExamples() -> [(column: Int, why: String)] {
        var found: [(Int, String)] = []
        let heading = names[0].lowercased()
        if columns >= 2, rows >= 2, texts[0] == nil, gaps[0] == nil,
            ["unnamed: 0", "index", "id"].contains(heading) || heading.isEmpty && isNamed || hasCountedIndex
        {
            let cells = (0..<rows).map { Float(values.element($0 * columns)) }
            if cells.allSatisfy({ $0 >= 0 && $0 == $0.rounded() }), Set(cells).count == rows {
                found.append((0, "\(columnTitle(0)) numbers the rows and is left out"))
            }
        }
        let last = columns - 1
        if columns >= 2, names[last].isEmpty, texts[last] == nil, gaps[last] != nil,
            (0..<rows).allSatisfy({ values.element($0 * columns + last).isNaN })
        {
            found.append((last, "column \(last + 1) holds nothing and is left out"))
        }
        return found
    }

    /// Whether the first line is a row.
    private struct Heading {
        enum Kind { case none, names, counts }
        var kind = Kind.none
        /// Whether the columns hold text.
        var isText: [Bool]
        /// Whether only the texts below can tell.
        var isOpen = false
        var hasCountedIndex = false

        init(
            _ cells: [Range<Int>], _ names: [String], _ reader: TableReader, _ other: OtherCells, rows: Int,
            _ expected: Expectation?
        ) {
            let numbers = cells.map { reader.number($0) }
            let missing = cells.map { OtherCells.isMissing(reader.text[$0]) }
            let isTextAbove = cells.indices.map { i in
                guard numbers[i] == nil, !missing[i] else { return false }
                return reader.separator != UInt8(ascii: ";")
                    || OtherCells.number(withComma: reader.text[cells[i]]) == nil
            }
            let isTextBelow = other.texts.map { $0 != nil }
            isText = isTextBelow
            let known = expected.map { Set($0.names.filter { !$0.isEmpty }) } ?? []
            if !known.isEmpty, known.isSubset(of: names) {
                kind = .names
                return
            }
            guard rows > 0 else {
                isText = isTextAbove
                return
            }
            if cells.count >= 3 {
                let isCounted = cells.indices.map { numbers[$0] == Float($0) }
                let isCountedBehind = cells.indices.dropFirst().allSatisfy { numbers[$0] == Float($0 - 1) }
                hasCountedIndex = names[0].isEmpty && isCountedBehind
                if hasCountedIndex || isCounted.allSatisfy({ $0 }) {
                    kind = .counts
                    return
                }
            }
            // Years may stand among names, measured numbers not.
            let mayBeNames = numbers.allSatisfy { $0.map { $0 >= 0 && $0 == $0.rounded() } ?? true }
            let isOverNumbers = cells.indices.contains { isTextAbove[$0] && !isTextBelow[$0] }
            if isOverNumbers, mayBeNames {
                kind = .names
            } else if expected == nil, numbers.allSatisfy({ $0 == nil }), isTextAbove.contains(true) {
                isOpen = true
                isText = cells.indices.map { isTextAbove[$0] || isTextBelow[$0] }
            } else {
                isText = cells.indices.map { isTextAbove[$0] || isTextBelow[$0] }
            }
        }
    }
}

extension RawTable.Expectation {
    /// Whether a column holds text though its cells may look like numbers.
    fileprivate func forces(_ column: Int, _ found: [String]) -> Bool {
        let place = names.isEmpty || found[column].isEmpty ? column : names.firstIndex(of: found[column])
        return place.map { isText.indices.contains($0) && isText[$0] } ?? false
    }

    init(_ table: RawTable) {
        self.init(names: table.isNamed ? table.names : [], isText: table.texts.map { $0 != nil })
    }
}

extension TableReader {
    /// Whether a digit, a point and a digit stand somewhere beside each other.
    fileprivate func hasDecimalPoints() -> Bool {
        let isDigit = { (byte: UInt8) in (48...57).contains(byte) }
        guard text.count > 2 else { return false }
        return (1..<text.count - 1).contains { text[$0] == 46 && isDigit(text[$0 - 1]) && isDigit(text[$0 + 1]) }
    }
}
