import Bijectors
import Datasets
import Distributions
import Graph
import Layers
import Models

/// The choices of a flow of vectors.
public struct FlowSettings: ModelSettings {
    /// nice, realnvp, coupling, maf, maf-mog, autoregressive, iaf, planar or radial.
    public var flow = "maf"
    /// For coupling and autoregressive: affine, spline:BINS, mixture:COMPONENTS (logistics), gaussians:COMPONENTS or sigmoidal:UNITS.
    public var transformer = "affine"
    public var layers = 5
    /// Units of each hidden layer of a conditioner.
    public var hidden = [512, 512]
    /// relu, tanh, sigmoid or softplus; of realnvp, coupling, maf, autoregressive and iaf.
    public var activation = "relu"
    /// The bound of the log-scales of affine layers, |log s| < limit; 0 leaves them unbounded.
    public var limit = 3.0
    /// Half the side of the interval that a spline bends.
    public var splineBound = 3.0
    /// In front of every layer: none, actNorm or batchNorm; of realnvp, coupling, maf, maf-mog and autoregressive.
    public var normalization = "none"
    /// Of maf-mog's base.
    public var components = 10
    /// Whole numbers 0 ..< levels as data: uniform noise is added and they are divided by levels; 0 for real data.
    public var levels = 0
    /// For whole numbers: x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves them in [0, 1).
    public var alpha = -1.0

    public init() {}

    static let flows = ["nice", "realnvp", "coupling", "maf", "maf-mog", "autoregressive", "iaf", "planar", "radial"]

    public var domain: VariableDomain { levels > 0 ? .levels(levels) : .real }

    public func validate(_ examples: ExampleShape) throws {
        try require(
            Self.flows.contains(flow), "flow: expected \(Self.flows.joined(separator: ", ")), found “\(flow)”")
        try require((1...256).contains(layers), "layers: expected 1 to 256, found \(layers)")
        try require(
            hidden.allSatisfy { (1...1 << 20).contains($0) } && hidden.count <= 64,
            "hidden: expected up to 64 layers of 1 to 1048576 units, found \(hidden)")
        try require(limit.isFinite && limit >= 0, "limit: expected a number of at least 0, found \(limit)")
        try require(
            (1e-30...1e30).contains(splineBound), "splineBound: expected 1e-30 to 1e30, found \(splineBound)")
        try require((1...4096).contains(components), "components: expected 1 to 4096, found \(components)")
        try require(levels == 0 || (2...1 << 16).contains(levels), "levels: expected 0, or 2 to 65536, found \(levels)")
        try require(alpha < 0.5, "alpha: expected a number below 0.5, found \(alpha)")
        try require(examples.count >= 2 || flow.hasPrefix("maf"), "a flow needs two variables or more")
        _ = try makeTransformer()
        _ = try makeActivation()
        _ = try makeNormalization()
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any TrainableModel {
        FlowModel(
            try makeFlow(examples.count), dequantization: levels > 0 ? UniformDequantization() : nil, levels: levels)
    }

    var bound: ScaleBound { .within(limit) }

    func makeActivation() throws -> Activation {
        guard let result = Activation(rawValue: activation) else {
            throw UsageError(
                "activation: expected \(Activation.allCases.map(\.rawValue).joined(separator: ", ")), found “\(activation)”"
            )
        }
        return result
    }

    func makeNormalization() throws -> FlowNormalization {
        guard let result = FlowNormalization(rawValue: normalization) else {
            throw UsageError("normalization: expected none, actNorm or batchNorm, found “\(normalization)”")
        }
        return result
    }

    func makeTransformer() throws -> any Transformer {
        let parts = transformer.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let number = parts.count == 2 ? Int(parts[1]) : nil
        switch (parts[0], number) {
        case ("affine", nil) where parts.count == 1:
            return AffineTransformer(flow == "coupling" ? .scaleThenShift : .standardize, bound: bound)
        case ("spline", let bins?) where (2...64).contains(bins):
            return SplineTransformer(bins: bins, bound: splineBound)
        case ("mixture", let components?) where (1...32).contains(components):
            return MixtureCDFTransformer(components: components)
        case ("gaussians", let components?) where (1...32).contains(components):
            return MixtureCDFTransformer(.gaussian, components: components)
        case ("sigmoidal", let units?) where (1...32).contains(units): return DeepSigmoidTransformer(units: units)
        default:
            throw UsageError(
                "transformer: expected affine, spline:BINS, mixture:COMPONENTS, gaussians:COMPONENTS or sigmoidal:UNITS, found “\(transformer)”"
            )
        }
    }

    /// The bijector from the data as they are stored, and its base.
    func makeFlow(_ variables: Int) throws -> Flow {
        let (activation, normalization) = (try makeActivation(), try makeNormalization())
        let flow: Flow =
            switch self.flow {
            case "nice": .nice(variables: variables, layers: layers, hidden: hidden)
            case "realnvp", "coupling":
                .coupling(
                    variables: variables, layers: layers, hidden: hidden,
                    transformer: self.flow == "realnvp"
                        ? AffineTransformer(.scaleThenShift, bound: bound) : try makeTransformer(),
                    activation: activation, normalization: normalization)
            case "maf-mog":
                .mafMoG(
                    variables: variables, layers: layers, hidden: hidden, components: components, limit: limit,
                    normalization: normalization)
            case "iaf":
                .iaf(variables: variables, layers: layers, hidden: hidden, limit: limit, activation: activation)
            case "planar": .planar(variables: variables, layers: layers)
            case "radial": .radial(variables: variables, layers: layers)
            default:
                .autoregressive(
                    variables: variables, layers: layers, hidden: hidden,
                    transformer: self.flow == "maf"
                        ? AffineTransformer(.standardize, bound: bound) : try makeTransformer(),
                    activation: activation, normalization: normalization)
            }
        guard levels > 0 else { return flow }
        return Flow(
            Chain(preprocessing(levels: levels, alpha: alpha) + [flow.bijector]), base: flow.base,
            exampleShape: [variables])
    }
}

/// From [0, levels) to the unit interval, and by the logit to the whole line if `alpha` is not negative.
func preprocessing(levels: Int, alpha: Double) -> [any Bijector] {
    [FixedAffine(scale: 1 / Double(levels))] + (alpha < 0 ? [] : [Logit(alpha: alpha)])
}
