import Compiler
import Distributions
import Graph
import Layers

/// A model whose joint density is a product of conditionals, each reading only variables that come before it.
public protocol AutoregressiveModel: Module {
    /// The number of variables of one example.
    var variableCount: Int { get }
    var conditional: any Conditional { get }
    /// The parameters of every conditional, `[batch, conditional.parameterCount, variables]`, from x `[batch, variables]`.
    func conditionalParameters(_ x: Tensor, _ orders: ModelOrders) -> Tensor
}

/// The orders and degrees under which a model's graph is built.
public enum ModelOrders {
    /// Numbers; the order of the variables, then the degrees of each hidden layer.
    case constant(order: [Int32], hidden: [[Int32]])
    /// int32 inputs of the same meaning.
    case runtime(order: Tensor, hidden: [Tensor])
}

extension AutoregressiveModel {
    /// log p(x) in nats, `[batch]`.
    public func logProbability(_ x: Tensor, _ orders: ModelOrders) -> Tensor {
        conditional.logProbability(x, conditionalParameters(x, orders)).sum(axes: [1])
    }

    /// Proves that the conditionals read only earlier variables, or throws a `DependencyLeak` that names the way.
    public func proveAutoregressive(_ orders: ModelOrders) throws -> AutoregressiveProof {
        let x = Tensor.input("x", [.batch, Extent(variableCount)])
        let parameters = conditionalParameters(x, orders)
        let variables = (0..<conditional.parameterCount).flatMap { _ in (0..<Int32(variableCount)) }
        let claim = [ConditionalParameters("logits", parameters, variables: variables)]
        switch orders {
        case .constant(let order, _):
            return try AutoregressiveProof(claim, of: x, order: Order(index: order.map { $0 - 1 }))
        case .runtime(let order, _):
            return try AutoregressiveProof(claim, of: x, order: .natural(variableCount), degrees: order)
        }
    }

    /// The graph of one draw: every variable as a function of the earlier ones and of random numbers.
    /// Where `observed` is not zero the variable is `given` instead.
    /// - Parameter temperature: 1 draws from the model; less is nearer to its modes.
    public func draw(
        _ x: Tensor, _ orders: ModelOrders, _ random: RandomSource, given: (values: Tensor, observed: Tensor)? = nil,
        temperature: Double = 1
    ) -> (drawn: Tensor, parameters: Tensor) {
        let parameters = conditionalParameters(x, orders)
        let sample = conditional.sample(parameters, random, temperature: temperature)
        guard let given else { return (sample, parameters) }
        return (.select(given.observed.greater(0), given.values, sample), parameters)
    }
}
