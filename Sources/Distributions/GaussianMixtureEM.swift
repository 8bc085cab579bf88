import Graph

/// A mixture of normals with full covariances, fitted by expectation and maximisation (Dempster, Laird and Rubin 1977) on the
/// host in double precision: the classic baseline of density estimation.
///
/// Columns are fitted in units of their own standard deviations, a constant one in its own unit, so that the scale of
/// the data does not matter. The square root of the ridge is the least deviation of a component in such units: an
/// outlier that makes up nearly all of a column's variance hides how the other rows differ.
public struct GaussianMixture: Sendable {
    /// In nats; the weights add up to 1. A component that lost all its rows is left out, so there may be fewer than
    /// asked for.
    public private(set) var logWeights: [Double]
    /// `[components][D]`
    public private(set) var means: [[Double]]
    /// Lower Cholesky factors, row-major `[components][D * D]`.
    public private(set) var factors: [[Double]]
    public let dimension: Int
    /// The mean log-likelihood of the data in nats, at the start and after each round; the last is that of these
    /// parameters. It never falls: the round that would make it fall is undone and ends the fit.
    public private(set) var history: [Double] = []

    /// - Parameters:
    ///   - data: `[rows, D]`.
    ///   - components: at least 1, at most `rows`; they start at rows spread evenly over the data.
    ///   - rounds: at most so many; 0 leaves the components where they start.
    ///   - tolerance: a round that gains no more, in nats, is the last.
    ///   - ridge: added to every variance of a component, as a fraction of the variance of its column over all the data
    ///     (a constant column counts as one of variance 1), so that no component collapses onto a point.
    /// - Throws: `GraphError` if the data are not at least `components` finite rows of at least one column, or a
    ///   setting is out of its range; if the ridge is too small to keep a covariance positive definite; if a parameter
    ///   overflows or vanishes in double precision.
    public init(
        fitting data: HostArray, components: Int, rounds: Int = 100, tolerance: Double = 1e-7, ridge: Double = 1e-6
    ) throws(GraphError) {
        let raw = try Self.finiteRows(data, components, rounds, ridge)
        let (rows, d) = (data.shape[0], data.shape[1])
        let columns = (0..<d).map { j in Column((0..<rows).map { raw[$0 * d + j] }) }
        let x = (0..<rows * d).map { columns[$0 % d].standardised(raw[$0]) }

        dimension = d
        logWeights = [Double](repeating: -Math.log(Double(components)), count: components)
        means = (0..<components).map { k in
            let row = k * rows / components
            return Array(x[row * d..<(row + 1) * d])
        }
        let even = [Double](repeating: 1, count: rows)
        let whole = Self.covariance(x, d, Self.mean(x, d, weights: even, Double(rows)), weights: even, ridge)
        let start = try Self.cholesky(whole, d, ridge, of: "all rows")
        factors = [[Double]](repeating: start, count: components)

        var (shares, likelihood) = expectation(x, rows)
        var found = [likelihood]
        for _ in 0..<rounds {
            var next = self
            try next.maximise(x, shares, ridge)
            let after = next.expectation(x, rows)
            guard after.likelihood >= likelihood else { break }
            let gain = after.likelihood - likelihood
            (logWeights, means, factors) = (next.logWeights, next.means, next.factors)
            (shares, likelihood) = after
            found.append(likelihood)
            if gain <= tolerance { break }
        }

        // Densities of the data are those of standardised rows, over the volume of a unit.
        let logVolume: Double = columns.reduce(0) { $0 + Math.log($1.unit) }
        history = found.map { $0 - logVolume }
        for k in means.indices {
            for i in 0..<d {
                means[k][i] = columns[i].restored(means[k][i])
                for j in 0...i { factors[k][i * d + j] *= columns[i].unit }
            }
            let diagonal = (0..<d).map { factors[k][$0 * d + $0] }
            guard (means[k] + factors[k]).allSatisfy(\.isFinite), diagonal.allSatisfy(\.isNormal) else {
                throw Self.error(
                    "expected component \(k) to fit double precision, found the mean \(means[k]) and the Cholesky "
                        + "factor \(factors[k]); scale the data to numbers nearer to 1")
            }
        }
    }

    /// The data's values, where data and settings can be fitted.
    private static func finiteRows(
        _ data: HostArray, _ components: Int, _ rounds: Int, _ ridge: Double
    ) throws(GraphError) -> [Double] {
        guard components >= 1 else { throw Self.error("expected at least 1 component, found \(components)") }
        guard rounds >= 0 else { throw Self.error("expected at least 0 rounds, found \(rounds)") }
        guard ridge >= 0, ridge.isFinite else {
            throw Self.error("expected a finite ridge of at least 0, found \(ridge)")
        }
        guard data.shape.count == 2, data.shape[1] >= 1, data.shape[0] >= components else {
            throw Self.error(
                "expected at least \(components) rows [rows, D] for \(components) components, found \(data.shape)")
        }
        let (raw, d) = (data.doubles, data.shape[1])
        if let bad = raw.firstIndex(where: { !$0.isFinite }) {
            throw Self.error(
                "expected finite rows, found \(raw[bad]) in row \(bad / d), column \(bad % d); leave the row out")
        }
        return raw
    }

    private static func error(_ message: String) -> GraphError {
        GraphError(operation: "GaussianMixture", message: message)
    }

    /// How a column is standardised; no step of it overflows for finite numbers.
    private struct Column {
        /// The standard deviation, 1 for a constant column.
        let unit: Double
        private let low: Double
        private let high: Double
        private let halfRange: Double
        /// Of the place in the range, 0 at its low and 1 at its high end.
        private let mean: Double
        private let deviation: Double

        init(_ x: [Double]) {
            (low, high) = (x.min() ?? 0, x.max() ?? 0)
            halfRange = high / 2 - low / 2
            guard halfRange > 0 else {
                (unit, mean, deviation) = (1, 0, 1)
                return
            }
            let places = x.map { [low, halfRange] in ($0 / 2 - low / 2) / halfRange }
            let mean = places.reduce(0) { $0 + $1 } / Double(x.count)
            let variance = places.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(x.count)
            self.mean = mean
            deviation = variance.squareRoot()
            unit = halfRange * (2 * deviation)
        }

        func standardised(_ x: Double) -> Double {
            halfRange > 0 ? ((x / 2 - low / 2) / halfRange - mean) / deviation : 0
        }

        func restored(_ z: Double) -> Double { low * (1 - mean) + high * mean + unit * z }
    }

    /// The share of each component in each row `[components][rows]`, and the mean log-likelihood.
    private func expectation(_ x: [Double], _ rows: Int) -> (shares: [[Double]], likelihood: Double) {
        var shares = [[Double]](repeating: [Double](repeating: 0, count: rows), count: means.count)
        var total = 0.0
        for row in 0..<rows {
            let logs = joint(x[row * dimension..<(row + 1) * dimension])
            let norm = Self.logSum(logs)
            total += norm
            for k in means.indices { shares[k][row] = Math.exp(logs[k] - norm) }
        }
        return (shares, total / Double(rows))
    }

    /// Weights, means and covariances of the rows that each component has a share in.
    private mutating func maximise(_ x: [Double], _ shares: [[Double]], _ ridge: Double) throws(GraphError) {
        let d = dimension
        // Less than this of a row changes no likelihood that a double can hold, and has no covariance.
        let kept = shares.map { (shares: $0, mass: $0.reduce(0) { $0 + $1 }) }.filter { $0.mass > 1e-12 }
        let total = kept.reduce(0) { $0 + $1.mass }
        logWeights = kept.map { Math.log($0.mass / total) }
        means = kept.map { Self.mean(x, d, weights: $0.shares, $0.mass) }
        factors = []
        for (k, part) in kept.enumerated() {
            factors.append(
                try Self.cholesky(
                    Self.covariance(x, d, means[k], weights: part.shares, ridge), d, ridge, of: "component \(k)"))
        }
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

    /// The lower factor of a covariance of standardised columns whose lower triangle is given.
    private static func cholesky(
        _ a: [Double], _ d: Int, _ ridge: Double, of owner: String
    ) throws(GraphError) -> [Double] {
        var l = [Double](repeating: 0, count: d * d)
        for i in 0..<d {
            for j in 0...i {
                var sum = a[i * d + j]
                for k in 0..<j { sum -= l[i * d + k] * l[j * d + k] }
                guard i == j else {
                    l[i * d + j] = sum / l[j * d + j]
                    continue
                }
                // What rounding leaves where a column is a combination of those before it, or does not vary.
                guard sum > Swift.max(Double(16 * d) * .ulpOfOne * a[i * d + i], 1e-28) else {
                    throw error(
                        "expected a positive definite covariance, found that of \(owner) singular in column \(i), "
                            + "with a ridge of \(ridge); give a larger ridge or fewer components, or leave out columns "
                            + "that are constant or linear in others")
                }
                l[i * d + i] = sum.squareRoot()
            }
        }
        return l
    }

    private static func logSum(_ terms: [Double]) -> Double {
        let top = terms.max() ?? -.infinity
        return top == -.infinity ? top : top + Math.log(terms.reduce(0) { $0 + Math.exp($1 - top) })
    }

    /// log of weight times density for every component; minus infinity where a row is too far for double precision.
    private func joint(_ x: ArraySlice<Double>) -> [Double] {
        means.indices.map { k in
            var z = [Double](repeating: 0, count: dimension)
            var sum = logWeights[k]
            for i in 0..<dimension {
                var value = x[x.startIndex + i] - means[k][i]
                for j in 0..<i { value -= factors[k][i * dimension + j] * z[j] }
                z[i] = value / factors[k][i * dimension + i]
                guard z[i].isFinite else { return -.infinity }
                sum -= 0.5 * z[i] * z[i] + Math.log(factors[k][i * dimension + i]) + halfLogTwoPi
            }
            return sum
        }
    }

    /// log p of every row of `[rows, D]`, in nats; NaN for a row that holds one.
    /// - Throws: `GraphError` if the rows are not of the width of those that were fitted.
    public func logProbability(_ data: HostArray) throws(GraphError) -> [Double] {
        guard data.shape.count == 2, data.shape[1] == dimension else {
            throw Self.error("expected rows of the fitted width, [rows, \(dimension)], found \(data.shape)")
        }
        let x = data.doubles
        return (0..<data.shape[0]).map { row in
            let values = x[row * dimension..<(row + 1) * dimension]
            return values.contains(where: \.isNaN) ? .nan : Self.logSum(joint(values))
        }
    }
}
