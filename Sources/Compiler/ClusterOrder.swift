import Graph

/// In which order clusters run, and which new values of states are written over the old ones. Every read of a tensor
/// comes after the tensor is written, and every write over a state after the last read of the state's old value.
struct ClusterOrder {
    let clusters: [Cluster]
    /// For each new value that is written over a state, the state.
    let inPlace: [Tensor: Tensor]

    init(_ fusion: Fusion, updates: [(state: Tensor, value: Tensor)] = []) {
        var before: [Int: Set<Int>] = [:]
        var after: [Int: Set<Int>] = [:]
        func add(_ source: Int, before reader: Int) {
            before[reader, default: []].insert(source)
            after[source, default: []].insert(reader)
        }
        var stateReaders: [Tensor: Set<Int>] = [:]
        for cluster in fusion.clusters {
            for input in fusion.inputs(of: cluster) {
                guard case .tensor(let base) = fusion.view(input).base else { continue }
                if let source = fusion.home[base], source !== cluster { add(source.id, before: cluster.id) }
                if base.placeholder?.role == .state { stateReaders[base, default: []].insert(cluster.id) }
            }
        }
        // The search goes forward from an update's writer: few clusters come after it, while most of the graph comes
        // before the readers of its state.
        func reaches(_ from: Int, _ targets: Set<Int>) -> Bool {
            var stack = Array(after[from] ?? [])
            var seen = Set<Int>()
            while let id = stack.popLast() {
                if targets.contains(id) { return true }
                if seen.insert(id).inserted { stack += after[id] ?? [] }
            }
            return false
        }
        func reads(_ tensor: Tensor, _ state: Tensor) -> Bool {
            if case .tensor(state) = fusion.view(tensor).base { true } else { false }
        }
        var inPlace: [Tensor: Tensor] = [:]
        for (state, value) in updates where inPlace[value] == nil && !inPlace.values.contains(state) {
            guard let writer = fusion.home[value], writer.takesEpilogue else { continue }
            let readers = (stateReaders[state] ?? []).subtracting([writer.id])
            // The writer itself may read the state only element by element, behind its anchor.
            guard fusion.inputs(of: writer).allSatisfy({ $0 == state || !reads($0, state) }),
                !(writer.anchor?.inputs ?? []).contains(where: { reads($0, state) }),
                // A later reader of the new value reads the state's memory, which another update must not have replaced.
                !reaches(writer.id, readers)
            else { continue }
            inPlace[value] = state
            for reader in readers { add(reader, before: writer.id) }
        }
        var remaining = fusion.clusters.sorted { $0.rank < $1.rank }
        var done = Set<Int>()
        var order: [Cluster] = []
        func isReady(_ cluster: Cluster) -> Bool { (before[cluster.id] ?? []).isSubset(of: done) }
        while !remaining.isEmpty {
            // A reduction of the last cluster's result finds it in a cache, and comes next. The graph is acyclic and
            // each added edge was checked, so some cluster is always ready.
            let next =
                remaining.firstIndex {
                    guard let last = order.last, after[last.id]?.contains($0.id) == true else { return false }
                    return $0.anchor?.operation is Reduction && isReady($0)
                } ?? remaining.firstIndex(where: isReady) ?? 0
            let cluster = remaining.remove(at: next)
            done.insert(cluster.id)
            order.append(cluster)
        }
        (clusters, self.inPlace) = (order, inPlace)
    }
}
