import Graph
import Layers

/// The right side of dz/dt = f(z, t, context), which moves the examples of a flow in continuous time: any module.
///
///     struct Pull: VelocityField {                                        // to the origin
///         let rate = Parameter([1], .constant(1))
///         func velocity(_ z: Tensor, at t: Tensor, _ context: Context) -> Tensor { -rate.tensor * z }
///     }
///     let flow = ContinuousFlow(Pull())
public protocol VelocityField: Module {
    /// The velocity `[batch, D]`. It is a function of each example on its own.
    /// - Parameters:
    ///   - z: `[batch, D]`.
    ///   - t: `[1, 1]`, one time for all examples, or `[batch, 1]`.
    func velocity(_ z: Tensor, at t: Tensor, _ context: Context) -> Tensor
    /// The velocity and the trace of its Jacobian, `[batch, 1]`: by D products with that Jacobian, where a field knows no better.
    func velocityAndTrace(_ z: Tensor, at t: Tensor, _ context: Context) -> (velocity: Tensor, trace: Tensor)
    /// How the trace is found, in words.
    var traceFormula: String { get }
}

extension VelocityField {
    public var traceFormula: String { "element by element, by a product with the Jacobian for each variable" }

    public func velocityAndTrace(
        _ z: Tensor, at t: Tensor, _ context: Context
    ) -> (velocity: Tensor, trace: Tensor) {
        let f = velocity(z, at: t, context)
        let diagonal = (0..<z.shape[1].coefficient).map { i in
            f.sliced(axis: 1, from: i, count: 1).slope(by: z).sliced(axis: 1, from: i, count: 1)
        }
        return (f, diagonal.dropFirst().reduce(diagonal.first ?? f) { $0 + $1 })
    }

    /// The velocity and transposed(e) J for a vector e of each example, J being the velocity's Jacobian: one product, whatever D.
    func velocityAndProduct(
        _ z: Tensor, at t: Tensor, with e: Tensor, _ context: Context
    ) -> (velocity: Tensor, product: Tensor) {
        let f = velocity(z, at: t, context)
        return (f, (f * e).slope(by: z))
    }
}

extension Tensor {
    /// The gradient of the sum of all elements, or the mistake where there is none.
    func slope(by variable: Tensor) -> Tensor { sum().slopes(by: [variable])[0] }

    /// The gradients of a scalar, or the mistake where there are none.
    func slopes(by variables: [Tensor]) -> [Tensor] {
        if error != nil { return variables.map { _ in self } }
        do throws(GraphError) {
            return try gradients(of: self, with: variables)
        } catch {
            return variables.map { .misuse(error.operation, error.message, of: $0) }
        }
    }
}

/// How a dense layer of a `TimeNetwork` is told the time.
public enum TimeInput: String, Sendable, CaseIterable {
    /// Beside its inputs: W (h, t) + b.
    case concat
    /// By a factor for each unit and a shift: (W h + b) sigmoid(u t + c) + v t, the "concatsquash" of FFJORD.
    case squash
}

/// Dense layers that are told the time, the velocity of FFJORD (Grathwohl et al. 2019, section 4 and its code). What an example is
/// conditioned on goes in as the time does. The last layer has no factors and starts at zero, so that the flow starts as the identity.
///
/// The trace of its Jacobian follows from its structure. With diagonals D of the slopes of hidden units (and factors), and weights W:
/// - one hidden layer: the sum of D1 times the diagonal of W1 W2, no product at all;
/// - two: the sum of D2 M D1 with M = W2 * transposed(W1 W3), one product of the hidden layers, whatever the number of variables;
/// - more: forward mode with a tangent for each variable. The first layer's tangents are columns of W1, and of the last layer only a dot
///   product is needed, so that each variable costs the products between the hidden layers.
public struct TimeNetwork: VelocityField {
    public let layers: [TimeDense]
    public let activation: Activation
    public let time: TimeInput
    /// Numbers of each example that the network is conditioned on.
    public let featureCount: Int

    /// - Parameters:
    ///   - variables: D.
    ///   - hidden: the units of each hidden layer.
    public init(
        variables: Int, hidden: [Int] = [64, 64, 64], time: TimeInput = .squash, activation: Activation = .tanh,
        features: Int = 0, startsAtIdentity: Bool = true
    ) {
        let widths = [variables] + hidden + [variables]
        layers = (0..<widths.count - 1).map { index in
            let isLast = index == widths.count - 2
            return TimeDense(
                widths[index], widths[index + 1], beside: 1 + features, isGated: time == .squash && !isLast,
                initializer: isLast && startsAtIdentity ? .zeros : nil)
        }
        self.activation = activation
        self.time = time
        featureCount = features
    }

    /// Time and features, `[1 or batch, 1 + features]`.
    private func conditions(_ z: Tensor, _ t: Tensor, _ context: Context) -> Tensor {
        guard featureCount > 0 else { return t }
        let features = context.features(beside: z, shape: [featureCount])
        return .concatenate([t.broadcast(to: [z.shape[0], 1]), features], axis: 1)
    }

    public func velocity(_ z: Tensor, at t: Tensor, _ context: Context) -> Tensor {
        let beside = conditions(z, t, context)
        let h = layers.dropLast().reduce(z) { h, layer in activation(layer(h, beside).value) }
        return layers[layers.count - 1](h, beside).value
    }

    public func velocityAndTrace(
        _ z: Tensor, at t: Tensor, _ context: Context
    ) -> (velocity: Tensor, trace: Tensor) {
        let beside = conditions(z, t, context)
        var h = z
        // The diagonals D.
        var slopes: [Tensor] = []
        for layer in layers.dropLast() {
            let (a, factor) = layer(h, beside)
            h = activation(a)
            let slope = h.slope(by: a)
            slopes.append(factor.map { slope * $0 } ?? slope)
        }
        let weights = layers.map(\.linear.weight.tensor)
        let last = weights[weights.count - 1]
        let velocity = layers[layers.count - 1](h, beside).value
        func summed(_ terms: Tensor) -> Tensor { terms.sum(axes: [1], keepingAxes: true) }
        switch slopes.count {
        case 0:
            let n = z.shape[1].coefficient
            let diagonal = (0..<n).map { last.sliced(axis: 0, from: $0, count: 1).sliced(axis: 1, from: $0, count: 1) }
            return (velocity, summed(.concatenate(diagonal, axis: 1)).broadcast(to: [z.shape[0], 1]))
        case 1:
            return (velocity, summed(slopes[0] * (weights[0] * last.matrixTransposed()).sum(axes: [1])))
        case 2:
            let mixed = weights[1] * weights[0].matmul(last).matrixTransposed()
            return (velocity, summed(slopes[1] * slopes[0].matmul(mixed.matrixTransposed())))
        default:
            let tangents = (0..<z.shape[1].coefficient).map { i -> Tensor in
                let column = weights[0].sliced(axis: 1, from: i, count: 1).matrixTransposed()
                let end = slopes.indices.dropFirst().reduce(slopes[0] * column) { tangent, index in
                    tangent.matmul(weights[index].matrixTransposed()) * slopes[index]
                }
                return end * last.sliced(axis: 0, from: i, count: 1)
            }
            return (velocity, summed(tangents.dropFirst().reduce(tangents[0]) { $0 + $1 }))
        }
    }

    public var traceFormula: String {
        switch layers.count {
        case ...2: "from weights and slopes of the hidden units, without a product"
        case 3: "from weights and slopes of the hidden units, by one product"
        default: "in forward mode, by \(layers.count - 3) products for each variable"
        }
    }
}

/// A dense layer that is told the time and other numbers u: `(W h + b) sigmoid(G u + c) + S u`, without a factor where it has no gate.
public struct TimeDense: Module {
    public let linear: Dense
    /// S, `[out, beside]`.
    public let shift: Parameter
    public let gate: Dense?

    /// - Parameter beside: how many numbers u there are.
    public init(_ inputs: Int, _ outputs: Int, beside: Int, isGated: Bool, initializer: Initializer? = nil) {
        linear = Dense(inputs, outputs, initializer: initializer)
        shift = Parameter([outputs, beside], initializer ?? .fanIn(beside))
        gate = isGated ? Dense(beside, outputs) : nil
    }

    /// - Parameters:
    ///   - h: `[batch, in]`.
    ///   - beside: `[1 or batch, count]`.
    /// - Returns: the result `[batch, out]`, and what W h was multiplied by.
    public func callAsFunction(_ h: Tensor, _ beside: Tensor) -> (value: Tensor, factor: Tensor?) {
        let product = h.matmul(linear.weight.tensor.matrixTransposed())
        let (bias, added) = (linear.bias.tensor, Self.product(beside, shift))
        guard let gate else { return (product + (added + bias), nil) }
        let factor = (Self.product(beside, gate.weight) + gate.bias.tensor).sigmoid()
        // What is one row for all examples is made before it meets them.
        return (product * factor + (factor * bias + added), factor)
    }

    /// Of the time alone, or of the time and others.
    private static func product(_ beside: Tensor, _ weight: Parameter) -> Tensor {
        let transposed = weight.tensor.matrixTransposed()
        return weight.shape[1] == 1 ? beside * transposed : beside.matmul(transposed)
    }
}
