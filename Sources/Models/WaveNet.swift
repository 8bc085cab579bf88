import Distributions
import Graph
import Layers

/// WaveNet (van den Oord et al. 2016, "WaveNet: A Generative Model for Raw Audio").
///
/// Causal convolutions of two taps whose dilation doubles from layer to layer, gated units (equation 2), residual and skip
/// connections (figure 4). Variables are whole numbers 0 ..< levels, mu-law codes of samples (section 2.2).
public struct WaveNet: CausalModel {
    public let embed: ConvolutionLayer
    public let gated: [ConvolutionLayer]
    public let residual: [ConvolutionLayer]
    public let skip: [ConvolutionLayer]
    /// Global conditioning on a class, and local conditioning on features at every step (section 2.5).
    public let globalCondition: [ClassEmbedding]
    public let localCondition: [ConvolutionLayer]
    public let head: [ConvolutionLayer]
    public let dilations: [Int]
    public let exampleShape: [Int]
    public let levels: Int
    public let conditional: any Conditional

    public enum Output: String, Codable, Sendable, CaseIterable {
        case softmax
        /// A mixture of ten discretized logistics.
        case logistics
    }

    /// - Parameters:
    ///   - steps: samples of an example.
    ///   - stacks: how often the dilations 1, 2, ... run through.
    ///   - layers: dilations of a stack.
    ///   - localChannels: channels of the features that each step is conditioned on.
    public init(
        steps: Int, levels: Int = 256, residual channels: Int = 64, skip skipChannels: Int = 256, stacks: Int = 2,
        layers: Int = 10, output: Output = .softmax, classes: Int? = nil, localChannels: Int = 0
    ) {
        exampleShape = [steps]
        self.levels = levels
        conditional =
            output == .softmax
            ? Categorical(levels: levels) : DiscretizedLogisticMixture(levels: levels, components: 10)
        let dilations = (0..<stacks).flatMap { _ in (0..<layers).map { 1 << $0 } }
        self.dilations = dilations
        embed = ConvolutionLayer(output == .softmax ? levels : 1, channels, kernel: [1])
        gated = dilations.map { .causal(channels, 2 * channels, kernel: 2, dilation: $0) }
        residual = dilations.map { _ in ConvolutionLayer(channels, channels, kernel: [1]) }
        skip = dilations.map { _ in ConvolutionLayer(channels, skipChannels, kernel: [1]) }
        globalCondition = classes.map { c in dilations.map { _ in ClassEmbedding(classes: c, 2 * channels) } } ?? []
        localCondition =
            localChannels > 0
            ? dilations.map { _ in ConvolutionLayer(localChannels, 2 * channels, kernel: [1], hasBias: false) } : []
        head = [
            ConvolutionLayer(skipChannels, skipChannels, kernel: [1]),
            ConvolutionLayer(skipChannels, conditional.parameterCount, kernel: [1]),
        ]
        namedParameters()
    }

    public var order: Order { .natural(exampleShape[0]) }

    /// Samples that a conditional reads, its own not counted.
    public var receptiveField: Int { dilations.reduce(0, +) + 1 }

    public func conditionalParameters(_ x: Tensor, _ context: ForwardContext) -> Tensor {
        // Step t sees the samples before t.
        var h = embed(conditional.encode(x).shiftedByOne())
        var features: [Tensor] = []
        for layer in dilations.indices {
            var a = gated[layer](h)
            if !globalCondition.isEmpty { a = globalCondition[layer](a, context) }
            if !localCondition.isEmpty { a = a + localCondition[layer](context.features(beside: a)) }
            let y = a.gated()
            features.append(y)
            // The last layer's residual output feeds nothing.
            if layer < dilations.count - 1 { h = h + residual[layer](y) }
        }
        // Every layer adds its skip: one product over the features of all layers.
        var out = ConvolutionLayer.sum(skip, of: features)
        for layer in head { out = layer(out.relu()) }
        return out
    }
}

extension Tensor {
    /// `[batch, channels, steps]` one step later: zeros first, the last step dropped.
    func shiftedByOne() -> Tensor {
        sliced(axis: 2, from: 0, count: shape[2].coefficient - 1).padded(low: [0, 0, 1], high: [0, 0, 0])
    }
}
