import Graph

/// Compiles tensors into a schedule that computes them.
///
/// - Parameters:
///   - outputs: what a run hands back.
///   - updates: states that a run replaces; they are written in place where no later group reads the old value.
///   - maskedStates: the masks of states that are zero where the mask is dead, and stay zero there (masked weights and
///     their moments). An update of such states that is fused with the weight gradient may skip dead tiles.
/// - Throws: `GraphError` if a tensor is invalid, or an update does not fit its state.
public func compile(
    _ outputs: [Tensor], updates: [StateUpdate] = [], maskedStates: [Tensor: WeightMask] = [:]
) throws(GraphError) -> Schedule {
    for tensor in outputs + updates.map(\.value) { _ = try tensor.validated() }
    for update in updates where update.state.type != update.value.type || update.state.placeholder?.role != .state {
        throw GraphError(
            operation: "update",
            message: "expected a value of \(update.state.type) for \(update.state), found \(update.value.type)",
            location: update.value.location)
    }
    var simplifier = Simplifier()
    var sections = Sections()
    let simplified = sections.split(
        simplifier.simplify(outputs + updates.map(\.value) + updates.map(\.state) + Array(maskedStates.keys)))
    let states = Array(simplified[outputs.count + updates.count..<outputs.count + 2 * updates.count])
    let simplifiedMaskedStates = Dictionary(
        zip(simplified.suffix(maskedStates.count), maskedStates.values), uniquingKeysWith: { a, _ in a })
    // Where a state is handed back, or becomes the new value of another state, its value before the run is meant.
    func valueBeforeRun(_ tensor: Tensor) -> Tensor {
        let view = View.of(tensor) { $0.placeholder != nil }
        if case .tensor(let base) = view.base, states.contains(base) { return tensor.apply(.stopGradient) }
        return tensor
    }
    let returned = simplified.prefix(outputs.count).map(valueBeforeRun)
    let values = zip(states, simplified[outputs.count...]).map { $0 == $1 ? $1 : valueBeforeRun($1) }
    var builder = ScheduleBuilder(
        outputs: returned, updates: Array(zip(states, values)), maskedStates: simplifiedMaskedStates,
        channelHalves: sections.channelHalves)
    let schedule = try builder.build()
    try schedule.checkOrder()
    if debugLevel >= 1 {
        debugLine("compiled \(topologicalOrder(simplified).count) nodes into \(schedule.groups.count) groups")
    }
    if debugLevel >= 2 { debugLine(schedule.description) }
    return schedule
}

/// Sorts tensors by the longest chain of operations that leads to each, shortest first. Of the updates of a training
/// step the last layer's then come first: each gradient updates its weights while it is still in a cache, and its
/// memory is free for the gradient of the layer in front.
private func nearestFirst(_ tensors: [Tensor]) -> [Tensor] {
    var depth: [ObjectIdentifier: Int] = [:]
    func depthOf(_ tensor: Tensor) -> Int { depth[ObjectIdentifier(tensor.node)] ?? 0 }
    for node in topologicalOrder(tensors) {
        depth[ObjectIdentifier(node)] = 1 + (node.inputs.map(depthOf).max() ?? 0)
    }
    return tensors.sorted { depthOf($0) < depthOf($1) }
}

/// Turns clusters into groups, in the order in which they run.
struct ScheduleBuilder {
    private let outputs: [Tensor]
    private let updates: [(state: Tensor, value: Tensor)]
    private let maskedStates: [Tensor: WeightMask]
    private let fusion: Fusion
    private let readers: [Tensor: Set<Int>]
    /// What the caller reads: outputs, and new values of states.
    private let returned: Set<Tensor>
    private var schedule = Schedule()
    private var valueOf: [Tensor: Int] = [:]
    private let order: ClusterOrder
    /// Tensors that are written straight into their places in concatenations. Every other reader of such a tensor finds
    /// it there.
    private var parts: [Tensor: [Part]] = [:]

    /// A place in a concatenation.
    private struct Part {
        var whole: Tensor
        var axis: Int
        var start: Int
    }

    init(
        outputs: [Tensor], updates: [(Tensor, Tensor)], maskedStates: [Tensor: WeightMask],
        channelHalves: [Tensor: [Tensor]]
    ) {
        self.outputs = outputs
        self.updates = updates.map { (state: $0.0, value: $0.1) }
        self.maskedStates = maskedStates
        fusion = Fusion(outputs + nearestFirst(updates.map(\.1)), channelHalves: channelHalves, savesMemory: true)
        readers = fusion.readers
        returned = Set(outputs + self.updates.map(\.value))
        order = ClusterOrder(fusion, updates: self.updates)
    }

    mutating func build() throws(GraphError) -> Schedule {
        var names: [String: TensorType] = [:]
        for node in topologicalOrder(outputs + updates.map(\.value) + updates.map(\.state)) {
            guard let placeholder = node.operation as? Placeholder else { continue }
            if let other = names.updateValue(placeholder.type, forKey: placeholder.label) {
                throw GraphError(
                    operation: "compile",
                    message:
                        "two inputs or states are called “\(placeholder.label)”, of \(other) and \(placeholder.type); give them different names",
                    location: node.location)
            }
            let id = add(
                Value(
                    placeholder.type,
                    placeholder.role == .input ? .input(placeholder.label) : .state(placeholder.label),
                    label: placeholder.label))
            valueOf[Tensor(node)] = id
            if placeholder.role == .input { schedule.inputs.append(id) } else { schedule.states.append(id) }
        }
        for (value, state) in order.inPlace { valueOf[value] = valueOf[state] }
        findParts()
        for cluster in order.clusters { try emit(cluster) }
        copyRemainingUpdates()
        schedule.outputs = outputs.map { value($0) }
        return schedule
    }

    /// Finds the inputs of concatenations that can be written straight into the concatenation: those of groups with an
    /// epilogue, which can write anywhere.
    private mutating func findParts() {
        var readers: [Tensor: [(cluster: Cluster, input: Tensor)]] = [:]
        for cluster in fusion.clusters {
            for input in fusion.inputs(of: cluster) where fusion.home[input] !== cluster {
                if case .tensor(let base) = fusion.view(input).base {
                    readers[base, default: []].append((cluster, input))
                }
            }
        }
        // The clusters that write into each concatenation.
        var writers: [Tensor: Set<Int>] = [:]
        for cluster in fusion.clusters {
            guard let anchor = cluster.anchor, let concatenate = anchor.operation as? Concatenate else { continue }
            var start = 0
            for input in anchor.inputs {
                if let home = fusion.home[input], home.takesEpilogue, order.inPlace[input] == nil,
                    !returned.contains(input)
                {
                    parts[input, default: []].append(
                        Part(whole: Tensor(anchor), axis: concatenate.axis, start: start))
                    writers[Tensor(anchor), default: [cluster.id]].insert(home.id)
                }
                start += input.shape[concatenate.axis].coefficient
            }
        }
        // If others than concatenations read a part, it must lie in one concatenation, where they can all read it; and
        // they must not write into that concatenation themselves.
        parts = parts.filter { part, places in
            guard let all = readers[part], all.count > places.count else { return true }
            guard places.count == 1, all.count(where: { writers[places[0].whole]!.contains($0.cluster.id) }) == 1 else {
                return false
            }
            return all.allSatisfy { canRead($0.input, of: part, in: places[0], $0.cluster) }
        }
    }

    /// Whether a cluster that reads a part of a concatenation can read it from the concatenation's memory.
    private func canRead(
        _ input: Tensor, of part: Tensor, in place: Part, _ cluster: Cluster
    ) -> Bool {
        guard cluster.copied == nil else { return false }
        switch cluster.anchor?.operation {
        case nil, is Reduction, is MatrixProduct, is Convolution, is Pad, is Concatenate: break
        // Degrees are read as whole values.
        case is MaskedProduct where !cluster.anchor!.inputs.dropFirst(2).contains(input): break
        default: return false
        }
        return fusion.view(input) { $0 == part ? memory(in: place) : nil }.base == .tensor(place.whole)
    }

    /// Where a part of a concatenation lies.
    private func memory(in place: Part) -> View {
        let strides = place.whole.shape.strides
        return View(
            base: .tensor(place.whole), offset: place.start == 0 ? [] : [strides[place.axis] * Extent(place.start)],
            strides: strides)
    }

    private mutating func copyRemainingUpdates() {
        // All new values are computed by now; a value that is itself a state's old content goes through a temporary, so that
        // states can be exchanged.
        var copies: [(from: Int, to: Int)] = []
        for (state, value) in updates where order.inPlace[value] != state && state != value {
            var source = self.value(value)
            if case .state = schedule.values[source].storage {
                let temporary = add(Value(value.type, .temporary, label: "update"))
                appendCopy(from: source, to: temporary, value.type)
                source = temporary
            }
            copies.append((source, self.value(state)))
        }
        for (from, to) in copies { appendCopy(from: from, to: to, schedule.values[to].type) }
    }

    private mutating func appendCopy(from: Int, to: Int, _ type: TensorType) {
        let strides = type.shape.strides
        schedule.groups.append(
            Group(
                .elementwise(
                    ElementwiseGroup(
                        iteration: type.shape.dimensions,
                        inputs: [Operand(.value(from), strides: strides, element: type.element)],
                        program: Program(inputs: [type.element], outputs: [0]),
                        outputs: [Operand(.value(to), strides: strides, element: type.element)])),
                label: "update \(schedule.values[to].label)", location: nil))
    }

    // MARK: values

    private mutating func add(_ value: Value) -> Int {
        schedule.values.append(value)
        return schedule.values.count - 1
    }

    private mutating func value(_ tensor: Tensor) -> Int {
        if let id = valueOf[tensor] { return id }
        let storage: Value.Storage =
            if let constant = tensor.node.operation as? Constant { .constant(constant.array) } else { .temporary }
        let id = add(Value(tensor.type, storage, label: tensor.node.operation.name))
        valueOf[tensor] = id
        return id
    }

    private mutating func operand(_ tensor: Tensor, axes: [Int]? = nil) -> Operand {
        let view = fusion.view(tensor) { parts[$0].flatMap { $0.count == 1 ? memory(in: $0[0]) : nil } }
        var operand =
            switch view.base {
            case .position: Operand(.position, offset: view.offset, strides: view.strides, element: .int32)
            case .tensor(let base):
                Operand(.value(value(base)), offset: view.offset, strides: view.strides, element: tensor.elementType)
            }
        if let axes { operand.strides = axes.map { operand.strides[$0] } }
        return operand
    }

    /// A whole value, written in row-major order.
    private mutating func target(_ tensor: Tensor) -> Operand {
        Operand(.value(value(tensor)), strides: tensor.shape.strides, element: tensor.elementType)
    }

    /// A part of a concatenation, which is written there.
    private mutating func target(_ place: Part) -> Operand {
        let id = value(place.whole)
        return memory(in: place).operand({ _ in id }, place.whole.elementType)
    }

    /// Where each of some tensors is written: to a value of its own, or to its places in concatenations.
    ///
    /// - Parameter axes: the order of the axes in the group's iteration.
    private mutating func targets(_ tensors: [Tensor], axes: [Int]? = nil) -> (tensors: [Tensor], operands: [Operand]) {
        var (written, operands) = ([Tensor](), [Operand]())
        for tensor in tensors {
            var own =
                parts[tensor]?.map { target($0) } ?? [target(tensor)]
            if let axes { for index in own.indices { own[index].strides = axes.map { own[index].strides[$0] } } }
            written += own.map { _ in tensor }
            operands += own
        }
        return (written, operands)
    }

    /// Whether another group, or the caller, reads what a cluster computes for `tensor`.
    private func isRead(_ tensor: Tensor, outside cluster: Cluster) -> Bool {
        returned.contains(tensor) || readers[tensor].map { $0.contains { $0 != cluster.id } } == true
    }

    // MARK: groups

    private mutating func emit(_ cluster: Cluster) throws(GraphError) {
        if let copied = cluster.copied {
            emitCopy(of: copied)
        } else if let anchor = cluster.anchor {
            switch anchor.operation {
            case let reduction as Reduction: emit(reduction, anchor, cluster)
            case is MatrixProduct: emitProduct(anchor, cluster)
            case let masked as MaskedProduct: emit(masked, anchor, cluster)
            case let convolution as Convolution: emit(convolution, anchor, cluster)
            case let pad as Pad: emit(pad, anchor)
            case let concatenate as Concatenate: emit(concatenate, anchor)
            case let scan as Scan:
                let outputs = readOutputs(of: anchor, in: cluster)
                append(.loop(try LoopGroup(scan, inputs: anchor.inputs.map { value($0) }, outputs: outputs)), cluster)
            case let iterate as Iterate:
                let outputs = readOutputs(of: anchor, in: cluster)
                append(
                    .loop(try LoopGroup(iterate, inputs: anchor.inputs.map { value($0) }, outputs: outputs)), cluster)
            default:
                let inputs = anchor.inputs.map { value($0) }
                let outputs = anchor.types.indices.map { value(Tensor(anchor, $0)) }
                append(
                    .operation(OperationGroup(operation: anchor.operation, inputs: inputs, outputs: outputs)), cluster)
            }
        } else {
            var builder = ProgramBuilder()
            let stored = targets(build(cluster.nodes, &builder, cluster, axes: nil))
            append(
                .elementwise(
                    ElementwiseGroup(
                        iteration: cluster.shape.dimensions, inputs: builder.operands,
                        program: builder.program(stored.tensors), outputs: stored.operands)), cluster)
        }
    }

    /// The values of a loop's results; `nil` for a result that nothing reads.
    private mutating func readOutputs(of loop: Node, in cluster: Cluster) -> [Int?] {
        loop.types.indices.map { Tensor(loop, $0) }.map { isRead($0, outside: cluster) ? value($0) : nil }
    }

    private mutating func append(_ kind: Group.Kind, _ cluster: Cluster) {
        let nodes = cluster.prologue + (cluster.anchor.map { [$0] } ?? []) + cluster.nodes
        let names = nodes.map(\.operation.name)
        let label =
            names.count > 8
            ? names.prefix(7).joined(separator: "+") + "+\(names.count - 7) more" : names.joined(separator: "+")
        schedule.groups.append(Group(kind, label: label, location: cluster.anchor?.location ?? nodes.first?.location))
    }

    /// Adds elementwise nodes to a program. Returns the tensors that have to be stored.
    private mutating func build(_ nodes: [Node], _ builder: inout ProgramBuilder, _ cluster: Cluster, axes: [Int]?)
        -> [Tensor]
    {
        for node in nodes {
            for input in node.inputs { supply(input, &builder, axes) }
            builder.add(node)
        }
        return nodes.map { Tensor($0) }.filter { isRead($0, outside: cluster) }
    }

    /// Brings a tensor that the group does not compute into its program: as a constant, counted, or read from memory.
    private mutating func supply(_ tensor: Tensor, _ builder: inout ProgramBuilder, _ axes: [Int]?) {
        guard !builder.has(tensor) else { return }
        if let scalar = Simplifier.scalar(tensor) {
            builder.addConstant(tensor, scalar)
        } else if tensor.node.operation is Elementwise,
            tensor.node.isCounted || fusion.recomputed.contains(tensor)
        {
            for input in tensor.node.inputs { supply(input, &builder, axes) }
            builder.add(tensor.node)
        } else {
            builder.addOperand(tensor, operand(tensor, axes: axes))
        }
    }

    private mutating func emitCopy(of tensor: Tensor) {
        // The copy's own memory must not be what it is copied from.
        let view = fusion.source(ofCopy: tensor)
        var builder = ProgramBuilder()
        if tensor.node.isCounted, !(tensor.node.operation is Position) {
            supply(tensor, &builder, nil)
        } else {
            var ids: [Tensor: Int] = [:]
            if case .tensor(let base) = view.base { ids[base] = value(base) }
            builder.addOperand(tensor, view.operand({ ids[$0]! }, tensor.elementType))
        }
        schedule.groups.append(
            Group(
                .elementwise(
                    ElementwiseGroup(
                        iteration: tensor.shape.dimensions, inputs: builder.operands,
                        program: builder.program([tensor]),
                        outputs: [target(tensor)])), label: "copy \(tensor.node.operation.name)",
                location: tensor.location))
    }

    private mutating func emit(_ reduction: Reduction, _ anchor: Node, _ cluster: Cluster) {
        let input = anchor.inputs[0]
        let keptAxes = (0..<input.shape.rank).filter { !reduction.axes.contains($0) }
        let axes = keptAxes + reduction.axes
        var front = ProgramBuilder()
        if cluster.prologue.isEmpty { supply(input, &front, axes) }
        let storedInFront = targets(build(cluster.prologue, &front, cluster, axes: axes), axes: axes)
        let (back, stored) = epilogue(cluster)
        append(
            .reduction(
                ReductionGroup(
                    kind: ReductionGroup.Kind(rawValue: reduction.kind.rawValue) ?? .sum,
                    keptExtents: keptAxes.map { input.shape[$0] },
                    reducedExtents: reduction.axes.map { input.shape[$0] }, inputs: front.operands,
                    prologue: front.program([input] + storedInFront.tensors), stored: storedInFront.operands,
                    epilogueInputs: back.operands, epilogue: back.program(stored.tensors), outputs: stored.operands)),
            cluster)
    }

    private mutating func epilogue(_ cluster: Cluster) -> (
        ProgramBuilder, (tensors: [Tensor], operands: [Operand])
    ) {
        var back = ProgramBuilder(anchors: cluster.results)
        let stored = build(cluster.nodes, &back, cluster, axes: nil)
        return (back, targets(cluster.results.filter { isRead($0, outside: cluster) } + stored))
    }

    private mutating func emitProduct(_ anchor: Node, _ cluster: Cluster) {
        let (a, b) = (operand(anchor.inputs[0]), operand(anchor.inputs[1]))
        let (left, right) = (anchor.inputs[0].shape, anchor.inputs[1].shape)
        let (back, stored) = epilogue(cluster)
        append(
            .product(
                ProductGroup(
                    batch: Array(left.dimensions.dropLast(2)), m: left[-2], n: right[-1], k: left[-1], a: a, b: b,
                    epilogueInputs: back.operands, epilogue: back.program(stored.tensors), outputs: stored.operands)),
            cluster)
    }

    private mutating func emit(_ masked: MaskedProduct, _ anchor: Node, _ cluster: Cluster) {
        let (x, y) = (anchor.inputs[0], anchor.inputs[1])
        let a: Operand
        let b: Operand
        let extents: (m: Extent, n: Extent, k: Extent)
        let role: ProductGroup.Role
        switch masked.role {
        case .forward:
            (a, b, role) = (operand(x), operand(y, axes: [1, 0]), .forward)
            extents = (x.shape[0], y.shape[0], x.shape[1])
        case .inputGradient:
            (a, b, role) = (operand(x), operand(y), .inputGradient)
            extents = (x.shape[0], y.shape[1], x.shape[1])
        case .weightGradient:
            (a, b, role) = (operand(x, axes: [1, 0]), operand(y), .weightGradient)
            extents = (x.shape[1], y.shape[1], x.shape[0])
        }
        let (back, stored) = epilogue(cluster)
        let degrees = anchor.inputs.count == 4 ? (input: value(anchor.inputs[2]), output: value(anchor.inputs[3])) : nil
        let program = back.program(stored.tensors)
        let staysZero =
            role == .weightGradient && leavesDeadZeros(.dense(masked.mask), program, back.operands, stored.tensors)
        append(
            .product(
                ProductGroup(
                    m: extents.m, n: extents.n, k: extents.k, a: a, b: b,
                    mask: ProductGroup.Mask(masked.mask, role, runtimeDegrees: degrees, deadOutputsStayZero: staysZero),
                    epilogueInputs: back.operands, epilogue: program, outputs: stored.operands)), cluster)
    }

    private mutating func emit(_ convolution: Convolution, _ anchor: Node, _ cluster: Cluster) {
        guard let geometry = try? convolution.geometry(anchor.inputs.map(\.type)) else {
            fatalError("\(convolution.name) was refused when its node was made")
        }
        let (a, b) = (operand(anchor.inputs[0]), operand(anchor.inputs[1]))
        let (back, stored) = epilogue(cluster)
        append(
            .convolution(
                ConvolutionGroup(
                    role: convolution.role, geometry: geometry, mask: convolution.mask,
                    batch: anchor.inputs[0].shape[0],
                    a: a, b: b, sections: cluster.results.count, epilogueInputs: back.operands,
                    epilogue: back.program(stored.tensors), outputs: stored.operands)), cluster)
    }

    /// Whether an epilogue that updates masked states in place writes zeros wherever the gradient and the states are
    /// zero.
    private func leavesDeadZeros(_ mask: WeightMask, _ program: Program, _ operands: [Operand], _ stored: [Tensor])
        -> Bool
    {
        let states = stored.compactMap { order.inPlace[$0] }
        guard !stored.isEmpty, states.count == stored.count, states.allSatisfy({ maskedStates[$0] == mask }) else {
            return false
        }
        let zeroValues = Set(maskedStates.filter { $0.value == mask }.keys.compactMap { valueOf[$0] })
        // This must hold whatever the other operands are: three different sets of numbers stand for all.
        return [0.25, 1.5, 3.0].allSatisfy { draw in
            let inputs =
                [0.0]
                + operands.enumerated().map { index, operand in
                    operand.value.map { zeroValues.contains($0) } == true ? 0 : draw + Double(index) * 0.37
                }
            return program.evaluate(inputs).allSatisfy { $0 == 0 }
        }
    }

    private mutating func emit(_ pad: Pad, _ anchor: Node) {
        let result = Tensor(anchor)
        let strides = result.shape.strides
        var fill = ProgramBuilder()
        fill.addConstant(result, pad.fill)
        schedule.groups.append(
            Group(
                .elementwise(
                    ElementwiseGroup(
                        iteration: result.shape.dimensions, inputs: [], program: fill.program([result]),
                        outputs: [target(result)])),
                label: "pad fill", location: anchor.location))
        var output = target(result)
        output.offset = zip(pad.low, strides).filter { $0.0 != 0 }.map { $1 * Extent($0) }
        output.strides = zip(pad.interior, strides).map { $1 * Extent($0 + 1) }
        appendMove(of: anchor.inputs[0], into: output, label: "pad", anchor.location)
    }

    private mutating func emit(_ concatenate: Concatenate, _ anchor: Node) {
        let result = Tensor(anchor)
        var start = 0
        for input in anchor.inputs {
            defer { start += input.shape[concatenate.axis].coefficient }
            if parts[input] != nil { continue }
            appendMove(
                of: input, into: target(Part(whole: result, axis: concatenate.axis, start: start)),
                label: "concatenate",
                anchor.location)
        }
    }

    private mutating func appendMove(of input: Tensor, into output: Operand, label: String, _ location: SourceLocation?)
    {
        var builder = ProgramBuilder()
        supply(input, &builder, nil)
        schedule.groups.append(
            Group(
                .elementwise(
                    ElementwiseGroup(
                        iteration: input.shape.dimensions, inputs: builder.operands, program: builder.program([input]),
                        outputs: [output])),
                label: label, location: location))
    }
}
