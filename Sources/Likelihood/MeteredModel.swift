import Graph
import Layers

/// A model that finds out as it runs how much it has to compute for an example.
public protocol MeteredModel: LikelihoodModel {
    /// What is counted, in words, and how much of it the figure of each example takes, `[batch]`; `nil` where that is the same for all.
    func effort(_ x: Tensor, _ context: Context) -> (unit: String, count: Tensor)?
}
