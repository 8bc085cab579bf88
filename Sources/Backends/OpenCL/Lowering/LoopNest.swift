import Compiler
import Graph

/// The axes of an iteration, merged wherever every operand walks two of them as one.
///
/// Extents and strides are monomials in the batch, so merging is decided once for every batch size.
struct LoopNest {
    /// Outermost first; never empty.
    private(set) var extents: [Extent]
    /// Of each operand, over `extents`.
    private(set) var strides: [[Extent]]

    init(_ iteration: [Extent], _ operands: [[Extent]]) {
        var extents: [Extent] = []
        var strides = operands.map { _ in [Extent]() }
        for (axis, extent) in iteration.enumerated() where !extent.isOne {
            if let last = extents.indices.last,
                operands.indices.allSatisfy({ strides[$0][last] == operands[$0][axis] * extent })
            {
                extents[last] = extents[last] * extent
                for operand in operands.indices { strides[operand][last] = operands[operand][axis] }
            } else {
                extents.append(extent)
                for operand in operands.indices { strides[operand].append(operands[operand][axis]) }
            }
        }
        if extents.isEmpty {
            extents = [1]
            strides = operands.map { _ in [0] }
        }
        self.extents = extents
        self.strides = strides
    }

    var rank: Int { extents.count }
    var inner: Extent { extents[extents.count - 1] }
    var count: Extent { extents.reduce(1, *) }
    /// The product of all extents but the innermost.
    var outerCount: Extent { extents.dropLast().reduce(1, *) }
}
