import Kernels

// The table of elementwise functions: one row for each.

// MARK: One operand

extension ElementwiseFunction {
    public static let negate: ElementwiseFunction = ElementwiseFunction(
        "negate", cost: .little, types: numbers,
        meaning: .unary { x, type in type == .int32 ? Double(0 &- Int32(x)) : -x },
        simplified: { x, _, _ in x[0].operands(of: .negate)?[0] }, gradient: { _, _, g in [-g] },
        openCL: .expression("-$0"))

    public static let absolute = ElementwiseFunction(
        "absolute", cost: .little, types: numbers,
        meaning: .unary { x, type in
            type == .int32 ? Double(Int32(x) < 0 ? 0 &- Int32(x) : Int32(x)) : x.magnitude
        },
        gradient: { x, _, g in [g * x[0].apply(.sign)] },
        openCL: .expression("fabs($0)", integers: "martlet_select($0 < 0, -$0, $0)"))

    /// -1, 0 or 1; NaN where x is.
    public static let sign = ElementwiseFunction(
        "sign", types: numbers, meaning: .unary { x, _ in x > 0 ? 1 : x < 0 ? -1 : x }, gradient: noGradient,
        openCL: .expression(
            "martlet_select($0 > ($F)(0.0f), ($F)(1.0f), martlet_select($0 < ($F)(0.0f), ($F)(-1.0f), $0))",
            integers: "(($0 > 0) & 1) - (($0 < 0) & 1)"))

    public static let exp = ElementwiseFunction(
        "exp", cost: .transcendental, meaning: .unary { x, _ in Math.exp(x) }, gradient: { _, y, g in [g * y] },
        openCL: .function("exp"))

    public static let log = ElementwiseFunction(
        "log", cost: .transcendental, meaning: .unary { x, _ in Math.log(x) }, gradient: { x, _, g in [g / x[0]] },
        openCL: .function("log"))

    /// log(1 + x)
    public static let log1p = ElementwiseFunction(
        "log1p", cost: .transcendental, meaning: .unary { x, _ in Math.log1p(x) },
        gradient: { x, _, g in [g / (x[0] + 1)] }, openCL: .function("log1p"))

    /// exp(x) - 1
    public static let expm1 = ElementwiseFunction(
        "expm1", cost: .transcendental, meaning: .unary { x, _ in Math.expm1(x) },
        gradient: { _, y, g in [g * (y + 1)] }, openCL: .function("expm1"))

    public static let sqrt = ElementwiseFunction(
        "sqrt", meaning: .unary { x, _ in x.squareRoot() }, gradient: { _, y, g in [g * 0.5 / y] },
        openCL: .expression("sqrt($0)"))

    public static let tanh = ElementwiseFunction(
        "tanh", cost: .transcendental, meaning: .unary { x, _ in Math.tanh(x) },
        gradient: { _, y, g in [g * (1 - y * y)] }, openCL: .function("tanh"))

    /// 1 / (1 + exp(-x)). The exponential is taken of what is not positive, so that nothing overflows.
    public static let sigmoid = ElementwiseFunction(
        "sigmoid", cost: .transcendental,
        meaning: .unary { x, _ in x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x)) },
        gradient: { _, y, g in [g * y * (1 - y)] },
        openCL: .body(
            """
            const $F e = exp(-fabs(x0));
            const $F d = ($F)(1.0f) + e;
            return martlet_select(x0 < ($F)(0.0f), e, ($F)(1.0f)) / d;
            """))

    /// log(1 + exp(x)), without overflow.
    public static let softplus = ElementwiseFunction(
        "softplus", cost: .transcendental,
        meaning: .unary { x, _ in x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x)) },
        gradient: { x, _, g in [g * x[0].sigmoid()] },
        openCL: .body(
            """
            const $F l = log1p(exp(-fabs(x0)));
            return martlet_select(x0 > ($F)(0.0f), x0 + l, l);
            """))

    /// max(x, 0)
    public static let relu = ElementwiseFunction(
        "relu", types: numbers, meaning: .unary { x, _ in x < 0 ? 0 : x },
        gradient: { _, y, g in [.select(y.greater(0), g, 0)] },
        openCL: .expression(
            "martlet_select($0 < 0, ($F)(0), $0)", integers: "martlet_select($0 < 0, ($I)(0), $0)"))

    public static let floor = ElementwiseFunction(
        "floor", meaning: .unary { x, _ in x.rounded(.down) }, gradient: noGradient,
        openCL: .expression("floor($0)"))

    public static let sin: ElementwiseFunction = ElementwiseFunction(
        "sin", cost: .transcendental, meaning: .unary { x, _ in Math.sin(x) },
        gradient: { x, _, g in [g * x[0].apply(.cos)] }, openCL: .function("sin"))

    public static let cos: ElementwiseFunction = ElementwiseFunction(
        "cos", cost: .transcendental, meaning: .unary { x, _ in Math.cos(x) },
        gradient: { x, _, g in [-g * x[0].apply(.sin)] }, openCL: .function("cos"))

    public static let erf = ElementwiseFunction(
        "erf", cost: .transcendental, meaning: .unary { x, _ in Math.erf(x) },
        gradient: { x, _, g in [g * (-(x[0] * x[0])).exp() * 1.1283791670955126] }, openCL: .function("erf"))

    /// `phi(|x|) / Phi(-|x|)`: the hazard of the standard normal in its upper tail, about |x| + 1 / |x| far out. On devices the
    /// polynomial of Scripts/fit_functions.py, as in vector_math.h.
    public static let hazard = ElementwiseFunction(
        "hazard", cost: .transcendental, meaning: .unary { x, _ in Math.hazard(x) },
        gradient: { x, y, g in
            // Even, with a kink at zero, where the slope to the right is taken.
            let slope = y * (y - x[0].absolute())
            return [g * .select(x[0].less(0), -slope, slope)]
        },
        openCL: .body(
            """
            const $F u = fabs(x0), r = ($F)(1.0f) / (u + ($F)(2.5f)), t = (u - ($F)(2.5f)) * r;
            $F p = ($F)(-0.000425950449f);
            p = p * t + ($F)(-0.00179140666f);
            p = p * t + ($F)(0.000649031776f);
            p = p * t + ($F)(0.00952419359f);
            p = p * t + ($F)(0.0054451013f);
            p = p * t + ($F)(-0.0264351666f);
            p = p * t + ($F)(-0.0352819376f);
            p = p * t + ($F)(0.0573675185f);
            p = p * t + ($F)(0.142879158f);
            p = p * t + ($F)(-0.155033395f);
            p = p * t + ($F)(-0.610621214f);
            p = p * t + ($F)(1.61372375f);
            return martlet_select(u < ($F)(1e30f), p * r + u, u);
            """))

    /// log(1 - exp(-x)) of x > 0, by the form that is exact on its side of log 2 (Mächler 2012, "Accurately computing log(1 - exp(-|a|))",
    /// equation 7).
    public static let log1mexp = ElementwiseFunction(
        "log1mexp", cost: .transcendental,
        meaning: .unary { x, _ in x > 0.6931471805599453 ? Math.log1p(-Math.exp(-x)) : Math.log(-Math.expm1(-x)) },
        gradient: { x, _, g in [g / x[0].apply(.expm1)] },
        openCL: .body("return martlet_select(x0 > ($F)(0.6931472f), log1p(-exp(-x0)), log(-expm1(-x0)));"))

    public static let isFinite = ElementwiseFunction(
        "isFinite", types: { $0[0].isFloatingPoint ? .bool : nil }, meaning: .unary { x, _ in x.isFinite ? 1 : 0 },
        gradient: noGradient, openCL: .expression("(fabs($0) < ($F)(INFINITY)) & 1", integers: "($I)(1)"))

    public static let logicalNot = ElementwiseFunction(
        "logicalNot", types: { $0[0] == .bool ? .bool : nil }, meaning: .unary { x, _ in x == 0 ? 1 : 0 },
        gradient: noGradient, openCL: .expression("($0 == 0) & 1"))

    /// The value as it is, through which no gradient flows.
    public static let stopGradient = ElementwiseFunction(
        "stopGradient", types: { $0[0] }, meaning: .unary { x, _ in x }, simplified: { x, _, _ in x[0] },
        gradient: noGradient, openCL: .expression("$0"))

    /// The element converted; to `bool` means "is not zero", to an integer truncates toward zero and saturates, NaN gives zero.
    public static func cast(_ type: ElementType) -> ElementwiseFunction {
        switch type {
        case .float32: toFloat32
        case .float64: toFloat64
        case .int32: toInt32
        case .uint8: toUInt8
        case .bool: toBool
        }
    }

    private static let toFloat32 = ElementwiseFunction(conversionTo: .float32)
    private static let toFloat64 = ElementwiseFunction(conversionTo: .float64)
    private static let toInt32 = ElementwiseFunction(conversionTo: .int32)
    private static let toUInt8 = ElementwiseFunction(conversionTo: .uint8)
    private static let toBool = ElementwiseFunction(conversionTo: .bool)
}

// MARK: Two operands

extension ElementwiseFunction {
    public static let add = ElementwiseFunction(
        "add", cost: .little, types: twoNumbers,
        meaning: .binary { a, b, type in type == .int32 ? Double(Int32(a) &+ Int32(b)) : a + b },
        known: { $0.contains(-.infinity) ? -.infinity : nil },
        simplified: { x, constants, _ in
            if constants[0] == 0 { return x[1] }
            if constants[1] == 0 { return x[0] }
            return Pad.join(x[0], x[1]) ?? Pad.join(x[1], x[0])
        },
        gradient: { _, _, g in [g, g] }, openCL: .expression("$0 + $1"))

    public static let subtract = ElementwiseFunction(
        "subtract", cost: .little, types: twoNumbers,
        meaning: .binary { a, b, type in type == .int32 ? Double(Int32(a) &- Int32(b)) : a - b },
        known: { $0[0] == -.infinity ? -.infinity : nil },
        simplified: { x, constants, place in
            constants[1] == 0 ? x[0] : constants[0] == 0 ? x[1].apply(.negate, at: place) : nil
        },
        gradient: { _, _, g in [g, -g] }, openCL: .expression("$0 - $1"))

    public static let multiply = ElementwiseFunction(
        "multiply", cost: .little, types: twoNumbers,
        meaning: .binary { a, b, type in type == .int32 ? Double(Int32(a) &* Int32(b)) : a * b },
        known: { $0.contains(0) ? 0 : nil },
        simplified: { x, constants, place in
            if constants[0] == 1 { return x[1] }
            if constants[1] == 1 { return x[0] }
            if constants[0] == -1 { return x[1].apply(.negate, at: place) }
            return constants[1] == -1 ? x[0].apply(.negate, at: place) : nil
        },
        gradient: { x, _, g in [g * x[1], g * x[0]] }, openCL: .expression("$0 * $1"))

    public static let divide = ElementwiseFunction(
        "divide",
        meaning: .binary { a, b, _ in a / b }, known: { $0[0] == 0 ? 0 : nil },
        simplified: { x, constants, _ in constants[1] == 1 ? x[0] : nil },
        gradient: { x, y, g in [g / x[1], -g * y / x[1]] },
        openCL: .expression("$0 / $1", integers: "martlet_divide$S($0, $1)"))

    public static let power = ElementwiseFunction(
        "power", cost: .transcendental, meaning: .binary { a, b, _ in Math.pow(a, b) },
        simplified: { x, constants, _ in constants[1] == 1 ? x[0] : nil },
        gradient: { x, y, g in
            let logBase = Tensor.select(x[0].greater(0), x[0], 1).log()
            return [g * x[1] * x[0].power(x[1] - 1), g * y * logBase]
        }, openCL: .function("pow"))

    /// NaN where an operand is; where both are equal they share the gradient.
    public static let maximum = ElementwiseFunction(
        "maximum", cost: .little, types: twoNumbers,
        meaning: .binary { a, b, _ in a.isNaN || b.isNaN ? .nan : Swift.max(a, b) },
        gradient: { x, _, g in shared(g, first: x[0].greater(x[1]), tied: x[0].equal(x[1])) },
        openCL: .expression("MARTLET_MAXIMUM($0, $1)"))

    /// NaN where an operand is; where both are equal they share the gradient.
    public static let minimum = ElementwiseFunction(
        "minimum", cost: .little, types: twoNumbers,
        meaning: .binary { a, b, _ in a.isNaN || b.isNaN ? .nan : Swift.min(a, b) },
        gradient: { x, _, g in shared(g, first: x[0].less(x[1]), tied: x[0].equal(x[1])) },
        openCL: .expression("MARTLET_MINIMUM($0, $1)"))

    public static let less = ElementwiseFunction(
        "less", cost: .little, types: comparison, meaning: .binary { a, b, _ in a < b ? 1 : 0 }, gradient: noGradient,
        openCL: .expression("($0 < $1) & 1"))

    public static let lessEqual = ElementwiseFunction(
        "lessEqual", types: comparison, meaning: .binary { a, b, _ in a <= b ? 1 : 0 }, gradient: noGradient,
        openCL: .expression("($0 <= $1) & 1"))

    public static let equal = ElementwiseFunction(
        "equal", cost: .little, types: comparison, meaning: .binary { a, b, _ in a == b ? 1 : 0 },
        gradient: noGradient, openCL: .expression("($0 == $1) & 1"))

    public static let logicalAnd = ElementwiseFunction(
        "logicalAnd", types: twoConditions, meaning: .binary { a, b, _ in a != 0 && b != 0 ? 1 : 0 },
        known: { $0.contains(0) ? 0 : nil }, gradient: noGradient, openCL: .expression("$0 & $1"))

    public static let logicalOr = ElementwiseFunction(
        "logicalOr", types: twoConditions, meaning: .binary { a, b, _ in a != 0 || b != 0 ? 1 : 0 },
        known: { $0.contains(1) ? 1 : nil }, gradient: noGradient, openCL: .expression("$0 | $1"))
}

// MARK: More operands, and random numbers

extension ElementwiseFunction {
    /// Condition, value where it is true, value where it is false.
    public static let select = ElementwiseFunction(
        "select", cost: .little, types: { $0[0] == .bool && $0[1] == $0[2] ? $0[1] : nil },
        meaning: .operands(3) { x, _ in x[0] != 0 ? x[1] : x[2] },
        known: { x in x[0].flatMap { $0 != 0 ? x[1] : x[2] } },
        ignores: { operand, known in operand > 0 && known(0).map { operand != ($0 != 0 ? 1 : 2) } == true },
        simplified: { x, constants, _ in constants[0].map { x[$0 != 0 ? 1 : 2] } },
        gradient: { x, _, g in [nil, .select(x[0], g, 0), .select(x[0], 0, g)] },
        openCL: .expression("martlet_select($0 != 0, $1, $2)"))

    /// Philox 4x32-10 (Salmon et al. 2011): key low, key high, stream, step, example, variable, all int32; the first word of the block of
    /// the counter (variable, example, step, stream) as int32 bits.
    public static let philox = ElementwiseFunction(
        "philox", types: { $0.allSatisfy { $0 == .int32 } ? .int32 : nil },
        meaning: .operands(6) { x, _ in
            let words = x.map { UInt32(bitPattern: Int32($0)) }
            return Double(
                Int32(bitPattern: martlet_philox_word0(words[0], words[1], words[5], words[4], words[3], words[2])))
        },
        gradient: noGradient,
        openCL: .single("(int)martlet_philox((uint)$0, (uint)$1, (uint)$5, (uint)$4, (uint)$3, (uint)$2).x"))

    /// Random int32 bits to a uniform in [0, 1): the upper 24 bits over 2^24.
    public static let uniformFromBits = ElementwiseFunction(
        "uniformFromBits", types: { $0[0] == .int32 ? .float32 : nil },
        meaning: .unary { x, _ in Double(UInt32(bitPattern: Int32(x)) >> 8) * 0x1p-24 }, gradient: noGradient,
        openCL: .single("martlet_uniform((uint)$0)"))

    /// Random int32 bits to a standard normal by a piecewise polynomial of the inverse distribution function.
    public static let normalFromBits = ElementwiseFunction(
        "normalFromBits", types: { $0[0] == .int32 ? .float32 : nil },
        meaning: .unary { x, _ in Double(martlet_normal_from_bits(UInt32(bitPattern: Int32(x)))) },
        gradient: noGradient, openCL: .single("martlet_normal((uint)$0)"))
}

// MARK: What rows have in common

extension ElementwiseFunction {
    /// Floating-point numbers and int32, which wraps around.
    private static let numbers: @Sendable ([ElementType]) -> ElementType? = {
        $0[0].isFloatingPoint || $0[0] == .int32 ? $0[0] : nil
    }

    private static let twoNumbers: @Sendable ([ElementType]) -> ElementType? = {
        $0[1] == $0[0] ? numbers($0) : nil
    }

    private static let comparison: @Sendable ([ElementType]) -> ElementType? = { $0[1] == $0[0] ? .bool : nil }

    private static let twoConditions: @Sendable ([ElementType]) -> ElementType? = {
        $0[0] == .bool && $0[1] == .bool ? .bool : nil
    }

    private static let noGradient: @Sendable ([Tensor], Tensor, Tensor) -> [Tensor?] = { x, _, _ in x.map { _ in nil } }

    /// The gradient of a choice between two operands: half of it for each where they are tied.
    private static func shared(_ g: Tensor, first: Tensor, tied: Tensor) -> [Tensor?] {
        let number = { (value: Double) in Tensor.scalar(value, g.elementType) }
        let share = Tensor.select(first, number(1), .select(tied, number(0.5), number(0)))
        return [g * share, g * (1 - share)]
    }
}

extension Tensor {
    /// The operands of a function, if this tensor is made by it.
    fileprivate func operands(of function: ElementwiseFunction) -> [Tensor]? {
        node.elementwise == function ? node.inputs : nil
    }
}
