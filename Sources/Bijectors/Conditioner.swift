import Graph
import Layers

/// A network that computes the parameters of a transformer: from what it may see of x to `[batch, parameters * width, ..]`,
/// one block of `width` for each parameter.
public protocol Conditioner: Module {
    func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor
}

extension MaskedMLP: Conditioner {
    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor { callAsFunction(x, context, degrees: nil) }
}

extension DenseNetwork: Conditioner {}

extension Tensor {
    /// A conditioner's result: blocks along axis 1, one for each of `count` parameters, every one of the shape of the elements
    /// that they transform. Anything else is a mistake: a narrower block would be broadcast, and its log-derivative counted once
    /// for all elements that it serves.
    func parameters(_ count: Int, for x: Tensor) -> Tensor {
        if x.error != nil { return x }
        var expected = x.shape
        if x.shape.rank > 1 { expected.dimensions[1] = Extent(count * x.shape[1].coefficient) }
        if shape == expected { return self }
        return .misuse(
            "conditioner", "expected \(count) parameters for \(x.shape), \(expected), found \(shape)", of: self)
    }

    /// Those blocks.
    func blocks(_ count: Int, for x: Tensor) -> [Tensor] {
        let (all, width) = (parameters(count, for: x), x.shape[1].coefficient)
        return (0..<count).map { all.sliced(axis: 1, from: $0 * width, count: width) }
    }
}
