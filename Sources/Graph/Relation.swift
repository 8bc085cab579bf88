/// Which elements of an input each element of an output is computed from.
///
/// Relations are taken with run-time shapes and flat row-major indices, so a rule is written once and serves every
/// analysis: levels, reachability and the structural Jacobian.
public enum Relation: Sendable {
    /// Reads nothing: the value does not depend on the input's elements.
    case none
    /// Output `e` reads input `e`.
    case same
    /// Output `e` reads input `table[e]`, or nothing where that is negative (movement, broadcasting, constant gathers).
    case table([Int32])
    /// Output `e` reads every input whose line is `output[e]`; input `i` lies on line `input[i]`, and is never read where
    /// that is negative (reductions, softmax, the rows of a product).
    case lines(input: [Int32], output: [Int32], count: Int)
    /// Output `(r, o, c)` reads input `(r, i, c)` for every `i` in `rows[o]`: an outer extent, the mixed axis, an inner
    /// extent (masked dense layers, cumulative sums, products with structural zeros).
    case rows(outer: Int, rows: [[Range<Int>]], inputCount: Int, inner: Int)
    /// A mask that is known when the program runs: output feature `o` reads input features whose degree is at most (or,
    /// if strict, below) its own. Degrees are graph values.
    case degrees(input: Tensor, output: Tensor, strict: Bool)
    /// The union of several.
    indirect case union([Relation])
}

/// What is known of an element without running the program.
public enum Fact: UInt8, Sendable {
    case varies, zero, minusInfinity, constant
}

/// The facts of one output of an operation, and its elements where all are constant.
public struct Facts: Sendable {
    public var elements: [Fact]
    public var values: [Double]?

    public init(_ elements: [Fact], values: [Double]? = nil) {
        self.elements = elements
        self.values = values
    }

    public init(constants: [Double]) {
        elements = constants.map { $0 == 0 ? .zero : $0 == -.infinity ? .minusInfinity : .constant }
        values = constants
    }
}

/// The operands of an operation as its dependency rule sees them.
public struct RelationContext: Sendable {
    public let inputs: [Tensor]
    public let inputShapes: [[Int]]
    public let outputShape: [Int]
    public let output: Int
    /// Facts of each input; `nil` where every element varies.
    public let facts: [Facts?]
    public let batch: Int

    public init(
        inputs: [Tensor], inputShapes: [[Int]], outputShape: [Int], output: Int, facts: [Facts?], batch: Int
    ) {
        self.inputs = inputs
        self.inputShapes = inputShapes
        self.outputShape = outputShape
        self.output = output
        self.facts = facts
        self.batch = batch
    }
}
