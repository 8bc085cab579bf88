import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

// Flows of vectors, each as short as its paper's description. All of them map data to latents; `Flow.logProbability` is the
// density, and samples come from the inverse.

extension Flow {
    /// NICE (Dinh, Krueger, Bengio 2015): additive couplings whose kept half alternates, then one scale for each element
    /// (section 3.3), a logistic base (section 3.4). The networks start at zero and the scales at those of the first batch
    /// (with a shift): an element that hardly varies, as the border of an image, is worth the logarithm of its scale in
    /// likelihood, and a scale that starts at one takes thousands of steps to get there.
    public static func nice(variables: Int, layers: Int = 4, hidden: [Int] = [1000, 1000]) -> Flow {
        var steps: [any Bijector] = (0..<layers).map { index in
            let partition = Partition.alternating(keepsOdd: index % 2 == 1)
            return Coupling(
                partition, AdditiveTransformer(),
                conditioner: MaskedMLP.coupling(
                    kept: partition.kept([variables]), hidden: hidden, parameters: 1, startsAtIdentity: true))
        }
        steps.append(ActNorm(variables))
        return Flow(Chain(steps), base: Logistic(), exampleShape: [variables])
    }

    /// RealNVP on vectors (Dinh, Sohl-Dickstein, Bengio 2017): couplings whose kept half alternates.
    ///
    /// What is not said otherwise is chosen so that deep stacks train on data with outliers and come back from their latents in
    /// float32: 64 couplings with log-scales below 3, or that start at random, overflow within a few steps where elements lie 50
    /// standard deviations out.
    /// - Parameter limit: bounds the log-scales, |log s| < limit; 0 leaves them unbounded. Where it is not given it is 1, or what keeps
    ///   the log-scales of all layers that transform a variable below 5 together: a layer that shrinks a value by exp(s) costs the way
    ///   back as much of its precision.
    public static func realNVP(
        variables: Int, layers: Int = 10, hidden: [Int] = [512, 512], limit: Double? = nil,
        activation: Activation = .relu,
        normalization: FlowNormalization = .actNorm, features: Int = 0, base: (any Distribution)? = nil,
        startsAtIdentity: Bool = true
    ) -> Flow {
        coupling(
            variables: variables, layers: layers, hidden: hidden,
            transformer: AffineTransformer(
                .scaleThenShift, bound: .within(limit ?? depthLimit(1, layers: (layers + 1) / 2))),
            activation: activation, normalization: normalization, features: features, base: base,
            startsAtIdentity: startsAtIdentity)
    }

    /// Couplings with any transformer; with splines it is the neural spline flow (Durkan et al. 2019), with columns on circles the
    /// circular one (Rezende et al. 2020), whose other columns `transformer` and `base` are for.
    public static func coupling(
        variables: Int, layers: Int, hidden: [Int], transformer: any Transformer, activation: Activation = .relu,
        normalization: FlowNormalization = .none, features: Int = 0, base: (any Distribution)? = nil,
        circular: CircularColumns = .none, startsAtIdentity: Bool = false
    ) -> Flow {
        requireNoScales(normalization, circular)
        let transformer = circular.transformer(transformer, variables: variables)
        let steps: [any Bijector] = (0..<layers).flatMap { index -> [any Bijector] in
            let partition = Partition.alternating(keepsOdd: index % 2 == 0)
            let step = Coupling(
                partition, transformer,
                conditioner: circular.coupling(
                    kept: partition.kept([variables]), hidden: hidden, parameters: transformer.parameterCount,
                    features: features, activation: activation, startsAtIdentity: startsAtIdentity))
            return normalization.layer(variables) + [step]
        }
        return Flow(
            Chain(steps), base: circular.base(base ?? DiagonalNormal(), variables: variables),
            exampleShape: [variables], features: features)
    }

    /// What stands in front of layers scales every column, and would tear a circle open.
    private static func requireNoScales(_ normalization: FlowNormalization, _ circular: CircularColumns) {
        trap(
            unless: normalization == .none || circular.columns.isEmpty,
            "columns on circles go with no normalization, found \(normalization)")
    }

    /// Masked autoregressive flow (Papamakarios, Pavlakou, Murray 2017): the order is reversed from layer to layer. What is not said
    /// otherwise is chosen as for `realNVP`.
    /// - Parameter limit: bounds the log standard deviations; 0 leaves them unbounded. Where it is not given it is 2, or what keeps
    ///   those of all layers below 5 together.
    public static func maf(
        variables: Int, layers: Int = 5, hidden: [Int] = [512, 512], limit: Double? = nil,
        activation: Activation = .relu,
        normalization: FlowNormalization = .actNorm, features: Int = 0, base: (any Distribution)? = nil,
        startsAtIdentity: Bool = true
    ) -> Flow {
        autoregressive(
            variables: variables, layers: layers, hidden: hidden,
            transformer: AffineTransformer(.standardize, bound: .within(limit ?? depthLimit(2, layers: layers))),
            activation: activation, normalization: normalization, features: features, base: base,
            startsAtIdentity: startsAtIdentity)
    }

    /// The bound of one layer's log-scales where `count` layers transform each variable.
    private static func depthLimit(_ most: Double, layers count: Int) -> Double {
        min(most, 5 / Double(max(1, count)))
    }

    /// Autoregressive layers with any transformer: deep sigmoidal for a neural autoregressive flow (Huang et al. 2018), splines
    /// for an autoregressive spline flow (Durkan et al. 2019), with columns on circles the circular one (Rezende et al. 2020), whose
    /// other columns `transformer` and `base` are for.
    public static func autoregressive(
        variables: Int, layers: Int, hidden: [Int], transformer: any Transformer, activation: Activation = .relu,
        normalization: FlowNormalization = .none, features: Int = 0, base: (any Distribution)? = nil,
        circular: CircularColumns = .none, startsAtIdentity: Bool = false
    ) -> Flow {
        requireNoScales(normalization, circular)
        let transformer = circular.transformer(transformer, variables: variables)
        let steps = alternatingOrders(variables, layers).flatMap { order -> [any Bijector] in
            normalization.layer(variables) + [
                Autoregressive(
                    order, transformer,
                    conditioner: circular.autoregressive(
                        order: order, hidden: hidden, parameters: transformer.parameterCount, features: features,
                        activation: activation, startsAtIdentity: startsAtIdentity))
            ]
        }
        return Flow(
            Chain(steps), base: circular.base(base ?? DiagonalNormal(), variables: variables),
            exampleShape: [variables], features: features)
    }

    /// MAF on top of an autoregressive mixture of Gaussians (Papamakarios et al. 2017, section 3.2, "MAF MoG").
    public static func mafMoG(
        variables: Int, layers: Int = 5, hidden: [Int] = [512, 512], components: Int = 10, limit: Double = 7,
        normalization: FlowNormalization = .none, features: Int = 0
    ) -> Flow {
        maf(
            variables: variables, layers: layers, hidden: hidden, limit: limit, normalization: normalization,
            features: features,
            base: AutoregressiveDensity(
                variables: variables, hidden: hidden, conditional: MixtureOfGaussians(components: components),
                features: features),
            startsAtIdentity: false)
    }

    /// Inverse autoregressive flow (Kingma et al. 2016): samples in one pass, densities of given data variable by variable.
    public static func iaf(
        variables: Int, layers: Int = 4, hidden: [Int] = [320, 320], limit: Double = 3, activation: Activation = .relu,
        features: Int = 0, base: (any Distribution)? = nil
    ) -> Flow {
        let steps: [any Bijector] = alternatingOrders(variables, layers).map { order in
            Inverted(
                Autoregressive(
                    order, AffineTransformer(.scaleThenShift, bound: .within(limit)), hidden: hidden,
                    features: features, activation: activation, startsAtIdentity: true))
        }
        return Flow(
            Chain(steps), base: base ?? DiagonalNormal(), exampleShape: [variables], features: features)
    }

    /// Planar flows one after the other (Rezende and Mohamed 2015).
    public static func planar(variables: Int, layers: Int = 32, base: (any Distribution)? = nil) -> Flow {
        Flow(
            Chain([ElementwiseAffine([variables])] + (0..<layers).map { _ in Planar(variables) as any Bijector }),
            base: base ?? DiagonalNormal(), exampleShape: [variables])
    }

    /// Radial flows one after the other (Rezende and Mohamed 2015).
    public static func radial(variables: Int, layers: Int = 32, base: (any Distribution)? = nil) -> Flow {
        Flow(
            Chain([ElementwiseAffine([variables])] + (0..<layers).map { _ in Radial(variables) as any Bijector }),
            base: base ?? DiagonalNormal(), exampleShape: [variables])
    }

    /// The natural order and its reversal in turns.
    private static func alternatingOrders(_ variables: Int, _ layers: Int) -> [Order] {
        (0..<layers).map { index in
            index % 2 == 0 ? .natural(variables) : .sequence(Array((0..<variables).reversed()))
        }
    }
}

extension Flow {
    /// The same flow of vectors for examples in units of their own: whole numbers with noise in the unit interval, columns standardised, class
    /// and features in one vector.
    /// - Parameters:
    ///   - levels, alpha: of whole numbers 0 ..< levels, as `unitInterval` has them; 0 for real numbers.
    ///   - circular: columns that are points of a circle.
    func forData(of examples: ExampleShape, levels: Int, alpha: Double, circular: [Int] = []) -> Flow {
        let conditions = Conditions(of: examples)
        guard levels == 0 else {
            return preceded(
                by: unitInterval(levels: levels, alpha: alpha),
                dequantization: UniformDequantization(levels: levels), conditions: conditions)
        }
        var shape = ExampleShape([examples.count], columns: examples.columns)
        // A circle keeps its period.
        for column in circular { shape.columns?[column].kind = .real(mean: 0, deviation: 1) }
        let (steps, noise) = standardization(shape)
        return preceded(by: steps, dequantization: noise, conditions: conditions)
    }
}

/// What stands in front of every layer of a flow.
public enum FlowNormalization: String, Sendable, CaseIterable {
    case none
    /// Fitted to the first batch, then trained.
    case actNorm
    case batchNorm

    func layer(_ channels: Int) -> [any Bijector] {
        switch self {
        case .none: []
        case .actNorm: [ActNorm(channels)]
        case .batchNorm: [BatchNormalization(channels)]
        }
    }
}

extension Flow {
    /// The choices of a flow of vectors.
    public struct VectorSettings: ModelSettings {
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
        /// The distribution of the latents: normal, logistic, student:DEGREES, or conditional, a normal whose means and deviations
        /// follow from what examples are given; nice and maf-mog have their own.
        public var base = "normal"
        /// Columns, counted from 0, that are points of a circle; of coupling and autoregressive with splines and no normalization.
        public var circular: [Int] = []
        /// Once round the circle: 360 for degrees. Draws lie from 0 to here.
        public var period = 2 * Double.pi
        /// In front of every layer: none, actNorm or batchNorm; of realnvp, coupling, maf, maf-mog and autoregressive.
        public var normalization = "none"
        /// Of maf-mog's base.
        public var components = 10
        /// Whole numbers 0 ..< levels as data: uniform noise is added and they are divided by levels; 0 for real data.
        public var levels = 0
        /// For whole numbers: x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves them in [0, 1).
        public var alpha = -1.0

        public init() {}

        static let flows = [
            "nice", "realnvp", "coupling", "maf", "maf-mog", "autoregressive", "iaf", "planar", "radial",
        ]

        public func validate(_ examples: ExampleShape) throws {
            try require(
                Self.flows.contains(flow), "flow: expected \(Self.flows.joined(separator: ", ")), found “\(flow)”")
            try require(layers, "layers", in: 1...256)
            try require(
                hidden.allSatisfy { (1...1 << 20).contains($0) } && hidden.count <= 64,
                "hidden: expected up to 64 layers of 1 to 1048576 units, found \(hidden)")
            try require(limit.isFinite && limit >= 0, "limit: expected a number of at least 0, found \(limit)")
            try require(
                (1e-30...1e30).contains(splineBound), "splineBound: expected 1e-30 to 1e30, found \(splineBound)")
            try require(components, "components", in: 1...4096)
            try require(
                levels == 0 || (2...1 << 16).contains(levels), "levels: expected 0, or 2 to 65536, found \(levels)")
            try require(alpha < 0.5, "alpha: expected a number below 0.5, found \(alpha)")
            try require(
                examples.count >= 2 || !["nice", "realnvp", "coupling"].contains(flow),
                "flow: a coupling of one variable has nothing to read and would be a Gaussian; take spline or naf, or maf for a Gaussian given features"
            )
            _ = try makeTransformer()
            _ = try makeBase(examples)
            try requireCircles(examples)
            _ = try requireChoice(activation, "activation") as Activation
            _ = try requireChoice(normalization, "normalization") as FlowNormalization
            let unconditional = ["nice", "planar", "radial"]
            try require(
                Conditions(of: examples).vectorCount == 0 || !unconditional.contains(flow),
                "flow: \(flow) takes no classes or features; expected \(Self.flows.filter { !unconditional.contains($0) }.joined(separator: ", "))"
            )
        }

        /// Whether the columns on circles are there, and everything else lets them close.
        private func requireCircles(_ examples: ExampleShape) throws {
            try require((1e-6...1e6).contains(period), "period: expected 1e-6 to 1e6, found \(period)")
            guard !circular.isEmpty else { return }
            if let column = circular.first(where: { !(0..<examples.count).contains($0) }) {
                throw UsageError("circular: expected columns 0 to \(examples.count - 1), found \(column)")
            }
            try require(Set(circular).count == circular.count, "circular: a column is named twice, found \(circular)")
            try require(
                Self.transformed.contains(flow) && transformer.hasPrefix("spline:"),
                "circular: expected flow=coupling or autoregressive with transformer=spline:BINS, found flow=\(flow) with transformer=\(transformer)"
            )
            try require(
                normalization == "none",
                "circular: normalization=\(normalization) scales columns, and a circle would not close; set normalization=none"
            )
            try require(levels == 0, "circular: expected real numbers, levels=0, found levels=\(levels)")
        }

        /// Flows that `transformer` is for.
        private static let transformed = ["coupling", "autoregressive"]

        /// Refuses what was set and does nothing beside the other settings. `validate` lets it pass, as runs that were stored before may
        /// hold such settings: to be asked where a new run begins.
        public func requireEffects() throws {
            let plain = Self()
            let (isSpline, isPlain) = (transformer.hasPrefix("spline:"), ["planar", "radial"].contains(flow))
            let idle: [(isIdle: Bool, reason: String)] = [
                (
                    transformer != plain.transformer && !Self.transformed.contains(flow),
                    "transformer=\(transformer) has no effect with flow=\(flow); set flow=autoregressive or coupling"
                ),
                (
                    hidden != plain.hidden && isPlain,
                    "hidden=\(hidden.map(String.init).joined(separator: ",")) has no effect with flow=\(flow), which has no networks; leave it out"
                ),
                (
                    components != plain.components && flow != "maf-mog",
                    "components=\(components) has no effect with flow=\(flow); set flow=maf-mog"
                ),
                (
                    alpha != plain.alpha && levels == 0,
                    "alpha=\(alpha) has no effect on real numbers; set levels, 256 for bytes"
                ),
                (
                    splineBound != plain.splineBound && !(Self.transformed.contains(flow) && isSpline),
                    "splineBound=\(splineBound) has no effect without splines; set transformer=spline:8 with flow=autoregressive or coupling"
                ),
                (
                    period != plain.period && circular.isEmpty,
                    "period=\(period) has no effect without columns on circles; set circular"
                ),
            ]
            if let first = idle.first(where: { $0.isIdle }) { throw UsageError(first.reason) }
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try validate(examples)
            return try makeFlow(examples).forData(of: examples, levels: levels, alpha: alpha, circular: circular)
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.flowLevels(for: flow)
            // Levels lie in [0, 1), whose ends a logit sends to infinity.
            if levels > 0 { alpha = 0.05 }
            // One variable is bent on its own.
            if data.examples.count == 1, flow == "coupling" { flow = "autoregressive" }
            return []
        }

        var bound: ScaleBound { .within(limit) }

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

        /// `nil` for the flow's own.
        private func makeBase(_ examples: ExampleShape) throws -> (any Distribution)? {
            let parts = base.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
            let number = parts.count == 2 ? Double(parts[1]) : nil
            switch (parts[0], number) {
            case ("normal", nil) where parts.count == 1: return nil
            case ("logistic", nil) where parts.count == 1: break
            case ("conditional", nil) where parts.count == 1:
                let features = Conditions(of: examples).vectorCount
                try require(
                    features > 0,
                    "base: conditional reads classes or features, and the examples have none; expected normal, logistic or student:DEGREES"
                )
                try require(circular.isEmpty, "base: conditional goes with no columns on circles; expected normal")
                return ConditionalNormal([examples.count], features: features)
            case ("student", let degrees?) where (0.2...1e6).contains(degrees): break
            default:
                throw UsageError(
                    "base: expected normal, conditional, logistic or student:DEGREES from 0.2 to 1e6, found “\(base)”")
            }
            try require(
                !["nice", "maf-mog"].contains(flow), "base: \(flow) has its own; expected normal, found “\(base)”")
            if let number { return StudentT(degrees: number) }
            return Logistic()
        }

        /// The columns on circles, bent by splines of as many bins as the others.
        private func makeCircular() throws -> CircularColumns {
            guard !circular.isEmpty, let spline = try makeTransformer() as? SplineTransformer else { return .none }
            return CircularColumns(circular, CircularSplineTransformer(bins: spline.bins, period: period))
        }

        private func makeFlow(_ examples: ExampleShape) throws -> Flow {
            let (variables, features) = (examples.count, Conditions(of: examples).vectorCount)
            let activation: Activation = try requireChoice(activation, "activation")
            let normalization: FlowNormalization = try requireChoice(normalization, "normalization")
            let (base, circular) = (try makeBase(examples), try makeCircular())
            return switch flow {
            case "nice": .nice(variables: variables, layers: layers, hidden: hidden)
            case "realnvp", "coupling":
                .coupling(
                    variables: variables, layers: layers, hidden: hidden,
                    transformer: flow == "realnvp"
                        ? AffineTransformer(.scaleThenShift, bound: bound) : try makeTransformer(),
                    activation: activation, normalization: normalization, features: features, base: base,
                    circular: circular)
            case "maf-mog":
                .mafMoG(
                    variables: variables, layers: layers, hidden: hidden, components: components, limit: limit,
                    normalization: normalization, features: features)
            case "iaf":
                .iaf(
                    variables: variables, layers: layers, hidden: hidden, limit: limit, activation: activation,
                    features: features, base: base)
            case "planar": .planar(variables: variables, layers: layers, base: base)
            case "radial": .radial(variables: variables, layers: layers, base: base)
            default:
                .autoregressive(
                    variables: variables, layers: layers, hidden: hidden,
                    transformer: flow == "maf" ? AffineTransformer(.standardize, bound: bound) : try makeTransformer(),
                    activation: activation, normalization: normalization, features: features, base: base,
                    circular: circular)
            }
        }
    }
}
