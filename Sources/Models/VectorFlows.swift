import Bijectors
import Distributions
import Graph
import Layers

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
        normalization: FlowNormalization = .actNorm, context: Int = 0, startsAtIdentity: Bool = true
    ) -> Flow {
        coupling(
            variables: variables, layers: layers, hidden: hidden,
            transformer: AffineTransformer(
                .scaleThenShift, bound: .within(limit ?? depthLimit(1, layers: (layers + 1) / 2))),
            activation: activation, normalization: normalization, context: context, startsAtIdentity: startsAtIdentity)
    }

    /// Couplings with any transformer; with splines it is the neural spline flow (Durkan et al. 2019).
    public static func coupling(
        variables: Int, layers: Int, hidden: [Int], transformer: any Transformer, activation: Activation = .relu,
        normalization: FlowNormalization = .none, context: Int = 0, startsAtIdentity: Bool = false
    ) -> Flow {
        let steps: [any Bijector] = (0..<layers).flatMap { index -> [any Bijector] in
            let partition = Partition.alternating(keepsOdd: index % 2 == 0)
            let step = Coupling(
                partition, transformer,
                conditioner: MaskedMLP.coupling(
                    kept: partition.kept([variables]), hidden: hidden, parameters: transformer.parameterCount,
                    context: context, activation: activation, startsAtIdentity: startsAtIdentity))
            return normalization.layer(variables) + [step]
        }
        return Flow(Chain(steps), base: DiagonalNormal(), exampleShape: [variables], contextCount: context)
    }

    /// Masked autoregressive flow (Papamakarios, Pavlakou, Murray 2017): the order is reversed from layer to layer. What is not said
    /// otherwise is chosen as for `realNVP`.
    /// - Parameter limit: bounds the log standard deviations; 0 leaves them unbounded. Where it is not given it is 2, or what keeps
    ///   those of all layers below 5 together.
    public static func maf(
        variables: Int, layers: Int = 5, hidden: [Int] = [512, 512], limit: Double? = nil,
        activation: Activation = .relu,
        normalization: FlowNormalization = .actNorm, context: Int = 0, base: (any Distribution)? = nil,
        startsAtIdentity: Bool = true
    ) -> Flow {
        autoregressive(
            variables: variables, layers: layers, hidden: hidden,
            transformer: AffineTransformer(.standardize, bound: .within(limit ?? depthLimit(2, layers: layers))),
            activation: activation, normalization: normalization, context: context, base: base,
            startsAtIdentity: startsAtIdentity)
    }

    /// The bound of one layer's log-scales where `count` layers transform each variable.
    private static func depthLimit(_ most: Double, layers count: Int) -> Double {
        min(most, 5 / Double(max(1, count)))
    }

    /// Autoregressive layers with any transformer: deep sigmoidal for a neural autoregressive flow (Huang et al. 2018), splines
    /// for an autoregressive spline flow (Durkan et al. 2019).
    public static func autoregressive(
        variables: Int, layers: Int, hidden: [Int], transformer: any Transformer, activation: Activation = .relu,
        normalization: FlowNormalization = .none, context: Int = 0, base: (any Distribution)? = nil,
        startsAtIdentity: Bool = false
    ) -> Flow {
        let steps = alternatingOrders(variables, layers).flatMap { order -> [any Bijector] in
            normalization.layer(variables) + [
                Autoregressive(
                    order, transformer, hidden: hidden, context: context, activation: activation,
                    startsAtIdentity: startsAtIdentity)
            ]
        }
        return Flow(
            Chain(steps), base: base ?? DiagonalNormal(), exampleShape: [variables], contextCount: context)
    }

    /// MAF on top of an autoregressive mixture of Gaussians (Papamakarios et al. 2017, section 3.2, "MAF MoG").
    public static func mafMoG(
        variables: Int, layers: Int = 5, hidden: [Int] = [512, 512], components: Int = 10, limit: Double = 7,
        normalization: FlowNormalization = .none
    ) -> Flow {
        maf(
            variables: variables, layers: layers, hidden: hidden, limit: limit, normalization: normalization,
            base: AutoregressiveDensity(
                variables: variables, hidden: hidden, conditional: MixtureOfGaussians(components: components)),
            startsAtIdentity: false)
    }

    /// Inverse autoregressive flow (Kingma et al. 2016): samples in one pass, densities of given data variable by variable.
    public static func iaf(
        variables: Int, layers: Int = 4, hidden: [Int] = [320, 320], limit: Double = 3, activation: Activation = .relu,
        context: Int = 0
    ) -> Flow {
        let steps: [any Bijector] = alternatingOrders(variables, layers).map { order in
            Inverted(
                Autoregressive(
                    order, AffineTransformer(.scaleThenShift, bound: .within(limit)), hidden: hidden,
                    context: context, activation: activation, startsAtIdentity: true))
        }
        return Flow(Chain(steps), base: DiagonalNormal(), exampleShape: [variables], contextCount: context)
    }

    /// Planar flows one after the other (Rezende and Mohamed 2015).
    public static func planar(variables: Int, layers: Int = 32) -> Flow {
        Flow(
            Chain([ElementwiseAffine([variables])] + (0..<layers).map { _ in Planar(variables) as any Bijector }),
            base: DiagonalNormal(), exampleShape: [variables])
    }

    /// Radial flows one after the other (Rezende and Mohamed 2015).
    public static func radial(variables: Int, layers: Int = 32) -> Flow {
        Flow(
            Chain([ElementwiseAffine([variables])] + (0..<layers).map { _ in Radial(variables) as any Bijector }),
            base: DiagonalNormal(), exampleShape: [variables])
    }

    /// The natural order and its reversal in turns.
    private static func alternatingOrders(_ variables: Int, _ layers: Int) -> [Order] {
        (0..<layers).map { index in
            index % 2 == 0 ? .natural(variables) : .sequence(Array((0..<variables).reversed()))
        }
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

/// A MADE as a distribution, for the base of a flow.
public struct AutoregressiveDensity: Distribution {
    public let made: MADE
    private let orders: ModelOrders

    public init(variables: Int, hidden: [Int], conditional: any Conditional) {
        let (order, degrees) = MaskSampler(variables: variables, hidden: hidden).mask(0)
        orders = .constant(order: order, hidden: degrees)
        made = MADE(variables: variables, hidden: hidden, conditional: conditional, orders: orders)
    }

    public var name: String { "MADE, \(made.conditional.name)" }

    public func logProbability(_ x: Tensor) -> Tensor { made.logProbability(x, orders) }

    /// As many passes as there are variables; `draw` gives what the compiled sampler takes.
    public func sample(_ shape: Shape, _ random: RandomSource) -> Tensor {
        var x = Tensor.scalar(0).broadcast(to: shape)
        for _ in 0..<made.variableCount { x = made.draw(x, orders, random).drawn }
        return x
    }

    /// Every variable as a function of earlier ones and of random numbers.
    public func draw(_ x: Tensor, _ random: RandomSource, temperature: Double = 1) -> (drawn: Tensor, order: Order) {
        (made.draw(x, orders, random, temperature: temperature).drawn, .natural(made.variableCount))
    }
}
