import CPUKernels
import Compiler
import Graph
import Synchronization

/// A sampler on the CPU: values lie `[element, lane]`. Every thread runs the whole program on its own lanes; where
/// lanes are few and steps long, threads share the channels of every work.
final class CPUSampler: SamplingExecutable {
    let program: SamplingProgram
    let maximumBatch: Int
    private(set) var plannedBytes = 0
    private let device: CPUDevice
    private let lanes: Int
    private var buffers: [CPUBuffer?] = []
    private var programs: [CompiledProgram] = []
    private let sampler: UnsafeMutablePointer<martlet_sampler>
    private let tables = PlanMemory()
    private var scratch: CPUBuffer?
    private var packed: CPUBuffer?
    private var packs: [martlet_lane_pack] = []
    private var packedCount = 0
    private var cursors: [UnsafePointer<Int32>] = []
    private let prelude: (any Executable)?
    private let binding: ProgramBinding
    /// Where the elements of each result lie, if not in their own order.
    private var places: [UnsafePointer<Int32>?] = []

    init(_ program: SamplingProgram, maximumBatch: Int, states: [String: any DeviceBuffer], device: CPUDevice) throws {
        binding = try ProgramBinding(program, maximumBatch: maximumBatch)
        let bound = try binding.bind(states: states, device: device.name) { $0 as? CPUBuffer }
        self.program = program
        self.maximumBatch = maximumBatch
        self.device = device
        let attends = program.attends
        let few = Int(attends ? MARTLET_FEW_ATTENTION_LANES : MARTLET_FEW_LANES)
        let isFew = maximumBatch <= few
        let width = Int(MARTLET_LANE_WIDTH)
        lanes =
            if isFew {
                attends ? [1, 2, 4, 8].first { $0 >= maximumBatch } ?? few : maximumBatch
            } else { (maximumBatch + width - 1) / width * width }
        sampler = .allocate(capacity: 1)
        prelude =
            program.prelude.isEmpty
            ? nil : try device.load(compile(program.prelude.map(\.tensor)), maximumBatch: 1, states: states)
        var planned = 0
        var values: [martlet_lane_value] = []
        for value in program.values {
            let isShared = isShared(values.count)
            switch value.storage {
            case .state: buffers.append(bound[values.count])
            case .constant(let array):
                let buffer = try CPUBuffer(byteCount: array.bytes.count, purpose: "a constant")
                try array.withUnsafeBytes { try buffer.write($0) }
                buffers.append(buffer)
                planned += buffer.byteCount
            case .input:
                let buffer = try CPUBuffer(
                    byteCount: value.count * (isShared ? 1 : lanes) * value.element.byteCount, purpose: "an input")
                buffers.append(buffer)
                planned += buffer.byteCount
            case .temporary, .variable:
                let buffer = try CPUBuffer(
                    byteCount: value.count * lanes * value.element.byteCount, purpose: "a sampler's values")
                if let known = value.known { Self.fill(buffer, known, value.element, lanes) }
                buffers.append(buffer)
                planned += buffer.byteCount
            }
            values.append(
                martlet_lane_value(
                    base: buffers[values.count]!.pointer.assumingMemoryBound(to: CChar.self),
                    size: Int32(value.element.byteCount),
                    isShared: isShared ? 1 : 0))
        }
        cursors = program.cursors.map { keep($0) }
        var works: [martlet_lane_work] = []
        var slotBytes = 0
        for work in program.works {
            let compiled = try CompiledProgram(
                work.program, inputs: [Int?](repeating: nil, count: work.program.inputs.count),
                outputs: work.outputs.map { $0 },
                instructionSet: device.instructionSet)
            programs.append(compiled)
            slotBytes = max(
                slotBytes, Int(compiled.pointer.pointee.slotCount) * Int(compiled.pointer.pointee.slotBytes))
            works.append(try lower(work, compiled))
        }
        let attentionBytes = 4 * (program.works.map(attentionFloats).max() ?? 0)
        let workBytes = max(Int(MARTLET_LANE_CHUNK) * 4 + (slotBytes + 63) / 64 * 64, attentionBytes) + 64
        let scratch = try CPUBuffer(byteCount: workBytes * device.threads, purpose: "a sampler's work space")
        self.scratch = scratch
        let packed = try CPUBuffer(byteCount: max(64, packedCount * 4), purpose: "a sampler's packed weights")
        self.packed = packed
        plannedBytes = planned + scratch.byteCount + packed.byteCount
        let sections = program.sections.map { section in
            martlet_lane_section(
                firstWork: Int32(section.works.lowerBound), endWork: Int32(section.works.upperBound),
                passes: keep(section.passes.map { martlet_lane_pass(iteration: $0.iteration, slot: $0.slot) }),
                passStart: keep(section.passStart))
        }
        let groupStart = program.groups.reduce(into: [Int32(0)]) { $0.append($0.last! + Int32($1.count)) }
        sampler.initialize(
            to: martlet_sampler(
                values: keep(values), packCount: Int32(packs.count), packs: keep(packs),
                packed: packed.pointer.assumingMemoryBound(to: Float.self), works: keep(works),
                sections: keep(sections), sectionCount: Int32(sections.count),
                stepCount: Int32(program.stepCount),
                variable: Int32(program.variable), drawn: Int32(program.drawn),
                group: keep(program.groups.flatMap { $0 }),
                groupStart: keep(groupStart), lanes: Int64(lanes), isFew: isFew ? 1 : 0,
                stepCost: Int64(program.cost / max(1, program.stepCount)), workBytes: Int64(workBytes),
                work: scratch.pointer.assumingMemoryBound(to: CChar.self), isa: device.instructionSet.kernels))
        places = program.results.map { $0.places.map { keep($0) } }
    }

    deinit { sampler.deallocate() }

    private func keep<T>(_ values: [T]) -> UnsafePointer<T> { UnsafePointer(tables.keep(values)) }

    private static func fill(_ buffer: CPUBuffer, _ known: KnownValues, _ element: ElementType, _ lanes: Int) {
        let bytes = HostArray(
            Values(shape: [known.values.count], elements: known.values.map { $0.isNaN ? 0 : $0 }), as: element)
        bytes.withUnsafeBytes { source in
            let size = element.byteCount
            for e in known.values.indices where known.isKnown[e] {
                for lane in 0..<lanes {
                    (buffer.pointer + (e * lanes + lane) * size).copyMemory(
                        from: source.baseAddress! + e * size, byteCount: size)
                }
            }
        }
    }

    private func lower(_ work: SamplingProgram.Work, _ compiled: CompiledProgram) throws -> martlet_lane_work {
        var result = martlet_lane_work(
            anchor: MARTLET_LANES_PLAIN, channels: Int32(work.channels), cost: Int64(work.cost), isPacked: 0, a: 0,
            b: 0, aStride: 0, bStride: 0,
            aChannelStride: 0, bChannelStride: 0, aBase: nil, bBase: nil, row: nil, aCursor: nil, bCursor: nil,
            rowStart: nil, segments: nil,
            offsets: nil, offsetCount: 0, query: 0, depth: 0, scale: 0, queries: nil,
            program: UnsafePointer(compiled.pointer),
            operandCount: Int32(work.operands.count), outputCount: Int32(work.outputs.count),
            operands: keep(work.operands.map(lower)),
            outputs: keep(zip(work.outputs, work.targets).map { operand(Int32($0), 0, $1) }),
            order: keep(work.order), runs: keep([martlet_lane_run]()), runStart: keep([Int32]()))
        let unsupported = { (reason: String) in
            CPUError.unsupported(group: work.label, location: work.location, reason: reason)
        }
        switch work.anchor {
        case .none: break
        case .product(let p):
            guard program.values[p.a].element == .float32, program.values[p.b].element == .float32 else {
                throw unsupported("products of \(program.values[p.a].element) are sampled by the interpreter")
            }
            result.anchor = MARTLET_LANES_PRODUCT
            (result.a, result.b, result.aStride, result.bStride) = (
                Int32(p.a), Int32(p.b), Int64(p.aStride), Int64(p.bStride)
            )
            (result.aBase, result.aChannelStride) = (keep(p.aBase.positions), Int64(p.aBase.channelStride))
            (result.bBase, result.bChannelStride) = (keep(p.bBase.positions), Int64(p.bBase.channelStride))
            (result.aCursor, result.bCursor) = (cursor(p.aBase), cursor(p.bBase))
            result.row = keep(p.row)
            result.rowStart = keep(SamplingProgram.starts(p.rows))
            let places = pack(p, work)
            result.isPacked = places == nil ? 0 : 1
            result.segments = keep(
                p.rows.flatMap { row in
                    row.map { martlet_lane_segment(a: $0.a, b: $0.b, count: $0.count, packed: places?[$0] ?? 0) }
                })
        case .reduction(let r):
            guard program.values[r.value].element == .float32 else {
                throw unsupported("reductions of \(program.values[r.value].element) are sampled by the interpreter")
            }
            result.anchor =
                switch r.kind {
                case .sum: MARTLET_LANES_SUM
                case .maximum: MARTLET_LANES_MAXIMUM
                case .minimum: MARTLET_LANES_MINIMUM
                }
            result.a = Int32(r.value)
            (result.aBase, result.aChannelStride) = (keep(r.base.positions), Int64(r.base.channelStride))
            result.aCursor = cursor(r.base)
            (result.offsets, result.offsetCount) = (keep(r.offsets), Int32(r.offsets.count))
        case .attention(let a):
            guard program.values[a.query].element == .float32 else {
                throw unsupported("attention of \(program.values[a.query].element) is sampled by the interpreter")
            }
            result.anchor = MARTLET_LANES_ATTENTION
            (result.query, result.depth, result.scale) = (Int32(a.query), Int32(a.depth), Float(a.scale))
            result.queries = keep([operand(Int32(a.query), 0, a.queryBase)])
            (result.a, result.b, result.aStride, result.bStride) = (
                Int32(a.keys), Int32(a.values), Int64(a.keyStride), Int64(a.valueStride)
            )
            (result.aBase, result.aChannelStride) = (keep(a.keyBase.positions), Int64(a.keyBase.channelStride))
            (result.bBase, result.bChannelStride) = (keep(a.valueBase.positions), Int64(a.valueBase.channelStride))
            result.row = keep(a.row)
            result.rowStart = keep(SamplingProgram.starts(a.rows))
            result.segments = keep(
                a.rows.joined().map { martlet_lane_segment(a: $0.a, b: $0.b, count: $0.count, packed: 0) })
        }
        var runs: [martlet_lane_run] = []
        var starts: [Int32] = [0]
        let tables = work.operands.map(\.table.positions) + work.targets.map(\.positions)
        for slot in 0..<work.slotStart.count - 1 {
            var first = Int(work.slotStart[slot])
            let end = Int(work.slotStart[slot + 1])
            while first < end {
                // As many positions as advance evenly in every operand.
                var next = first + 1
                if next < end {
                    let strides = tables.map { $0[Int(work.order[next])] - $0[Int(work.order[first])] }
                    while next < end,
                        zip(tables, strides).allSatisfy({
                            $0[Int(work.order[next])] - $0[Int(work.order[next - 1])] == $1
                        })
                    { next += 1 }
                }
                runs.append(martlet_lane_run(first: Int32(first), count: Int32(next - first)))
                first = next
            }
            starts.append(Int32(runs.count))
        }
        (result.runs, result.runStart) = (keep(runs), keep(starts))
        return result
    }

    private func attentionFloats(_ work: SamplingProgram.Work) -> Int {
        guard case .attention(let a) = work.anchor else { return 0 }
        return Int(martlet_lane_attention_floats(Int64(a.depth), Int64(work.channels)))
    }

    /// Plans packed weights for products whose channels read the same lanes: where those of each segment begin. Segments
    /// that read the same weights share them.
    private func pack(_ p: SamplingProgram.SumOfProducts, _ work: SamplingProgram.Work) -> [SamplingProgram
        .Segment: Int64]?
    {
        let base = p.bBase.positions[Int(work.order[0])]
        guard work.channels > 1, p.aBase.channelStride == 0, !isShared(p.a), isShared(p.b), p.bBase.cursor == 0,
            work.order.allSatisfy({ p.bBase.positions[Int($0)] == base })
        else { return nil }
        let block = Int(MARTLET_LANE_BLOCK)
        let channels = (work.channels + block - 1) / block * block
        var known: [SamplingProgram.Segment: Int64] = [:]
        var places: [SamplingProgram.Segment: Int64] = [:]
        for segment in p.rows.joined() where places[segment] == nil {
            var weights = segment
            weights.a = 0
            if known[weights] == nil {
                known[weights] = Int64(packedCount)
                packs.append(
                    martlet_lane_pack(
                        value: Int32(p.b), channels: Int32(work.channels), start: Int64(base + segment.b),
                        stride: Int64(p.bStride), channelStride: Int64(p.bBase.channelStride),
                        count: Int64(segment.count), target: Int64(packedCount)))
                packedCount += channels * Int(segment.count)
            }
            places[segment] = known[weights]
        }
        return places
    }

    /// What the program writes has a lane for every example, also where all are equal: slices share nothing.
    private func isShared(_ id: Int) -> Bool {
        switch program.values[id].storage {
        case .temporary, .variable: false
        case .input, .state, .constant: program.values[id].isShared
        }
    }

    private func lower(_ operand: SamplingProgram.Operand) -> martlet_lane_operand {
        let (value, stride): (Int32, Int64) =
            switch operand.source {
            case .value(let id): (Int32(id), 0)
            case .position(let stride): (-1, Int64(stride))
            }
        return self.operand(value, stride, operand.table)
    }

    private func operand(_ value: Int32, _ batchStride: Int64, _ table: SamplingProgram.Table) -> martlet_lane_operand {
        martlet_lane_operand(
            value: value, batchStride: batchStride, table: keep(table.positions),
            channelStride: Int64(table.channelStride), cursor: cursor(table))
    }

    private func cursor(_ table: SamplingProgram.Table) -> UnsafePointer<Int32>? {
        table.cursor == 0 ? nil : cursors[table.cursor]
    }

    func run(_ feeds: [String: HostArray], batch: Int) throws -> [HostArray] {
        try binding.check(batch: batch)
        let feeds = try program.preluded(feeds, by: prelude).mapValues { Feed.host($0) }
        let bound = try binding.bind(feeds, batch: batch, device: device.name) { $0 as? CPUBuffer }
        return device.lock.withLock { _ in
            for case (let id, .host(let array)) in bound {
                let value = program.values[id]
                array.withUnsafeBytes { source in
                    let target = buffers[id]!.pointer
                    if value.isShared {
                        target.copyMemory(from: source.baseAddress!, byteCount: source.count)
                    } else {
                        martlet_to_lanes(
                            target.assumingMemoryBound(to: CChar.self),
                            source.baseAddress!.assumingMemoryBound(to: CChar.self),
                            Int64(value.count), Int64(batch), Int64(lanes), Int32(value.element.byteCount))
                    }
                }
            }
            martlet_sampler_run(sampler, device.pool, Int64(batch))
            return zip(program.results, places).map { output, places in
                let value = program.values[output.value]
                var result = HostArray(type: value.element, shape: [batch] + output.exampleShape)
                result.withUnsafeMutableBytes { target in
                    martlet_from_lanes(
                        target.baseAddress!.assumingMemoryBound(to: CChar.self),
                        buffers[output.value]!.pointer.assumingMemoryBound(to: CChar.self), places,
                        Int64(output.exampleShape.reduce(1, *)), Int64(batch), Int64(lanes),
                        Int32(value.element.byteCount))
                }
                return result
            }
        }
    }
}
