import Distributions
import Graph
import Likelihood

extension DataFiles {
    /// Reads everything, splits it, and finds out what it is.
    /// - Parameters:
    ///   - wanted: what a family of models takes; `nil` takes anything.
    ///   - seed: of the split.
    ///   - notice: is told in one line each what was found out.
    /// - Throws: `FileError` for what the files hold, `UsageError` for what is asked of them.
    public func load(
        as wanted: ExampleKind? = nil, seed: UInt64, notice: (String) -> Void = { _ in }
    ) throws -> LoadedFiles {
        try check()
        var loader = Loader(files: self, wanted: wanted, seed: seed)
        defer { for line in loader.notices { notice(line) } }
        return try loader.load()
    }

    /// Refuses settings that contradict each other, before anything is read.
    private func check() throws(UsageError) {
        guard !train.isEmpty else {
            throw UsageError(
                "name the data with --train FILE, and --valid FILE --test FILE where they are files of their own")
        }
        guard valid.isEmpty == test.isEmpty else {
            throw UsageError("--valid and --test go together; without both the training file is split")
        }
        guard ["refuse", "marginalize"].contains(missing) else {
            throw UsageError("missing “\(missing)”: expected refuse or marginalize")
        }
        guard layout.isEmpty || ArrayLayout.names.contains(layout) else {
            throw UsageError("layout “\(layout)”: expected \(ArrayLayout.names.joined(separator: ", ")), or nothing")
        }
        guard (0...1 << 24).contains(window) else { throw UsageError("window \(window): expected 1 to 16777216 steps") }
        _ = try Partition.percentages(split)
    }
}

/// Makes examples of files. What is read is handed on, never held twice.
struct Loader {
    let files: DataFiles
    let wanted: ExampleKind?
    let seed: UInt64
    var reader = ContentReader()
    var notices: [String] = []
    /// The one file, or those that train, validate and test; and what they hold.
    var paths: [String] = []
    var contents: [FileContent] = []
    var arrays: [HostArray] = []
    var tables: [RawTable] = []
    /// The folder of every picture, recording or text, where folders are classes.
    var folders: [[String]]?

    init(files: DataFiles, wanted: ExampleKind?, seed: UInt64) {
        (self.files, self.wanted, self.seed) = (files, wanted, seed)
    }

    mutating func say(_ message: String) { notices.append(message) }

    mutating func load() throws -> LoadedFiles {
        try readContents()
        for (path, content) in zip(paths, contents) where content.words != contents[0].words {
            throw FileError(path, "holds \(content.words), but \(paths[0]) holds \(contents[0].words)")
        }
        if case .table = contents[0] {
        } else if !files.weightsColumn.isEmpty {
            throw UsageError("weightsColumn \(files.weightsColumn): only rows of a table have weights")
        }
        switch contents[0] {
        case .array:
            for i in contents.indices {
                if case .array(let array) = contents[i] { arrays.append(array) }
                contents[i] = .taken
            }
            return try loadArrays()
        case .pictures: return try loadPictures()
        case .table:
            for i in contents.indices {
                if case .table(let table) = contents[i] { tables.append(table) }
                contents[i] = .taken
            }
            return try loadTables()
        case .sounds, .texts, .taken: return try loadSequences()
        }
    }

    // MARK: files

    private mutating func readContents() throws {
        guard files.valid.isEmpty else {
            reader.known = [:]
            defer { reader.known = nil }
            paths = [files.train, files.valid, files.test]
            contents = [try reader.read(files.train, role: "train")]
            var expected: RawTable.Expectation?
            if case .table(let table) = contents[0] { expected = RawTable.Expectation(table) }
            contents.append(try reader.read(files.valid, role: "valid", like: expected))
            contents.append(try reader.read(files.test, role: "test", like: expected))
            return
        }
        let (file, member) = ContentReader.member(files.train)
        guard file.hasSuffix(".npz"), member == nil else {
            paths = [files.train]
            contents = [try reader.read(files.train)]
            return
        }
        let archive = try NumPyArchive(file)
        let roles = Dataset.Split.allCases.map(\.rawValue)
        if roles.allSatisfy(archive.names.contains) {
            paths = [file, file, file]
            contents = try roles.map { .array(try reader.array($0, of: archive)) }
            return
        }
        let beside = [files.labels] + files.context.split(separator: ",").map(String.init)
        let numeric = try archive.numeric().filter { !beside.contains($0) }
        guard numeric.count == 1 else {
            throw FileError(
                file,
                "expected the arrays train, valid and test, or one array, found \(archive.names.joined(separator: ", ")); name one as \(file):\(numeric.first ?? "NAME")"
            )
        }
        paths = [file]
        contents = [.array(try reader.array(numeric[0], of: archive))]
    }

    // MARK: splitting

    /// Splits the rows of the one file, with what is known beside them; `nil` where there are three.
    mutating func partition(_ rows: [HostArray], _ what: String) throws -> Partition? {
        guard paths.count == 1 else { return nil }
        let count = rows[0].shape[0]
        guard count < 1 << 31 else {
            throw FileError(paths[0], "holds \(count) \(what), more than 2 billion; split it")
        }
        let copies = Copies(rows)
        var firsts: [UInt32]? = copies.firsts
        let distinct = count - copies.total + copies.repeated
        if copies.repeated > 0, 2 * distinct < count {
            say(
                "\(count) \(what), of which only \(distinct) differ: so few values are what there is to learn, and copies are split as they fall"
            )
            firsts = nil
        } else if copies.repeated > 0 {
            say(
                "\(copies.repeated) \(what) stand more than once, \(copies.total) in all; copies are kept in one part of the split"
            )
        }
        let percentages = try Partition.percentages(files.split)
        let partition = try Partition(count, percentages, seed: seed, firsts: firsts, of: paths[0], what)
        let sizes = Dataset.Split.allCases.map { "\(partition.rows[$0]!.count)" }
        say(
            "\(count) \(what) are split by seed \(seed) into \(sizes.joined(separator: ", ")) that train, validate and test"
        )
        return partition
    }

    /// Three arrays of the one that was split, which they share, or those of three files.
    static func parts(_ arrays: inout [HostArray], _ partition: Partition?) -> [HostArray] {
        guard let partition else { return arrays }
        arrays[0].permuteRows(partition.order)
        return partition.ranges.map { arrays[0].rows($0) }
    }

    static func parts<T>(_ items: [[T]], _ partition: Partition?) -> [[T]] {
        guard let partition else { return items }
        return Dataset.Split.allCases.map { split in partition.rows[split]!.map { items[0][$0] } }
    }

    // MARK: what was found

    /// The data set of some parts with all that was found out.
    func finish(
        _ parts: [HostArray], _ shape: ExampleShape, _ values: VariableDomain, _ partition: Partition?, _ beside: Beside
    ) throws -> LoadedFiles {
        var (dataset, shape) = (
            try Dataset(
                name: files.train, train: parts[0], valid: parts[1], test: parts[2], exampleShape: shape.dimensions),
            shape
        )
        if let labels = beside.labels {
            dataset.labels = Dataset.Labels(
                train: labels.parts[0], valid: labels.parts[1], test: labels.parts[2], classes: labels.classes)
            (shape.classes, shape.classNames) = (labels.classes, labels.names)
        }
        if let features = beside.features {
            dataset.features = Dictionary(uniqueKeysWithValues: zip(Dataset.Split.allCases, features))
            shape.features = features[0].shape[1]
        }
        if let weights = beside.weights {
            dataset.weights = Dictionary(uniqueKeysWithValues: zip(Dataset.Split.allCases, weights))
        }
        guard shape.isPossible else {
            throw FileError(files.train, "has examples \(shape.dimensions); expected 16 million variables or fewer")
        }
        return LoadedFiles(
            dataset: dataset, examples: shape, values: values, rows: partition?.rows, sources: reader.sources)
    }
}
