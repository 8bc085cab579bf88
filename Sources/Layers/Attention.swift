import Graph

/// Masked attention (Vaswani et al. 2017, equation 1 and section 3.2.2): every position reads values of itself and earlier
/// positions, weighted by how well their keys fit its query, in several heads side by side. x `[batch, width, positions]`.
public struct CausalAttention: Module {
    /// Queries, keys and values, each of all heads.
    public let project: ConvolutionLayer
    public let combine: ConvolutionLayer
    public let heads: Int
    /// Queries that are computed together.
    public let block: Int

    /// - Parameters:
    ///   - width: a multiple of `heads`.
    ///   - block: at least 1; results differ by rounding.
    public init(_ width: Int, heads: Int, block: Int = 112) {
        trap(unless: heads > 0 && width % heads == 0, "the width of attention must be a multiple of its heads")
        trap(unless: block > 0, "a block of attention must hold a query")
        project = ConvolutionLayer(width, 3 * width, kernel: [1])
        combine = ConvolutionLayer(width, width, kernel: [1])
        self.heads = heads
        self.block = block
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
        let (queries, keys, values) = (part(0) * (1 / Double(depth).squareRoot()), part(1), part(2))
        // A block of queries meets the keys up to its own last one: what lies behind is never computed.
        let found = stride(from: 0, to: positions, by: block).map { start -> Tensor in
            let count = min(block, positions - start)
            let scores = queries.sliced(axis: 3, from: start, count: count).matrixTransposed()
                .matmul(keys.sliced(axis: 3, from: 0, count: start + count))
            let isEarlier = Tensor.constant(
                HostArray(
                    (0..<count).flatMap { query in (0..<start + count).map { $0 <= start + query } },
                    shape: [count, start + count]))
            let seen = Tensor.select(isEarlier, scores, .scalar(-.infinity, scores.elementType))
            let weights = (seen - seen.max(axes: [3], keepingAxes: true).stoppingGradient()).exp()
            // Divided where there are `depth` numbers for a query and not one for each key.
            return values.sliced(axis: 3, from: 0, count: start + count).matmul(weights.matrixTransposed())
                / weights.sum(axes: [3], keepingAxes: true).matrixTransposed()
        }
        return combine(Tensor.concatenate(found, axis: 3).reshaped(x.shape))
    }
}

extension Tensor {
    /// `x * P(z < x)` of a normal z (Hendrycks and Gimpel 2016).
    public func gelu() -> Tensor { self * ((self * 0.5.squareRoot()).apply(.erf) * 0.5 + 0.5) }
}
