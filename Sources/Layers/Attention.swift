import Graph

/// Masked attention (Vaswani et al. 2017, equation 1 and section 3.2.2): every position reads values of itself and earlier
/// positions, weighted by how well their keys fit its query, in several heads side by side. x `[batch, width, positions]`.
public struct CausalAttention: Module {
    /// Queries, keys and values, each of all heads.
    public let project: ConvolutionLayer
    public let combine: ConvolutionLayer
    public let heads: Int
    /// Whether queries and keys are turned by where they are, so that a score knows their distance (Su et al. 2021, equation 34).
    public let rotates: Bool
    /// Which of the earlier positions each reads.
    public let pattern: AttentionPattern

    /// - Parameters:
    ///   - width: a multiple of `heads`; of twice as many, where queries and keys are turned.
    ///   - pattern: one that looks only backwards.
    public init(_ width: Int, heads: Int, rotates: Bool = false, pattern: AttentionPattern = .causal) {
        trap(
            unless: heads > 0 && width % (rotates ? 2 * heads : heads) == 0,
            "the width of attention must be a multiple of its heads, an even one where they are turned")
        self.rotates = rotates
        self.pattern = pattern
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
        let turned = { (index: Int) -> Tensor in rotates ? part(index).turnedByPosition() : part(index) }
        let read = Tensor.attention(byDepth: turned(0), turned(1), part(2), pattern)
        return combine(read.reshaped(x.shape))
    }
}

/// Attention of positions to those of something given, a source sentence say (Vaswani et al. 2017, section 3.2.3): queries are made of x
/// `[batch, width, positions]`, keys and values of the source `[batch, source width, source positions]`, of which all are read.
public struct CrossAttention: Module {
    /// Queries of all heads.
    public let ask: ConvolutionLayer
    /// Keys and values of all heads.
    public let project: ConvolutionLayer
    public let combine: ConvolutionLayer
    public let heads: Int

    /// - Parameter width: a multiple of `heads`.
    public init(_ width: Int, sourceWidth: Int, heads: Int) {
        trap(unless: heads > 0 && width % heads == 0, "the width of attention must be a multiple of its heads")
        ask = ConvolutionLayer(width, width, kernel: [1])
        project = ConvolutionLayer(sourceWidth, 2 * width, kernel: [1])
        combine = ConvolutionLayer(width, width, kernel: [1])
        self.heads = heads
    }

    /// - Parameter counted: 1 where a position of the source counts and 0 where it is padding, `[batch, source positions]`; `nil` where all
    ///   count.
    public func callAsFunction(_ x: Tensor, source: Tensor, counted: Tensor? = nil) -> Tensor {
        let width = x.shape[1].coefficient
        let both = project(source)
        func split(_ maps: Tensor) -> Tensor {
            maps.reshaped([maps.shape[0], Extent(heads), Extent(width / heads), maps.shape[2]])
        }
        let read = Tensor.attention(
            byDepth: split(ask(x)), split(both.sliced(axis: 1, from: 0, count: width)),
            split(both.sliced(axis: 1, from: width, count: width)), .all, counted: counted)
        return combine(read.reshaped(x.shape))
    }
}

extension Tensor {
    /// Vectors `[.., depth, positions]` whose pairs of numbers, of the first half of the depths and of the second, are turned: pair i at
    /// position t by the angle t / 10000^(2 i / depth).
    fileprivate func turnedByPosition() -> Tensor {
        let (half, positions) = (shape[2].coefficient / 2, shape[3].coefficient)
        func table(_ function: (Double) -> Double) -> Tensor {
            let elements = (0..<half * positions).map { e in
                function(Double(e % positions) * Math.pow(10000, -Double(e / positions) / Double(half)))
            }
            return .constant(HostArray(Values(shape: [1, 1, half, positions], elements: elements), as: elementType))
        }
        let (cosine, sine) = (table(Math.cos), table(Math.sin))
        let (a, b) = (sliced(axis: 2, from: 0, count: half), sliced(axis: 2, from: half, count: half))
        return .concatenate([a * cosine - b * sine, a * sine + b * cosine], axis: 2)
    }

    /// `x * P(z < x)` of a normal z (Hendrycks and Gimpel 2016).
    public func gelu() -> Tensor {
        let share = (self * 0.5.squareRoot()).apply(.erf) * 0.5 + 0.5
        // One factor, which is computed where the result is: a training step keeps the two, and neither x nor what lies between.
        let slope = share + self * (squared() * -0.5).exp() * (0.5 / Double.pi).squareRoot()
        return (self * share).withGradient(by: [self]) { [$1 * slope] }
    }
}
