import Compiler
import Graph

/// Lowers a product, masked or not, with its epilogue.
///
/// GPU: one kernel, tiles in local memory. Processor: two kernels that pack panels (permuted by degree, masked elements
/// as zeros) and one that multiplies them.
struct ProductLowering {
    let group: ProductGroup
    let label: String
    private let nest: LoopNest
    private let a: OperandText
    private let b: OperandText
    private let epilogueInputs: [OperandText]
    private let outputs: [OperandText]

    init(_ group: ProductGroup, label: String) throws {
        guard group.a.element == .float32, group.b.element == .float32 else {
            throw OpenCLError.unsupported(
                "\(label): products on OpenCL devices take float32, found \(group.a.element) and \(group.b.element); "
                    + "cast the operands, or use `--device cpu`")
        }
        self.group = group
        self.label = label
        let rank = group.batch.count
        let operands = [group.a, group.b] + group.epilogueInputs + group.outputs
        let nest = LoopNest(group.batch, operands.map { Array($0.strides.prefix(rank)) })
        self.nest = nest
        let texts = operands.enumerated().map { index, operand in
            let name =
                switch index {
                case 0: "a"
                case 1: "b"
                case ..<(2 + group.epilogueInputs.count): "e\(index - 2)"
                default: "o\(index - 2 - group.epilogueInputs.count)"
                }
            return OperandText(name: name, operand: operand, strides: nest.strides[index] + operand.strides.suffix(2))
        }
        a = texts[0]
        b = texts[1]
        epilogueInputs = Array(texts[2..<(2 + group.epilogueInputs.count)])
        outputs = Array(texts.suffix(group.outputs.count))
    }

    func lower(_ lowering: inout LoweringContext) throws -> LoweredGroup {
        lowering.library.use(group.epilogue)
        switch lowering.family {
        case .gpu: return try lowerGPU(&lowering)
        case .cpu: return try lowerCPU(&lowering)
        }
    }

    // MARK: - What both families share

    private var mAxis: Int { nest.rank }
    private var nAxis: Int { nest.rank + 1 }

    /// The position of `operand` in batch `z`: an expression over the parameters zn0, zn1, ...
    private func base(_ operand: OperandText) -> String {
        var terms = ["\(operand.name)_o"]
        for axis in 0..<nest.rank where operand.strides[axis] != 0 {
            let after = (axis + 1..<nest.rank).map { "zn\($0)" }.joined(separator: " * ")
            var index = after.isEmpty ? "(z)" : "((z) / (\(after)))"
            if axis > 0 { index = "(\(index) % zn\(axis))" }
            terms.append("\(index) * \(operand.stride(axis))")
        }
        return terms.joined(separator: " + ")
    }

    private func addBatchSizes(to list: inout ParameterList) {
        for axis in 0..<nest.rank { list.integer("zn\(axis)", .extent(nest.extents[axis])) }
    }

    private var epilogueParameters: ParameterList {
        var list = ParameterList()
        addBatchSizes(to: &list)
        for operand in epilogueInputs { operand.addParameters(to: &list, isOutput: false) }
        for operand in outputs { operand.addParameters(to: &list, isOutput: true) }
        return list
    }

    /// Functions that take one product, or sixteen neighbours, through the epilogue. `m` and, for a single product, `n`
    /// are places in memory; the sixteen are at `n` or, where columns are permuted, at `nOrder[n]`.
    private func epilogueText(_ family: KernelFamily, hasColumnOrder: Bool) throws -> String {
        var text = ""
        for width in family.widths {
            let writer = ProgramText(program: group.epilogue, width: width, family: family)
            let order = width == 16 && hasColumnOrder
            text += """
                static inline void MARTLET_NAME(KERNEL, _epilogue\(width))(
                    const int m, const int n, const int z, const \(writer.floatType) product\(order ? ", __global const int* nOrder" : "")
                    EPILOGUE_PARAMETERS) {

                """
            if width == 16, ProgramText.usesRandom(group.epilogue) {
                text += """
                        float lanes[16];
                        vstore16(product, 0, lanes);
                        for (int i = 0; i < 16; i++) {
                            MARTLET_NAME(KERNEL, _epilogue1)(m, \(order ? "nOrder[n + i]" : "n + i"), z, lanes[i] EPILOGUE_ARGUMENTS);
                        }
                    }

                    """
                continue
            }
            if order { text += "    const int16 at = vload16(0, nOrder + n);\n" }
            var names = ["product"]
            func position(_ operand: OperandText) -> String {
                operand.position(order ? [(mAxis, "m")] : [(mAxis, "m"), (nAxis, "n")], from: base(operand))
            }
            for (index, operand) in epilogueInputs.enumerated() {
                let load: String
                if order, operand.strides[nAxis] != 0 {
                    let places = "((int16)(\(position(operand))) + at * (int16)(\(operand.stride(nAxis))))"
                    load =
                        operand.operand.value == nil
                        ? places : "MARTLET_GATHER_AT(\(writer.type(index + 1)), \(operand.name), \(places))"
                } else {
                    load = operand.load(
                        position(operand), width: width, stride: operand.strides[nAxis],
                        strideText: operand.stride(nAxis))
                }
                text += "    const \(writer.type(index + 1)) y\(index) = \(load);\n"
                names.append("y\(index)")
            }
            let (statements, results) = try writer.statements(inputs: names, indent: "    ")
            text += statements
            for (operand, result) in zip(outputs, results) {
                if order {
                    let places = "((int16)(\(position(operand))) + at * (int16)(\(operand.stride(nAxis))))"
                    text +=
                        "    { const int16 places = \(places); MARTLET_SCATTER_AT(\(operand.storage), \(operand.name), places, \(result)); }\n"
                } else {
                    text +=
                        "    "
                        + operand.store(
                            result, position(operand), width: width, stride: operand.strides[nAxis],
                            strideText: operand.stride(nAxis)) + "\n"
                }
            }
            text += "}\n"
        }
        return text
    }

    /// Defines macros around a text and takes them back after it.
    private func with(_ macros: [(String, String)], _ text: String) -> String {
        macros.map { "#define \($0.0) \($0.1)\n" }.joined() + text
            + macros.map { "\n#undef \($0.0.prefix { $0 != "(" })" }.joined()
    }

    private func joined(_ list: ParameterList) -> String { list.text.map { ", " + $0 }.joined() }

    private func epilogueMacros(_ list: ParameterList) -> [(String, String)] {
        [("EPILOGUE_PARAMETERS", joined(list)), ("EPILOGUE_ARGUMENTS", list.names.map { ", " + $0 }.joined())]
    }

    /// Tiles' worth of sixteen steps of k without a mask.
    private func denseSteps(rows: Int, columns: Int) -> @Sendable (Int) -> Int {
        let (m, n, k, z) = (group.m, group.n, group.k, nest.count)
        return { batch in
            (m.resolved(batch: batch) + rows - 1) / rows * ((n.resolved(batch: batch) + columns - 1) / columns)
                * ((k.resolved(batch: batch) + 15) / 16) * z.resolved(batch: batch)
        }
    }

    // MARK: - GPU

    private func lowerGPU(_ lowering: inout LoweringContext) throws -> LoweredGroup {
        let (m, n, z) = (group.m, group.n, nest.count)
        let most = lowering.maximumBatch
        let large =
            (m.resolved(batch: most) + 127) / 128 * ((n.resolved(batch: most) + 127) / 128) * z.resolved(batch: most)
        // Small problems would leave most of the device, or of each tile, idle with large tiles.
        let fills =
            large >= lowering.device.description.computeUnits
            && min(m.resolved(batch: most), n.resolved(batch: most)) > 64
        let tile = fills ? 128 : 64
        let mask = try ProductMask(group, tile: (tile, tile), label: label, lowering: &lowering)

        var sizes = ParameterList()
        sizes.integer("M", .extent(group.m))
        sizes.integer("N", .extent(group.n))
        sizes.integer("K", .extent(group.k))
        var aList = ParameterList()
        a.addParameters(to: &aList, isOutput: false)
        var bList = ParameterList()
        b.addParameters(to: &bList, isOutput: false)
        let epilogue = epilogueParameters
        // The operands' axes are [m, k] and [k, n].
        var macros: [(String, String)] = [
            ("TILE", "\(tile)"), ("DEPTH", tile == 128 ? "8" : "16"), ("A_PARAMETERS", joined(aList)),
            ("B_PARAMETERS", joined(bList)), ("A_BASE(z)", base(a)), ("B_BASE(z)", base(b)),
            ("A_STRIDE_M", a.stride(mAxis)), ("A_STRIDE_K", a.stride(nAxis)), ("B_STRIDE_K", b.stride(mAxis)),
            ("B_STRIDE_N", b.stride(nAxis)),
        ]
        if a.strides[nAxis] == 1 { macros.append(("UNIT_A", "1")) }
        if b.strides[mAxis] == 1 { macros.append(("UNIT_B", "1")) }
        if mask.deadOutputsStayZero { macros.append(("DEAD_STAY_ZERO", "1")) }
        if lowering.device.countsTiles { macros.append(("COUNT_TILES", "1")) }
        let orders = [("K_ORDER", mask.kOrder), ("N_ORDER", mask.nOrder), ("M_ORDER", mask.mOrder)]
        let text = with(
            epilogueMacros(epilogue) + macros,
            try epilogueText(.gpu, hasColumnOrder: false)
                + mask.definitions(orders: orders, tileCount: "get_num_groups(0)") + KernelText.mask
                + KernelText.productGPU
                + KernelText.maskEnd)

        var lowered = LoweredGroup()
        if let preparation = mask.preparation { lowered.steps.append(preparation) }
        var arguments = sizes.arguments + aList.arguments + bList.arguments + mask.tables
        arguments += orders.compactMap(\.1)
        if lowering.device.countsTiles {
            let counter = TileCounter(buffer: try lowering.counter(), dense: denseSteps(rows: tile, columns: tile))
            lowered.tileCounter = counter
            arguments.append(.buffer(counter.buffer))
        }
        lowered.steps.append(
            .launch(
                Launch(
                    kernel: lowering.library.add(text, prefix: "product"), arguments: arguments + epilogue.arguments,
                    groups: { batch in
                        [
                            (n.resolved(batch: batch) + tile - 1) / tile, (m.resolved(batch: batch) + tile - 1) / tile,
                            z.resolved(batch: batch),
                        ]
                    }, local: [16, 16, 1])))
        return lowered
    }

    // MARK: - Processor

    /// Tiles of six rows that a work-item takes at most (STRIP in product_cpu.cl).
    private static let longestStrip = 48

    /// How the sorted columns of a product get back to their places.
    private enum ColumnOrder {
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

    /// How many tiles of rows a work-item takes: as many as share a panel of B well, few enough to keep every core busy
    /// and, where columns are put in order, to keep the rows they go to in the cache.
    private func strip(_ order: ColumnOrder, computeUnits: Int) -> @Sendable (Int) -> Int {
        let (m, n, z) = (group.m, group.n, nest.count)
        let operands = group.outputs.count + group.epilogueInputs.count
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

    private func strips(_ strip: @escaping @Sendable (Int) -> Int) -> @Sendable (Int) -> Int {
        let m = group.m
        return { ((m.resolved(batch: $0) + 5) / 6 + strip($0) - 1) / strip($0) }
    }

    private func lowerCPU(_ lowering: inout LoweringContext) throws -> LoweredGroup {
        let (m, n, k, z) = (group.m, group.n, group.k, nest.count)
        let mask = try ProductMask(group, tile: (6, 64), label: label, lowering: &lowering)
        let aIsBatched = a.strides.prefix(nest.rank).contains { $0 != 0 }
        let bIsBatched = b.strides.prefix(nest.rank).contains { $0 != 0 }
        let most = lowering.maximumBatch
        let (zMost, kMost) = (z.resolved(batch: most), k.resolved(batch: most))
        let order = ColumnOrder(mask)
        let strip = strip(order, computeUnits: lowering.device.description.computeUnits)
        let strips = strips(strip)
        // Every strip packs B for itself; where that is slow (element by element) and there are several, it is done once.
        let isSlow =
            mask.kOrder != nil || mask.nOrder != nil || (mask.kind == 2 && mask.role != 2)
            || (b.strides[mAxis] != 1 && b.strides[nAxis] != 1)
        let packsFirst = order != .inPlace || (isSlow && strips(most) > 1)

        var lowered = LoweredGroup(scratch: [
            (aIsBatched ? zMost : 1) * ((m.resolved(batch: most) + 5) / 6) * 6 * kMost * 4
        ])
        if let preparation = mask.preparation { lowered.steps.append(preparation) }

        // A's panels.
        var aList = ParameterList()
        addBatchSizes(to: &aList)
        a.addParameters(to: &aList, isOutput: false)
        let aOrders = [("K_ORDER", mask.kOrder), ("M_ORDER", mask.mOrder)]
        let packA = with(
            [
                ("PACK_A", "1"), ("source", "a"), ("SOURCE_PARAMETERS", joined(aList)), ("SOURCE_BASE(z)", base(a)),
                ("STRIDE_M", a.stride(mAxis)), ("STRIDE_K", a.stride(nAxis)),
            ],
            // The mask itself does not concern A.
            ProductMask().definitions(orders: aOrders, tileCount: "1") + KernelText.mask + KernelText.pack
                + KernelText.maskEnd)
        lowered.steps.append(
            .launch(
                Launch(
                    kernel: lowering.library.add(packA, prefix: "packA"),
                    arguments: [.scratch(0), .extent(m), .extent(k)] + aList.arguments + aOrders.compactMap(\.1),
                    groups: { [(m.resolved(batch: $0) + 5) / 6, aIsBatched ? z.resolved(batch: $0) : 1] },
                    local: [1, 1])))

        // B as the kernel that packs it sees it.
        var bList = ParameterList()
        if packsFirst { addBatchSizes(to: &bList) }
        b.addParameters(to: &bList, isOutput: false)
        var bMacros: [(String, String)] = [
            ("source", "b"), ("SOURCE_PARAMETERS", joined(bList)), ("SOURCE_BASE(z)", base(b)),
            ("STRIDE_K", b.stride(mAxis)), ("STRIDE_N", b.stride(nAxis)),
        ]
        if b.strides[mAxis] == 1 { bMacros.append(("UNIT_K", "1")) }
        if b.strides[nAxis] == 1 { bMacros.append(("UNIT_N", "1")) }
        if packsFirst {
            lowered.scratch.append((bIsBatched ? zMost : 1) * ((n.resolved(batch: most) + 63) / 64) * 64 * kMost * 4)
            let bOrders = [("K_ORDER", mask.kOrder), ("N_ORDER", mask.nOrder)]
            var bMask = mask
            // A weight gradient's operands are not masked, only its result.
            if mask.role == 2 { (bMask.kind, bMask.tables) = (0, []) }
            let alongK = b.strides[mAxis] == 1
            let packB = with(
                [("PACK_B", "1")] + bMacros,
                bMask.definitions(orders: bOrders, tileCount: "1") + KernelText.mask + KernelText.pack
                    + KernelText.maskEnd)
            lowered.steps.append(
                .launch(
                    Launch(
                        kernel: lowering.library.add(packB, prefix: "packB"),
                        arguments: [.scratch(1), .extent(n), .extent(k)] + bList.arguments + bMask.tables
                            + bOrders.compactMap(\.1),
                        groups: {
                            let panels = (n.resolved(batch: $0) + 63) / 64
                            // CHUNK in pack.cl, and the order in which work-items come.
                            let chunks = (k.resolved(batch: $0) + (alongK ? 1023 : 31)) / (alongK ? 1024 : 32)
                            return [
                                alongK ? chunks : panels, alongK ? panels : chunks,
                                bIsBatched ? z.resolved(batch: $0) : 1,
                            ]
                        }, local: [1, 1, 1])))
        }

        try lowerTiles(
            &lowered, &lowering, mask: mask, order: order, strip: strip,
            b: packsFirst ? [("PACKED_B", "1")] + (bIsBatched ? [("B_BATCHES", "1")] : []) : bMacros,
            bArguments: packsFirst ? [.scratch(1)] : bList.arguments, kOrder: packsFirst ? nil : mask.kOrder,
            aIsBatched: aIsBatched)
        return lowered
    }

    /// The kernel that multiplies packed panels and, where the columns want one, the second pass.
    ///
    /// - Parameter kOrder: where the kernel packs B itself; panels that are packed are sorted already.
    private func lowerTiles(
        _ lowered: inout LoweredGroup, _ lowering: inout LoweringContext, mask: ProductMask, order: ColumnOrder,
        strip: @escaping @Sendable (Int) -> Int, b: [(String, String)], bArguments: [LaunchArgument],
        kOrder: LaunchArgument?, aIsBatched: Bool
    ) throws {
        let (m, n, k, z) = (group.m, group.n, group.k, nest.count)
        let most = lowering.maximumBatch
        let strips = strips(strip)
        let epilogue = epilogueParameters
        let finish = epilogueMacros(epilogue) + (mask.nPlace == nil ? [] : [("PLACES", "1")])
        let places = mask.nPlace.map { [$0] } ?? []
        var macros = b
        if aIsBatched { macros.append(("A_BATCHES", "1")) }
        if mask.deadOutputsStayZero { macros.append(("DEAD_STAY_ZERO", "1")) }
        if lowering.device.countsTiles { macros.append(("COUNT_TILES", "1")) }

        let nOrder = order == .scattered ? mask.nOrder : nil
        let orders = [("K_ORDER", kOrder), ("N_ORDER", nOrder), ("M_ORDER", mask.mOrder)]
        var arguments: [LaunchArgument] = [.scratch(0), .extent(m), .extent(n), .extent(k), .integer(strip)]
        arguments += bArguments + mask.tables + orders.compactMap(\.1)
        if lowering.device.countsTiles {
            let counter = TileCounter(buffer: try lowering.counter(), dense: denseSteps(rows: 6, columns: 64))
            lowered.tileCounter = counter
            arguments.append(.buffer(counter.buffer))
        }

        var functions = try epilogueText(.cpu, hasColumnOrder: order == .scattered)
        var groups: @Sendable (Int) -> [Int] = {
            [(n.resolved(batch: $0) + 63) / 64, strips($0), z.resolved(batch: $0)]
        }
        if order == .wholeRows {
            let workers = 8 * lowering.device.description.computeUnits
            macros.append(("WHOLE_ROWS", "1"))
            functions += "#define ROLE 2\n" + KernelText.productFinish + "#undef ROLE\n"
            lowered.scratch.append(
                workers * strip(most) * 6 * ((n.resolved(batch: most) + 63) / 64) * 64 * 4)
            arguments += [.scratch(2)] + places
            groups = { [min(workers, strips($0)), 1, 1] }
        }
        let body =
            mask.definitions(orders: orders, tileCount: "get_num_groups(0)") + KernelText.mask + KernelText.productCPU
            + KernelText.maskEnd
        guard order == .secondPass else {
            lowered.steps.append(
                .launch(
                    Launch(
                        kernel: lowering.library.add(with(finish + macros, functions + body), prefix: "product"),
                        arguments: arguments + epilogue.arguments, groups: groups, local: [1, 1, 1])))
            return
        }

        let rows = 4
        lowered.scratch.append(
            z.resolved(batch: most) * m.resolved(batch: most) * n.resolved(batch: most) * 4)
        let sorted = [
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
        lowered.steps.append(
            .launch(
                Launch(
                    kernel: lowering.library.add(with(sorted + macros, store + body), prefix: "product"),
                    arguments: arguments + [.scratch(2), .extent(m), .extent(n)], groups: groups, local: [1, 1, 1])))
        lowered.steps.append(
            .launch(
                Launch(
                    kernel: lowering.library.add(
                        with(
                            finish + [("FINISH", "1"), ("ROLE", "\(mask.role)")],
                            functions + KernelText.productFinish + KernelText.maskEnd), prefix: "finish"),
                    arguments: [.scratch(2), .extent(m), .extent(n), .integer { _ in rows }] + places
                        + epilogue.arguments,
                    groups: { [(m.resolved(batch: $0) + rows - 1) / rows, z.resolved(batch: $0)] }, local: [1, 1])))
    }
}
