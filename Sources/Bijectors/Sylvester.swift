import Graph
import Layers

/// `z = x + Q R tanh(S transposed(Q) x + b)` with orthonormal columns Q `[D, M]` and upper triangular R, S `[M, M]` whose
/// diagonals lie in (-1, 1), which makes it invertible (van den Berg et al. 2018, equation 13 and theorem 2).
/// Vectors `[batch, D]`; with features everything is computed for every example.
public struct Sylvester: Bijector {
    public enum Kind: Hashable, Sendable {
        /// Q from any D x M matrix, M at most D, by `Q <- Q (I + (I - transposed(Q) Q) / 2)`, repeated (section 4.1). Where columns are
        /// so nearly dependent that this has not made them orthonormal, the determinant would not be that of the map: value,
        /// log-determinant and inverse are NaN.
        case orthogonal(columns: Int)
        /// Q a product of reflections, M = D (section 4.2).
        case householder(reflections: Int)
        /// Q the identity or the reversal of the variables, M = D (section 4.3).
        case triangular(reversed: Bool)
    }

    public let kind: Kind
    public let count: Int
    public let columns: Int
    public let basis: ConditionedWeights?
    public let outer: ConditionedWeights
    public let inner: ConditionedWeights
    public let offset: ConditionedWeights

    public init(_ count: Int, _ kind: Kind, features: Int = 0) {
        self.kind = kind
        self.count = count
        switch kind {
        case .orthogonal(let m):
            trap(
                unless: (1...max(count, 1)).contains(m),
                "a Sylvester flow of \(count) variables takes 1 to \(count) orthonormal columns, found \(m)")
            columns = m
            basis = ConditionedWeights(count * m, features: features, .normal(standardDeviation: 1))
        case .householder(let h):
            columns = count
            basis = ConditionedWeights(count * h, features: features, .normal(standardDeviation: 1))
        case .triangular:
            columns = count
            basis = nil
        }
        outer = ConditionedWeights(columns * columns, features: features)
        inner = ConditionedWeights(columns * columns, features: features)
        offset = ConditionedWeights(columns, features: features, .zeros)
    }

    private struct Parts {
        /// From x to its M coordinates, and back.
        var project: (Tensor) -> Tensor
        var lift: (Tensor) -> Tensor
        /// `[batch, M, M]`, zero below the diagonal.
        var r, s: Tensor
        var b: Tensor
        /// 1 + r s of the diagonals, `[batch, M]`, above 0.
        var excess: Tensor
    }

    /// Products of a matrix for each example with a vector for each example.
    private func apply(_ matrix: Tensor, _ v: Tensor) -> Tensor {
        matrix.matmul(v.reshaped([v.shape[0], v.shape[1], 1])).reshaped([v.shape[0], matrix.shape[1]])
    }

    private func parts(_ x: Tensor, _ context: Context) -> Parts {
        let (n, m) = (x.shape[0], Extent(columns))
        let (row, column, eye) = Tensor.square(columns, x.elementType)
        func triangle(_ raw: Tensor) -> Tensor {
            .select(
                row.less(column).broadcast(to: raw.shape), raw,
                .select(row.equal(column).broadcast(to: raw.shape), raw.tanh(), 0))
        }
        let (rawR, rawS) = (outer(x, context).reshaped([n, m, m]), inner(x, context).reshaped([n, m, m]))
        let (r, s, b) = (triangle(rawR), triangle(rawS), offset(x, context))
        let excess = onePlusProduct(diagonal(rawR), diagonal(rawS))
        switch kind {
        case .triangular(let reversed):
            let flip = { (v: Tensor) in reversed ? v.flipped(axes: [1]) : v }
            return Parts(project: flip, lift: flip, r: r, s: s, b: b, excess: excess)
        case .householder(let h):
            let all = basis!(x, context)
            let vectors = (0..<h).map { all.sliced(axis: 1, from: $0 * count, count: count) }
            return Parts(
                project: { vectors.reduce($0) { $0.reflected(by: $1) } },
                lift: { vectors.reversed().reduce($0) { $0.reflected(by: $1) } }, r: r, s: s, b: b, excess: excess)
        case .orthogonal:
            var q = basis!(x, context).reshaped([n, Extent(count), m])
            // The iteration converges when no singular value exceeds sqrt(3); the Frobenius norm bounds them all.
            q = q / q.squared().sum(axes: [1, 2], keepingAxes: true).sqrt()
            for _ in 0..<(x.elementType == .float64 ? 40 : 30) {
                let gram = q.matrixTransposed().matmul(q)
                q = q.matmul((eye * 1.5).broadcast(to: gram.shape) - gram * 0.5)
            }
            // At most what rounding leaves of the columns' products.
            let allowed = FloatLimits(x.elementType).epsilon * Double(64 + count)
            let miss = (q.matrixTransposed().matmul(q) - eye).absolute().max(axes: [1, 2], keepingAxes: true)
            let basis = Tensor.select(
                miss.lessOrEqual(.scalar(allowed, x.elementType)), q, .scalar(.nan, x.elementType))
            return Parts(
                project: { apply(basis.matrixTransposed(), $0) }, lift: { apply(basis, $0) }, r: r, s: s, b: b,
                excess: excess)
        }
    }

    private func diagonal(_ matrix: Tensor) -> Tensor {
        let (_, _, eye) = Tensor.square(columns, matrix.elementType)
        return (matrix * eye.broadcast(to: matrix.shape)).sum(axes: [2])
    }

    /// 1 + tanh(a) tanh(b), of which nothing is lost where the product is near -1: with p = exp(-2 |a|) and q = exp(-2 |b|) and
    /// opposite signs it is 2 (p + q) / ((1 + p) (1 + q)).
    private func onePlusProduct(_ a: Tensor, _ b: Tensor) -> Tensor {
        let product = a.tanh() * b.tanh()
        let (p, q) = ((a.absolute() * -2).exp(), (b.absolute() * -2).exp())
        let least = Tensor.scalar(FloatLimits(a.elementType).least, a.elementType)
        return .select(
            product.less(-0.5), ((p + q) * 2 / ((1 + p) * (1 + q))).maximum(least), 1 + product)
    }

    /// The sum of log(1 + h' r s) with h' = 1 - h h, written so that nothing cancels where r s is near -1.
    private func logDeterminant(_ h: Tensor, _ p: Parts) -> Tensor {
        (h * h + (1 - h * h) * p.excess).log().summedOverEvent()
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let x = x.examples(of: [count], for: "Sylvester")
        let p = parts(x, context)
        let h = (apply(p.s, p.project(x)) + p.b).tanh()
        return Mapped(x + p.lift(apply(p.r, h)), logDeterminant(h, p))
    }

    /// In the coordinates v = transposed(Q) x the map is triangular: from the last coordinate to the first each is the root of
    /// one increasing function.
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let z = z.examples(of: [count], for: "Sylvester")
        let p = parts(z, context)
        let target = p.project(z)
        let n = z.shape[0]
        func element(_ matrix: Tensor, _ i: Int, _ j: Int) -> Tensor {
            matrix.sliced(axis: 1, from: i, count: 1).sliced(axis: 2, from: j, count: 1).reshaped([n, 1])
        }
        var v: [Tensor] = []
        var h: [Tensor] = []
        for i in (0..<columns).reversed() {
            // v and h hold the coordinates behind i, the nearest last.
            var (known, push) = (p.b.sliced(axis: 1, from: i, count: 1), target.sliced(axis: 1, from: i, count: 1))
            for (offset, j) in (i + 1..<max(columns, i + 1)).reversed().enumerated() {
                known = known + element(p.s, i, j) * v[offset]
                push = push - element(p.r, i, j) * h[offset]
            }
            let (r, s) = (element(p.r, i, i), element(p.s, i, i))
            let excess = p.excess.sliced(axis: 1, from: i, count: 1)
            let reach = r.absolute()
            let root = monotoneRoot(push, low: push - reach, high: push + reach) { a in
                let t = (a * s + known).tanh()
                return (a + r * t, t * t + (1 - t * t) * excess)
            }
            v.append(root)
            h.append((root * s + known).tanh())
        }
        let all = Tensor.concatenate(h.reversed(), axis: 1)
        return Mapped(z - p.lift(apply(p.r, all)), -logDeterminant(all, p))
    }

    public var structure: BijectorStructure {
        let name =
            switch kind {
            case .orthogonal(let m): "orthogonal, \(m) columns"
            case .householder(let h): "Householder, \(h) reflections"
            case .triangular(let reversed): "triangular\(reversed ? ", reversed" : "")"
            }
        return BijectorStructure(
            "Sylvester (\(name))", .lowRank,
            determinant:
                "the product of 1 + h' r s over \(columns) coordinates, by Sylvester's identity, as R and S are triangular",
            inverse: "coordinate by coordinate, the root of one increasing function each, by guarded Newton steps")
    }
}
