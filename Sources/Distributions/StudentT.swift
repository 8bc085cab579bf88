import Graph
import Layers

/// Independent Student's t, whose tails fall as a power of |x|, the slower the fewer its degrees of freedom. A flow whose maps are
/// linear far out, as affine layers and splines are, has the tails of its base (Jaini et al. 2020, theorem 1): this is the base for
/// data with outliers.
public struct StudentT: Distribution {
    /// Where they are not trained; else what training starts from.
    public let degrees: Double
    /// The logarithms of the degrees of freedom of each variable, where they are trained.
    public let logDegrees: Parameter?

    /// With fixed degrees of freedom: above 0, and from about 0.2 on, for draws to be finite in float32.
    public init(degrees: Double = 4) {
        self.init(degrees, logDegrees: nil)
    }

    /// With trained degrees of freedom, one for each variable of examples of a shape.
    public init(_ shape: [Int], degrees: Double = 4) {
        self.init(degrees, logDegrees: Parameter(shape, .constant(Float(Math.log(degrees)))))
    }

    private init(_ degrees: Double, logDegrees: Parameter?) {
        trap(
            unless: degrees > 0 && degrees.isFinite,
            "Student's t has a finite number above 0 of degrees of freedom, found \(degrees)")
        self.degrees = degrees
        self.logDegrees = logDegrees
    }

    public var name: String {
        logDegrees == nil ? "Student's t of \(degrees) degrees of freedom" : "Student's t, trained degrees of freedom"
    }

    private func freedom(_ type: ElementType) -> Tensor { logDegrees?.tensor.exp() ?? .scalar(degrees, type) }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        let x = logDegrees.map { x.examples(of: $0.shape, for: name) } ?? x
        let degrees = freedom(x.elementType)
        // log(1 + u^2) without the square of a large u.
        let u = x.absolute() / degrees.sqrt()
        let isFar = u.greater(1)
        let far = Tensor.select(isFar, u, 1)
        let growth = far.log() * 2 + Tensor.select(isFar, 1 / far, u).squared().log1p()
        return (Self.logPeak(degrees) - (degrees + 1) * 0.5 * growth).overEvent()
    }

    /// log p(0) = log Gamma(a + 1/2) - log Gamma(a) - log(2 pi a) / 2 with a half the degrees of freedom.
    ///
    /// For a + 8 the difference is that of Stirling's series (Abramowitz and Stegun 1964, 6.1.40; 6.1.18 leads from a to a + 1/2), off by
    /// less than 3e-14; from there Gamma(a + 1) = a Gamma(a) leads down to a. Logarithms of a itself have cancelled: many degrees
    /// of freedom leave that of the normal.
    static func logPeak(_ degrees: Tensor) -> Tensor {
        let a = degrees * 0.5
        let r = 1 / (a + 8)
        let square = r * r
        let coefficients: [Double] = [-691 / 180_224, 31 / 18_432, -17 / 14_336, 1 / 640, -1 / 192, 1 / 8]
        var series = Tensor.scalar(coefficients[0], r.elementType)
        for coefficient in coefficients.dropFirst() { series = series * square + coefficient }
        var steps = (8 / a).log1p() * 0.5
        for k in 0..<8 { steps = steps - (0.5 / (a + Double(k))).log1p() }
        return steps - series * r - halfLogTwoPi
    }

    /// sqrt(n (u^(-2 / n) - 1)) cos(2 pi v) of two uniforms u and v is Student's t of n degrees of freedom, whole or not (Bailey 1994,
    /// "Polar generation of random variates with the t-distribution").
    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let random = context.random
        let noise = random.uniform(shape, stream: 3, as: element) + 0x1p-25
        let u = logDegrees.map { noise.examples(of: $0.shape, for: name) } ?? noise
        let angle = random.uniform(shape, stream: 4, as: element) * (2 * .pi)
        let degrees = freedom(element)
        // The logarithm of u^(-1 / n), which comes out of the root: its square may be too large for float32.
        let growth = -u.log() / degrees
        let drawn = growth.exp() * ((growth * -2).apply(.expm1) * -degrees).sqrt() * angle.apply(.cos)
        return drawn.heated(by: temperature)
    }
}
