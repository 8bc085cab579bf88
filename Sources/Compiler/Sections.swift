import Graph

/// Splits convolutions whose channels are two halves that go separate ways, such as the gate `tanh(a) * sigmoid(b)` or
/// the scale and shift of a coupling. The functions of both halves can then follow in the convolution's own group, and
/// the convolution's result is never written to memory as a whole.
///
/// For example, where `[a, b]` are the halves of `convolution(x) + bias`, the slices move in front of the addition:
///
///     before: y = convolution(x) + bias;  a = first half of y;  b = second half of y
///     after:  p, q = convolution(x);      a = p + first half of bias;  b = q + second half of bias
///
/// A reader of all of y, if there is one, reads the concatenation of a and b instead.
struct Sections {
    /// The two halves of each split convolution's result. All readers read a half, none the result as a whole.
    private(set) var channelHalves: [Tensor: [Tensor]] = [:]

    /// The tensors that take the place of `outputs`.
    mutating func split(_ outputs: [Tensor]) -> [Tensor] {
        let nodes = topologicalOrder(outputs)
        var starts: [Tensor: Set<Int>] = [:]
        for node in nodes {
            if let half = Self.half(node) { starts[node.inputs[0], default: []].insert(half) }
        }
        // The convolution that each tensor comes from, of the tensors that are computed half by half.
        var sources: [Tensor: Tensor] = [:]
        let ranks = Dictionary(uniqueKeysWithValues: nodes.enumerated().map { (Tensor($1), $0) })
        let readers = Self.elementwiseReaders(nodes)
        for tensor in nodes.map({ Tensor($0) }) where starts[tensor]?.count == 2 {
            guard let source = Self.source(of: tensor, ranks) else { continue }
            let chain = Self.chain(from: source, to: tensor)
            // Where an elementwise function outside of the chain reads one of its tensors as a whole, that tensor is
            // better computed as a whole.
            guard chain.allSatisfy({ sources[$0, default: source] == source }),
                chain.allSatisfy({ (readers[$0] ?? []).isSubset(of: chain) })
            else { continue }
            for link in chain { sources[link] = source }
        }
        if sources.isEmpty { return outputs }
        var replaced: [Tensor: Tensor] = [:]
        var known: [Tensor: [Tensor]] = [:]
        for node in nodes {
            if let half = Self.half(node), sources[node.inputs[0]] != nil {
                replaced[Tensor(node)] = known[node.inputs[0]]![half]
                continue
            }
            let inputs = node.inputs.map { replaced[$0]! }
            let tensor = Tensor(node)
            if let source = sources[tensor] {
                let parts: [Tensor]
                if source == tensor {
                    let whole = Tensor(node.operation, inputs, at: node.location)
                    parts = Self.slices(of: whole)
                    channelHalves[whole] = parts
                } else {
                    let pieces = zip(node.inputs, inputs).map {
                        sources[$0] == source ? known[$0]! : Self.slices(of: $1)
                    }
                    parts = (0..<2).map { half in Tensor(node.operation, pieces.map { $0[half] }, at: node.location) }
                }
                known[tensor] = parts
                replaced[tensor] = Tensor(Concatenate(axis: 1), parts, at: node.location)
                continue
            }
            let new = inputs == node.inputs ? node : Node(node.operation, inputs, at: node.location)
            for index in node.types.indices { replaced[Tensor(node, index)] = Tensor(new, index) }
        }
        return outputs.map { replaced[$0]! }
    }

    /// Which half of its input's channels a node slices out, 0 or 1; `nil` for every other node.
    private static func half(_ node: Node) -> Int? {
        guard let view = node.view else { return nil }
        let (shape, half) = (node.inputs[0].shape, node.types[0].shape)
        guard shape.rank >= 3, shape.rank == half.rank, shape[1].isStatic,
            half[1].coefficient * 2 == shape[1].coefficient,
            (0..<shape.rank).allSatisfy({ $0 == 1 || half[$0] == shape[$0] })
        else { return nil }
        let layout = view.layout(of: shape, in: StridedLayout(shape), result: half)
        guard layout?.strides == shape.strides else { return nil }
        if layout?.offset == [] { return 0 }
        return layout?.offset == [shape.strides[1] * half[1]] ? 1 : nil
    }

    private static func slices(of tensor: Tensor) -> [Tensor] {
        let half = tensor.shape[1].coefficient / 2
        return (0..<2).map {
            let slice = tensor.sliced(axis: 1, from: $0 * half, count: half)
            return Simplifier.shorten(slice.node, [tensor]) ?? slice
        }
    }

    /// For each tensor the results of the elementwise functions that read all of it.
    private static func elementwiseReaders(_ nodes: [Node]) -> [Tensor: Set<Tensor>] {
        var readers: [Tensor: Set<Tensor>] = [:]
        for node in nodes where node.isElementwise {
            for input in node.inputs { readers[input, default: []].insert(Tensor(node)) }
        }
        return readers
    }

    /// The last convolution that leads to a tensor through elementwise functions alone: the one whose group they join.
    private static func source(of tensor: Tensor, _ ranks: [Tensor: Int]) -> Tensor? {
        var (seen, stack, found) = (Set<Tensor>(), [tensor], [Tensor]())
        while let next = stack.popLast() {
            guard next.shape == tensor.shape, seen.insert(next).inserted else { continue }
            if case .contraction(splitsChannels: true) = next.node.compilerRole {
                found.append(next)
            } else if next.node.isElementwise {
                stack += next.node.inputs
            }
        }
        return found.max { ranks[$0]! < ranks[$1]! }
    }

    /// The tensors between `source` and `tensor`, both included, that elementwise functions compute from `source`.
    private static func chain(from source: Tensor, to tensor: Tensor) -> Set<Tensor> {
        var leads: [Tensor: Bool] = [source: true]
        func visit(_ next: Tensor) -> Bool {
            if let known = leads[next] { return known }
            leads[next] = false
            guard next.node.isElementwise, next.shape == source.shape else { return false }
            let result = next.node.inputs.map(visit).contains(true)
            leads[next] = result
            return result
        }
        _ = visit(tensor)
        return Set(leads.filter(\.value).keys)
    }
}
