import Distributions
import Graph
import Layers

/// A bijector that maps every element on its own.
public protocol ElementwiseBijector: Bijector {
    var name: String { get }
    /// In words, for `inspect`.
    var inverseFormula: String { get }
    /// z and log|dz/dx|, both of x's shape.
    func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor)
    /// x and log|dx/dz|.
    func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor)
}

extension ElementwiseBijector {
    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let (z, log) = map(x)
        return Mapped(z, log.summedOverEvent())
    }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let (x, log) = unmap(z)
        return Mapped(x, log.summedOverEvent())
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            name, .diagonal, determinant: "the sum of log-derivatives, as every element is mapped on its own",
            inverse: inverseFormula)
    }
}

/// The largest number below one, and the smallest normal number, of a floating type.
struct FloatLimits {
    let belowOne: Double
    let least: Double
    let epsilon: Double
    /// Four times the cube root of `epsilon`.
    let coarse: Double
    /// exp is finite and normal on both sides of it.
    let exponent: Double

    init(_ type: ElementType) {
        if type == .float64 {
            (belowOne, least, epsilon, coarse, exponent) = (0x1.fffffffffffffp-1, 0x1p-1022, 0x1p-52, 2.5e-5, 700)
        } else {
            (belowOne, least, epsilon, coarse, exponent) = (0x1.fffffep-1, 0x1p-126, 0x1p-23, 0.02, 80)
        }
    }
}

/// `z = scale x + shift` with fixed numbers, the same for all elements.
public struct FixedAffine: ElementwiseBijector {
    public let scale: Double
    public let shift: Double

    public init(scale: Double, shift: Double = 0) {
        trap(unless: scale != 0 && scale.isFinite, "a scale of \(scale) has no inverse")
        self.scale = scale
        self.shift = shift
    }

    public var name: String { "affine" }
    public var inverseFormula: String { "(z - shift) / scale" }

    private func log(_ x: Tensor) -> Tensor { .scalar(Math.log(scale.magnitude), x.elementType).broadcast(to: x.shape) }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) { (x * scale + shift, log(x)) }
    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) { ((z - shift) / scale, -log(z)) }
}

/// `z = (x - mean) / deviation` with fixed numbers for each element of an example: data in units of their own, standardised.
public struct Standardization: ElementwiseBijector {
    public let means: [Double]
    public let deviations: [Double]
    /// Of one example.
    public let shape: [Int]

    /// - Parameter shape: of one example; a vector if not given.
    public init(means: [Double], deviations: [Double], shape: [Int]? = nil) {
        let shape = shape ?? [means.count]
        trap(
            unless: means.count == deviations.count && shape.reduce(1, *) == means.count,
            "expected a mean and a deviation for each of \(shape), found \(means.count) and \(deviations.count)")
        trap(unless: deviations.allSatisfy { $0 > 0 && $0.isFinite }, "deviations are above 0, found \(deviations)")
        (self.means, self.deviations, self.shape) = (means, deviations, shape)
    }

    public var name: String { "standardization" }
    public var inverseFormula: String { "z deviation + mean" }

    private func constant(_ values: [Double], _ x: Tensor) -> Tensor {
        Tensor.row(values, x.elementType).reshaped(Shape([1] + shape.map { Extent($0) })).broadcast(to: x.shape)
    }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let x = x.examples(of: shape, for: name)
        if x.error != nil { return (x, x) }
        return (
            (x - constant(means, x)) * constant(deviations.map { 1 / $0 }, x),
            constant(deviations.map { -Math.log($0) }, x)
        )
    }

    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let z = z.examples(of: shape, for: name)
        if z.error != nil { return (z, z) }
        return (z * constant(deviations, z) + constant(means, z), constant(deviations.map { Math.log($0) }, z))
    }
}

/// `z = exp(logScale) x + shift` with trained numbers for each element.
public struct ElementwiseAffine: ElementwiseBijector {
    public let logScale: Parameter
    public let shift: Parameter

    /// - Parameter shape: that of one example.
    public init(_ shape: [Int]) {
        logScale = Parameter(shape, .zeros)
        shift = Parameter(shape, .zeros)
    }

    public var name: String { "affine" }
    public var inverseFormula: String { "(z - shift) exp(-logScale)" }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        (x * logScale.tensor.exp() + shift.tensor, logScale.tensor.broadcast(to: x.shape))
    }

    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        ((z - shift.tensor) * (-logScale.tensor).exp(), (-logScale.tensor).broadcast(to: z.shape))
    }
}

extension Tensor {
    /// This logarithm of a derivative where `x` lies in the domain of the map, its ends included; minus infinity elsewhere, as no density
    /// is there, and no gradient.
    fileprivate func within(_ x: Tensor, from low: Double, to high: Double = .infinity) -> Tensor {
        let isBelow = x.less(.scalar(low, x.elementType))
        let isOutside = high == .infinity ? isBelow : isBelow.or(x.greater(.scalar(high, x.elementType)))
        return .select(isOutside, .scalar(-.infinity, elementType), self)
    }
}

/// `z = exp(x)`, onto the positive numbers. Injective for |x| <= 80 in float32 and 700 in double; beyond, it saturates there.
public struct Exp: ElementwiseBijector {
    public init() {}
    public var name: String { "exp" }
    public var inverseFormula: String { "log z" }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let limit = FloatLimits(x.elementType).exponent
        let inside = x.clamped(-limit, limit)
        return (inside.exp(), inside)
    }

    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let x = z.maximum(.scalar(FloatLimits(z.elementType).least, z.elementType)).log()
        return (x, (-x).within(z, from: 0))
    }
}

/// `z = 1 / (1 + exp(-x))`, onto (0, 1). Used for |x| <= 8; far beyond, z is 0 or 1 in the working precision and the inverse
/// saturates at the largest x that is told apart.
public struct Sigmoid: ElementwiseBijector {
    public init() {}
    public var name: String { "sigmoid" }
    public var inverseFormula: String { "log z - log(1 - z)" }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        (x.sigmoid(), -(x.softplus() + (-x).softplus()))
    }

    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let limits = FloatLimits(z.elementType)
        let inside = z.clamped(limits.least, limits.belowOne)
        let (a, b) = (inside.log(), (-inside).log1p())
        return (a - b, (-(a + b)).within(z, from: 0, to: 1))
    }
}

/// `z = log x - log(1 - x)` of numbers in (0, 1), optionally kept off the ends: x' = alpha + (1 - 2 alpha) x first
/// (Papamakarios et al. 2017, appendix E: alpha = 1e-6 for MNIST). 0 and 1 saturate at the last numbers inside.
public struct Logit: ElementwiseBijector {
    public let alpha: Double
    private var scale: Double { 1 - 2 * alpha }

    /// - Parameter alpha: at least 0 and below 0.5.
    public init(alpha: Double = 0) {
        trap(
            unless:
                alpha >= 0 && alpha < 0.5,
            "a logit keeps a share of at least 0 and below 0.5 clear of 0 and 1, found \(alpha)")
        self.alpha = alpha
    }

    public var name: String { alpha == 0 ? "logit" : "logit of \(alpha) + (1 - 2 \(alpha)) x" }
    public var inverseFormula: String { "sigmoid" }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        if alpha == 0 { return Sigmoid().unmap(x) }
        // Both from x: what is lost of x' by rounding is much of 1 - x' near 1.
        let least = Tensor.scalar(FloatLimits(x.elementType).least, x.elementType)
        let inside = x.clamped(0, 1)
        let a = (inside * scale + alpha).maximum(least).log()
        let b = ((1 - inside) * scale + alpha).maximum(least).log()
        return (a - b, (Math.log(scale) - (a + b)).within(x, from: 0, to: 1))
    }

    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let (x, log) = Sigmoid().map(z)
        return alpha == 0 ? (x, log) : ((x - alpha) / scale, log - Math.log(scale))
    }
}

/// `z = tanh x`, onto (-1, 1). Used for |x| <= 4; far beyond, z is 1 in the working precision and the inverse saturates.
public struct Tanh: ElementwiseBijector {
    public init() {}
    public var name: String { "tanh" }
    public var inverseFormula: String { "(log(1 + z) - log(1 - z)) / 2" }

    /// log(1 - tanh(x)^2) without cancellation.
    private func log(_ x: Tensor) -> Tensor {
        let a = x.absolute()
        return (0.6931471805599453 - a - (a * -2).softplus()) * 2
    }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) { (x.tanh(), log(x)) }

    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let limit = FloatLimits(z.elementType).belowOne
        let inside = z.clamped(-limit, limit)
        let (a, b) = (inside.log1p(), (-inside).log1p())
        return ((a - b) * 0.5, (-(a + b)).within(z, from: -1, to: 1))
    }
}

/// `z = log(1 + exp x)`, onto the positive numbers. Below about -80 (float32) z is no normal number any more and saturates.
public struct Softplus: ElementwiseBijector {
    public init() {}
    public var name: String { "softplus" }
    public var inverseFormula: String { "z + log(1 - exp(-z))" }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) { (x.softplus(), -(-x).softplus()) }

    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let inside = z.maximum(.scalar(FloatLimits(z.elementType).least, z.elementType))
        let log = (-(-inside).apply(.expm1)).log()
        return (inside + log, (-log).within(z, from: 0))
    }
}

/// `z = x` where x is positive, else `slope x`.
public struct LeakyReLU: ElementwiseBijector {
    public let slope: Double

    public init(slope: Double = 0.01) {
        trap(unless: slope > 0 && slope.isFinite, "a slope of \(slope) has no inverse")
        self.slope = slope
    }

    public var name: String { "leaky ReLU" }
    public var inverseFormula: String { "z, divided by the slope where it is negative" }

    public func map(_ x: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let isNegative = x.less(0)
        return (
            .select(isNegative, x * slope, x),
            .select(isNegative, .scalar(Math.log(slope), x.elementType), .scalar(0, x.elementType))
        )
    }

    public func unmap(_ z: Tensor) -> (value: Tensor, logDerivative: Tensor) {
        let isNegative = z.less(0)
        return (
            .select(isNegative, z / slope, z),
            .select(isNegative, .scalar(-Math.log(slope), z.elementType), .scalar(0, z.elementType))
        )
    }
}
