import Graph
import Likelihood

/// What is known beside the examples.
struct Beside {
    /// Classes as they were read, of the one file or of three.
    var raw: RawLabels?
    var labels: Labels?
    /// float32 `[examples, features]`.
    var features: [HostArray]?
    var weights: [[Float]]?

    /// Of the first file, for finding rows that are equal in everything.
    var arrays: [HostArray] { (raw.map { [HostArray($0.codes[0])] } ?? []) + (features.map { [$0[0]] } ?? []) }

    /// The classes of each part.
    struct Labels {
        var parts: [[Int32]]
        let classes: Int
        var names: [String]?
    }

    /// Brings everything into the parts of the examples.
    mutating func arrange(_ partition: Partition?, _ say: (String) -> Void) throws {
        if let raw { labels = try raw.arranged(partition, say) }
        if var all = features {
            features = nil
            features = Loader.parts(&all, partition)
            say("\(features![0].shape[1]) features are known beside each example")
        }
        if let all = weights {
            var parts = Loader.parts(all, partition)
            let mean = parts[0].reduce(0.0) { $0 + Double($1) } / Double(parts[0].count)
            guard mean > 0 else { throw UsageError("weightsColumn: all training rows have weight 0") }
            for i in parts.indices { for k in parts[i].indices { parts[i][k] = Float(Double(parts[i][k]) / mean) } }
            weights = parts
        }
    }
}

/// The classes of examples as their file has them.
struct RawLabels {
    let path: String
    /// What messages call them.
    let title: String
    var codes: [[Int32]]
    /// The names of the codes; without, codes are classes.
    var names: [String]?

    static let mostClasses = 1 << 16

    /// Names, each a class.
    init(names cells: [[String]], of title: String, _ path: String) {
        (self.path, self.title) = (path, title)
        var places: [String: Int32] = [:]
        var names: [String] = []
        codes = cells.map { cells in
            cells.map { name in
                if let place = places[name] { return place }
                places[name] = Int32(names.count)
                names.append(name)
                return Int32(names.count - 1)
            }
        }
        self.names = names
    }

    /// Whole numbers from 0, which are classes.
    init(numbers: [[Double]], of title: String, _ paths: [String]) throws(FileError) {
        (path, self.title) = (paths[0], title)
        codes = []
        for (numbers, path) in zip(numbers, paths) {
            if let bad = numbers.firstIndex(where: {
                !($0 >= 0 && $0 < Double(Self.mostClasses) && $0 == $0.rounded())
            }) {
                throw FileError(
                    path,
                    "label \(bad) is \(numbers[bad]); expected whole numbers from 0 to \(Self.mostClasses - 1), or names"
                )
            }
            codes.append(numbers.map { Int32($0) })
        }
    }

    /// The classes of each part: of names, those of the training set in order.
    func arranged(_ partition: Partition?, _ say: (String) -> Void) throws(FileError) -> Beside.Labels {
        var parts = Loader.parts(codes, partition)
        guard let names else {
            let classes = Int(parts.joined().max() ?? 0) + 1
            say("\(title): \(classes) classes")
            return Beside.Labels(parts: parts, classes: classes)
        }
        let known = Self.sorted(Set(parts[0]).map { names[Int($0)] })
        let places = Dictionary(uniqueKeysWithValues: known.enumerated().map { ($1, Int32($0)) })
        for i in parts.indices {
            for k in parts[i].indices {
                let name = names[Int(parts[i][k])]
                guard let place = places[name] else {
                    throw FileError(
                        path,
                        "\(title): “\(name)” does not occur in the training set; leave such examples out, or split with another seed"
                    )
                }
                parts[i][k] = place
            }
        }
        let shown = known.prefix(6).enumerated().map { "\($0) “\($1)”" }.joined(separator: ", ")
        say("\(title): \(known.count) classes, \(shown)\(known.count > 6 ? ", ..." : "")")
        return Beside.Labels(parts: parts, classes: known.count, names: known)
    }

    /// Names in order: of their numbers, where all are numbers.
    static func sorted(_ names: [String]) -> [String] {
        let numbers = names.map { Double($0) }
        guard numbers.allSatisfy({ $0 != nil }) else { return names.sorted() }
        return zip(numbers, names).sorted { ($0.0!, $0.1) < ($1.0!, $1.1) }.map(\.1)
    }
}

extension ContentReader {
    /// Classes of an archive's arrays or of files.
    mutating func labels(_ text: String, _ paths: [String], _ counts: [Int]) throws -> RawLabels {
        let cells: [LabelCells]
        let places: [String]
        if let arrays = try members(text, paths) {
            (cells, places) = (arrays.map { .numbers($0.doubles) }, paths)
        } else {
            places = try filesBeside(text, "--labels", counts.count)
            cells = try places.map { try labels($0) }
        }
        for (i, cells) in cells.enumerated() where cells.count != counts[i] {
            throw FileError(places[i], "holds \(cells.count) labels for the \(counts[i]) examples of \(paths[i])")
        }
        let numbers = cells.compactMap { if case .numbers(let numbers) = $0 { numbers } else { nil } }
        let names = cells.compactMap { if case .names(let names) = $0 { names } else { nil } }
        guard numbers.isEmpty || names.isEmpty else {
            throw FileError(
                places[0],
                "holds \(numbers.count == 1 ? "other labels than the other files" : "labels of two kinds"); give numbers or names in all"
            )
        }
        return names.isEmpty
            ? try RawLabels(numbers: numbers, of: "labels", places) : RawLabels(names: names, of: "labels", places[0])
    }

    enum LabelCells {
        case numbers([Double])
        case names([String])

        var count: Int {
            switch self {
            case .numbers(let numbers): numbers.count
            case .names(let names): names.count
            }
        }
    }

    /// The labels of one file: an array of numbers, or a table of one column.
    mutating func labels(_ path: String) throws(FileError) -> LabelCells {
        switch try read(path, role: "labels") {
        case .array(let array): return .numbers(array.doubles)
        case .table(var table):
            table.leaveOut(table.columnsBesideExamples().map(\.column))
            guard table.columns == 1 else {
                throw FileError(path, "has \(table.columns) columns; expected one of labels")
            }
            try table.requireKnown([0])
            return table.texts[0] == nil ? .numbers(table.values.doubles) : .names(table.strings(0))
        case let content: throw FileError(path, "holds \(content.words); expected labels, as a table or an array")
        }
    }

    /// Real numbers beside examples, of an archive's arrays or of files.
    mutating func features(_ text: String, _ paths: [String], _ counts: [Int]) throws -> [HostArray] {
        if let arrays = try members(text, paths) {
            return try arrays.indices.map { try Self.features(arrays[$0], paths[$0], count: counts[$0], of: paths[$0]) }
        }
        let places = try filesBeside(text, "--context", counts.count)
        var features: [HostArray] = []
        for i in places.indices { features.append(try self.features(places[i], count: counts[i], of: paths[i])) }
        for (i, array) in features.enumerated() where array.shape[1] != features[0].shape[1] {
            throw FileError(
                places[i], "has \(array.shape[1]) features, but \(places[0]) has \(features[0].shape[1])")
        }
        return features
    }

    /// float32 `[examples, features]` of one file.
    /// - Parameter columns: those of a table that are the features; all, if not given.
    mutating func features(
        _ path: String, columns: [String]? = nil, count: Int?, of examples: String
    ) throws(FileError) -> HostArray {
        switch try read(path, role: "context") {
        case .array(let array): return try Self.features(array, path, count: count, of: examples)
        case .table(var table):
            if let columns {
                table.select(
                    try columns.map { name throws(FileError) in
                        guard let place = table.column(named: name) else {
                            throw FileError(
                                path,
                                "has no column “\(name)”, on which the run is conditioned; name the features of the rows with --context"
                            )
                        }
                        return place
                    })
            } else {
                table.leaveOut(table.columnsBesideExamples().map(\.column))
            }
            try table.requireKnown(Array(0..<table.columns))
            if let i = table.texts.firstIndex(where: { $0 != nil }) {
                let place = table.firstTexts[i]
                throw FileError(
                    path,
                    "line \(place?.line ?? 1), \(table.columnTitle(i)): expected a number, found “\(place?.text ?? "")”"
                )
            }
            return try Self.features(table.values, path, count: count, of: examples)
        case let content: throw FileError(path, "holds \(content.words); expected real numbers, as a table or an array")
        }
    }

    private static func features(
        _ array: HostArray, _ path: String, count: Int?, of examples: String
    ) throws(FileError) -> HostArray {
        let rows = array.shape.first ?? 0
        guard rows > 0, count == nil || rows == count else {
            throw FileError(path, "holds features of \(rows) examples for the \(count ?? 1) of \(examples)")
        }
        if let bad = array.firstBeyondFloat32 {
            let width = max(1, array.count / rows)
            throw FileError(
                path, "row \(bad / width), column \(bad % width) holds \(array.element(bad)); expected a finite number")
        }
        let shape = [rows, array.count / rows]
        return array.type == .float32 ? array.reshaped(shape) : HostArray(array.floats, shape: shape)
    }

    /// Arrays of the examples' own archive; `nil` where it has none of that name.
    private mutating func members(_ name: String, _ paths: [String]) throws -> [HostArray]? {
        var arrays: [HostArray] = []
        for (path, split) in zip(paths, Dataset.Split.allCases) {
            let (file, _) = Self.member(path)
            guard file.hasSuffix(".npz") else { return nil }
            let archive = try NumPyArchive(file)
            var candidates = paths.count == 1 ? [name] : ["\(split)_\(name)"]
            if paths.count == 3, Set(paths).count == 3 { candidates.append(name) }
            guard let found = candidates.first(where: archive.names.contains) else { return nil }
            arrays.append(try array(found, of: archive))
        }
        return arrays
    }

    private func filesBeside(_ text: String, _ option: String, _ count: Int) throws(UsageError) -> [String] {
        let files = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard files.count == count else {
            throw UsageError(
                "\(option) \(text): expected \(count == 1 ? "one file, as there is one of examples" : "three files separated by commas, of training, validation and test"), found \(files.count)"
            )
        }
        return files
    }
}
