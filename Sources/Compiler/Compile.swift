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
    var sums = ShortSums()
    var sections = Sections()
    let simplified = sections.split(
        sums.written(
            simplifier.simplify(outputs + updates.map(\.value) + updates.map(\.state) + Array(maskedStates.keys))))
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
    let builder = ScheduleBuilder(
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
