import Compiler
import Graph

extension ProductGroup: OpenCLGroup {
    /// A product, masked or not, with its epilogue.
    public func lower(
        label: String, location: SourceLocation?, _ lowering: inout LoweringContext
    ) throws -> LoweredGroup {
        let product = try ProductLowering(self, label: label)
        lowering.use(epilogue)
        switch lowering.family {
        case .gpu: return try ProductGPU(product, &lowering).lower(&lowering)
        case .cpu: return try ProductProcessor(product, &lowering).lower(&lowering)
        }
    }
}

/// What the kernels of both families say of a product: its operands, and its epilogue as functions.
struct ProductLowering {
    let group: ProductGroup
    let label: String
    /// The axes before m and n, or m and k, or k and n.
    let nest: LoopNest
    let a: OperandText
    let b: OperandText
    let epilogueInputs: [OperandText]
    let outputs: [OperandText]

    init(_ group: ProductGroup, label: String) throws {
        guard group.a.element == .float32, group.b.element == .float32 else {
            throw OpenCLError.unsupported(
                "\(label): products on OpenCL devices take float32, found \(group.a.element) and \(group.b.element); "
                    + "cast the operands, or use `--device cpu`")
        }
        self.group = group
        self.label = label
        let rank = group.batch.count
        let inputs = group.epilogueInputs.count
        let operands = [group.a, group.b] + group.epilogueInputs + group.outputs
        let names =
            ["a", "b"] + (0..<inputs).map { "e\($0)" } + group.outputs.indices.map { "o\($0)" }
        let nest = LoopNest(group.batch, operands.map { Array($0.strides.prefix(rank)) })
        self.nest = nest
        let texts = operands.indices.map {
            OperandText(
                name: names[$0], operand: operands[$0], strides: nest.strides[$0] + operands[$0].strides.suffix(2))
        }
        (a, b) = (texts[0], texts[1])
        epilogueInputs = Array(texts[2..<2 + inputs])
        outputs = Array(texts[(2 + inputs)...])
    }

    /// The first of an operand's last two axes: m of A and of the result, k of B.
    var mAxis: Int { nest.rank }
    /// The second: k of A, n of B and of the result.
    var nAxis: Int { nest.rank + 1 }

    /// The position of `operand` in batch `z`: an expression over the parameters zn0, zn1, ...
    func base(_ operand: OperandText) -> String {
        var terms = ["\(operand.name)_o"]
        for axis in 0..<nest.rank where operand.strides[axis] != 0 {
            let after = (axis + 1..<nest.rank).map { "zn\($0)" }.joined(separator: " * ")
            var index = after.isEmpty ? "(z)" : "((z) / (\(after)))"
            if axis > 0 { index = "(\(index) % zn\(axis))" }
            terms.append("\(index) * \(operand.stride(axis))")
        }
        return terms.joined(separator: " + ")
    }

    func isBatched(_ operand: OperandText) -> Bool { operand.strides.prefix(nest.rank).contains { $0 != 0 } }

    /// The sizes zn0, zn1, .. that `base` uses.
    func addBatchSizes(to list: inout ParameterList) {
        for axis in 0..<nest.rank { list.integer("zn\(axis)", .extent(nest.extents[axis])) }
    }

    /// The parameters of an operand alone.
    func parameters(of operand: OperandText, withBatchSizes: Bool = false) -> ParameterList {
        var list = ParameterList()
        if withBatchSizes { addBatchSizes(to: &list) }
        operand.addParameters(to: &list, isOutput: false)
        return list
    }

    var epilogueParameters: ParameterList {
        var list = ParameterList()
        addBatchSizes(to: &list)
        for operand in epilogueInputs { operand.addParameters(to: &list, isOutput: false) }
        for operand in outputs { operand.addParameters(to: &list, isOutput: true) }
        return list
    }

    /// Tiles' worth of sixteen steps of k without a mask.
    func denseSteps(rows: Int, columns: Int) -> @Sendable (Int) -> Int {
        let (m, n, k, z) = (group.m, group.n, group.k, nest.count)
        return { batch in
            (m.resolved(batch: batch) + rows - 1) / rows * ((n.resolved(batch: batch) + columns - 1) / columns)
                * ((k.resolved(batch: batch) + 15) / 16) * z.resolved(batch: batch)
        }
    }
}

// MARK: - The epilogue

extension ProductLowering {
    /// Functions that take one product, or sixteen neighbours, through the epilogue. `m` and, for a single product, `n`
    /// are places in memory; the sixteen are at `n` or, where columns are permuted, at `nOrder[n]`.
    func epilogueText(_ family: KernelFamily, hasColumnOrder: Bool) throws -> String {
        try family.widths.map { width in
            let writer = ProgramText(program: group.epilogue, width: width, family: family)
            let isPermuted = width == 16 && hasColumnOrder
            return """
                static inline void MARTLET_NAME(KERNEL, _epilogue\(width))(
                    const int m, const int n, const int z, const \(writer.floatType) product\(isPermuted ? ", __global const int* nOrder" : "")
                    EPILOGUE_PARAMETERS) {
                \(try epilogueBody(writer, isPermuted: isPermuted))}

                """
        }.joined()
    }

    private func epilogueBody(_ writer: ProgramText, isPermuted: Bool) throws -> String {
        // Random numbers are drawn one by one.
        if writer.width == 16, ProgramText.goesOneByOne(group.epilogue) { return oneByOne(isPermuted: isPermuted) }
        if isPermuted { return try permuted(writer) }
        return try writer.throughMemory(
            given: ["product"], inputs: epilogueInputs, as: "y", outputs: outputs, along: nAxis, indent: "    "
        ) { $0.position([(mAxis, "m"), (nAxis, "n")], from: base($0)) }
    }

    /// Sixteen products by the function of one.
    private func oneByOne(isPermuted: Bool) -> String {
        """
            float lanes[16];
            vstore16(product, 0, lanes);
            for (int i = 0; i < 16; i++) {
                MARTLET_NAME(KERNEL, _epilogue1)(m, \(isPermuted ? "nOrder[n + i]" : "n + i"), z, lanes[i] EPILOGUE_ARGUMENTS);
            }

        """
    }

    /// Sixteen products whose columns lie anywhere in a row.
    private func permuted(_ writer: ProgramText) throws -> String {
        let loads = epilogueInputs.enumerated().map { index, operand in
            "    const \(writer.type(index + 1)) y\(index) = \(permutedLoad(operand, writer.type(index + 1)));\n"
        }
        let (statements, results) = try writer.statements(
            inputs: ["product"] + epilogueInputs.indices.map { "y\($0)" }, indent: "    ")
        let stores = zip(outputs, results).map { operand, result in
            "    { const int16 places = \(permutedPlaces(operand)); MARTLET_SCATTER_AT(\(operand.storage), \(operand.name), places, \(result)); }\n"
        }
        return "    const int16 at = vload16(0, nOrder + n);\n" + loads.joined() + statements + stores.joined()
    }

    private func rowPosition(_ operand: OperandText) -> String { operand.position([(mAxis, "m")], from: base(operand)) }

    private func permutedPlaces(_ operand: OperandText) -> String {
        "((int16)(\(rowPosition(operand))) + at * (int16)(\(operand.stride(nAxis))))"
    }

    private func permutedLoad(_ operand: OperandText, _ type: String) -> String {
        guard operand.strides[nAxis] != 0 else {
            return operand.load(
                rowPosition(operand), width: 16, stride: operand.strides[nAxis], strideText: operand.stride(nAxis))
        }
        let places = permutedPlaces(operand)
        return operand.operand.value == nil ? places : "MARTLET_GATHER_AT(\(type), \(operand.name), \(places))"
    }
}
