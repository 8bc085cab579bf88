import Graph

/// An increasing function of one variable, with its derivative and its inverse, that is applied to every element. Its
/// parameters are computed by a conditioner; a coupling or autoregressive bijector is made of a transformer and a
/// conditioner.
public protocol Transformer: Sendable {
    var name: String { get }
    /// How many numbers a conditioner computes for each element.
    var parameterCount: Int { get }
    /// How many columns x has to have, where they are not all treated alike; `nil` for one that takes x of any shape.
    var columnCount: Int? { get }
    /// In words, for `inspect`: how the inverse is found.
    var inverseFormula: String { get }
    /// z and log dz/dx; every parameter has x's shape.
    func forward(_ x: Tensor, _ parameters: [Tensor]) -> (value: Tensor, logDerivative: Tensor)
    /// x and log dx/dz.
    func inverse(_ z: Tensor, _ parameters: [Tensor]) -> (value: Tensor, logDerivative: Tensor)
}

extension Transformer {
    public var columnCount: Int? { nil }

    /// The claims that a transformer breaks by mixing elements; none where element i of z and of the log-derivative
    /// reads only element i of x and of the parameters, as it has to: otherwise the determinant is not the product of
    /// the derivatives.
    ///
    /// The transformer is applied to a few elements side by side, at most two along each axis of x (to all, where columns
    /// are not treated alike), which also stand for its parameters. Two claims are tried: element i reads no element
    /// behind i, and element i reads no element before i. A transformer that adds up its row, say, breaks both.
    func strayClaims(_ x: Tensor) -> [OrderClaim] {
        let most = columnCount == nil ? 2 : Int.max
        let shape = x.shape.dimensions.dropFirst().map { Extent(min($0.coefficient, most)) }
        let count = shape.reduce(1) { $0 * $1.coefficient }
        let line = Tensor.ownVariable([.batch, Extent(count + 1)], x.elementType)
        // A claim lets an element read what is drawn before its variable. For element i to read its own place in the
        // line, the claim names the variable that is drawn next; hence one variable more than elements.
        func claim(_ start: Int, _ order: Order, _ variables: [Int32]) -> OrderClaim {
            let own = line.sliced(axis: 1, from: start, count: count).reshaped(Shape([.batch] + shape))
            let (z, log) = forward(own, [Tensor](repeating: own, count: parameterCount))
            let both = [z, log].map { $0.broadcast(to: own.shape).reshaped([.batch, Extent(count)]) }
            return OrderClaim(
                "\(name), transformed", .concatenate(both, axis: 1), of: line, order: order,
                variables: variables + variables)
        }
        let natural = (0...Int32(count)).map { $0 }
        return [
            claim(0, Order(index: natural), Array(natural.dropFirst())),
            claim(1, Order(index: natural.reversed()), Array(natural.dropLast())),
        ].filter { (try? $0.prove()) == nil }
    }
}

/// How a raw output of a conditioner becomes a log-scale. An unbounded one overflows in deep stacks and on outliers.
public enum ScaleBound: Hashable, Sendable {
    /// The output as it is.
    case none
    /// `limit * tanh(output / limit)`: scales lie in exp(-limit) ... exp(limit) (RealNVP, Dinh et al. 2017, section 4.1, has
    /// a tanh times a learned limit).
    case tanh(limit: Double)
    /// `output / (1 + |output| / limit)`: scales lie in exp(-limit) ... exp(limit), reached more slowly (zuko's).
    case softClip(limit: Double)
    /// `log sigmoid(output + shift)`: scales lie in `least` ... 1 and start near 1 (Glow's code, shift = 2; also IAF's gate). Without a
    /// least they go down to exp(-80) in float32 and exp(-700) in double, where the inverse is still a number.
    case sigmoid(shift: Double, least: Double = 0)

    /// `tanh` with a limit, or unbounded where the limit is 0.
    public static func within(_ limit: Double) -> ScaleBound { limit > 0 ? .tanh(limit: limit) : .none }

    func logScale(_ raw: Tensor) -> Tensor {
        switch self {
        case .none: raw
        case .tanh(let limit): limit == 1 ? raw.tanh() : (raw / limit).tanh() * limit
        case .softClip(let limit): raw / (raw.absolute() / limit + 1)
        case .sigmoid(let shift, let least) where least > 0:
            ((raw + shift).sigmoid() * (1 - least) + least).log()
        case .sigmoid(let shift, _):
            // Scales whose inverse overflows would make NaN of 0.
            (-(-(raw + shift)).softplus()).maximum(
                .scalar(-FloatLimits(raw.elementType).exponent, raw.elementType))
        }
    }

    public var description: String {
        switch self {
        case .none: "log-scale unbounded"
        case .tanh(let limit), .softClip(let limit): "|log-scale| < \(limit)"
        case .sigmoid(_, let least): least > 0 ? "scale in (\(least), 1)" : "scale in (0, 1)"
        }
    }
}

/// `z = x + shift` (NICE, Dinh et al. 2015, equation 6). Parameter: shift.
public struct AdditiveTransformer: Transformer {
    public init() {}
    public var name: String { "additive" }
    public var parameterCount: Int { 1 }
    public var inverseFormula: String { "z - shift" }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        (x + p[0], Tensor.scalar(0, x.elementType).broadcast(to: x.shape))
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        (z - p[0], Tensor.scalar(0, z.elementType).broadcast(to: z.shape))
    }
}

/// A scale and a shift. Parameters: shift, raw log-scale.
public struct AffineTransformer: Transformer {
    public enum Form: Hashable, Sendable {
        /// `z = exp(s) x + t` (RealNVP, Dinh et al. 2017, equation 4).
        case scaleThenShift
        /// `z = exp(s) (x + t)` (Glow's code).
        case shiftThenScale
        /// `z = (x - t) exp(-s)`: t is the mean and s the log standard deviation of a Gaussian conditional (MAF,
        /// Papamakarios et al. 2017, equation 4).
        case standardize
        /// `z = exp(s) x + (1 - exp(s)) t`, s a log-sigmoid: the gated update of IAF (Kingma et al. 2016, equation 14).
        case gated
    }

    public let form: Form
    public let bound: ScaleBound

    public init(_ form: Form = .scaleThenShift, bound: ScaleBound = .tanh(limit: 3)) {
        switch bound {
        case .tanh(let limit), .softClip(let limit):
            trap(
                unless:
                    limit > 0 && limit.isFinite, "log-scales have a finite bound above 0, found \(limit)")
        case .sigmoid(_, let least):
            trap(unless: 0..<1 ~= least, "the least scale is 0 or more and below 1, found \(least)")
        case .none: break
        }
        self.form = form
        self.bound = bound
    }

    public var name: String { "affine (\(bound.description))" }
    public var parameterCount: Int { 2 }
    public var inverseFormula: String { "shift and scale taken back" }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let (t, s) = (p[0], bound.logScale(p[1]))
        switch form {
        case .scaleThenShift: return (x * s.exp() + t, s)
        case .shiftThenScale: return ((x + t) * s.exp(), s)
        case .standardize: return ((x - t) * (-s).exp(), -s)
        case .gated:
            // Not (x - t) exp(s) + t, which loses x beside a large t.
            let gate = s.exp()
            return (x * gate + t * (1 - gate), s)
        }
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        let (t, s) = (p[0], bound.logScale(p[1]))
        switch form {
        case .scaleThenShift: return ((z - t) * (-s).exp(), -s)
        case .shiftThenScale: return (z * (-s).exp() - t, -s)
        case .standardize: return (z * s.exp() + t, s)
        case .gated: return ((z - t * (1 - s.exp())) * (-s).exp(), -s)
        }
    }
}
