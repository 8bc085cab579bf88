import Distributions
import Graph

extension Tensor {
    /// Flat examples as images `[batch, channels, height, width]`.
    func asImages(_ shape: [Int]) -> Tensor {
        reshaped(Shape([self.shape[0]] + shape.map { Extent($0) }))
    }

    /// Whole numbers 0 ..< levels in [-1, 1]; binary variables stay 0 and 1.
    func centred(levels: Int) -> Tensor {
        let spacing: Double = 2 / Double(levels - 1)
        return levels == 2 ? self : self * spacing - 1
    }

    /// Feature maps `[batch, channels * count, height, width]`, the maps of a channel together, as parameters
    /// `[batch, count, channels * height * width]`.
    func asParameters(channels: Int, count: Int) -> Tensor {
        let (batch, pixels) = (shape[0], shape[2] * shape[3])
        let variables = Extent(channels) * pixels
        if channels == 1 { return reshaped([batch, Extent(count), variables]) }
        return reshaped([batch, Extent(channels), Extent(count), pixels]).transposed([0, 2, 1, 3])
            .reshaped([batch, Extent(count), variables])
    }

    /// `[batch, channels, steps]` one step later: zeros first, the last step dropped.
    func shiftedByOne() -> Tensor {
        sliced(axis: 2, from: 0, count: shape[2].coefficient - 1).padded(low: [0, 0, 1], high: [0, 0, 0])
    }
}

/// For variables of some levels: Bernoulli for two, else a softmax over all of them.
func levelConditional(_ levels: Int) -> any Conditional {
    levels == 2 ? BernoulliConditional() : CategoricalConditional(levels: levels)
}
