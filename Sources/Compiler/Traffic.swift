import Graph

extension Group {
    /// Bytes that an elementwise group or a reduction moves for a batch: every view of a value once, a repeated element once.
    /// Other groups read their operands more than once; `nil`.
    public func movedBytes(batch: Int) -> Int? {
        func bytes(_ operands: [Operand], over extents: [Extent]) -> Int {
            Set(operands).reduce(0) { sum, operand in
                guard operand.value != nil else { return sum }
                let touched = zip(extents, operand.strides).filter { $0.1 != 0 }.reduce(1) {
                    $0 * $1.0.resolved(batch: batch)
                }
                return sum + touched * operand.element.byteCount
            }
        }
        switch kind {
        case .elementwise(let g):
            return bytes(g.inputs, over: g.iteration) + bytes(g.outputs, over: g.iteration)
        case .reduction(let g):
            return bytes(g.inputs, over: g.kept + g.reduced) + bytes(g.stored, over: g.kept + g.reduced)
                + bytes(g.epilogueInputs, over: g.kept) + bytes(g.outputs, over: g.kept)
        case .product, .convolution, .operation: return nil
        }
    }
}
