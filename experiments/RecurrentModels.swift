import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

extension Experiment {
    static let recurrentModels: [Experiment] = [
        lstmShakespeare, lstmMNIST, rowLSTMMNIST, diagonalBiLSTMMNIST,
    ]

    /// Characters of Shakespeare, as `bytenet-shakespeare` has them: every example starts from nothing, so that its first characters are
    /// harder to guess than those of a text that goes on.
    static let lstmShakespeare = Experiment(
        name: "lstm-shakespeare", summary: "An LSTM on the characters of tiny Shakespeare", paper: "Graves 2013",
        paperNats: nil,
        configuration: RunConfiguration(
            RecurrentModel.Settings {
                $0.levels = 65
                $0.units = 512
                $0.dropout = 0.2
            }
        ) {
            $0.epochs = 14
            $0.batch = 16
            $0.learningRate = 0.004
            $0.schedule = .cosine
            $0.clipNorm = 5
            $0.samples = 4
        }, load: { configuration, folder in try byteNetShakespeare.data(configuration, dataFolder: folder) })

    static let lstmMNIST = Experiment(
        name: "lstm-mnist", summary: "An LSTM over the pixels of the fixed binarization of MNIST",
        paper: "van den Oord et al. 2016, table 4 has two-dimensional ones", paperNats: nil,
        configuration: RunConfiguration(
            RecurrentModel.Settings { $0.units = 256 }
        ) {
            $0.epochs = 8
            $0.batch = 100
            $0.learningRate = 0.003
            $0.schedule = .cosine
            $0.clipNorm = 5
            $0.validationExamples = 2000
        }, load: { _, folder in try binarizedMNIST(folder) })

    private static func pixelRNN(
        _ name: String, _ layer: PixelRNN.Layer, _ row: String, nats: Double, epochs: Int
    ) -> Experiment {
        Experiment(
            name: name, summary: "\(row) on the fixed binarization of MNIST, one layer of 32 units",
            paper: "van den Oord et al. 2016, table 4: \(row)", paperNats: nats, paperTestSet: binarizedMNISTTest,
            configuration: RunConfiguration(PixelRNN.Settings { $0.layer = layer }) {
                $0.epochs = epochs
                $0.batch = 16
                $0.learningRate = 0.004
                $0.optimizer = .muon
                $0.schedule = .linear
                $0.averaging = 0.999
                $0.clipNorm = 5
                $0.validationExamples = 2000
            }, load: { _, folder in try binarizedMNIST(folder) })
    }

    static let rowLSTMMNIST = pixelRNN("row-lstm-mnist", .rowLSTM, "Row LSTM", nats: 80.54, epochs: 6)
    static let diagonalBiLSTMMNIST = pixelRNN(
        "diagonal-bilstm-mnist", .diagonalBiLSTM, "Diagonal BiLSTM (1 layer)", nats: 80.75, epochs: 3)
}
