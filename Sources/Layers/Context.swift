import Graph

/// What one traversal of a model has beside x: what it is for, what the model is conditioned on, random numbers, and what the
/// traversal finds on its way.
///
/// A model hands its context on to its layers. A copy shares the found `updates` with the original, so that a part of a model can be
/// given other features and still report to the same place.
public struct Context {
    public enum Mode: Sendable {
        /// Parameters and running statistics as they are; no dropout.
        case evaluate
        /// Dropout is on; batch normalisation uses the batch's statistics and updates the running ones.
        case train
        /// Layers that fit themselves to a first batch do so: ActNorm (Kingma and Dhariwal 2018, section 3.1), weight normalisation
        /// (Salimans and Kingma 2016, section 3).
        case initialize
    }

    public var mode: Mode
    /// The class of each example, int32 `[batch]`; needed by a model that is conditioned on classes.
    public var label: Tensor?
    /// Real numbers that each example is conditioned on, `[batch, count]`, or `[batch, channels, steps]` for a model whose every
    /// position has its own; needed by a model that is conditioned on them.
    public var features: Tensor?
    /// Random numbers for dropout, dequantization and estimates.
    public var random: RandomSource
    /// The orders and degrees to build the graph under, in place of the model's own.
    public var orders: ModelOrders?
    private let found = Found()

    private final class Found {
        var updates: [(parameter: Parameter, value: Tensor)] = []
    }

    public init(
        _ mode: Mode = .evaluate, label: Tensor? = nil, features: Tensor? = nil, random: RandomSource = RandomSource(),
        orders: ModelOrders? = nil
    ) {
        self.mode = mode
        self.label = label
        self.features = features
        self.random = random
        self.orders = orders
    }

    /// The values that the traversal found for parameters that gradients do not train: running statistics, or what fits a parameter
    /// to a first batch.
    public var updates: [(parameter: Parameter, value: Tensor)] { found.updates }

    /// Notes the new value of a parameter.
    public func update(_ parameter: Parameter, _ value: Tensor) { found.updates.append((parameter, value)) }

    /// The features of each example, or a mistake of the graph where they are missing or of another shape.
    /// - Parameter shape: of one example's features; a `nil` axis may have any extent.
    public func features(beside x: Tensor, shape: [Int?]) -> Tensor {
        if x.error != nil { return x }
        let expected = "[batch, \(shape.map { $0.map(String.init) ?? "any" }.joined(separator: ", "))]"
        guard let features else {
            return .misuse(
                "features",
                "expected features \(expected), as the model is conditioned on them, found a context without; pass Context(features:)",
                of: x)
        }
        if features.error != nil { return features }
        let found = Array(features.shape.resolved(batch: 1).dropFirst())
        guard found.count == shape.count, zip(found, shape).allSatisfy({ $0 == $1 ?? $0 }) else {
            return .misuse("features", "expected features \(expected), found \(features.shape)", of: features)
        }
        return features
    }
}

extension Context {
    /// The class of each example, `[batch, classes]`, or a mistake of the graph where it is missing.
    func oneHot(beside x: Tensor, _ classes: Int, as type: ElementType) -> Tensor {
        guard let label else {
            return .misuse(
                "class embedding",
                "expected the class of each example, as the model is conditioned on \(classes) classes, found a context without; pass Context(label:), int32 [batch]",
                of: x)
        }
        return label.oneHot(classes, as: type)
    }

    /// This context with class and features in one vector `[batch, features + classes]` as its features, for networks of vectors.
    public func joined(beside x: Tensor, classes: Int?, features count: Int) -> Context {
        guard let classes, x.error == nil else { return self }
        var joined = self
        let classVector = oneHot(beside: x, classes, as: x.elementType)
        joined.features =
            count == 0 ? classVector : .concatenate([features(beside: x, shape: [count]), classVector], axis: 1)
        return joined
    }
}

/// The orders and degrees under which a masked network's graph is built. Places in an order and degrees count from 0: a hidden unit of
/// degree m reads variables whose place is at most m.
public enum ModelOrders {
    /// Numbers, which are part of the program: an order of the variables, then the degrees of each hidden layer.
    case constant(order: Order, hidden: [[Int32]])
    /// int32 inputs of the same meaning, fed at every run: the place of each variable, `[variables]`, then each layer's degrees.
    case runtime(order: Tensor, hidden: [Tensor])
}
