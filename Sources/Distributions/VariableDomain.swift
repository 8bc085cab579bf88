import Graph

/// What the variables of a model may hold.
public enum VariableDomain: Sendable, Equatable {
    case binary
    /// Whole numbers 0 ..< levels.
    case levels(Int)
    /// Finite numbers.
    case real
    /// Every variable what its column holds.
    case table([Column])

    /// How many values a variable may take, where it is discrete and all variables are alike.
    public var levelCount: Int? {
        switch self {
        case .binary: 2
        case .levels(let n): n
        case .real, .table: nil
        }
    }

    /// Whether an example's figure is a density, and not a probability, in some variable.
    public var isContinuous: Bool {
        switch self {
        case .binary, .levels: false
        case .real: true
        case .table(let columns):
            columns.contains {
                if case .real = $0.kind { true } else { false }
            }
        }
    }

    /// The first value of examples `[rows, variables]` that is outside, in words; `nil` where all are inside.
    /// - Parameter allowsMissing: whether NaN stands for a value that is not known.
    public func problem(in examples: HostArray, allowsMissing: Bool = false) -> String? {
        func outside(_ isInside: (Double) -> Bool) -> Int? {
            examples.firstIndex { !(isInside($0) || allowsMissing && $0.isNaN) }
        }
        if case .table(let columns) = self { return problem(in: examples, of: columns, allowsMissing) }
        let bad: Int?
        switch self {
        case .binary: bad = outside { $0 == 0 || $0 == 1 }
        case .levels(let n): bad = outside { $0 >= 0 && $0 < Double(n) && $0 == $0.rounded() }
        case .real, .table: bad = outside { Float($0).isFinite }
        }
        guard let bad else { return nil }
        let value = examples.element(bad)
        let expected =
            switch self {
            case .binary: "0 or 1; binarize it first"
            case .levels(let n): "a whole number from 0 to \(n - 1)"
            case .real, .table: value.isFinite ? "a number within float32, which ends at 3.4e38" : "a finite number"
            }
        let width = max(1, examples.shape.last ?? 1)
        return "row \(bad / width), column \(bad % width) holds \(value); expected \(expected)"
    }

    private func problem(in examples: HostArray, of columns: [Column], _ allowsMissing: Bool) -> String? {
        let (width, values) = (columns.count, examples.floats)
        for (i, value) in values.enumerated() where !(allowsMissing && value.isNaN) {
            let column = columns[i % width]
            let expected: String? =
                switch column.kind {
                case .real: value.isFinite ? nil : "a finite number"
                case .whole: value.isFinite && value == value.rounded() ? nil : "a whole number"
                case .category(let names):
                    value >= 0 && value < Float(names.count) && value == value.rounded()
                        ? nil : "a whole number from 0 to \(names.count - 1), the place of one of its names"
                }
            guard let expected else { continue }
            let name = column.name.isEmpty ? "" : " (\(column.name))"
            return "row \(i / width), column \(i % width)\(name) holds \(value); expected \(expected)"
        }
        return nil
    }
}
