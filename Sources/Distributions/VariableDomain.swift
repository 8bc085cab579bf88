import Graph

/// What the variables of a model may hold.
public enum VariableDomain: Sendable, Equatable {
    case binary
    /// Whole numbers 0 ..< levels.
    case levels(Int)
    /// Finite numbers.
    case real

    /// How many values a variable may take, where it is discrete.
    public var levelCount: Int? {
        switch self {
        case .binary: 2
        case .levels(let n): n
        case .real: nil
        }
    }

    /// The first value of examples `[rows, variables]` that is outside, in words; `nil` where all are inside.
    public func problem(in examples: HostArray) -> String? {
        let values = examples.doubles
        let width = max(1, examples.shape.last ?? 1)
        let bad: Int?
        let expected: String
        switch self {
        case .binary: (bad, expected) = (values.firstIndex { $0 != 0 && $0 != 1 }, "0 or 1; binarize it first")
        case .levels(let n):
            (bad, expected) = (
                values.firstIndex { !($0 >= 0 && $0 < Double(n) && $0 == $0.rounded()) },
                "a whole number from 0 to \(n - 1)"
            )
        case .real: (bad, expected) = (values.firstIndex { !$0.isFinite }, "a finite number")
        }
        return bad.map { "row \($0 / width), column \($0 % width) holds \(values[$0]); expected \(expected)" }
    }
}
