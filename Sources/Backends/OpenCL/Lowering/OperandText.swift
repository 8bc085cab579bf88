import Compiler
import Graph

/// An operand as generated code reaches it: a pointer, an offset and strides over one loop nest or several.
struct OperandText {
    let name: String
    let operand: Operand
    /// Over all axes of the nests it is used with, in order.
    let strides: [Extent]

    /// The type of a stored element.
    var storage: String { elementStorage(operand.element) }

    /// Adds the pointer, the offset and the strides that are neither 0 nor 1 to a kernel's parameters.
    func addParameters(to list: inout ParameterList, isOutput: Bool) {
        if let value = operand.value { list.pointer(storage, name, .value(value), constant: !isOutput) }
        list.integer("\(name)_o", .sum(operand.offset))
        for (axis, stride) in strides.enumerated() where stride != 0 && stride != 1 {
            list.integer("\(name)_s\(axis)", .extent(stride))
        }
    }

    /// The term of one axis, `nil` where it does not move the operand.
    func term(_ axis: Int, _ index: String) -> String? {
        if strides[axis] == 0 { return nil }
        return strides[axis] == 1 ? index : "\(index) * \(name)_s\(axis)"
    }

    /// The stride along an axis as an expression.
    func stride(_ axis: Int) -> String {
        strides[axis] == 0 ? "0" : strides[axis] == 1 ? "1" : "\(name)_s\(axis)"
    }

    /// The offset plus the terms of the given axes.
    func position(_ indices: [(axis: Int, index: String)], from start: String? = nil) -> String {
        ([start ?? "\(name)_o"] + indices.compactMap { term($0.axis, $0.index) }).joined(separator: " + ")
    }

    /// An expression for the register of this operand at `position`; with `width` 16, of sixteen elements `stride` apart.
    func load(_ position: String, width: Int, stride: Extent, strideText: String) -> String {
        guard operand.value != nil else {
            return width == 1 ? position : "((int16)(\(position)) + martlet_lanes * (int16)(\(strideText)))"
        }
        let isFloat = operand.element == .float32
        if width == 1 { return isFloat ? "\(name)[\(position)]" : "(int)\(name)[\(position)]" }
        let vector = isFloat ? "float16" : "int16"
        if stride == 0 { return "(\(vector))(\(name)[\(position)])" }
        let isByte = operand.element.byteCount == 1
        if stride == 1 {
            let loaded = "vload16(0, \(name) + (\(position)))"
            return isByte ? "convert_int16(\(loaded))" : loaded
        }
        let gathered = "MARTLET_GATHER(\(isByte ? "int16" : vector), \(name), (\(position)), (\(strideText)))"
        return gathered
    }

    /// A statement that stores a register.
    func store(_ register: String, _ position: String, width: Int, stride: Extent, strideText: String) -> String {
        let isByte = operand.element.byteCount == 1
        if width == 1 { return "\(name)[\(position)] = \(isByte ? "(uchar)" : "")\(register);" }
        if stride == 1 {
            return "vstore16(\(isByte ? "convert_uchar16(\(register))" : register), 0, \(name) + (\(position)));"
        }
        return "MARTLET_SCATTER(\(storage), \(name), (\(position)), (\(strideText)), \(register));"
    }
}

/// The OpenCL type of an element in memory.
func elementStorage(_ element: ElementType) -> String {
    switch element {
    case .float32, .float64: "float"
    case .int32: "int"
    case .uint8, .bool: "uchar"
    }
}

extension ProgramText {
    /// The program from memory to memory: operands are loaded, what is `given` are the registers before them, and the results are stored.
    ///
    /// - Parameters:
    ///   - prefix: of the names of the loaded registers.
    ///   - axis: where sixteen elements are taken, the axis along which they lie.
    ///   - position: where an operand's element is.
    func throughMemory(
        given: [String] = [], inputs: [OperandText], as prefix: String, outputs: [OperandText], along axis: Int,
        indent: String, at position: (OperandText) -> String
    ) throws -> String {
        let names = given + inputs.indices.map { "\(prefix)\($0)" }
        let loads = loads(inputs, as: prefix, behind: given.count, along: axis, indent: indent, at: position)
        let (statements, results) = try statements(inputs: names, indent: indent)
        let stores = zip(outputs, results).map {
            "\(indent)\(store($0, $1, along: axis, at: position($0)))\n"
        }
        return loads + statements + stores.joined()
    }

    /// Statements that load operands into registers `<prefix>0`, `<prefix>1`, .., the program's registers from `first` on.
    func loads(
        _ operands: [OperandText], as prefix: String, behind first: Int, along axis: Int, indent: String,
        at position: (OperandText) -> String
    ) -> String {
        operands.enumerated().map { index, operand in
            let load = operand.load(
                position(operand), width: width, stride: operand.strides[axis], strideText: operand.stride(axis))
            return "\(indent)const \(type(first + index)) \(prefix)\(index) = \(load);\n"
        }.joined()
    }

    /// A statement that stores a register.
    func store(_ operand: OperandText, _ register: String, along axis: Int, at position: String) -> String {
        operand.store(
            register, position, width: width, stride: operand.strides[axis], strideText: operand.stride(axis))
    }
}

// MARK: - Indices

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

/// Statements that put the position of each operand, as far as its first `axes` axes decide it, into `<name>_b`.
func basePositions(_ operands: [OperandText], axes: Int, indent: String) -> String {
    operands.map {
        "\(indent)const int \($0.name)_b = \($0.position((0..<axes).map { ($0, "x\($0)") }));\n"
    }.joined()
}
