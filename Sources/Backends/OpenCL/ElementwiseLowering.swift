import Compiler
import Graph

/// How many elements of the innermost axis a work-item of an OpenCL processor takes in one go.
private let blockLength = 4096

/// Lowers an elementwise group to one generated kernel.
///
/// GPU: a grid-stride loop over the flat index. Processor: a work-item walks blocks of the innermost axis, sixteen
/// elements at a time, the rest one by one.
func lowerElementwise(
    _ group: ElementwiseGroup, family: KernelFamily, device: DeviceDescription, library: inout KernelLibrary
) throws -> LoweredGroup {
    let nest = LoopNest(group.iteration, (group.inputs + group.outputs).map(\.strides))
    let operands = (group.inputs + group.outputs).enumerated().map { index, operand in
        OperandText(
            name: index < group.inputs.count ? "i\(index)" : "o\(index - group.inputs.count)", operand: operand,
            strides: nest.strides[index])
    }
    let inputs = operands.prefix(group.inputs.count)
    let outputs = operands.dropFirst(group.inputs.count)
    let random = ProgramText.usesRandom(group.program)
    library.use(group.program)

    var list = ParameterList()
    for operand in inputs { operand.addParameters(to: &list, isOutput: false) }
    for operand in outputs { operand.addParameters(to: &list, isOutput: true) }
    for axis in 0..<nest.rank { list.integer("n\(axis)", .extent(nest.extents[axis])) }

    /// One element, or sixteen, at index `j` of the innermost axis from the positions in `<name>_b`.
    func body(width: Int, indent: String) throws -> String {
        let inner = nest.rank - 1
        var text = ""
        var names: [String] = []
        for (index, operand) in inputs.enumerated() {
            let position = operand.position([(inner, "j")], from: "\(operand.name)_b")
            let type = ProgramText(program: group.program, width: width, family: family).type(index)
            let load = operand.load(
                position, width: width, stride: operand.strides[inner], strideText: operand.stride(inner))
            text += "\(indent)const \(type) v\(index) = \(load);\n"
            names.append("v\(index)")
        }
        let (statements, results) = try ProgramText(program: group.program, width: width, family: family)
            .statements(inputs: names, indent: indent)
        text += statements
        for (operand, result) in zip(outputs, results) {
            let position = operand.position([(inner, "j")], from: "\(operand.name)_b")
            let store = operand.store(
                result, position, width: width, stride: operand.strides[inner], strideText: operand.stride(inner))
            text += "\(indent)\(store)\n"
        }
        return text
    }

    var text: String
    let launch: Launch
    switch family {
    case .gpu:
        list.integer("count", .extent(nest.count))
        text = """
            __kernel __attribute__((reqd_work_group_size(256, 1, 1)))
            void KERNEL(\(list.declaration)) {
                for (uint flat = get_global_id(0); flat < (uint)count; flat += get_global_size(0)) {
            \(decode("flat", nest.extents, to: "x", innermost: "j"))

            """
        for operand in operands { text += basePosition(operand, axes: nest.rank - 1, indent: "        ") }
        text += try body(width: 1, indent: "        ")
        text += "    }\n}"
        let count = nest.count
        let limit = device.computeUnits * 32
        launch = Launch(
            kernel: library.add(text, prefix: "elementwise"), arguments: list.arguments,
            groups: { [min(limit, (count.resolved(batch: $0) + 255) / 256)] }, local: [256])
    case .cpu:
        let (inner, outer) = (nest.inner, nest.outerCount)
        let blocks: @Sendable (Int) -> Int = { (inner.resolved(batch: $0) + blockLength - 1) / blockLength }
        let units: @Sendable (Int) -> Int = { outer.resolved(batch: $0) * blocks($0) }
        list.integer("blocks", .integer(blocks))
        list.integer("units", .integer(units))
        text = """
            __kernel __attribute__((reqd_work_group_size(1, 1, 1)))
            void KERNEL(\(list.declaration)) {
                const int share = (units + (int)get_num_groups(0) - 1) / (int)get_num_groups(0);
                const int last = min(units, (int)(get_group_id(0) + 1) * share);
                for (int unit = get_group_id(0) * share; unit < last; unit++) {
                    const int row = unit / blocks;
                    int j = (unit - row * blocks) * \(blockLength);
                    const int stop = min(j + \(blockLength), n\(nest.rank - 1));
            \(decode("row", Array(nest.extents.dropLast()), to: "x", innermost: nil))

            """
        for operand in operands { text += basePosition(operand, axes: nest.rank - 1, indent: "        ") }
        if !random {
            text += "        for (; j + 16 <= stop; j += 16) {\n"
            text += try body(width: 16, indent: "            ")
            text += "        }\n"
        }
        text += "        for (; j < stop; j++) {\n"
        text += try body(width: 1, indent: "            ")
        text += "        }\n    }\n}"
        let workers = device.computeUnits * 4
        launch = Launch(
            kernel: library.add(text, prefix: "elementwise"), arguments: list.arguments,
            groups: { batch in
                // A hand-over costs a few microseconds: about 8192 elements' worth.
                let elements = outer.resolved(batch: batch) * inner.resolved(batch: batch)
                return [min(units(batch), workers, (elements + 8191) / 8192)]
            }, local: [1])
    }
    return LoweredGroup(steps: [.launch(launch)])
}

/// Statements that split a flat index into `x0`, `x1`, .. over `extents` (parameters `n0`, `n1`, ..); the innermost may
/// have a name of its own.
func decode(
    _ flat: String, _ extents: [Extent], to prefix: String, innermost: String?, sizes: String = "n", first: Int = 0
) -> String {
    guard !extents.isEmpty else { return "" }
    let name = { (axis: Int) in axis == extents.count - 1 && innermost != nil ? innermost! : "\(prefix)\(first + axis)"
    }
    var lines: [String] = []
    var rest = flat
    for axis in stride(from: extents.count - 1, to: 0, by: -1) {
        let next = "\(prefix)r\(first + axis)"
        lines.append("        const int \(next) = (int)(\(rest)) / \(sizes)\(first + axis);")
        lines.append("        const int \(name(axis)) = (int)(\(rest)) - \(next) * \(sizes)\(first + axis);")
        rest = next
    }
    lines.append("        const int \(name(0)) = (int)(\(rest));")
    return lines.joined(separator: "\n")
}

/// A statement that puts the position of an operand, as far as its first `axes` axes decide it, into `<name>_b`.
func basePosition(_ operand: OperandText, axes: Int, indent: String) -> String {
    "\(indent)const int \(operand.name)_b = \(operand.position((0..<axes).map { ($0, "x\($0)") }));\n"
}
