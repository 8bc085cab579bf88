import Graph

extension SamplingProgram {
    /// Refuses tensors in which an example reads another one, or the number of examples: the incremental program is
    /// that of one example, run in as many lanes as there are examples.
    ///
    /// - Throws: `SamplingError` that names the operation.
    static func refuseJoinedExamples(_ tensors: [Tensor]) throws {
        let nodes = topologicalOrder(tensors)
        let bodies = nodes.compactMap(\.stepwiseLoop).map { topologicalOrder($0.newCarries + $0.outputs) }
        func error(_ node: Node, _ what: String) -> SamplingError {
            SamplingError(
                description: "\(node.operation.name) \(what)" + (node.location.map { " (\($0))" } ?? ""))
        }
        for node in nodes {
            if let axis = Tensor(node).placeholder?.type.shape.batchAxis, axis > 0 {
                throw error(node, "is fed with the batch behind another axis")
            }
        }
        for node in nodes + bodies.joined() where node.stepwiseLoop == nil {
            if let position = node.position, !position.offset.isStatic {
                throw error(node, "counts the examples of a batch")
            }
            if node.types.contains(where: { $0.shape.count.power > 1 })
                || node.inputs.contains(where: \.shape.isBatched) && node.types.contains(where: { !$0.shape.isBatched })
            {
                throw error(node, "joins the examples of a batch")
            }
        }
        // Of the remaining operations only a view can mix examples, as a reshape may: [batch, 6] may be read as [6, batch].
        func run(_ tensor: Tensor) -> Extent { tensor.shape.dimensions.drop(while: \.isStatic).reduce(1, *) }
        guard (nodes + bodies.joined()).contains(where: { $0.isView && run($0.inputs[0]) != run(Tensor($0)) }) else {
            return
        }
        let pair = try Dependencies(tensors, batch: 2)
        let reads = pair.examplesRead(of: nodes.filter(\.inputs.isEmpty).map { Tensor($0) })
        for tensor in tensors {
            guard let own = pair.examples(tensor), let read = reads[tensor] else { continue }
            if zip(own, read).contains(where: { $1 & ~$0 != 0 }) {
                throw error(tensor.node, "reads another example of a batch")
            }
        }
    }
}
