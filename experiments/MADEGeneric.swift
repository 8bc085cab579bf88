import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

extension Experiment {
    /// MADE on anybody's files.
    static let made = Experiment(
        name: "made", summary: "MADE on your own data: --train F --valid F --test F, or one npz with those arrays",
        paper: "Germain et al. 2015", paperNats: nil,
        configuration: RunConfiguration(MADE.Settings()) { $0.samples = 0 },
        readsFiles: true,
        load: { configuration, _ in
            guard !configuration.train.isEmpty else {
                throw UsageError(
                    "made: name the data with --train F --valid F --test F, or --train F.npz holding the arrays train, valid and test"
                )
            }
            if configuration.valid.isEmpty, configuration.test.isEmpty {
                return ExperimentData(
                    try Dataset(
                        npz: configuration.train, name: configuration.train,
                        source: "Name a file that exists with --train"))
            }
            guard !configuration.valid.isEmpty, !configuration.test.isEmpty else {
                throw UsageError("made: --train, --valid and --test go together")
            }
            return ExperimentData(
                try Dataset(train: configuration.train, valid: configuration.valid, test: configuration.test))
        })
}
