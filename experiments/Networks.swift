import Datasets
import Lab
import Likelihood
import Models
import Training

// From regressions to networks: fully visible belief networks, Bengio and Bengio's network, NADE and its orderless kin. The papers'
// figures are those of the tables of Germain et al. 2015 and Uria et al. 2014, whose test sets are the same.

extension Experiment {
    static let networks: [Experiment] =
        [fvbnMNIST, nadeMNIST, orderlessNADEMNIST, bengioMushrooms] + nadeUCI

    /// Without a penalty the 300 000 weights fit the training images by 3 nats more than others; three times as much costs half a nat, and
    /// the order of the rows 0.4.
    private static let fvbnMNIST = Experiment(
        name: "fvbn-mnist", summary: "fully visible belief network on the fixed binarization of MNIST",
        paper: "Germain et al. 2015, table 6: FVBN", paperNats: 97.45, paperTestSet: binarizedMNISTTest,
        configuration: RunConfiguration(
            FVBN.Settings {
                $0.penalty = 3e-4
                $0.ordering = "random"
            }
        ) {
            $0.epochs = 30
            $0.learningRate = 0.003
            $0.schedule = .cosine
            $0.averaging = 0.99
            $0.patience = 10
        },
        load: { _, folder in try binarizedMNIST(folder) })

    private static let nadeMNIST = Experiment(
        name: "nade-mnist", summary: "NADE with 500 hidden units on the fixed binarization of MNIST",
        paper: "Larochelle and Murray 2011, table 1: NADE, fixed order", paperNats: 88.33,
        paperTestSet: binarizedMNISTTest,
        configuration: RunConfiguration(NADE.Settings { $0.hidden = 500 }) {
            $0.epochs = 60
            $0.learningRate = 0.001
            $0.schedule = .cosine
            $0.averaging = 0.995
            $0.patience = 15
            $0.validationExamples = 2000
        },
        load: { _, folder in try binarizedMNIST(folder) })

    private static let orderlessNADEMNIST = Experiment(
        name: "orderless-nade-mnist",
        summary: "deep NADE for every order, evaluated as the mixture of 32, on the fixed binarization of MNIST",
        paper: "Uria et al. 2014, table 3: EoNADE 2hl, 128 orders", paperNats: 85.10, paperTestSet: binarizedMNISTTest,
        configuration: RunConfiguration(
            MADE.Settings {
                $0.hidden = [500, 500]
                $0.ordering = "random"
                $0.orderless = true
                $0.ensemble = 32
            }
        ) {
            $0.epochs = 40
            $0.learningRate = 0.001
            $0.schedule = .cosine
            $0.averaging = 0.99
            $0.patience = 15
            // The second layer is computed for each of an example's 784 variables under each order.
            $0.validationExamples = 20
            $0.samples = 16
        },
        load: { _, folder in try binarizedMNIST(folder) })

    private static let bengioMushrooms = Experiment(
        name: "bengio-mushrooms", summary: "a hidden group for each variable, on the binary UCI set mushrooms",
        paper: "Bengio and Bengio 2000; NADE has 9.81 nats (Larochelle and Murray 2011, table 1)", paperNats: nil,
        configuration: RunConfiguration(BengioNetwork.Settings { $0.hidden = 20 }) {
            $0.epochs = 200
            $0.learningRate = 0.002
            $0.batch = 50
            $0.patience = 30
            $0.averaging = 0.99
            $0.samples = 0
        },
        load: { _, folder in try binaryUCI("mushrooms", folder) })

    private static let nadeUCI: [Experiment] = [
        nade("adult", nats: 13.19) { $0.epochs = 60 },
        nade("connect4", nats: 11.99) {
            $0.epochs = 25
            $0.batch = 100
        },
        // 1400 examples: a higher rate, or a longer run, learns them by heart.
        nade("dna", nats: 84.81) {
            $0.learningRate = 0.001
            $0.schedule = .constant
        },
        nade("mushrooms", nats: 9.81) { $0.learningRate = 0.004 },
        nade("nips", nats: 273.08) {
            $0.learningRate = 0.001
            $0.optimizer = .adamw
            $0.weightDecay = 0.1
        },
    ]

    private static func nade(_ set: String, nats: Double, _ change: (inout TrainingSettings) -> Void) -> Experiment {
        var configuration = RunConfiguration(NADE.Settings { $0.hidden = 500 }) {
            $0.epochs = 100
            $0.patience = 20
            $0.learningRate = 0.003
            $0.schedule = .cosine
            $0.batch = 50
            $0.averaging = 0.995
            $0.samples = 0
        }
        change(&configuration.training)
        return Experiment(
            name: "nade-\(set)", summary: "NADE on the binary UCI set \(set)",
            paper: "Larochelle and Murray 2011, table 1", paperNats: nats, paperTestSet: uciTestSets[set],
            configuration: configuration, load: { _, folder in try binaryUCI(set, folder) })
    }
}
