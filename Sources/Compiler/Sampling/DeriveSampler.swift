import Graph

extension SamplingProgram {
    /// Derives the incremental program from the dependency rules.
    ///
    /// - Parameters:
    ///   - variable: the placeholder that stands for the variables that are drawn, `[.batch, ..]`.
    ///   - drawn: the new value of every variable, a function of earlier variables, of the same shape and type.
    ///   - order: the groups in which variables are drawn.
    ///   - outputs: tensors that are handed back beside the variable (logits, say), batch first.
    ///
    /// Where an operation has no incremental form (a user's own kernel that the draw goes through), or an example cannot be drawn
    /// without the others (a mean over the batch), the program is one of `fullPasses`.
    ///
    /// - Throws: `DependencyLeak` if a variable's value may be computed from itself or a later one (a mask whose
    ///   degrees are not constants counts as full); `SamplingError` if `drawn` does not fit the variable; `GraphError`
    ///   if the graph is invalid.
    public init(variable: Tensor, drawn: Tensor, order: Order, outputs: [Tensor] = []) throws {
        guard variable.type == drawn.type else {
            throw SamplingError(description: "what is drawn is \(drawn.type), the variable \(variable.type)")
        }
        _ = try AutoregressiveProof(
            [ConditionalParameters("drawn", drawn, variables: order.index.indices.map { Int32($0) })],
            of: variable,
            order: order)
        let tensors = [drawn, variable] + outputs
        do {
            do {
                self = try Self(incremental: stepwise(tensors), order)
            } catch let error as SamplingError {
                // What cannot be drawn by a loop's iterations may be by its operations one by one.
                let written = unrolled(composed(tensors))
                if written == tensors { throw error }
                self = try Self(incremental: written, order)
            }
        } catch let error as SamplingError {
            try self.init(
                fullPassesOver: variable, drawn: drawn, order: order, outputs: outputs, reason: error.description)
        }
    }

    /// - Parameter tensors: what is drawn, the variable, the outputs.
    private init(incremental tensors: [Tensor], _ order: Order) throws {
        try Self.refuseJoinedExamples(tensors)
        var simplifier = Simplifier()
        let simplified = simplifier.simplify(
            rewritingBodies(unrolledSums(tensors)) { body in
                var simplifier = Simplifier()
                return simplifier.simplify(body)
            })
        var prelude = SamplerPrelude()
        let tensors = prelude.hoist(from: simplified)
        var builder = try SamplerBuilder(
            variable: tensors[1], drawn: tensors[0], order: order, outputs: Array(tensors.dropFirst(2)))
        self = try builder.build()
        self.prelude = prelude.values
    }
}

struct SamplerBuilder {
    /// What is read from memory afterwards.
    private let results: Set<Tensor>
    let fusion: Fusion
    let dependencies: Dependencies
    /// What is known of the elements: one kind, or in a loop's body one for all iterations that are alike.
    let kinds: [SamplerKind]
    /// The first slot of each kind, and behind the last kind's their number. The first is for elements that read no variable, the one
    /// behind it for those of level 0, and so on.
    let slotBases: [Int]
    /// A step for each group of variables, and a last one without any where an output reads the variables of the last
    /// group.
    let stepCount: Int
    /// Whether there are operations that make channels together (convolutions): without them loops over channels gain nothing.
    let hasChannels: Bool
    let parts: SamplerParts
    private let drawn: Tensor?
    private let order: Order?
    private let outputs: [Tensor]
    /// The memory of the loop whose body this is.
    let loop: LoopMemory?
    let variable: Tensor?
    /// The clusters that read each tensor from memory.
    private let readers: [Tensor: Set<Int>]
    /// Elementwise tensors that their own cluster reads from memory instead of computing them again (`materialize`).
    private var materialized = Set<Tensor>()

    init(variable: Tensor, drawn: Tensor, order: Order, outputs: [Tensor]) throws {
        self.variable = variable
        (self.drawn, self.order, self.outputs) = (drawn, order, outputs)
        results = Set([drawn] + outputs)
        fusion = Fusion([drawn] + outputs, readsViews: true)
        dependencies = try Dependencies([drawn] + outputs)
        let levels = dependencies.levels(of: variable, order: order.index)
        kinds = [SamplerKind(levels: levels, needed: dependencies.reach(from: [drawn] + outputs))]
        let latest = outputs.compactMap { levels[$0]?.max() }.max() ?? -1
        stepCount = Swift.max(order.groupCount, Int(latest) + 2)
        slotBases = [0, stepCount]
        readers = fusion.readers
        hasChannels = dependencies.hasChannels
        parts = SamplerParts()
        loop = nil
    }

    /// The builder of a loop's body.
    /// - Parameter results: what the body hands to the next iteration, and to the graph around the loop.
    init(bodyOf loop: LoopMemory, results: [Tensor], _ dependencies: Dependencies, _ kinds: [SamplerKind]) {
        variable = nil
        (drawn, order, outputs) = (nil, nil, [])
        self.results = Set(results)
        fusion = Fusion(results, readsViews: true)
        self.dependencies = dependencies
        self.kinds = kinds
        stepCount = 0
        slotBases = kinds.reduce(into: [0]) { bases, kind in
            let latest = kind.levels.values.compactMap { $0.max() }.max() ?? -1
            bases.append(bases.last! + Int(latest) + 2)
        }
        readers = fusion.readers
        hasChannels = dependencies.hasChannels
        parts = loop.parts
        self.loop = loop
    }

    mutating func build() throws -> SamplingProgram {
        guard let variable, let drawn, let order else { throw SamplingError(description: "a body has no variable") }
        let variableValue = place(of: variable).value
        for cluster in ClusterOrder(fusion).clusters { try emit(cluster) }
        let groups = order.groups
        // A tensor that no work writes, such as an output that is an input, has no value yet.
        let drawnValue = place(of: drawn).value
        let handedBack = outputs.map { tensor in
            let (value, shape) = (place(of: tensor).value, tensor.shape.resolved(batch: 1))
            let count = shape.reduce(1, *)
            // What a loop stacks has room for more behind it.
            return SamplingProgram.Output(
                value: value, exampleShape: Array(shape.dropFirst()),
                places: parts.values[value].count == count ? nil : (0..<Int32(count)).map { $0 })
        }
        if let problem = parts.problem { throw problem }
        var program = SamplingProgram(
            values: parts.values, works: parts.works, variable: variableValue, drawn: drawnValue,
            groups: (0..<stepCount).map { step in
                step < order.groupCount ? groups[step].map { Int32($0) } : []
            },
            exampleShape: Array(variable.shape.resolved(batch: 1).dropFirst()), outputs: handedBack)
        program.sections = parts.sections(stepCount: stepCount)
        program.cursors = parts.cursors
        if hasChannels || !parts.channelShapes.isEmpty {
            program.store(channelShapes, loopWorks: Set(parts.loops.flatMap { Array($0.works) }))
        }
        return program
    }

    /// Channels and positions of the values that have both.
    private var channelShapes: [Int: (channels: Int, positions: Int)] {
        var result: [Int: (channels: Int, positions: Int)] = [:]
        for (tensor, place) in parts.places where SamplerLayout.splits(tensor.shape) {
            let shape = tensor.shape.resolved(batch: 1)
            result[place.value] = (shape[1], shape[2...].reduce(1, *))
        }
        return result.merging(parts.channelShapes) { $1 }
    }

    mutating func operand(_ tensor: Tensor, _ layout: SamplerLayout) -> SamplingProgram.Operand {
        operand(view(tensor), of: tensor, layout)
    }

    /// A tensor of the layout's shape, seen through a view.
    private mutating func operand(_ view: View, of tensor: Tensor, _ layout: SamplerLayout) -> SamplingProgram.Operand {
        var table = layout.table(
            offset: view.offset.reduce(0) { $0 + $1.resolved(batch: 1) },
            strides: view.strides.map { $0.resolved(batch: 1) })
        switch view.base {
        case .tensor(let base):
            let place = place(of: base)
            table.cursor = place.cursor
            return SamplingProgram.Operand(
                source: .value(place.value), table: table, element: tensor.elementType)
        case .position:
            let axis = tensor.shape.batchAxis
            let stride = axis.map { view.strides[$0].coefficient * tensor.shape[$0].coefficient } ?? 0
            return SamplingProgram.Operand(source: .position(batchStride: stride), table: table, element: .int32)
        }
    }

    func isRead(_ tensor: Tensor, outside cluster: Cluster) -> Bool {
        results.contains(tensor) || readers[tensor]?.contains { $0 != cluster.id } == true
    }

    // MARK: clusters

    mutating func emit(_ cluster: Cluster) throws {
        if let copied = cluster.copied {
            let isCounted = copied.node.isCounted && copied.node.isElementwise
            if isCounted || copied.constantEverywhere != nil {
                emitCounted(copied, cluster)
                return
            }
            let view = source(ofCopy: copied)
            for layout in layouts([copied]) {
                let operand = operand(view, of: copied, layout)
                append(.none, [operand], Program(inputs: [operand.element], outputs: [0]), [copied], cluster, layout)
            }
            return
        }
        let read = cluster.nodes.map { Tensor($0) }.filter { isRead($0, outside: cluster) }
        materialize(cluster.nodes, results: read)
        let stored = cluster.nodes.map { Tensor($0) }.filter { read.contains($0) || materialized.contains($0) }
        guard let anchor = cluster.anchor else {
            for tensor in stored {
                for layout in layouts([tensor]) { emitElementwise(tensor, cluster, anchor: nil, layout) }
            }
            return
        }
        if let loop = anchor.stepwiseLoop { return try emit(loop, anchor, cluster) }
        if let attention = anchor.operation as? Attention { return try emit(attention, anchor, cluster) }
        guard case .assembly(let assembly) = anchor.compilerRole else { return try emit(anchor, stored, cluster) }
        emit(assembly, anchor, cluster)
        for tensor in stored {
            for layout in layouts([tensor]) { emitElementwise(tensor, cluster, anchor: Tensor(anchor), layout) }
        }
    }

    /// Adds the nodes of a cluster to `materialized` that its results cannot compute again when they are computed.
    ///
    /// As a rule a result computes the nodes in front of it again, in registers. Let `h = x * m` be such a node and
    /// `m[5]` be zero: `h[5]` is known to be zero, so a result that reads `h[5]` may be computed before `x[5]` is
    /// drawn. Computing `h[5]` again would read `x[5]` too early. So h is stored, and its known elements lie in memory
    /// from the start.
    ///
    /// - Parameter results: the tensors of the cluster that are stored in any case.
    private mutating func materialize(_ nodes: [Node], results: [Tensor]) {
        var results = results
        var isComplete = false
        while !isComplete {
            isComplete = true
            for node in nodes where !materialized.contains(Tensor(node)) {
                guard let isKnown = dependencies.knownValues(Tensor(node))?.isKnown else { continue }
                let readsTooEarly = node.inputs.contains { input in
                    guard case .tensor(let base) = view(input).base, varies(base) else { return false }
                    let isInputKnown = dependencies.knownValues(input)?.isKnown
                    return results.contains { result in
                        guard result != Tensor(node) else { return false }
                        let isResultKnown = dependencies.knownValues(result)?.isKnown
                        return kinds.contains { kind in
                            let (inputLevels, isComputed) = (kind.levels[input], kind.needed[input])
                            let resultLevels = kind.levels[result]
                            return isKnown.indices.contains { e in
                                isKnown[e] && isResultKnown?[e] != true && isInputKnown?[e] != true
                                    && (isComputed?[e] != true || inputLevels?[e] ?? -1 > resultLevels?[e] ?? -1)
                            }
                        }
                    }
                }
                if readsTooEarly {
                    materialized.insert(Tensor(node))
                    results.append(Tensor(node))
                    isComplete = false
                }
            }
        }
    }

    /// Whether a tensor in memory changes while variables are drawn.
    private func varies(_ base: Tensor) -> Bool {
        base == variable || !base.node.isGiven || loop != nil && parts.places[base] != nil
    }

    /// Adds the work of an operation whose elements are made one by one, with the elementwise tensors behind it.
    private mutating func emit(_ anchor: Node, _ stored: [Tensor], _ cluster: Cluster) throws {
        let result = Tensor(anchor)
        let all = (isRead(result, outside: cluster) ? [result] : []) + stored
        // The epilogue joins its anchor where both can be computed at the same step.
        let together = all.allSatisfy { tensor in
            dependencies.knownValues(tensor) == nil
                && kinds.allSatisfy { $0.levels[tensor] == $0.levels[result] }
        }
        let rules = try elementRules(of: anchor, for: together ? all : [result])
        if case .moved? = rules.first?.rule { return try emitMoved(anchor, stored, cluster) }
        for (front, layout, elements) in try anchors(of: anchor, cluster, by: rules, for: together ? all : [result]) {
            if together {
                let builder = SamplerProgramBuilder(anchors: [result])
                for tensor in all { supply(tensor, builder, cluster, internals: true, layout) }
                append(front, builder.operands, builder.program(all), all, cluster, layout, only: elements)
            } else {
                append(
                    front, [], Program(inputs: [result.elementType], outputs: [0]), [result], cluster, layout,
                    only: elements)
            }
        }
        guard !together else { return }
        for tensor in stored {
            for layout in layouts([tensor]) { emitElementwise(tensor, cluster, anchor: result, layout) }
        }
    }

    /// Adds the work of an operation that names an element of its first operand for each of its own.
    private mutating func emitMoved(_ anchor: Node, _ stored: [Tensor], _ cluster: Cluster) throws {
        let (input, result) = (anchor.inputs[0], Tensor(anchor))
        let whole = SamplerLayout(result.shape)
        guard case .table(let table)? = dependencies.relations(result).first else { throw unsupported(anchor) }
        move(
            input, SamplerLayout(input.shape), select: table.map { Int($0) }, into: result, target: whole.target,
            cluster)
        for tensor in stored { emitElementwise(tensor, cluster, anchor: result, whole) }
    }

    /// Brings a tensor into a program: as a constant, computed again, or read from memory.
    /// - Parameter internals: whether elementwise tensors of the cluster itself are computed again.
    mutating func supply(
        _ tensor: Tensor, _ builder: SamplerProgramBuilder, _ cluster: Cluster, internals: Bool,
        _ layout: SamplerLayout
    ) {
        guard !builder.has(tensor) else { return }
        if let scalar = tensor.constantEverywhere {
            builder.addConstant(tensor, scalar)
        } else if tensor.node.isElementwise,
            tensor.node.isCounted
                || (internals && fusion.home[tensor] === cluster && !materialized.contains(tensor))
        {
            for input in tensor.node.inputs { supply(input, builder, cluster, internals: internals, layout) }
            builder.add(tensor.node)
        } else {
            builder.addOperand(tensor, operand(tensor, layout))
        }
    }

    private mutating func emitElementwise(
        _ tensor: Tensor, _ cluster: Cluster, anchor: Tensor?, _ layout: SamplerLayout
    ) {
        let builder = SamplerProgramBuilder()
        if let anchor { builder.addOperand(anchor, operand(anchor, layout)) }
        if materialized.contains(tensor) {
            for input in tensor.node.inputs { supply(input, builder, cluster, internals: true, layout) }
            builder.add(tensor.node)
        } else {
            supply(tensor, builder, cluster, internals: true, layout)
        }
        append(.none, builder.operands, builder.program([tensor]), [tensor], cluster, layout)
    }

    /// Writes a tensor that is computed from positions and constants alone, for readers that have to find it in memory.
    mutating func emitCounted(_ tensor: Tensor, _ cluster: Cluster) {
        for layout in layouts([tensor]) { emitElementwise(tensor, cluster, anchor: nil, layout) }
    }

    /// The elementwise tensors in front of a reduction become work of their own, so that each element is computed once,
    /// at the first step at which it can be.
    mutating func emitPrologue(of input: Tensor, _ cluster: Cluster) {
        materialize(cluster.prologue, results: [input])
        for tensor in cluster.prologue.map({ Tensor($0) }) where tensor == input || materialized.contains(tensor) {
            for layout in layouts([tensor]) {
                let builder = SamplerProgramBuilder()
                for node in cluster.prologue {
                    if Tensor(node) != tensor, materialized.contains(Tensor(node)) {
                        builder.addOperand(Tensor(node), operand(Tensor(node), layout))
                    } else {
                        for input in node.inputs { supply(input, builder, cluster, internals: false, layout) }
                        builder.add(node)
                    }
                    if Tensor(node) == tensor { break }
                }
                append(.none, builder.operands, builder.program([tensor]), [tensor], cluster, layout)
            }
        }
    }

    /// Adds a piece of work on every element of `tensors` within the layout that the draw needs. All channels of a
    /// layout become computable at the same step, which is that of the first.
    /// - Parameters:
    ///   - target: the elements that the positions are, if not those of the layout.
    ///   - elements: the positions that the work is for, if not all.
    ///   - places: where the tensors are written, if not to their own places.
    ///   - written: at which elements of these, if not at those of `target`.
    ///   - includesKnown: whether elements that never vary are written too.
    mutating func append(
        _ anchor: SamplingProgram.Anchor, _ operands: [SamplingProgram.Operand], _ program: Program,
        _ tensors: [Tensor], _ cluster: Cluster, _ layout: SamplerLayout, target: SamplingProgram.Table? = nil,
        only elements: [Bool]? = nil, to places: [SamplerPlace]? = nil,
        at written: SamplingProgram.Table? = nil, includesKnown: Bool = false
    ) {
        let target = target ?? layout.target
        var bySlot = [[Int32]](repeating: [], count: slotBases.last!)
        for (kind, own) in kinds.enumerated() {
            let slots = slotBases[kind]..<slotBases[kind + 1]
            let analyses = tensors.map {
                (own.levels[$0], own.needed[$0], includesKnown ? nil : dependencies.knownValues($0)?.isKnown)
            }
            for (p, place) in target.positions.enumerated() where elements?[p] != false {
                let place = Int(place)
                var slot = slots.lowerBound
                var isWanted = false
                for (levels, needed, known) in analyses {
                    slot = Swift.max(slot, levels.map { slots.lowerBound + Int($0[place]) + 1 } ?? 0)
                    isWanted = isWanted || (needed?[place] == true && known?[place] != true)
                }
                if isWanted, slots.contains(slot) { bySlot[slot].append(Int32(p)) }
            }
        }
        guard bySlot.contains(where: { !$0.isEmpty }) else { return }
        let places = places ?? tensors.map { place(of: $0) }
        let names = (cluster.anchor.map { [$0.operation.name] } ?? []) + cluster.nodes.map(\.operation.name)
        parts.works.append(
            SamplingProgram.Work(
                label: names.prefix(8).joined(separator: "+"),
                location: cluster.anchor?.location ?? cluster.nodes.first?.location, channels: layout.channels.count,
                anchor: anchor, operands: operands, program: program, outputs: places.map(\.value),
                targets: places.map { place in
                    var target = written ?? target
                    target.cursor = place.cursor
                    return target
                }, order: bySlot.flatMap { $0 },
                slotStart: bySlot.reduce(into: [0]) { $0.append($0.last! + Int32($1.count)) }))
    }

    func unsupported(_ node: Node, of type: ElementType? = nil) -> SamplingError {
        SamplingError(
            description: node.operation.name + (type.map { " of \($0)" } ?? "") + " has no incremental form"
                + (node.location.map { " (\($0))" } ?? ""))
    }
}
