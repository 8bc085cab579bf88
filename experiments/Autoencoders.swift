import Datasets
import Lab
import Likelihood
import Models
import Training

extension Experiment {
    static let autoencoders = [autoencoderMNIST, denoisingMNIST]

    /// Undercomplete, by convolutions. The figure is the error of reconstructions; it does not compare with likelihoods.
    private static let autoencoderMNIST = Experiment(
        name: "autoencoder-mnist",
        summary:
            "convolutional autoencoder of 32 numbers on the fixed binarization of MNIST: codes and reconstructions",
        paper: "Rumelhart et al. 1986",
        configuration: RunConfiguration(
            Autoencoder.Settings {
                $0.channels = [16, 32]
                $0.hidden = [256]
                $0.code = 32
            }
        ) {
            $0.epochs = 10
            $0.learningRate = 0.001
            $0.schedule = .cosine
            $0.averaging = 0.99
        },
        load: { _, folder in try binarizedMNIST(folder) })

    /// Overcomplete, and kept from copying by what it does not see; its draws are those of the Markov chain.
    private static let denoisingMNIST = Experiment(
        name: "denoising-mnist",
        summary: "denoising autoencoder on the fixed binarization of MNIST, drawn by its Markov chain",
        paper: "Vincent et al. 2008; Bengio et al. 2013",
        configuration: RunConfiguration(
            Autoencoder.Settings {
                $0.hidden = [1000]
                $0.code = 1000
                $0.corruption = "saltpepper:0.4"
                $0.steps = 100
            }
        ) {
            $0.epochs = 15
            $0.learningRate = 0.001
            $0.schedule = .cosine
            $0.averaging = 0.99
        },
        load: { _, folder in try binarizedMNIST(folder) })
}
