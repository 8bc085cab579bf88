import Graph
import Layers

/// The mean and the (biased) variance of axis 1 over the batch and all positions.
private func statistics(_ x: Tensor) -> (mean: Tensor, variance: Tensor) {
    let axes = (0..<x.shape.rank).filter { $0 != 1 }
    let mean = x.mean(axes: axes)
    let centred = x - spread(mean, like: x)
    return (mean, centred.squared().mean(axes: axes))
}

/// Numbers `[c]` beside x `[batch, c, ..]`.
private func spread(_ values: Tensor, like x: Tensor) -> Tensor {
    values.reshaped(Shape([1, x.shape[1]] + x.shape.dimensions.dropFirst(2).map { _ in 1 })).broadcast(to: x.shape)
}

/// The log of the deviation that a channel is divided by: 0 where the channel does not vary but for rounding (a constant column, or
/// one example), as a scale of nothing would be infinite, and a tiny one would be multiplied by the next layer's.
private func logDeviation(_ mean: Tensor, _ variance: Tensor) -> Tensor {
    let deviation = variance.sqrt()
    let least = Tensor.scalar(FloatLimits(variance.elementType).least, variance.elementType)
    return .select(deviation.greater(mean.absolute() * 1e-6), deviation.maximum(least).log(), 0)
}

private func positions(_ x: Tensor) -> Double {
    Double(x.shape.dimensions.dropFirst(2).reduce(1) { $0 * $1.coefficient })
}

/// `z = (x + bias) exp(logScale)` for each channel (Kingma and Dhariwal 2018, section 3.1). A pass in the mode `initialize`
/// finds the bias and scale that give a batch mean 0 and variance 1; afterwards both are trained like any parameter. A channel that
/// does not vary in that batch keeps the scale 1.
public struct ActNorm: Bijector {
    public let bias: Parameter
    public let logScale: Parameter

    public init(_ channels: Int) {
        bias = Parameter([channels], .zeros)
        logScale = Parameter([channels], .zeros)
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        var (b, s) = (bias.tensor, logScale.tensor)
        if context.mode == .initialize {
            let (mean, variance) = statistics(x)
            b = -mean
            s = -logDeviation(mean, variance)
            context.update(bias, b)
            context.update(logScale, s)
        }
        return Mapped(
            (x + spread(b, like: x)) * spread(s.exp(), like: x), (s.sum() * positions(x)).perExample(of: x))
    }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        var (b, s) = (bias.tensor, logScale.tensor)
        if context.mode == .initialize {
            // Of a flow that is the inverse of this one the batch is the examples.
            let (mean, variance) = statistics(z)
            s = logDeviation(mean, variance)
            b = mean * (-s).exp()
            context.update(bias, b)
            context.update(logScale, s)
        }
        return Mapped(
            z * spread((-s).exp(), like: z) - spread(b, like: z), (-s.sum() * positions(z)).perExample(of: z))
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "activation normalisation", .diagonal, determinant: "positions times the sum of log-scales",
            inverse: "scale and bias taken back")
    }
}

/// Batch normalisation as a bijector (Dinh et al. 2017, section 3.7; Papamakarios et al. 2017, equation 6):
/// `z = (x - mean) exp(logScale) / sqrt(variance + epsilon) + shift`.
///
/// A pass in the mode `train` uses mean and variance of the batch and updates the running ones; every other context, in both
/// directions, uses the running ones, so that a density is a function of its example alone. The inverse takes no statistics in any
/// pass: in an `Inverted` one the running statistics stay where they start.
public struct BatchNormalization: Bijector {
    public let logScale: Parameter
    public let shift: Parameter
    public let runningMean: Parameter
    public let runningVariance: Parameter
    public let epsilon: Double
    /// The share of the new statistics in the running ones.
    public let momentum: Double

    public init(_ channels: Int, epsilon: Double = 1e-5, momentum: Double = 0.1) {
        trap(unless: epsilon >= 0, "a variance grows by an epsilon of at least 0, found \(epsilon)")
        trap(unless: (0...1).contains(momentum), "a momentum is a share between 0 and 1, found \(momentum)")
        logScale = Parameter([channels], .zeros)
        shift = Parameter([channels], .zeros)
        runningMean = Parameter([channels], .zeros, isTrained: false)
        runningVariance = Parameter([channels], .constant(1), isTrained: false)
        self.epsilon = epsilon
        self.momentum = momentum
    }

    private func logFactor(_ variance: Tensor) -> Tensor { logScale.tensor - (variance + epsilon).log() * 0.5 }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        var (mean, variance) = (runningMean.tensor, runningVariance.tensor)
        if context.mode != .evaluate {
            let (batchMean, batchVariance) = statistics(x)
            context.update(runningMean, mean + (batchMean - mean).stoppingGradient() * momentum)
            context.update(runningVariance, variance + (batchVariance - variance).stoppingGradient() * momentum)
            (mean, variance) = (batchMean, batchVariance)
        }
        let factor = logFactor(variance)
        return Mapped(
            (x - spread(mean, like: x)) * spread(factor.exp(), like: x) + spread(shift.tensor, like: x),
            (factor.sum() * positions(x)).perExample(of: x))
    }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let factor = logFactor(runningVariance.tensor)
        return Mapped(
            (z - spread(shift.tensor, like: z)) * spread((-factor).exp(), like: z)
                + spread(runningMean.tensor, like: z),
            (-factor.sum() * positions(z)).perExample(of: z))
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "batch normalisation", .diagonal,
            determinant: "positions times the sum of log-scales; the batch's in training, the running ones else",
            inverse: "with the running statistics")
    }
}
