import Graph

/// Turns clusters into groups, in the order in which they run.
final class ScheduleBuilder {
    private let outputs: [Tensor]
    private let updates: [(state: Tensor, value: Tensor)]
    private let maskedStates: [Tensor: WeightMask]
    let fusion: Fusion
    private let readers: [Tensor: Set<Int>]
    /// What the caller reads: outputs, and new values of states.
    private let returned: Set<Tensor>
    private var schedule = Schedule()
    private var valueOf: [Tensor: Int] = [:]
    let order: ClusterOrder
    private let parts: AssemblyParts

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
        parts = AssemblyParts(fusion, order, returned: returned)
    }

    func build() throws(GraphError) -> Schedule {
        try addPlaceholders()
        for (value, state) in order.inPlace { valueOf[value] = valueOf[state] }
        for cluster in order.clusters { try emit(cluster) }
        copyRemainingUpdates()
        schedule.outputs = outputs.map { value($0) }
        return schedule
    }

    private func addPlaceholders() throws(GraphError) {
        var names: [String: TensorType] = [:]
        for node in topologicalOrder(outputs + updates.map(\.value) + updates.map(\.state)) {
            guard let placeholder = Tensor(node).placeholder else { continue }
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
    }

    private func copyRemainingUpdates() {
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

    private func appendCopy(from: Int, to: Int, _ type: TensorType) {
        let strides = type.shape.strides
        schedule.groups.append(
            Group(
                ElementwiseGroup(
                    iteration: type.shape.dimensions,
                    inputs: [Operand(.value(from), strides: strides, element: type.element)],
                    program: Program(inputs: [type.element], outputs: [0]),
                    outputs: [Operand(.value(to), strides: strides, element: type.element)]),
                label: "update \(schedule.values[to].label)", location: nil))
    }

    // MARK: values

    private func add(_ value: Value) -> Int {
        schedule.values.append(value)
        return schedule.values.count - 1
    }

    func value(_ tensor: Tensor) -> Int {
        if let id = valueOf[tensor] { return id }
        let storage: Value.Storage = tensor.node.constant.map { .constant($0) } ?? .temporary
        let id = add(Value(tensor.type, storage, label: tensor.node.operation.name))
        valueOf[tensor] = id
        return id
    }

    func operand(_ tensor: Tensor, axes: [Int]? = nil) -> Operand {
        let view = fusion.view(tensor) { parts.memory(of: $0) }
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
    private func target(_ tensor: Tensor) -> Operand {
        Operand(.value(value(tensor)), strides: tensor.shape.strides, element: tensor.elementType)
    }

    /// A box of an assembly, which is written there.
    private func target(_ layout: StridedLayout, in whole: Tensor) -> Operand {
        Operand(.value(value(whole)), offset: layout.offset, strides: layout.strides, element: whole.elementType)
    }

    /// Where each of some tensors is written: to a value of its own, or to its places in assemblies.
    ///
    /// - Parameter axes: the order of the axes in the group's iteration.
    private func targets(_ tensors: [Tensor], axes: [Int]? = nil) -> (tensors: [Tensor], operands: [Operand]) {
        var (written, operands) = ([Tensor](), [Operand]())
        for tensor in tensors {
            var own = parts.places[tensor]?.map { target($0.layout, in: $0.whole) } ?? [target(tensor)]
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

    private func emit(_ cluster: Cluster) throws(GraphError) {
        if let copied = cluster.copied { return emitCopy(of: copied) }
        guard let anchor = cluster.anchor else {
            let builder = ProgramBuilder()
            let stored = targets(build(cluster.nodes, builder, cluster, axes: nil))
            return append(
                ElementwiseGroup(
                    iteration: cluster.shape.dimensions, inputs: builder.operands,
                    program: builder.program(stored.tensors), outputs: stored.operands), cluster)
        }
        switch anchor.compilerRole {
        case .reduction(let kind, let axes): emitReduction(kind, axes, anchor, cluster)
        case .contraction: append(try anchorOperation(anchor).makeGroup(AnchorContext(self, anchor, cluster)), cluster)
        case .assembly(let assembly): emitAssembly(assembly, anchor, cluster)
        case .loop(let loop):
            let outputs = anchor.types.indices.map { Tensor(anchor, $0) }.map {
                isRead($0, outside: cluster) ? value($0) : nil
            }
            append(try LoopGroup(loop, inputs: anchor.inputs.map { value($0) }, outputs: outputs), cluster)
        case .independent: emitElements(anchor, cluster)
        default:
            let inputs = anchor.inputs.map { value($0) }
            let outputs = anchor.types.indices.map { value(Tensor(anchor, $0)) }
            append(OperationGroup(operation: anchor.operation, inputs: inputs, outputs: outputs), cluster)
        }
    }

    private func anchorOperation(_ node: Node) throws(GraphError) -> any AnchorOperation {
        guard let operation = node.operation as? any AnchorOperation else {
            throw GraphError(
                operation: node.operation.name,
                message: "its role is a contraction, whose group only it can say; make it conform to AnchorOperation",
                location: node.location)
        }
        return operation
    }

    /// - Parameter box: the part of the cluster's elements that the group is for; all of them if not given.
    private func append(_ kind: any GroupKind, _ cluster: Cluster, over box: AssemblyBox? = nil) {
        let nodes = cluster.prologue + (cluster.anchor.map { [$0] } ?? []) + cluster.nodes
        let names = nodes.prefix(8).map(\.operation.name)
        let label =
            nodes.count > 8
            ? names.prefix(7).joined(separator: "+") + "+\(nodes.count - 7) more" : names.joined(separator: "+")
        schedule.groups.append(
            Group(
                kind, label: label, location: cluster.anchor?.location ?? nodes.first?.location,
                applied: nodes.map { AppliedOperation($0, over: box?.counts) }))
    }

    /// Adds elementwise nodes to a program. Returns the tensors that have to be stored.
    /// - Parameter box: of the iteration, the part that the program is for.
    private func build(
        _ nodes: [Node], _ builder: ProgramBuilder, _ cluster: Cluster, axes: [Int]?, over box: AssemblyBox? = nil
    ) -> [Tensor] {
        for node in nodes {
            for input in node.inputs { supply(input, builder, axes, over: box) }
            builder.add(node)
        }
        return nodes.map { Tensor($0) }.filter { isRead($0, outside: cluster) }
    }

    /// Brings a tensor that the group does not compute into its program: as a constant, counted, or read from memory.
    private func supply(
        _ tensor: Tensor, _ builder: ProgramBuilder, _ axes: [Int]?, over box: AssemblyBox? = nil
    ) {
        guard !builder.has(tensor) else { return }
        if let scalar = tensor.constantEverywhere {
            builder.addConstant(tensor, scalar)
        } else if tensor.node.isElementwise, tensor.node.isCounted || fusion.recomputed.contains(tensor) {
            for input in tensor.node.inputs { supply(input, builder, axes, over: box) }
            builder.add(tensor.node)
        } else {
            let operand = operand(tensor, axes: axes)
            builder.addOperand(tensor, box.map { operand.part(from: $0.targets, steps: $0.steps) } ?? operand)
        }
    }

    private func emitCopy(of tensor: Tensor) {
        // The copy's own memory must not be what it is copied from.
        let view = fusion.source(ofCopy: tensor)
        let builder = ProgramBuilder()
        if tensor.node.isCounted, tensor.node.isElementwise {
            supply(tensor, builder, nil)
        } else {
            var ids: [Tensor: Int] = [:]
            if case .tensor(let base) = view.base { ids[base] = value(base) }
            builder.addOperand(tensor, view.operand({ ids[$0]! }, tensor.elementType))
        }
        schedule.groups.append(
            Group(
                ElementwiseGroup(
                    iteration: tensor.shape.dimensions, inputs: builder.operands, program: builder.program([tensor]),
                    outputs: [target(tensor)]), label: "copy \(tensor.node.operation.name)", location: tensor.location))
    }

    private func emitReduction(_ kind: Reduction.Kind, _ reduced: [Int], _ anchor: Node, _ cluster: Cluster) {
        let input = anchor.inputs[0]
        let keptAxes = (0..<input.shape.rank).filter { !reduced.contains($0) }
        let axes = keptAxes + reduced
        let front = ProgramBuilder()
        if cluster.prologue.isEmpty { supply(input, front, axes) }
        let storedInFront = targets(build(cluster.prologue, front, cluster, axes: axes), axes: axes)
        let epilogue = epilogue(of: cluster)
        append(
            ReductionGroup(
                kind: ReductionGroup.Kind(rawValue: kind.rawValue) ?? .sum,
                keptExtents: keptAxes.map { input.shape[$0] }, reducedExtents: reduced.map { input.shape[$0] },
                inputs: front.operands, prologue: front.program([input] + storedInFront.tensors),
                stored: storedInFront.operands, epilogueInputs: epilogue.inputs, epilogue: epilogue.program,
                outputs: epilogue.outputs), cluster)
    }

    private func emitElements(_ anchor: Node, _ cluster: Cluster) {
        let inputs = anchor.inputs.map { value($0) }
        let epilogue = epilogue(of: cluster)
        append(
            ElementsGroup(
                operation: anchor.operation, inputs: inputs, result: anchor.types[0], epilogueInputs: epilogue.inputs,
                epilogue: epilogue.program, outputs: epilogue.outputs), cluster)
    }

    /// What follows an anchor in its group.
    func epilogue(of cluster: Cluster) -> AnchorContext.Epilogue {
        let back = ProgramBuilder(anchors: cluster.results)
        let stored = build(cluster.nodes, back, cluster, axes: nil)
        let (tensors, operands) = targets(cluster.results.filter { isRead($0, outside: cluster) } + stored)
        return AnchorContext.Epilogue(
            inputs: back.operands, program: back.program(tensors), outputs: operands, stored: tensors)
    }

    /// Whether an epilogue that updates masked states in place writes zeros wherever the gradient and the states are
    /// zero.
    func leavesDeadZeros(_ mask: WeightMask, _ epilogue: AnchorContext.Epilogue) -> Bool {
        let stored = epilogue.stored
        let states = stored.compactMap { order.inPlace[$0] }
        guard !stored.isEmpty, states.count == stored.count, states.allSatisfy({ maskedStates[$0] == mask }) else {
            return false
        }
        let zeroValues = Set(maskedStates.filter { $0.value == mask }.keys.compactMap { valueOf[$0] })
        // This must hold whatever the other operands are: three different sets of numbers stand for all.
        return [0.25, 1.5, 3.0].allSatisfy { draw in
            let inputs =
                [0.0]
                + epilogue.inputs.enumerated().map { index, operand in
                    operand.value.map { zeroValues.contains($0) } == true ? 0 : draw + Double(index) * 0.37
                }
            return epilogue.program.evaluate(inputs).allSatisfy { $0 == 0 }
        }
    }

    // MARK: assemblies

    private func emitAssembly(_ assembly: any AssemblyOperation, _ anchor: Node, _ cluster: Cluster) {
        let result = Tensor(anchor)
        let name = assembly.name
        if let value = assembly.fill {
            let fill = ProgramBuilder()
            fill.addConstant(result, value)
            schedule.groups.append(
                Group(
                    ElementwiseGroup(
                        iteration: result.shape.dimensions, inputs: [], program: fill.program([result]),
                        outputs: [target(result)]), label: "\(name) fill", location: anchor.location))
        }
        for box in assembly.boxes(anchor.inputs.map(\.shape), result: result.shape) {
            let input = anchor.inputs[box.operand]
            if !cluster.nodes.isEmpty {
                emitBox(box, of: input, anchor, cluster)
                continue
            }
            let layout = box.layout(in: result.shape)
            // What lies in another assembly is read from there.
            if parts.places[input]?.contains(where: { $0.whole == result && $0.layout == layout }) == true { continue }
            emitMove(of: input, box, into: target(layout, in: result), name, anchor.location)
        }
    }

    private func emitMove(
        of input: Tensor, _ box: AssemblyBox, into output: Operand, _ label: String, _ location: SourceLocation?
    ) {
        let builder = ProgramBuilder()
        supply(input, builder, nil)
        let inputs = builder.operands.map { $0.part(from: box.starts) }
        schedule.groups.append(
            Group(
                ElementwiseGroup(
                    iteration: box.counts, inputs: inputs, program: builder.program([input]), outputs: [output]),
                label: label, location: location))
    }

    /// A box with the functions behind the assembly, which read the other operands where the box goes.
    private func emitBox(_ box: AssemblyBox, of input: Tensor, _ anchor: Node, _ cluster: Cluster) {
        let result = Tensor(anchor)
        let builder = ProgramBuilder()
        if let scalar = input.constantEverywhere {
            builder.addConstant(result, scalar)
        } else {
            builder.addOperand(result, operand(input).part(from: box.starts))
        }
        let stored = build(cluster.nodes, builder, cluster, axes: nil, over: box)
        let (tensors, outputs) = targets((isRead(result, outside: cluster) ? [result] : []) + stored)
        append(
            ElementwiseGroup(
                iteration: box.counts, inputs: builder.operands, program: builder.program(tensors),
                outputs: outputs.map { $0.part(from: box.targets, steps: box.steps) }), cluster, over: box)
    }
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

/// What an operation is given to make its group.
public struct AnchorContext {
    /// What follows the anchor in its group.
    public struct Epilogue {
        /// What its functions read from memory, over the axes of the anchor's result, as are `outputs`.
        public var inputs: [Operand]
        /// The first registers are the anchor's results; the others are `inputs`.
        public var program: Program
        public var outputs: [Operand]
        /// The tensor of each output.
        let stored: [Tensor]
    }

    private let builder: ScheduleBuilder
    private let cluster: Cluster
    /// The operation's operands.
    public let inputs: [Tensor]

    init(_ builder: ScheduleBuilder, _ node: Node, _ cluster: Cluster) {
        self.builder = builder
        self.cluster = cluster
        inputs = node.inputs
    }

    /// In how many halves the result's channels are handed to the epilogue: 1, or 2 where the role says that channels may be split.
    public var sections: Int { cluster.results.count }

    /// Where an operand lies, over its own axes or over `axes` of them.
    public func operand(_ index: Int, axes: [Int]? = nil) -> Operand { builder.operand(inputs[index], axes: axes) }

    /// The value of an operand that is read whole.
    public func value(_ index: Int) -> Int { builder.value(inputs[index]) }

    /// What follows the anchor in its group. To be asked for once, behind the operands.
    public func epilogue() -> Epilogue { builder.epilogue(of: cluster) }

    /// Whether the epilogue updates states in place that are zero where the mask is dead, and writes zeros there again.
    public func leavesDeadZeros(_ mask: WeightMask, _ epilogue: Epilogue) -> Bool {
        builder.leavesDeadZeros(mask, epilogue)
    }
}
