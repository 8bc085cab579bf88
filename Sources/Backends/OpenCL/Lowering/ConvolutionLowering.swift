import Compiler
import Graph

extension ConvolutionGroup: OpenCLGroup {
    /// A convolution, masked or not, with its epilogue.
    public func lower(
        label: String, location: SourceLocation?, _ lowering: inout LoweringContext
    ) throws -> LoweredGroup {
        lowering.use(epilogue)
        let convolution = try ConvolutionLowering(self, label: label)
        switch lowering.family {
        case .gpu: return try convolution.lowerGPU(&lowering)
        case .cpu: return try convolution.lowerCPU(&lowering)
        }
    }
}

/// What the kernels of both families say of a convolution: its operands, and its epilogue as functions.
struct ConvolutionLowering {
    let group: ConvolutionGroup
    let label: String
    let walk: ConvolutionTaps
    /// The spatial axes of the result, or the planes and taps of a row of weights.
    private let nest: LoopNest
    /// Over image, channel and three axes.
    let a: OperandText
    let b: OperandText
    private let epilogueInputs: [OperandText]
    private let outputs: [OperandText]

    init(_ group: ConvolutionGroup, label: String) throws {
        guard group.a.element == .float32, group.b.element == .float32 else {
            throw OpenCLError.unsupported(
                "\(label): convolutions on OpenCL devices take float32, found \(group.a.element) and \(group.b.element); "
                    + "cast the operands, or use `--device cpu`")
        }
        self.group = group
        self.label = label
        walk = ConvolutionTaps(group.geometry, group.mask, isTransposed: group.role == .inputGradient)
        let isGradient = group.role == .weightGradient
        let lead = isGradient ? 1 : 2
        let operands = group.epilogueInputs + group.outputs
        let nest = LoopNest(Array(group.shape[lead...]), operands.map { Array($0.strides[lead...]) })
        self.nest = nest
        let count = group.epilogueInputs.count
        let texts = operands.enumerated().map { index, operand in
            OperandText(
                name: index < count ? "e\(index)" : "o\(index - count)", operand: operand,
                strides: (isGradient ? [0] : []) + operand.strides[..<lead] + nest.strides[index])
        }
        epilogueInputs = Array(texts[..<count])
        outputs = Array(texts[count...])
        let five = { (name: String, operand: Operand) in
            OperandText(
                name: name, operand: operand,
                strides: operand.strides + [Extent](repeating: 0, count: 5 - operand.strides.count))
        }
        // The planes are always b; a is the weight, or the gradient of the result.
        a = five("a", isGradient ? group.a : group.b)
        b = five("b", isGradient ? group.b : group.a)
    }

    /// Whether positions behind the rows are places in memory for every operand of the epilogue.
    var isFlat: Bool { nest.rank == 1 }

    var epilogueParameters: ParameterList {
        var list = ParameterList()
        for axis in 0..<nest.rank { list.integer("qn\(axis)", .extent(nest.extents[axis])) }
        for operand in epilogueInputs { operand.addParameters(to: &list, isOutput: false) }
        for operand in outputs { operand.addParameters(to: &list, isOutput: true) }
        return list
    }

    /// Functions that take one element of the result, or sixteen neighbours, through the epilogue.
    func epilogueText(_ family: KernelFamily) throws -> String {
        let values = (0..<group.sections).map { "value\($0)" }
        return try family.widths.map { width in
            let writer = ProgramText(program: group.epilogue, width: width, family: family)
            let isSplit = width == 16 && (ProgramText.goesOneByOne(group.epilogue) || !isFlat)
            return """
                static inline void MARTLET_NAME(KERNEL, _epilogue\(width))(
                    const int z, const int m, const int n, \(values.map { "const \(writer.floatType) \($0)" }.joined(separator: ", ")) EPILOGUE_PARAMETERS) {
                \(isSplit ? oneByOne(values) : try inMemory(values, writer))}

                """
        }.joined()
    }

    /// Sixteen elements by the function of one.
    private func oneByOne(_ values: [String]) -> String {
        values.map { "    float lanes_\($0)[16];\n    vstore16(\($0), 0, lanes_\($0));\n" }.joined() + """
                for (int i = 0; i < 16; i++) {
                    MARTLET_NAME(KERNEL, _epilogue1)(
                        z, m, n + i, \(values.map { "lanes_\($0)[i]" }.joined(separator: ", ")) EPILOGUE_ARGUMENTS);
                }

            """
    }

    private func inMemory(_ values: [String], _ writer: ProgramText) throws -> String {
        try decode("n", nest.extents, to: "x", innermost: nil, sizes: "qn") + "\n"
            + writer.throughMemory(
                given: values, inputs: epilogueInputs, as: "y", outputs: outputs, along: nest.rank + 1,
                indent: "    "
            ) { operand in
                operand.position([(0, "z"), (1, "m")] + (0..<nest.rank).map { ($0 + 2, "x\($0)") })
            }
    }

    /// Strides of a weight, which no batch may change.
    func weightStrides() throws -> [Int] {
        let strides = group.role == .weightGradient ? Shape(group.geometry.weightShape).strides : group.b.strides
        guard strides.allSatisfy(\.isStatic) else {
            throw OpenCLError.unsupported("\(label): a convolution's weights cannot depend on the batch")
        }
        return strides.map(\.coefficient)
    }

    // MARK: - GPU

    /// The memory, offset and strides of a and b, all as parameters, so that one text serves every shape.
    func operandParameters() -> ParameterList {
        var list = ParameterList()
        for text in [a, b] {
            guard let value = text.operand.value else { continue }
            list.pointer("float", text.name, .value(value), constant: true)
            list.integer("\(text.name)_o", .sum(text.operand.offset))
            for (axis, stride) in text.strides.enumerated() { list.integer("\(text.name)_s\(axis)", .extent(stride)) }
        }
        return list
    }

    /// Pixels of a pass and the source that they read.
    private func pixelArguments(_ pass: ConvolutionTaps.Pass) -> [LaunchArgument] {
        let count = pass.counts.reduce(1, *)
        let fixed = [count, pass.counts[1], pass.counts[2]] + walk.sourceStep + walk.source
        return [.extent(group.batch * Extent(count))] + fixed.map { .extent(Extent($0)) }
    }

    func lowerGPU(_ lowering: inout LoweringContext) throws -> LoweredGroup {
        var lowered = LoweredGroup()
        let strides = try weightStrides()
        let operands = operandParameters()
        let macros = [("OPERAND_PARAMETERS", operands.further)]
        if group.role == .weightGradient {
            try lowerGradient(&lowered, macros, operands.arguments, &lowering)
            return lowered
        }
        let epilogue = epilogueParameters
        for pass in walk.passes where pass.counts.allSatisfy({ $0 > 0 }) {
            let pixels = group.batch * Extent(pass.counts.reduce(1, *))
            let tile = tile(columns: pixels, lowering)
            let size = tile.size
            let tables = ConvolutionTables(
                walk, pass, tile: size, weightStrides: strides, holdsBothHalves: group.sections == 2)
            var own =
                macros + epilogueMacros(epilogue) + [
                    ("SUMS", "1"), ("TILE", "\(size)"), ("DEPTH", "\(tile.depth)"),
                    ("WEIGHT_ROW", walk.isTransposed ? "a_s1" : "a_s0"),
                    ("LIVE_PARAMETER", walk.hasChannelMask ? ", __global const uint* live" : ""),
                ]
            if !walk.isTransposed { own.append(("UNIT_A", "1")) }
            if group.sections == 2 { own.append(("HALVES", "1")) }
            if walk.hasChannelMask { own.append(("CHANNELS", "1")) }
            var arguments = pixelArguments(pass)
            arguments += (walk.resultStep + pass.phase + [walk.result[1], walk.result[2], walk.rows / 2]).map {
                .extent(Extent($0))
            }
            for table in [tables.blocks, tables.steps, tables.weights] + (walk.hasChannelMask ? [tables.live] : []) {
                arguments.append(lowering.table(table.isEmpty ? [0, 0, 0, 0] : table))
            }
            let text = with(own, try epilogueText(.gpu) + KernelText.convolutionGPU)
            let blocks = tables.blockCount
            lowered.steps.append(
                .launch(
                    lowering.kernel(text, prefix: "convolution"),
                    arguments + operands.arguments + epilogue.arguments,
                    groups: { [(pixels.resolved(batch: $0) + size - 1) / size, blocks] }, local: [16, 16, 1]))
        }
        return lowered
    }

    /// A mask of channels keeps 64 bits for the rows of a tile; halves of a result that belong together lie in runs of four rows.
    private func tile(columns: Extent, _ lowering: LoweringContext) -> GPUTile {
        .best(
            rows: walk.rowsPerGroup, columns: columns.resolved(batch: lowering.maximumBatch),
            count: group.geometry.groups, units: lowering.computeUnits
        ) { !(walk.hasChannelMask && $0.size > 64) && !(group.sections == 2 && $0.size < 64) }
    }

    /// Pixels of one part of a weight gradient: a function of the shapes and the batch alone.
    private static let partPixels = 2048
    private static let mostParts = 32

    private func lowerGradient(
        _ lowered: inout LoweredGroup, _ macros: Macros, _ operands: [LaunchArgument],
        _ lowering: inout LoweringContext
    ) throws {
        let pass = walk.passes[0]
        let count = pass.counts.reduce(1, *)
        let pixels = group.batch * Extent(count)
        let parts: @Sendable (Int) -> Int = {
            max(1, min(Self.mostParts, (pixels.resolved(batch: $0) + Self.partPixels - 1) / Self.partPixels))
        }
        let length: @Sendable (Int) -> Int = { (pixels.resolved(batch: $0) + parts($0) - 1) / parts($0) }
        let rowLength = walk.planesPerGroup * group.geometry.tapCount
        let tile = GPUTile.best(
            rows: walk.rowsPerGroup, columns: rowLength, count: group.geometry.groups * parts(lowering.maximumBatch),
            units: lowering.computeUnits)
        let size = tile.size
        let tables = ConvolutionTables(walk, pass, tile: size, weightStrides: try weightStrides())
        let (rows, width, blocks) = (walk.rows, max(1, tables.longest), tables.blockCount)
        lowered.scratch = [parts(lowering.maximumBatch) * rows * width * 4]
        if tables.longest > 0 {
            let text = with(
                macros + [("GRADIENT", "1"), ("TILE", "\(size)"), ("DEPTH", "\(tile.depth)")], KernelText.convolutionGPU
            )
            let arguments: [LaunchArgument] =
                pixelArguments(pass) + [
                    .integer(length), .extent(Extent(rows)), .extent(Extent(width)),
                    lowering.table(tables.blocks), lowering.table(tables.steps),
                    .scratch(0),
                ]
            lowered.steps.append(
                .launch(
                    lowering.kernel(text, prefix: "convolution"), arguments + operands,
                    groups: { [(width + size - 1) / size, blocks, parts($0)] }, local: [16, 16, 1]))
        }
        let epilogue = epilogueParameters
        let finish = with(
            epilogueMacros(epilogue) + [("FINISH", "1"), ("TILE", "64"), ("DEPTH", "16")],
            try epilogueText(.gpu) + KernelText.convolutionGPU)
        let fixed = [rows * rowLength, rowLength, rows, width].map { LaunchArgument.extent(Extent($0)) }
        let columnOf = lowering.table(tables.columns(walk, pass))
        lowered.steps.append(
            .launch(
                lowering.kernel(finish, prefix: "finish"),
                fixed + [.integer(parts), columnOf, .scratch(0)] + epilogue.arguments,
                groups: { _ in [(rows * rowLength + 63) / 64] }, local: [64]))
    }
}
