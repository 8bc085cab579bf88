import Compiler
import Graph

/// The processor family of `ConvolutionLowering`: padded planes, packed weights and one work-item for a slab.
extension ConvolutionLowering {
    /// Slots of scratch memory: padded planes, packed weights, sums (or the parts of a weight gradient).
    private static let (planesSlot, weightsSlot, sumsSlot) = (0, 1, 2)

    private var rank: Int { group.geometry.kernel.count }

    func lowerCPU(_ lowering: inout LoweringContext) throws -> LoweredGroup {
        let strides = b.strides.dropFirst().allSatisfy(\.isStatic) ? b.strides.map(\.coefficient) : nil
        let planes = ConvolutionPlanes(walk, strides: strides)
        let batch = group.batch
        let most = batch.resolved(batch: lowering.maximumBatch)
        var lowered = LoweredGroup(scratch: [planes.isDirect ? 0 : most * walk.planes * planes.planePitch * 4])
        let operands = operandParameters()
        let macros = [("OPERAND_PARAMETERS", operands.further)]
        if !planes.isDirect {
            let text = with(macros + [("PAD", "1")], KernelText.convolutionCPU)
            let fixed =
                [
                    rank, planes.planePitch, planes.phasePitch, planes.head, planes.pitch.0, planes.pitch.1,
                    planes.window,
                    planes.start,
                ] + walk.sourceStep + walk.source
            let count = walk.planes
            lowered.steps.append(
                .launch(
                    lowering.kernel(text, prefix: "pad"),
                    [.scratch(Self.planesSlot)] + fixed.map { .extent(Extent($0)) } + operands.arguments,
                    groups: { [count, batch.resolved(batch: $0)] }, local: [1, 1]))
        }
        if group.role == .weightGradient {
            try lowerGradient(&lowered, planes, macros, operands.arguments, &lowering)
        } else {
            try lowerSums(&lowered, planes, macros, operands.arguments, &lowering)
        }
        return lowered
    }

    /// The planes as an argument, where the first pixel lies in them, and how far images lie apart.
    private func source(_ planes: ConvolutionPlanes) -> [LaunchArgument] {
        guard planes.isDirect, let value = b.operand.value else {
            return [.scratch(Self.planesSlot), .extent(0), .extent(Extent(walk.planes * planes.planePitch))]
        }
        return [.value(value), .sum(b.operand.offset), .extent(b.strides[0])]
    }

    private func lowerSums(
        _ lowered: inout LoweredGroup, _ planes: ConvolutionPlanes, _ macros: Macros,
        _ operands: [LaunchArgument], _ lowering: inout LoweringContext
    ) throws {
        let batch = group.batch
        let blockRows = [8, 4, 2, 1].first { $0 <= walk.rowsPerGroup } ?? 1
        let units = lowering.computeUnits
        let maximumBatch = lowering.maximumBatch
        let pitch = planes.pitch.0
        // Some hundred pixels a slab, and a few slabs for every core.
        let images = batch.resolved(batch: maximumBatch)
        let enough = (4 * units + images - 1) / max(1, images)
        var slab = max(1, min((512 + pitch - 1) / pitch, (planes.extent[0] + enough - 1) / enough))
        // A slab that is read in place holds a vector at least, the last one too.
        while planes.isDirect, slab < planes.extent[0], ((planes.extent[0] - 1) % slab + 1) * pitch < 16 { slab += 1 }
        let (height, slabs) = (slab, (planes.extent[0] + slab - 1) / slab)
        let sumPitch = (slab * pitch + 64) / 16 * 16
        lowered.scratch += [0, images * slabs * walk.rows * sumPitch * 4]
        let strides = try weightStrides()
        let epilogue = epilogueParameters
        for pass in walk.passes where pass.counts.allSatisfy({ $0 > 0 }) {
            let tables = ConvolutionTables(walk, pass, tile: blockRows, weightStrides: strides)
            let longest = max(1, tables.longest)
            let blocks = lowering.table(tables.blocks)
            lowered.scratch[Self.weightsSlot] = max(
                lowered.scratch[Self.weightsSlot], tables.blockCount * longest * blockRows * 4)
            let tablesOfWeights = [tables.weights, walk.hasChannelMask ? tables.live : []]
            let uploaded = tablesOfWeights.map {
                lowering.table($0.isEmpty ? [0, 0] : $0)
            }
            let count = tables.blockCount
            lowered.steps.append(
                .launch(
                    lowering.kernel(
                        with(macros + [("WEIGHTS", "1")], KernelText.convolutionCPU), prefix: "weights"),
                    [
                        .scratch(Self.weightsSlot), .extent(Extent(blockRows)), .extent(Extent(longest)),
                        .extent(a.strides[walk.isTransposed ? 1 : 0]),
                        .extent(walk.hasChannelMask ? 1 : 0), blocks,
                    ] + uploaded + operands,
                    groups: { _ in [count] }, local: [1]))
            let offsets = planes.offsets(tables, walk, pass)
            let isStepped = walk.passes.count > 1
            let text = with(
                epilogueMacros(epilogue) + [("ROWS", "\(blockRows)"), ("SUMS", "1")]
                    + (isStepped ? [("STEPS", "1")] : []) + (group.sections == 2 ? [("HALVES", "1")] : []),
                try epilogueText(.cpu) + KernelText.convolutionCPU)
            var fixed = [walk.rows, sumPitch, height, planes.pitch.0, planes.pitch.1] + pass.counts + walk.resultStep
            fixed += pass.phase + [walk.result[1], walk.result[2], tables.blockCount]
            let passSlabs = (pass.counts[0] + height - 1) / height
            lowered.steps.append(
                .launch(
                    lowering.kernel(text, prefix: "convolution"),
                    source(planes) + [
                        .extent(planes.isDirect ? 1 : 0), .extent(Extent(rank)), .scratch(Self.weightsSlot),
                        .extent(Extent(longest)),
                        .scratch(Self.sumsSlot),
                    ] + fixed.map { .extent(Extent($0)) } + [
                        blocks, lowering.table(offsets.isEmpty ? [0] : offsets),
                    ] + epilogue.arguments,
                    groups: { [passSlabs, batch.resolved(batch: $0)] }, local: [1, 1]))
        }
    }

    private func lowerGradient(
        _ lowered: inout LoweredGroup, _ planes: ConvolutionPlanes, _ macros: Macros,
        _ operands: [LaunchArgument], _ lowering: inout LoweringContext
    ) throws {
        let pass = walk.passes[0]
        let batch = group.batch
        let vectors = [4, 2, 1].first { walk.rowsPerGroup > ($0 / 2) * 16 } ?? 1
        let tables = ConvolutionTables(walk, pass, tile: vectors * 16, weightStrides: try weightStrides())
        let width = max(1, tables.longest)
        // Parts depend on the shapes and the batch alone: enough for a few cores, few enough to be added up.
        let slab = max(1, min(pass.counts[0], (1024 + planes.pitch.0 - 1) / planes.pitch.0))
        let slabs = (pass.counts[0] + slab - 1) / slab
        let parts: @Sendable (Int) -> Int = { max(1, min(16, batch.resolved(batch: $0) * slabs)) }
        let blockCount = tables.blockCount
        lowered.scratch += [0, parts(lowering.maximumBatch) * blockCount * width * vectors * 16 * 4]
        let blocks = lowering.table(tables.blocks)
        let own = macros + [("VECTORS", "\(vectors)")]
        let offsets = planes.offsets(tables, walk, pass)
        lowered.steps.append(
            .launch(
                lowering.kernel(
                    with(own + [("GRADIENT", "1")], KernelText.convolutionCPU), prefix: "convolution"),
                source(planes) + [
                    .scratch(Self.sumsSlot), .extent(Extent(width)), .extent(batch), .extent(Extent(rank)),
                    .extent(Extent(slab)),
                    .extent(Extent(slabs)), .extent(Extent(planes.pitch.0)), .extent(Extent(planes.pitch.1)),
                ] + pass.counts.map { .extent(Extent($0)) } + [
                    blocks, lowering.table(offsets.isEmpty ? [0] : offsets),
                ] + operands,
                groups: { [blockCount, parts($0)] }, local: [1, 1]))
        let epilogue = epilogueParameters
        let rowLength = walk.planesPerGroup * group.geometry.tapCount
        let finish = with(
            epilogueMacros(epilogue) + [("FINISH", "1")],
            try epilogueText(.cpu) + KernelText.convolutionCPU)
        lowered.steps.append(
            .launch(
                lowering.kernel(finish, prefix: "finish"),
                [
                    .extent(Extent(rowLength)), .extent(Extent(width)), .extent(Extent(vectors * 16)),
                    .integer(parts), blocks,
                    lowering.table(tables.columns(walk, pass)), .scratch(Self.sumsSlot),
                ] + epilogue.arguments,
                groups: { _ in [blockCount, vectors] }, local: [1, 1]))
    }
}
