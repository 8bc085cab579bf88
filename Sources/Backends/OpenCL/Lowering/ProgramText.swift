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
        isLane = width == 1 && family == .cpu && !Self.usesRandom(program)
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

    /// Whether a program draws random numbers; those functions work on one element at a time.
    static func usesRandom(_ program: Program) -> Bool {
        program.instructions.contains { [.philox, .uniformFromBits, .normalFromBits].contains($0.function) }
    }

    private func expression(
        _ function: ElementwiseFunction, _ operands: [String], _ types: [ElementType], _ result: ElementType
    ) throws -> String {
        let suffix = width == 1 && !isLane ? "_1" : "_16"
        func call(_ name: String) -> String {
            if isLane { return "\(name)(\(operands.map { "(float16)(\($0))" }.joined(separator: ", "))).s0" }
            return "\(name)(\(operands.joined(separator: ", ")))"
        }
        let a = operands.first ?? "0"
        let b = operands.count > 1 ? operands[1] : "0"
        let isFloat = types.first == .float32
        switch function {
        case .negate: return "-\(a)"
        case .absolute: return isFloat ? "fabs(\(a))" : "martlet_select(\(a) < 0, -\(a), \(a))"
        case .sign: return isFloat ? call("martlet_sign\(suffix)") : "((\(a) > 0) & 1) - ((\(a) < 0) & 1)"
        case .sqrt, .floor: return "\(function)(\(a))"
        case .exp, .log, .log1p, .expm1, .tanh, .sin, .cos, .erf: return call("\(function)")
        case .sigmoid, .softplus, .hazard: return call("martlet_\(function)\(suffix)")
        case .relu: return "martlet_select(\(a) < 0, (\(isFloat ? floatType : intType))(0), \(a))"
        case .isFinite: return isFloat ? "(fabs(\(a)) < (\(floatType))(INFINITY)) & 1" : "(\(intType))(1)"
        case .logicalNot: return "(\(a) == 0) & 1"
        case .cast(let target): return cast(a, from: types[0], to: target)
        case .stopGradient: return a
        case .add: return "\(a) + \(b)"
        case .subtract: return "\(a) - \(b)"
        case .multiply: return "\(a) * \(b)"
        case .divide: return isFloat ? "\(a) / \(b)" : "martlet_divide\(width == 1 ? "_1" : "_16")(\(a), \(b))"
        case .power: return call("pow")
        case .maximum: return "MARTLET_MAXIMUM(\(a), \(b))"
        case .minimum: return "MARTLET_MINIMUM(\(a), \(b))"
        case .less: return "(\(a) < \(b)) & 1"
        case .lessEqual: return "(\(a) <= \(b)) & 1"
        case .equal: return "(\(a) == \(b)) & 1"
        case .logicalAnd: return "\(a) & \(b)"
        case .logicalOr: return "\(a) | \(b)"
        case .select: return "martlet_select(\(a) != 0, \(b), \(operands[2]))"
        case .philox:
            // key low, key high, stream, step, example, variable; the counter is (variable, example, step, stream).
            let words = [0, 1, 5, 4, 3, 2].map { "(uint)\(operands[$0])" }.joined(separator: ", ")
            return "(int)martlet_philox(\(words)).x"
        case .uniformFromBits: return "martlet_uniform((uint)\(a))"
        case .normalFromBits: return "martlet_normal((uint)\(a))"
        }
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
