import Distributions
import Graph
import Layers

/// A decoder-only transformer over the variables of an image, one after the other (Chen et al. 2020, "Generative Pretraining from
/// Pixels", section 2.2; attention as in Vaswani et al. 2017, section 3.2).
///
/// Every position carries a vector, made from the variable before it and from where it is. A block adds what the position finds
/// among itself and earlier positions, then what a network of two layers makes of that.
public struct ImageTransformer: CausalModel {
    public let embed: ConvolutionLayer
    /// What is added at every position, `[width, variables]`.
    public let places: Parameter
    public let blocks: [TransformerBlock]
    public let head: ConvolutionLayer
    public let exampleShape: [Int]
    public let levels: Int
    public let conditional: any Conditional

    /// - Parameters:
    ///   - shape: `[channels, height, width]`; variables are drawn in the order in which they lie.
    ///   - levels: values of a variable; 2 makes the conditionals Bernoulli, more a softmax over all of them.
    ///   - width: the length of the vectors, a multiple of `heads`.
    public init(
        shape: [Int], levels: Int = 2, width: Int = 64, heads: Int = 4, blocks: Int = 8, dropout: Double = 0
    ) {
        exampleShape = shape
        self.levels = levels
        conditional = levels == 2 ? Bernoulli() : Categorical(levels: levels)
        embed = ConvolutionLayer(conditional.inputCount, width, kernel: [1])
        places = Parameter([width, shape.reduce(1, *)], .zeros)
        self.blocks = (0..<blocks).map { TransformerBlock(width, heads: heads, dropout: Dropout(dropout, stream: $0)) }
        head = ConvolutionLayer(width, conditional.parameterCount, kernel: [1])
        namedParameters()
    }

    public var order: Order { .natural(variableCount) }

    public func conditionalParameters(_ x: Tensor, _ context: ForwardContext) -> Tensor {
        var h = embed(conditional.encode(x).shiftedByOne()) + places.tensor
        for block in blocks { h = block(h, context) }
        return head(h)
    }
}

/// Attention and a network of two layers, each behind a norm and beside a way past it. x `[batch, width, positions]`.
public struct TransformerBlock: Module {
    let norms: [LayerNorm]
    let attention: CausalAttention
    let expand: ConvolutionLayer
    let reduce: ConvolutionLayer
    let dropout: Dropout

    init(_ width: Int, heads: Int, dropout: Dropout) {
        norms = [LayerNorm(width), LayerNorm(width)]
        attention = CausalAttention(width, heads: heads)
        expand = ConvolutionLayer(width, 4 * width, kernel: [1])
        reduce = ConvolutionLayer(4 * width, width, kernel: [1])
        self.dropout = dropout
    }

    func callAsFunction(_ x: Tensor, _ context: ForwardContext) -> Tensor {
        let h = x + attention(norms[0](x))
        return h + dropout(reduce(expand(norms[1](h)).gelu()), context)
    }
}
