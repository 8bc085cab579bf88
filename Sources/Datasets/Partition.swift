import Graph
import Likelihood

/// Which rows of one file train, validate and test.
struct Partition {
    /// Ascending, each row once.
    let rows: [Dataset.Split: [Int]]

    /// The rows of the parts, one part behind the other.
    var order: [Int] { Dataset.Split.allCases.flatMap { rows[$0]! } }

    /// Where each part then stands.
    var ranges: [Range<Int>] {
        var start = 0
        return Dataset.Split.allCases.map { split in
            defer { start += rows[split]!.count }
            return start..<start + rows[split]!.count
        }
    }

    /// How many of some examples each part has.
    static func sizes(_ count: Int, _ percentages: [Double]) -> [Int] {
        let held = percentages.dropFirst().map { max(1, Int((Double(count) * $0 / 100).rounded())) }
        return [count - held.reduce(0, +)] + held
    }

    /// The three numbers of percent that a setting names.
    static func percentages(_ text: String) throws(UsageError) -> [Double] {
        let numbers = text.split(separator: "/", omittingEmptySubsequences: false).map { Double($0) ?? -1 }
        guard numbers.count == 3, numbers.allSatisfy({ $0 > 0 }), abs(numbers.reduce(0, +) - 100) < 1e-6 else {
            throw UsageError(
                "split “\(text)”: expected percent that train, validate and test, more than 0 each and 100 together, as 80/10/10"
            )
        }
        return numbers
    }

    /// Every item to one part, at random: what is equal goes to one part together, so that no part knows examples of another.
    /// - Parameter firsts: the first row equal to each; every row stands alone if not given.
    init(
        _ count: Int, _ percentages: [Double], seed: UInt64, firsts: [UInt32]? = nil, of path: String, _ what: String
    ) throws(FileError) {
        let sizes = Self.sizes(count, percentages)
        guard count >= 3, sizes[0] > 0 else {
            throw FileError(
                path, "holds \(count) \(what); to split them takes three or more, one in each part of the percentages")
        }
        let groups = firsts.map { firsts in firsts.indices.filter { firsts[$0] == UInt32($0) } } ?? Array(0..<count)
        var members = [Int](repeating: 0, count: firsts == nil ? 0 : count)
        for first in firsts ?? [] { members[Int(first)] += 1 }
        var part = [UInt8](repeating: 0, count: count)
        var room = sizes
        for place in HostRandom(seed: seed, stream: "split").permutation(groups.count, step: 0) {
            let row = groups[place]
            let size = firsts == nil ? 1 : members[row]
            // Training has what does not fit elsewhere.
            let chosen = [2, 1].first { room[$0] >= size } ?? 0
            part[row] = UInt8(chosen)
            room[chosen] -= size
        }
        let chosen = (0..<count).map { row in part[firsts.map { Int($0[row]) } ?? row] }
        var rows: [Dataset.Split: [Int]] = [:]
        for (i, split) in Dataset.Split.allCases.enumerated() {
            rows[split] = (0..<count).filter { chosen[$0] == UInt8(i) }
            guard !rows[split]!.isEmpty else {
                throw FileError(
                    path,
                    "holds \(groups.count) different \(what) among \(count), too few to split them; give files of their own to validate and to test"
                )
            }
        }
        self.rows = rows
    }
}

/// Rows that are equal to others.
struct Copies {
    /// The first row equal to each, itself where there is none before.
    let firsts: [UInt32]
    /// Rows that stand more than once, and how often all of them stand together.
    let repeated: Int
    let total: Int

    /// - Parameter arrays: `[rows, ..]`; rows are equal where they are in all of them.
    init(_ arrays: [HostArray]) {
        let count = arrays[0].shape[0]
        var firsts = [UInt32](repeating: 0, count: count)
        // Open addressing: half of the places are free.
        var bits = 1
        while 1 << bits < 2 * count { bits += 1 }
        var places = [UInt32](repeating: .max, count: 1 << bits)
        RowBytes.with(arrays) { rows in
            for i in 0..<count {
                var place = Int(rows.hash(i) >> (64 - UInt64(bits)))
                while places[place] != .max, !rows.areEqual(Int(places[place]), i) {
                    place = (place + 1) & (1 << bits - 1)
                }
                if places[place] == .max { places[place] = UInt32(i) }
                firsts[i] = places[place]
            }
        }
        var members = [UInt32](repeating: 0, count: count)
        for first in firsts { members[Int(first)] += 1 }
        self.firsts = firsts
        repeated = members.reduce(0) { $0 + ($1 > 1 ? 1 : 0) }
        total = members.reduce(0) { $0 + ($1 > 1 ? Int($1) : 0) }
    }
}

/// The bytes of the rows of some arrays.
private struct RowBytes {
    let bases: [UnsafeRawPointer]
    let sizes: [Int]

    static func with(_ arrays: [HostArray], _ body: (RowBytes) -> Void) {
        func collect(_ i: Int, _ bases: [UnsafeRawPointer], _ sizes: [Int]) {
            guard i < arrays.count else { return body(RowBytes(bases: bases, sizes: sizes)) }
            arrays[i].withUnsafeBytes { bytes in
                guard let base = bytes.baseAddress else { return collect(i + 1, bases, sizes) }
                collect(i + 1, bases + [base], sizes + [bytes.count / arrays[i].shape[0]])
            }
        }
        collect(0, [], [])
    }

    func hash(_ row: Int) -> UInt64 {
        var sum: UInt64 = 0x9E37_79B9_7F4A_7C15
        func add(_ word: UInt64) {
            sum = (sum ^ word) &* 0xFF51_AFD7_ED55_8CCD
            sum ^= sum >> 32
        }
        for (base, size) in zip(bases, sizes) {
            let start = base + row * size
            var i = 0
            while i + 8 <= size {
                add((start + i).loadUnaligned(as: UInt64.self))
                i += 8
            }
            while i < size {
                add(UInt64((start + i).load(as: UInt8.self)))
                i += 1
            }
        }
        return sum &* 0xC4CE_B9FE_1A85_EC53
    }

    func areEqual(_ a: Int, _ b: Int) -> Bool {
        zip(bases, sizes).allSatisfy { base, size in
            let (a, b) = (base + a * size, base + b * size)
            return UnsafeRawBufferPointer(start: a, count: size)
                .elementsEqual(UnsafeRawBufferPointer(start: b, count: size))
        }
    }
}
