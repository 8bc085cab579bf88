import Compiler
import Graph

/// The GPU family of products: one kernel, tiles in local memory (Kernels/product_gpu.cl).
struct ProductGPU {
    let product: ProductLowering
    let mask: ProductMask
    /// What a work-group makes.
    let tile: GPUTile

    init(_ product: ProductLowering, _ lowering: inout LoweringContext) throws {
        self.product = product
        tile = Self.tile(product, lowering)
        mask = try ProductMask(product.group, tile: (tile.size, tile.size), label: product.label, lowering: &lowering)
    }

    private static func tile(_ product: ProductLowering, _ lowering: LoweringContext) -> GPUTile {
        let resolved = { (extent: Extent) in extent.resolved(batch: lowering.maximumBatch) }
        let (m, n, z) = (resolved(product.group.m), resolved(product.group.n), resolved(product.nest.count))
        return .best(rows: m, columns: n, count: z, units: lowering.computeUnits)
    }

    func lower(_ lowering: inout LoweringContext) throws -> LoweredGroup {
        let counter = lowering.tileCounter(dense: product.denseSteps(rows: tile.size, columns: tile.size))
        let name = lowering.kernel(try text(countsTiles: counter != nil), prefix: "product")
        let (m, n, z, tile) = (product.group.m, product.group.n, product.nest.count, tile.size)
        var lowered = LoweredGroup(steps: mask.preparation)
        lowered.tileCounter = counter
        lowered.steps.append(
            .launch(
                name, arguments(counter),
                groups: { batch in
                    [
                        (n.resolved(batch: batch) + tile - 1) / tile, (m.resolved(batch: batch) + tile - 1) / tile,
                        z.resolved(batch: batch),
                    ]
                }, local: [16, 16, 1]))
        return lowered
    }

    private var orders: MaskOrders { [("K_ORDER", mask.kOrder), ("N_ORDER", mask.nOrder), ("M_ORDER", mask.mOrder)] }

    /// In the order of the kernel's parameters.
    private func arguments(_ counter: TileCounter?) -> [LaunchArgument] {
        let group = product.group
        var arguments: [LaunchArgument] = [.extent(group.m), .extent(group.n), .extent(group.k)]
        arguments += product.parameters(of: product.a).arguments + product.parameters(of: product.b).arguments
        arguments += mask.tables + orders.compactMap(\.argument)
        if let counter { arguments.append(.owned(counter.memory)) }
        return arguments + product.epilogueParameters.arguments
    }

    private func text(countsTiles: Bool) throws -> String {
        with(
            epilogueMacros(product.epilogueParameters) + operandMacros + choiceMacros(countsTiles: countsTiles),
            try product.epilogueText(.gpu, hasColumnOrder: false)
                + mask.definitions(orders: orders, tileCount: "get_num_groups(0)") + KernelText.mask
                + KernelText.productGPU + KernelText.maskEnd)
    }

    /// How the kernel reaches A `[m, k]` and B `[k, n]`.
    private var operandMacros: Macros {
        let (a, b, first, second) = (product.a, product.b, product.mAxis, product.nAxis)
        return [
            ("TILE", "\(tile.size)"), ("DEPTH", "\(tile.depth)"),
            ("A_PARAMETERS", product.parameters(of: a).further), ("B_PARAMETERS", product.parameters(of: b).further),
            ("A_BASE(z)", product.base(a)), ("B_BASE(z)", product.base(b)), ("A_STRIDE_M", a.stride(first)),
            ("A_STRIDE_K", a.stride(second)), ("B_STRIDE_K", b.stride(first)), ("B_STRIDE_N", b.stride(second)),
        ]
    }

    /// What the kernel does one way or another.
    private func choiceMacros(countsTiles: Bool) -> Macros {
        let choices = [
            ("UNIT_A", product.a.strides[product.nAxis] == 1), ("UNIT_B", product.b.strides[product.mAxis] == 1),
            ("DEAD_STAY_ZERO", mask.deadOutputsStayZero), ("COUNT_TILES", countsTiles),
        ]
        return choices.compactMap { $0.1 ? ($0.0, "1") : nil }
    }
}
