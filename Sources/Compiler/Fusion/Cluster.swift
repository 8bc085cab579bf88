import Graph

/// Nodes that will run as one group: at most one anchor (a product, a reduction, an operation, a copy) and the elementwise
/// nodes behind it.
final class Cluster {
    let id: Int
    let anchor: Node?
    /// Elementwise nodes, inputs before users.
    var nodes: [Node] = []
    /// Elementwise nodes in front of a reduction; the tensors that other clusters read are stored on the way.
    var prologue: [Node] = []
    /// A view that is copied out as it is.
    var copied: Tensor?
    /// The tensors that the anchor computes, one for each of the first registers: its result, or the halves of it.
    let results: [Tensor]
    /// The iteration space of `nodes`.
    let shape: Shape
    /// The tensors that the nodes read from outside of the cluster.
    var reads = Set<Tensor>()
    /// The most nodes of other clusters that this cluster computes again.
    var recomputedCount = 0
    /// Every cluster that must run before this one.
    var ancestors = ClusterSet()
    /// The numbers of the clusters that read a tensor of this one.
    var readers = Set<Int>()
    /// The cluster that the nodes have moved to.
    var successor: Cluster?

    /// The cluster that has the nodes now, after however many moves; the way to it is made shorter.
    var live: Cluster {
        var cluster = self
        while let next = cluster.successor {
            if let further = next.successor { cluster.successor = further }
            cluster = next
        }
        return cluster
    }
    /// Place in the order in which the graph was built.
    let rank: Int

    init(id: Int, anchor: Node?, results: [Tensor], shape: Shape, rank: Int) {
        self.id = id
        self.anchor = anchor
        self.results = results
        self.shape = shape
        self.rank = rank
    }

    /// The most nodes and reads of a cluster, as a kernel can take only so many operands. Nodes count as well because
    /// other clusters may turn out to read any of them, which makes it an output.
    static let limit = (nodes: 56, reads: 40)

    /// Whether the cluster can take more nodes that read `more`.
    func hasRoom(nodes count: Int, reading more: Set<Tensor>) -> Bool {
        nodes.count + prologue.count + recomputedCount + count <= Self.limit.nodes
            && reads.union(more).count <= Self.limit.reads
    }

    /// Whether elementwise nodes can follow the anchor in the same group.
    private(set) lazy var takesEpilogue: Bool =
        switch anchor?.compilerRole {
        case nil: copied == nil
        case .reduction, .contraction, .independent: true
        case .assembly: anchor!.takesPartsOnly
        default: false
        }
}

extension Node {
    /// Whether an assembly is made of parts of its operands alone. Nobody else can write those to their places, so that its group moves
    /// them, and the functions behind it run on the way.
    var takesPartsOnly: Bool {
        guard case .assembly(let assembly) = compilerRole, assembly.fill == nil else { return false }
        return assembly.boxes(inputs.map(\.shape), result: types[0].shape).allSatisfy {
            !$0.isWhole(inputs[$0.operand].shape)
        }
    }
}

/// A set of clusters by their numbers, one bit each. The sets of clusters that others wait for are united at every node
/// that is placed, which has to be fast in a deep graph: a union takes sixty-four clusters at a time.
struct ClusterSet {
    private var words: [UInt64] = []

    func contains(_ id: Int) -> Bool { id >> 6 < words.count && words[id >> 6] >> UInt64(id & 63) & 1 == 1 }

    func contains(where isMeant: (Int) -> Bool) -> Bool {
        for (index, word) in words.enumerated() {
            var rest = word
            while rest != 0 {
                if isMeant(index << 6 + rest.trailingZeroBitCount) { return true }
                rest &= rest - 1
            }
        }
        return false
    }

    /// Returns whether it is new.
    @discardableResult mutating func insert(_ id: Int) -> Bool {
        if contains(id) { return false }
        if id >> 6 >= words.count { words += [UInt64](repeating: 0, count: id >> 6 + 1 - words.count) }
        words[id >> 6] |= 1 << UInt64(id & 63)
        return true
    }

    mutating func remove(_ id: Int) { if contains(id) { words[id >> 6] &= ~(1 << UInt64(id & 63)) } }

    /// Returns whether anything in `other` is new.
    @discardableResult mutating func formUnion(_ other: ClusterSet) -> Bool {
        if other.words.count > words.count {
            words += [UInt64](repeating: 0, count: other.words.count - words.count)
        }
        var isMore = false
        for (index, word) in other.words.enumerated() where word & ~words[index] != 0 {
            words[index] |= word
            isMore = true
        }
        return isMore
    }
}
