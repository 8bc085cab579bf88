import Graph

/// What a model's figure measures; less is better.
public struct Metric: Sendable, Equatable {
    /// What it is, in words.
    public let name: String
    public let unit: String
    /// Whether it is minus log p of an example, or a bound on that from above: then several models can be mixed, and it can be given in
    /// bits for each dimension.
    public let isLogLikelihood: Bool

    public init(_ name: String, unit: String, isLogLikelihood: Bool = false) {
        self.name = name
        self.unit = unit
        self.isLogLikelihood = isLogLikelihood
    }

    /// -log p(x), exactly.
    public static let nats = Metric("negative log-likelihood", unit: "nats", isLogLikelihood: true)
    /// Not less than -log p(x).
    public static let boundInNats = Metric("bound on the negative log-likelihood", unit: "nats", isLogLikelihood: true)
    /// The sum over an example's variables of the squared difference.
    public static let squaredError = Metric("squared error", unit: "squared error")

    /// The unit as the part of a key: `squared_error`.
    public var key: String { String(unit.map { $0 == " " ? "_" : $0 }) }
}

/// Log-likelihoods of whole numbers in bits for each dimension.
///
/// A model of y in [0, levels)^D gives log p(y) in nats with respect to y in units of one level, so that no constant is left
/// out: bits = -log p / (D log 2). A density of y / levels is smaller by D log(levels), which `FixedAffine(scale: 1 / levels)`
/// in front of a model adds as its log-determinant.
public func bitsPerDimension(nats logProbability: Double, dimensions: Int) -> Double {
    -logProbability / (Double(dimensions) * 0.6931471805599453)
}
