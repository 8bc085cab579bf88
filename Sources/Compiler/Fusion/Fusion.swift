import Graph

/// Assigns every node that computes something to a cluster.
///
/// An elementwise node joins the cluster that computes one of its inputs if its other inputs need not wait for that
/// cluster. It then reads that input from a register. Movement belongs to no cluster: it is folded into the operands of
/// its readers, or copied where no affine view can express it.
struct Fusion {
    private(set) var clusters: [Cluster] = []
    /// The cluster that computes a tensor.
    private(set) var home: [Tensor: Cluster] = [:]
    /// Tensors that no group stores: every reader computes them again from tensors that it reads anyway.
    private(set) var recomputed = Set<Tensor>()
    private var clusterByID: [Int: Cluster] = [:]
    private var nextID = 0
    private let channelHalves: [Tensor: [Tensor]]
    /// The clusters that read views of each tensor.
    private var viewReaders: [Tensor: [Cluster]] = [:]

    /// - Parameters:
    ///   - channelHalves: the two halves of each convolution's result that is read half by half (`Sections`).
    ///   - savesMemory: whether a reduction's group may store the tensors in front of the reduction, and every reader
    ///     of a cheap function computes it again.
    ///   - readsViews: whether the operands of loops and of attention may be views, instead of memory of their own.
    init(
        _ outputs: [Tensor], channelHalves: [Tensor: [Tensor]] = [:], savesMemory: Bool = false,
        readsViews: Bool = false
    ) {
        self.channelHalves = channelHalves
        let nodes = topologicalOrder(outputs)
        let returned = Set(outputs)
        for (rank, node) in nodes.enumerated() {
            switch node.compilerRole {
            case .source: break
            case .view:
                // A view that no strides describe needs its input copied first.
                if case .tensor(Tensor(node)) = view(Tensor(node)).base { copy(node.inputs[0], rank) }
            case .elementwise: place(node, rank)
            case .reduction: anchor(node, rank)
            case .assembly:
                if node.takesPartsOnly { for input in node.inputs { storeBase(input, rank) } }
                anchor(node, rank)
            case .contraction:
                for input in node.inputs.prefix(2) { storeBase(input, rank) }
                for input in node.inputs.dropFirst(2) { store(input, rank) }
                anchor(node, rank)
            case .loop where readsViews, .opaque where readsViews && node.operation is Attention:
                for input in node.inputs { storeBase(input, rank) }
                anchor(node, rank)
            case .independent, .loop, .opaque:
                for input in node.inputs { store(input, rank) }
                anchor(node, rank)
            }
            // An output needs memory of its own before anything else reads it through a view.
            for index in node.types.indices where returned.contains(Tensor(node, index)) {
                store(Tensor(node, index), rank)
            }
        }
        fuseIntoReductions(outputs)
        if savesMemory {
            storeInReductions()
            Recomputation(self, outputs).apply(to: &self)
        }
    }

    /// Whether a cluster computes a tensor, or it is an input, a state or a constant.
    func isComputed(_ tensor: Tensor) -> Bool {
        tensor.node.isGiven || home[tensor] != nil
    }

    /// The view that a tensor is of one that `isComputed`.
    ///
    /// - Parameter memory: where a tensor lies, if not in memory of its own.
    func view(_ tensor: Tensor, memory: (Tensor) -> View? = { _ in nil }) -> View {
        let view = View.of(tensor, isStored: isComputed, memory: memory)
        // A tensor on the way may have been copied since, to memory of which this tensor is no view. It is then a view
        // of the tensor that was copied.
        if view.base == .tensor(tensor), !isComputed(tensor) {
            return .of(tensor, isStored: isOriginal, memory: memory)
        }
        return view
    }

    /// The view that is read to make the copy of a tensor.
    ///
    /// - Parameter memory: where a tensor lies, if not in memory of its own.
    func source(ofCopy copied: Tensor, memory: (Tensor) -> View? = { _ in nil }) -> View {
        let view = View.of(copied, isStored: { $0 != copied && isComputed($0) }, memory: memory)
        return view.base == .tensor(copied)
            ? .of(copied, isStored: { $0 != copied && isOriginal($0) }, memory: memory) : view
    }

    /// Whether a tensor is computed or given, not copied.
    private func isOriginal(_ tensor: Tensor) -> Bool {
        isComputed(tensor) && home[tensor]?.copied != tensor
    }

    /// The cluster that has to run before `tensor` can be read.
    func source(_ tensor: Tensor) -> Cluster? {
        if let own = home[tensor] { return own }
        // Most views have strides whatever they are views of, so that their base is found without them.
        var base = tensor
        while !isComputed(base), let view = base.node.view {
            guard view.alwaysHasStrides else {
                if case .tensor(let base) = self.view(tensor).base { return home[base] }
                return nil
            }
            base = base.node.inputs[0]
        }
        return home[base]
    }

    private mutating func make(
        anchor: Node?, results: [Tensor] = [], shape: Shape, rank: Int, reading inputs: [Tensor]
    ) -> Cluster {
        let cluster = Cluster(id: nextID, anchor: anchor, results: results, shape: shape, rank: rank)
        nextID += 1
        clusters.append(cluster)
        clusterByID[cluster.id] = cluster
        addAncestors(of: inputs, to: cluster)
        return cluster
    }

    /// Lets a cluster wait for those that compute `inputs`. Returns whether it has to wait for more than before.
    @discardableResult private mutating func addAncestors(of inputs: [Tensor], to cluster: Cluster) -> Bool {
        var isMore = false
        for input in inputs {
            noteViews(of: input, cluster)
            guard let source = source(input), source !== cluster else { continue }
            source.readers.insert(cluster.id)
            if cluster.ancestors.formUnion(source.ancestors) { isMore = true }
            if cluster.ancestors.insert(source.id) { isMore = true }
        }
        return isMore
    }

    /// Notes that a cluster reads a tensor that no cluster computes, by what the tensor is a view of.
    private mutating func noteViews(of tensor: Tensor, _ cluster: Cluster) {
        guard !isComputed(tensor) else { return }
        for leaf in leaves(of: tensor, readBy: cluster) { viewReaders[leaf.root, default: []].append(cluster) }
    }

    /// Lets the clusters that wait for a cluster wait for all that it waits for. Where a reader learns nothing new, neither do those
    /// behind it.
    private func tellReaders(of cluster: Cluster) {
        var stack = [cluster]
        while let next = stack.popLast() {
            for reader in next.readers.compactMap({ clusterByID[$0]?.live }) where reader !== next {
                let isMore = reader.ancestors.formUnion(next.ancestors)
                if reader.ancestors.insert(next.id) || isMore { stack.append(reader) }
            }
        }
    }

    /// Whether another cluster has to run after the first and before the second: then a reader of the first does.
    private func isAny(between first: Cluster, and second: Cluster) -> Bool {
        first.readers.contains { id in
            guard let reader = clusterByID[id]?.live, reader !== first, reader !== second else { return false }
            return second.ancestors.contains(reader.id)
        }
    }

    private mutating func anchor(_ node: Node, _ rank: Int) {
        let results = channelHalves[Tensor(node)] ?? [Tensor(node)]
        let cluster = make(anchor: node, results: results, shape: results[0].shape, rank: rank, reading: node.inputs)
        for tensor in node.types.indices.map({ Tensor(node, $0) }) + results { home[tensor] = cluster }
    }

    private mutating func copy(_ tensor: Tensor, _ rank: Int) {
        guard home[tensor] == nil else { return }
        let cluster = make(anchor: nil, shape: tensor.shape, rank: rank, reading: [tensor])
        cluster.copied = tensor
        home[tensor] = cluster
        // Clusters that read the view before read this memory from now on, and have to wait for it.
        for reader in (viewReaders[tensor.root] ?? []).map(\.live)
        where reader !== cluster && inputs(of: reader).contains(where: { source($0) === cluster }) {
            cluster.readers.insert(reader.id)
        }
        tellReaders(of: cluster)
    }

    /// Gives a tensor that is only a view memory of its own.
    private mutating func store(_ tensor: Tensor, _ rank: Int) {
        if !isComputed(tensor) { copy(tensor, rank) }
    }

    /// Makes sure that a product can read an operand from memory, through whatever view.
    private mutating func storeBase(_ tensor: Tensor, _ rank: Int) {
        switch view(tensor).base {
        case .position: copy(tensor, rank)
        case .tensor(let base): store(base, rank)
        }
    }

    /// Adds an elementwise node to the cluster of one of its inputs, or makes one for it.
    private mutating func place(_ node: Node, _ rank: Int) {
        if node.isCounted { return }
        var candidates: [Cluster] = []
        for input in node.inputs {
            guard let cluster = home[input], cluster.takesEpilogue, cluster.shape == node.types[0].shape,
                !candidates.contains(where: { $0 === cluster })
            else { continue }
            candidates.append(cluster)
        }
        // A product or reduction first, whose result never has to leave its registers; then the latest.
        candidates.sort { ($0.anchor != nil ? 1 : 0, $0.rank) > ($1.anchor != nil ? 1 : 0, $1.rank) }
        let needed = Set(node.inputs.filter { !$0.node.isCounted })
        let joined = candidates.first { cluster in
            cluster.hasRoom(nodes: 1, reading: needed.filter { home[$0] !== cluster })
                && node.inputs.allSatisfy { input in
                    if home[input] === cluster { return true }
                    guard let source = source(input) else { return true }
                    return source !== cluster && !source.ancestors.contains(cluster.id)
                }
        }
        if let joined {
            if addAncestors(of: node.inputs, to: joined) { tellReaders(of: joined) }
            joined.reads.formUnion(needed.filter { home[$0] !== joined })
            joined.nodes.append(node)
            home[Tensor(node)] = joined
            for other in candidates where other !== joined { absorb(other, into: joined) }
        } else {
            let cluster = make(anchor: nil, shape: node.types[0].shape, rank: rank, reading: node.inputs)
            cluster.nodes = [node]
            cluster.reads = needed
            home[Tensor(node)] = cluster
        }
    }

    /// Moves a plain elementwise cluster of the same shape into another that reads it, unless something between the two
    /// would have to wait for both.
    private mutating func absorb(_ cluster: Cluster, into target: Cluster) {
        guard cluster.anchor == nil, cluster.copied == nil, !cluster.ancestors.contains(target.id),
            target.hasRoom(nodes: cluster.nodes.count, reading: cluster.reads),
            !readsMemory(of: cluster, target), !isAny(between: cluster, and: target)
        else { return }
        target.nodes = cluster.nodes + target.nodes
        for node in cluster.nodes { home[Tensor(node)] = target }
        target.reads = target.reads.union(cluster.reads).filter { home[$0] !== target }
        cluster.nodes = []
        replace(cluster, by: target)
    }

    /// Whether `reader` reads other elements of a cluster's tensors than the one that it computes: by its anchor, or
    /// through a view. The cluster's tensors then have to be in memory before the reader starts.
    private func readsMemory(of cluster: Cluster, _ reader: Cluster) -> Bool {
        (reader.anchor?.inputs ?? []).contains { source($0) === cluster }
            || reader.nodes.contains { $0.inputs.contains { home[$0] !== cluster && source($0) === cluster } }
    }

    /// Takes the place of a cluster whose nodes have moved to `target`: clusters that waited for it wait for `target`. The empty cluster
    /// stays in the list until all are placed.
    private mutating func replace(_ cluster: Cluster, by target: Cluster) {
        cluster.successor = target
        target.ancestors.formUnion(cluster.ancestors)
        target.ancestors.remove(cluster.id)
        target.readers.formUnion(cluster.readers)
        cluster.readers = []
        tellReaders(of: target)
    }

    /// Makes a cluster the one that computes some nodes.
    mutating func move(_ nodes: [Node], to cluster: Cluster) { for node in nodes { home[Tensor(node)] = cluster } }

    /// Forgets the clusters whose nodes have all moved away.
    mutating func removeEmpty() {
        clusters.removeAll { $0.anchor == nil && $0.copied == nil && $0.nodes.isEmpty }
    }

    /// Lets every reader of some tensors compute them again.
    mutating func recompute(_ tensors: Set<Tensor>) { recomputed.formUnion(tensors) }

    /// The clusters that read each stored tensor.
    var readers: [Tensor: Set<Int>] {
        var result: [Tensor: Set<Int>] = [:]
        for cluster in clusters {
            for input in Set(inputs(of: cluster)) {
                if case .tensor(let base) = view(input).base { result[base, default: []].insert(cluster.id) }
            }
        }
        return result
    }

    /// Every tensor that a cluster's nodes read, those that the cluster itself computes included.
    func inputs(of cluster: Cluster) -> [Tensor] {
        let own = (cluster.prologue + cluster.nodes).flatMap(\.inputs)
        if let copied = cluster.copied {
            // The memory that is copied, not the copy's own.
            if case .tensor(let base) = source(ofCopy: copied).base {
                return [base]
            }
            return []
        }
        return ((cluster.anchor?.inputs ?? []) + own).flatMap { leaves(of: $0, readBy: cluster) }
    }

    /// The tensors that a cluster reads in order to have `tensor`: `tensor` itself, or those from which it computes
    /// `tensor` again. Counted tensors are listed along with those from which they are counted, as another cluster may
    /// store any of them.
    private func leaves(of tensor: Tensor, readBy cluster: Cluster) -> [Tensor] {
        let isCounted = tensor.node.isElementwise && tensor.node.isCounted
        guard isCounted || recomputed.contains(tensor) && home[tensor] !== cluster else { return [tensor] }
        return (isCounted ? [tensor] : []) + tensor.node.inputs.flatMap { leaves(of: $0, readBy: cluster) }
    }
}

extension Tensor {
    /// What a view is a view of, whether or not it or something on the way has memory of its own; other tensors themselves.
    fileprivate var root: Tensor {
        var tensor = self
        while tensor.node.isView { tensor = tensor.node.inputs[0] }
        return tensor
    }
}
