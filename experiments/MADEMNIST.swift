import Datasets
import Lab
import Likelihood
import Models
import Training

/// The checksum of the fixed binarization's test set, of which the papers' figures are.
let binarizedMNISTTest = "e6b2e376b6f37e9c"

func binarizedMNIST(_ folder: String) throws -> ExperimentData {
    ExperimentData(
        try Dataset(
            npz: "\(folder)/binarized_mnist/binarized_mnist.npz", name: "binarized_mnist", exampleShape: [1, 28, 28],
            source:
                "It is Larochelle's fixed binarization of MNIST as the arrays train, valid, test of 0/1 bytes [50000 | 10000 | 10000, 784]; "
                + "make it from the .amat files of the MADE repository, put it there, or name another folder with --data"
        ))
}

extension Experiment {
    /// A preset for two cores and ten minutes.
    static let madeMNIST = Experiment(
        name: "made-mnist", summary: "MADE with one hidden layer of 2000 units on the fixed binarization of MNIST",
        paper: "Germain et al. 2015, table 6: MADE 1hl of 8000 units, 1 mask", paperNats: 88.40,
        paperTestSet: binarizedMNISTTest,
        configuration: RunConfiguration(MADE.Settings { $0.hidden = [2000] }) {
            $0.epochs = 25
            $0.learningRate = 0.001
            $0.schedule = .cosine
            $0.optimizer = .adamw
            $0.weightDecay = 0.1
            $0.patience = 10
        },
        load: { _, folder in try binarizedMNIST(folder) })

    /// The paper's single hidden layer of 8000 units.
    static let madeMNISTPaper = Experiment(
        name: "made-mnist-8000", summary: "MADE with one hidden layer of 8000 units, the paper's configuration",
        paper: "Germain et al. 2015, table 6: MADE 1hl, 1 mask 88.40", paperNats: 88.40,
        paperTestSet: binarizedMNISTTest,
        configuration: RunConfiguration(MADE.Settings { $0.hidden = [8000] }) {
            $0.epochs = 25
            $0.learningRate = 0.0005
            $0.schedule = .cosine
            // Without decay the last epochs overfit; three times as much underfits.
            $0.optimizer = .adamw
            $0.weightDecay = 0.1
            $0.patience = 10
        },
        load: { _, folder in try binarizedMNIST(folder) })
}
