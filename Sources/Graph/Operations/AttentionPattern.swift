/// Which keys each query of attention reads: structure, as every mask here is. What is not read costs nothing, where whole tiles of it
/// lie together, and is known to proofs.
public enum AttentionPattern: Hashable, Sendable {
    /// Every key.
    case all
    /// Keys up to the query's own.
    case causal
    /// Keys before the query's own; the first query reads none, and its result is zero.
    case strictlyCausal
    /// The first keys, so many, and those up to the query's own (Raffel et al. 2020, figure 4).
    case prefix(Int)
    /// So many keys, the query's own the last of them.
    case window(Int)
    /// Of the keys up to the query's own the last `stride`, and those whose distance it divides (Child et al. 2019, section 4.2).
    case strided(Int)
    /// Of the keys up to the query's own those of its row, where positions are images of this width (Ho et al. 2019).
    case row(width: Int)
    /// Those of its column.
    case column(width: Int)
    /// Any blocks of keys for each block of queries.
    case blocks(Blocks)

    /// A 0/1 matrix of blocks.
    public struct Blocks: Hashable, Sendable {
        /// Positions of a block.
        public let size: Int
        /// For each block of queries whether it reads each block of keys.
        public let reads: [[Bool]]

        /// - Parameter reads: queries behind its rows, and keys behind its columns, are not read.
        public init(size: Int, reads: [[Bool]]) {
            trap(unless: size > 0, "a block of attention must hold a position")
            (self.size, self.reads) = (size, reads)
        }
    }

    /// The keys that a query reads, in runs.
    public func keys(of query: Int, count: Int) -> [Range<Int>] {
        let own = Swift.min(query + 1, count)
        switch self {
        case .all: return runs(0..<count)
        case .causal: return runs(0..<own)
        case .strictlyCausal: return runs(0..<Swift.min(query, count))
        case .prefix(let length): return runs(0..<Swift.min(count, Swift.max(own, length)))
        case .window(let length): return runs(Swift.max(0, query + 1 - length)..<Swift.max(own, query + 1 - length, 0))
        case .strided(let stride):
            let first = Swift.max(0, query + 1 - stride)
            let single = Swift.stride(from: query % stride, to: first, by: stride).map { $0..<$0 + 1 }
            return single.filter { $0.upperBound <= count } + runs(first..<Swift.max(first, own))
        case .row(let width): return runs(query / width * width..<Swift.max(query / width * width, own))
        case .column(let width):
            return Swift.stride(from: query % width, to: own, by: width).map { $0..<$0 + 1 }
        case .blocks(let blocks):
            let row = blocks.reads.indices.contains(query / blocks.size) ? blocks.reads[query / blocks.size] : []
            return row.indices.filter { row[$0] && $0 * blocks.size < count }.map {
                $0 * blocks.size..<Swift.min(count, ($0 + 1) * blocks.size)
            }
        }
    }

    private func runs(_ range: Range<Int>) -> [Range<Int>] { range.isEmpty ? [] : [range] }

    /// How many pairs of a query and a key are read.
    public func pairs(queries: Int, keys count: Int) -> Int {
        (0..<queries).reduce(0) { $0 + keys(of: $1, count: count).reduce(0) { $0 + $1.count } }
    }

    /// What is wrong with the pattern, in words.
    func problem() -> String? {
        switch self {
        case .all, .causal, .strictlyCausal, .blocks: nil
        case .prefix(let n): n < 0 ? "a prefix of \(n) keys" : nil
        case .window(let n): n < 1 ? "a window of \(n) keys" : nil
        case .strided(let n): n < 1 ? "a stride of \(n)" : nil
        case .row(let n), .column(let n): n < 1 ? "images of width \(n)" : nil
        }
    }
}

/// The tiles of 64 rows (queries) and 64 columns (keys), or the other way around, that are read at all.
public struct AttentionTiles: Sendable {
    /// Rows, and columns, of a tile: one bit of a mask for each row.
    public static let size = 64
    /// The tiles of block b of rows are `starts[b]..<starts[b + 1]`.
    public private(set) var starts: [Int32] = [0]
    /// The first column of each tile, and a mask; -1 where all of it is read.
    public private(set) var tiles: [Int32] = []
    /// Bit r of `masks[64 * mask + c]` says whether row r reads column c of a tile.
    public private(set) var masks: [UInt64] = []

    /// - Parameter reads: the columns that each row reads, in runs.
    init(columns: Int, reads: [[Range<Int>]]) {
        let size = Self.size
        var known: [[UInt64]: Int32] = [:]
        for first in stride(from: 0, to: reads.count, by: size) {
            let rows = min(size, reads.count - first)
            let all = rows == size ? UInt64.max : (1 << UInt64(rows)) - 1
            var found: [Int: [UInt64]] = [:]
            for row in 0..<rows {
                for run in reads[first + row] {
                    for tile in run.lowerBound / size...(run.upperBound - 1) / size {
                        let columns = max(run.lowerBound, tile * size)..<min(run.upperBound, (tile + 1) * size)
                        for column in columns {
                            found[tile, default: [UInt64](repeating: 0, count: size)][column - tile * size] |=
                                1 << UInt64(row)
                        }
                    }
                }
            }
            for (tile, bits) in found.sorted(by: { $0.key < $1.key }) {
                let count = min(size, columns - tile * size)
                var mask: Int32 = -1
                if !bits[..<count].allSatisfy({ $0 == all }) {
                    if known[bits] == nil {
                        known[bits] = Int32(known.count)
                        masks += bits
                    }
                    mask = known[bits] ?? -1
                }
                tiles += [Int32(tile * size), mask]
            }
            starts.append(Int32(tiles.count / 2))
        }
    }
}

extension AttentionPattern {
    /// The tiles of each block of queries.
    public func tilesByQueries(queries: Int, keys count: Int) -> AttentionTiles {
        AttentionTiles(columns: count, reads: (0..<queries).map { keys(of: $0, count: count) })
    }

    /// The tiles of each block of keys.
    public func tilesByKeys(queries: Int, keys count: Int) -> AttentionTiles {
        var readers = [[Range<Int>]](repeating: [], count: count)
        for query in 0..<queries {
            for key in keys(of: query, count: count).joined() {
                if let last = readers[key].last, last.upperBound == query {
                    readers[key][readers[key].count - 1] = last.lowerBound..<query + 1
                } else {
                    readers[key].append(query..<query + 1)
                }
            }
        }
        return AttentionTiles(columns: queries, reads: readers)
    }
}
