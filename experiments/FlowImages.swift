import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

/// Grey MNIST digits, 0 to 255, 50000 to train on, in file order.
private func greyMNIST(_ folder: String) throws -> ExperimentData {
    var digits = try Images.mnist("\(folder)/mnist")
    digits.labels = nil
    return ExperimentData(digits)
}

/// The same with their classes, on which models are conditioned.
private func greyMNISTClasses(_ folder: String) throws -> ExperimentData {
    ExperimentData(try Images.mnist("\(folder)/mnist"))
}

/// The first 4000 training images of CIFAR-10: enough to show shapes and training, not to compare with the paper.
private func smallCIFAR(_ folder: String) throws -> ExperimentData {
    let path = "\(folder)/cifar10/train_first4000.npz"
    guard Files.exists(path) else {
        throw FileError(
            path,
            "is not there. It holds the first 4000 training images of CIFAR-10 as the array “images” of bytes [4000, 3, 32, 32]; put it there, or name another folder with --data"
        )
    }
    guard let images = try NumPy.read(npz: path, ["images"])["images"], images.shape == [4000, 3, 32, 32] else {
        throw FileError(path, "expected an array “images” of bytes [4000, 3, 32, 32]")
    }
    return ExperimentData(
        try Dataset(
            name: "cifar10", train: images.rows(0..<3400), valid: images.rows(3400..<3600),
            test: images.rows(3600..<4000), exampleShape: [3, 32, 32]))
}

private func vector(
    _ name: String, _ summary: String, _ paper: String, epochs: Int, rate: Double,
    _ change: (inout Flow.VectorSettings) -> Void
) -> Experiment {
    Experiment(
        name: name, summary: summary, paper: paper, paperNats: nil,
        configuration: RunConfiguration(
            Flow.VectorSettings {
                $0.levels = 256
                $0.alpha = 1e-6
                change(&$0)
            }
        ) {
            $0.batch = 100
            $0.epochs = epochs
            $0.learningRate = rate
            $0.schedule = .cosine
            $0.clipNorm = 100
            $0.weightDecay = 1e-5
            $0.samples = 100
            $0.validationExamples = 2000
        }, load: { _, folder in try greyMNIST(folder) })
}

private func image(
    _ name: String, _ summary: String, _ paper: String, epochs: Int, settings: any ModelSettings,
    load: @escaping @Sendable (String) throws -> ExperimentData
) -> Experiment {
    Experiment(
        name: name, summary: summary, paper: paper, paperNats: nil,
        configuration: RunConfiguration(settings) {
            $0.batch = 32
            $0.epochs = epochs
            $0.learningRate = 0.001
            $0.schedule = .cosine
            $0.clipNorm = 50
            $0.samples = 64
            $0.validationExamples = 500
        }, load: { _, folder in try load(folder) })
}

private func video(_ name: String, _ summary: String, contextFrames: Int) -> Experiment {
    Experiment(
        name: name, summary: summary, paper: "Kumar et al. 2019", paperNats: nil,
        configuration: RunConfiguration(
            Flow.VideoSettings {
                $0.levels = 2
                $0.steps = 4
                $0.hidden = 32
                $0.priorHidden = 48
                $0.contextFrames = contextFrames
            }
        ) {
            $0.batch = 16
            $0.epochs = 8
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.averaging = 0.995
            $0.clipNorm = 50
            $0.samples = 16
        }, load: { _, folder in try movingMNIST(folder) })
}

private func autoencoder(_ name: String, _ posterior: String, _ paper: String) -> Experiment {
    Experiment(
        name: name, summary: "variational autoencoder, posterior \(posterior), on the fixed binarization of MNIST",
        paper: paper, paperNats: nil,
        configuration: RunConfiguration(VAE.Settings { $0.posterior = posterior }) {
            $0.epochs = 30
            $0.learningRate = 0.001
            $0.schedule = .cosine
            $0.samples = 100
            $0.validationExamples = 1000
        }, load: { _, folder in try binarizedMNIST(folder) })
}

extension Experiment {
    static let flowImages: [Experiment] = [
        vector(
            "nice-mnist", "NICE on grey MNIST, in the unit interval", "Dinh et al. 2015, table 3", epochs: 12,
            rate: 0.001
        ) {
            $0.flow = "nice"
            $0.layers = 4
            $0.hidden = [512, 512]
            $0.alpha = -1
        },
        vector(
            "maf-mnist", "MAF of 5 layers on grey MNIST after the logit", "Papamakarios et al. 2017, table 2",
            epochs: 10,
            rate: 0.0005
        ) {
            $0.flow = "maf"
            $0.layers = 5
            $0.hidden = [512]
            $0.limit = 3
            $0.normalization = "actNorm"
        },
        image(
            "realnvp-mnist", "multi-scale RealNVP on grey MNIST", "Dinh et al. 2017", epochs: 2,
            settings: Flow.ImageSettings {
                $0.flow = "realnvp"
                $0.hidden = 24
            }, load: greyMNIST),
        image(
            "glow-mnist", "Glow on grey MNIST", "Kingma and Dhariwal 2018", epochs: 2,
            settings: Flow.ImageSettings {
                $0.steps = 6
                $0.hidden = 48
            }, load: greyMNIST),
        image(
            "glow-mnist-prior", "Glow on grey MNIST, the prior of its latents learned", "Kingma and Dhariwal 2018",
            epochs: 2,
            settings: Flow.ImageSettings {
                $0.steps = 6
                $0.hidden = 48
                $0.learnedPrior = true
                $0.leastScale = 0.05
            }, load: greyMNIST),
        image(
            "glow-mnist-classes", "Glow conditioned on the digit, on grey MNIST, the prior of its latents learned",
            "Kingma and Dhariwal 2018", epochs: 2,
            settings: Flow.ImageSettings {
                $0.steps = 6
                $0.hidden = 48
                $0.learnedPrior = true
                $0.leastScale = 0.05
            }, load: greyMNISTClasses),
        image(
            "glow-cifar", "Glow on 4000 images of CIFAR-10 (a subset: its figure does not compare with the paper's)",
            "Kingma and Dhariwal 2018, table 2: 3.35 bits on the full set", epochs: 8,
            settings: Flow.ImageSettings {
                $0.scales = 3
                $0.steps = 6
                $0.hidden = 64
            }, load: smallCIFAR),
        image(
            "tarflow-mnist", "TarFlow on grey MNIST, in patches of 4 x 4", "Zhai et al. 2024", epochs: 8,
            settings: Flow.PatchSettings(), load: greyMNIST),
        video("videoflow-moving-mnist", "VideoFlow in small on a moving digit, 5 frames of 20x20", contextFrames: 3),
        video(
            "videoflow-moving-mnist-independent", "The same Glow of each frame, which knows of no other frame",
            contextFrames: 0),
        autoencoder("vae-iaf-mnist", "iaf:4", "Kingma et al. 2016, algorithm 1"),
        autoencoder("vae-planar-mnist", "planar:16", "Rezende and Mohamed 2015, table 2"),
    ]
}
