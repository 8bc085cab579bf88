import Compiler
import Graph

extension ElementwiseGroup: OpenCLGroup {
    /// One generated kernel.
    public func lower(
        label: String, location: SourceLocation?, _ lowering: inout LoweringContext
    ) throws -> LoweredGroup {
        try lower(&lowering)
    }

    /// - Parameters:
    ///   - function: text in front of the kernel that the program's functions call.
    ///   - further: parameters that these functions need.
    func lower(
        _ lowering: inout LoweringContext, after function: String = "", further: ParameterList = ParameterList()
    ) throws -> LoweredGroup {
        lowering.use(program)
        let emitter = ElementwiseLowering(self, family: lowering.family, computeUnits: lowering.computeUnits)
        let (text, parameters) = try emitter.kernel(further)
        let name = lowering.kernel(function + text, prefix: "elementwise")
        let local = lowering.family == .gpu ? 256 : 1
        return LoweredGroup(steps: [
            .launch(name, parameters.arguments, groups: emitter.groups, local: [local])
        ])
    }
}

/// Writes the kernel of an elementwise group.
///
/// GPU: a loop over the flat index, in strides of the whole grid. Processor: a work-item walks blocks of the innermost axis, sixteen
/// elements at a time, the rest one by one.
private struct ElementwiseLowering {
    let program: Program
    let family: KernelFamily
    let computeUnits: Int
    let nest: LoopNest
    let inputs: [OperandText]
    let outputs: [OperandText]

    /// How many elements of the innermost axis a work-item of an OpenCL processor takes in one go.
    private static let blockLength = 4096

    init(_ group: ElementwiseGroup, family: KernelFamily, computeUnits: Int) {
        program = group.program
        self.family = family
        self.computeUnits = computeUnits
        let nest = LoopNest(group.iteration, (group.inputs + group.outputs).map(\.strides))
        self.nest = nest
        let count = group.inputs.count
        inputs = group.inputs.enumerated().map {
            OperandText(name: "i\($0)", operand: $1, strides: nest.strides[$0])
        }
        outputs = group.outputs.enumerated().map {
            OperandText(name: "o\($0)", operand: $1, strides: nest.strides[count + $0])
        }
    }

    /// The kernel's text and what its parameters are bound to.
    func kernel(_ further: ParameterList) throws -> (text: String, parameters: ParameterList) {
        var list = further
        for operand in inputs { operand.addParameters(to: &list, isOutput: false) }
        for operand in outputs { operand.addParameters(to: &list, isOutput: true) }
        for axis in 0..<nest.rank { list.integer("n\(axis)", .extent(nest.extents[axis])) }
        switch family {
        case .gpu:
            list.integer("count", .extent(nest.count))
            return (try gpuText(list), list)
        case .cpu:
            list.integer("blocks", .integer(blocks))
            list.integer("units", .integer(units))
            return (try processorText(list), list)
        }
    }

    /// Work-groups for a batch.
    var groups: @Sendable (_ batch: Int) -> [Int] {
        let (count, units, computeUnits) = (nest.count, units, computeUnits)
        switch family {
        case .gpu: return { [min(computeUnits * 32, (count.resolved(batch: $0) + 255) / 256)] }
        // A hand-over costs a few microseconds: about 8192 elements' worth.
        case .cpu: return { [min(units($0), computeUnits * 4, (count.resolved(batch: $0) + 8191) / 8192)] }
        }
    }

    /// Blocks of the innermost axis.
    private var blocks: @Sendable (Int) -> Int {
        let inner = nest.inner
        return { (inner.resolved(batch: $0) + Self.blockLength - 1) / Self.blockLength }
    }

    /// Blocks of all rows.
    private var units: @Sendable (Int) -> Int {
        let (outer, blocks) = (nest.outerCount, blocks)
        return { outer.resolved(batch: $0) * blocks($0) }
    }

    private func gpuText(_ list: ParameterList) throws -> String {
        """
        __kernel __attribute__((reqd_work_group_size(256, 1, 1)))
        void KERNEL(\(list.declaration)) {
            for (uint flat = get_global_id(0); flat < (uint)count; flat += get_global_size(0)) {
        \(decode("flat", nest.extents, to: "x", innermost: "j"))
        \(rowPositions)\(try elements(width: 1, indent: "        "))    }
        }
        """
    }

    private func processorText(_ list: ParameterList) throws -> String {
        """
        __kernel __attribute__((reqd_work_group_size(1, 1, 1)))
        void KERNEL(\(list.declaration)) {
            const int share = (units + (int)get_num_groups(0) - 1) / (int)get_num_groups(0);
            const int last = min(units, (int)(get_group_id(0) + 1) * share);
            for (int unit = get_group_id(0) * share; unit < last; unit++) {
                const int row = unit / blocks;
                int j = (unit - row * blocks) * \(Self.blockLength);
                const int stop = min(j + \(Self.blockLength), n\(nest.rank - 1));
        \(decode("row", Array(nest.extents.dropLast()), to: "x", innermost: nil))
        \(rowPositions)\(try vectorLoop())        for (; j < stop; j++) {
        \(try elements(width: 1, indent: "            "))        }
            }
        }
        """
    }

    /// Sixteen elements at a time; random numbers are drawn one by one.
    private func vectorLoop() throws -> String {
        if ProgramText.goesOneByOne(program) { return "" }
        return """
                    for (; j + 16 <= stop; j += 16) {
            \(try elements(width: 16, indent: "            "))        }

            """
    }

    /// Where each operand's row begins, in `<name>_b`.
    private var rowPositions: String { basePositions(inputs + outputs, axes: nest.rank - 1, indent: "        ") }

    /// One element, or sixteen, at index `j` of the innermost axis.
    private func elements(width: Int, indent: String) throws -> String {
        let inner = nest.rank - 1
        return try ProgramText(program: program, width: width, family: family).throughMemory(
            inputs: inputs, as: "v", outputs: outputs, along: inner, indent: indent
        ) { $0.position([(inner, "j")], from: "\($0.name)_b") }
    }
}
