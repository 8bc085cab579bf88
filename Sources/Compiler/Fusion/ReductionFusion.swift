import Graph

// Elementwise clusters that move to the front of the reductions that read them.

extension Fusion {
    /// An elementwise cluster whose only reader is one reduction becomes the front of that reduction's group.
    mutating func fuseIntoReductions(_ outputs: [Tensor]) {
        let readers = readings
        let returned = Set(outputs)
        for cluster in clusters where cluster.anchor == nil && cluster.copied == nil && cluster.prologue.isEmpty {
            guard let all = readers[cluster.id], let first = all.first,
                all.allSatisfy({ $0.reader === first.reader && $0.direct && $0.tensor == first.tensor }),
                first.reader.anchor?.isReduction == true, first.reader.prologue.isEmpty,
                first.reader.hasRoom(nodes: cluster.nodes.count, reading: cluster.reads),
                !cluster.nodes.contains(where: { returned.contains(Tensor($0)) })
            else { continue }
            first.reader.prologue = cluster.nodes
            move(cluster.nodes, to: first.reader)
            cluster.nodes = []
        }
        removeEmpty()
    }

    /// A cluster that reads a tensor of another, and whether it does so as a reduction reads what is reduced: by its anchor alone, as it is.
    private typealias Reading = (reader: Cluster, tensor: Tensor, direct: Bool)

    /// Who reads each cluster.
    private var readings: [Int: [Reading]] {
        var result: [Int: [Reading]] = [:]
        for cluster in clusters {
            for input in inputs(of: cluster) {
                guard case .tensor(let base) = view(input).base, let source = home[base], source !== cluster else {
                    continue
                }
                let direct =
                    input == base && cluster.anchor?.inputs.first == input
                    && !cluster.nodes.contains { $0.inputs.contains(input) }
                result[source.id, default: []].append((cluster, base, direct))
            }
        }
        return result
    }

    /// An elementwise cluster that a reduction reads among others becomes the front of that reduction's group and
    /// stores the tensors that the others read, unless a cluster between the two would have to wait for both.
    mutating func storeInReductions() {
        var order = ReductionOrder(self)
        for reduction in clusters where reduction.anchor?.isReduction == true && reduction.prologue.isEmpty {
            guard let input = reduction.anchor?.inputs.first, let cluster = home[input], cluster.anchor == nil,
                cluster.copied == nil,
                reduction.hasRoom(nodes: cluster.nodes.count, reading: cluster.reads),
                !reduction.nodes.flatMap(\.inputs).contains(where: { source($0) === cluster }),
                order.move(cluster, into: reduction)
            else { continue }
            reduction.prologue = cluster.nodes
            move(cluster.nodes, to: reduction)
            cluster.nodes = []
        }
        removeEmpty()
    }
}
