import Graph
import Likelihood

/// A linear autoregression fitted to series by least squares. That is its greatest likelihood given the first values of each series,
/// which are conditioned on and not modelled (Hamilton 1994, section 5.3): coefficients, figures and forecasts are those of
/// statsmodels' `AutoReg` with a constant, of several variables those of its `VAR`.
///
///     let fit = try AutoregressionFit([series], choosing: .aic, upTo: 12)
///     print(fit.lags, fit.model.coefficients, try fit.model.forecast(after: series, steps: 10))
public struct AutoregressionFit: Sendable {
    /// Σ is the mean of the squared errors; nothing is taken off for the coefficients.
    public let model: VectorAutoregression
    /// n, the steps whose errors were squared.
    public let count: Int
    /// The greatest log-likelihood of these steps given those before them, in nats.
    public let logLikelihood: Double

    /// What an order is chosen by.
    public enum Criterion: String, ChoiceSetting {
        /// -2 log L + 2 k (Akaike 1974), k being the free numbers: intercepts, coefficients and the entries of Σ.
        case aic
        /// -2 log L + k log n (Schwarz 1978).
        case bic
    }

    public var lags: Int { model.lags }

    private var freeNumbers: Double {
        let k = model.variables
        return Double(k + k * k * lags + k * (k + 1) / 2)
    }

    public var aic: Double { -2 * logLikelihood + 2 * freeNumbers }
    public var bic: Double { -2 * logLikelihood + freeNumbers * Math.log(Double(count)) }

    public func value(of criterion: Criterion) -> Double { criterion == .aic ? aic : bic }

    /// - Parameters:
    ///   - series: each `[steps][variables]`.
    ///   - lags: p, 0 for a mean alone.
    ///   - hold: values at the start of each series that are conditioned on, p or more; p if not given.
    /// - Throws: `UsageError` where the series are too short, of different width, not finite, or so dependent that the coefficients are
    ///   not determined.
    public init(_ series: [[[Double]]], lags: Int, hold: Int? = nil) throws {
        let hold = hold ?? lags
        try require(lags, "lags", in: 0...4096)
        try require(hold >= lags, "hold: expected \(lags) or more, as many as there are lags, found \(hold)")
        let k = series.first?.first?.count ?? 0
        try require(
            k > 0 && series.allSatisfy { $0.allSatisfy { $0.count == k && $0.allSatisfy(\.isFinite) } },
            "autoregression: expected series of finite numbers, of one variable or more, the same count in each step")
        var (rows, targets): ([[Double]], [[Double]]) = ([], [])
        for one in series where one.count > hold {
            for t in hold..<one.count {
                rows.append([1] + (1...max(lags, 1)).prefix(lags).flatMap { one[t - $0] })
                targets.append(one[t])
            }
        }
        let unknowns = 1 + lags * k
        try require(
            rows.count > unknowns,
            "autoregression: \(unknowns) unknowns for each variable want more steps than that behind the first \(hold) of each series, found \(rows.count)"
        )
        guard let found = leastSquares(rows, targets) else {
            throw UsageError(
                "autoregression: the lags are linear combinations of one another, as those of a constant series are; take fewer lags, or leave the variable out"
            )
        }
        let errors = zip(rows, targets).map { row, target in
            target.indices.map { target[$0] - dot(found[$0], row) }
        }
        var covariance = zeros(k)
        for error in errors {
            for i in 0..<k { for j in 0..<k { covariance[i][j] += error[i] * error[j] / Double(errors.count) } }
        }
        guard let factor = choleskyFactor(covariance) else {
            throw UsageError(
                "autoregression: the errors have no density, as the series follow their past exactly, or one another; add noise, or leave a variable out"
            )
        }
        count = rows.count
        let logDeterminant = factor.indices.reduce(0.0) { $0 + 2 * Math.log(factor[$1][$1]) }
        logLikelihood = -0.5 * Double(count) * (Double(k) * (1 + Math.log(2 * Double.pi)) + logDeterminant)
        model = VectorAutoregression(
            intercept: found.map { $0[0] },
            coefficients: (0..<lags).map { lag in
                found.map { Array($0[1 + lag * k..<1 + (lag + 1) * k]) }
            }, covariance: covariance)
    }

    /// The fit of the order, from 0 to `most`, whose criterion is least; each order is fitted to the same steps, those behind the first
    /// `most` of each series.
    public init(_ series: [[[Double]]], choosing criterion: Criterion, upTo most: Int) throws {
        try require(most, "lags", in: 0...4096)
        let fits = try (0...most).map { try AutoregressionFit(series, lags: $0, hold: most) }
        self = fits.min { $0.value(of: criterion) < $1.value(of: criterion) } ?? fits[0]
    }
}

/// For each column b of the targets the x that minimises |a x - b|², by Householder's reflections (Golub and Van Loan 2013, algorithm
/// 5.2.1); `nil` where columns of a depend on one another.
private func leastSquares(_ a: [[Double]], _ targets: [[Double]]) -> [[Double]]? {
    let (m, n, k) = (a.count, a[0].count, targets[0].count)
    // Columns of a, then of the targets.
    var columns = transposed(zip(a, targets).map { $0 + $1 })
    for j in 0..<n {
        let norm = (j..<m).reduce(0) { $0 + columns[j][$1] * columns[j][$1] }.squareRoot()
        let whole = dot(columns[j], columns[j]).squareRoot()
        guard norm > 1e-11 * whole, norm > 0 else { return nil }
        let head = columns[j][j] + (columns[j][j] < 0 ? -norm : norm)
        var v = [Double](repeating: 0, count: m)
        v[j] = head
        for i in j + 1..<m { v[i] = columns[j][i] }
        let square = (j..<m).reduce(0) { $0 + v[$1] * v[$1] }
        for c in j..<n + k {
            let share = 2 * (j..<m).reduce(0) { $0 + v[$1] * columns[c][$1] } / square
            for i in j..<m { columns[c][i] -= share * v[i] }
        }
    }
    return (0..<k).map { target in
        var x = [Double](repeating: 0, count: n)
        for i in (0..<n).reversed() {
            var value = columns[n + target][i]
            for j in i + 1..<max(n, i + 1) { value -= columns[j][i] * x[j] }
            x[i] = value / columns[i][i]
        }
        return x
    }
}
