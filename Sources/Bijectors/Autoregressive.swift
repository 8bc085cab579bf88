import Graph
import Layers

/// A bijector that transforms each variable with parameters computed from those before it in an order: MAF with an affine
/// transformer (Papamakarios et al. 2017), neural autoregressive flows (Huang et al. 2018) and autoregressive spline flows with
/// theirs. Densities take one pass; `Inverted` of it is the inverse autoregressive flow (Kingma et al. 2016), whose samples do.
public struct Autoregressive: Bijector {
    public let order: Order
    public let transformer: any Transformer
    public let conditioner: any Conditioner

    /// - Parameter conditioner: from x `[batch, D]` to `[batch, transformer.parameterCount * D]`, reading for variable d only
    ///   variables that come before it in `order`.
    public init(_ order: Order, _ transformer: any Transformer, conditioner: any Conditioner) {
        self.order = order
        self.transformer = transformer
        self.conditioner = conditioner
    }

    /// With masked dense layers.
    public init(
        _ order: Order, _ transformer: any Transformer, hidden: [Int], features: Int = 0,
        activation: Activation = .relu, startsAtIdentity: Bool = false
    ) {
        self.init(
            order, transformer,
            conditioner: MaskedMLP.autoregressive(
                order: order, hidden: hidden, parameters: transformer.parameterCount, features: features,
                activation: activation, startsAtIdentity: startsAtIdentity))
    }

    private func parameters(_ x: Tensor, _ context: Context) -> [Tensor] {
        conditioner(x, context).blocks(transformer.parameterCount, for: transformed(x))
    }

    private func transformed(_ x: Tensor) -> Tensor { x.examples(of: [order.index.count], for: "autoregressive") }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let (z, log) = transformer.forward(x, parameters(x, context))
        return Mapped(z, log.summedOverEvent())
    }

    /// As many passes as the order has groups, each settling one more: right whatever stood in their places before.
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        var x = Tensor.scalar(0, z.elementType).broadcast(to: z.shape)
        var log = x
        for _ in 0..<max(1, order.groupCount) { (x, log) = transformer.inverse(z, parameters(x, context)) }
        return Mapped(x, log.summedOverEvent())
    }

    public func solve(_ z: Tensor, given x: Tensor, _ context: Context) -> (drawn: Tensor, order: Order)? {
        (transformer.inverse(z, parameters(x, context)).value, order)
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "autoregressive, \(transformer.name)", .triangular,
            determinant:
                "the sum of the transformer's log-derivatives, as each variable reads only earlier ones and the Jacobian is triangular",
            inverse:
                "variable after variable by the compiled incremental program, one pass in all; each by \(transformer.inverseFormula)",
            inversion: .sequential)
    }

    public func claims(_ x: Tensor, _ context: Context) -> [OrderClaim] {
        let variables = order.index.indices.map { Int32($0) }
        return transformer.strayClaims(transformed(x)) + [
            OrderClaim(
                "parameters", conditioner(x, context).parameters(transformer.parameterCount, for: transformed(x)),
                of: x,
                order: order,
                variables: (0..<transformer.parameterCount).flatMap { _ in variables })
        ]
    }
}
