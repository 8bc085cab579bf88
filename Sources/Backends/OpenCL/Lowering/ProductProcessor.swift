import Compiler
import Graph

/// The processor family of products: kernels that pack panels (permuted by degree, masked elements as zeros), one that multiplies
/// them (Kernels/product_cpu.cl) and, where columns were sorted, one that puts them in order.
struct ProductProcessor {
    let product: ProductLowering
    let mask: ProductMask
    let order: ColumnOrder
    /// How many tiles of rows a work-item takes.
    let strip: @Sendable (_ batch: Int) -> Int
    /// Whether a kernel of its own packs B. Every strip packs B for itself otherwise.
    let packsFirst: Bool
    let maximumBatch: Int
    let computeUnits: Int

    /// Rows and columns of a tile.
    private static let tile = (rows: 6, columns: 64)
    /// Tiles that a work-item takes at most (STRIP in product_cpu.cl).
    private static let longestStrip = 48
    /// Slots of scratch memory: A's panels, B's panels, and rows of the product in the order of the mask.
    private static let (aSlot, bSlot, rowsSlot) = (0, 1, 2)

    /// How the sorted columns of a product get back to their places.
    enum ColumnOrder {
        /// They are in place.
        case inPlace
        /// The product is written as it is sorted; another kernel puts rows in order.
        case secondPass
        /// A work-item makes whole rows and, if they are not, puts them in order.
        case wholeRows
        /// Each goes to its place. Only so can the dead part of a weight gradient be left alone.
        case scattered

        init(_ mask: ProductMask) {
            // Rows far apart are slow to write block by block, so a staircase's gradient is written row by row in any case.
            if mask.kind == 1, mask.role == 2, !mask.deadOutputsStayZero {
                self = .wholeRows
            } else {
                self = mask.nOrder == nil ? .inPlace : mask.role == 2 ? .scattered : .secondPass
            }
        }
    }

    init(_ product: ProductLowering, _ lowering: inout LoweringContext) throws {
        self.product = product
        mask = try ProductMask(product.group, tile: Self.tile, label: product.label, lowering: &lowering)
        maximumBatch = lowering.maximumBatch
        computeUnits = lowering.computeUnits
        order = ColumnOrder(mask)
        strip = Self.strip(product, order, computeUnits: computeUnits)
        // What is slow to pack (element by element) is packed once, where several strips would do it.
        let b = product.b
        let isSlow =
            mask.kOrder != nil || mask.nOrder != nil || (mask.kind == 2 && mask.role != 2)
            || (b.strides[product.mAxis] != 1 && b.strides[product.nAxis] != 1)
        packsFirst = order != .inPlace || (isSlow && Self.strips(product, strip)(maximumBatch) > 1)
    }

    func lower(_ lowering: inout LoweringContext) throws -> LoweredGroup {
        var lowered = LoweredGroup(steps: mask.preparation)
        packA(&lowered, &lowering)
        if packsFirst { packB(&lowered, &lowering) }
        switch order {
        case .inPlace, .scattered: try multiplyTiles(&lowered, &lowering)
        case .wholeRows: try multiplyWholeRows(&lowered, &lowering)
        case .secondPass:
            multiplySorted(&lowered, &lowering)
            try putInOrder(&lowered, &lowering)
        }
        return lowered
    }

    // MARK: - How the work is dealt out

    /// As many tiles as share a panel of B well, few enough to keep every core busy and, where columns are put in order, to keep the
    /// rows they go to in the cache.
    private static func strip(
        _ product: ProductLowering, _ order: ColumnOrder, computeUnits: Int
    ) -> @Sendable (Int) -> Int {
        let (m, n, z) = (product.group.m, product.group.n, product.nest.count)
        let operands = product.outputs.count + product.epilogueInputs.count
        return { batch in
            let columns = n.resolved(batch: batch)
            let tiles = (m.resolved(batch: batch) + 5) / 6
            var most = min(
                Self.longestStrip, tiles * ((columns + 63) / 64) * z.resolved(batch: batch) / (4 * computeUnits))
            if order == .scattered { most = min(most, (768 << 10) / max(1, 24 * columns * operands)) }
            if order == .wholeRows { most = min(most, (512 << 10) / max(1, 24 * columns)) }
            most = max(1, most)
            let strips = max(1, (tiles + most - 1) / most)
            return max(1, (tiles + strips - 1) / strips)
        }
    }

    private static func strips(
        _ product: ProductLowering, _ strip: @escaping @Sendable (Int) -> Int
    ) -> @Sendable (Int) -> Int {
        let m = product.group.m
        return { ((m.resolved(batch: $0) + 5) / 6 + strip($0) - 1) / strip($0) }
    }

    /// Columns of a strip, strips and batches: a work-item each.
    private var tileGroups: @Sendable (Int) -> [Int] {
        let (n, z, strips) = (product.group.n, product.nest.count, Self.strips(product, strip))
        return { [(n.resolved(batch: $0) + 63) / 64, strips($0), z.resolved(batch: $0)] }
    }

    private func most(_ extent: Extent) -> Int { extent.resolved(batch: maximumBatch) }

    // MARK: - Packing

    private func packA(_ lowered: inout LoweredGroup, _ lowering: inout LoweringContext) {
        let (m, k, z, a) = (product.group.m, product.group.k, product.nest.count, product.a)
        let isBatched = product.isBatched(a)
        lowered.scratch.append((isBatched ? most(z) : 1) * ((most(m) + 5) / 6) * 6 * most(k) * 4)
        let parameters = product.parameters(of: a, withBatchSizes: true)
        let orders: MaskOrders = [("K_ORDER", mask.kOrder), ("M_ORDER", mask.mOrder)]
        let macros: Macros = [
            ("PACK_A", "1"), ("source", "a"), ("SOURCE_PARAMETERS", parameters.further),
            ("SOURCE_BASE(z)", product.base(a)), ("STRIDE_M", a.stride(product.mAxis)),
            ("STRIDE_K", a.stride(product.nAxis)),
        ]
        // The mask itself does not concern A.
        let text = with(macros, packText(ProductMask(), orders))
        lowered.steps.append(
            .launch(
                lowering.kernel(text, prefix: "packA"),
                [.scratch(Self.aSlot), .extent(m), .extent(k)] + parameters.arguments + orders.compactMap(\.argument),
                groups: { [(m.resolved(batch: $0) + 5) / 6, isBatched ? z.resolved(batch: $0) : 1] }, local: [1, 1]))
    }

    private func packB(_ lowered: inout LoweredGroup, _ lowering: inout LoweringContext) {
        let (n, k, z, b) = (product.group.n, product.group.k, product.nest.count, product.b)
        let isBatched = product.isBatched(b)
        lowered.scratch.append((isBatched ? most(z) : 1) * ((most(n) + 63) / 64) * 64 * most(k) * 4)
        let parameters = product.parameters(of: b, withBatchSizes: true)
        let orders: MaskOrders = [("K_ORDER", mask.kOrder), ("N_ORDER", mask.nOrder)]
        var mask = mask
        // A weight gradient's operands are not masked, only its result.
        if mask.role == 2 { (mask.kind, mask.tables) = (0, []) }
        let text = with([("PACK_B", "1")] + sourceMacros(parameters), packText(mask, orders))
        let alongK = b.strides[product.mAxis] == 1
        lowered.steps.append(
            .launch(
                lowering.kernel(text, prefix: "packB"),
                [.scratch(Self.bSlot), .extent(n), .extent(k)] + parameters.arguments + mask.tables
                    + orders.compactMap(\.argument),
                groups: {
                    let panels = (n.resolved(batch: $0) + 63) / 64
                    // CHUNK in pack.cl, and the order in which work-items come.
                    let chunks = (k.resolved(batch: $0) + (alongK ? 1023 : 31)) / (alongK ? 1024 : 32)
                    return [
                        alongK ? chunks : panels, alongK ? panels : chunks, isBatched ? z.resolved(batch: $0) : 1,
                    ]
                }, local: [1, 1, 1]))
    }

    private func packText(_ mask: ProductMask, _ orders: MaskOrders) -> String {
        mask.definitions(orders: orders, tileCount: "1") + KernelText.mask + KernelText.pack + KernelText.maskEnd
    }

    /// B as the kernel that packs it sees it.
    private func sourceMacros(_ parameters: ParameterList) -> Macros {
        let b = product.b
        var macros: Macros = [
            ("source", "b"), ("SOURCE_PARAMETERS", parameters.further), ("SOURCE_BASE(z)", product.base(b)),
            ("STRIDE_K", b.stride(product.mAxis)), ("STRIDE_N", b.stride(product.nAxis)),
        ]
        if b.strides[product.mAxis] == 1 { macros.append(("UNIT_K", "1")) }
        if b.strides[product.nAxis] == 1 { macros.append(("UNIT_N", "1")) }
        return macros
    }

    // MARK: - Multiplying

    /// The kernel that multiplies panels, but for what becomes of the product: its macros, its text and its first arguments.
    private func tiles(
        _ lowered: inout LoweredGroup, _ lowering: inout LoweringContext
    ) -> (macros: Macros, text: String, arguments: [LaunchArgument]) {
        let group = product.group
        let ownB = product.parameters(of: product.b)
        let counter = lowering.tileCounter(
            dense: product.denseSteps(rows: Self.tile.rows, columns: Self.tile.columns))
        lowered.tileCounter = counter
        let choices = [
            ("PACKED_B", packsFirst), ("B_BATCHES", packsFirst && product.isBatched(product.b)),
            ("A_BATCHES", product.isBatched(product.a)), ("DEAD_STAY_ZERO", mask.deadOutputsStayZero),
            ("COUNT_TILES", counter != nil),
        ]
        // Panels that are packed are sorted already.
        let orders: MaskOrders = [
            ("K_ORDER", packsFirst ? nil : mask.kOrder), ("N_ORDER", order == .scattered ? mask.nOrder : nil),
            ("M_ORDER", mask.mOrder),
        ]
        var arguments: [LaunchArgument] = [
            .scratch(Self.aSlot), .extent(group.m), .extent(group.n), .extent(group.k), .integer(strip),
        ]
        arguments += packsFirst ? [.scratch(Self.bSlot)] : ownB.arguments
        arguments += mask.tables + orders.compactMap(\.argument)
        if let counter { arguments.append(.owned(counter.memory)) }
        let text =
            mask.definitions(orders: orders, tileCount: "get_num_groups(0)") + KernelText.mask + KernelText.productCPU
            + KernelText.maskEnd
        return (
            (packsFirst ? [] : sourceMacros(ownB) + [("SOURCE_ARGUMENTS", ownB.furtherNames)])
                + choices.compactMap { $0.1 ? ($0.0, "1") : nil }, text, arguments
        )
    }

    /// The macros of the epilogue and of what puts columns in order before it.
    private var finishMacros: Macros {
        epilogueMacros(product.epilogueParameters) + (mask.nPlace == nil ? [] : [("PLACES", "1")])
    }

    private var epilogueArguments: [LaunchArgument] { product.epilogueParameters.arguments }
    private var places: [LaunchArgument] { mask.nPlace.map { [$0] } ?? [] }

    /// Tiles go through the epilogue as they are made.
    private func multiplyTiles(_ lowered: inout LoweredGroup, _ lowering: inout LoweringContext) throws {
        let tiles = tiles(&lowered, &lowering)
        let functions = try product.epilogueText(.cpu, hasColumnOrder: order == .scattered)
        let name = lowering.kernel(with(finishMacros + tiles.macros, functions + tiles.text), prefix: "product")
        lowered.steps.append(
            .launch(name, tiles.arguments + epilogueArguments, groups: tileGroups, local: [1, 1, 1]))
    }

    /// A work-item makes all columns of a strip and takes them through the epilogue row by row.
    private func multiplyWholeRows(_ lowered: inout LoweredGroup, _ lowering: inout LoweringContext) throws {
        let tiles = tiles(&lowered, &lowering)
        let workers = 8 * computeUnits
        lowered.scratch.append(workers * strip(maximumBatch) * 6 * ((most(product.group.n) + 63) / 64) * 64 * 4)
        let functions =
            try product.epilogueText(.cpu, hasColumnOrder: false) + "#define ROLE 2\n" + KernelText.productFinish
            + "#undef ROLE\n"
        let text = with(finishMacros + tiles.macros + [("WHOLE_ROWS", "1")], functions + tiles.text)
        let strips = Self.strips(product, strip)
        lowered.steps.append(
            .launch(
                lowering.kernel(text, prefix: "product"),
                tiles.arguments + [.scratch(Self.rowsSlot)] + places + epilogueArguments,
                groups: { [min(workers, strips($0)), 1, 1] }, local: [1, 1, 1]))
    }

    /// The product is written as it is sorted: the epilogue of the kernel is a store.
    private func multiplySorted(_ lowered: inout LoweredGroup, _ lowering: inout LoweringContext) {
        let tiles = tiles(&lowered, &lowering)
        let (m, n, z) = (product.group.m, product.group.n, product.nest.count)
        lowered.scratch.append(most(z) * most(m) * most(n) * 4)
        let sorted: Macros = [
            ("EPILOGUE_PARAMETERS", ", __global float* sorted, const int sortedRows, const int sortedColumns"),
            ("EPILOGUE_ARGUMENTS", ", sorted, sortedRows, sortedColumns"),
        ]
        let store = """
            static inline void MARTLET_NAME(KERNEL, _epilogue1)(const int m, const int n, const int z, const float product EPILOGUE_PARAMETERS) {
                sorted[((size_t)z * sortedRows + m) * sortedColumns + n] = product;
            }
            static inline void MARTLET_NAME(KERNEL, _epilogue16)(const int m, const int n, const int z, const float16 product EPILOGUE_PARAMETERS) {
                vstore16(product, 0, sorted + ((size_t)z * sortedRows + m) * sortedColumns + n);
            }

            """
        let name = lowering.kernel(with(sorted + tiles.macros, store + tiles.text), prefix: "product")
        lowered.steps.append(
            .launch(
                name, tiles.arguments + [.scratch(Self.rowsSlot), .extent(m), .extent(n)], groups: tileGroups,
                local: [1, 1, 1]))
    }

    /// Rows of the sorted product go to their places through the epilogue.
    private func putInOrder(_ lowered: inout LoweredGroup, _ lowering: inout LoweringContext) throws {
        let (m, n, z, rows) = (product.group.m, product.group.n, product.nest.count, 4)
        let text = with(
            finishMacros + [("FINISH", "1"), ("ROLE", "\(mask.role)")],
            try product.epilogueText(.cpu, hasColumnOrder: false) + KernelText.productFinish + KernelText.maskEnd)
        lowered.steps.append(
            .launch(
                lowering.kernel(text, prefix: "finish"),
                [.scratch(Self.rowsSlot), .extent(m), .extent(n), .constant(rows)] + places + epilogueArguments,
                groups: { [(m.resolved(batch: $0) + rows - 1) / rows, z.resolved(batch: $0)] }, local: [1, 1]))
    }
}
