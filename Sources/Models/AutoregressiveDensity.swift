import Distributions
import Graph
import Layers
import Likelihood

/// A MADE as a distribution, for the base of a flow.
public struct AutoregressiveDensity: StagedDistribution {
    public let made: MADE

    /// - Parameter features: numbers that each example is conditioned on.
    public init(variables: Int, hidden: [Int], conditional: any Conditional, features: Int = 0) {
        made = MADE(
            ExampleShape([variables]), conditional: conditional,
            masks: MaskSampler(variables: variables, hidden: hidden),
            conditions: Conditions(features: features > 0 ? [features] : []))
    }

    public func name(ofProperty property: String) -> String { "" }

    public var name: String { "MADE, \(made.conditional.name)" }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor { made.logProbability(x, context) }

    /// As many passes as there are variables; `stages` gives what the compiled sampler takes.
    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        var x = Tensor.scalar(0, element).broadcast(to: shape)
        for _ in 0..<made.variableCount { x = made.draw(x, context, temperature: temperature).drawn }
        return x
    }

    /// Every variable as a function of earlier ones and of random numbers.
    public func stages(_ shape: Shape, _ context: Context, temperature: Double) -> [Drawing.Stage] {
        let z = Tensor.input("z", shape, element)
        let drawn = made.draw(z, context, temperature: temperature).drawn
        return [.incremental(variable: z, drawn: drawn, order: made.order, outputs: [])]
    }
}
