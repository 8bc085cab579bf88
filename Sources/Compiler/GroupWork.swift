import Graph

/// One application of an operation, without the graph around it: what it is applied to, and what comes out.
public struct AppliedOperation: Sendable {
    public let operation: any Operation
    /// Of its operands, in their order.
    public let inputs: [TensorType]
    /// Of the elements that are computed here: of an assembly with functions behind it, one box.
    public let outputs: [TensorType]

    /// - Parameter part: the extents of the elements that are computed; all of them if not given.
    init(_ node: Node, over part: [Extent]? = nil) {
        (operation, inputs) = (node.operation, node.inputs.map(\.type))
        outputs = node.types.map { type in TensorType(part.map { Shape($0) } ?? type.shape, type.element) }
    }

    /// Of live weights; zero for what sums no products.
    func multiplyAdds(batch: Int) -> Int { operation.multiplyAdds(inputs, outputs, batch: batch)?.live ?? 0 }

    /// Elements of exp, log, tanh and their like.
    func exps(batch: Int) -> Int { operation.allExps(inputs, outputs, batch: batch) }
}

extension Schedule {
    /// What a group has to do. Its bytes are all that it reads and writes, each element once, whether or not a cache holds them; of a
    /// loop, what it is given and leaves behind.
    public func work(ofGroup index: Int, batch: Int) -> StepWork {
        let group = groups[index]
        let (reads, writes) = group.touched(batch: batch)
        return StepWork(
            multiplyAdds: group.applied.reduce(0) { $0 + $1.multiplyAdds(batch: batch) },
            exps: group.applied.reduce(0) { $0 + $1.exps(batch: batch) },
            bytes: (reads + writes).reduce(0) { sum, touched in
                let type = values[touched.value].type
                return sum + min(touched.elements, type.shape.count.resolved(batch: batch)) * type.element.byteCount
            })
    }
}
