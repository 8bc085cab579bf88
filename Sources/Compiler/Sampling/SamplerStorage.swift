import Graph

// Where the values of a sampler lie. The derivation gives every value the row-major layout of its tensor and keeps all of it;
// here a value of channels at positions gets its channels side by side, and memory for no more positions than are needed
// at a time: a dilated convolution of sixteen steps keeps sixteen positions of what it reads.

extension SamplingProgram {
    /// A value's new places: element (channel, position) at `slots[position] * channels + channel`.
    struct Storage {
        let channels: Int
        let positions: Int
        let slots: [Int32]
        let slotCount: Int

        /// The place of an element, given as it was before.
        func place(_ element: Int32) -> Int32 {
            slots[Int(element) % positions] * Int32(channels) + element / Int32(positions)
        }

        func place(_ element: Int) -> Int { Int(place(Int32(element))) }

        /// Whether positions lie one after another.
        var isInOrder: Bool { slots.indices.allSatisfy { slots[$0] == $0 } }
    }

    /// - Parameters:
    ///   - shapes: channels and positions of the values that have both.
    ///   - loopWorks: the works that belong to loops. A slot of the others is a step.
    mutating func store(_ shapes: [Int: (channels: Int, positions: Int)], loopWorks: Set<Int>) {
        var candidates = shapes.filter { id, shape in
            guard case .temporary = values[id].storage else { return false }
            return id != drawn && shape.positions > 1
        }
        for (index, work) in works.enumerated() {
            for access in work.accesses {
                guard let shape = candidates[access.value] else { continue }
                // What a loop touches lies where its cursors say.
                if loopWorks.contains(index) || access.strides.contains(where: { $0 % shape.positions != 0 }) {
                    candidates[access.value] = nil
                }
            }
        }
        guard !candidates.isEmpty else { return }
        let lives = lifetimes(candidates, of: works.indices.filter { !loopWorks.contains($0) }.map { works[$0] })
        var storage: [Int: Storage] = [:]
        for (id, life) in lives {
            guard let shape = candidates[id] else { continue }
            storage[id] = Storage(shape, life, values[id].known, isWhole: outputs.contains { $0.value == id })
        }
        for index in works.indices where !loopWorks.contains(index) { works[index].move(storage) }
        for (id, s) in storage {
            if let known = values[id].known { values[id].known = known.moved(s) }
            values[id].count = s.slotCount * s.channels
        }
        for index in outputs.indices {
            guard let s = storage[outputs[index].value] else { continue }
            outputs[index].places = (0..<s.channels * s.positions).map { s.place(Int32($0)) }
        }
    }

    /// The steps at which the positions of a value are first written, and last written or read; -1 where they are not.
    struct Lifetimes {
        var firstWrite: [Int32]
        var lastUse: [Int32]
    }

    private func lifetimes(_ shapes: [Int: (channels: Int, positions: Int)], of works: [Work]) -> [Int: Lifetimes] {
        var lives = shapes.mapValues { _, positions in
            Lifetimes(
                firstWrite: [Int32](repeating: -1, count: positions), lastUse: [Int32](repeating: -1, count: positions)
            )
        }
        // Notes the steps at which a work reads or writes the positions of a value that one of its tables names.
        func visit(_ value: Int, _ work: Work, _ table: [Int32], _ offsets: (Int) -> [Int32], writes: Bool) {
            guard let positions = shapes[value]?.positions, var life = lives.removeValue(forKey: value) else { return }
            for step in 0..<stepCount {
                for p in work.positions(slot: step) {
                    for offset in offsets(Int(p)) {
                        let position = Int(table[Int(p)] + offset) % positions
                        life.lastUse[position] = Swift.max(life.lastUse[position], Int32(step))
                        if writes, life.firstWrite[position] < 0 || life.firstWrite[position] > Int32(step) {
                            life.firstWrite[position] = Int32(step)
                        }
                    }
                }
            }
            lives[value] = life
        }
        for work in works {
            switch work.anchor {
            case .none: break
            case .product(let p):
                let a = p.rows.map { $0.map(\.a) }
                let b = p.rows.map { $0.map(\.b) }
                visit(p.a, work, p.aBase.positions, { a[Int(p.row[$0])] }, writes: false)
                visit(p.b, work, p.bBase.positions, { b[Int(p.row[$0])] }, writes: false)
            case .reduction(let r): visit(r.value, work, r.base.positions, { _ in r.offsets }, writes: false)
            case .attention(let a):
                visit(a.query, work, a.queryBase.positions, { _ in [0] }, writes: false)
                for value in [a.keys, a.values] {
                    guard let count = shapes[value]?.positions, let life = lives[value] else { continue }
                    let last = work.lastReads(a, count: count, stepCount: stepCount)
                    lives[value]?.lastUse = zip(life.lastUse, last).map { Swift.max($0, $1) }
                }
            }
            for operand in work.operands {
                if case .value(let id) = operand.source {
                    visit(id, work, operand.table.positions, { _ in [0] }, writes: false)
                }
            }
            for (value, target) in zip(work.outputs, work.targets) {
                visit(value, work, target.positions, { _ in [0] }, writes: true)
            }
        }
        return lives
    }
}

extension SamplingProgram.Storage {
    /// Positions that works write take the slots of a ring (0, 1, .., ring - 1, 0, ..) in the order in which they are
    /// written. The ring has as many slots as positions are written, at most, from a position's own step until its last
    /// use. The other positions have slots of their own, behind the ring.
    ///
    /// - Parameter isWhole: whether every position keeps a slot of its own, because the value is handed back.
    init(
        _ shape: (channels: Int, positions: Int), _ life: SamplingProgram.Lifetimes, _ known: KnownValues?,
        isWhole: Bool
    ) {
        let (channels, positions) = shape
        self.channels = channels
        self.positions = positions
        let isFixed = (0..<positions).map { p in
            life.firstWrite[p] < 0
                || known.map { k in (0..<channels).contains { k.isKnown[$0 * positions + p] } } == true
        }
        // A stable sort: the order of positions within a step is their own.
        let written = (0..<positions).filter { !isFixed[$0] }
            .sorted { (life.firstWrite[$0], $0) < (life.firstWrite[$1], $1) }
        let steps = written.map { life.firstWrite[$0] }
        var (ring, next) = (1, 0)
        // In the order of their last uses, so that `next` only grows.
        for rank in written.indices.sorted(by: { life.lastUse[written[$0]] < life.lastUse[written[$1]] }) {
            while next < steps.count, steps[next] <= life.lastUse[written[rank]] { next += 1 }
            ring = Swift.max(ring, next - rank)
        }
        let fixed = (0..<positions).filter { isFixed[$0] && (life.lastUse[$0] >= 0 || known != nil) }
        guard !isWhole, ring + fixed.count < positions else {
            slots = (0..<positions).map { Int32($0) }
            slotCount = positions
            return
        }
        var slots = [Int32](repeating: 0, count: positions)
        for (rank, p) in written.enumerated() { slots[p] = Int32(rank % ring) }
        for (k, p) in fixed.enumerated() { slots[p] = Int32(ring + k) }
        self.slots = slots
        slotCount = ring + fixed.count
    }
}

extension KnownValues {
    fileprivate func moved(_ storage: SamplingProgram.Storage) -> KnownValues {
        var result = KnownValues(
            isKnown: [Bool](repeating: false, count: storage.slotCount * storage.channels),
            values: [Double](repeating: 0, count: storage.slotCount * storage.channels))
        for e in isKnown.indices where isKnown[e] {
            let place = storage.place(e)
            result.isKnown[place] = true
            result.values[place] = values[e]
        }
        return result
    }
}

extension SamplingProgram.Work {
    /// The values that the work touches, each with the strides at which it walks on from an element that a table names.
    fileprivate var accesses: [(value: Int, strides: [Int])] {
        var result: [(Int, [Int])] = []
        let stride = { (table: SamplingProgram.Table) in channels > 1 ? [table.channelStride] : [] }
        switch anchor {
        case .none: break
        case .product(let p):
            let isLong = p.rows.contains { $0.contains { $0.count > 1 } }
            result.append((p.a, stride(p.aBase) + (isLong ? [p.aStride] : [])))
            result.append((p.b, stride(p.bBase) + (isLong ? [p.bStride] : [])))
        case .reduction(let r): result.append((r.value, stride(r.base) + r.offsets.map { Int($0) }))
        case .attention(let a):
            result += [(a.query, a.queryBase), (a.keys, a.keyBase), (a.values, a.valueBase)].map {
                ($0, [$1.channelStride])
            }
        }
        for operand in operands {
            if case .value(let id) = operand.source { result.append((id, stride(operand.table))) }
        }
        for (value, target) in zip(outputs, targets) { result.append((value, stride(target))) }
        return result
    }

    /// Changes the work's tables to the new places of the values.
    fileprivate mutating func move(_ storage: [Int: SamplingProgram.Storage]) {
        func moved(_ table: SamplingProgram.Table, _ s: SamplingProgram.Storage) -> SamplingProgram.Table {
            var positions = [Int32](repeating: 0, count: table.positions.count)
            for p in order { positions[Int(p)] = s.place(table.positions[Int(p)]) }
            return SamplingProgram.Table(
                positions: positions, channelStride: table.channelStride / s.positions, cursor: table.cursor)
        }
        switch anchor {
        case .none: break
        case .product(var p):
            let (a, b) = (storage[p.a], storage[p.b])
            if a != nil || b != nil {
                p.move(a, b, order)
                anchor = .product(p)
            }
        case .reduction(var r):
            if let s = storage[r.value] {
                r.base = moved(r.base, s)
                r.offsets = r.offsets.map { $0 / Int32(s.positions) }
                anchor = .reduction(r)
            }
        case .attention(var a):
            if let s = storage[a.query] { a.queryBase = moved(a.queryBase, s) }
            if let keys = storage[a.keys], let values = storage[a.values] { a.move(keys, values, order) }
            anchor = .attention(a)
        }
        for index in operands.indices {
            if case .value(let id) = operands[index].source, let s = storage[id] {
                operands[index].table = moved(operands[index].table, s)
            }
        }
        for (index, value) in outputs.enumerated() {
            if let s = storage[value] { targets[index] = moved(targets[index], s) }
        }
    }
}

extension SamplingProgram.SumOfProducts {
    /// Changes bases and segments to the new places. A position whose segments lie on both sides of the ring's end
    /// finds them at other distances than other positions do, and gets a row of its own.
    fileprivate mutating func move(
        _ aStorage: SamplingProgram.Storage?, _ bStorage: SamplingProgram.Storage?, _ order: [Int32]
    ) {
        var (newRows, known): ([[SamplingProgram.Segment]], [[SamplingProgram.Segment]: Int32]) = ([], [:])
        var newRow = [Int32](repeating: 0, count: row.count)
        var (aNew, bNew) = (aBase.positions, bBase.positions)
        for p in order.map({ Int($0) }) {
            var segments = rows[Int(row[p])]
            func place(
                _ storage: SamplingProgram.Storage?, _ bases: inout [Int32],
                _ offset: WritableKeyPath<SamplingProgram.Segment, Int32>
            ) {
                guard let storage else { return }
                let base = bases[p]
                for k in segments.indices {
                    segments[k][keyPath: offset] = storage.place(base + segments[k][keyPath: offset])
                }
                bases[p] = segments.first?[keyPath: offset] ?? 0
                for k in segments.indices { segments[k][keyPath: offset] -= bases[p] }
            }
            place(aStorage, &aNew, \.a)
            place(bStorage, &bNew, \.b)
            if known[segments] == nil {
                known[segments] = Int32(newRows.count)
                newRows.append(segments)
            }
            newRow[p] = known[segments]!
        }
        (rows, row) = (newRows, newRow)
        aBase.positions = aNew
        bBase.positions = bNew
        if let aStorage {
            aStride /= aStorage.positions
            aBase.channelStride /= aStorage.positions
        }
        if let bStorage {
            bStride /= bStorage.positions
            bBase.channelStride /= bStorage.positions
        }
    }
}
