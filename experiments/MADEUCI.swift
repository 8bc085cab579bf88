import Datasets
import Lab
import Likelihood
import Models
import Training

/// The checksums of the test sets of which the papers' figures are.
let uciTestSets = [
    "adult": "cb79676e83ae5e36", "connect4": "90e7d1e60af6a06e", "dna": "5c844983a69302d4",
    "mushrooms": "11ebbd31d2e86ccb", "nips": "df6064c7ac1b1c7f",
]

/// One of the binary UCI sets of the NADE and MADE papers.
func binaryUCI(_ set: String, _ folder: String) throws -> ExperimentData {
    ExperimentData(
        try Dataset(
            npz: "\(folder)/nade_uci/\(set).npz", name: set,
            source:
                "It holds the arrays train, valid and test of 0/1 bytes; the data come with the MADE repository (mgermain/MADE). Put it there, or name another folder with --data"
        ))
}

/// MADE on such a set, with the paper's figure for a single mask.
private func uci(
    _ set: String, nats: Double, hidden: [Int] = [500],
    _ change: (inout TrainingSettings) -> Void
) -> Experiment {
    var configuration = RunConfiguration(MADE.Settings { $0.hidden = hidden }) {
        $0.epochs = 200
        $0.patience = 30
        $0.samples = 0
    }
    change(&configuration.training)
    return Experiment(
        name: "made-\(set)", summary: "MADE on the binary UCI set \(set)", paper: "Germain et al. 2015, table 4",
        paperNats: nats, paperTestSet: uciTestSets[set], configuration: configuration,
        load: { _, folder in try binaryUCI(set, folder) })
}

extension Experiment {
    static let madeUCI: [Experiment] = [
        uci("adult", nats: 13.12) { $0.learningRate = 0.001 },
        uci("connect4", nats: 11.90) { $0.learningRate = 0.001 },
        // 1400 examples: every hidden layer that was tried overfits (88.5 nats with 500 units), so there is none.
        uci("dna", nats: 83.63, hidden: []) {
            $0.learningRate = 0.001
            $0.weightDecay = 0.003
            $0.batch = 50
        },
        uci("mushrooms", nats: 9.68) {
            $0.learningRate = 0.001
            $0.batch = 50
            $0.epochs = 300
        },
        uci("nips", nats: 280.25) {
            $0.learningRate = 0.0005
            $0.weightDecay = 1e-4
            $0.batch = 50
        },
    ]
}
