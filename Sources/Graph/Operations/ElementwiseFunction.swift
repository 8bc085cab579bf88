/// The scalar functions from which every elementwise computation is built. Each backend implements exactly these; a
/// fused chain is a program over them.
public enum ElementwiseFunction: Hashable, Sendable {
    // one operand, floating point
    case negate, absolute, sign, exp, log, log1p, expm1, sqrt, tanh, sigmoid, softplus, relu, floor, sin, cos, erf
    /// `phi(|x|) / Phi(-|x|)`: the hazard of the standard normal in its upper tail, about |x| + 1 / |x| far out.
    case hazard
    case isFinite, logicalNot
    /// The element converted; to `bool` means "is not zero", to an integer truncates toward zero and saturates, NaN gives zero.
    case cast(ElementType)
    /// The value as it is, through which no gradient flows.
    case stopGradient
    // two operands
    case add, subtract, multiply, divide, power, maximum, minimum
    case less, lessEqual, equal, logicalAnd, logicalOr
    /// condition, value where true, value where false
    case select
    /// Philox 4x32-10 (Salmon et al. 2011): key low, key high, stream, step, example, variable, all int32; the first
    /// word of the block as int32 bits.
    case philox
    /// Random int32 bits to a uniform in [0, 1): the upper 24 bits over 2^24.
    case uniformFromBits
    /// Random int32 bits to a standard normal by a piecewise polynomial of the inverse distribution function.
    case normalFromBits

    public var operandCount: Int {
        switch self {
        case .add, .subtract, .multiply, .divide, .power, .maximum, .minimum, .less, .lessEqual, .equal, .logicalAnd,
            .logicalOr:
            2
        case .select: 3
        case .philox: 6
        default: 1
        }
    }

    /// Whether an element takes about as long as exp's, many times as long as a sum or a product.
    public var isTranscendental: Bool {
        switch self {
        case .exp, .log, .log1p, .expm1, .tanh, .sigmoid, .softplus, .sin, .cos, .erf, .hazard, .power: true
        default: false
        }
    }

    public var name: String {
        switch self {
        case .cast(let type): "cast(\(type))"
        default: "\(self)"
        }
    }
}
