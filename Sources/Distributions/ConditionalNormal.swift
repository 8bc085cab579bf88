import Graph
import Layers

/// Independent normals whose means and standard deviations a network computes from the features of the context: the prior of a flow
/// that is conditioned on its examples' classes (Kingma and Dhariwal 2018, whose code computes them from the class by one layer).
///
/// It starts as the standard normal; deviations lie in exp(-7) ... exp(7).
public struct ConditionalNormal: Distribution {
    /// From the features to the means of all variables, then to their log standard deviations.
    public let network: DenseNetwork
    /// Of one example.
    public let shape: [Int]
    /// Numbers that each example is conditioned on.
    public let features: Int

    public init(_ shape: [Int], features: Int, hidden: [Int] = []) {
        trap(unless: features >= 1, "a conditional normal needs at least one feature, found \(features)")
        self.shape = shape
        self.features = features
        network = DenseNetwork(
            features, hidden: hidden, outputs: 2 * shape.reduce(1, *), startsAtIdentity: true)
    }

    public var name: String { "normal given \(features) feature\(features == 1 ? "" : "s")" }

    /// Mean and log-deviation, each of x's shape.
    private func parameters(beside x: Tensor, _ context: Context) -> (mean: Tensor, logDeviation: Tensor) {
        if x.error != nil { return (x, x) }
        let all = network(context.features(beside: x, shape: [features]), context)
        if all.error != nil { return (all, all) }
        let count = shape.reduce(1, *)
        func part(_ index: Int) -> Tensor {
            all.sliced(axis: 1, from: index * count, count: count)
                .reshaped(Shape([all.shape[0]] + shape.map { Extent($0) }))
        }
        return (part(0), part(1).boundedLogScale(least: 0))
    }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        let x = x.examples(of: shape, for: name)
        let (mean, logDeviation) = parameters(beside: x, context)
        return (((x - mean) * (-logDeviation).exp()).squared() * -0.5 - logDeviation - halfLogTwoPi).overEvent()
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        let noise = context.random.normal(shape, stream: 3, as: element).heated(by: temperature)
            .examples(of: self.shape, for: name)
        let (mean, logDeviation) = parameters(beside: noise, context)
        return mean + logDeviation.exp() * noise
    }
}
