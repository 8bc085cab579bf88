import Graph
import Likelihood

/// x_t = c + A₁ x_{t-1} + .. + A_p x_{t-p} + e_t with e_t normal of mean zero and covariance Σ, in double precision on the host: a linear
/// autoregression AR(p) of one variable or several (Hamilton 1994, chapters 5 and 11).
public struct VectorAutoregression: Sendable {
    /// c, `[variables]`.
    public var intercept: [Double]
    /// A₁ .. A_p, `[lags][variables][variables]`, the newest lag first.
    public var coefficients: [[[Double]]]
    /// Σ, `[variables][variables]`.
    public var covariance: [[Double]]

    public init(intercept: [Double], coefficients: [[[Double]]], covariance: [[Double]]) {
        (self.intercept, self.coefficients, self.covariance) = (intercept, coefficients, covariance)
    }

    /// p.
    public var lags: Int { coefficients.count }
    public var variables: Int { intercept.count }

    /// What is known of a step that is yet to come.
    public struct Forecast: Sendable {
        /// Of each variable.
        public var mean: [Double]
        /// Standard deviation of each variable's error, that of the coefficients not counted.
        public var deviation: [Double]

        /// The interval around the mean that holds a share of the probability.
        /// - Parameter deviations: 1.96 for 95 %.
        public func interval(deviations: Double = 1.959963984540054) -> [ClosedRange<Double>] {
            zip(mean, deviation).map { $0 - deviations * $1...$0 + deviations * $1 }
        }
    }

    /// The mean of the step after `past`, the last of which is the newest.
    func next(_ past: [[Double]]) -> [Double] {
        var result = intercept
        for (lag, a) in coefficients.enumerated() {
            let x = past[past.count - 1 - lag]
            for i in result.indices { result[i] += dot(a[i], x) }
        }
        return result
    }

    /// Forecasts one step ahead, two, and so on. The error of the step h ahead has the covariance Σ_{i<h} Ψ_i Σ Ψ_iᵀ, where
    /// Ψ₀ = 1 and Ψ_i = Σ_j A_j Ψ_{i-j} (Hamilton 1994, equation 11.5.1).
    /// - Parameter history: `[steps][variables]`, as many steps as there are lags or more.
    /// - Throws: `UsageError` for a history that is too short, or of other variables.
    public func forecast(after history: [[Double]], steps: Int) throws -> [Forecast] {
        try require(
            history.count >= lags && history.allSatisfy { $0.count == variables },
            "forecast: expected a history of \(lags) steps or more of \(variables) variables, found \(history.count)")
        try require(steps, "steps", in: 1...1 << 20)
        var past = Array(history.suffix(max(lags, 1)))
        var weights: [[[Double]]] = []
        var variance = [Double](repeating: 0, count: variables)
        return (0..<steps).map { step in
            let mean = next(past)
            past.append(mean)
            if past.count > lags { past.removeFirst() }
            var weight = step == 0 ? identity(variables) : zeros(variables)
            for lag in 0..<min(lags, step) { weight = sum(weight, product(coefficients[lag], weights[step - 1 - lag])) }
            weights.append(weight)
            let error = product(product(weight, covariance), transposed(weight))
            for i in 0..<variables { variance[i] += error[i][i] }
            return Forecast(mean: mean, deviation: variance.map { $0.squareRoot() })
        }
    }

    /// Mean and covariance of p neighbouring steps, the earliest first, where the process has neither beginning nor trend; `nil` where
    /// it has no such distribution. The covariance of the stacked steps solves S = F S Fᵀ + Q (Hamilton 1994, equation 10.2.14), here by
    /// doubling.
    func stationary() -> (mean: [Double], covariance: [[Double]])? {
        let (k, size) = (variables, variables * lags)
        guard size > 0 else { return ([], []) }
        var f = zeros(size)
        var s = zeros(size)
        for i in 0..<k {
            for (lag, a) in coefficients.enumerated() { for j in 0..<k { f[i][lag * k + j] = a[i][j] } }
            for j in 0..<k { s[i][j] = covariance[i][j] }
        }
        for i in k..<max(size, k) { f[i][i - k] = 1 }
        var rest = identity(k)
        for a in coefficients { rest = sum(rest, a, scale: -1) }
        guard let mean = solve(rest, intercept) else { return nil }
        // 2^40 steps back; an explosive process overflows long before.
        for _ in 0..<40 {
            let more = product(product(f, s), transposed(f))
            s = sum(s, more)
            f = product(f, f)
            guard s.joined().allSatisfy({ abs($0) < 1e12 * (1 + abs(covariance[0][0])) }) else { return nil }
            if f.joined().allSatisfy({ abs($0) < 1e-20 }) { break }
        }
        guard f.joined().allSatisfy({ abs($0) < 1e-6 }) else { return nil }
        func place(_ i: Int) -> Int { (lags - 1 - i / k) * k + i % k }
        return (
            (0..<size).map { mean[$0 % k] }, (0..<size).map { i in (0..<size).map { s[place(i)][place($0)] } }
        )
    }
}

/// A joint normal as one regression of each variable on those before it: x_i = intercept_i + Σ_{j<i} weights_ij x_j + e_i.
struct TriangularRegression {
    /// Zero from the diagonal on.
    var weights: [[Double]]
    var deviations: [Double]

    /// - Parameter covariance: `nil` is the result where it is not positive definite.
    init?(_ covariance: [[Double]]) {
        guard let l = choleskyFactor(covariance) else { return nil }
        let n = l.count
        deviations = (0..<n).map { l[$0][$0] }
        weights = zeros(n)
        // Row i solves w L_{<i} = L_i, from the last on.
        for i in 0..<n {
            for j in stride(from: i - 1, through: 0, by: -1) {
                var value = l[i][j]
                for m in j + 1..<max(i, j + 1) { value -= weights[i][m] * l[m][j] }
                weights[i][j] = value / l[j][j]
            }
        }
    }
}

// MARK: small matrices

func dot(_ a: [Double], _ b: [Double]) -> Double { zip(a, b).reduce(0) { $0 + $1.0 * $1.1 } }
func zeros(_ n: Int) -> [[Double]] { [[Double]](repeating: [Double](repeating: 0, count: n), count: n) }
func identity(_ n: Int) -> [[Double]] { (0..<n).map { i in (0..<n).map { $0 == i ? 1 : 0 } } }
func transposed(_ a: [[Double]]) -> [[Double]] { a.isEmpty ? [] : a[0].indices.map { j in a.map { $0[j] } } }

func product(_ a: [[Double]], _ b: [[Double]]) -> [[Double]] {
    let columns = transposed(b)
    return a.map { row in columns.map { dot(row, $0) } }
}

func sum(_ a: [[Double]], _ b: [[Double]], scale: Double = 1) -> [[Double]] {
    zip(a, b).map { zip($0, $1).map { $0 + scale * $1 } }
}

/// The lower factor of a positive definite matrix; `nil` of any other.
func choleskyFactor(_ a: [[Double]]) -> [[Double]]? {
    var l = zeros(a.count)
    for i in a.indices {
        for j in 0...i {
            let rest = a[i][j] - (0..<j).reduce(0) { $0 + l[i][$1] * l[j][$1] }
            if i > j {
                l[i][j] = rest / l[j][j]
            } else {
                guard rest > 1e-14 * a[i][i] else { return nil }
                l[i][i] = rest.squareRoot()
            }
        }
    }
    return l
}

/// x of a x = b by elimination with pivots; `nil` where a has no inverse.
func solve(_ a: [[Double]], _ b: [Double]) -> [Double]? {
    var (a, x) = (a, b)
    for i in x.indices {
        guard let pivot = (i..<x.count).max(by: { abs(a[$0][i]) < abs(a[$1][i]) }), abs(a[pivot][i]) > 1e-300 else {
            return nil
        }
        a.swapAt(i, pivot)
        x.swapAt(i, pivot)
        for j in i + 1..<max(x.count, i + 1) {
            let share = a[j][i] / a[i][i]
            for k in i..<x.count { a[j][k] -= share * a[i][k] }
            x[j] -= share * x[i]
        }
    }
    for i in x.indices.reversed() {
        for k in i + 1..<max(x.count, i + 1) { x[i] -= a[i][k] * x[k] }
        x[i] /= a[i][i]
    }
    return x.allSatisfy(\.isFinite) ? x : nil
}
