import Compiler
import Graph

/// The axes of an iteration, merged wherever every operand walks two of them as one.
///
/// Extents and strides are monomials in the batch, so merging is decided once for every batch size.
struct LoopNest {
    /// Outermost first; never empty.
    private(set) var extents: [Extent]
    /// Of each operand, over `extents`.
    private(set) var strides: [[Extent]]

    init(_ iteration: [Extent], _ operands: [[Extent]]) {
        var extents: [Extent] = []
        var strides = operands.map { _ in [Extent]() }
        for (axis, extent) in iteration.enumerated() where !extent.isOne {
            if let last = extents.indices.last,
                operands.indices.allSatisfy({ strides[$0][last] == operands[$0][axis] * extent })
            {
                extents[last] = extents[last] * extent
                for operand in operands.indices { strides[operand][last] = operands[operand][axis] }
            } else {
                extents.append(extent)
                for operand in operands.indices { strides[operand].append(operands[operand][axis]) }
            }
        }
        if extents.isEmpty {
            extents = [1]
            strides = operands.map { _ in [0] }
        }
        self.extents = extents
        self.strides = strides
    }

    var rank: Int { extents.count }
    var inner: Extent { extents[extents.count - 1] }
    var count: Extent { extents.reduce(1, *) }
    /// The product of all extents but the innermost.
    var outerCount: Extent { extents.dropLast().reduce(1, *) }
}

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
