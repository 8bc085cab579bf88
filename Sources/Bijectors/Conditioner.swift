import Graph
import Layers

/// A network that computes the parameters of a transformer: from what it may see of x to `[batch, parameters * width, ..]`,
/// one block of `width` for each parameter.
public protocol Conditioner: Module {
    func callAsFunction(_ x: Tensor, _ pass: Pass) -> Tensor
}

public enum Activation: String, Sendable, CaseIterable {
    case relu, tanh, sigmoid, softplus

    func callAsFunction(_ h: Tensor) -> Tensor {
        switch self {
        case .relu: h.relu()
        case .tanh: h.tanh()
        case .sigmoid: h.sigmoid()
        case .softplus: h.softplus()
        }
    }
}

/// Dense layers with masks by degree. A unit of degree m sees units of at most that degree; outputs see lower degrees only,
/// or the same ones for coupling.
///
/// One type serves both families: with the degrees of an order it is MADE's network (Germain et al. 2015), with two degrees it
/// is a coupling's, whose dead halves the compiler never visits. A context, if there is one, has degree 0.
public struct MaskedMLP: Conditioner {
    public let layers: [MaskedDense]
    public let activation: Activation
    public let contextCount: Int
    /// Where the network was written, for messages about its layers.
    private let place: (file: StaticString, line: UInt)
    private let degrees: [LayerDegrees]

    /// - Parameters:
    ///   - input: the degree of each input, from 1.
    ///   - hidden: the degrees of each hidden layer.
    ///   - output: the degree of each output.
    ///   - strict: whether outputs see lower degrees only.
    ///   - startsAtIdentity: whether the last layer starts at zero.
    public init(
        input: [Int32], hidden: [[Int32]], output: [Int32], strict: Bool, context: Int = 0,
        activation: Activation = .relu, startsAtIdentity: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) {
        place = (file, line)
        contextCount = context
        self.activation = activation
        let sides = [input + [Int32](repeating: 0, count: context)] + hidden + [output]
        degrees = (0..<sides.count - 1).map {
            .constant(input: sides[$0], output: sides[$0 + 1], strict: strict && $0 == sides.count - 2)
        }
        layers = degrees.enumerated().map { index, degrees in
            MaskedDense(
                sides[index].count, sides[index + 1].count, mask: degrees.mask,
                initializer: startsAtIdentity && index == sides.count - 2 ? .zeros : nil)
        }
    }

    /// With any masks `[out, in]`, one for each layer; whether they respect an order is for `proveStructure` to say.
    public init(
        masks: [BitMatrix], activation: Activation = .relu, file: StaticString = #fileID, line: UInt = #line
    ) {
        place = (file, line)
        contextCount = 0
        self.activation = activation
        degrees = masks.map { .matrix($0) }
        layers = masks.map { MaskedDense($0.columns, $0.rows, mask: .matrix($0)) }
    }

    /// For an order of D variables: place `order[d]` counted from 0, `parameters` outputs for each variable.
    public static func autoregressive(
        order: Order, hidden: [Int], parameters: Int, context: Int = 0, activation: Activation = .relu,
        startsAtIdentity: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> MaskedMLP {
        let places = order.index.map { $0 + 1 }
        // Units that see a context and no variable, for the first variable's sake.
        let least = context > 0 ? 0 : 1
        let span = max(1, order.groupCount - least)
        return MaskedMLP(
            input: places, hidden: hidden.map { count in (0..<count).map { Int32(least + $0 * span / count) } },
            output: (0..<parameters).flatMap { _ in places }, strict: true, context: context, activation: activation,
            startsAtIdentity: startsAtIdentity, file: file, line: line)
    }

    /// For a coupling: the kept elements are seen, parameters of the others are computed.
    public static func coupling(
        kept: [Bool], hidden: [Int], parameters: Int, context: Int = 0, activation: Activation = .relu,
        startsAtIdentity: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> MaskedMLP {
        MaskedMLP(
            input: kept.map { $0 ? 1 : 2 }, hidden: hidden.map { [Int32](repeating: 1, count: $0) },
            // An output of degree -1 sees nothing; its weights do not exist.
            output: (0..<parameters).flatMap { _ in kept.map { $0 ? -1 : 1 } }, strict: false, context: context,
            activation: activation, startsAtIdentity: startsAtIdentity, file: file, line: line)
    }

    public func callAsFunction(_ x: Tensor, _ pass: Pass) -> Tensor {
        var h = contextCount > 0 ? .concatenate([x, pass.context(beside: x)], axis: 1) : x
        for (index, (layer, degrees)) in zip(layers, degrees).enumerated() {
            h = layer(h, degrees, file: place.file, line: place.line)
            if index < layers.count - 1 { h = activation(h) }
        }
        return h
    }
}

/// Plain dense layers, for couplings that hand only the kept half to the network.
public struct DenseNetwork: Conditioner {
    public let layers: [Dense]
    public let activation: Activation
    public let contextCount: Int
    /// Where the network was written, for messages about its layers.
    private let place: (file: StaticString, line: UInt)

    public init(
        _ inputs: Int, hidden: [Int], outputs: Int, context: Int = 0, activation: Activation = .relu,
        startsAtIdentity: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) {
        place = (file, line)
        let widths = [inputs + context] + hidden + [outputs]
        layers = (0..<widths.count - 1).map {
            Dense(widths[$0], widths[$0 + 1], initializer: startsAtIdentity && $0 == widths.count - 2 ? .zeros : nil)
        }
        self.activation = activation
        contextCount = context
    }

    public func callAsFunction(_ x: Tensor, _ pass: Pass) -> Tensor {
        var h = contextCount > 0 ? .concatenate([x, pass.context(beside: x)], axis: 1) : x
        for (index, layer) in layers.enumerated() {
            h = layer(h, file: place.file, line: place.line)
            if index < layers.count - 1 { h = activation(h) }
        }
        return h
    }
}

extension Tensor {
    /// A conditioner's result: blocks along axis 1, one for each of `count` parameters, every one of the shape of the elements
    /// that they transform. Anything else is a mistake: a narrower block would be broadcast, and its log-derivative counted once
    /// for all elements that it serves.
    func parameters(_ count: Int, for x: Tensor) -> Tensor {
        if x.error != nil { return x }
        var expected = x.shape
        if x.shape.rank > 1 { expected.dimensions[1] = Extent(count * x.shape[1].coefficient) }
        if shape == expected { return self }
        return .misuse(
            "conditioner", "expected \(count) parameters for \(x.shape), \(expected), found \(shape)", of: self)
    }

    /// Those blocks.
    func blocks(_ count: Int, for x: Tensor) -> [Tensor] {
        let (all, width) = (parameters(count, for: x), x.shape[1].coefficient)
        return (0..<count).map { all.sliced(axis: 1, from: $0 * width, count: width) }
    }
}

/// Convolutions of odd kernels that keep height and width, for couplings of images: Glow's 3x3, 1x1, 3x3 (Kingma and Dhariwal
/// 2018, section 3.3).
public struct ConvolutionNetwork: Conditioner {
    public let layers: [ConvolutionLayer]
    public let activation: Activation

    /// - Parameters:
    ///   - channels: before the first layer, between layers, and behind the last.
    ///   - kernels: one for each layer.
    ///   - startsAtIdentity: whether the last layer starts at zero.
    public init(channels: [Int], kernels: [Int], activation: Activation = .relu, startsAtIdentity: Bool = true) {
        layers = kernels.indices.map {
            ConvolutionLayer(
                channels[$0], channels[$0 + 1], kernel: [kernels[$0], kernels[$0]],
                initializer: startsAtIdentity && $0 == kernels.count - 1 ? .zeros : nil)
        }
        self.activation = activation
    }

    public func callAsFunction(_ x: Tensor, _ pass: Pass) -> Tensor {
        var h = x
        for (index, layer) in layers.enumerated() {
            h = layer(h)
            if index < layers.count - 1 { h = activation(h) }
        }
        return h
    }
}
