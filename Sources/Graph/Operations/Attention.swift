/// Attention (Vaswani et al. 2017, equation 1) under a pattern: of queries `[batch, heads, depth, queries]`, keys `[batch, heads, depth, keys]`
/// and values `[batch, heads, depth of values, keys]`
///
///     output[.., i] = Σ_j softmax_j(scale · q[.., i] · k[.., j]) v[.., j], over the keys j that the pattern lets query i read,
///
/// `[batch, heads, depth of values, queries]`, and beside it the logarithm of the softmax's sum, `[batch, heads, queries]`, minus infinity
/// (and an output of zero) where a query reads nothing. The softmax goes along with the products (Milakov and Gimelshein 2018; Dao et
/// al. 2022), so that no array of the size queries x keys is ever stored.
public struct Attention: Operation, Hashable {
    /// Which keys each query reads.
    public let pattern: AttentionPattern
    /// What a product of a query and a key is multiplied by.
    public let scale: Double

    /// - Parameter scale: a constant; rounded to the operands' type.
    public init(_ pattern: AttentionPattern, scale: Double) { (self.pattern, self.scale) = (pattern, scale) }

    public var name: String { "attention" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2])
        guard [q, k, v].allSatisfy({ $0.shape.rank == 4 && $0.element == q.element && $0.shape[3].isStatic }),
            q.element.isFloatingPoint, k.shape[3] == v.shape[3], q.shape[2] == k.shape[2],
            Set([q, k, v].map { $0.shape.dimensions.prefix(2) }).count == 1
        else {
            throw GraphError(
                operation: name,
                message:
                    "expected queries [batch, heads, depth, queries], keys [batch, heads, depth, keys] and values [batch, heads, depth, keys] of one floating type, found \(q), \(k) and \(v)"
            )
        }
        if let problem = pattern.problem() {
            throw GraphError(
                operation: name, message: "expected a pattern with at least one position, found \(problem)")
        }
        let lead = q.shape.dimensions.prefix(2)
        return [
            TensorType(Shape(lead + [v.shape[2], q.shape[3]]), q.element),
            TensorType(Shape(lead + [q.shape[3]]), q.element),
        ]
    }

    /// Of every pair of an example and a head: what a query finds is made from all of the query, all of the keys that it reads, and their
    /// values of the same depth.
    public func relations(_ context: RelationContext) -> [Relation] {
        let (q, k, v) = (context.inputShapes[0], context.inputShapes[1], context.inputShapes[2])
        let (pairs, depth, queries, keys, width) = (q[0] * q[1], q[2], q[3], k[3], v[2])
        let read = (0..<queries).map { pattern.keys(of: $0, count: keys) }
        // The query, or the key, that each element belongs to, of all pairs.
        func vectors(_ depth: Int, _ count: Int) -> [Int32] {
            (0..<pairs * depth * count).map { Int32($0 / (depth * count) * count + $0 % count) }
        }
        let output = vectors(context.output == 0 ? width : 1, queries)
        let reading = Relation.chain(
            .rows(outer: pairs, rows: read, inputCount: keys, inner: 1), count: pairs * queries, .table(output))
        let whole = (0..<Int32(pairs * keys)).map { $0 }
        return [
            .lines(input: vectors(depth, queries), output: output, count: pairs * queries),
            .chain(
                .lines(input: vectors(depth, keys), output: whole, count: pairs * keys), count: pairs * keys, reading),
            context.output == 0 ? .rows(outer: pairs * width, rows: read, inputCount: keys, inner: 1) : .none,
        ]
    }

    /// Everything of a pair of an example and a head reads everything of it; who tells the pattern apart reads `composed`.
    static func byPair(_ context: RelationContext) -> [Relation] {
        let pairs = Swift.max(1, context.inputShapes[0].prefix(2).reduce(1, *))
        func lines(_ count: Int) -> [Int32] { (0..<count).map { Int32($0 / Swift.max(1, count / pairs)) } }
        let output = lines(context.outputCount)
        return context.inputShapes.map {
            .lines(input: lines($0.reduce(1, *)), output: output, count: pairs)
        }
    }

    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? {
        Self.work(inputs, pattern, products: 1, batch: batch)
    }

    /// One for each score.
    public func exps(_ inputs: [TensorType], batch: Int) -> Int {
        Shape(Array(inputs[0].shape.dimensions.prefix(2))).count.resolved(batch: batch)
            * pattern.pairs(queries: inputs[0].shape[3].coefficient, keys: inputs[1].shape[3].coefficient)
    }

    /// - Parameter products: of each of the two kinds: over depths, and over depths of values.
    static func work(_ inputs: [TensorType], _ pattern: AttentionPattern, products: Int, batch: Int) -> Work {
        let (q, v) = (inputs[0].shape, inputs[2].shape)
        let (queries, keys) = (q[3].coefficient, v[3].coefficient)
        let pairs = Shape(Array(q.dimensions.prefix(2))).count.resolved(batch: batch)
        let each = products * pairs * (q[2].coefficient + v[2].coefficient)
        return Work(dense: each * queries * keys, live: each * pattern.pairs(queries: queries, keys: keys))
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let (q, k, v) = (inputs[0], inputs[1], inputs[2])
        let scale = context.rounded(scale)
        let (depth, queries, keys, width) = (q.shape[2], q.shape[3], k.shape[3], v.shape[2])
        for pair in 0..<q.shape[0] * q.shape[1] {
            for i in 0..<queries {
                let read = Array(pattern.keys(of: i, count: keys).joined())
                let scores = read.map { j in
                    scale
                        * (0..<depth).reduce(0.0) {
                            $0 + q.elements[(pair * depth + $1) * queries + i]
                                * k.elements[(pair * depth + $1) * keys + j]
                        }
                }
                let most = scores.max() ?? 0
                let weights = scores.map { Math.exp($0 - most) }
                let sum: Double = weights.reduce(0) { $0 + $1 }
                outputs[1].elements[pair * queries + i] = read.isEmpty ? -.infinity : most + Math.log(sum)
                for d in 0..<width {
                    let line = (pair * width + d) * keys
                    outputs[0].elements[(pair * width + d) * queries + i] =
                        read.isEmpty ? 0 : zip(read, weights).reduce(0) { $0 + v.elements[line + $1.0] * $1.1 } / sum
                }
            }
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        let g = outputGradients[0] ?? Tensor.scalar(0, outputs[0].elementType).broadcast(to: outputs[0].shape)
        // Dao et al. 2022, appendix B.2: what the softmax's own sum takes off the gradient of a score.
        var offset = (g * outputs[0]).sum(axes: [2])
        if let own = outputGradients[1] { offset = offset - own }
        let node = Node(
            AttentionGradient(pattern: pattern, scale: scale), inputs + [outputs[1], offset, g],
            at: outputs[0].location)
        return (0..<3).map { Tensor(node, $0) }
    }
}

extension EvaluationContext {
    /// A factor as a number of the operands' type.
    fileprivate func rounded(_ scale: Double) -> Double { inputTypes.first == .float32 ? Double(Float(scale)) : scale }
}

/// The gradients of attention's queries, keys and values, from these, the logarithms of the softmax's sums, the sums over depths of output
/// times gradient, and the output's gradient. Weights are computed again, and not stored.
public struct AttentionGradient: Operation, Hashable {
    /// As in `Attention`, whose gradient this is.
    public let pattern: AttentionPattern
    /// Likewise.
    public let scale: Double

    public var name: String { "attentionGradient" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] { Array(inputs.prefix(3)) }

    public func relations(_ context: RelationContext) -> [Relation] { Attention.byPair(context) }

    /// Weights that are computed again are not counted.
    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? {
        Attention.work(inputs, pattern, products: 2, batch: batch)
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let (q, k, v) = (inputs[0].elements, inputs[1].elements, inputs[2].elements)
        let scale = context.rounded(scale)
        let (logSum, offset, g) = (inputs[3].elements, inputs[4].elements, inputs[5].elements)
        let (depth, queries) = (inputs[0].shape[2], inputs[0].shape[3])
        let (width, keys) = (inputs[2].shape[2], inputs[2].shape[3])
        for index in 0..<3 { outputs[index] = Values(shape: outputs[index].shape) }
        for pair in 0..<inputs[0].shape[0] * inputs[0].shape[1] {
            func at(_ d: Int, _ i: Int) -> Int { (pair * depth + d) * queries + i }
            func key(_ d: Int, _ j: Int) -> Int { (pair * depth + d) * keys + j }
            func value(_ d: Int, _ j: Int) -> Int { (pair * width + d) * keys + j }
            func result(_ d: Int, _ i: Int) -> Int { (pair * width + d) * queries + i }
            for i in 0..<queries {
                for j in pattern.keys(of: i, count: keys).joined() {
                    let score = scale * (0..<depth).reduce(0.0) { $0 + q[at($1, i)] * k[key($1, j)] }
                    let weight = Math.exp(score - logSum[pair * queries + i])
                    let dot = (0..<width).reduce(0.0) { $0 + g[result($1, i)] * v[value($1, j)] }
                    let change = weight * (dot - offset[pair * queries + i]) * scale
                    for d in 0..<depth {
                        outputs[0].elements[at(d, i)] += change * k[key(d, j)]
                        outputs[1].elements[key(d, j)] += change * q[at(d, i)]
                    }
                    for d in 0..<width { outputs[2].elements[value(d, j)] += weight * g[result(d, i)] }
                }
            }
        }
    }

    /// The gradients of the same in ordinary products.
    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        // Some inputs are computed from others; here each is a variable of its own.
        let own = inputs.map { loopPlaceholder($0.type) }
        let terms = zip(composed(own, at: outputs[0].location), outputGradients).compactMap { result, g in
            g.map { (result * $0).sum() }
        }
        guard let first = terms.first,
            let found = try? Graph.gradients(of: terms.dropFirst().reduce(first) { $0 + $1 }, with: own)
        else { return inputs.map { _ in nil } }
        return replacing(Dictionary(zip(own, inputs), uniquingKeysWith: { first, _ in first }), in: found)
    }
}

/// An operation that is also a graph of others.
protocol ComposedOperation: Operation {
    /// Whether its own rules tell its elements apart as exactly as those of the others would.
    var hasExactRules: Bool { get }
    func composed(_ inputs: [Tensor], at location: SourceLocation?) -> [Tensor]
}

/// The same tensors with composed operations written out, inside of scans too.
/// - Parameter all: whether those with exact rules of their own are too.
public func composed(_ outputs: [Tensor], all: Bool = true) -> [Tensor] {
    rewritten(outputs) { node, inputs in
        if let operation = node.operation as? any ComposedOperation, all || !operation.hasExactRules {
            return operation.composed(inputs, at: node.location)
        }
        return withBody(node, inputs) { composed($0, all: all) }
    }
}

extension AttentionPattern {
    /// Whether each of some queries reads each of some keys, `[queries, keys]`; `nil` where all do.
    fileprivate func constant(_ queries: Range<Int>, _ keys: Range<Int>, count: Int) -> Tensor? {
        var reads = [Bool](repeating: false, count: queries.count * keys.count)
        for query in queries {
            for run in self.keys(of: query, count: count) {
                for key in run.clamped(to: keys) {
                    reads[(query - queries.lowerBound) * keys.count + key - keys.lowerBound] = true
                }
            }
        }
        return reads.contains(false) ? .constant(HostArray(reads, shape: [queries.count, keys.count])) : nil
    }
}

extension Attention: ComposedOperation {
    var hasExactRules: Bool { true }

    /// Queries that are computed together.
    private static let block = 112

    /// A block of queries meets the keys from the first to the last that one of them reads.
    func composed(_ inputs: [Tensor], at location: SourceLocation?) -> [Tensor] {
        let (q, k, v) = (inputs[0] * scale, inputs[1], inputs[2])
        let (queries, keys) = (q.shape[3].coefficient, k.shape[3].coefficient)
        let lead = q.shape.dimensions.prefix(2)
        var (outputs, sums): ([Tensor], [Tensor]) = ([], [])
        for first in stride(from: 0, to: queries, by: Self.block) {
            let count = min(Self.block, queries - first)
            let runs = (first..<first + count).flatMap { pattern.keys(of: $0, count: keys) }
            guard let low = runs.map(\.lowerBound).min(), let high = runs.map(\.upperBound).max() else {
                outputs.append(
                    Tensor.scalar(0, q.elementType).broadcast(to: Shape(lead + [v.shape[2], Extent(count)])))
                sums.append(Tensor.scalar(-.infinity, q.elementType).broadcast(to: Shape(lead + [Extent(count)])))
                continue
            }
            let scores = q.sliced(axis: 3, from: first, count: count).matrixTransposed()
                .matmul(k.sliced(axis: 3, from: low, count: high - low))
            let mask = pattern.constant(first..<first + count, low..<high, count: keys)
            let seen = mask.map { Tensor.select($0, scores, .scalar(-.infinity, scores.elementType)) } ?? scores
            let most = seen.max(axes: [3], keepingAxes: true).stoppingGradient()
            // A query that reads nothing has no greatest score.
            let readsAll = (first..<first + count).allSatisfy { !pattern.keys(of: $0, count: keys).isEmpty }
            let middle =
                readsAll
                ? most : Tensor.select(most.equal(.scalar(-.infinity, q.elementType)), .scalar(0, q.elementType), most)
            let weights = (seen - middle).exp()
            let sum = weights.sum(axes: [3], keepingAxes: true)
            let part = v.sliced(axis: 3, from: low, count: high - low).matmul(weights.matrixTransposed())
            let divisor = sum.matrixTransposed()
            outputs.append(
                readsAll
                    ? part / divisor
                    : part / Tensor.select(divisor.equal(.scalar(0, q.elementType)), .scalar(1, q.elementType), divisor)
            )
            sums.append((middle + sum.log()).reshaped(Shape(lead + [Extent(count)])))
        }
        return [
            outputs.count == 1 ? outputs[0] : .concatenate(outputs, axis: 3),
            sums.count == 1 ? sums[0] : .concatenate(sums, axis: 2),
        ]
    }
}

extension AttentionGradient: ComposedOperation {
    var hasExactRules: Bool { false }

    func composed(_ inputs: [Tensor], at location: SourceLocation?) -> [Tensor] {
        let (q, k, v, logSum, offset, g) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5])
        let (queries, keys) = (q.shape[3].coefficient, k.shape[3].coefficient)
        let column = { (t: Tensor) in t.reshaped(Shape(t.shape.dimensions + [1])) }
        let scores = q.matrixTransposed().matmul(k) * scale - column(logSum)
        let mask = pattern.constant(0..<queries, 0..<keys, count: keys)
        let seen = mask.map { Tensor.select($0, scores, .scalar(-.infinity, scores.elementType)) } ?? scores
        let weights = seen.exp()
        let change = weights * (g.matrixTransposed().matmul(v) - column(offset)) * scale
        return [k.matmul(change.matrixTransposed()), q.matmul(change), g.matmul(weights)]
    }
}

extension Tensor {
    /// Attention: softmax(scale · queries · keys) · values under a pattern.
    /// - Parameters:
    ///   - queries: `[batch, heads, queries, depth]`
    ///   - keys: `[batch, heads, keys, depth]`
    ///   - values: `[batch, heads, keys, depth of values]`
    ///   - scale: the inverse square root of the depth, if not given.
    ///   - counted: 1 where a key of an example counts and 0 where it is padding, `[batch, keys]`; `nil` where all count. A query that
    ///     reads padding alone reads all of that.
    /// - Returns: `[batch, heads, queries, depth of values]`
    public static func attention(
        _ queries: Tensor, _ keys: Tensor, _ values: Tensor, _ pattern: AttentionPattern, scale: Double? = nil,
        counted: Tensor? = nil, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        attention(
            byDepth: queries.matrixTransposed(), keys.matrixTransposed(), values.matrixTransposed(), pattern,
            scale: scale, counted: counted, file: file, line: line
        ).matrixTransposed()
    }

    /// The same where positions come last, `[batch, heads, depth, positions]`, as they lie behind a convolution: nothing is moved.
    public static func attention(
        byDepth queries: Tensor, _ keys: Tensor, _ values: Tensor, _ pattern: AttentionPattern, scale: Double? = nil,
        counted: Tensor? = nil, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        let depth = queries.shape.rank == 4 ? queries.shape[2].coefficient : 1
        let scale = scale ?? 1 / Double(depth).squareRoot()
        let location = SourceLocation(file, line)
        guard let counted else {
            return Tensor(Attention(pattern, scale: scale), [queries, keys, values], at: location)
        }
        guard queries.shape.rank == 4, keys.shape.rank == 4, scale > 0, counted.elementType == keys.elementType,
            counted.shape == [keys.shape[0], keys.shape[3]]
        else {
            return .misuse(
                "attention",
                "expected the keys that count, [batch, keys] of \(keys.elementType), beside queries and keys of four axes and a positive scale, found \(counted.type) beside \(queries.type) and \(keys.type)",
                of: queries)
        }
        // One depth more, in which every query has a one and a key nothing, or so much less that its weight is zero.
        let one = Tensor.scalar(1, queries.elementType)
            .broadcast(to: [queries.shape[0], queries.shape[1], 1, queries.shape[3]])
        let penalty = ((counted - 1) * (1e9 / scale)).stoppingGradient().reshaped([keys.shape[0], 1, 1, keys.shape[3]])
            .broadcast(to: [keys.shape[0], keys.shape[1], 1, keys.shape[3]])
        return Tensor(
            Attention(pattern, scale: scale),
            [.concatenate([queries, one], axis: 2), .concatenate([keys, penalty], axis: 2), values], at: location)
    }
}
