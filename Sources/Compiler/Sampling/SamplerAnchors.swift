import Graph

// What a sampler computes element by element: products, convolutions and reductions.

extension SamplerBuilder {
    /// For a convolution a number for each channel of the result, equal for channels that read the same channels at
    /// every tap; nil for the other operations, whose results are computed element by element.
    func channelKinds(_ node: Node) throws -> [Int]? {
        guard let convolution = node.operation as? Convolution, convolution.role != .weightGradient else { return nil }
        // A convolution that takes rows for examples (its first axis is `8*batch`, say) has no positions of one
        // example.
        guard SamplerLayout.splits(node.types[0].shape) else { throw unsupported(node) }
        let geometry = try convolution.geometry(node.inputs.map(\.type))
        let isForward = convolution.role == .forward
        let count = isForward ? geometry.outputChannels : geometry.inputChannels
        let perGroup = isForward ? geometry.outputsPerGroup : geometry.inputsPerGroup
        var known: [[Int]: Int] = [:]
        return (0..<count).map { channel in
            var signature = [channel / perGroup]
            for case .channels(let bits) in convolution.mask?.taps ?? [] {
                signature +=
                    isForward
                    ? (0..<bits.columns).map { bits[channel, $0] ? 1 : 0 }
                    : (0..<bits.rows).map { bits[$0, channel % perGroup] ? 1 : 0 }
            }
            known[signature] = known[signature] ?? known.count
            return known[signature]!
        }
    }

    mutating func anchor(_ node: Node, _ layout: SamplerLayout) throws -> SamplingProgram.Anchor {
        switch node.operation {
        case let masked as MaskedProduct where masked.role == .forward: try anchor(masked, node)
        case is MatrixProduct: try matrixProduct(node)
        case let convolution as Convolution where convolution.role != .weightGradient:
            try anchor(convolution, node, layout)
        default: throw unsupported(node)
        }
    }

    private mutating func anchor(_ masked: MaskedProduct, _ node: Node) throws -> SamplingProgram.Anchor {
        let (x, w) = (whole(node.inputs[0]), whole(node.inputs[1]))
        let (inputs, outputs) = (node.inputs[1].shape[1].coefficient, node.inputs[1].shape[0].coefficient)
        guard let live = masked.mask.liveRanges(inputs: inputs, outputs: outputs) else {
            throw SamplingError(
                description:
                    "\(masked.name): degrees must be constants when a sampler is derived; build the model for one order first"
            )
        }
        let count = dependencies.count(Tensor(node))
        guard let a = affine(x.table.positions, lines: count / outputs, length: inputs),
            let b = affine(w.table.positions, lines: outputs, length: inputs), case .value(let left) = x.source,
            case .value(let right) = w.source
        else { throw unsupported(node) }
        return .product(
            SamplingProgram.SumOfProducts(
                a: left, b: right, aBase: table((0..<count).map { a.bases[$0 / outputs] }),
                bBase: table((0..<count).map { b.bases[$0 % outputs] }), aStride: a.stride, bStride: b.stride,
                rows: live.map { ranges in ranges.map { segment($0.lowerBound, $0.count, a.stride, b.stride) } },
                row: (0..<count).map { Int32($0 % outputs) }))
    }

    private mutating func matrixProduct(_ node: Node) throws -> SamplingProgram.Anchor {
        let (x, y) = (whole(node.inputs[0]), whole(node.inputs[1]))
        let shapes = node.inputs.map { $0.shape.resolved(batch: 1) }
        let (m, k, n) = (shapes[0][shapes[0].count - 2], shapes[0].last!, shapes[1].last!)
        let count = dependencies.count(Tensor(node))
        let outer = count / (m * n)
        // The places of the right operand's elements, column by column.
        let columns = (0..<outer).flatMap { r in
            (0..<n).flatMap { j in (0..<k).map { y.table.positions[(r * k + $0) * n + j] } }
        }
        guard let a = affine(x.table.positions, lines: outer * m, length: k),
            let b = affine(columns, lines: outer * n, length: k),
            case .value(let left) = x.source, case .value(let right) = y.source
        else { throw unsupported(node) }
        // Terms with a factor that is known to be zero are left out.
        let known = (dependencies.knownValues(node.inputs[0]), dependencies.knownValues(node.inputs[1]))
        var rows = [[segment(0, k, a.stride, b.stride)]]
        var row = [Int32](repeating: 0, count: count)
        if known.0 != nil || known.1 != nil {
            rows = []
            for e in 0..<count {
                let (r, i, j) = (e / (m * n), e / n % m, e % n)
                var live: [Range<Int>] = []
                for t in 0..<k where known.0?[(r * m + i) * k + t] != 0 && known.1?[(r * k + t) * n + j] != 0 {
                    if let last = live.last, last.upperBound == t {
                        live[live.count - 1] = last.lowerBound..<t + 1
                    } else {
                        live.append(t..<t + 1)
                    }
                }
                row[e] = Int32(e)
                rows.append(live.map { segment($0.lowerBound, $0.count, a.stride, b.stride) })
            }
        }
        return .product(
            SamplingProgram.SumOfProducts(
                a: left, b: right, aBase: table((0..<count).map { a.bases[$0 / n] }),
                bBase: table((0..<count).map { b.bases[$0 / (m * n) * n + $0 % n] }), aStride: a.stride,
                bStride: b.stride, rows: rows, row: row))
    }

    /// A convolution, or a transposed one: each tap that meets the input is a segment over the channels that it reads.
    /// Positions at which the same taps lie at the same distances share a row.
    private mutating func anchor(_ convolution: Convolution, _ node: Node, _ layout: SamplerLayout) throws
        -> SamplingProgram.Anchor
    {
        let g = try convolution.geometry(node.inputs.map(\.type))
        let isForward = convolution.role == .forward
        let x = fusion.view(node.inputs[0])
        let w = fusion.view(node.inputs[1])
        guard case .tensor(let xBase) = x.base, case .tensor(let wBase) = w.base else { throw unsupported(node) }
        let numbers = { (extents: [Extent]) in extents.map { $0.resolved(batch: 1) } }
        let (xStrides, wStrides) = (numbers(x.strides), numbers(w.strides))
        // Where every position of the operand's first channel lies, and every tap of the first pair of channels.
        let places = affinePositions(
            Array(node.inputs[0].shape.resolved(batch: 1)[2...]), offset: numbers(x.offset).reduce(0, +),
            strides: Array(xStrides[2...]))
        let taps = affinePositions(
            Array(node.inputs[1].shape.resolved(batch: 1)[2...]), offset: numbers(w.offset).reduce(0, +),
            strides: Array(wStrides[2...]))
        // Which operand position each tap reads, for every output position.
        let sources = g.sources()
        var reads = [[(tap: Int, position: Int32)]](repeating: [], count: layout.positionCount)
        for (tap, table) in sources.enumerated() {
            for (p, q) in table.enumerated() where q >= 0 {
                if isForward { reads[p].append((tap, q)) } else { reads[Int(q)].append((tap, Int32(p))) }
            }
        }
        let first = layout.channels.lowerBound
        let perGroup = isForward ? g.outputsPerGroup : g.inputsPerGroup
        let readChannels = isForward ? g.inputsPerGroup : g.outputsPerGroup
        let group = first / perGroup
        // The runs of channels that a tap reads, the same for all channels of the layout.
        let runs = sources.indices.map { tap -> [Range<Int>] in
            var result: [Range<Int>] = []
            for c in 0..<readChannels {
                let isLive =
                    convolution.mask.map {
                        isForward
                            ? $0.isLive(output: first, input: c, tap: tap)
                            : $0.isLive(output: group * g.outputsPerGroup + c, input: first % perGroup, tap: tap)
                    } ?? true
                guard isLive else { continue }
                if let last = result.last, last.upperBound == c {
                    result[result.count - 1] = last.lowerBound..<c + 1
                } else {
                    result.append(c..<c + 1)
                }
            }
            return result
        }
        // The strides from one channel that is read to the next.
        let (aStride, bStride) = (xStrides[1], isForward ? wStrides[1] : wStrides[0])
        var (rows, row, bases): ([[SamplingProgram.Segment]], [Int32], [Int32]) = ([], [], [])
        var known: [[SamplingProgram.Segment]: Int32] = [:]
        for read in reads {
            let base = read.first.map { places[Int($0.position)] } ?? 0
            let segments = read.flatMap { tap, position in
                runs[tap].map { run in
                    SamplingProgram.Segment(
                        a: places[Int(position)] - base + Int32(run.lowerBound * aStride),
                        b: taps[tap] + Int32(run.lowerBound * bStride), count: Int32(run.count))
                }
            }
            if known[segments] == nil {
                known[segments] = Int32(rows.count)
                rows.append(segments)
            }
            row.append(known[segments]!)
            bases.append(base + Int32(group * readChannels * aStride))
        }
        let weightBase =
            isForward
            ? first * wStrides[0] : group * g.outputsPerGroup * wStrides[0] + first % perGroup * wStrides[1]
        return .product(
            SamplingProgram.SumOfProducts(
                a: value(xBase), b: value(wBase), aBase: SamplingProgram.Table(positions: bases, channelStride: 0),
                bBase: SamplingProgram.Table(
                    positions: [Int32](repeating: Int32(weightBase), count: reads.count),
                    channelStride: isForward ? wStrides[0] : wStrides[1]), aStride: aStride, bStride: bStride,
                rows: rows, row: row))
    }

    /// A reduction and where its input lies in memory.
    struct PreparedReduction {
        let kind: ReductionGroup.Kind
        let value: Int
        let offset: Int
        /// The input's strides along the axes that are kept, one for each axis of the result.
        let keptStrides: [Int]
        let offsets: [Int32]

        func anchor(_ layout: SamplerLayout) -> SamplingProgram.Anchor {
            .reduction(
                SamplingProgram.Reduction(
                    kind: kind, value: value, base: layout.table(offset: offset, strides: keptStrides), offsets: offsets
                ))
        }
    }

    mutating func prepare(_ reduction: Graph.Reduction, _ node: Node, _ cluster: Cluster) throws -> PreparedReduction {
        let input = node.inputs[0]
        // The devices' samplers reduce floating-point numbers only.
        guard input.elementType.isFloatingPoint else { throw unsupported(node, of: input.elementType) }
        let shape = input.shape.resolved(batch: 1)
        var (offset, strides) = (0, Shape(shape).strides.map(\.coefficient))
        var base = input
        if cluster.prologue.isEmpty {
            let view = fusion.view(input)
            guard case .tensor(let tensor) = view.base else { throw unsupported(node) }
            base = tensor
            if !fusion.isComputed(base) { emitCounted(base, cluster) }
            offset = view.offset.reduce(0) { $0 + $1.resolved(batch: 1) }
            strides = view.strides.map { $0.resolved(batch: 1) }
        } else {
            emitPrologue(of: input, cluster)
        }
        return PreparedReduction(
            kind: ReductionGroup.Kind(rawValue: reduction.kind.rawValue) ?? .sum, value: value(base), offset: offset,
            keptStrides: shape.indices.filter { !reduction.axes.contains($0) }.map { strides[$0] },
            offsets: affinePositions(
                reduction.axes.map { shape[$0] }, offset: 0, strides: reduction.axes.map { strides[$0] }))
    }

    // MARK: tables

    private mutating func whole(_ tensor: Tensor) -> SamplingProgram.Operand {
        operand(tensor, SamplerLayout(tensor.shape))
    }

    private func table(_ positions: [Int32]) -> SamplingProgram.Table {
        SamplingProgram.Table(positions: positions, channelStride: 0)
    }

    private func segment(_ first: Int, _ count: Int, _ aStride: Int, _ bStride: Int) -> SamplingProgram.Segment {
        SamplingProgram.Segment(a: Int32(first * aStride), b: Int32(first * bStride), count: Int32(count))
    }

    /// The base of each line of a table whose lines advance by one common stride.
    private func affine(_ table: [Int32], lines: Int, length: Int) -> (bases: [Int32], stride: Int)? {
        let stride = length > 1 ? Int(table[1] - table[0]) : 0
        var bases: [Int32] = []
        for line in 0..<lines {
            let base = table[line * length]
            for j in 0..<length where Int(table[line * length + j]) != Int(base) + j * stride { return nil }
            bases.append(base)
        }
        return (bases, stride)
    }
}
