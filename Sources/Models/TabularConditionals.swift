import Distributions
import Graph
import Layers
import Likelihood

/// Every conditional p(x_i | x_1 .. x_{i-1}) as a table with a row for each value of the variables before it: any distribution at all,
/// and as many numbers as that takes. The i-th table of binary variables has 2^(i-1) rows, most of which no example ever meets; every
/// other family of this library is a way round them (Bengio and Bengio 2000, section 1; Larochelle and Murray 2011, section 2).
///
/// Tables are fitted by counting: p(v | row) = (count(v, row) + s) / (count(row) + s levels), s being the smoothing (Laplace's with 1).
///
/// In the graph a row is chosen by a product. The row that an example is in is 1 among zeros, `[batch, rows]`; the product with the
/// values of the next variable, 1 among zeros too, is the row of the next table.
public struct TabularConditionals: AutoregressiveModel, ConfiguredModel, DirectlyFittedModel, ReportingModel {
    public let examples: ExampleShape
    public let conditional: any Conditional
    /// Of the conditionals' parameters, `[rows, parameters]` each: logits of binary variables, logarithms of probabilities of others.
    public let tables: [Parameter]
    let settings: Settings

    /// The choices of tables.
    public struct Settings: ModelSettings {
        /// Values of a variable.
        public var levels = 2
        /// What is added to every count.
        public var smoothing = 1.0
        /// The most rows that all tables may have together.
        public var limit = 65536

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try requireLevels(levels)
            try require(
                smoothing > 0 && smoothing <= 1e6,
                "smoothing: expected a number above 0, as a count of 0 would be a probability of 0, up to 1e6, found \(smoothing)"
            )
            try require(limit, "limit", in: 1...1 << 20)
            try require(
                Conditions(of: examples).vectorCount == 0,
                "tables are not conditioned on classes or features; take made")
            let rows = (0..<examples.count).reduce(0.0) { $0 + Math.pow(Double(levels), Double($1)) }
            try require(
                rows <= Double(limit),
                "tables of \(examples.count) variables of \(levels) values have \(Self.text(rows)) rows, the last of them \(Self.text(Math.pow(Double(levels), Double(examples.count - 1)))); expected at most \(limit) (limit). Leave variables out, or take made"
            )
        }

        private static func text(_ count: Double) -> String { count < 1e15 ? "\(Int(count))" : "\(count)" }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(for: "tabular", other: "made or maf")
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try TabularConditionals(examples, self)
        }

        public static var meanings: [String: SettingMeaning] {
            [
                "levels": SettingMeaning("Values of a variable", "2 to 65536"),
                "smoothing": SettingMeaning("What is added to every count; 1 is Laplace's", "above 0"),
                "limit": SettingMeaning("The most rows that all tables may have together", "1 to 1048576"),
            ]
        }
    }

    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        (self.examples, self.settings) = (examples, settings)
        let conditional: any Conditional =
            settings.levels == 2 ? BernoulliConditional() : CategoricalConditional(levels: settings.levels)
        self.conditional = conditional
        var rows = 1
        tables = (0..<examples.count).map { place in
            // The last power is not needed, and may be too large for the limit.
            defer { if place < examples.count - 1 { rows *= settings.levels } }
            return Parameter([rows, conditional.parameterCount], .zeros)
        }
    }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let (batch, levels) = (x.shape[0], settings.levels)
        let blocks = Extent(conditional.parameterCount)
        let categories = levels == 2 ? nil : conditional.encode(x)
        /// 1 at the value of a variable, `[batch, levels]`.
        func values(_ place: Int) -> Tensor {
            if let categories {
                return categories.sliced(axis: 2, from: place, count: 1).reshaped([batch, Extent(levels)])
            }
            let value = x.sliced(axis: 1, from: place, count: 1)
            return .concatenate([1 - value, value], axis: 1)
        }
        var results = [tables[0].tensor.broadcast(to: [batch, blocks])]
        var row: Tensor?
        for place in 1..<max(1, tables.count) {
            let value = values(place - 1)
            let next =
                row.map { row in
                    (row.reshaped([batch, row.shape[1], 1]) * value.reshaped([batch, 1, Extent(levels)]))
                        .reshaped([batch, row.shape[1] * Extent(levels)])
                } ?? value
            results.append(next.matmul(tables[place].tensor))
            row = next
        }
        return .concatenate(results.map { $0.reshaped([batch, blocks, 1]) }, axis: 2)
    }

    // MARK: counting

    public var isFittedDirectly: Bool { true }

    public func fitted(to rows: HostArray) throws -> [(parameter: Parameter, value: HostArray)] {
        let (width, levels, smoothing) = (variableCount, settings.levels, settings.smoothing)
        var counts = tables.map { [Double](repeating: smoothing, count: $0.shape[0] * levels) }
        let values = rows.floats
        for start in stride(from: 0, to: values.count, by: width) {
            var row = 0
            for place in 0..<width {
                let cell = row * levels + Int(values[start + place])
                counts[place][cell] += 1
                // The next table's row, the first variable counting most.
                row = cell
            }
        }
        return zip(tables, counts).map { table, counts in
            let logs = counts.map { Math.log($0) }
            let parameters: [Float] =
                levels == 2
                ? (0..<table.shape[0]).map { Float(logs[2 * $0 + 1] - logs[2 * $0]) }
                : counts.indices.map { cell in
                    let first = cell / levels * levels
                    return Float(logs[cell] - Math.log(counts[first..<first + levels].reduce(0, +)))
                }
            return (table, HostArray(parameters, shape: table.shape))
        }
    }

    /// The rows of each table, beside the weights of the i-th logistic regression of a fully visible belief net, which is i of them.
    public func chart(of example: [Double], value: (Parameter) throws -> [Double]) throws -> Chart? {
        Chart(
            "growth",
            [
                Chart.Line(tables.indices.map { Double($0 + 1) }, shade: 160),
                Chart.Line(tables.map { Double($0.shape[0]) }),
            ])
    }
}
