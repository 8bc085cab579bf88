import Graph

/// Finds cheap functions that every reader can compute again from tensors that it reads anyway, or may read
/// instead. Where `y = tanh(x)`, for example, gradients read `1 - y * y`: computing it again from y costs less than
/// writing and reading it.
struct Recomputation {
    /// What each cluster reads, by its number.
    private var reads: [Int: Set<Tensor>] = [:]
    /// The clusters that read each tensor of another.
    private var readers: [Tensor: [Cluster]] = [:]
    /// Outputs, and tensors that are read through a view or by an anchor, have to lie in memory.
    private var needsMemory: Set<Tensor>
    /// A function of more functions than these costs too much to be computed twice.
    private static let mostFunctions = 4

    init(_ fusion: Fusion, _ outputs: [Tensor]) {
        needsMemory = Set(outputs)
        for cluster in fusion.clusters {
            let inputs = Set(fusion.inputs(of: cluster))
            reads[cluster.id] = inputs
            let plain = Set((cluster.prologue + cluster.nodes).flatMap(\.inputs))
            for input in inputs {
                guard case .tensor(let base) = fusion.view(input).base, fusion.home[base] !== cluster else { continue }
                readers[base, default: []].append(cluster)
                if input != base || !plain.contains(input) || cluster.anchor?.inputs.contains(input) == true {
                    needsMemory.insert(base)
                }
            }
        }
    }

    consuming func apply(to fusion: inout Fusion) {
        for cluster in fusion.clusters {
            for node in (cluster.prologue + cluster.nodes).reversed() { consider(Tensor(node), of: cluster, &fusion) }
            Self.dropUnused(cluster, fusion)
        }
        fusion.removeEmpty()
    }

    /// What all readers of a tensor compute again instead of reading it.
    private struct Replacement {
        /// The functions' results.
        var functions: Set<Tensor>
        /// What they read that they did not read before.
        var read: [Tensor]
    }

    /// Lets the readers of a tensor compute it again, if all can.
    private mutating func consider(_ tensor: Tensor, of cluster: Cluster, _ fusion: inout Fusion) {
        guard let all = readers[tensor], !needsMemory.contains(tensor),
            let replacement = replacement(of: tensor, for: all, cluster, fusion)
        else { return }
        fusion.recompute(replacement.functions)
        for reader in all {
            reader.recomputedCount += replacement.functions.count
            reader.reads.formUnion(replacement.read)
            reads[reader.id]!.formUnion(replacement.read)
        }
        readers[tensor] = nil
    }

    /// From what the readers read anyway, or from one tensor that lies in memory anyway: reading that costs no more than reading this one.
    private func replacement(
        of tensor: Tensor, for all: [Cluster], _ cluster: Cluster, _ fusion: Fusion
    ) -> Replacement? {
        let instead = (tensor.node.inputs + tensor.node.inputs.flatMap(\.node.inputs)).filter {
            needsMemory.contains($0) && fusion.home[$0] === cluster && $0.type == tensor.type
        }
        for read in [[]] + instead.map({ [$0] }) {
            var functions = Set<Tensor>()
            let suits = all.allSatisfy { reader in
                functions = []
                let given = reads[reader.id]!.subtracting([tensor]).union(read)
                return isCheap(tensor, from: given, &functions, fusion)
                    && reader.hasRoom(nodes: functions.count, reading: Set(read))
            }
            if suits { return Replacement(functions: functions, read: read) }
        }
        return nil
    }

    /// Whether few cheap functions, whose results are not stored, compute a tensor from `given`; adds their results to `functions`.
    private func isCheap(
        _ tensor: Tensor, from given: Set<Tensor>, _ functions: inout Set<Tensor>, _ fusion: Fusion
    ) -> Bool {
        guard let function = tensor.node.elementwise, case .little = function.cost else { return false }
        functions.insert(tensor)
        guard functions.count <= Self.mostFunctions else { return false }
        for input in tensor.node.inputs where !given.contains(input) && !input.node.isCounted {
            guard fusion.home[input] === fusion.home[tensor], readers[input] == nil, !needsMemory.contains(input),
                isCheap(input, from: given, &functions, fusion)
            else { return false }
        }
        return true
    }

    /// Takes the nodes out of a cluster that only its readers used.
    private static func dropUnused(_ cluster: Cluster, _ fusion: Fusion) {
        var used = Set(cluster.anchor?.inputs ?? [])
        func usedOnes(_ nodes: [Node]) -> [Node] {
            var result: [Node] = []
            for node in nodes.reversed() where !fusion.recomputed.contains(Tensor(node)) || used.contains(Tensor(node))
            {
                used.formUnion(node.inputs)
                result.append(node)
            }
            return result.reversed()
        }
        cluster.nodes = usedOnes(cluster.nodes)
        cluster.prologue = usedOnes(cluster.prologue)
    }
}
