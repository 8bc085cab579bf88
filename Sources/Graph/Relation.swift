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
    /// that is negative (reductions, the rows of a product).
    case lines(input: [Int32], output: [Int32], count: Int)
    /// Output `(r, o, c)` reads input `(r, i, c)` for every `i` in `rows[o]`: an outer extent, the mixed axis, an inner
    /// extent (masked dense layers, cumulative sums, products with structural zeros).
    case rows(outer: Int, rows: [[Range<Int>]], inputCount: Int, inner: Int)
    /// Windows of positions, channel class by channel class (convolutions).
    case window(WindowRelation)
    /// A mask that is known when the program runs: output feature `o` reads input features whose degree is at most (or,
    /// if strict, below) its own. Degrees are graph values.
    case degrees(input: Tensor, output: Tensor, strict: Bool)
    /// The union of several.
    indirect case union([Relation])
    /// One behind another: output `e` reads, by the last, elements of a tensor that is not there, `count` of them, each of which reads
    /// inputs by those before.
    indirect case chain(Relation, count: Int, Relation)
}

/// What is known of a tensor's elements without running the program: which never vary, and their values.
public struct KnownValues: Sendable, Equatable {
    public var isKnown: [Bool]
    /// Meaningful where `isKnown`.
    public var values: [Double]

    public init(isKnown: [Bool], values: [Double]) {
        self.isKnown = isKnown
        self.values = values
    }

    public init(constants: [Double]) {
        isKnown = [Bool](repeating: true, count: constants.count)
        values = constants
    }

    public subscript(element: Int) -> Double? { isKnown[element] ? values[element] : nil }

    public var isConstant: Bool { isKnown.allSatisfy { $0 } }

    /// `nil` where nothing is known, so that the common case costs nothing.
    var simplified: KnownValues? { isKnown.contains(true) ? self : nil }
}

/// The operands of an operation as its dependency rule sees them.
public struct RelationContext: Sendable {
    public let inputs: [Tensor]
    public let inputShapes: [[Int]]
    public let outputShape: [Int]
    /// Which output of the operation is asked about.
    public let output: Int
    /// What is known of each input's values; `nil` where every element varies.
    public let knownValues: [KnownValues?]
    public let batch: Int

    public init(
        inputs: [Tensor], inputShapes: [[Int]], outputShape: [Int], output: Int, knownValues: [KnownValues?], batch: Int
    ) {
        self.inputs = inputs
        self.inputShapes = inputShapes
        self.outputShape = outputShape
        self.output = output
        self.knownValues = knownValues
        self.batch = batch
    }

    public var outputCount: Int { outputShape.reduce(1, *) }
}

/// Row-major strides of a run-time shape.
func rowMajorStrides(_ shape: [Int]) -> [Int] {
    var result = [Int](repeating: 1, count: shape.count)
    for axis in stride(from: shape.count - 2, through: 0, by: -1) { result[axis] = result[axis + 1] * shape[axis + 1] }
    return result
}

/// Flat positions of an affine view: `offset + sum(strides[a] * i_a)` for every index of `shape` in row-major order.
public func affinePositions(_ shape: [Int], offset: Int, strides: [Int]) -> [Int32] {
    let count = shape.reduce(1, *)
    var result: [Int32] = []
    result.reserveCapacity(count)
    guard count > 0 else { return result }
    // The last axis is walked in a loop of its own.
    let (width, stride) = (shape.last ?? 1, strides.last ?? 0)
    var index = [Int](repeating: 0, count: shape.count)
    var position = offset
    for _ in 0..<count / width {
        for i in 0..<width { result.append(Int32(position + i * stride)) }
        var axis = shape.count - 2
        while axis >= 0 {
            index[axis] += 1
            position += strides[axis]
            if index[axis] < shape[axis] { break }
            position -= strides[axis] * shape[axis]
            index[axis] = 0
            axis -= 1
        }
    }
    return result
}
