import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

/// Every two-dimensional density with six flows. The density is known, so the test figure minus the optimum is the
/// Kullback-Leibler divergence from the truth to the model, in nats.
private func densityFlow(
    _ density: PlanarDensity, _ name: String, _ paper: String, _ settings: any ModelSettings, epochs: Int = 40
) -> Experiment {
    Experiment(
        name: "\(name)-\(density.rawValue)", summary: "\(name) on the density \(density.rawValue)", paper: paper,
        paperNats: nil,
        configuration: RunConfiguration(settings) {
            $0.batch = 256
            $0.epochs = epochs
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.averaging = 0.995
            $0.clipNorm = 5
            $0.samples = 2000
        },
        load: { configuration, _ in
            let count = 50_000
            let draw = { @Sendable (start: Int, count: Int) in
                density.draw(seed: 2015, start: start, count: count).asFloats()
            }
            var data = ExperimentData(
                try Dataset(
                    name: density.rawValue, train: draw(0, count), valid: draw(1 << 28, 4_000),
                    test: draw(1 << 29, 20_000)))
            data.trainingExamples = { draw($0 * count, count) }
            data.optimum = { rows in
                let x = rows.doubles
                return (0..<rows.shape[0]).map { density.logDensity(x[2 * $0], x[2 * $0 + 1]) }
            }
            return data
        })
}

extension HostArray {
    /// float32, as devices work.
    fileprivate func asFloats() -> HostArray { HostArray(floats, shape: shape) }
}

extension Experiment {
    static let flowDensities: [Experiment] = PlanarDensity.allCases.flatMap { density in
        [
            densityFlow(
                density, "realnvp", "Dinh et al. 2017",
                Flow.VectorSettings {
                    $0.flow = "realnvp"
                    $0.layers = 12
                    $0.hidden = [64, 64]
                    $0.limit = 3
                    $0.normalization = "actNorm"
                }),
            densityFlow(
                density, "maf", "Papamakarios et al. 2017",
                Flow.VectorSettings {
                    $0.flow = "maf"
                    $0.layers = 16
                    $0.hidden = [64, 64]
                    $0.limit = 4
                    $0.normalization = "actNorm"
                }),
            densityFlow(
                density, "spline", "Durkan et al. 2019",
                Flow.VectorSettings {
                    $0.flow = "coupling"
                    $0.transformer = "spline:12"
                    $0.layers = 6
                    $0.hidden = [64, 64]
                    $0.splineBound = 4
                }),
            densityFlow(
                density, "planar", "Rezende and Mohamed 2015",
                Flow.VectorSettings {
                    $0.flow = "planar"
                    $0.layers = 32
                }),
            // With fewer steps and without penalties it learns what its steps make of the velocity, on a checkerboard above all.
            densityFlow(
                density, "ffjord", "Grathwohl et al. 2019",
                Flow.ContinuousSettings {
                    $0.steps = 20
                    ($0.kinetic, $0.jacobian) = (0.01, 0.01)
                }),
            densityFlow(
                density, "flow-matching", "Lipman et al. 2023",
                Flow.ContinuousSettings {
                    $0.training = .matching
                    $0.hidden = [128, 128, 128]
                }, epochs: 100),
        ]
    }
}
