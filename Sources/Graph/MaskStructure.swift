/// A 0/1 matrix `[out, in]`, one bit an entry.
public struct BitMatrix: Hashable, Sendable {
    public let rows: Int
    public let columns: Int
    public let wordsPerRow: Int
    public private(set) var words: [UInt64]

    public init(rows: Int, columns: Int, _ isSet: (_ row: Int, _ column: Int) -> Bool = { _, _ in false }) {
        self.rows = rows
        self.columns = columns
        wordsPerRow = (columns + 63) / 64
        words = [UInt64](repeating: 0, count: rows * wordsPerRow)
        for row in 0..<rows {
            for column in 0..<columns where isSet(row, column) { self[row, column] = true }
        }
    }

    public subscript(row: Int, column: Int) -> Bool {
        get { words[row * wordsPerRow + column >> 6] >> UInt64(column & 63) & 1 == 1 }
        set {
            let bit = UInt64(1) << UInt64(column & 63)
            if newValue {
                words[row * wordsPerRow + column >> 6] |= bit
            } else {
                words[row * wordsPerRow + column >> 6] &= ~bit
            }
        }
    }

    public var liveCount: Int { words.reduce(0) { $0 + $1.nonzeroBitCount } }
}

/// Which weights of a masked dense layer exist: weight `[o, i]` is live where the mask is 1.
public enum MaskStructure: Hashable, Sendable {
    /// Live where `input[i] <= output[o]`, or `<` if `strict` (Germain et al. 2015, equations 12 and 13).
    case degrees(input: [Int32], output: [Int32], strict: Bool)
    /// Any constant matrix.
    case matrix(BitMatrix)
    /// Degrees that are known when the program runs: two more int32 operands, `[in]` and `[out]`.
    case runtime(strict: Bool)

    /// Whether weight `[o, i]` is live; `nil` when only the running program knows.
    public func isLive(output o: Int, input i: Int) -> Bool? {
        switch self {
        case .degrees(let input, let output, let strict): strict ? input[i] < output[o] : input[i] <= output[o]
        case .matrix(let bits): bits[o, i]
        case .runtime: nil
        }
    }
}

extension MaskStructure {
    /// How many weights are live; `nil` when only the running program knows.
    public var liveCount: Int? {
        switch self {
        case .degrees(let input, let output, let strict):
            Staircase(input: input, output: output, strict: strict).liveCount
        case .matrix(let bits): bits.liveCount
        case .runtime: nil
        }
    }

    /// For each output the ranges of live inputs; `nil` when only the running program knows.
    public func liveRanges(inputs: Int, outputs: Int) -> [[Range<Int>]]? {
        if case .runtime = self { return nil }
        return (0..<outputs).map { o in ranges(below: inputs) { isLive(output: o, input: $0) == true } }
    }
}

/// The maximal runs of indices that satisfy a condition.
func ranges(below count: Int, where isIn: (Int) -> Bool) -> [Range<Int>] {
    var result: [Range<Int>] = []
    var start: Int?
    for i in 0...count {
        if i < count, isIn(i) {
            start = start ?? i
        } else if let begin = start {
            result.append(begin..<i)
            start = nil
        }
    }
    return result
}

/// A degree mask with both sides sorted: sorted output `o` reads the first `extents[o]` sorted inputs.
public struct Staircase: Hashable, Sendable {
    /// `inputOrder[k]` is the k-th input in order of degree (stable).
    public let inputOrder: [Int32]
    public let outputOrder: [Int32]
    /// Non-decreasing, one for each sorted output.
    public let extents: [Int32]

    public init(input: [Int32], output: [Int32], strict: Bool) {
        let byDegree = { (degrees: [Int32]) in
            degrees.indices.sorted { (degrees[$0], $0) < (degrees[$1], $1) }.map { Int32($0) }
        }
        inputOrder = byDegree(input)
        outputOrder = byDegree(output)
        var extents: [Int32] = []
        extents.reserveCapacity(output.count)
        var live = 0
        for o in outputOrder {
            let degree = output[Int(o)]
            while live < input.count,
                strict ? input[Int(inputOrder[live])] < degree : input[Int(inputOrder[live])] <= degree
            {
                live += 1
            }
            extents.append(Int32(live))
        }
        self.extents = extents
    }

    public var isSorted: Bool {
        inputOrder.enumerated().allSatisfy { $0.offset == $0.element }
            && outputOrder.enumerated().allSatisfy { $0.offset == $0.element }
    }

    public var liveCount: Int { extents.reduce(0) { $0 + Int($1) } }
}
