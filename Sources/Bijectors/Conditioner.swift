import Graph
import Layers

/// A network that computes the parameters of a transformer: from what it may see of x to `[batch, parameters * width, ..]`,
/// one block of `width` for each parameter.
public protocol Conditioner: Module {
    func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor
}

extension MaskedMLP: Conditioner {
    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor { callAsFunction(x, context, degrees: nil) }
}

extension DenseNetwork: Conditioner {}

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
    /// What the context's features add to the first layer's maps.
    public let given: ConditionEmbedding?
    public let activation: Activation

    /// - Parameters:
    ///   - channels: before the first layer, between layers, and behind the last.
    ///   - kernels: one for each layer.
    ///   - features: numbers that each example is conditioned on.
    ///   - startsAtIdentity: whether the last layer starts at zero.
    public init(
        channels: [Int], kernels: [Int], features: Int = 0, activation: Activation = .relu,
        startsAtIdentity: Bool = true
    ) {
        given = kernels.count > 1 ? ConditionEmbedding(classes: nil, features: features, channels[1]) : nil
        layers = kernels.indices.map {
            ConvolutionLayer(
                channels[$0], channels[$0 + 1], kernel: [kernels[$0], kernels[$0]],
                initializer: startsAtIdentity && $0 == kernels.count - 1 ? .zeros : nil)
        }
        self.activation = activation
    }

    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        var h = x
        for (index, layer) in layers.enumerated() {
            h = layer(h, context)
            if index == 0, let given { h = given(h, context) }
            if index < layers.count - 1 { h = activation(h) }
        }
        return h
    }
}
