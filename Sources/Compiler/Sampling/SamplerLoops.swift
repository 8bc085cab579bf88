import Graph

// Loops in a sampler. The works of a loop's body are there once; each step of the draw runs them for the iterations that have become
// computable, on values that hold as many iterations as are under way at a time. What an iteration carries is the sampler's state.

extension SamplerBuilder {
    /// Adds the works of a loop's body.
    mutating func emit(_ loop: Loop, _ node: Node, _ cluster: Cluster) throws {
        let results = node.types.indices.map { Tensor(node, $0) }
        let history = results.dropFirst(loop.carries.count + loop.outputs.count)
        guard self.loop == nil, loop.limit > 0, !history.contains(where: { isRead($0, outside: cluster) }),
            let rules = dependencies.body(of: node), let levels = dependencies.stepLevels(node, kinds[0].levels),
            let marks = dependencies.stepReach(node, kinds[0].needed)
        else { throw unsupported(node) }
        let iterations = LoopIterations(levels, marks)
        let stacked = loop.outputs.indices.filter { isRead(results[loop.carries.count + $0], outside: cluster) }
        let memory = LoopMemory(loop, parts, rules)
        var body = SamplerBuilder(
            bodyOf: memory, results: loop.newCarries + stacked.map { loop.outputs[$0] }, rules, iterations.kinds)
        for (placeholder, operand) in zip(loop.captures, node.inputs.suffix(loop.captures.count)) {
            parts.places[placeholder] = try whole(operand, node)
        }
        for (placeholder, operand) in zip(loop.slices, node.inputs.dropFirst(loop.carries.count)) {
            memory.place(placeholder, sliceOf: try whole(operand, node))
        }
        for output in stacked {
            let tensor = loop.outputs[output]
            memory.stack(tensor, as: results[loop.carries.count + output], isComputed: body.computes(tensor))
        }
        for (index, carry) in loop.carries.enumerated() {
            memory.carry(carry, loop.newCarries[index], isComputed: body.computes(loop.newCarries[index]))
            emitCopy(of: node.inputs[index], to: memory.starts[index], cluster)
        }
        let start = parts.works.count
        for cluster in ClusterOrder(body.fusion).clusters { try body.emit(cluster) }
        for (tensor, place) in memory.copies { body.emitCopy(of: tensor, to: place, cluster) }
        let section = iterations.section(start..<parts.works.count, parts.works, body.slotBases, stepCount: stepCount)
        parts.loops.append(section)
        memory.finish(ringLength: iterations.ringLength(section))
        for (index, result) in results.prefix(loop.carries.count).enumerated() where isRead(result, outside: cluster) {
            let last = loop.carries[index]
            parts.places[last] = memory.ends[index]
            let layout = SamplerLayout(last.shape)
            let operand = operand(last, layout)
            append(.none, [operand], Program(inputs: [operand.element], outputs: [0]), [result], cluster, layout)
        }
    }

    /// Where an operand of a loop lies, through whatever view.
    private func whole(_ operand: Tensor, _ node: Node) throws -> SamplerPlace {
        let view = view(operand)
        guard case .tensor(let base) = view.base else { throw unsupported(node) }
        var place = place(of: base)
        place.layout = view.layout
        return place
    }

    /// Whether a cluster of this graph computes a tensor, in memory of its own.
    private func computes(_ tensor: Tensor) -> Bool { !tensor.node.isGiven && fusion.isComputed(tensor) }

    /// Writes a tensor to a place that is not its own, elements that never vary included.
    private mutating func emitCopy(of tensor: Tensor, to place: SamplerPlace, _ cluster: Cluster) {
        let layout = SamplerLayout(tensor.shape)
        let builder = SamplerProgramBuilder()
        supply(tensor, builder, cluster, internals: false, layout)
        append(
            .none, builder.operands, builder.program([tensor]), [tensor], cluster, layout, to: [place],
            includesKnown: true)
    }
}

/// The iterations of a loop, those told apart that differ in more than when they run.
private struct LoopIterations {
    private(set) var kinds: [SamplerKind] = []
    /// The kind of each iteration, and the level that those of its kind are counted from.
    private var steps: [(kind: Int, base: Int)] = []

    init(_ levels: StepKinds<Int32>, _ marks: StepKinds<Bool>) {
        var known: [[Int]: Int] = [:]
        for (level, mark) in zip(levels.steps, marks.steps) {
            let pair = [level.kind, mark.kind]
            if known[pair] == nil {
                known[pair] = kinds.count
                kinds.append(SamplerKind(levels: levels.kinds[level.kind], needed: marks.kinds[mark.kind]))
            }
            steps.append((known[pair]!, Int(level.shift ?? 0)))
        }
    }

    /// The section of the works in `range`: in each step the iterations, in their order, that have something to compute in it.
    /// - Parameter slotBases: the first slot of each kind, and behind the last kind's their number.
    func section(
        _ range: Range<Int>, _ works: [SamplingProgram.Work], _ slotBases: [Int], stepCount: Int
    ) -> SamplingProgram.Section {
        let isUsed = (0..<slotBases.last!).map { slot in range.contains { !works[$0].positions(slot: slot).isEmpty } }
        var passes = [[SamplingProgram.Section.Pass]](repeating: [], count: stepCount)
        for (iteration, (kind, base)) in steps.enumerated() {
            for (place, slot) in (slotBases[kind]..<slotBases[kind + 1]).enumerated() where isUsed[slot] {
                // In the first slot is what reads no variable.
                let step = place == 0 ? 0 : base + place
                if step < stepCount {
                    passes[step].append(SamplingProgram.Section.Pass(iteration: Int32(iteration), slot: Int32(slot)))
                }
            }
        }
        return SamplingProgram.Section(range, passes: passes)
    }

    /// How many iterations values have to hold, so that none is overwritten before it and the next one have been read.
    func ringLength(_ section: SamplingProgram.Section) -> Int {
        let count = steps.count
        var first = [Int](repeating: .max, count: count + 1)
        var last = [Int](repeating: -1, count: count + 1)
        for step in 0..<section.passStart.count - 1 {
            for pass in section.passes(step: step) {
                first[Int(pass.iteration)] = min(first[Int(pass.iteration)], step)
                last[Int(pass.iteration)] = step
            }
        }
        for k in (0..<count).reversed() { first[k] = min(first[k], first[k + 1]) }
        var length = 2
        // What the first iteration starts from counts as the one before it.
        for k in -1..<count {
            let end = max(k < 0 ? 0 : last[k], last[k + 1])
            while k + length < count, first[k + length] < end { length += 1 }
        }
        return length
    }
}

/// Where the values of a loop's body lie: rings of some iterations, or every iteration where the loop stacks them.
final class LoopMemory {
    private let loop: Loop
    let parts: SamplerParts
    private let rules: Dependencies
    /// Where each carry of the first iteration has to be written, and where the last iteration leaves it.
    private(set) var starts: [SamplerPlace] = []
    private(set) var ends: [SamplerPlace] = []
    /// What is carried or stacked and no work computes: it has to be copied.
    private(set) var copies: [(tensor: Tensor, place: SamplerPlace)] = []
    /// Cursors of values in rings, by the elements of an iteration.
    private var rings: [Int: Ring] = [:]
    private var ringValues: [(value: Int, count: Int)] = []
    /// Stacks whose place behind the last iteration holds what a carry starts as.
    private var hasStart = Set<Int>()

    /// Cursors to an iteration's own elements, to those of the one before, and to those of the start and the end.
    private struct Ring {
        let own, previous, start, end: Int
    }

    init(_ loop: Loop, _ parts: SamplerParts, _ rules: Dependencies) {
        self.loop = loop
        self.parts = parts
        self.rules = rules
    }

    private var iterations: Range<Int> { 0..<loop.limit }

    /// The place of an iteration in what is stacked.
    private func turn(_ iteration: Int) -> Int { loop.isReversed ? loop.limit - 1 - iteration : iteration }

    private func count(_ tensor: Tensor) -> Int { tensor.shape.count.resolved(batch: 1) }

    private func cursor(_ count: Int, _ places: [Int]) -> Int { parts.addCursor(places.map { Int32($0 * count) }) }

    /// A slice of a sequence.
    func place(_ slice: Tensor, sliceOf sequence: SamplerPlace) {
        guard let layout = sequence.layout else { return }
        let stride = layout.strides[0].resolved(batch: 1)
        parts.places[slice] = SamplerPlace(
            value: sequence.value, cursor: cursor(stride, iterations.map(turn)),
            layout: StridedLayout(offset: layout.offset, strides: Array(layout.strides.dropFirst())))
    }

    /// Memory for as many iterations; later, if it is not known yet how many.
    private func add(_ tensor: Tensor, iterations: Int) -> Int {
        let value = parts.add(
            SamplingProgram.Value(
                count: 0, element: tensor.elementType, isShared: !tensor.shape.isBatched, storage: .temporary,
                known: rules.knownValues(tensor), label: tensor.placeholder?.label ?? tensor.node.operation.name))
        resize(value, count(tensor), iterations)
        return value
    }

    private func resize(_ value: Int, _ count: Int, _ iterations: Int) {
        parts.values[value].count = count * iterations
        // Elements that never vary are there from the start, in every iteration.
        if iterations > 0, let known = parts.values[value].known {
            parts.values[value].known = KnownValues(
                isKnown: (0..<count * iterations).map { known.isKnown[$0 % count] },
                values: (0..<count * iterations).map { known.values[$0 % count] })
        }
    }

    private func ring(_ count: Int) -> Ring {
        if let ring = rings[count] { return ring }
        let ring = Ring(
            own: parts.addCursor(), previous: parts.addCursor(), start: parts.addCursor(), end: parts.addCursor())
        rings[count] = ring
        return ring
    }

    /// A place for a tensor of the body, which the works of an iteration and of the next one read.
    func add(_ tensor: Tensor) -> SamplerPlace {
        let value = add(tensor, iterations: 0)
        ringValues.append((value, count(tensor)))
        return SamplerPlace(value: value, cursor: ring(count(tensor)).own)
    }

    /// A place for an output of the body in every iteration, and for what is carried into the first one behind them.
    /// - Parameter isComputed: whether works compute the output, rather than that it is an operand.
    func stack(_ output: Tensor, as result: Tensor, isComputed: Bool) {
        if isComputed, let known = parts.places[output] {
            parts.places[result] = SamplerPlace(value: known.value)
            return
        }
        let count = count(output)
        let value = add(output, iterations: loop.limit + 1)
        let own = SamplerPlace(value: value, cursor: cursor(count, iterations.map(turn)))
        parts.places[result] = SamplerPlace(value: value)
        if isComputed { parts.places[output] = own } else { copies.append((output, own)) }
    }

    /// A place for a carry.
    func carry(_ carry: Tensor, _ new: Tensor, isComputed: Bool) {
        let count = count(new)
        if isComputed, let known = parts.places[new], !ringValues.contains(where: { $0.value == known.value }),
            hasStart.insert(known.value).inserted
        {
            parts.places[carry] = SamplerPlace(
                value: known.value,
                cursor: cursor(count, iterations.map { $0 == 0 ? loop.limit : turn($0 - 1) }))
            starts.append(SamplerPlace(value: known.value, cursor: cursor(count, [loop.limit])))
            ends.append(SamplerPlace(value: known.value, cursor: cursor(count, [turn(loop.limit - 1)])))
            return
        }
        let place = add(new)
        // Where a ring begins with what is carried into the first iteration, elements that never vary have to be written again.
        if isComputed, parts.places[new] == nil, rules.knownValues(new) == nil {
            parts.places[new] = place
        } else {
            copies.append((new, place))
        }
        let ring = ring(count)
        parts.places[carry] = SamplerPlace(value: place.value, cursor: ring.previous)
        starts.append(SamplerPlace(value: place.value, cursor: ring.start))
        ends.append(SamplerPlace(value: place.value, cursor: ring.end))
    }

    /// Makes the rings as long as they have to be.
    func finish(ringLength length: Int) {
        for (value, count) in ringValues { resize(value, count, length) }
        for (count, ring) in rings {
            func set(_ cursor: Int, _ iterations: [Int]) {
                parts.setCursor(cursor, iterations.map { Int32(($0 + length) % length * count) })
            }
            set(ring.own, Array(iterations))
            set(ring.previous, iterations.map { $0 - 1 })
            set(ring.start, [-1])
            set(ring.end, [loop.limit - 1])
        }
    }
}
