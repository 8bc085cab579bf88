import Graph

/// Tensors that are written straight into their places in assemblies (concatenations, say), by groups that can write anywhere. Every other
/// reader of such a tensor finds it there.
struct AssemblyParts {
    /// A place in an assembly.
    struct Place {
        var whole: Tensor
        var layout: StridedLayout
    }

    private(set) var places: [Tensor: [Place]] = [:]

    init(_ fusion: Fusion, _ order: ClusterOrder, returned: Set<Tensor>) {
        // The clusters that write into each assembly.
        var writers: [Tensor: Set<Int>] = [:]
        for cluster in fusion.clusters {
            guard let anchor = cluster.anchor, case .assembly(let assembly) = anchor.compilerRole,
                // What fills the result first would run over parts that were written before.
                assembly.fill == nil
            else { continue }
            let whole = Tensor(anchor)
            for box in assembly.boxes(anchor.inputs.map(\.shape), result: whole.shape) {
                let input = anchor.inputs[box.operand]
                guard let home = fusion.home[input], home.takesEpilogue, box.isWhole(input.shape),
                    order.inPlace[input] == nil, !returned.contains(input)
                else { continue }
                places[input, default: []].append(Place(whole: whole, layout: box.layout(in: whole.shape)))
                writers[whole, default: [cluster.id]].insert(home.id)
            }
        }
        if places.isEmpty { return }
        var readers: [Tensor: [(cluster: Cluster, input: Tensor)]] = [:]
        for cluster in fusion.clusters {
            for input in fusion.inputs(of: cluster) where fusion.home[input] !== cluster {
                if case .tensor(let base) = fusion.view(input).base, places[base] != nil {
                    readers[base, default: []].append((cluster, input))
                }
            }
        }
        // If others than assemblies read a part, it must lie in one assembly, where they can all read it; and they must not write into
        // that assembly themselves.
        places = places.filter { part, places in
            guard let all = readers[part], all.count > places.count else { return true }
            guard places.count == 1, all.count(where: { writers[places[0].whole]!.contains($0.cluster.id) }) == 1 else {
                return false
            }
            return all.allSatisfy { Self.canRead($0.input, of: part, in: places[0], $0.cluster, fusion) }
        }
    }

    /// Where a part of one assembly lies; `nil` of tensors in memory of their own.
    func memory(of tensor: Tensor) -> View? {
        guard let all = places[tensor], all.count == 1 else { return nil }
        return View(base: .tensor(all[0].whole), layout: all[0].layout)
    }

    /// Whether a cluster that reads a part of an assembly can read it from the assembly's memory.
    private static func canRead(
        _ input: Tensor, of part: Tensor, in place: Place, _ cluster: Cluster, _ fusion: Fusion
    ) -> Bool {
        guard cluster.copied == nil, cluster.anchor.map({ !$0.readsWhole(input) }) ?? true else { return false }
        let memory = View(base: .tensor(place.whole), layout: place.layout)
        return fusion.view(input) { $0 == part ? memory : nil }.base == .tensor(place.whole)
    }
}

extension Node {
    /// Whether an anchor reads a tensor as a whole value, not through strides.
    fileprivate func readsWhole(_ tensor: Tensor) -> Bool {
        switch compilerRole {
        case .reduction, .assembly: false
        case .contraction: inputs.dropFirst(2).contains(tensor)
        case .independent: inputs.contains(tensor)
        default: true
        }
    }
}
