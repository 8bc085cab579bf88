import Graph
import Layers

/// A matrix applied to axis 1 of every example, at every position of the axes behind it: an invertible 1x1 convolution
/// (Kingma and Dhariwal 2018, section 3.2), or a linear map of vectors.
public protocol LinearBijector: Bijector {
    /// Rows and columns.
    var count: Int { get }
    /// `[count, count]`.
    var matrix: Tensor { get }
    /// `[count, count]`.
    var inverseMatrix: Tensor { get }
    /// A scalar.
    var logDeterminant: Tensor { get }
}

extension LinearBijector {
    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        Mapped(apply(matrix, to: x), (logDeterminant * positions(x)).perExample(of: x))
    }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        Mapped(apply(inverseMatrix, to: z), (-logDeterminant * positions(z)).perExample(of: z))
    }

    private func positions(_ x: Tensor) -> Double {
        Double(x.shape.dimensions.dropFirst(2).reduce(1) { $0 * $1.coefficient })
    }

    private func apply(_ matrix: Tensor, to x: Tensor) -> Tensor {
        if x.shape.rank == 2 { return x.matmul(matrix.matrixTransposed()) }
        let flat = x.reshaped([x.shape[0], x.shape[1], Extent(Int(positions(x)))])
        return matrix.reshaped([1, Extent(count), Extent(count)]).matmul(flat).reshaped(x.shape)
    }
}

/// Any invertible matrix, a random rotation at the start. Determinant and inverse come from an LU decomposition with partial
/// pivoting, in double precision.
public struct DenseLinear: LinearBijector {
    public let count: Int
    public let weight: Parameter

    public init(_ count: Int) {
        self.count = count
        weight = Parameter([count, count], .rotation(count))
    }

    public var matrix: Tensor { weight.tensor }
    public var inverseMatrix: Tensor { weight.tensor.inverse() }
    public var logDeterminant: Tensor { weight.tensor.logAbsoluteDeterminant() }

    public var structure: BijectorStructure {
        BijectorStructure(
            "dense linear, \(count) x \(count)", .dense,
            determinant: "log|det W| by LU, once for all positions, as nothing is known of W",
            inverse: "the inverse matrix by LU, applied in one product")
    }
}

/// `W = P L (U + diag(s))` with a fixed permutation P, ones on L's diagonal, and s = sign exp(log|s|) with fixed signs (Kingma and
/// Dhariwal 2018, equation 10): the determinant is a sum.
public struct PLULinear: LinearBijector {
    public let count: Int
    public let lower: Parameter
    public let upper: Parameter
    public let logDiagonal: Parameter
    public let permutation: [Int]
    /// +1 or -1 for each number of the diagonal.
    public let signs: [Int]

    /// - Parameters:
    ///   - permutation: row i of L U becomes row `permutation[i]` of W; reversed if not given.
    ///   - signs: of the diagonal, which training does not change; all +1 if not given. A matrix with a negative pivot, as rotations by
    ///     more than a quarter turn have them, needs the signs of its pivots.
    public init(_ count: Int, permutation: [Int]? = nil, signs: [Int]? = nil) {
        self.count = count
        self.permutation = permutation ?? Array((0..<count).reversed())
        self.signs = signs ?? [Int](repeating: 1, count: count)
        trap(
            unless:
                self.permutation.sorted() == Array(0..<count), "\(self.permutation) is no permutation of \(count) rows")
        trap(
            unless:
                self.signs.count == count && self.signs.allSatisfy { abs($0) == 1 },
            "the diagonal has \(count) signs, each 1 or -1, found \(self.signs)")
        lower = Parameter([count, count], .normal(standardDeviation: 0.1 / Float(count)))
        upper = Parameter([count, count], .normal(standardDeviation: 0.1 / Float(count)))
        logDiagonal = Parameter([count], .zeros)
    }

    private var parts: (lower: Tensor, upper: Tensor, permutation: Tensor) {
        let (row, column, eye) = Tensor.square(count, lower.element)
        let l = Tensor.select(column.less(row), lower.tensor, 0) + eye
        var diagonal = logDiagonal.tensor.exp()
        if signs.contains(-1) {
            let signs = Values(shape: [count], elements: signs.map { Double($0) })
            diagonal = diagonal * .constant(HostArray(signs, as: lower.element))
        }
        let u = Tensor.select(row.less(column), upper.tensor, 0) + eye * diagonal
        var bits = [Double](repeating: 0, count: count * count)
        for (from, to) in permutation.enumerated() { bits[to * count + from] = 1 }
        return (l, u, .constant(HostArray(Values(shape: [count, count], elements: bits), as: lower.element)))
    }

    public var matrix: Tensor {
        let (l, u, p) = parts
        return p.matmul(l.matmul(u))
    }

    public var inverseMatrix: Tensor {
        let (l, u, p) = parts
        return u.triangularSolve(l.triangularSolve(p.matrixTransposed(), isLower: true), isLower: false)
    }

    public var logDeterminant: Tensor { logDiagonal.tensor.sum() }

    public var structure: BijectorStructure {
        BijectorStructure(
            "PLU linear, \(count) x \(count)", .dense,
            determinant: "the sum of log|s|, as the factors are triangular", inverse: "two triangular solves")
    }
}

/// A lower triangular matrix with a positive diagonal.
public struct TriangularLinear: LinearBijector {
    public let count: Int
    public let lower: Parameter
    public let logDiagonal: Parameter

    public init(_ count: Int) {
        self.count = count
        lower = Parameter([count, count], .normal(standardDeviation: 0.1 / Float(count)))
        logDiagonal = Parameter([count], .zeros)
    }

    public var matrix: Tensor {
        let (row, column, eye) = Tensor.square(count, lower.element)
        return Tensor.select(column.less(row), lower.tensor, 0) + eye * logDiagonal.tensor.exp()
    }

    public var inverseMatrix: Tensor {
        matrix.triangularSolve(Tensor.square(count, lower.element).eye, isLower: true)
    }

    public var logDeterminant: Tensor { logDiagonal.tensor.sum() }

    public var structure: BijectorStructure {
        BijectorStructure(
            "triangular linear, \(count) x \(count)", .triangular,
            determinant: "the sum of the diagonal's logarithms", inverse: "a triangular solve")
    }
}

/// A rotation `(I - A)(I + A)^-1` with `A = B - B transposed` (Cayley's map).
public struct OrthogonalLinear: LinearBijector {
    public let count: Int
    public let generator: Parameter

    public init(_ count: Int) {
        self.count = count
        generator = Parameter([count, count], .normal(standardDeviation: 0.5 / Float(count).squareRoot()))
    }

    public var matrix: Tensor {
        let eye = Tensor.square(count, generator.element).eye
        let skew = generator.tensor - generator.tensor.matrixTransposed()
        return (eye - skew).matmul((eye + skew).inverse())
    }

    public var inverseMatrix: Tensor { matrix.matrixTransposed() }
    public var logDeterminant: Tensor { .scalar(0, generator.element) }

    public var structure: BijectorStructure {
        BijectorStructure(
            "orthogonal linear, \(count) x \(count)", .orthogonal, determinant: "1, as rotations keep volumes",
            inverse: "the transpose")
    }
}

extension Tensor {
    /// Row and column numbers and the unit matrix, `[n, n]`.
    static func square(_ n: Int, _ element: ElementType) -> (row: Tensor, column: Tensor, eye: Tensor) {
        let shape = Shape([n, n])
        let (row, column) = (Tensor.iota(shape, axis: 0), Tensor.iota(shape, axis: 1))
        return (row, column, row.equal(column).cast(to: element))
    }
}

extension Tensor {
    /// `x - 2 v (v . x) / (v . v)` of vectors `[batch, n]`. A v that is zero, or so short that its square loses digits (below about
    /// 3e-16 in float32), reflects nothing: that keeps volumes too, and is its own inverse.
    func reflected(by v: Tensor) -> Tensor {
        let limits = FloatLimits(v.elementType)
        let square = v.squared().sum(axes: [1], keepingAxes: true)
        let hasDirection = square.greater(.scalar(limits.least / limits.epsilon, v.elementType))
        let norm = Tensor.select(hasDirection, square, .scalar(.infinity, v.elementType))
        return self - v * ((self * v).sum(axes: [1], keepingAxes: true) * 2 / norm)
    }
}

/// Reflections `x - 2 v (v . x) / (v . v)` of vectors, one after the other; a vector of zeros reflects nothing. With features the
/// first vector is computed from it and each next one from the one before (Tomczak and Welling 2016, section 3.2): the
/// Householder flow.
public struct Householder: Bijector {
    public let vectors: [ConditionedWeights]
    public let links: [Dense]
    public let count: Int

    public init(_ count: Int, reflections: Int, features: Int = 0) {
        trap(
            unless:
                reflections >= (features > 0 ? 1 : 0),
            "a Householder flow has at least \(features > 0 ? "one reflection that its features give" : "no") reflections, found \(reflections)"
        )
        self.count = count
        vectors = (0..<(features > 0 ? 1 : reflections)).map { _ in
            ConditionedWeights(count, features: features, .normal(standardDeviation: 1))
        }
        links = features > 0 ? (1..<max(reflections, 1)).map { _ in Dense(count, count) } : []
    }

    private func all(_ x: Tensor, _ context: Context) -> [Tensor] {
        guard !links.isEmpty else { return vectors.map { $0(x, context) } }
        return links.reduce(into: [vectors[0](x, context)]) { $0.append($1($0.last!)) }
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let x = x.examples(of: [count], for: "Householder")
        return Mapped(all(x, context).reduce(x) { $0.reflected(by: $1) }, x.zeroPerExample())
    }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let z = z.examples(of: [count], for: "Householder")
        return Mapped(all(z, context).reversed().reduce(z) { $0.reflected(by: $1) }, z.zeroPerExample())
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "Householder, \(vectors.count + links.count) reflections", .orthogonal,
            determinant: "1 in absolute value, as reflections keep volumes",
            inverse: "the same reflections in the opposite order")
    }
}

/// Numbers that are trained, or computed from features for every example (amortized).
public struct ConditionedWeights: Module {
    public let free: Parameter?
    public let computed: Dense?
    public let count: Int

    public init(_ count: Int, features: Int = 0, _ initializer: Initializer = .normal(standardDeviation: 0.1)) {
        self.count = count
        free = features > 0 ? nil : Parameter([count], initializer)
        computed = features > 0 ? Dense(features, count) : nil
    }

    /// `[batch, count]`.
    public func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        let shape = Shape([x.shape[0], Extent(count)])
        if let computed { return computed(context.features(beside: x, shape: [computed.weight.shape[1]])) }
        return (free?.tensor ?? .scalar(0, x.elementType)).broadcast(to: shape)
    }
}
