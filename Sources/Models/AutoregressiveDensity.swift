import Distributions
import Graph
import Layers
import Likelihood

/// A MADE as a distribution, for the base of a flow.
public struct AutoregressiveDensity: Distribution {
    public let made: MADE

    public init(variables: Int, hidden: [Int], conditional: any Conditional) {
        made = MADE(
            ExampleShape([variables]), conditional: conditional,
            masks: MaskSampler(variables: variables, hidden: hidden))
    }

    public func name(ofProperty property: String) -> String { "" }

    public var name: String { "MADE, \(made.conditional.name)" }

    public func logProbability(_ x: Tensor) -> Tensor { made.logProbability(x) }

    /// As many passes as there are variables; `draw` gives what the compiled sampler takes.
    public func sample(_ shape: Shape, _ random: RandomSource) -> Tensor {
        var x = Tensor.scalar(0, element).broadcast(to: shape)
        for _ in 0..<made.variableCount { x = made.draw(x, Context(random: random)).drawn }
        return x
    }

    /// Every variable as a function of earlier ones and of random numbers.
    public func draw(_ x: Tensor, _ random: RandomSource, temperature: Double = 1) -> (drawn: Tensor, order: Order) {
        (made.draw(x, Context(random: random), temperature: temperature).drawn, made.order)
    }
}
