import Distributions
import Graph
import Likelihood

/// What the columns of a table are for.
private struct ColumnRoles {
    var labels: Int?
    var context: [Int] = []
    var weights: Int?
    var variables: [Int] = []
    /// Whether the settings name files instead.
    var hasLabelFile = false
    var hasContextFile = false

    init(_ files: DataFiles, _ table: RawTable) throws {
        let known = table.names.filter { !$0.isEmpty }
        let choices =
            known.isEmpty
            ? "columns 1 to \(table.columns)"
            : known.prefix(12).joined(separator: ", ") + (known.count > 12 ? ", ..." : "")
        if !files.labels.isEmpty {
            labels = table.column(named: files.labels)
            hasLabelFile = labels == nil
            guard labels != nil || files.labels.contains(".") else {
                throw UsageError(
                    "labels \(files.labels): neither a file nor a column of \(table.path), which has \(choices)")
            }
        }
        if !files.context.isEmpty {
            let columns = files.context.split(separator: ",").map { table.column(named: String($0)) }
            hasContextFile = columns.contains(nil)
            guard !hasContextFile || files.context.contains(".") else {
                throw UsageError(
                    "context \(files.context): neither files nor all columns of \(table.path), which has \(choices)")
            }
            if !hasContextFile { context = columns.map { $0! } }
        }
        if !files.weightsColumn.isEmpty {
            weights = table.column(named: files.weightsColumn)
            guard weights != nil else {
                throw UsageError(
                    "weightsColumn \(files.weightsColumn): no column of \(table.path), which has \(choices)")
            }
        }
        let taken = ([labels, weights] + context).compactMap { $0 }
        guard Set(taken).count == taken.count else {
            throw UsageError("labels, context and weightsColumn name one column twice; each column has one use")
        }
        variables = (0..<table.columns).filter { !taken.contains($0) }
        guard !variables.isEmpty else { throw FileError(table.path, "has no column left for the examples") }
    }
}

extension Loader {
    mutating func loadTables() throws -> LoadedFiles {
        for notice in tables[0].notices { say("\(paths[0]): \(notice)") }
        try requireEqualColumns()
        let outside = tables[0].columnsBesideExamples()
        for (_, why) in outside { say("\(paths[0]): \(why)") }
        if !outside.isEmpty { for i in tables.indices { tables[i].leaveOut(outside.map(\.column)) } }
        if tables[0].countsRows(0) {
            say(
                "\(tables[0].columnTitle(0)) counts the rows, and is read as a variable; leave it out if it is an index"
            )
        }
        let roles = try ColumnRoles(files, tables[0])
        try refuseGaps(roles)
        let counts = tables.map(\.rows)
        var beside = Beside()
        if let column = roles.labels {
            beside.raw = RawLabels(
                names: tables.map { $0.strings(column) }, of: "labels, \(tables[0].columnTitle(column))", paths[0])
        } else if roles.hasLabelFile {
            beside.raw = try reader.labels(files.labels, paths, counts)
        }
        if roles.hasContextFile { beside.features = try reader.features(files.context, paths, counts) }
        if let column = roles.weights { beside.weights = try tables.map { try $0.weights(column) } }
        let partition = try partition([tables[0].values] + beside.arrays, "rows")
        if let partition { tables[0].values.permuteRows(partition.order) }
        let parts = TableParts(partition, counts)
        let names = try categories(roles.variables + roles.context, parts, partition)
        let variables = try ColumnKinds(tables, parts, roles.variables, names, paths[0])
        try beside.arrange(partition) { notices.append($0) }
        // The rows of the table are in the order of the parts already.
        if !roles.context.isEmpty { beside.features = parts.slices(features(roles.context, names)) }
        for i in tables.indices { tables[i].values.keepColumns(roles.variables) }
        return try finish(tables: parts, variables, partition, beside)
    }

    private mutating func finish(
        tables parts: TableParts, _ variables: ColumnKinds, _ partition: Partition?, _ beside: Beside
    ) throws -> LoadedFiles {
        if case .table = variables.values, wanted == .images || wanted == .videos {
            throw FileError(
                paths[0], "has columns of several kinds; this family takes \(wanted!), whose pixels are all alike")
        }
        let values = tables.map(\.values)
        let layout = try ArrayLayout(values[0].shape, files.layout, as: wanted, paths[0])
        for line in variables.notices { say(line) }
        var shape = ExampleShape(layout.dimensions)
        shape.columns = variables.columns
        return try finish(parts.slices(values), shape, variables.values, partition, beside)
    }

    /// Refuses files whose columns are not those of the training file.
    private func requireEqualColumns() throws(FileError) {
        let train = tables[0]
        for table in tables.dropFirst() {
            guard table.columns == train.columns else {
                throw FileError(table.path, "has \(table.columns) columns, but \(train.path) has \(train.columns)")
            }
            for i in 0..<train.columns {
                if table.isNamed, train.isNamed, table.names[i] != train.names[i] {
                    throw FileError(
                        table.path, "column \(i + 1) is “\(table.names[i])”, but “\(train.names[i])” in \(train.path)")
                }
                if table.texts[i] != nil, train.texts[i] == nil {
                    let place = table.firstTexts[i]
                    throw FileError(
                        table.path,
                        "line \(place?.line ?? 1), \(table.columnTitle(i)): “\(place?.text ?? "")” is no number, as the cells of the column in \(train.path) are"
                    )
                }
            }
        }
    }

    /// Refuses cells that hold nothing where something has to be known.
    private mutating func refuseGaps(_ roles: ColumnRoles) throws(FileError) {
        let known = ([roles.labels, roles.weights] + roles.context).compactMap { $0 }
        for table in tables {
            try table.requireKnown(known)
            guard files.missing == "refuse" else { continue }
            try table.requireKnown(
                roles.variables, "leave the row or the column out, or train on what is known with --missing marginalize"
            )
        }
        let open = roles.variables.filter { column in tables.contains { $0.gaps[column] != nil } }
        guard !open.isEmpty else { return }
        let titles = open.prefix(6).map { tables[0].columnTitle($0) }.joined(separator: ", ")
        say("cells hold nothing in \(titles)\(open.count > 6 ? ", ..." : ""); they are marginalized")
    }

    /// Gives the texts of some columns the places of their names among those of the training rows.
    /// - Returns: the names by column.
    private mutating func categories(
        _ columns: [Int], _ parts: TableParts, _ partition: Partition?
    ) throws(FileError) -> [Int: [String]] {
        var found: [Int: [String]] = [:]
        for column in columns where tables[0].texts[column] != nil {
            var isUsed = [Bool](repeating: false, count: tables[0].texts[column]!.count)
            let train = parts.places[0]
            tables[train.table].forEach(column, in: train.rows) { _, code in isUsed[Int(code)] = true }
            let names = RawLabels.sorted(isUsed.indices.filter { isUsed[$0] }.map { tables[0].texts[column]![$0] })
            let places = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
            for (part, place) in parts.places.enumerated() {
                let texts = tables[place.table].texts[column] ?? []
                let codes = texts.map { places[$0] ?? -1 }
                guard let bad = tables[place.table].replace(column, in: place.rows, by: codes) else { continue }
                let row = partition.map { $0.rows[Dataset.Split.allCases[part]]![bad.row] } ?? bad.row
                let table = tables[place.table]
                let line = table.line(ofRow: row).map { "line \($0), " } ?? "row \(row), "
                throw FileError(
                    table.path,
                    "\(line)\(table.columnTitle(column)): “\(texts[bad.code])” does not occur in the training rows; leave the row out, join rare names into one\(partition == nil ? "" : ", or split with another seed")"
                )
            }
            found[column] = names
        }
        return found
    }

    /// The columns of the context, one for each number and one for each name of a text.
    private mutating func features(_ columns: [Int], _ names: [Int: [String]]) -> [HostArray] {
        for column in columns where names[column] != nil {
            say(
                "context \(tables[0].columnTitle(column)) is 1 at its name among \(names[column]!.joined(separator: ", ")), else 0"
            )
        }
        return tables.map { table in
            let widths = columns.map { names[$0]?.count ?? 1 }
            let width = widths.reduce(0, +)
            var features = [Float](repeating: 0, count: table.rows * width)
            var start = 0
            for (column, count) in zip(columns, widths) {
                let isText = names[column] != nil
                table.forEach(column, in: 0..<table.rows) { row, cell in
                    features[row * width + start + (isText ? Int(cell) : 0)] = isText ? 1 : cell
                }
                start += count
            }
            return HostArray(features, shape: [table.rows, width])
        }
    }
}

/// Where the rows of the three parts stand: one behind the other in one table, or each in a table of its own.
struct TableParts {
    let places: [(table: Int, rows: Range<Int>)]

    init(_ partition: Partition?, _ counts: [Int]) {
        places = partition.map { $0.ranges.map { (0, $0) } } ?? counts.enumerated().map { ($0, 0..<$1) }
    }

    func slices(_ arrays: [HostArray]) -> [HostArray] { places.map { arrays[$0.table].rows($0.rows) } }
}

extension RawTable {
    mutating func leaveOut(_ columns: [Int]) {
        if !columns.isEmpty { keepColumns((0..<self.columns).filter { !columns.contains($0) }) }
    }

    /// Whether a column of several holds 0, 1, 2 .. or 1, 2, 3 ..
    fileprivate func countsRows(_ column: Int) -> Bool {
        guard columns >= 2, rows >= 3, texts[column] == nil else { return false }
        let start = values.element(column)
        return (start == 0 || start == 1)
            && (0..<rows).allSatisfy { values.element($0 * columns + column) == start + Double($0) }
    }

    /// Refuses columns with cells that hold nothing.
    func requireKnown(_ columns: [Int], _ advice: String = "leave the row out") throws(FileError) {
        let first = columns.filter { gaps[$0] != nil }.min { gaps[$0]! < gaps[$1]! }
        guard let first else { return }
        throw FileError(path, "line \(gaps[first]!), \(columnTitle(first)) holds nothing; \(advice)")
    }

    /// The known cells of a column.
    func forEach(_ column: Int, in rows: Range<Int>, _ body: (_ row: Int, _ cell: Float) -> Void) {
        values.withUnsafeBytes { bytes in
            let cells = bytes.bindMemory(to: Float.self)
            for row in rows where !cells[row * columns + column].isNaN { body(row, cells[row * columns + column]) }
        }
    }

    /// Puts other codes into a column of text.
    /// - Returns: the first cell whose code has none, with its row among those.
    mutating func replace(_ column: Int, in rows: Range<Int>, by codes: [Int]) -> (row: Int, code: Int)? {
        let width = columns
        return values.withUnsafeMutableBytes { bytes in
            let cells = bytes.bindMemory(to: Float.self)
            for row in rows where !cells[row * width + column].isNaN {
                let code = Int(cells[row * width + column])
                guard codes[code] >= 0 else { return (row - rows.lowerBound, code) }
                cells[row * width + column] = Float(codes[code])
            }
            return nil
        }
    }

    /// The cells of a column as texts; whole numbers without a point.
    func strings(_ column: Int) -> [String] {
        var strings = [String](repeating: "", count: rows)
        let texts = texts[column]
        forEach(column, in: 0..<rows) { row, cell in
            strings[row] =
                texts.map { $0[Int(cell)] }
                ?? (cell == cell.rounded() && abs(cell) < 0x1p24 ? "\(Int(cell))" : "\(cell)")
        }
        return strings
    }

    /// The weights in a column, which are not negative.
    fileprivate func weights(_ column: Int) throws(FileError) -> [Float] {
        guard texts[column] == nil else {
            throw FileError(path, "\(columnTitle(column)) holds text; expected the weight of each row")
        }
        var weights = [Float](repeating: 0, count: rows)
        forEach(column, in: 0..<rows) { weights[$0] = $1 }
        guard weights.allSatisfy({ $0 >= 0 }), weights.contains(where: { $0 > 0 }) else {
            throw FileError(
                path, "\(columnTitle(column)) holds negative numbers or zeros alone; expected the weight of each row")
        }
        return weights
    }
}
