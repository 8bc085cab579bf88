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
        let bad: Int?
        switch self {
        case .binary: bad = examples.firstIndex { $0 != 0 && $0 != 1 }
        case .levels(let n): bad = examples.firstIndex { !($0 >= 0 && $0 < Double(n) && $0 == $0.rounded()) }
        case .real: bad = examples.firstBeyondFloat32
        }
        guard let bad else { return nil }
        let value = examples.element(bad)
        let expected =
            switch self {
            case .binary: "0 or 1; binarize it first"
            case .levels(let n): "a whole number from 0 to \(n - 1)"
            case .real: value.isFinite ? "a number within float32, which ends at 3.4e38" : "a finite number"
            }
        let width = max(1, examples.shape.last ?? 1)
        return "row \(bad / width), column \(bad % width) holds \(value); expected \(expected)"
    }
}
