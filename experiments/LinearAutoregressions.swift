import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

extension Experiment {
    /// Windows of 12 years and the 27 behind them. A window's first 12 years are the last of the window before it, so that the years that
    /// are modelled given others come once each, and least squares over windows is that over the whole series.
    static let autoregressionSunspots = Experiment(
        name: "ar-sunspots", summary: "linear autoregression on yearly sunspot numbers, windows of 39 years",
        paper: "Yule 1927",
        configuration: RunConfiguration(LinearAutoregression.Settings { $0.lags = 12 }) {
            $0.epochs = 1
            $0.samples = 0
        },
        load: { _, _ in
            let (held, steps) = (12, 39)
            let years = Sunspots.yearly
            let starts = Array(stride(from: 0, through: years.count - steps, by: steps - held))
            func windows(_ part: ArraySlice<Int>) -> HostArray {
                HostArray(part.flatMap { years[$0..<$0 + steps] }.map { Float($0) }, shape: [part.count, steps])
            }
            // 1700 to 1900, to 1954, and to 2008.
            let dataset = try Dataset(
                name: "sunspots", train: windows(starts[..<7]), valid: windows(starts[7..<9]),
                test: windows(starts[9...]))
            var data = ExperimentData(dataset)
            data.baselines = { device in
                try [("every year on its own", 0), ("the year before", 1), ("Yule's two years", 2)].map { name, lags in
                    let settings = LinearAutoregression.Settings { ($0.lags, $0.order) = (lags, "all") }
                    return try Baseline.trained(name, RunConfiguration(settings), on: dataset, device: device)
                }
            }
            return data
        })
}
