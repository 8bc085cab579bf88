import Graph

/// A mixture of normals with full covariances, fitted by expectation and maximisation (Dempster, Laird and Rubin 1977) on the
/// host in double precision: the classic baseline of density estimation.
public struct GaussianMixture: Sendable {
    public private(set) var logWeights: [Double]
    /// `[components][D]`
    public private(set) var means: [[Double]]
    /// Lower Cholesky factors, row-major `[components][D * D]`.
    public private(set) var factors: [[Double]]
    public let dimension: Int
    /// The mean log-likelihood of the data after each round, in nats; it never falls.
    public private(set) var history: [Double] = []

    /// - Parameters:
    ///   - data: `[rows, D]`.
    ///   - components: at most `rows`; they start at rows spread evenly over the data.
    ///   - ridge: added to every variance, so that no component collapses onto a point.
    /// - Throws: `GraphError` if there are fewer rows than components, or a row is not finite.
    public init(
        fitting data: HostArray, components: Int, rounds: Int = 100, tolerance: Double = 1e-7, ridge: Double = 1e-6
    ) throws(GraphError) {
        guard data.shape.count == 2, components >= 1, data.shape[0] >= components,
            data.doubles.allSatisfy(\.isFinite)
        else {
            throw GraphError(
                operation: "GaussianMixture",
                message: "expected at least \(components) finite rows [rows, D], found \(data.shape)")
        }
        let (rows, d) = (data.shape[0], data.shape[1])
        let x = data.doubles
        dimension = d
        logWeights = [Double](repeating: -Math.log(Double(components)), count: components)
        means = (0..<components).map { k in
            let row = k * rows / components
            return Array(x[row * d..<(row + 1) * d])
        }
        let even = [Double](repeating: 1, count: rows)
        let whole = Self.covariance(x, d, Self.mean(x, d, weights: even, Double(rows)), weights: even, ridge)
        factors = [[Double]](repeating: Self.cholesky(whole, d), count: components)
        for _ in 0..<rounds {
            let before = history.last
            let mean = round(x, rows, ridge)
            history.append(mean)
            if let before, mean - before < tolerance { break }
        }
    }

    /// One round: responsibilities, then weights, means and covariances.
    private mutating func round(_ x: [Double], _ rows: Int, _ ridge: Double) -> Double {
        let d = dimension
        var weights = [[Double]](repeating: [Double](repeating: 0, count: rows), count: means.count)
        var total = 0.0
        for row in 0..<rows {
            let logs = joint(Array(x[row * d..<(row + 1) * d]))
            let norm = Self.logSum(logs)
            total += norm
            for k in means.indices { weights[k][row] = Math.exp(logs[k] - norm) }
        }
        for k in means.indices {
            let mass = weights[k].reduce(0) { $0 + $1 }
            guard mass > 1e-12 else { continue }
            logWeights[k] = Math.log(mass / Double(rows))
            means[k] = Self.mean(x, d, weights: weights[k], mass)
            factors[k] = Self.cholesky(Self.covariance(x, d, means[k], weights: weights[k], ridge), d)
        }
        return total / Double(rows)
    }

    private static func mean(_ x: [Double], _ d: Int, weights: [Double], _ mass: Double) -> [Double] {
        var sum = [Double](repeating: 0, count: d)
        for (row, weight) in weights.enumerated() { for j in 0..<d { sum[j] += weight * x[row * d + j] } }
        return sum.map { $0 / mass }
    }

    private static func covariance(
        _ x: [Double], _ d: Int, _ mean: [Double], weights: [Double], _ ridge: Double
    ) -> [Double] {
        var result = [Double](repeating: 0, count: d * d)
        for (row, weight) in weights.enumerated() where weight > 0 {
            let centred = (0..<d).map { x[row * d + $0] - mean[$0] }
            for i in 0..<d { for j in 0...i { result[i * d + j] += weight * centred[i] * centred[j] } }
        }
        let mass = weights.reduce(0) { $0 + $1 }
        for i in 0..<d { for j in 0...i { result[i * d + j] /= mass } }
        for i in 0..<d { result[i * d + i] += ridge }
        return result
    }

    /// The lower factor of a matrix whose lower triangle is given.
    private static func cholesky(_ a: [Double], _ d: Int) -> [Double] {
        var l = [Double](repeating: 0, count: d * d)
        for i in 0..<d {
            for j in 0...i {
                var sum = a[i * d + j]
                for k in 0..<j { sum -= l[i * d + k] * l[j * d + k] }
                // Rounding may leave a tiny negative pivot of a nearly singular matrix.
                l[i * d + j] = i == j ? Swift.max(sum, 1e-300).squareRoot() : sum / l[j * d + j]
            }
        }
        return l
    }

    private static func logSum(_ terms: [Double]) -> Double {
        let top = terms.max() ?? -.infinity
        return top + Math.log(terms.reduce(0) { $0 + Math.exp($1 - top) })
    }

    /// log of weight times density for every component.
    private func joint(_ x: [Double]) -> [Double] {
        means.indices.map { k in
            var z = [Double](repeating: 0, count: dimension)
            var sum = logWeights[k]
            for i in 0..<dimension {
                var value = x[i] - means[k][i]
                for j in 0..<i { value -= factors[k][i * dimension + j] * z[j] }
                z[i] = value / factors[k][i * dimension + i]
                sum -= 0.5 * z[i] * z[i] + Math.log(factors[k][i * dimension + i]) + halfLogTwoPi
            }
            return sum
        }
    }

    /// log p of every row `[rows, D]`, in nats.
    public func logProbability(_ data: HostArray) -> [Double] {
        let x = data.doubles
        return (0..<data.shape[0]).map { row in
            Self.logSum(joint(Array(x[row * dimension..<(row + 1) * dimension])))
        }
    }
}
