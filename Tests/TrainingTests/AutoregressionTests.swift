import CPU
import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Likelihood
import Testing

@testable import Models
@testable import Training

/// Linear autoregressions: the fit beside statsmodels 0.15, and the model that is made of it.
@Suite(.serialized) struct AutoregressionTests {
    private var sunspots: [[[Double]]] { [Sunspots.yearly.map { [$0] }] }

    private func expectEqual(_ a: [Double], _ b: [Double], _ what: String) {
        #expect(a.count == b.count, "\(what)")
        for (x, y) in zip(a, b) { #expect(abs(x - y) < 1e-6 * max(1, abs(y)), "\(what): \(x), expected \(y)") }
    }

    struct Golden: Sendable {
        let lags, hold: Int
        /// The constant, then the lags.
        let parameters: [Double]
        let variance, logLikelihood, aic, bic: Double
        let means, deviations: [Double]
    }

    /// `AutoReg(sunspots, lags, hold_back=hold, trend="c").fit()`, and ten years of `get_prediction`.
    static let goldens = [
        Golden(
            lags: 2, hold: 2, parameters: [14.9071483366, 1.39180524779, -0.690286927959], variance: 275.436319649,
            logLikelihood: -1298.03184588, aic: 2604.06369176, bic: 2618.97108275,
            means: [
                13.7662315955, 32.0652296223, 50.0330534789, 62.4092058811, 67.2314458099, 65.3999684273, 59.5221794085,
                52.6056867029, 47.0366367839, 44.0599683835,
            ],
            deviations: [
                16.5962742701, 28.44275008, 35.1736065213, 37.4492796511, 37.6227286627, 37.819380481, 38.6258398112,
                39.5011003016, 39.9676938111, 40.0633555485,
            ]),
        Golden(
            lags: 9, hold: 9,
            parameters: [
                6.74305359173, 1.16494219711, -0.405357422593, -0.166539342466, 0.14980629416, -0.0946241706479,
                0.00491001240748, 0.0504665930841, -0.0863534919082, 0.253491031948,
            ], variance: 221.225775742, logLikelihood: -1235.55912842, aic: 2493.11825684, bic: 2533.85986406,
            means: [
                31.4848016505, 63.0235292624, 89.6490385302, 94.3504792547, 82.7339401761, 63.0438488943, 41.9084073424,
                25.4306419501, 13.9844076273, 14.8882735674,
            ],
            deviations: [
                14.8736604688, 22.8352607849, 26.8669769445, 27.7613792863, 27.8163139537, 27.8857825602, 28.1184644175,
                28.2949726297, 28.4164987045, 28.4502223949,
            ]),
    ]

    @Test(arguments: goldens) func fitsAndForecastsAreThoseOfAutoReg(_ golden: Golden) throws {
        let fit = try AutoregressionFit(sunspots, lags: golden.lags, hold: golden.hold)
        expectEqual(
            fit.model.intercept + fit.model.coefficients.map { $0[0][0] }, golden.parameters, "lags \(golden.lags)")
        expectEqual(
            [fit.model.covariance[0][0], fit.logLikelihood, fit.aic, fit.bic],
            [golden.variance, golden.logLikelihood, golden.aic, golden.bic], "lags \(golden.lags)")
        let forecasts = try fit.model.forecast(after: sunspots[0], steps: 10)
        expectEqual(forecasts.map { $0.mean[0] }, golden.means, "means")
        expectEqual(forecasts.map { $0.deviation[0] }, golden.deviations, "deviations")
        if golden.lags == 9 {
            let (first, last) = (forecasts[0].interval()[0], forecasts[9].interval()[0])
            expectEqual(
                [first.lowerBound, first.upperBound, last.lowerBound, last.upperBound],
                [2.332962813292, 60.636640487624, -40.873137678819, 70.649684813689], "intervals of 95 %")
        }
    }

    /// `ar_select_order` takes nine lags of at most twelve by either criterion, all orders fitted to the same years.
    @Test func ordersAreThoseOfStatsmodels() throws {
        for criterion in AutoregressionFit.Criterion.allCases {
            let fit = try AutoregressionFit(sunspots, choosing: criterion, upTo: 12)
            #expect(fit.lags == 9)
            expectEqual([fit.aic, fit.bic], [2470.628177084, 2511.259230611], "the chosen fit")
        }
        let all = try (0...12).map { try AutoregressionFit(sunspots, lags: $0, hold: 12).aic }
        expectEqual(
            [all[0], all[1], all[2], all[12]], [3046.313331607, 2715.756178401, 2519.663564202, 2476.614155070], "aic")
    }

    /// Two variables, beside `VAR(z).fit(2)`: coefficients, the covariance of greatest likelihood, log-likelihood, forecasts.
    @Test func severalVariablesAreThoseOfVAR() throws {
        let series = (0..<60).map { step -> [Double] in
            let t = Double(step)
            return [
                Math.sin(1.3 * t * t) + 0.5 * Math.cos(0.7 * t), Math.cos(2.1 * t * t + 0.3) + 0.4 * Math.sin(0.5 * t),
            ]
        }
        let fit = try AutoregressionFit([series], lags: 2)
        expectEqual(fit.model.intercept, [-0.00511793536291, -0.0779975990229], "intercepts")
        // statsmodels has a row for each lagged variable, and a column for each equation.
        let golden = [
            [0.221788045366, 0.141461064836], [-0.0107401781518, 0.172624080232],
            [-0.143765682019, -0.033224596181], [0.131183302235, 0.0150381117833],
        ]
        for lag in 0..<2 {
            for i in 0..<2 {
                expectEqual(fit.model.coefficients[lag][i], [golden[2 * lag][i], golden[2 * lag + 1][i]], "A")
            }
        }
        expectEqual(
            fit.model.covariance.flatMap { $0 }, [0.615265674527, -0.0847462277464, -0.0847462277464, 0.662128107771],
            "Σ")
        expectEqual([fit.logLikelihood], [-138.039135998], "log-likelihood")
        let forecasts = try fit.model.forecast(after: series, steps: 4).flatMap(\.mean)
        let expected = [
            0.05252140465, -0.241164083964, -0.248353792886, -0.150728455726, -0.097768463654, -0.144521006968,
            -0.0093179346, -0.110791052788,
        ]
        expectEqual(forecasts, expected, "forecasts")
    }

    /// Mean and variance of AR(1) and AR(2) without beginning (Hamilton 1994, equations 3.4.4, 3.4.5 and 3.4.30).
    @Test func stationaryMomentsAreKnown() throws {
        let one = VectorAutoregression(intercept: [3], coefficients: [[[0.8]]], covariance: [[2]])
        let (mean, covariance) = try #require(one.stationary())
        expectEqual(mean + covariance[0], [15, 2 / (1 - 0.64)], "AR(1)")
        let (a, b) = (1.2, -0.5)
        let two = VectorAutoregression(intercept: [1], coefficients: [[[a]], [[b]]], covariance: [[1]])
        let found = try #require(two.stationary())
        let variance = (1 - b) / ((1 + b) * ((1 - b) * (1 - b) - a * a))
        let neighbour = variance * a / (1 - b)
        expectEqual(found.mean, [1 / 0.3, 1 / 0.3], "AR(2)")
        expectEqual(found.covariance.flatMap { $0 }, [variance, neighbour, neighbour, variance], "AR(2)")
        // A random walk has no such moments.
        #expect(VectorAutoregression(intercept: [0], coefficients: [[[1]]], covariance: [[1]]).stationary() == nil)
    }

    @Test func seriesThatDetermineNothingAreRefused() throws {
        for series in [
            [[[Double]]]([[[1], [2], [3]]]), [(0..<50).map { _ in [1.0] }], [(0..<50).map { [Double($0)] }],
        ] {
            #expect(throws: UsageError.self) { try AutoregressionFit(series, lags: 3) }
        }
    }

    // MARK: the model

    private func trained(
        _ examples: ExampleShape, _ rows: HostArray, on device: any Device,
        _ change: (inout LinearAutoregression.Settings) -> Void,
        training: (inout TrainingSettings) -> Void = { _ in }
    ) throws -> (run: Run, model: LinearAutoregression) {
        let model = try LinearAutoregression(examples, change)
        return (try model.fit(Examples(rows), valid: Examples(rows), on: device, training, report: { _ in }), model)
    }

    private func weights(_ run: Run) -> (Parameter) throws -> [Double] { { try run.states.get($0)?.doubles ?? [] } }

    private func windows(of years: [Double], _ steps: Int, every stride: Int) -> HostArray {
        let starts = Swift.stride(from: 0, through: years.count - steps, by: stride).map { $0 }
        return HostArray(starts.flatMap { years[$0..<$0 + steps] }.map { Float($0) }, shape: [starts.count, steps])
    }

    /// Windows whose first years are conditioned on tile the series: the model's weights are those of statsmodels on the whole of it.
    @Test func windowsTileTheSeries() throws {
        let rows = windows(of: Sunspots.yearly, 39, every: 27)
        #expect(rows.shape[0] == 11)
        let (run, model) = try trained([39], rows, on: CPUDevice(threads: 1)) { $0.lags = 12 }
        #expect(try model.prove().hasPrefix("proved"))
        let found = try model.autoregression(weights(run))
        let golden = [
            7.11078798109, 1.16282188572, -0.404204386241, -0.168534069367, 0.149199141694, -0.0959945033452,
            0.00906589430123, 0.0461286778848, -0.0863545603096, 0.252755639922, 0, 0, 0,
        ]
        for (a, b) in zip(found.intercept + found.coefficients.map { $0[0][0] }, golden) { #expect(abs(a - b) < 1e-5) }
        // The likelihood of a window: that of its first years without beginning, and of the others given those before.
        let fit = try AutoregressionFit(sunspots, lags: 9, hold: 12)
        var twelve = fit.model
        twelve.coefficients += [[[0]], [[0]], [[0]]]
        let (mean, covariance) = try #require(twelve.stationary())
        let factor = try #require(choleskyFactor(covariance))
        for row in [0, 10] {
            let years = Array(Sunspots.yearly[row * 27..<row * 27 + 39])
            var expected = 0.0
            var z: [Double] = []
            for i in 0..<12 {
                z.append((years[i] - mean[i] - dot(Array(factor[i][..<i]), z)) / factor[i][i])
                expected -= z[i] * z[i] / 2 + Math.log(factor[i][i]) + 0.9189385332046727
            }
            for t in 12..<39 {
                let error = years[t] - twelve.next(years[..<t].map { [$0] })[0]
                let variance = twelve.covariance[0][0]
                expected -= error * error / (2 * variance) + Math.log(variance) / 2 + 0.9189385332046727
            }
            let logProbability = try run.logProbability(rows.rows(row..<row + 1))[0]
            #expect(abs(logProbability - expected) < 1e-3, "\(logProbability), expected \(expected)")
        }
    }

    /// Two variables whose errors hang together: the weights stand for the fit, on every device draws are those of full passes, none of
    /// which the compiled sampler needs, and their moments those of the process.
    @Test func severalVariablesAreDrawn() throws {
        let truth = VectorAutoregression(
            intercept: [1, -0.5], coefficients: [[[0.6, 0.2], [-0.3, 0.4]], [[-0.2, 0], [0.1, 0.1]]],
            covariance: [[1, 0.6], [0.6, 1.5]])
        let random = HostRandom(seed: 4, stream: "series")
        let factor = try #require(choleskyFactor(truth.covariance))
        var series = [[0.0, 0], [0, 0]]
        for t in 2..<4002 {
            let noise = (0..<2).map { v in
                (0..<12).reduce(-6.0) { $0 + random.uniform(example: t, variable: v * 12 + $1) }
            }
            let mean = truth.next(series)
            series.append((0..<2).map { i in mean[i] + dot(factor[i], noise) })
        }
        series.removeFirst(2)
        let rows = HostArray(series.flatMap { $0 }.map { Float($0) }, shape: [400, 20])
        let single = stride(from: 0, to: series.count, by: 10).map { Array(series[$0..<$0 + 10]) }
        let fit = try AutoregressionFit(single, lags: 2)
        for device in try testDevices().prefix(2) {
            let (run, model) = try trained([10, 2], rows, on: device) { ($0.lags, $0.order) = (2, "all") }
            let found = try model.autoregression(weights(run))
            let pairs = zip(
                [found.intercept] + found.coefficients.flatMap { $0 } + found.covariance,
                [fit.model.intercept] + fit.model.coefficients.flatMap { $0 } + fit.model.covariance)
            for (a, b) in pairs { for (x, y) in zip(a, b) { #expect(abs(x - y) < 1e-5) } }
            let (x, y) = model.draw(run.x)
            #expect(try SamplingProgram(variable: run.x, drawn: x, order: model.order, outputs: [y]).fullPasses == nil)
            let drawn = try run.sample(count: 2000, SamplingOptions(seed: 3)).examples
            let naive = try run.sample(count: 50, SamplingOptions(seed: 3, isNaive: true)).examples
            for (a, b) in zip(drawn.floats, naive.floats) { #expect(abs(a - b) < 1e-4) }
            let stationary = try #require(found.stationary())
            let values = drawn.doubles
            // The last step's moments are the first one's: the start has the distribution of the process.
            for place in [0, 18] {
                let (u, v) = (
                    (0..<2000).map { values[$0 * 20 + place] - stationary.mean[0] },
                    (0..<2000).map { values[$0 * 20 + place + 1] - stationary.mean[1] }
                )
                let moments = [dot(u, u) / 2000, dot(u, v) / 2000, dot(v, v) / 2000]
                let expected = [stationary.covariance[0][0], stationary.covariance[0][1], stationary.covariance[1][1]]
                for (a, b) in zip(moments, expected) {
                    #expect(abs(a - b) < 0.25, "\(device.name), \(place): \(moments), \(expected)")
                }
            }
        }
    }

    /// Gradients and L-BFGS end where least squares are: the greatest likelihood given the first steps.
    @Test func gradientsFindTheSameWeights() throws {
        let years = Sunspots.yearly.map { $0 / 50 - 1 }
        let rows = windows(of: years, 29, every: 20)
        let device = try CPUDevice(threads: 1)
        let direct = try trained([29], rows, on: device) { ($0.lags, $0.order) = (3, "all") }
        let walked = try trained([29], rows, on: device) {
            ($0.lags, $0.order, $0.fit) = (3, "all", .gradients)
        } training: {
            ($0.optimizer, $0.epochs, $0.patience) = (.lbfgs, 300, 0)
        }
        let (a, b) = (
            try direct.model.autoregression(weights(direct.run)), try walked.model.autoregression(weights(walked.run))
        )
        let pairs = zip(
            a.intercept + a.coefficients.map { $0[0][0] } + a.covariance[0],
            b.intercept + b.coefficients.map { $0[0][0] } + b.covariance[0])
        for (x, y) in pairs { #expect(abs(x - y) < 2e-3, "\(x), \(y)") }
    }

    /// A filter whose last tap reads the step itself is refused, by the line of the convolution.
    @Test func aFilterOfTheStepItselfIsRefused() throws {
        struct Leaky: AutoregressiveModel {
            let examples: ExampleShape = [6]
            let conditional: any Conditional = NormalConditional()
            let filter: ConvolutionLayer

            init(reads last: ConvolutionMask.Tap) {
                filter = ConvolutionLayer(
                    1, 1, kernel: [3], padding: [(before: 2, after: 0)],
                    mask: ConvolutionMask(taps: [.live, .live, last]))
            }

            func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
                let means = filter(x.reshaped([x.shape[0], 1, 6]))
                return .concatenate([means, Tensor.scalar(0).broadcast(to: means.shape)], axis: 1)
            }
        }
        #expect(try Leaky(reads: .dead).prove().hasPrefix("proved"))
        let leak = #expect(throws: DependencyLeak.self) { try Leaky(reads: .live).prove() }
        #expect(leak?.description.contains("AutoregressionTests.swift") == true, "\(leak?.description ?? "")")
    }

    /// Without lags every step is on its own: the mean and the deviation of all.
    @Test func noLagsAreOneNormal() throws {
        let rows = windows(of: Sunspots.yearly, 30, every: 30)
        let (run, model) = try trained([30], rows, on: CPUDevice(threads: 1)) { ($0.lags, $0.order) = (0, "all") }
        #expect(try model.prove().hasPrefix("proved"))
        let values = rows.doubles
        let mean = values.reduce(0, +) / Double(values.count)
        let variance = values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)
        let found = try model.autoregression(weights(run))
        #expect(abs(found.intercept[0] - mean) < 1e-4 && abs(found.covariance[0][0] / variance - 1) < 1e-5)
        let logProbability = try run.logProbability(rows).reduce(0, +) / Double(values.count)
        #expect(abs(logProbability + 0.5 * (Math.log(2 * Double.pi * variance) + 1)) < 1e-5)
        #expect(try model.chart(of: rows.rows(0..<1).doubles, value: weights(run)) != nil)
    }

    /// A chart has a line for the series, and one with a band for what is forecast of it.
    @Test func chartsShowTheForecast() throws {
        let rows = windows(of: Sunspots.yearly, 39, every: 27)
        let (run, model) = try trained([39], rows, on: CPUDevice(threads: 1)) { $0.lags = 12 }
        let chart = try #require(try model.chart(of: rows.rows(10..<11).doubles, value: weights(run)))
        #expect(chart.lines[0].values.count == 39 && chart.lines[1].first == 18 && chart.lines[1].values.count == 21)
        let band = try #require(chart.band)
        for (low, high) in zip(band.low.values, band.high.values).dropFirst() { #expect(low < high) }
        let pixels = ChartPicture.pixels(chart)
        let shades = Set(pixels.floats)
        #expect(pixels.shape == [320, 640] && shades == [0, 128, 216, 255])
    }
}
