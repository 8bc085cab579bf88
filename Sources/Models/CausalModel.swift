import Distributions
import Graph
import Layers

/// A model of images, sounds or text whose network is built for one order: every conditional reads only earlier variables,
/// because no layer lets anything else through.
///
/// Examples come flat, `[batch, variables]`; those of an image in the order channel, row, column.
public protocol CausalModel: Module {
    /// `[channels, height, width]`, `[frames, height, width]` or `[steps]`.
    var exampleShape: [Int] { get }
    /// The order in which variables are drawn.
    var order: Order { get }
    var conditional: any Conditional { get }
    /// The parameters of every conditional, `[batch, conditional.parameterCount, sites]`, from x `[batch, variables]`.
    func conditionalParameters(_ x: Tensor, _ context: ForwardContext) -> Tensor
}

extension CausalModel {
    public var variableCount: Int { exampleShape.reduce(1, *) }

    /// log p(x) in nats, `[batch]`.
    public func logProbability(_ x: Tensor, _ context: ForwardContext = ForwardContext()) -> Tensor {
        conditional.logProbability(x, conditionalParameters(x, context)).sum(axes: [1])
    }

    /// Proves that the conditionals read only earlier variables, or throws a `DependencyLeak` that names the way.
    public func proveAutoregressive(_ context: ForwardContext = ForwardContext()) throws -> AutoregressiveProof {
        let x = Tensor.input("x", [.batch, Extent(variableCount)])
        // Sites come first among the variables of each run that shares parameters.
        let sites = Int32(variableCount / conditional.variablesPerSite)
        return try AutoregressiveProof(
            [
                ConditionalParameters(
                    "logits", conditionalParameters(x, context),
                    variables: (0..<conditional.parameterCount).flatMap { _ in 0..<sites })
            ], of: x, order: order)
    }

    /// The graph of one draw. Where `observed` is not zero the variable is `given` instead.
    public func draw(
        _ x: Tensor, _ context: ForwardContext = ForwardContext(), _ random: RandomSource,
        given: (values: Tensor, observed: Tensor)? = nil, temperature: Double = 1
    ) -> (drawn: Tensor, parameters: Tensor) {
        let parameters = conditionalParameters(x, context)
        let sample = conditional.sample(parameters, random, temperature: temperature)
        guard let given else { return (sample, parameters) }
        return (.select(given.observed.greater(0), given.values, sample), parameters)
    }
}

extension Order {
    /// Pixels row by row; the channels of a pixel one after the other (R, G, B), or together.
    public static func raster(_ shape: [Int], channelsTogether: Bool = false) -> Order {
        let (channels, pixels) = (Int32(shape[0]), Int32(shape[1] * shape[2]))
        return Order(
            index: (0..<channels).flatMap { c in
                (0..<pixels).map { channelsTogether ? $0 : $0 * channels + c }
            })
    }
}

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
}
