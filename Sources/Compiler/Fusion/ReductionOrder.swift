import Graph

/// An order in which clusters may run, which stays one while clusters move into the reductions that read them.
///
/// Whether a cluster may move is a question of paths: `cluster -> other -> reduction` forbids it, as `other` would have to run both after
/// the group and before it. Paths run forwards in the order, so only the clusters between the two have to be looked at, and where the
/// reduction reads nothing that stands between them, none.
struct ReductionOrder {
    /// By place; `nil` where a cluster has moved away.
    private var order: [Cluster?]
    private var place: [Int: Int] = [:]
    /// The clusters that each cluster reads, as they were before any moved.
    private var sources: [Int: Set<Int>] = [:]
    /// Where clusters have moved to.
    private var moved: [Int: Int] = [:]

    init(_ fusion: Fusion) {
        for cluster in fusion.clusters {
            sources[cluster.id] = Set(
                fusion.inputs(of: cluster).compactMap { fusion.source($0)?.id }.filter { $0 != cluster.id })
        }
        order = ClusterOrder.sorted(fusion.clusters, sources)
        for (index, cluster) in order.enumerated() { place[cluster!.id] = index }
    }

    /// Moves a cluster into a reduction that reads it. Returns whether it may.
    mutating func move(_ cluster: Cluster, into reduction: Cluster) -> Bool {
        guard let first = place[cluster.id], let last = place[reduction.id], first < last else { return false }
        if sources(of: reduction).allSatisfy({ place[$0]! <= first }) {
            // Everything that reads either stands behind the cluster, whose place the reduction takes.
            order[first] = reduction
            order[last] = nil
            place[reduction.id] = first
        } else if !reorder(cluster, reduction, first, last) {
            return false
        }
        place[cluster.id] = nil
        moved[cluster.id] = reduction.id
        sources[reduction.id] = sources(of: reduction).union(sources(of: cluster)).subtracting([cluster.id])
        return true
    }

    /// Puts the clusters between the two that have to run after the cluster behind the reduction; changes nothing and returns false if
    /// the reduction has to run after one of them.
    private mutating func reorder(_ cluster: Cluster, _ reduction: Cluster, _ first: Int, _ last: Int) -> Bool {
        var after: Set<Int> = [cluster.id]
        var (before, behind) = ([Cluster](), [Cluster]())
        for index in first + 1..<last {
            guard let between = order[index] else { continue }
            if sources(of: between).isDisjoint(with: after) {
                before.append(between)
            } else {
                after.insert(between.id)
                behind.append(between)
            }
        }
        guard sources(of: reduction).subtracting([cluster.id]).isDisjoint(with: after) else { return false }
        var index = first
        for next in before + [reduction] + behind {
            order[index] = next
            place[next.id] = index
            index += 1
        }
        while index <= last {
            order[index] = nil
            index += 1
        }
        return true
    }

    /// The clusters that a cluster reads, as they are now.
    private mutating func sources(of cluster: Cluster) -> Set<Int> {
        guard let known = sources[cluster.id], known.contains(where: { moved[$0] != nil }) else {
            return sources[cluster.id] ?? []
        }
        let now = Set(known.map { moved[$0] ?? $0 })
        sources[cluster.id] = now
        return now
    }
}
