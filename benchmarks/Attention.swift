import Distributions
import Graph
import Lab
import Layers
import Likelihood
import Models
import Training

extension Workload {
    /// Attention by itself over 4096 positions, 4 heads of 16 numbers: causal, and of a window of 64.
    static let attention: [Workload] = [("attention", 0), ("attention-window", 64)].map { name, window in
        Workload(
            name, RunConfiguration(AttentionSquares.Settings { $0.window = window }) { $0.batch = 2 }, [3 * 64 * 4096],
            sampleBatch: 2, normal)
    }
}

/// Attention of queries, keys and values that are data, each times a parameter: the loss is the mean square of what queries find.
private struct AttentionSquares: ConfiguredModel {
    /// One for each depth, of queries, keys and values, `[3, depth]`.
    let factors: Parameter
    let examples: ExampleShape
    let settings: Settings

    struct Settings: ModelSettings {
        var heads = 4
        /// Of queries, keys and values.
        var depth = 16
        /// Keys that a query reads, its own the last; 0 for all up to its own.
        var window = 0

        func validate(_ examples: ExampleShape) throws {
            try require(heads, "heads", in: 1...1024)
            try require(depth, "depth", in: 1...1024)
            try require(window, "window", in: 0...65536)
            try require(
                examples.count % (3 * heads * depth) == 0,
                "depth: expected examples of a multiple of \(3 * heads * depth) numbers, found \(examples.count)")
        }

        func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try AttentionSquares(examples, self)
        }
    }

    init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        self.settings = settings
        factors = Parameter([3, settings.depth], .constant(1))
    }

    var domain: VariableDomain { .real }
    var metric: Metric { .squaredError }

    private func found(_ x: Tensor) -> Tensor {
        let (heads, depth) = (settings.heads, settings.depth)
        let all = x.reshaped([
            x.shape[0], 3, Extent(heads), Extent(depth), Extent(examples.count / (3 * heads * depth)),
        ])
        let scaled = all * factors.tensor.reshaped([1, 3, 1, Extent(depth), 1])
        let part = { (index: Int) -> Tensor in
            let part = scaled.sliced(axis: 1, from: index, count: 1)
            return part.reshaped(Shape([part.shape[0]] + part.shape.dimensions.dropFirst(2)))
        }
        return .attention(
            byDepth: part(0), part(1), part(2), settings.window > 0 ? .window(settings.window) : .causal)
    }

    func evaluation(_ x: Tensor, _ context: Context) -> Tensor { found(x).squared().sum(axes: [1, 2, 3]) }
    func objective(_ x: Tensor, _ context: Context) -> Tensor { found(x).squared().mean() }
}
