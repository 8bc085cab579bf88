import Distributions
import Graph
import Layers
import Likelihood

/// Linear autoregression (Yule 1927): every step of a series of real numbers is normal, and its mean a linear function of the p steps
/// before it, the same function at every step.
///
/// A causal filter whose last tap, where a step has several variables, reads those that come before in the step itself: x_tj for
/// j < k. So the covariance of a step's errors is a mask, and the variables one after another have the joint density. The first p
/// steps have a joint normal of their own, one row of regressions after another; fitted directly it is that of a series without
/// beginning, where the coefficients allow one, and the likelihood of a whole series is then exact.
public struct LinearAutoregression: AutoregressiveModel, ConfiguredModel, DirectlyFittedModel, ReportingModel {
    public let examples: ExampleShape
    public let conditional: any Conditional = NormalConditional()
    /// Weight `[variables, variables, lags + 1]`, the last tap of which is the step itself, and the intercepts.
    public let filter: ConvolutionLayer
    /// The logarithm of each variable's deviation, given the past and the variables before it, `[variables]`.
    public let logDeviation: Parameter
    /// The first steps, each variable on all before it; nothing without lags.
    public let start: Start?
    let settings: Settings

    /// The distribution of the steps that have fewer before them than there are lags.
    public struct Start: Module {
        public let regression: MaskedDense
        public let logDeviation: Parameter
        private let degrees: LayerDegrees

        public func name(ofProperty property: String) -> String { property == "regression" ? "" : property }

        /// - Parameter count: variables of all these steps.
        init(_ count: Int) {
            let places = (0..<Int32(count)).map { $0 }
            degrees = .constant(input: places, output: places, strict: true)
            regression = MaskedDense(count, count, mask: degrees.mask, initializer: .zeros)
            logDeviation = Parameter([count], .zeros)
        }

        func means(_ x: Tensor) -> Tensor { regression(x, degrees) }
    }

    /// The choices of a linear autoregression.
    public struct Settings: ModelSettings {
        /// p; where an order is chosen, the largest, and the filter's other taps are zero.
        public var lags = 12
        /// aic or bic, by which the order is chosen; all takes every lag.
        public var order = "aic"
        /// leastSquares, on the host at once, or gradients, by the optimizer.
        public var fit = Fit.leastSquares

        public enum Fit: String, ChoiceSetting { case leastSquares, gradients }

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(
                examples.dimensions.count == 1 || examples.dimensions.count == 2,
                "this model wants series [steps] or [steps, variables]; the data are \(examples.dimensions)")
            try require(
                Conditions(of: examples).vectorCount == 0,
                "a linear autoregression is not conditioned on classes or features; take maf")
            try require(lags, "lags", in: 0...4096)
            try require(
                lags < examples.dimensions[0],
                "lags: expected fewer than the \(examples.dimensions[0]) steps of a series, found \(lags)")
            _ = try criterion()
        }

        /// What chooses the order; `nil` takes all lags.
        func criterion() throws -> AutoregressionFit.Criterion? {
            if order == "all" { return nil }
            guard let criterion = AutoregressionFit.Criterion(rawValue: order) else {
                throw UsageError("order: expected aic, bic or all, found “\(order)”")
            }
            return criterion
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            try data.requireNoGaps(for: "ar")
            let isNumeric =
                switch data.values {
                case .real: true
                case .binary: false
                case .levels(let levels): levels > 32
                case .table(let columns):
                    columns.allSatisfy {
                        if case .category = $0.kind { false } else { true }
                    }
                }
            try require(
                isNumeric,
                "ar models series of real numbers, found names, or whole numbers below 32; take made, or wavenet for symbols"
            )
            try require(
                data.examples.dimensions.count == 1,
                "ar models rows as series, found \(data.examples); take glow for images"
            )
            lags = min(lags, max(0, (data.examples.count - 1) / 2))
            return ["every row is taken for a series, its columns for the steps"]
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try LinearAutoregression(examples, self)
        }

        public static var meanings: [String: SettingMeaning] {
            [
                "lags": SettingMeaning(
                    "Steps that a step's mean reads; where an order is chosen, the most", "0 to 4096"),
                "order": SettingMeaning(
                    "What chooses how many of the lags are used; all uses them all", "aic, bic, all"),
                "fit": SettingMeaning(
                    "How coefficients are found: at once, which is their greatest likelihood given the first steps, or by the optimizer",
                    "leastSquares, gradients"),
            ]
        }
    }

    /// - Parameter examples: series `[steps]` or `[steps, variables]`.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        (self.examples, self.settings) = (examples, settings)
        let k = examples.dimensions.count == 2 ? examples.dimensions[1] : 1
        let earlier = BitMatrix(rows: k, columns: k) { $1 < $0 }
        filter = ConvolutionLayer(
            k, k, kernel: [settings.lags + 1], padding: [(before: 0, after: 0)],
            mask: ConvolutionMask(
                taps: [ConvolutionMask.Tap](repeating: .live, count: settings.lags) + [.channels(earlier)]),
            initializer: .zeros)
        logDeviation = Parameter([k], .zeros)
        let count = settings.lags * k
        start = count > 0 ? Start(count) : nil
    }

    /// Variables of a step.
    public var seriesWidth: Int { logDeviation.shape[0] }
    private var steps: Int { examples.dimensions[0] }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let (batch, k, lags) = (x.shape[0], seriesWidth, settings.lags)
        let series = x.reshaped([batch, Extent(steps), Extent(k)]).transposed([0, 2, 1])
        var means = filter(series).transposed([0, 2, 1]).reshaped([batch, Extent((steps - lags) * k)])
        var deviations = logDeviation.tensor.broadcast(to: [Extent(steps - lags), Extent(k)])
            .reshaped([Extent((steps - lags) * k)])
        if let start {
            let first = x.sliced(axis: 1, from: 0, count: lags * k)
            means = .concatenate([start.means(first), means], axis: 1)
            deviations = .concatenate([start.logDeviation.tensor, deviations], axis: 0)
        }
        let shape = Shape([batch, 1, Extent(variableCount)])
        return .concatenate([means.reshaped(shape), deviations.broadcast(to: shape)], axis: 1)
    }

    // MARK: fitted directly

    public var isFittedDirectly: Bool { settings.fit == .leastSquares }

    /// Rows of one example each as series `[steps][variables]`.
    private func series(_ rows: HostArray) -> [[[Double]]] {
        let (values, k) = (rows.doubles, seriesWidth)
        return (0..<rows.shape[0]).map { row in
            (0..<steps).map { t in Array(values[(row * steps + t) * k..<(row * steps + t + 1) * k]) }
        }
    }

    public func fitted(to rows: HostArray) throws -> [(parameter: Parameter, value: HostArray)] {
        let (k, lags, series) = (seriesWidth, settings.lags, series(rows))
        let found =
            try settings.criterion().map { try AutoregressionFit(series, choosing: $0, upTo: lags) }
            ?? AutoregressionFit(series, lags: lags)
        var model = found.model
        model.coefficients += [[[Double]]](repeating: zeros(k), count: lags - model.lags)
        guard let step = TriangularRegression(model.covariance) else {
            throw UsageError(
                "autoregression: the errors have no density; leave out a variable that follows from others")
        }
        // A variable given those before it in its step: of both the means are taken off first.
        let rest = sum(identity(k), step.weights, scale: -1)
        let filtered = model.coefficients.map { product(rest, $0) }
        var weight = [Float](repeating: 0, count: k * k * (lags + 1))
        for i in 0..<k {
            for j in 0..<k {
                let place = (i * k + j) * (lags + 1)
                for lag in 0..<lags { weight[place + lags - 1 - lag] = Float(filtered[lag][i][j]) }
                weight[place + lags] = Float(step.weights[i][j])
            }
        }
        let bias = rest.map { Float(dot($0, model.intercept)) }
        var values: [(parameter: Parameter, value: HostArray)] = [
            (filter.weight, HostArray(weight, shape: filter.weight.shape)),
            (logDeviation, HostArray(step.deviations.map { Float(Math.log($0)) })),
        ]
        if let parameter = filter.bias { values.append((parameter, HostArray(bias))) }
        return values + startValues(model, series)
    }

    /// The regressions of the first steps: those of a series without beginning, or else each variable on its own, as the series begin.
    private func startValues(
        _ model: VectorAutoregression, _ series: [[[Double]]]
    ) -> [(parameter: Parameter, value: HostArray)] {
        let count = settings.lags * seriesWidth
        guard let start else { return [] }
        var (weights, means, deviations) = (zeros(count), [Double](), [Double]())
        if let (mean, covariance) = model.stationary(), let regression = TriangularRegression(covariance) {
            (weights, means, deviations) = (regression.weights, mean, regression.deviations)
        } else {
            for place in 0..<count {
                let values = series.map { $0[place / seriesWidth][place % seriesWidth] }
                let mean = values.reduce(0, +) / Double(values.count)
                let square = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
                means.append(mean)
                // One series alone has no deviation at its start; then that of its errors.
                deviations.append(max(square, model.covariance[place % seriesWidth][place % seriesWidth]).squareRoot())
            }
        }
        let bias = means.indices.map { means[$0] - dot(weights[$0], means) }
        var values: [(parameter: Parameter, value: HostArray)] = [
            (start.regression.weight, HostArray(weights.joined().map { Float($0) }, shape: [count, count])),
            (start.logDeviation, HostArray(deviations.map { Float(Math.log($0)) })),
        ]
        if let parameter = start.regression.bias { values.append((parameter, HostArray(bias.map { Float($0) }))) }
        return values
    }

    // MARK: what comes next

    /// The autoregression that weights stand for.
    public func autoregression(_ value: (Parameter) throws -> [Double]) throws -> VectorAutoregression {
        let (k, lags) = (seriesWidth, settings.lags)
        let weight = try value(filter.weight)
        func tap(_ t: Int) -> [[Double]] {
            (0..<k).map { i in (0..<k).map { weight[(i * k + $0) * (lags + 1) + t] } }
        }
        // The step's own tap B is undone: (1 - B)⁻¹, column by column.
        let rest = sum(identity(k), tap(lags), scale: -1)
        let inverse = transposed(identity(k).map { solve(rest, $0) ?? $0 })
        let deviations = try value(logDeviation).map { Math.exp($0) }
        let scaled = inverse.map { zip($0, deviations).map { $0 * $1 } }
        let bias = try filter.bias.map(value) ?? [Double](repeating: 0, count: k)
        return VectorAutoregression(
            intercept: inverse.map { dot($0, bias) },
            coefficients: (0..<lags).map { product(inverse, tap(lags - 1 - $0)) },
            covariance: product(scaled, transposed(scaled)))
    }

    /// The equation of one variable, or how many lags are used of several.
    public func findings(_ value: (Parameter) throws -> [Double]) throws -> [String] {
        let model = try autoregression(value)
        let used = (model.coefficients.lastIndex { $0.joined().contains { $0 != 0 } } ?? -1) + 1
        func text(_ number: Double) -> String {
            let thousandths: Double = (number.magnitude * 1000).rounded()
            let rounded: Double = thousandths / 1000
            return "\(rounded)"
        }
        let deviations =
            model.variables == 1
            ? text(model.covariance[0][0].squareRoot())
            : model.covariance.indices.map { text(model.covariance[$0][$0].squareRoot()) }.joined(separator: ", ")
        let errors = "\(used) of \(settings.lags) lags, deviation of the errors \(deviations)"
        guard model.variables == 1 else { return [errors] }
        let terms = model.coefficients[..<used].enumerated().map { lag, a in
            (a[0][0] < 0 ? " - " : " + ") + "\(text(a[0][0])) x[t-\(lag + 1)]"
        }
        let sign = model.intercept[0] < 0 ? "-" : ""
        return ["x[t] = \(sign)\(text(model.intercept[0]))\(terms.joined()); \(errors)"]
    }

    /// A series whose second half is forecast from its first, with the interval that holds 95 %: the first variable.
    public func chart(of example: [Double], value: (Parameter) throws -> [Double]) throws -> Chart? {
        let model = try autoregression(value)
        let series = (0..<steps).map { Array(example[$0 * seriesWidth..<($0 + 1) * seriesWidth]) }
        let known = max(model.lags, steps / 2, 1)
        guard known < steps else { return nil }
        let forecasts = try model.forecast(after: Array(series[..<known]), steps: steps - known)
        let last = series[known - 1][0]
        func line(_ values: [Double], _ shade: UInt8) -> Chart.Line {
            Chart.Line([last] + values, from: known - 1, shade: shade)
        }
        let intervals = forecasts.map { $0.interval()[0] }
        return Chart(
            "forecast", [Chart.Line(series.map { $0[0] }), line(forecasts.map { $0.mean[0] }, 128)],
            band: (line(intervals.map(\.lowerBound), 0), line(intervals.map(\.upperBound), 0)))
    }
}

/// Real variables, normal; the parameters are the mean and the logarithm of the standard deviation.
struct NormalConditional: Conditional {
    var name: String { "normal" }
    var domain: VariableDomain { .real }
    var parameterCount: Int { 2 }
    var inputCount: Int { 1 }

    private func block(_ index: Int, of parameters: Tensor) -> Tensor {
        parameters.sliced(axis: 1, from: index, count: 1).reshaped([parameters.shape[0], parameters.shape[2]])
    }

    func encode(_ x: Tensor) -> Tensor { x.reshaped([x.shape[0], 1, x.shape[1]]) }

    func logProbability(_ x: Tensor, _ parameters: Tensor) -> Tensor {
        let logDeviation = block(1, of: parameters)
        let z = (x - block(0, of: parameters)) * (-logDeviation).exp()
        return z.squared() * -0.5 - logDeviation - 0.9189385332046727
    }

    func sample(_ parameters: Tensor, _ random: RandomSource, temperature: Double) -> Tensor {
        let (mean, deviation) = (block(0, of: parameters), block(1, of: parameters).exp())
        return mean + (temperature == 1 ? deviation : deviation * temperature)
            * random.normal(mean.shape, stream: 2, as: mean.elementType)
    }
}
