import Compiler
import Graph

extension KernelFamily {
    /// How many neighbouring elements a function of a kernel takes: one, or also sixteen at once.
    var widths: [Int] { self == .gpu ? [1] : [1, 16] }
}

/// Writes a scalar program as OpenCL C, for one element or for sixteen at a time. Every instruction is a statement of its
/// own, so that no compiler contracts a product with a sum.
///
/// Registers of float32 are `float`; int32, uint8 and bool are `int`, with 0 and 1 for bool.
struct ProgramText {
    let program: Program
    /// 1 or 16.
    let width: Int
    /// Whether one element is computed by the functions of sixteen, of which it is the first. A device's `exp` of a vector may differ from
    /// that of a number in the last bit; where an element falls into a vector or behind the last whole one depends on the size of the
    /// batch, and what an example gives must not.
    let isLane: Bool

    /// - Parameter family: of kernels that take an element by itself only where sixteen are not left, or where neither can be had.
    init(program: Program, width: Int, family: KernelFamily) {
        self.program = program
        self.width = width
        isLane = width == 1 && family == .cpu && !Self.goesOneByOne(program)
    }

    var floatType: String { width == 1 ? "float" : "float16" }
    var intType: String { width == 1 ? "int" : "int16" }

    /// The type of a register.
    func type(_ register: Int) -> String { program.element(of: register) == .float32 ? floatType : intType }

    /// The statements that compute the outputs from named inputs, and the names of the outputs.
    func statements(inputs: [String], indent: String) throws -> (text: String, outputs: [String]) {
        var names = inputs
        var lines: [String] = []
        let define = { (value: String) in
            let register = names.count
            lines.append("\(indent)const \(type(register)) r\(register) = \(value);")
            names.append("r\(register)")
        }
        for constant in program.constants { define(literal(constant)) }
        for instruction in program.instructions {
            define(
                try expression(
                    instruction.function, instruction.operands.map { names[$0] },
                    instruction.operands.map { program.element(of: $0) }, instruction.element))
        }
        return (lines.map { $0 + "\n" }.joined(), program.outputs.map { names[$0] })
    }

    /// A constant as a register holds it.
    static func bits(_ constant: Program.Constant) -> Int32 {
        if constant.element == .float32 { return Int32(bitPattern: Float(constant.value).bitPattern) }
        let value = Int(exactly: constant.value.rounded(.towardZero)) ?? 0
        return constant.element == .bool ? (constant.value != 0 ? 1 : 0) : Int32(truncatingIfNeeded: value)
    }

    private func literal(_ constant: Program.Constant) -> String {
        if constant.element == .float32 { return "(\(floatType))(\(Self.literal(Float(constant.value))))" }
        let bits = Self.bits(constant)
        // The most negative number has no literal.
        return "(\(intType))(\(bits == Int32.min ? "(-2147483647 - 1)" : "\(bits)"))"
    }

    static func literal(_ value: Float) -> String {
        value.isFinite ? "\(value)f" : "as_float(0x\(String(value.bitPattern, radix: 16))u)"
    }

    /// Whether a program has functions that take one element at a time, as those that draw random numbers do.
    static func goesOneByOne(_ program: Program) -> Bool {
        program.instructions.contains { if case .single = $0.function.openCL { true } else { false } }
    }

    /// The functions of a program that are given by a body, as text that defines them for one element and for sixteen.
    static func definitions(of program: Program) -> [String] {
        program.instructions.compactMap { instruction in
            guard case .body(let body) = instruction.function.openCL else { return nil }
            return [("float", "_1"), ("float16", "_16")].map { type, suffix in
                let operands = instruction.operands.indices.map { "const \(type) x\($0)" }.joined(separator: ", ")
                let lines = body.replacing("$F", with: type).split(separator: "\n").map { "    \($0)\n" }.joined()
                return "static inline \(type) martlet_\(instruction.function.name)\(suffix)(\(operands)) {\n\(lines)}\n"
            }.joined()
        }
    }

    private func expression(
        _ function: ElementwiseFunction, _ operands: [String], _ types: [ElementType], _ result: ElementType
    ) throws -> String {
        let suffix = width == 1 && !isLane ? "_1" : "_16"
        func call(_ name: String) -> String {
            if isLane { return "\(name)(\(operands.map { "(float16)(\($0))" }.joined(separator: ", "))).s0" }
            return "\(name)(\(operands.joined(separator: ", ")))"
        }
        switch function.openCL {
        case .function(let name): return call(name)
        case .body: return call("martlet_\(function.name)\(suffix)")
        case .single(let text): return fill(text, operands)
        case .expression(let text, let integers):
            return fill(types.first == .float32 ? text : integers ?? text, operands)
        case .conversion: return cast(operands[0], from: types[0], to: function.conversion ?? result)
        }
    }

    /// A text with `$0`, `$1`, .. for operands, `$F` and `$I` for types and `$S` for the suffix of functions.
    private func fill(_ text: String, _ operands: [String]) -> String {
        var result = ""
        var rest = text[...]
        while let mark = rest.firstIndex(of: "$") {
            result += rest[..<mark]
            let name = rest[rest.index(after: mark)]
            switch name {
            case "F": result += floatType
            case "I": result += intType
            case "S": result += width == 1 ? "_1" : "_16"
            default: result += name.wholeNumberValue.map { operands[$0] } ?? "$\(name)"
            }
            rest = rest[rest.index(mark, offsetBy: 2)...]
        }
        return result + rest
    }

    private func cast(_ a: String, from source: ElementType, to target: ElementType) -> String {
        let toInt = width == 1 ? "convert_int_sat" : "convert_int16_sat"
        let toFloat = width == 1 ? "convert_float" : "convert_float16"
        switch (source, target) {
        case (.float32, .float32): return a
        case (_, .float32), (_, .float64): return "\(toFloat)(\(a))"
        case (_, .bool): return "(\(a) != 0) & 1"
        case (.float32, _):
            // The language only recommends that NaN becomes 0.
            let whole = "martlet_select(\(a) == \(a), \(toInt)(\(a)), (\(intType))(0))"
            return target == .uint8 ? "clamp(\(whole), 0, 255)" : whole
        case (.int32, .uint8): return "clamp(\(a), 0, 255)"
        default: return a
        }
    }
}
