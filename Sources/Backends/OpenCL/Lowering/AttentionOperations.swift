import Compiler
import Graph

// Attention on OpenCL devices: a work-item has sixteen rows of a tile on a processor, one on a GPU.

extension OpenCLOperationContext {
    /// A launch for all blocks of rows of all pairs.
    /// - Parameters:
    ///   - arguments: of the operands.
    ///   - rows: queries, or keys.
    fileprivate func attention(
        _ kernel: String, _ arguments: [OpenCLArgument], rows: Int, _ tiles: AttentionTiles
    ) -> OpenCLOperationStep {
        let lanes = lanes
        let work = (rows + AttentionTiles.size - 1) / AttentionTiles.size * AttentionTiles.size / lanes
        let pairs = Shape(Array(inputTypes[0].shape.dimensions.prefix(2))).count
        // A work-group is one tile on a GPU; processors take work-items one by one.
        let local = lanes == 1 ? AttentionTiles.size : 1
        // An empty table has no memory.
        let masks: [Int32] = tiles.masks.flatMap {
            [Int32(truncatingIfNeeded: $0), Int32(truncatingIfNeeded: $0 >> 32)]
        }
        return .launch(
            kernel,
            arguments + [
                .table(tiles.starts), .table(tiles.tiles.isEmpty ? [0] : tiles.tiles),
                .table(masks.isEmpty ? [0] : masks), .extent(inputTypes[0].shape[3]),
                .extent(inputTypes[1].shape[3]),
            ], groups: { [work / local, pairs.resolved(batch: $0)] }, local: [local, 1])
    }

    private var lanes: Int { family == .gpu ? 1 : 16 }

    /// - Parameter gradients: whether it is that of the gradients.
    fileprivate func attentionSource(scale: Double, gradients: Bool) -> String {
        with(
            [
                ("LANES", "\(lanes)"), ("DEPTH", "\(inputTypes[0].shape[2].coefficient)"),
                ("WIDTH", "\(inputTypes[2].shape[2].coefficient)"),
                ("GRADIENTS", gradients ? "1" : "0"),
                ("SCALE", "as_float(0x\(String(Float(scale).bitPattern, radix: 16)))"),
            ], KernelText.attention)
    }

    fileprivate var queries: Int { inputTypes[0].shape[3].coefficient }
    fileprivate var keys: Int { inputTypes[1].shape[3].coefficient }
}

extension Attention: OpenCLOperation {
    public func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        OpenCLOperationPlan(
            source: context.attentionSource(scale: scale, gradients: false),
            steps: [
                context.attention(
                    "forward", [.input(0), .input(1), .input(2), .output(0), .output(1)], rows: context.queries,
                    pattern.tilesByQueries(queries: context.queries, keys: context.keys))
            ])
    }
}

extension AttentionGradient: OpenCLOperation {
    public func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        let inputs = (0..<6).map { OpenCLArgument.input($0) }
        return OpenCLOperationPlan(
            source: context.attentionSource(scale: scale, gradients: true),
            steps: [
                context.attention(
                    "queries_gradient", inputs + [.output(0)], rows: context.queries,
                    pattern.tilesByQueries(queries: context.queries, keys: context.keys)),
                context.attention(
                    "keys_gradient", inputs + [.output(1), .output(2)], rows: context.keys,
                    pattern.tilesByKeys(queries: context.queries, keys: context.keys)),
            ])
    }
}
