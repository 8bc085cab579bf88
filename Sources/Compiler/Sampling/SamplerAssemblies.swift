import Graph

// Assemblies in a sampler: each box is a piece of work that moves elements as they become known.

extension SamplerBuilder {
    mutating func emit(_ assembly: any AssemblyOperation, _ anchor: Node, _ cluster: Cluster) {
        let result = Tensor(anchor)
        for box in assembly.boxes(anchor.inputs.map(\.shape), result: result.shape) {
            emit(box, of: anchor.inputs[box.operand], into: result, cluster)
        }
    }

    private mutating func emit(_ box: AssemblyBox, of input: Tensor, into result: Tensor, _ cluster: Cluster) {
        // Channels stay together if the box takes all of them, side by side.
        let keepsChannels =
            SamplerLayout.splits(result.shape) && box.starts[1] == 0 && box.counts[1] == input.shape[1]
            && box.steps[1] == 1
        let layouts =
            keepsChannels ? layouts([input], movedTo: (result, box.targets[1])) : [SamplerLayout(input.shape)]
        let strides = rowStrides(result.shape)
        for layout in layouts {
            let axes = layout.positionAxes
            let extents = layout.shape
            let counts = box.counts.map { $0.resolved(batch: 1) }
            // The layout's positions that the box takes, and where each goes.
            let select = affinePositions(
                axes.map { counts[$0] },
                offset: zip(axes, rowStrides(axes.map { extents[$0] })).reduce(0) { $0 + box.starts[$1.0] * $1.1 },
                strides: rowStrides(axes.map { extents[$0] }))
            let channel = layout.isSplit ? strides[1] : 0
            let start = (0..<strides.count).reduce(0) { $0 + box.targets[$1] * strides[$1] }
            let positions = affinePositions(
                axes.map { counts[$0] }, offset: start + (layout.isSplit ? layout.channels.lowerBound * channel : 0),
                strides: axes.map { box.steps[$0] * strides[$0] })
            move(
                input, layout, select: select.map { Int($0) }, into: result,
                target: SamplingProgram.Table(positions: positions, channelStride: channel), cluster)
        }
    }

    private func rowStrides(_ extents: [Int]) -> [Int] { Shape(extents).strides.map(\.coefficient) }

    private func rowStrides(_ shape: Shape) -> [Int] { Shape(shape.resolved(batch: 1)).strides.map(\.coefficient) }

    /// Elements of `input` at the positions `select` (all if nil) written to `target`.
    mutating func move(
        _ input: Tensor, _ layout: SamplerLayout, select: [Int]?, into result: Tensor, target: SamplingProgram.Table,
        _ cluster: Cluster
    ) {
        let builder = SamplerProgramBuilder()
        supply(input, builder, cluster, internals: false, layout)
        let operands = builder.operands.map { operand in
            var operand = operand
            if let select { operand.table.positions = select.map { operand.table.positions[$0] } }
            return operand
        }
        append(.none, operands, builder.program([input]), [result], cluster, layout, target: target)
    }
}
