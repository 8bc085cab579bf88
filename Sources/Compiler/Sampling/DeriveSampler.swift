import Graph

extension SamplingProgram {
    /// Derives the incremental program from the dependency rules.
    ///
    /// - Parameters:
    ///   - variable: the placeholder that stands for what is drawn, `[.batch, ..]`.
    ///   - drawn: the new value of every variable, a function of earlier variables, of the same shape and type.
    ///   - order: the groups in which variables are drawn.
    ///   - outputs: tensors that are handed back beside the variable (logits, say), batch first.
    /// - Throws: `DependencyLeak` if a variable's value would be computed from itself or a later one; `SamplingError` if an
    ///   operation has no incremental form; `GraphError` if the graph is invalid.
    public init(variable: Tensor, drawn: Tensor, order: Order, outputs: [Tensor] = []) throws {
        guard variable.type == drawn.type else {
            throw SamplingError(description: "what is drawn is \(drawn.type), the variable \(variable.type)")
        }
        _ = try AutoregressiveProof(
            [ConditionalParameters("drawn", drawn, variables: order.index.indices.map { Int32($0) })], of: variable,
            order: order)
        var simplifier = Simplifier()
        let simplified = simplifier.simplify([drawn, variable] + outputs)
        var builder = try SamplerBuilder(
            variable: simplified[1], drawn: simplified[0], order: order, outputs: Array(simplified.dropFirst(2)))
        self = try builder.build()
    }
}

private struct SamplerBuilder {
    let variable: Tensor
    let drawn: Tensor
    let order: Order
    let outputs: [Tensor]
    let fusion: Fusion
    private let readers: [Tensor: Set<Int>]
    let dependencies: Dependencies
    let levels: [Tensor: [Int32]]
    let needed: [Tensor: [Bool]]
    var values: [SamplingProgram.Value] = []
    var valueOf: [Tensor: Int] = [:]
    var works: [SamplingProgram.Work] = []

    init(variable: Tensor, drawn: Tensor, order: Order, outputs: [Tensor]) throws {
        self.variable = variable
        self.drawn = drawn
        self.order = order
        self.outputs = outputs
        fusion = Fusion([drawn] + outputs)
        readers = fusion.readers
        dependencies = try Dependencies([drawn] + outputs)
        levels = dependencies.levels(of: variable, order: order.index)
        needed = dependencies.reach(from: [drawn] + outputs)
    }

    mutating func build() throws -> SamplingProgram {
        let variableValue = value(variable)
        for cluster in fusion.ordered { try emit(cluster) }
        return SamplingProgram(
            values: values, works: works, variable: variableValue, drawn: value(drawn),
            groups: order.groups.map { $0.map { Int32($0) } },
            exampleShape: Array(variable.shape.resolved(batch: 1).dropFirst()),
            outputs: outputs.map { (value: value($0), exampleShape: Array($0.shape.resolved(batch: 1).dropFirst())) })
    }

    /// The step at which an element can be computed first.
    private func step(_ tensor: Tensor, _ element: Int) -> Int { Int(levels[tensor]?[element] ?? -1) + 1 }

    private mutating func value(_ tensor: Tensor) -> Int {
        if let id = valueOf[tensor] { return id }
        var storage = SamplingProgram.Value.Storage.temporary
        if tensor == variable {
            storage = .variable
        } else if let placeholder = tensor.placeholder {
            storage = placeholder.role == .input ? .input(placeholder.label) : .state(placeholder.label)
        } else if let constant = tensor.node.operation as? Constant {
            storage = .constant(constant.array)
        }
        values.append(
            SamplingProgram.Value(
                count: tensor.shape.count.resolved(batch: 1), element: tensor.elementType,
                isShared: !tensor.shape.isBatched,
                storage: storage, known: tensor == variable ? nil : dependencies.facts(tensor),
                label: tensor.placeholder?.label ?? tensor.node.operation.name))
        valueOf[tensor] = values.count - 1
        return values.count - 1
    }

    private mutating func operand(_ tensor: Tensor) -> SamplingProgram.Operand {
        operand(fusion.view(tensor), of: tensor)
    }

    private mutating func operand(_ view: View, of tensor: Tensor) -> SamplingProgram.Operand {
        let table = positions(view, tensor.shape)
        switch view.base {
        case .tensor(let base):
            return SamplingProgram.Operand(source: .value(value(base)), table: table, element: tensor.elementType)
        case .position:
            let axis = tensor.shape.batchAxis
            let stride = axis.map { view.strides[$0].coefficient * tensor.shape[$0].coefficient } ?? 0
            return SamplingProgram.Operand(source: .position(batchStride: stride), table: table, element: .int32)
        }
    }

    private func positions(_ view: View, _ shape: Shape) -> [Int32] {
        affinePositions(
            shape.resolved(batch: 1), offset: view.offset.reduce(0) { $0 + $1.resolved(batch: 1) },
            strides: view.strides.map { $0.resolved(batch: 1) })
    }

    private func isRead(_ tensor: Tensor, outside cluster: Cluster) -> Bool {
        tensor == drawn || outputs.contains(tensor)
            || readers[tensor].map { $0.contains { $0 != cluster.id } } == true
    }

    // MARK: clusters

    private mutating func emit(_ cluster: Cluster) throws {
        if let copied = cluster.copied {
            let view = fusion.source(ofCopy: copied)
            var builder = ProgramBuilder(anchor: nil)
            if let scalar = Simplifier.scalar(copied) {
                builder.addConstant(copied, scalar)
                append(.none, [], builder.program([copied]), [copied], cluster)
            } else {
                let operand = operand(view, of: copied)
                append(.none, [operand], Program(inputs: [operand.element], outputs: [0]), [copied], cluster)
            }
            return
        }
        let stored = cluster.nodes.map { Tensor($0) }.filter { isRead($0, outside: cluster) }
        guard let anchor = cluster.anchor else {
            for tensor in stored { emitElementwise(tensor, cluster, anchor: nil) }
            return
        }
        switch anchor.operation {
        case let pad as Pad: try emit(pad, anchor, cluster)
        case let concatenate as Concatenate: try emit(concatenate, anchor, cluster)
        default:
            let result = Tensor(anchor)
            let front = try self.anchor(anchor, cluster)
            let all = (isRead(result, outside: cluster) ? [result] : []) + stored
            // The epilogue joins its anchor where both can be computed at the same step.
            if all.allSatisfy({ tensor in
                dependencies.facts(tensor) == nil
                    && (0..<dependencies.count(tensor)).allSatisfy { step(tensor, $0) == step(result, $0) }
            }) {
                emitTogether(all, cluster, anchor: result, front)
            } else {
                append(front, [], Program(inputs: [result.elementType], outputs: [0]), [result], cluster)
                for tensor in stored { emitElementwise(tensor, cluster, anchor: result) }
            }
        }
    }

    private mutating func supply(
        _ tensor: Tensor, _ builder: inout SamplerProgramBuilder, _ cluster: Cluster, internals: Bool
    ) {
        guard !builder.has(tensor) else { return }
        if let scalar = Simplifier.scalar(tensor) {
            builder.addConstant(tensor, scalar)
        } else if tensor.node.operation is Elementwise,
            Simplifier.isCounted(tensor) || (internals && fusion.home[tensor] === cluster)
        {
            for input in tensor.node.inputs { supply(input, &builder, cluster, internals: internals) }
            builder.add(tensor.node)
        } else {
            builder.addOperand(tensor, operand(tensor))
        }
    }

    private mutating func emitElementwise(_ tensor: Tensor, _ cluster: Cluster, anchor: Tensor?) {
        var builder = SamplerProgramBuilder(anchor: nil)
        if let anchor { builder.addOperand(anchor, operand(anchor)) }
        supply(tensor, &builder, cluster, internals: true)
        append(.none, builder.operands, builder.program([tensor]), [tensor], cluster)
    }

    private mutating func emitTogether(
        _ tensors: [Tensor], _ cluster: Cluster, anchor: Tensor, _ front: SamplingProgram.Anchor
    ) {
        var builder = SamplerProgramBuilder(anchor: anchor)
        for tensor in tensors { supply(tensor, &builder, cluster, internals: true) }
        append(front, builder.operands, builder.program(tensors), tensors, cluster)
    }

    /// Whether an element has to be computed: the draw needs it, and it is not known beforehand.
    private func isWanted(_ tensor: Tensor, _ element: Int) -> Bool {
        needed[tensor]?[element] == true && dependencies.facts(tensor)?.isKnown[element] != true
    }

    /// Adds a piece of work on every element of `tensors` that the draw needs.
    private mutating func append(
        _ anchor: SamplingProgram.Anchor, _ operands: [SamplingProgram.Operand], _ program: Program,
        _ tensors: [Tensor],
        _ cluster: Cluster, target: [Int32]? = nil
    ) {
        let target = target ?? (0..<Int32(dependencies.count(tensors[0]))).map { $0 }
        var bySteps = [[Int32]](repeating: [], count: order.groupCount)
        for (e, place) in target.enumerated() where tensors.contains(where: { isWanted($0, Int(place)) }) {
            let step = tensors.map { self.step($0, Int(place)) }.max() ?? 0
            if step < order.groupCount { bySteps[step].append(Int32(e)) }
        }
        var starts: [Int32] = [0]
        for step in bySteps { starts.append(starts.last! + Int32(step.count)) }
        let names = (cluster.anchor.map { [$0.operation.name] } ?? []) + cluster.nodes.map(\.operation.name)
        works.append(
            SamplingProgram.Work(
                label: names.prefix(8).joined(separator: "+"),
                location: cluster.anchor?.location ?? cluster.nodes.first?.location,
                anchor: anchor, operands: operands, program: program, outputs: tensors.map { value($0) },
                target: target,
                order: bySteps.flatMap { $0 }, stepStart: starts))
    }

    // MARK: anchors

    private mutating func anchor(_ node: Node, _ cluster: Cluster) throws -> SamplingProgram.Anchor {
        switch node.operation {
        case let masked as MaskedProduct where masked.role == .forward:
            let (x, w) = (operand(node.inputs[0]), operand(node.inputs[1]))
            let (inputs, outputs) = (node.inputs[1].shape[1].coefficient, node.inputs[1].shape[0].coefficient)
            guard let live = masked.mask.liveRanges(inputs: inputs, outputs: outputs) else {
                throw SamplingError(
                    description:
                        "\(masked.name): degrees must be constants when a sampler is derived; build the model for one order first"
                )
            }
            let count = dependencies.count(Tensor(node))
            let a = affine(x.table, lines: count / outputs, length: inputs)
            let b = affine(w.table, lines: outputs, length: inputs)
            guard let a, let b, case .value(let left) = x.source, case .value(let right) = w.source else {
                throw unsupported(node)
            }
            return .product(
                SamplingProgram.SumOfProducts(
                    a: left, b: right, aBase: (0..<count).map { a.bases[$0 / outputs] },
                    bBase: (0..<count).map { b.bases[$0 % outputs] },
                    aStride: a.stride, bStride: b.stride,
                    ranges: live.map { $0.map { Int32($0.lowerBound)..<Int32($0.upperBound) } },
                    row: (0..<count).map { Int32($0 % outputs) }))
        case is MatrixProduct:
            let (x, y) = (operand(node.inputs[0]), operand(node.inputs[1]))
            let shapes = node.inputs.map { $0.shape.resolved(batch: 1) }
            let (m, k, n) = (shapes[0][shapes[0].count - 2], shapes[0].last!, shapes[1].last!)
            let count = dependencies.count(Tensor(node))
            let outer = count / (m * n)
            // Columns of the right operand as lines of their own.
            let columns = (0..<outer).flatMap { r in
                (0..<n).flatMap { j in (0..<k).map { y.table[(r * k + $0) * n + j] } }
            }
            guard let a = affine(x.table, lines: outer * m, length: k),
                let b = affine(columns, lines: outer * n, length: k),
                case .value(let left) = x.source, case .value(let right) = y.source
            else { throw unsupported(node) }
            // What is structurally zero on either side is not visited.
            let facts = (dependencies.facts(node.inputs[0]), dependencies.facts(node.inputs[1]))
            let dense = [Range<Int32>(uncheckedBounds: (0, Int32(k)))]
            var ranges = [dense]
            var row = [Int32](repeating: 0, count: count)
            if facts.0 != nil || facts.1 != nil {
                ranges = []
                for e in 0..<count {
                    let (r, i, j) = (e / (m * n), e / n % m, e % n)
                    var live: [Range<Int32>] = []
                    for t in 0..<k where facts.0?[(r * m + i) * k + t] != 0 && facts.1?[(r * k + t) * n + j] != 0 {
                        if let last = live.last, last.upperBound == Int32(t) {
                            live[live.count - 1] = last.lowerBound..<Int32(t + 1)
                        } else {
                            live.append(Int32(t)..<Int32(t + 1))
                        }
                    }
                    row[e] = Int32(e)
                    ranges.append(live)
                }
            }
            return .product(
                SamplingProgram.SumOfProducts(
                    a: left, b: right, aBase: (0..<count).map { a.bases[$0 / n] },
                    bBase: (0..<count).map { b.bases[$0 / (m * n) * n + $0 % n] }, aStride: a.stride, bStride: b.stride,
                    ranges: ranges, row: row))
        case let reduction as Graph.Reduction:
            return try reduce(reduction, node, cluster)
        default:
            throw unsupported(node)
        }
    }

    private mutating func reduce(_ reduction: Graph.Reduction, _ node: Node, _ cluster: Cluster) throws
        -> SamplingProgram.Anchor
    {
        let input = node.inputs[0]
        var source: SamplingProgram.Operand
        if cluster.prologue.isEmpty {
            source = operand(input)
        } else {
            // The prologue becomes work of its own: its elements are computed once, when they can be.
            var builder = SamplerProgramBuilder(anchor: nil)
            for node in cluster.prologue {
                for input in node.inputs { supply(input, &builder, cluster, internals: false) }
                builder.add(node)
            }
            append(.none, builder.operands, builder.program([input]), [input], cluster)
            let id = value(input)
            source = SamplingProgram.Operand(
                source: .value(id), table: (0..<Int32(dependencies.count(input))).map { $0 }, element: input.elementType
            )
        }
        let context = RelationContext(
            inputs: node.inputs, inputShapes: [input.shape.resolved(batch: 1)],
            outputShape: node.types[0].shape.resolved(batch: 1),
            output: 0, facts: [nil], batch: 1)
        guard case .value(let id) = source.source,
            case .lines(let lines, _, let count) = reduction.relations(context)[0]
        else {
            throw unsupported(node)
        }
        var lists = [[Int32]](repeating: [], count: count)
        for (i, line) in lines.enumerated() where line >= 0 { lists[Int(line)].append(source.table[i]) }
        var starts: [Int32] = [0]
        for list in lists { starts.append(starts.last! + Int32(list.count)) }
        return .reduction(
            SamplingProgram.Reduction(
                kind: ReductionGroup.Kind(rawValue: reduction.kind.rawValue) ?? .sum, value: id,
                list: lists.flatMap { $0 }, start: starts))
    }

    private func unsupported(_ node: Node) -> SamplingError {
        SamplingError(
            description: "\(node.operation.name) has no incremental form" + (node.location.map { " (\($0))" } ?? "")
                + "; sample with --naive")
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

    // MARK: movement that writes

    private mutating func emit(_ pad: Pad, _ anchor: Node, _ cluster: Cluster) throws {
        let result = Tensor(anchor)
        let table = pad.sources(
            inputShape: anchor.inputs[0].shape.resolved(batch: 1), outputShape: result.shape.resolved(batch: 1))
        let target = table.indices.filter { table[$0] >= 0 }.map { Int32($0) }
        try move(anchor.inputs[0], select: target.map { table[Int($0)] }, into: result, target: target, cluster)
    }

    private mutating func emit(_ concatenate: Concatenate, _ anchor: Node, _ cluster: Cluster) throws {
        let result = Tensor(anchor)
        let shape = result.shape.resolved(batch: 1)
        let strides = Shape(shape).strides.map(\.coefficient)
        var start = 0
        for input in anchor.inputs {
            let target = affinePositions(
                input.shape.resolved(batch: 1), offset: start * strides[concatenate.axis], strides: strides)
            try move(input, select: target.indices.map { Int32($0) }, into: result, target: target, cluster)
            start += input.shape[concatenate.axis].coefficient
        }
    }

    private mutating func move(
        _ input: Tensor, select: [Int32], into result: Tensor, target: [Int32], _ cluster: Cluster
    ) throws {
        var builder = SamplerProgramBuilder(anchor: nil)
        supply(input, &builder, cluster, internals: false)
        let operands = builder.operands.map { operand in
            SamplingProgram.Operand(
                source: operand.source, table: select.map { operand.table[Int($0)] }, element: operand.element)
        }
        append(.none, operands, builder.program([input]), [result], cluster, target: target)
    }
}
