import Graph

// Attention in a sampler. Keys and values are kept, those of a head side by side, as they become known; a query is answered at the step at
// which it and all keys that it reads are there.

extension SamplingProgram {
    /// What each query finds, a channel for each depth of the values: the values of the keys that it reads, weighted by the softmax of
    /// `scale` times query times key. Depth d of the query at position p lies at `queryBase.positions[p] + d * queryBase.channelStride`;
    /// a table's channels are depths here. Its keys, in order, are those of the segments of `rows[row[p]]`: depth d of key j of a segment
    /// lies at `keyBase.positions[p] + segment.a + j * keyStride + d * keyBase.channelStride`, its value likewise by `segment.b`.
    public struct Attention: Sendable {
        public var query: Int
        public var keys: Int
        public var values: Int
        public var queryBase: Table
        public var keyBase: Table
        public var valueBase: Table
        /// From one key of a segment to the next.
        public var keyStride: Int
        /// Likewise, of their values.
        public var valueStride: Int
        public var rows: [[Segment]]
        public var row: [Int32]
        /// Of queries and keys.
        public var depth: Int
        public var scale: Double

        /// How many keys the query at a position reads.
        public func keyCount(_ position: Int) -> Int { rows[Int(row[position])].reduce(0) { $0 + Int($1.count) } }
    }
}

extension SamplingProgram.Work {
    /// Whether it answers queries.
    public var attends: Bool { if case .attention = anchor { true } else { false } }
}

extension SamplingProgram {
    /// Whether there is attention among the works.
    public var attends: Bool { works.contains(where: \.attends) }

    /// Where each row of segments begins among those of all rows, and behind the last their number.
    public static func starts(_ rows: [[Segment]]) -> [Int32] {
        rows.reduce(into: [0]) { $0.append($0.last! + Int32($1.count)) }
    }
}

extension SamplerBuilder {
    /// Adds the works of attention: what keeps keys and values, and what answers queries.
    mutating func emit(_ attention: Attention, _ node: Node, _ cluster: Cluster) throws {
        let result = Tensor(node)
        guard loop == nil, !isRead(Tensor(node, 1), outside: cluster),
            (node.inputs + [result]).allSatisfy({ depthsGoTogether($0) })
        else { throw unsupported(node) }
        let shapes = node.inputs.map { $0.shape.resolved(batch: 1) }
        let (heads, depth, queries) = (shapes[0][1], shapes[0][2], shapes[0][3])
        let (keys, width) = (shapes[1][3], shapes[2][2])
        let query = try query(node.inputs[0], node, cluster)
        // The first key of the head that each query belongs to.
        let base = SamplingProgram.Table(
            positions: (0..<heads * queries).map { Int32($0 / queries * keys) }, channelStride: heads * keys)
        let anchor = SamplingProgram.Attention(
            query: query.value, keys: keep(node.inputs[1], cluster), values: keep(node.inputs[2], cluster),
            queryBase: query.table, keyBase: base, valueBase: base, keyStride: 1, valueStride: 1,
            rows: (0..<queries).map { query in
                attention.pattern.keys(of: query, count: keys).map {
                    SamplingProgram.Segment(
                        a: Int32($0.lowerBound), b: Int32($0.lowerBound), count: Int32($0.count))
                }
            },
            row: (0..<heads * queries).map { Int32($0 % queries) }, depth: depth,
            scale: result.elementType == .float32 ? Double(Float(attention.scale)) : attention.scale)
        append(
            .attention(anchor), [], Program(inputs: [result.elementType], outputs: [0]), [result], cluster,
            Self.byDepth(result))
        parts.channelShapes[place(of: result).value] = (heads * width, queries)
    }

    /// Where queries are found: where they are computed, unless that is a place that examples share.
    private mutating func query(
        _ tensor: Tensor, _ node: Node, _ cluster: Cluster
    ) throws -> (value: Int, table: SamplingProgram.Table) {
        let layout = Self.byDepth(tensor)
        let query = operand(tensor, layout)
        guard case .value(let value) = query.source else { throw unsupported(node) }
        if !parts.values[value].isShared { return (value, query.table) }
        let positions = layout.positionCount
        return (
            keep(tensor, cluster),
            SamplingProgram.Table(positions: (0..<Int32(positions)).map { $0 }, channelStride: positions)
        )
    }

    /// Of a tensor `[batch, heads, depth, positions]` all depths at each position of each head.
    private static func byDepth(_ tensor: Tensor) -> SamplerLayout {
        SamplerLayout(tensor.shape, channels: 0..<tensor.shape[2].coefficient, axis: 2)
    }

    /// Adds the work that keeps what the queries to come will read, and says where: of positions of heads, one after another, all
    /// depths.
    private mutating func keep(_ tensor: Tensor, _ cluster: Cluster) -> Int {
        let layout = Self.byDepth(tensor)
        let positions = layout.positionCount
        let value = parts.add(
            SamplingProgram.Value(
                count: tensor.shape.count.resolved(batch: 1), element: tensor.elementType,
                isShared: !tensor.shape.isBatched, storage: .temporary, label: "attention"))
        parts.channelShapes[value] = (layout.channels.count, positions)
        let builder = SamplerProgramBuilder()
        supply(tensor, builder, cluster, internals: false, layout)
        append(
            .none, builder.operands, builder.program([tensor]), [tensor], cluster, layout,
            to: [SamplerPlace(value: value)],
            at: SamplingProgram.Table(positions: (0..<Int32(positions)).map { $0 }, channelStride: positions),
            includesKnown: true)
        return value
    }

    /// Whether all depths at a position can be computed at the same step, and are needed or not together.
    private func depthsGoTogether(_ tensor: Tensor) -> Bool {
        let shape = tensor.shape.resolved(batch: 1)
        let (depth, positions) = (shape[2], shape[3])
        func areEqual<T: Equatable>(_ array: [T]?) -> Bool {
            array.map { array in
                array.indices.allSatisfy { e in
                    let d = e / positions % depth
                    return array[e] == array[e - d * positions]
                }
            } ?? true
        }
        return kinds.allSatisfy { areEqual($0.levels[tensor]) && areEqual($0.needed[tensor]) }
    }
}

extension SamplingProgram.Work {
    /// The last step in which a key, or its value, is read, for each of so many; -1 where none reads it.
    func lastReads(_ attention: SamplingProgram.Attention, count: Int, stepCount: Int) -> [Int32] {
        var last = [Int32](repeating: -1, count: count)
        // From the last step on, so that the first to read a key is the last. `next` finds the next key that is not read yet, itself or
        // behind: a causal draw reads half the square of its positions, of which this looks at each position once.
        var next = (0...Int32(count)).map { $0 }
        func unread(from key: Int32) -> Int32 {
            var (found, key) = (key, key)
            while next[Int(found)] != found { found = next[Int(found)] }
            while next[Int(key)] != found { (key, next[Int(key)]) = (next[Int(key)], found) }
            return found
        }
        for step in (0..<stepCount).reversed() {
            for p in positions(slot: step).map({ Int($0) }) {
                for segment in attention.rows[Int(attention.row[p])] {
                    let start = attention.keyBase.positions[p] + segment.a
                    var key = unread(from: start)
                    while key < start + segment.count {
                        last[Int(key)] = Int32(step)
                        next[Int(key)] = key + 1
                        key = unread(from: key)
                    }
                }
            }
        }
        return last
    }
}

extension SamplingProgram.Attention {
    /// Changes bases and segments to the new places, which both keys and values have.
    mutating func move(_ keyStorage: SamplingProgram.Storage, _ valueStorage: SamplingProgram.Storage, _ order: [Int32])
    {
        let heads = keyBase.positions
        keyBase.channelStride /= keyStorage.positions
        valueBase.channelStride /= valueStorage.positions
        if keyStorage.isInOrder, valueStorage.isInOrder {
            (keyStride, valueStride) = (keyStorage.channels, valueStorage.channels)
            keyBase.positions = heads.map { $0 * Int32(keyStride) }
            valueBase.positions = heads.map { $0 * Int32(valueStride) }
            for row in rows.indices {
                for s in rows[row].indices {
                    rows[row][s].a *= Int32(keyStride)
                    rows[row][s].b *= Int32(valueStride)
                }
            }
            return
        }
        // In a ring keys lie apart as they do most often; where they do not, as at the ring's end, another segment begins.
        typealias Place = (a: Int32, b: Int32)
        func places(_ p: Int) -> [Place] {
            rows[Int(row[p])].flatMap { segment in
                (0..<segment.count).map { j in
                    let key = heads[p] + segment.a + j
                    return (keyStorage.place(key), valueStorage.place(key))
                }
            }
        }
        var distances: [[Int32]: Int] = [:]
        for p in order.map({ Int($0) }) {
            let own = places(p)
            for (from, to) in zip(own, own.dropFirst()) { distances[[to.a - from.a, to.b - from.b], default: 0] += 1 }
        }
        let stride = distances.max { ($0.value, $1.key[0]) < ($1.value, $0.key[0]) }?.key ?? [0, 0]
        (keyStride, valueStride) = (Int(stride[0]), Int(stride[1]))
        var (newRows, known): ([[SamplingProgram.Segment]], [[SamplingProgram.Segment]: Int32]) = ([], [:])
        var newRow = [Int32](repeating: 0, count: row.count)
        for p in order.map({ Int($0) }) {
            var segments: [SamplingProgram.Segment] = []
            var last: Place?
            for place in places(p) {
                if let last, place.a - last.a == stride[0], place.b - last.b == stride[1] {
                    segments[segments.count - 1].count += 1
                } else {
                    segments.append(SamplingProgram.Segment(a: place.a, b: place.b, count: 1))
                }
                last = place
            }
            if known[segments] == nil {
                known[segments] = Int32(newRows.count)
                newRows.append(segments)
            }
            newRow[p] = known[segments]!
        }
        (rows, row) = (newRows, newRow)
        keyBase.positions = heads.map { _ in 0 }
        valueBase.positions = heads.map { _ in 0 }
    }
}
