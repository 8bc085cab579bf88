import Graph

/// Masked attention (Vaswani et al. 2017, equation 1 and section 3.2.2): every position reads values of itself and earlier
/// positions, weighted by how well their keys fit its query, in several heads side by side. x `[batch, width, positions]`.
public struct CausalAttention: Module {
    /// Queries, keys and values, each of all heads.
    public let project: ConvolutionLayer
    public let combine: ConvolutionLayer
    public let heads: Int

    /// - Parameter width: a multiple of `heads`.
    public init(_ width: Int, heads: Int) {
        trap(unless: heads > 0 && width % heads == 0, "the width of attention must be a multiple of its heads")
        project = ConvolutionLayer(width, 3 * width, kernel: [1])
        combine = ConvolutionLayer(width, width, kernel: [1])
        self.heads = heads
    }

    public func callAsFunction(_ x: Tensor) -> Tensor {
        let (batch, width, positions) = (x.shape[0], x.shape[1].coefficient, x.shape[2].coefficient)
        let depth = width / heads
        let parts = project(x).reshaped([batch, 3, Extent(heads), Extent(depth), Extent(positions)])
        let part = { (index: Int) -> Tensor in
            parts.sliced(axis: 1, from: index, count: 1).reshaped([
                batch, Extent(heads), Extent(depth), Extent(positions),
            ])
        }
        let read = Tensor.attention(byDepth: part(0), part(1), part(2), .causal)
        return combine(read.reshaped(x.shape))
    }
}

extension Tensor {
    /// `x * P(z < x)` of a normal z (Hendrycks and Gimpel 2016).
    public func gelu() -> Tensor { self * ((self * 0.5.squareRoot()).apply(.erf) * 0.5 + 0.5) }
}
