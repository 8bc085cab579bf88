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
        var replaced = Set<Tensor>()
        for (state, value) in updates where inPlace[value] == nil && !replaced.contains(state) {
            guard let writer = fusion.home[value], writer.takesEpilogue else { continue }
            let readers = (stateReaders[state] ?? []).subtracting([writer.id])
            // The writer itself may read the state only element by element, behind its anchor.
            guard fusion.inputs(of: writer).allSatisfy({ $0 == state || !reads($0, state) }),
                !(writer.anchor?.inputs ?? []).contains(where: { reads($0, state) }),
                // A later reader of the new value reads the state's memory, which another update must not have replaced.
                !reaches(writer.id, readers)
            else { continue }
            inPlace[value] = state
            replaced.insert(state)
            for reader in readers { add(reader, before: writer.id) }
        }
        (clusters, self.inPlace) = (Self.sorted(fusion.clusters, before), inPlace)
    }

    /// The clusters in the order in which the graph was built, as far as those that each waits for allow it.
    /// - Parameter before: for each cluster the numbers of those that it waits for.
    static func sorted(_ clusters: [Cluster], _ before: [Int: Set<Int>]) -> [Cluster] {
        var after: [Int: [Int]] = [:]
        for (reader, sources) in before { for source in sources { after[source, default: []].append(reader) } }
        let remaining = clusters.sorted { $0.rank < $1.rank }
        let places = Dictionary(uniqueKeysWithValues: remaining.enumerated().map { ($1.id, $0) })
        var waitsFor = remaining.map { before[$0.id]?.count ?? 0 }
        var isDone = [Bool](repeating: false, count: remaining.count)
        var ready = MinimumHeap(remaining.indices.filter { waitsFor[$0] == 0 })
        var order: [Cluster] = []
        // The graph is acyclic and each added edge was checked, so some cluster is always ready.
        while order.count < remaining.count {
            // A reduction of the last cluster's result finds it in a cache, and comes next.
            let reduction = order.last.flatMap { last in
                after[last.id]?.compactMap { places[$0] }
                    .filter { waitsFor[$0] == 0 && !isDone[$0] && remaining[$0].anchor?.isReduction == true }.min()
            }
            // If it were not, `Schedule.checkOrder` would say so.
            let next = reduction ?? ready.popLeast(where: { !isDone[$0] }) ?? isDone.firstIndex(of: false)!
            isDone[next] = true
            order.append(remaining[next])
            for reader in after[remaining[next].id] ?? [] {
                let place = places[reader]!
                waitsFor[place] -= 1
                if waitsFor[place] == 0, !isDone[place] { ready.insert(place) }
            }
        }
        return order
    }
}

/// A heap of numbers, from which the least is taken first.
private struct MinimumHeap {
    private var values: [Int] = []

    init(_ sorted: [Int]) { values = sorted }

    mutating func insert(_ value: Int) {
        var place = values.count
        values.append(value)
        while place > 0, values[(place - 1) / 2] > values[place] {
            values.swapAt(place, (place - 1) / 2)
            place = (place - 1) / 2
        }
    }

    /// Takes numbers out until one is wanted.
    mutating func popLeast(where isWanted: (Int) -> Bool) -> Int? {
        while let least = popLeast() { if isWanted(least) { return least } }
        return nil
    }

    private mutating func popLeast() -> Int? {
        guard let least = values.first else { return nil }
        let last = values.removeLast()
        if values.isEmpty { return least }
        values[0] = last
        var place = 0
        while true {
            let first = 2 * place + 1
            guard first < values.count else { return least }
            let child = first + 1 < values.count && values[first + 1] < values[first] ? first + 1 : first
            guard values[child] < values[place] else { return least }
            values.swapAt(place, child)
            place = child
        }
    }
}
