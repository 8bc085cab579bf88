import Distributions
import Graph
import Likelihood

extension LoadedFiles {
    /// Examples of another file, as a model takes them that was made of such examples: rows of a table by the names of their columns,
    /// pictures, sounds and texts in the windows of the run, arrays by their shape.
    /// - Returns: `[examples, variables]`; one example is fine.
    /// - Throws: `FileError` that says what differs.
    public static func read(
        _ path: String, like examples: ExampleShape, values: VariableDomain, allowsMissing: Bool = false
    ) throws -> HostArray {
        var reader = ContentReader()
        let columns = examples.columns ?? []
        let expected = RawTable.Expectation(
            names: columns.map(\.name).filter { !$0.isEmpty }.isEmpty ? [] : columns.map(\.name),
            isText: columns.map { $0.categories != nil && !$0.isBinary })
        let rows: HostArray
        switch try reader.read(path, like: expected) {
        case .array(let array): rows = try Self.rows(of: array, path, examples)
        case .table(let table): rows = try Self.rows(of: table, examples, allowsMissing)
        case .pictures(var pictures):
            guard examples.image != nil, pictures.shape == examples.dimensions else {
                throw FileError(path, "holds pictures \(pictures.shape); expected examples \(examples.dimensions)")
            }
            var array = pictures.take()
            // Black and white, as they were read for the run.
            if values == .binary, array.withUnsafeBytes({ $0.allSatisfy { $0 == 0 || $0 == 255 } }) {
                array.withUnsafeMutableBytes { for i in $0.indices { $0[i] &= 1 } }
            }
            rows = array
        case .sounds(let sounds):
            guard case .sound(let rate)? = examples.presentation else {
                throw FileError(path, "holds sounds; expected examples \(examples)")
            }
            guard sounds.rate == rate else {
                throw FileError(path, "is at \(sounds.rate) Hz; expected \(rate) Hz, as the run was trained at")
            }
            rows = try Self.windows(sounds.files, path, examples.count, "samples")
        case .texts(let texts):
            guard case .text(let alphabet)? = examples.presentation else {
                throw FileError(path, "holds text; expected examples \(examples)")
            }
            for (name, bytes) in texts { try alphabet.requireSymbols(bytes, name) }
            let encoded = texts.map { text in
                var bytes = text.bytes
                alphabet.encodeInPlace(&bytes)
                return (name: text.name, bytes: bytes)
            }
            rows = try Self.windows(encoded, path, examples.count, "bytes")
        case .taken: throw FileError(path, "holds nothing")
        }
        let flat = rows.reshaped([rows.shape[0], examples.count])
        if let problem = values.problem(in: flat, allowsMissing: allowsMissing) { throw FileError(path, problem) }
        return flat
    }

    /// Real numbers beside examples.
    /// - Parameters:
    ///   - columns: those of a table that are the features; all, if not given.
    ///   - count: of the examples, where it is known.
    /// - Returns: float32 `[rows, features]`.
    public static func readFeatures(_ path: String, columns: [String]? = nil, count: Int? = nil) throws -> HostArray {
        var reader = ContentReader()
        return try reader.features(path, columns: columns, count: count, of: "the input")
    }

    /// The classes of examples: their names, where classes have such, or whole numbers from 0.
    /// - Parameters:
    ///   - names: of the classes, in order; numbers are then taken for names, where each is one.
    public static func readLabels(
        _ path: String, count: Int? = nil, classes: Int, names: [String]? = nil
    ) throws -> [Int32] {
        var reader = ContentReader()
        let cells = try reader.labels(path)
        guard count == nil || cells.count == count else {
            throw FileError(path, "holds \(cells.count) labels for \(count!) examples")
        }
        let places = Dictionary((names ?? []).enumerated().map { ($1, Int32($0)) }) { first, _ in first }
        switch cells {
        case .numbers(let numbers):
            let named = numbers.map { number in Int(exactly: number).flatMap { places["\($0)"] } }
            if names != nil, !named.contains(nil) { return named.map { $0! } }
            if let bad = numbers.firstIndex(where: { !($0 >= 0 && $0 < Double(classes) && $0 == $0.rounded()) }) {
                throw FileError(
                    path, "label \(bad) is \(numbers[bad]); expected whole numbers from 0 to \(classes - 1)")
            }
            return numbers.map { Int32($0) }
        case .names(let found):
            return try found.enumerated().map { i, name in
                guard let place = places[name] else {
                    throw FileError(path, "label \(i): " + Self.unknown(name, names, classes))
                }
                return place
            }
        }
    }

    /// The class of a name, or of a number from 0.
    public static func readLabel(_ text: String, classes: Int, names: [String]? = nil) throws(UsageError) -> Int {
        if let place = names?.firstIndex(of: text) { return place }
        guard let number = Int(text), (0..<classes).contains(number) else {
            throw UsageError("--class " + unknown(text, names, classes))
        }
        return number
    }

    private static func unknown(_ name: String, _ names: [String]?, _ classes: Int) -> String {
        let range = "0 to \(classes - 1)"
        guard let names else { return "\(name): expected \(range)" }
        let shown = names.prefix(12).map { "“\($0)”" }.joined(separator: ", ")
        return "“\(name)” is none of the classes; expected \(shown)\(names.count > 12 ? ", ..." : ""), or \(range)"
    }

    private static func rows(of array: HostArray, _ path: String, _ examples: ExampleShape) throws -> HostArray {
        let (dimensions, count) = (examples.dimensions, examples.count)
        guard array.count > 0 else { throw FileError(path, "is \(array.shape); expected one example or more") }
        if array.count == count, array.shape.first != 1 || array.shape.count == 1 {
            return array.reshaped([1] + dimensions)
        }
        let inner = Array(array.shape.dropFirst())
        if dimensions.count == 3, inner.count == 3, inner != dimensions,
            inner == [dimensions[1], dimensions[2], dimensions[0]]
        {
            var images = array
            images.moveChannelsToFront()
            return images
        }
        let isOfShape =
            inner == dimensions || inner.count <= 1 || dimensions.first == 1 && inner == Array(dimensions.dropFirst())
        guard inner.reduce(1, *) == count, isOfShape else {
            throw FileError(
                path,
                "is \(array.shape); expected examples [rows, \(count)] or [rows, \(dimensions.map { "\($0)" }.joined(separator: ", "))]"
            )
        }
        return array
    }

    /// The cells of the stored columns, by their names where both have such, else by their places.
    private static func rows(of table: RawTable, _ examples: ExampleShape, _ allowsMissing: Bool) throws -> HostArray {
        var table = table
        let columns = examples.columns
        let names = columns?.map(\.name) ?? []
        if table.isNamed, names.contains(where: { !$0.isEmpty }), Set(names).count == names.count {
            let places = try names.map { name throws(FileError) in
                guard let place = table.column(named: name) else {
                    throw FileError(
                        table.path, "has no column “\(name)”; it has \(table.names.prefix(12).joined(separator: ", "))")
                }
                return place
            }
            table.select(places)
        } else if table.columns != examples.count {
            table.leaveOut(table.columnsBesideExamples().map(\.column))
        }
        guard table.columns == examples.count else {
            throw FileError(table.path, "has \(table.columns) columns; expected \(examples.count)")
        }
        if !allowsMissing {
            try table.requireKnown(
                Array(0..<table.columns), "leave the row out, or take a run that was trained with --missing marginalize"
            )
        }
        for i in 0..<table.columns { try table.encode(i, as: columns?[i]) }
        return table.values
    }

    private static func windows(
        _ files: [NamedBytes], _ path: String, _ steps: Int, _ unit: String
    ) throws -> HostArray {
        let all = files.flatMap(\.bytes)
        guard all.count >= steps else {
            throw FileError(path, "holds \(all.count) \(unit); expected \(steps), a window of the run, or more")
        }
        let count = all.count / steps
        return HostArray(all).rows(0..<count * steps).reshaped([count, steps])
    }
}

extension RawTable {
    /// Chooses columns in another order, once each.
    mutating func select(_ chosen: [Int]) {
        let sorted = chosen.sorted()
        keepColumns(sorted)
        guard sorted != chosen else { return }
        // Where each wanted column is now.
        let places = chosen.map { sorted.firstIndex(of: $0)! }
        var row = [Float](repeating: 0, count: places.count)
        values.withUnsafeMutableBytes { bytes in
            let cells = bytes.bindMemory(to: Float.self)
            for start in stride(from: 0, to: cells.count, by: places.count) {
                for (i, place) in places.enumerated() { row[i] = cells[start + place] }
                for i in places.indices { cells[start + i] = row[i] }
            }
        }
        reorderColumns(places)
    }

    /// Makes the cells of a column what a model knows it as.
    fileprivate mutating func encode(_ i: Int, as column: Column?) throws(FileError) {
        guard let texts = texts[i] else {
            // A column without a cell of text, where names look like numbers or nothing is known.
            guard let column, let names = column.categories, !column.isBinary else { return }
            guard (0..<rows).allSatisfy({ values.element($0 * columns + i).isNaN }) else {
                throw FileError(
                    path, "\(columnTitle(i)) holds numbers; expected one of \(names.prefix(6).joined(separator: ", "))")
            }
            return
        }
        guard let column, let names = column.categories, !column.isBinary else {
            let place = firstTexts[i]
            throw FileError(
                path,
                "line \(place?.line ?? 1), \(columnTitle(i)): expected a number, found “\(place?.text ?? texts[0])”")
        }
        let places = Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
        guard let bad = replace(i, in: 0..<rows, by: texts.map { places[$0] ?? -1 }) else { return }
        let line = line(ofRow: bad.row).map { "line \($0), " } ?? ""
        throw FileError(
            path,
            "\(line)\(columnTitle(i)): “\(texts[bad.code])” is none of the names that the run was trained on: \(names.prefix(12).joined(separator: ", "))\(names.count > 12 ? ", ..." : "")"
        )
    }
}
