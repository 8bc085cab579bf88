/// Small dense matrices `[.., n, n]`, each on its own. Every element of a result may read every element of its matrices.
public enum MatrixFunction: String, Hashable, Sendable {
    /// L below the diagonal (its diagonal is 1) and U on and above it, with the order of rows: `a[order] = L U`.
    case lu
    case inverse
    /// log|det a|, `[..]`; minus infinity for a singular matrix.
    case logAbsoluteDeterminant
}

public struct MatrixOperation: Operation, Hashable {
    public let function: MatrixFunction

    public var name: String { function.rawValue }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let type = inputs[0]
        guard type.shape.rank >= 2, type.shape[-1] == type.shape[-2], type.shape[-1].isStatic,
            type.element.isFloatingPoint
        else {
            throw GraphError(
                operation: name, message: "expected square matrices [.., n, n] of a floating type, found \(type)")
        }
        let lead = Array(type.shape.dimensions.dropLast(2))
        switch function {
        case .inverse: return [type]
        case .logAbsoluteDeterminant: return [TensorType(Shape(lead), type.element)]
        case .lu: return [type, TensorType(Shape(lead + [type.shape[-1]]), .int32)]
        }
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let n = context.inputShapes[0].last!
        let count = context.inputShapes[0].reduce(1, *) / Swift.max(1, n * n)
        let width = Swift.max(1, context.outputCount / Swift.max(1, count))
        return [
            .lines(
                input: (0..<count * n * n).map { Int32($0 / (n * n)) },
                output: (0..<context.outputCount).map { Int32($0 / width) },
                count: count)
        ]
    }

    /// A decomposition takes n (n² - 1) / 3, solving for the inverse's columns n³ more, a division counted as one.
    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? {
        let n = inputs[0].shape[-1].coefficient
        let matrices = Shape(Array(inputs[0].shape.dimensions.dropLast(2))).count.resolved(batch: batch)
        return Work((n * (n * n - 1) / 3 + (function == .inverse ? n * n * n : 0)) * matrices)
    }

    /// Decomposes in place with partial pivoting (Golub and Van Loan, algorithm 3.4.1): the order of rows.
    public static func decompose(_ a: inout [Double], _ n: Int) -> (order: [Int], sign: Double) {
        var order = Array(0..<n)
        var sign = 1.0
        a.withUnsafeMutableBufferPointer { a in
            for k in 0..<n {
                var pivot = k
                for i in k + 1..<Swift.max(n, k + 1) where a[i * n + k].magnitude > a[pivot * n + k].magnitude {
                    pivot = i
                }
                if pivot != k {
                    for j in 0..<n { a.swapAt(k * n + j, pivot * n + j) }
                    order.swapAt(k, pivot)
                    sign = -sign
                }
                guard a[k * n + k] != 0 else { continue }
                let row = a.baseAddress! + k * n
                for i in k + 1..<Swift.max(n, k + 1) {
                    let target = a.baseAddress! + i * n
                    target[k] /= row[k]
                    let factor = target[k]
                    for j in k + 1..<Swift.max(n, k + 1) { target[j] -= factor * row[j] }
                }
            }
        }
        return (order, sign)
    }

    /// The inverse from a decomposition: all columns of the unit matrix at once, row after row.
    private static func inverse(_ lu: [Double], _ order: [Int], _ n: Int) -> [Double] {
        var x = [Double](repeating: 0, count: n * n)
        for (row, source) in order.enumerated() { x[row * n + source] = 1 }
        x.withUnsafeMutableBufferPointer { x in
            lu.withUnsafeBufferPointer { lu in
                func subtract(_ factor: Double, _ from: Int, _ into: Int) {
                    let (source, target) = (x.baseAddress! + from * n, x.baseAddress! + into * n)
                    for c in 0..<n { target[c] -= factor * source[c] }
                }
                for i in 0..<n { for j in 0..<i { subtract(lu[i * n + j], j, i) } }
                for i in (0..<n).reversed() {
                    for j in i + 1..<Swift.max(n, i + 1) { subtract(lu[i * n + j], j, i) }
                    for c in 0..<n { x[i * n + c] /= lu[i * n + i] }
                }
            }
        }
        return x
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let n = inputs[0].shape.last!
        for m in 0..<inputs[0].elements.count / Swift.max(1, n * n) {
            var a = Array(inputs[0].elements[m * n * n..<(m + 1) * n * n])
            let (order, _) = Self.decompose(&a, n)
            switch function {
            case .lu:
                outputs[0].elements.replaceSubrange(m * n * n..<(m + 1) * n * n, with: a)
                outputs[1].elements.replaceSubrange(m * n..<(m + 1) * n, with: order.map { Double($0) })
            case .logAbsoluteDeterminant:
                outputs[0].elements[m] = (0..<n).reduce(0) { $0 + Math.log(a[$1 * n + $1].magnitude) }
            case .inverse:
                outputs[0].elements.replaceSubrange(m * n * n..<(m + 1) * n * n, with: Self.inverse(a, order, n))
            }
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return [nil] }
        switch function {
        case .inverse:
            let transposed = outputs[0].matrixTransposed()
            return [-transposed.matmul(g).matmul(transposed)]
        case .logAbsoluteDeterminant:
            return [inputs[0].inverse().matrixTransposed() * g.reshaped(Shape(g.shape.dimensions + [1, 1]))]
        case .lu:
            // With a = P L U: da = P L^-T (tril(L^T dL, -1) + triu(dU U^T)) U^-T.
            let lu = outputs[0]
            let n = lu.shape[-1].coefficient
            let (row, column) = (
                Tensor.iota([Extent(n), Extent(n)], axis: 0), Tensor.iota([Extent(n), Extent(n)], axis: 1)
            )
            let below = column.less(row)
            let eye = row.equal(column).cast(to: lu.elementType)
            let lower = Tensor.select(below, lu, 0) + eye
            let upper = Tensor.select(below, 0, lu)
            let middle =
                Tensor.select(below, lower.matrixTransposed().matmul(g), 0)
                + Tensor.select(below, 0, g.matmul(upper.matrixTransposed()))
            let left = lower.triangularSolve(middle, isLower: true, isTransposed: true)
            let inner = upper.triangularSolve(left.matrixTransposed(), isLower: false).matrixTransposed()
            let permutation = outputs[1].oneHot(n).cast(to: lu.elementType)
            return [permutation.matrixTransposed().matmul(inner)]
        }
    }
}

/// `x` with `a x = b` (or `aᵀ x = b`) for triangular a `[.., n, n]`, of which the other triangle is not read, and b `[.., n, m]`.
public struct TriangularSolve: Operation, Hashable {
    public let isLower: Bool
    public let isTransposed: Bool

    public var name: String { "triangularSolve" }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let (a, b) = (inputs[0], inputs[1])
        guard a.shape.rank >= 2, a.shape[-1] == a.shape[-2], a.shape[-1].isStatic, b.shape.rank == a.shape.rank,
            b.shape[-2] == a.shape[-1],
            b.shape[-1].isStatic, a.shape.dimensions.dropLast(2) == b.shape.dimensions.dropLast(2),
            a.element == b.element,
            a.element.isFloatingPoint
        else {
            throw GraphError(
                operation: name, message: "expected [.., n, n] and [.., n, m] of one floating type, found \(a) and \(b)"
            )
        }
        return [b]
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let (n, m) = (context.inputShapes[0].last!, context.inputShapes[1].last!)
        let count = context.inputShapes[1].reduce(1, *) / Swift.max(1, n * m)
        let forwards = isLower != isTransposed
        return [
            .lines(
                input: (0..<count * n * n).map { e in
                    let (i, j) = (e / n % n, e % n)
                    return (isLower ? j <= i : j >= i) ? Int32(e / (n * n)) : -1
                }, output: (0..<count * n * m).map { Int32($0 / (n * m)) }, count: count),
            .rows(outer: count, rows: (0..<n).map { forwards ? [0..<$0 + 1] : [$0..<n] }, inputCount: n, inner: m),
        ]
    }

    /// One triangle with its diagonal, whose divisions count as one each.
    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? {
        let n = inputs[0].shape[-1].coefficient
        let columns = outputs[0].shape.removing(axes: [outputs[0].shape.rank - 2]).count.resolved(batch: batch)
        return Work(dense: n * n, live: n * (n + 1) / 2) * columns
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let (n, m) = (inputs[0].shape.last!, inputs[1].shape.last!)
        let forwards = isLower != isTransposed
        for s in 0..<inputs[1].elements.count / Swift.max(1, n * m) {
            for column in 0..<m {
                for step in 0..<n {
                    let i = forwards ? step : n - 1 - step
                    var x = inputs[1].elements[(s * n + i) * m + column]
                    for j in forwards ? 0..<i : i + 1..<Swift.max(n, i + 1) {
                        let a = inputs[0].elements[s * n * n + (isTransposed ? j * n + i : i * n + j)]
                        x -= a * outputs[0].elements[(s * n + j) * m + column]
                    }
                    outputs[0].elements[(s * n + i) * m + column] = x / inputs[0].elements[s * n * n + i * n + i]
                }
            }
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return [nil, nil] }
        let b = inputs[0].triangularSolve(g, isLower: isLower, isTransposed: !isTransposed)
        let n = inputs[0].shape[-1]
        let full = isTransposed ? -outputs[0].matmul(b.matrixTransposed()) : -b.matmul(outputs[0].matrixTransposed())
        let (row, column) = (Tensor.iota([n, n], axis: 0), Tensor.iota([n, n], axis: 1))
        let live = isLower ? column.lessOrEqual(row) : row.lessOrEqual(column)
        return [.select(live, full, 0), b]
    }
}

extension Tensor {
    /// L and U in one matrix `[.., n, n]`, and the order of rows `[.., n]`, int32: `self[order] = L U`.
    public func lu(file: StaticString = #fileID, line: UInt = #line) -> (packed: Tensor, order: Tensor) {
        let node = Node(MatrixOperation(function: .lu), [self], at: SourceLocation(file, line))
        return (Tensor(node, 0), Tensor(node, 1))
    }

    public func inverse(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        Tensor(MatrixOperation(function: .inverse), [self], at: SourceLocation(file, line))
    }

    /// log|det|, `[.., n, n]` to `[..]`.
    public func logAbsoluteDeterminant(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        Tensor(MatrixOperation(function: .logAbsoluteDeterminant), [self], at: SourceLocation(file, line))
    }

    /// Solves with this triangular matrix.
    public func triangularSolve(
        _ b: Tensor, isLower: Bool, isTransposed: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        Tensor(
            TriangularSolve(isLower: isLower, isTransposed: isTransposed), [self, b], at: SourceLocation(file, line))
    }
}
