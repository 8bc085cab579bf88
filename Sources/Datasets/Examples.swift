import Graph

/// Examples with what is known beside each.
public struct Examples: Sendable {
    /// `[examples, variables]`, whole numbers or real ones of any type.
    public var rows: HostArray
    /// The class of each example, from 0.
    public var labels: [Int32]?
    /// Real numbers beside each example, `[examples, ..]`.
    public var features: HostArray?
    /// How much each example counts, where they do not count alike: training takes it as often, means weigh it so.
    public var weights: [Float]?

    /// - Parameter rows: `[examples, ..]`; the axes of one example are joined.
    public init(_ rows: HostArray, labels: [Int32]? = nil, features: HostArray? = nil, weights: [Float]? = nil) {
        self.weights = weights
        self.rows =
            rows.shape.count > 2 ? rows.reshaped([rows.shape[0], rows.shape.dropFirst().reduce(1, *)]) : rows
        self.labels = labels
        self.features = features
    }

    /// One array of numbers for each example.
    public init(_ rows: [[Float]], labels: [Int32]? = nil, features: HostArray? = nil) {
        self.init(
            HostArray(Array(rows.joined()), shape: [rows.count, rows.first?.count ?? 0]), labels: labels,
            features: features)
    }

    public var count: Int { rows.shape.first ?? 0 }

    /// Some of the examples, in their order.
    public subscript(range: Range<Int>) -> Examples {
        Examples(
            rows.rows(range), labels: labels.map { Array($0[range]) }, features: features?.rows(range),
            weights: weights.map { Array($0[range]) })
    }

    /// Chosen examples, in the order in which they are named.
    public subscript(chosen: [Int]) -> Examples {
        Examples(
            rows.rows(chosen), labels: labels.map { labels in chosen.map { labels[$0] } },
            features: features?.rows(chosen), weights: weights.map { weights in chosen.map { weights[$0] } })
    }

    /// What a program reads: the examples as float32 under `x`, and `label` and `features`, where there are such.
    public var feeds: [String: HostArray] {
        var feeds = ["x": HostArray(rows.floats, shape: rows.shape)]
        feeds["label"] = labels.map { HostArray($0) }
        feeds["features"] = features.map { HostArray($0.floats, shape: $0.shape) }
        return feeds
    }
}
