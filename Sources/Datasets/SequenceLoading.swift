import Distributions
import Graph
import Likelihood

extension Loader {
    /// Sounds and texts, cut into windows.
    mutating func loadSequences() throws -> LoadedFiles {
        guard wanted != .images, wanted != .videos else {
            throw FileError(paths[0], "holds \(contents[0].words); this family takes \(wanted!)")
        }
        if case .sounds = contents[0] { return try loadSounds() }
        return try loadTexts()
    }

    private mutating func loadSounds() throws -> LoadedFiles {
        var rate = 0
        var lists: [[NamedBytes]] = []
        for i in contents.indices {
            guard case .sounds(let sounds) = contents[i] else { continue }
            contents[i] = .taken
            if i == 0 { rate = sounds.rate }
            guard sounds.rate == rate else {
                throw FileError(
                    paths[i], "is at \(sounds.rate) Hz, but \(paths[0]) is at \(rate); bring all to one rate")
            }
            lists.append(sounds.files)
        }
        let steps = files.window == 0 ? 4000 : files.window
        let (stream, beside) = try stream(&lists, steps, "recordings", "samples")
        say("sounds at \(rate) Hz, as mu-law codes of 256 levels")
        return try finish(
            try windows(stream, steps, "samples"), ExampleShape([steps], presentation: .sound(rate: rate)),
            .levels(256), nil, beside)
    }

    private mutating func loadTexts() throws -> LoadedFiles {
        var lists: [[NamedBytes]] = []
        for i in contents.indices {
            guard case .texts(let texts) = contents[i] else { continue }
            contents[i] = .taken
            lists.append(texts)
        }
        // What was split by us is one text; what came in files of its own may be of another kind than the training text.
        let known = Alphabet(of: lists[0].map(\.bytes))
        for i in lists.indices.dropFirst() {
            for (name, bytes) in lists[i] { try known.requireSymbols(bytes, name) }
        }
        guard known.count > 1 else { throw FileError(paths[0], "holds one character alone; there is nothing to learn") }
        let steps = files.window == 0 ? 500 : files.window
        var (stream, beside) = try stream(&lists, steps, "texts", "bytes")
        known.encodeInPlace(&stream.bytes)
        say("text of \(known.count) symbols\(paths.count == 1 ? ", those of the whole text" : "")")
        return try finish(
            try windows(stream, steps, "bytes"), ExampleShape([steps], presentation: .text(known)),
            .levels(known.count), nil, beside)
    }

    /// Bytes of all files, those that train, validate and test one behind the other.
    private struct Stream {
        var bytes: [UInt8]
        /// Bytes of each part.
        var counts: [Int]
        /// Bytes of each part that were left out, as they make no window.
        var rest = [0, 0, 0]
    }

    /// Makes one stream of three lists of files, of one whose files are split at random, or of one file that is split in the order of
    /// its time; and what is known beside each window of it.
    private mutating func stream(
        _ lists: inout [[NamedBytes]], _ steps: Int, _ what: String, _ unit: String
    ) throws -> (Stream, Beside) {
        let percentages = try Partition.percentages(files.split)
        if lists.count == 1, lists[0].count == 1 {
            guard files.labels.isEmpty, files.context.isEmpty else {
                throw UsageError(
                    "labels, context: \(paths[0]) is one file, of which all windows would have the same; give a folder of several"
                )
            }
            let bytes = lists[0][0].bytes
            lists = []
            let sizes = Partition.sizes(bytes.count, percentages)
            guard sizes[0] > 0 else { throw FileError(paths[0], "holds \(bytes.count) \(unit), too few to split") }
            say(
                "\(bytes.count) \(unit) are split in their order: \(sizes.map { "\($0)" }.joined(separator: ", ")) train, validate and test"
            )
            return (Stream(bytes: bytes, counts: sizes), Beside())
        }
        for (list, path) in zip(lists, paths) { try noteFolders(list.map(\.name), path) }
        var beside = try beside(lists.map(\.count))
        var partition: Partition?
        if lists.count == 1 {
            let list = lists[0]
            let split = try Partition(list.count, percentages, seed: seed, of: paths[0], what)
            let sizes = Dataset.Split.allCases.map { "\(split.rows[$0]!.count)" }
            say(
                "\(list.count) \(what) are split by seed \(seed): \(sizes.joined(separator: ", ")) train, validate and test"
            )
            lists = Dataset.Split.allCases.map { part in split.rows[part]!.map { list[$0] } }
            partition = split
        }
        try Memory.require(lists.joined().reduce(0) { $0 + $1.bytes.count }, for: paths[0])
        try beside.arrange(partition) { notices.append($0) }
        let stream = Self.stream(lists, steps, &beside)
        lists = []
        return (stream, beside)
    }

    /// Whole windows of all files: none is of two files but where all that is known of both is the same.
    private static func stream(_ lists: [[NamedBytes]], _ steps: Int, _ beside: inout Beside) -> Stream {
        var stream = Stream(bytes: [], counts: [], rest: [])
        stream.bytes.reserveCapacity(lists.joined().reduce(0) { $0 + $1.bytes.count })
        for (part, list) in lists.enumerated() {
            let labels = beside.labels?.parts[part]
            // The files whose bytes follow one another: each by itself where features differ, those of a class, or all.
            let members = Dictionary(grouping: list.indices) {
                beside.features != nil ? $0 : Int(labels?[$0] ?? 0)
            }
            var owners: [Int] = []
            let start = stream.bytes.count
            for group in members.keys.sorted().map({ members[$0]! }) {
                let count = group.reduce(0) { $0 + list[$1].bytes.count } / steps
                let end = stream.bytes.count + count * steps
                for i in group { stream.bytes += list[i].bytes }
                stream.bytes.removeLast(stream.bytes.count - end)
                owners += [Int](repeating: group[0], count: count)
            }
            stream.counts.append(stream.bytes.count - start)
            stream.rest.append(list.reduce(0) { $0 + $1.bytes.count } - stream.counts[part])
            if let labels { beside.labels!.parts[part] = owners.map { labels[$0] } }
            if let features = beside.features?[part] { beside.features![part] = features.rows(owners) }
        }
        return stream
    }

    private mutating func windows(_ stream: Stream, _ steps: Int, _ unit: String) throws -> [HostArray] {
        let counts = stream.counts.map { $0 / steps }
        let found = zip(stream.counts, stream.rest).map { $0 + $1 }
        for (i, split) in Dataset.Split.allCases.enumerated() where counts[i] == 0 {
            throw FileError(
                paths.count == 1 ? paths[0] : paths[i],
                "leaves \(found[i]) \(unit) to \(split), \(found[i] < steps ? "less than" : "in files shorter than") one window of \(steps); choose a smaller window, or give more"
            )
        }
        let rest = zip(found, counts).reduce(0) { $0 + $1.0 - $1.1 * steps }
        say(
            "windows of \(steps) \(unit): \(counts.map { "\($0)" }.joined(separator: ", ")) to train, validate and test\(rest > 0 ? "; \(rest) \(unit) at the ends are left out" : "")"
        )
        let all = HostArray(type: .uint8, shape: [stream.bytes.count], bytes: stream.bytes)
        var start = 0
        return zip(stream.counts, counts).map { size, count in
            defer { start += size }
            return all.rows(start..<start + count * steps).reshaped([count, steps])
        }
    }
}

extension Alphabet {
    /// The bytes that occur in some texts.
    init(of texts: [[UInt8]]) {
        var occurs = [Bool](repeating: false, count: 256)
        for text in texts { for byte in text { occurs[Int(byte)] = true } }
        self.init(bytes: (0..<256).filter { occurs[$0] }.map { UInt8($0) })
    }

    /// Refuses a text with a byte that the alphabet lacks.
    func requireSymbols(_ text: [UInt8], _ name: String) throws(FileError) {
        let known = Set(bytes)
        let isKnown = (0..<256).map { known.contains(UInt8($0)) }
        guard let place = text.firstIndex(where: { !isKnown[Int($0)] }) else { return }
        let line = 1 + text[..<place].count { $0 == UInt8(ascii: "\n") }
        let byte = text[place]
        let shown = (32..<127).contains(byte) ? "“\(Character(Unicode.Scalar(byte)))”" : "\(byte)"
        throw FileError(
            name, "line \(line), byte \(place) of the text is \(shown), which does not occur in the training text")
    }

    /// Symbols in the place of bytes that all occur.
    func encodeInPlace(_ text: inout [UInt8]) {
        var symbols = [UInt8](repeating: 0, count: 256)
        for (i, byte) in bytes.enumerated() { symbols[Int(byte)] = UInt8(i) }
        for i in text.indices { text[i] = symbols[Int(text[i])] }
    }
}
