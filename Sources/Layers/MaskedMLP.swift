import Graph

/// The function between the layers of a network.
public enum Activation: String, Sendable, CaseIterable {
    case relu, tanh, sigmoid, softplus

    public func callAsFunction(_ h: Tensor) -> Tensor {
        switch self {
        case .relu: h.relu()
        case .tanh: h.tanh()
        case .sigmoid: h.sigmoid()
        case .softplus: h.softplus()
        }
    }
}

/// Which units of a masked network may be connected: every unit has a degree, and reads units of at most its own degree; an output
/// reads lower degrees only, if the last layer is strict.
public enum NetworkDegrees {
    /// Numbers, so that dead weights are exactly zero and never computed.
    case constant(input: [Int32], hidden: [[Int32]], output: [Int32], isStrict: Bool)
    /// int32 graph values that may differ from run to run.
    case runtime(input: Tensor, hidden: [Tensor], output: Tensor, isStrict: Bool)
    /// Any 0/1 matrices `[out, in]`, one for each layer.
    case matrices([BitMatrix])

    /// The degrees of a network that computes `outputs` parameters for each variable from `inputs` numbers of each, all of one kind
    /// side by side (Germain et al. 2015, equations 12 and 13).
    public static func autoregressive(_ orders: ModelOrders, inputs: Int = 1, outputs: Int = 1) -> NetworkDegrees {
        switch orders {
        case .constant(let order, let hidden):
            func repeated(_ count: Int) -> [Int32] { (0..<count).flatMap { _ in order.index } }
            return .constant(input: repeated(inputs), hidden: hidden, output: repeated(outputs), isStrict: true)
        case .runtime(let order, let hidden):
            func repeated(_ count: Int) -> Tensor {
                if count == 1 { return order }
                return order.broadcast(to: [Extent(count), order.shape[0]]).reshaped([order.shape[0] * Extent(count)])
            }
            return .runtime(input: repeated(inputs), hidden: hidden, output: repeated(outputs), isStrict: true)
        }
    }

    public var layerCount: Int {
        switch self {
        case .constant(_, let hidden, _, _): hidden.count + 1
        case .runtime(_, let hidden, _, _): hidden.count + 1
        case .matrices(let masks): masks.count
        }
    }

    /// The degrees on both sides of each layer.
    var layers: [LayerDegrees] {
        switch self {
        case .constant(let input, let hidden, let output, let isStrict):
            let sides = [input] + hidden + [output]
            return (0..<layerCount).map {
                .constant(input: sides[$0], output: sides[$0 + 1], strict: isStrict && $0 == layerCount - 1)
            }
        case .runtime(let input, let hidden, let output, let isStrict):
            let sides = [input] + hidden + [output]
            return (0..<layerCount).map {
                .runtime(input: sides[$0], output: sides[$0 + 1], strict: isStrict && $0 == layerCount - 1)
            }
        case .matrices(let masks): return masks.map { .matrix($0) }
        }
    }

    /// From the inputs straight to the outputs; matrices say nothing of that.
    var direct: LayerDegrees? {
        switch self {
        case .constant(let input, _, let output, let isStrict):
            .constant(input: input, output: output, strict: isStrict)
        case .runtime(let input, _, let output, let isStrict):
            .runtime(input: input, output: output, strict: isStrict)
        case .matrices: nil
        }
    }

    /// Units of every layer, inputs first.
    var widths: [Int] {
        switch self {
        case .constant(let input, let hidden, let output, _): [input.count] + hidden.map(\.count) + [output.count]
        case .runtime(let input, let hidden, let output, _):
            ([input] + hidden + [output]).map { $0.shape[0].coefficient }
        case .matrices(let masks): (masks.first.map { [$0.columns] } ?? []) + masks.map(\.rows)
        }
    }

    /// With `count` more inputs that every unit may read, behind the others.
    func readingFeatures(_ count: Int) -> NetworkDegrees {
        guard count > 0, case .constant(let input, let hidden, let output, let isStrict) = self else { return self }
        return .constant(
            input: input + [Int32](repeating: Self.featureDegree, count: count), hidden: hidden, output: output,
            isStrict: isStrict)
    }

    /// The degree of the features that a network is conditioned on: below that of any unit.
    public static let featureDegree: Int32 = -1
}

/// Dense layers whose masks follow from degrees (Germain et al. 2015, equations 12 and 13).
///
/// One type serves MADE and flows: with the degrees of an order it is an autoregressive network, with two degrees it is a
/// coupling's, whose dead halves the compiler never visits.
public struct MaskedMLP: Module {
    public let layers: [MaskedDense]
    /// Input to output, where the degrees allow (Germain et al. 2015, section 4.3).
    public let direct: MaskedDense?
    public let activation: Activation
    /// Features of each example that the network reads beside x.
    public let featureCount: Int
    /// Of the units of each hidden layer.
    public let dropout: [Dropout]
    private let degrees: NetworkDegrees
    /// Where the network was written, for messages about its layers.
    private let place: (file: StaticString, line: UInt)

    /// - Parameters:
    ///   - degrees: of x's elements, the hidden units and the outputs; if constant, dead weights are exactly zero.
    ///   - features: numbers that each example is conditioned on; every unit may read them. Of constant degrees only.
    ///   - startsAtIdentity: whether the last layer starts at zero.
    ///   - dropout: the share of hidden units that a training step leaves out.
    public init(
        _ degrees: NetworkDegrees, features: Int = 0, activation: Activation = .relu,
        hasDirectConnections: Bool = false, startsAtIdentity: Bool = false, dropout: Double = 0,
        file: StaticString = #fileID, line: UInt = #line
    ) {
        place = (file, line)
        self.activation = activation
        featureCount = features
        self.degrees = degrees.readingFeatures(features)
        let (sides, widths) = (self.degrees.layers, self.degrees.widths)
        self.dropout = (0..<max(0, sides.count - 1)).map { Dropout(dropout, stream: 300 + $0) }
        layers = sides.indices.map {
            MaskedDense(
                widths[$0], widths[$0 + 1], mask: Self.constantMask(sides[$0]),
                initializer: startsAtIdentity && $0 == sides.count - 1 ? .zeros : nil)
        }
        direct =
            hasDirectConnections
            ? MaskedDense(
                widths[0], widths[widths.count - 1], mask: self.degrees.direct.flatMap(Self.constantMask),
                hasBias: false)
            : nil
    }

    /// With any masks `[out, in]`, one for each layer; whether they respect an order is for a proof to say.
    public init(
        masks: [BitMatrix], activation: Activation = .relu, file: StaticString = #fileID, line: UInt = #line
    ) {
        self.init(.matrices(masks), activation: activation, file: file, line: line)
    }

    private static func constantMask(_ degrees: LayerDegrees) -> MaskStructure? {
        if case .runtime = degrees { return nil }
        return degrees.mask
    }

    /// For an order of D variables: `parameters` outputs for each variable, which read only variables before it.
    /// - Parameter repeated: variables of which x holds a second number, behind the first of all.
    public static func autoregressive(
        order: Order, hidden: [Int], parameters: Int, features: Int = 0, repeated: [Int] = [],
        activation: Activation = .relu, startsAtIdentity: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> MaskedMLP {
        // Some units read the features and no variable, for the first variable's sake.
        let least = features > 0 ? -1 : 0
        let span = max(1, order.groupCount - 1 - least)
        let degrees = hidden.map { count in (0..<count).map { Int32(least + $0 * span / count) } }
        return MaskedMLP(
            .constant(
                input: order.index + repeated.map { order.index[$0] }, hidden: degrees,
                output: (0..<parameters).flatMap { _ in order.index }, isStrict: true),
            features: features, activation: activation, startsAtIdentity: startsAtIdentity, file: file, line: line)
    }

    /// For a coupling: the kept elements are read, parameters of the others are computed.
    /// - Parameter repeated: elements of which x holds a second number, behind the first of all.
    public static func coupling(
        kept: [Bool], hidden: [Int], parameters: Int, features: Int = 0, repeated: [Int] = [],
        activation: Activation = .relu, startsAtIdentity: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> MaskedMLP {
        MaskedMLP(
            .constant(
                input: (kept + repeated.map { kept[$0] }).map { $0 ? 0 : 1 },
                hidden: hidden.map { [Int32](repeating: 0, count: $0) },
                // An output of degree -2 reads nothing, not even features; its weights do not exist.
                output: (0..<parameters).flatMap { _ in kept.map { $0 ? -2 : 0 } }, isStrict: false),
            features: features, activation: activation, startsAtIdentity: startsAtIdentity, file: file, line: line)
    }

    /// - Parameters:
    ///   - x: `[batch, inputs]`.
    ///   - degrees: in place of the network's own, for degrees that are known at run time.
    public func callAsFunction(_ x: Tensor, _ context: Context, degrees: NetworkDegrees? = nil) -> Tensor {
        let degrees = degrees.map { $0.readingFeatures(featureCount) } ?? self.degrees
        trap(
            unless:
                degrees.layerCount == layers.count,
            "a network of \(layers.count) layers needs degrees for each of them, found degrees for \(degrees.layerCount)"
        )
        let input =
            featureCount > 0
            ? .concatenate([x, context.features(beside: x, shape: [featureCount])], axis: 1) : x
        var h = input
        for (index, (layer, degrees)) in zip(layers, degrees.layers).enumerated() {
            h = layer(h, degrees, file: place.file, line: place.line)
            if index < layers.count - 1 { h = dropout[index](activation(h), context) }
        }
        guard let direct, let between = degrees.direct else { return h }
        return h + direct(input, between, file: place.file, line: place.line)
    }
}

/// Plain dense layers with a function between them.
public struct DenseNetwork: Module {
    public let layers: [Dense]
    public let activation: Activation
    /// Features of each example that the network reads beside x.
    public let featureCount: Int
    /// Where the network was written, for messages about its layers.
    private let place: (file: StaticString, line: UInt)

    public init(
        _ inputs: Int, hidden: [Int], outputs: Int, features: Int = 0, activation: Activation = .relu,
        startsAtIdentity: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) {
        place = (file, line)
        let widths = [inputs + features] + hidden + [outputs]
        layers = (0..<widths.count - 1).map {
            Dense(widths[$0], widths[$0 + 1], initializer: startsAtIdentity && $0 == widths.count - 2 ? .zeros : nil)
        }
        self.activation = activation
        featureCount = features
    }

    /// x `[batch, inputs]`.
    public func callAsFunction(_ x: Tensor, _ context: Context = Context()) -> Tensor {
        var h =
            featureCount > 0 ? .concatenate([x, context.features(beside: x, shape: [featureCount])], axis: 1) : x
        for (index, layer) in layers.enumerated() {
            h = layer(h, file: place.file, line: place.line)
            if index < layers.count - 1 { h = activation(h) }
        }
        return h
    }
}
