import Distributions
import Graph
import Layers

/// A density: a bijector from the data to a base distribution, log p(x) = log p(z) + log|det dz/dx|.
public struct Flow: Module {
    public let bijector: any Bijector
    public let base: any Distribution
    /// The shape of one example of the data.
    public let exampleShape: [Int]
    /// Features of the context it is conditioned on; 0 for none.
    public let contextCount: Int

    public init(_ bijector: any Bijector, base: any Distribution, exampleShape: [Int], contextCount: Int = 0) {
        self.bijector = bijector
        self.base = base
        self.exampleShape = exampleShape
        self.contextCount = contextCount
        namedParameters()
    }

    public var shape: Shape { Shape([.batch] + exampleShape.map { Extent($0) }) }

    /// log p(x) in nats, `[batch]`.
    public func logProbability(_ x: Tensor, _ pass: Pass = Pass()) -> Tensor {
        let z = bijector.forward(x, pass)
        return base.logProbability(z.value) + z.logDeterminant
    }

    /// What a first batch finds for parameters that start from data, in the order in which the layers are passed.
    public func initialization(_ x: Tensor, context: Tensor? = nil) -> [(parameter: Parameter, value: Tensor)] {
        let pass = Pass(.initialize, context: context)
        _ = bijector.forward(x, pass)
        return pass.updates
    }

    /// Proves what `bijector.structure` says. - Throws: `DependencyLeak`.
    @discardableResult public func prove() throws -> [(claim: String, proof: AutoregressiveProof)] {
        let context = contextCount > 0 ? Tensor.input("context", [.batch, Extent(contextCount)]) : nil
        return try bijector.proveStructure(shape, context: context)
    }
}
