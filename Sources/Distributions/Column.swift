import Graph

/// One column of a table: its name, and what its cells hold as a model is given them.
public struct Column: Codable, Sendable, Equatable {
    /// Empty where the file names none.
    public var name: String
    public var kind: Kind

    public enum Kind: Codable, Sendable, Equatable {
        /// Real numbers, with mean and standard deviation in the training set, by which models standardise them.
        case real(mean: Double, deviation: Double)
        /// Whole numbers likewise.
        case whole(mean: Double, deviation: Double)
        /// One of some names, each given to models as its place among them. A column of 0 and 1 has the names “0” and “1”.
        case category([String])
    }

    public init(_ name: String = "", _ kind: Kind) {
        self.name = name
        self.kind = kind
    }

    /// The names that a cell may hold, where it holds one of some.
    public var categories: [String]? {
        if case .category(let names) = kind { return names }
        return nil
    }

    /// Whether it holds 0 and 1.
    public var isBinary: Bool { categories == ["0", "1"] }

    /// What standardises the cells: (x - mean) / deviation; 0 and 1 for names.
    public var scaling: (mean: Double, deviation: Double) {
        switch kind {
        case .real(let mean, let deviation), .whole(let mean, let deviation): (mean, deviation)
        case .category: (0, 1)
        }
    }
}

extension Tensor {
    /// Each column less its mean and divided by its deviation. x `[batch, columns]`.
    public func standardized(_ columns: [Column]) -> Tensor {
        (self - .row(columns.map(\.scaling.mean), elementType))
            * .row(columns.map { 1 / $0.scaling.deviation }, elementType)
    }

    /// Numbers `[1, columns]`, one for each column.
    public static func row(_ values: [Double], _ type: ElementType) -> Tensor {
        let shape = [1, values.count]
        return .constant(
            type == .float64 ? HostArray(values, shape: shape) : HostArray(values.map { Float($0) }, shape: shape))
    }
}
