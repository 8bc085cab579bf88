/// How each element of a result is made from elements of the operands. Elements are named by their flat, row-major positions, for a batch
/// of one example; where they lie in memory is the compiler's business.
public enum ElementRule: Sendable {
    /// It is the element of the first operand that the dependency rule names in a table.
    case moved
    /// The reduction of the terms that are listed for each element, in this order, of the first operand.
    case reduction(Reduction.Kind, terms: [[Int32]])
    /// A sum of products of elements of the first two operands.
    case products(SumOfProducts)
    /// None, and why, for people.
    case unknown(String)
}

/// The sums of products of an operation's elements: for each the segments of `rows[row[element]]`, each `count` products
/// `a[aBase[element] + segment.a + j * aStride] * b[bBase[element] + segment.b + j * bStride]`.
public struct SumOfProducts: Sendable {
    /// A run of products: `count` of them from these positions on, relative to the element's bases.
    public struct Segment: Sendable, Hashable {
        /// Of the first factors, in the first operand and in the second.
        public var a: Int32
        public var b: Int32
        /// How many products.
        public var count: Int32

        public init(a: Int32, b: Int32, count: Int32) { (self.a, self.b, self.count) = (a, b, count) }
    }

    /// The flat position in the operand that a segment's positions are counted from, for each element; where channels were asked for, for
    /// each position of the first of them.
    public var aBase: [Int32]
    public var bBase: [Int32]
    /// From one product of a segment to the next: each the stride of one axis of the operand, which a segment does not leave.
    public var aStride: Int
    public var bStride: Int
    /// From an element to that of the next channel at the same position, where channels were asked for: zero, or the stride of an axis.
    public var aChannelStride: Int
    public var bChannelStride: Int
    /// Lists of segments; elements whose segments lie at the same distances share one.
    public var rows: [[Segment]]
    /// Which list each element takes.
    public var row: [Int32]

    public init(
        aBase: [Int32], bBase: [Int32], aStride: Int, bStride: Int, aChannelStride: Int = 0, bChannelStride: Int = 0,
        rows: [[Segment]], row: [Int32]
    ) {
        (self.aBase, self.bBase, self.aStride, self.bStride) = (aBase, bBase, aStride, bStride)
        (self.aChannelStride, self.bChannelStride, self.rows, self.row) = (aChannelStride, bChannelStride, rows, row)
    }
}

/// What an element rule is asked about.
public struct ElementRuleContext: Sendable {
    /// The types of the operands and of the result.
    public let inputs: [TensorType]
    public let output: TensorType
    /// What is known of each operand's values; `nil` where every element varies.
    public let knownValues: [KnownValues?]
    /// The channels (axis 1 of a result `[batch, channels, positions..]`) that are asked about together; `nil` for all elements, each by
    /// itself. Only operations with `channelKinds` are asked about channels, and only about channels of one kind.
    public let channels: Range<Int>?

    public init(inputs: [TensorType], output: TensorType, knownValues: [KnownValues?], channels: Range<Int>?) {
        (self.inputs, self.output, self.knownValues, self.channels) = (inputs, output, knownValues, channels)
    }

    /// The run-time shapes of the operands, for one example.
    public var inputShapes: [[Int]] { inputs.map { $0.shape.resolved(batch: 1) } }
    /// The elements of the result, for one example.
    public var outputCount: Int { output.shape.count.resolved(batch: 1) }
}
