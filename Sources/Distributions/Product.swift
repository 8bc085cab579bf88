import Graph
import Layers

/// Independent runs of columns, each with a distribution of its own: x `[batch, D]` is the columns of the first, then those of the
/// second, and so on.
public struct ProductDistribution: Distribution {
    public let components: [any Distribution]
    /// How many columns each has.
    public let counts: [Int]

    public init(_ parts: [(distribution: any Distribution, columns: Int)]) {
        trap(
            unless: !parts.isEmpty && parts.allSatisfy { $0.columns >= 1 },
            "a product has one component or more, of at least one column each, found \(parts.map(\.columns))")
        components = parts.map(\.distribution)
        counts = parts.map(\.columns)
    }

    private var total: Int { counts.reduce(0, +) }

    public var name: String {
        zip(components, counts).map { "\($0.name) in \($1) column\($1 == 1 ? "" : "s")" }.joined(separator: ", then ")
    }

    public var parts: [any Distribution] { components }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        let x = x.examples(of: [total], for: name)
        var start = 0
        let logs = zip(components, counts).map { component, count in
            defer { start += count }
            return component.logProbability(x.sliced(axis: 1, from: start, count: count), context)
        }
        return logs.dropFirst().reduce(logs[0]) { $0 + $1 }
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        // Numbers of their own: the columns of each are counted from 0. The streams lie so far apart that a mixture's stay inside.
        let draws = components.indices.map { index in
            var inner = context
            inner.random = context.random.substream(index << 10)
            return components[index].sample([shape[0], Extent(counts[index])], inner, temperature: temperature)
                .cast(to: element)
        }
        let drawn = Tensor.concatenate(draws, axis: 1)
        return drawn.shape == shape
            ? drawn : .misuse(name, "expected draws of \(drawn.shape), found \(shape)", of: drawn)
    }

    /// Where every component's is known.
    public func entropy(_ example: [Int]) -> Tensor? {
        let parts = zip(components, counts).compactMap { $0.entropy([$1]) }
        guard parts.count == components.count else { return nil }
        let sum = parts.dropFirst().reduce(parts[0]) { $0 + $1 }
        return example == [total]
            ? sum : .misuse(name, "expected examples of shape \([total]), found \(example)", of: sum)
    }
}

/// Independent uniforms on the circle [low, low + period): any finite number stands for its point, and has the density 1 / period.
/// Draws lie in [low, low + period), everywhere alike at any temperature, as a circle has no middle.
public struct CircularUniform: Distribution {
    public let low: Double
    public let period: Double
    private let interval: Uniform

    public init(low: Double = 0, period: Double = 2 * .pi) {
        self.low = low
        self.period = period
        interval = Uniform(low, low + period)
    }

    public var name: String { "uniform on the circle of period \(period)" }

    public func logProbability(_ x: Tensor, _ context: Context) -> Tensor {
        Tensor.select(
            x.isFinite(), .scalar(-Math.log(period), x.elementType), .scalar(.nan, x.elementType)
        ).overEvent()
    }

    public func sample(_ shape: Shape, _ context: Context, temperature: Double) -> Tensor {
        interval.sample(shape, context, temperature: 1)
    }

    public func entropy(_ example: [Int]) -> Tensor? { interval.entropy(example) }
}
