import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

/// A flow on a two-dimensional density. The density is known, so the test figure minus the optimum is the
/// Kullback-Leibler divergence from the truth to the model, in nats.
private func densityFlow(
    _ density: PlanarDensity, _ name: String, _ paper: String, _ settings: any ModelSettings, _ epochs: Int
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

/// A flow as it is tried on every density.
private typealias PlanarFlow = (name: String, paper: String, settings: any ModelSettings, epochs: Int)

private func vector(
    _ name: String, _ paper: String, epochs: Int = 40, _ change: (inout Flow.VectorSettings) -> Void
) -> PlanarFlow {
    (
        name, paper,
        Flow.VectorSettings {
            $0.hidden = [64, 64]
            change(&$0)
        }, epochs
    )
}

/// The flows whose runs stand on the pages.
private var presets: [PlanarFlow] {
    [
        vector("realnvp", "Dinh et al. 2017") {
            $0.flow = "realnvp"
            $0.layers = 12
            $0.limit = 3
            $0.normalization = "actNorm"
        },
        vector("maf", "Papamakarios et al. 2017") {
            $0.flow = "maf"
            $0.layers = 16
            $0.limit = 4
            $0.normalization = "actNorm"
        },
        vector("spline", "Durkan et al. 2019") {
            $0.flow = "coupling"
            $0.transformer = "spline:12"
            $0.layers = 6
            $0.splineBound = 4
        },
        (
            "planar", "Rezende and Mohamed 2015",
            Flow.VectorSettings {
                $0.flow = "planar"
                $0.layers = 32
            }, 40
        ),
        // With fewer steps and without penalties it learns what its steps make of the velocity, on a checkerboard above all.
        (
            "ffjord", "Grathwohl et al. 2019",
            Flow.ContinuousSettings {
                $0.steps = 20
                ($0.kinetic, $0.jacobian) = (0.01, 0.01)
            }, 40
        ),
        (
            "flow-matching", "Lipman et al. 2023",
            Flow.ContinuousSettings {
                $0.training = .matching
                $0.hidden = [128, 128, 128]
            }, 100
        ),
    ]
}

/// The others.
private var more: [PlanarFlow] {
    [
        vector("nice", "Dinh et al. 2015") {
            $0.flow = "nice"
            $0.layers = 12
        },
        (
            "radial", "Rezende and Mohamed 2015",
            Flow.VectorSettings {
                $0.flow = "radial"
                $0.layers = 32
            }, 40
        ),
        vector("iaf", "Kingma et al. 2016") {
            $0.flow = "iaf"
            $0.layers = 12
            $0.limit = 4
        },
        vector("maf-mog", "Papamakarios et al. 2017") {
            $0.flow = "maf-mog"
            $0.layers = 8
            $0.limit = 4
            $0.normalization = "actNorm"
        },
        vector("mixture-coupling", "Ho et al. 2019", epochs: 20) {
            $0.flow = "coupling"
            $0.transformer = "mixture:8"
            $0.layers = 6
            $0.normalization = "actNorm"
        },
        vector("naf", "Huang et al. 2018", epochs: 20) {
            $0.flow = "autoregressive"
            $0.transformer = "sigmoidal:8"
            $0.layers = 4
            $0.normalization = "actNorm"
        },
        vector("autoregressive-spline", "Durkan et al. 2019") {
            $0.flow = "autoregressive"
            $0.transformer = "spline:12"
            $0.layers = 4
            $0.splineBound = 4
        },
    ]
}

extension Experiment {
    static let flowDensities: [Experiment] = PlanarDensity.allCases.flatMap { density in
        presets.map { densityFlow(density, $0.name, $0.paper, $0.settings, $0.epochs) }
    }
}

extension ExperimentGroup {
    /// Every flow of points on a plane on every density: what is left between a figure and the optimum is the Kullback-Leibler divergence
    /// from the truth to the model.
    public static let flowsDensities = ExperimentGroup(
        name: "flows-densities", summary: "every flow on six densities on the plane, with the divergence of each",
        members: (more + presets).flatMap { flow in
            PlanarDensity.allCases.map { density in
                densityFlow(density, flow.name, flow.paper, flow.settings, flow.epochs)
            }
        }.map { $0.taking(Experiment.duration(of: $0.name)) },
        columns: PlanarDensity.allCases.map(\.rawValue))
}
