import Graph

// What a sampler computes element by element, from the operations' rules of elements: sums of products and reductions.

extension SamplerBuilder {
    /// A piece of an anchor's work.
    typealias AnchorWork = (anchor: SamplingProgram.Anchor, layout: SamplerLayout, elements: [Bool]?)

    /// How the elements of an operation are made, for each layout of its result; nothing of a reduction, whose role says it.
    ///
    /// - Parameter tensors: what the work is to write, the result among it.
    func elementRules(
        of node: Node, for tensors: [Tensor]
    ) throws -> [(rule: ElementRule, layout: SamplerLayout)] {
        if node.isReduction { return [] }
        let types = node.inputs.map(\.type)
        let kinds = node.operation.channelKinds(types)
        // An operation that takes rows for examples (its first axis is `8*batch`, say) has no positions of one example.
        if kinds != nil, !SamplerLayout.splits(node.types[0].shape) { throw unsupported(node) }
        let layouts = kinds == nil ? [SamplerLayout(node.types[0].shape)] : layouts(tensors, kinds: kinds)
        return try layouts.map { layout in
            let context = ElementRuleContext(
                inputs: types, output: node.types[0], knownValues: node.inputs.map { dependencies.knownValues($0) },
                channels: layout.isSplit ? layout.channels : nil)
            guard let rule = node.operation.elementRule(context) else { throw unsupported(node) }
            return (rule, layout)
        }
    }

    /// The work of an anchor: one piece for each layout, and for elements that one piece cannot make together.
    ///
    /// - Parameter tensors: what the work is to write, the result among it.
    mutating func anchors(
        of node: Node, _ cluster: Cluster, by rules: [(rule: ElementRule, layout: SamplerLayout)],
        for tensors: [Tensor]
    ) throws -> [AnchorWork] {
        if case .reduction(let kind, let axes) = node.compilerRole {
            let prepared = try prepare(kind, axes, node, cluster)
            return layouts(tensors).map { (prepared.anchor($0), $0, nil) }
        }
        var result: [AnchorWork] = []
        for (rule, layout) in rules {
            switch rule {
            case .products(let rule): result.append((try product(rule, node), layout, nil))
            case .reduction(let kind, let terms): result += try reductions(kind, terms, node, layout)
            case .unknown(let reason): throw SamplingError(description: reason)
            case .moved: throw unsupported(node)
            }
        }
        return result
    }

    // MARK: sums of products

    /// A rule's sums with the places in memory of the elements that it names.
    private mutating func product(_ rule: SumOfProducts, _ node: Node) throws -> SamplingProgram.Anchor {
        guard let a = elementPlaces(node.inputs[0]), let b = elementPlaces(node.inputs[1]) else {
            throw unsupported(node)
        }
        var (rows, row) = (rule.rows, rule.row)
        if !(a.isRowMajor && b.isRowMajor) {
            (rows, row) = ([], [])
            var known: [[SumOfProducts.Segment]: Int32] = [:]
            for (p, own) in rule.row.enumerated() {
                let (x, y) = (Int(rule.aBase[p]), Int(rule.bBase[p]))
                let segments = rule.rows[Int(own)].map { segment in
                    SumOfProducts.Segment(
                        a: Int32(a[x + Int(segment.a)] - a[x]), b: Int32(b[y + Int(segment.b)] - b[y]),
                        count: segment.count)
                }
                if known[segments] == nil {
                    known[segments] = Int32(rows.count)
                    rows.append(segments)
                }
                row.append(known[segments]!)
            }
        }
        let (aPlace, bPlace) = (place(of: a.base), place(of: b.base))
        return .product(
            SamplingProgram.SumOfProducts(
                a: aPlace.value, b: bPlace.value,
                aBase: SamplingProgram.Table(
                    positions: rule.aBase.map { Int32(a[Int($0)]) }, channelStride: a.stride(rule.aChannelStride),
                    cursor: aPlace.cursor),
                bBase: SamplingProgram.Table(
                    positions: rule.bBase.map { Int32(b[Int($0)]) }, channelStride: b.stride(rule.bChannelStride),
                    cursor: bPlace.cursor),
                aStride: a.stride(rule.aStride), bStride: b.stride(rule.bStride), rows: rows, row: row))
    }

    private func elementPlaces(_ tensor: Tensor) -> Places? { Places(of: tensor, view(tensor)) }

    /// Where the elements of a tensor of one example lie in the memory of another.
    private struct Places {
        let base: Tensor
        let isRowMajor: Bool
        private let offset: Int
        private let extents: [Int]
        private let own: [Int]
        private let strides: [Int]

        init?(of tensor: Tensor, _ view: View) {
            guard case .tensor(let base) = view.base else { return nil }
            self.base = base
            extents = tensor.shape.resolved(batch: 1)
            own = Shape(extents).strides.map(\.coefficient)
            offset = view.offset.reduce(0) { $0 + $1.resolved(batch: 1) }
            let strides = view.strides.map { $0.resolved(batch: 1) }
            self.strides = strides
            isRowMajor = zip(own, extents).enumerated().allSatisfy { axis, pair in
                pair.1 == 1 || strides[axis] == pair.0
            }
        }

        /// The place of an element, by its flat position. A position behind the last element (of a sum of nothing) has the place that
        /// it would have.
        subscript(position: Int) -> Int {
            if isRowMajor { return position + offset }
            var (rest, place) = (position, offset)
            for axis in own.indices where extents[axis] != 1 {
                let index = rest / own[axis]
                rest -= index * own[axis]
                place += index * strides[axis]
            }
            return place
        }

        /// The distance in memory of elements that lie as far apart as neighbours along some axis.
        func stride(_ distance: Int) -> Int {
            if isRowMajor || distance == 0 { return distance }
            let axis = own.indices.first { own[$0] == distance && extents[$0] > 1 }
            return axis.map { strides[$0] } ?? 0
        }
    }

    // MARK: reductions

    /// Reductions of listed terms. Elements whose terms lie at the same distances from their first are one piece of work.
    private mutating func reductions(
        _ kind: Graph.Reduction.Kind, _ terms: [[Int32]], _ node: Node, _ layout: SamplerLayout
    ) throws -> [AnchorWork] {
        let input = node.inputs[0]
        guard let places = elementPlaces(input), input.elementType.isFloatingPoint else {
            throw unsupported(node, of: input.elementType)
        }
        let bases = terms.map { $0.first.map { Int32(places[Int($0)]) } ?? 0 }
        var pieces: [(offsets: [Int32], elements: [Bool])] = []
        var known: [[Int32]: Int] = [:]
        for (element, list) in terms.enumerated() {
            let offsets = list.map { Int32(places[Int($0)]) - bases[element] }
            if known[offsets] == nil {
                known[offsets] = pieces.count
                pieces.append((offsets, [Bool](repeating: false, count: terms.count)))
            }
            pieces[known[offsets]!].elements[element] = true
        }
        let source = place(of: places.base)
        return pieces.map { offsets, elements in
            let anchor = SamplingProgram.Anchor.reduction(
                SamplingProgram.Reduction(
                    kind: ReductionGroup.Kind(rawValue: kind.rawValue) ?? .sum, value: source.value,
                    base: SamplingProgram.Table(positions: bases, channelStride: 0, cursor: source.cursor),
                    offsets: offsets))
            return (anchor, layout, elements)
        }
    }

    /// A reduction and where its input lies in memory.
    private struct PreparedReduction {
        let kind: ReductionGroup.Kind
        let place: SamplerPlace
        let offset: Int
        /// The input's strides along the axes that are kept, one for each axis of the result.
        let keptStrides: [Int]
        let offsets: [Int32]

        func anchor(_ layout: SamplerLayout) -> SamplingProgram.Anchor {
            var base = layout.table(offset: offset, strides: keptStrides)
            base.cursor = place.cursor
            return .reduction(
                SamplingProgram.Reduction(kind: kind, value: place.value, base: base, offsets: offsets))
        }
    }

    private mutating func prepare(
        _ kind: Graph.Reduction.Kind, _ axes: [Int], _ node: Node, _ cluster: Cluster
    ) throws -> PreparedReduction {
        let input = node.inputs[0]
        // The devices' samplers reduce floating-point numbers only.
        guard input.elementType.isFloatingPoint else { throw unsupported(node, of: input.elementType) }
        let shape = input.shape.resolved(batch: 1)
        var (offset, strides) = (0, Shape(shape).strides.map(\.coefficient))
        var base = input
        if cluster.prologue.isEmpty {
            let view = view(input)
            guard case .tensor(let tensor) = view.base else { throw unsupported(node) }
            base = tensor
            if !fusion.isComputed(base) { emitCounted(base, cluster) }
            offset = view.offset.reduce(0) { $0 + $1.resolved(batch: 1) }
            strides = view.strides.map { $0.resolved(batch: 1) }
        } else {
            emitPrologue(of: input, cluster)
        }
        return PreparedReduction(
            kind: ReductionGroup.Kind(rawValue: kind.rawValue) ?? .sum, place: place(of: base), offset: offset,
            keptStrides: shape.indices.filter { !axes.contains($0) }.map { strides[$0] },
            offsets: affinePositions(
                axes.map { shape[$0] }, offset: 0, strides: axes.map { strides[$0] }))
    }
}
