import Distributions
import Graph
import Layers

/// Masked autoencoder for distribution estimation (Germain, Gregor, Murray, Larochelle 2015).
///
/// Every unit has a degree: input d has its place m0(d) in the order, hidden unit k the largest place it may read. A weight
/// from a unit of degree m' to a hidden unit of degree m exists where m >= m' (equation 12), to output d where
/// m0(d) > m' (equation 13). So output d reads only variables before d, and one pass gives all conditionals.
public struct MADE: AutoregressiveModel {
    public let layers: [MaskedDense]
    /// Input to output, where the order allows (section 4.3's direct connections).
    public let direct: MaskedDense?
    public let variableCount: Int
    public let hiddenCounts: [Int]
    public let activation: Activation
    public let conditional: any Conditional

    public enum Activation: String, Sendable, CaseIterable { case relu, tanh, sigmoid, softplus }

    /// - Parameters:
    ///   - variables: D.
    ///   - hidden: units of each hidden layer.
    ///   - orders: if constant, the masks are part of the model and dead weights are exactly zero; degrees for every hidden layer.
    public init(
        variables: Int, hidden: [Int], conditional: any Conditional = Bernoulli(), activation: Activation = .relu,
        hasDirectConnections: Bool = false, orders: ModelOrders? = nil
    ) {
        variableCount = variables
        hiddenCounts = hidden
        self.activation = activation
        self.conditional = conditional
        let widths = [variables * conditional.inputCount] + hidden + [variables * conditional.parameterCount]
        var masks: [MaskStructure]?
        var directMask: MaskStructure?
        if let orders, case .constant = orders {
            masks = Self.degrees(orders, conditional, layerCount: widths.count - 1).map(\.mask)
            directMask = Self.directDegrees(orders, conditional).mask
        }
        layers = (0..<widths.count - 1).map { MaskedDense(widths[$0], widths[$0 + 1], mask: masks?[$0]) }
        direct =
            hasDirectConnections
            ? MaskedDense(widths[0], widths[widths.count - 1], mask: directMask, hasBias: false) : nil
        namedParameters()
    }

    public func conditionalParameters(_ x: Tensor, _ orders: ModelOrders) -> Tensor {
        let degrees = Self.degrees(orders, conditional, layerCount: layers.count)
        let input = conditional.encode(x).reshaped([x.shape[0], Extent(variableCount * conditional.inputCount)])
        var h = input
        for (layer, degrees) in zip(layers, degrees).dropLast() { h = activate(layer(h, degrees)) }
        var output = layers[layers.count - 1](h, degrees[layers.count - 1])
        if let direct { output = output + direct(input, Self.directDegrees(orders, conditional)) }
        return output.reshaped([x.shape[0], Extent(conditional.parameterCount), Extent(variableCount)])
    }

    private func activate(_ h: Tensor) -> Tensor {
        switch activation {
        case .relu: h.relu()
        case .tanh: h.tanh()
        case .sigmoid: h.sigmoid()
        case .softplus: h.softplus()
        }
    }

    /// The degrees on both sides of each layer; every variable's inputs and outputs carry its place in the order.
    private static func degrees(_ orders: ModelOrders, _ conditional: any Conditional, layerCount: Int)
        -> [LayerDegrees]
    {
        func check(_ hidden: Int) {
            precondition(
                hidden == layerCount - 1,
                "a MADE of \(layerCount - 1) hidden layers needs degrees for each of them, found degrees for \(hidden)")
        }
        switch orders {
        case .constant(let order, let hidden):
            check(hidden.count)
            let sides =
                [repeated(order, conditional.inputCount)] + hidden + [repeated(order, conditional.parameterCount)]
            return (0..<layerCount).map {
                .constant(input: sides[$0], output: sides[$0 + 1], strict: $0 == layerCount - 1)
            }
        case .runtime(let order, let hidden):
            check(hidden.count)
            let sides =
                [repeated(order, conditional.inputCount)] + hidden + [repeated(order, conditional.parameterCount)]
            return (0..<layerCount).map {
                .runtime(input: sides[$0], output: sides[$0 + 1], strict: $0 == layerCount - 1)
            }
        }
    }

    private static func directDegrees(_ orders: ModelOrders, _ conditional: any Conditional) -> LayerDegrees {
        switch orders {
        case .constant(let order, _):
            .constant(
                input: repeated(order, conditional.inputCount), output: repeated(order, conditional.parameterCount),
                strict: true)
        case .runtime(let order, _):
            .runtime(
                input: repeated(order, conditional.inputCount), output: repeated(order, conditional.parameterCount),
                strict: true)
        }
    }

    private static func repeated(_ order: [Int32], _ count: Int) -> [Int32] { (0..<count).flatMap { _ in order } }

    private static func repeated(_ order: Tensor, _ count: Int) -> Tensor {
        count == 1
            ? order : order.broadcast(to: [Extent(count), order.shape[0]]).reshaped([order.shape[0] * Extent(count)])
    }
}
