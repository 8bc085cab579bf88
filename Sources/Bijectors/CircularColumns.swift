import Distributions
import Graph
import Layers

/// Which columns of vectors are points of a circle, angles say, and the splines that bend it: what the parts of a flow are made of
/// whose density has no step where the circle closes (Rezende et al. 2020).
public struct CircularColumns: Sendable {
    /// In increasing order.
    public let columns: [Int]
    public let spline: CircularSplineTransformer

    /// - Parameter columns: counted from 0, each once.
    public init(_ columns: [Int], _ spline: CircularSplineTransformer = CircularSplineTransformer()) {
        trap(
            unless: columns.allSatisfy { $0 >= 0 } && Set(columns).count == columns.count,
            "columns are counted from 0 and named once, found \(columns)")
        self.columns = columns.sorted()
        self.spline = spline
    }

    /// Every column is a real number.
    public static let none = CircularColumns([])

    /// Splines for these columns, `others` for the others.
    public func transformer(_ others: any Transformer, variables: Int) -> any Transformer {
        requireFit(variables)
        if columns.isEmpty { return others }
        if columns.count == variables { return spline }
        return ColumnTransformer([others, spline], choice: (0..<variables).map { columns.contains($0) ? 1 : 0 })
    }

    /// Uniform on the circle for these columns, `others` for the runs of others.
    /// - Parameter others: a distribution of any number of columns.
    public func base(_ others: any Distribution, variables: Int) -> any Distribution {
        requireFit(variables)
        if columns.isEmpty { return others }
        let circle: any Distribution = CircularUniform(low: spline.low, period: spline.period)
        var parts: [(distribution: any Distribution, columns: Int)] = []
        for column in 0..<variables {
            let isCircular = columns.contains(column)
            if column > 0, columns.contains(column - 1) == isCircular {
                parts[parts.count - 1].columns += 1
            } else {
                parts.append((isCircular ? circle : others, 1))
            }
        }
        return ProductDistribution(parts)
    }

    /// A coupling's network, as `MaskedMLP.coupling` makes it, which reads these columns by cosine and sine.
    public func coupling(
        kept: [Bool], hidden: [Int], parameters: Int, features: Int = 0, activation: Activation = .relu,
        startsAtIdentity: Bool = false
    ) -> any Conditioner {
        requireFit(kept.count)
        return encoding(
            MaskedMLP.coupling(
                kept: kept, hidden: hidden, parameters: parameters, features: features, repeated: columns,
                activation: activation, startsAtIdentity: startsAtIdentity))
    }

    /// The network of an autoregressive bijector, as `MaskedMLP.autoregressive` makes it, which reads these columns by cosine and sine.
    public func autoregressive(
        order: Order, hidden: [Int], parameters: Int, features: Int = 0, activation: Activation = .relu,
        startsAtIdentity: Bool = false
    ) -> any Conditioner {
        requireFit(order.index.count)
        return encoding(
            MaskedMLP.autoregressive(
                order: order, hidden: hidden, parameters: parameters, features: features, repeated: columns,
                activation: activation, startsAtIdentity: startsAtIdentity))
    }

    private func encoding(_ network: MaskedMLP) -> any Conditioner {
        columns.isEmpty ? network : PeriodicEncoding(columns, period: spline.period, network)
    }

    private func requireFit(_ variables: Int) {
        trap(
            unless: columns.allSatisfy { $0 < variables },
            "examples of \(variables) variables have no column \(columns.last ?? 0)")
    }
}

/// A conditioner that reads points of circles by their cosines and sines: its parameters are the same for x and x + period.
public struct PeriodicEncoding: Conditioner {
    public let columns: [Int]
    public let period: Double
    public let network: any Conditioner

    /// - Parameter network: of `[batch, D + columns]`: x with cosines in place of the columns, and behind it the columns' sines.
    public init(_ columns: [Int], period: Double, _ network: any Conditioner) {
        trap(unless: period > 0 && period.isFinite, "a circle has a finite period above 0, found \(period)")
        self.columns = columns
        self.period = period
        self.network = network
    }

    public func name(ofProperty property: String) -> String { property == "network" ? "" : property }

    /// x `[batch, D]`.
    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor { network(encoded(x), context) }

    private func encoded(_ x: Tensor) -> Tensor {
        let width = x.shape.rank == 2 ? x.shape[1].coefficient : 0
        guard columns.allSatisfy({ $0 < width }) else {
            return .misuse("periodic encoding", "expected [batch, D] with columns \(columns), found \(x.shape)", of: x)
        }
        let angles = x * (2 * .pi / period)
        let isAngle = Tensor.constant(HostArray((0..<width).map { columns.contains($0) }, shape: [width]))
        let sines = columns.map { angles.sliced(axis: 1, from: $0, count: 1).apply(.sin) }
        return .concatenate(
            [.select(isAngle.broadcast(to: x.shape), angles.apply(.cos), x)] + sines, axis: 1)
    }
}

/// A transformer for each column of examples `[batch, D]`, by a fixed choice. Couplings have to hand it all of x: by elements, or by a mask.
/// Its parameters are as many as the most of one of them; a column whose transformer takes fewer leaves the last unread.
public struct ColumnTransformer: Transformer {
    public let transformers: [any Transformer]
    /// For each column the place of its transformer.
    public let choice: [Int]

    /// - Parameter choice: for each column the place of its transformer.
    public init(_ transformers: [any Transformer], choice: [Int]) {
        trap(
            unless: !choice.isEmpty && choice.allSatisfy { transformers.indices.contains($0) },
            "each column has one of \(transformers.count) transformers, found \(choice)")
        self.transformers = transformers
        self.choice = choice
    }

    /// The transformers that some column has, and which.
    private var parts: [(transformer: any Transformer, isHere: [Bool])] {
        Set(choice).sorted().map { part in (transformers[part], choice.map { $0 == part }) }
    }

    public var name: String {
        parts.map { part in
            let columns = part.isHere.indices.filter { part.isHere[$0] }.map(\.description)
            return "\(part.transformer.name) in columns \(columns.joined(separator: ", "))"
        }.joined(separator: "; ")
    }

    public var columnCount: Int? { choice.count }
    public var parameterCount: Int { parts.map(\.transformer.parameterCount).max() ?? 0 }
    public var inverseFormula: String { parts.map(\.transformer.inverseFormula).joined(separator: ", or ") }

    public func forward(_ x: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        chosen(x, p) { $0.forward($1, $2) }
    }

    public func inverse(_ z: Tensor, _ p: [Tensor]) -> (value: Tensor, logDerivative: Tensor) {
        chosen(z, p) { $0.inverse($1, $2) }
    }

    private func chosen(
        _ x: Tensor, _ p: [Tensor],
        _ map: (any Transformer, Tensor, [Tensor]) -> (value: Tensor, logDerivative: Tensor)
    ) -> (value: Tensor, logDerivative: Tensor) {
        let x = x.examples(of: [choice.count], for: "transformers of columns")
        if x.error != nil { return (x, x) }
        let parts = self.parts
        let results = parts.map { map($0.transformer, x, Array(p.prefix($0.transformer.parameterCount))) }
        return zip(parts, results).dropFirst().reduce(results[0]) { so, next in
            let isHere = Tensor.constant(HostArray(next.0.isHere, shape: [choice.count])).broadcast(to: x.shape)
            return (
                .select(isHere, next.1.value, so.value), .select(isHere, next.1.logDerivative, so.logDerivative)
            )
        }
    }
}
