import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

extension Experiment {
    static let pixelModels: [Experiment] = [
        pixelCNNGlyphs, imageTransformerGlyphs, pixelCNNMNIST, pixelCNNMNISTLong, gatedPixelCNNMNIST,
        pixelCNNPlusPlusCIFAR, imageTransformerMNIST, pixelSNAILMNIST, vpnMovingMNIST,
    ]

    /// A small PixelCNN on images whose exact likelihood is known; needs no data.
    static let pixelCNNGlyphs = Experiment(
        name: "pixelcnn-glyphs", summary: "PixelCNN on ten glyphs, beside the generator's own likelihood",
        paper: "van den Oord et al. 2016", paperNats: nil,
        configuration: RunConfiguration(
            PixelCNN.Settings {
                $0.channels = 32
                $0.blocks = 4
            }
        ) {
            $0.epochs = 12
            $0.batch = 50
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.samples = 100
        }, load: { _, _ in try glyphs() })

    /// Attention over the same images.
    static let imageTransformerGlyphs = Experiment(
        name: "image-transformer-glyphs", summary: "A transformer on ten glyphs, beside the generator's own likelihood",
        paper: "Chen et al. 2020", paperNats: nil,
        configuration: RunConfiguration(
            ImageTransformer.Settings { $0.blocks = 4 }
        ) {
            $0.epochs = 12
            $0.batch = 50
            $0.learningRate = 0.002
            $0.optimizer = .muon
            $0.schedule = .linear
            $0.samples = 100
        }, load: { _, _ in try glyphs() })

    /// Blocks of 5x5 instead of the paper's 3x3 reach as far as a digit is high, and the network is told where a pixel is: 3 nats
    /// each after the same time. Muon is worth another after few epochs.
    private static func pixelCNN(
        _ name: String, _ length: String, epochs: Int, _ change: (inout TrainingSettings) -> Void = { _ in }
    ) -> Experiment {
        Experiment(
            name: name, summary: "PixelCNN on the fixed binarization of MNIST, \(length)",
            paper: "van den Oord et al. 2016, table 4: PixelCNN", paperNats: 81.30, paperTestSet: binarizedMNISTTest,
            configuration: RunConfiguration(
                PixelCNN.Settings {
                    $0.channels = 64
                    $0.blocks = 7
                    $0.kernel = 5
                    $0.positionEmbedding = true
                }
            ) {
                $0.epochs = epochs
                $0.batch = 16
                $0.learningRate = 0.004
                $0.optimizer = .muon
                $0.schedule = .linear
                $0.averaging = 0.999
                $0.validationExamples = 2000
                change(&$0)
            }, load: { _, folder in try binarizedMNIST(folder) })
    }

    static let pixelCNNMNIST = pixelCNN("pixelcnn-mnist", "for a quarter of an hour of two cores", epochs: 3)

    /// Sheared images are more examples of nearly the same kind; at the end the network sees them as they are.
    static let pixelCNNMNISTLong = pixelCNN("pixelcnn-mnist-long", "for two hours of two cores", epochs: 24) {
        $0.shear = 0.1
        $0.straightEpochs = 4
    }

    /// Conditioned on the digit; binarized anew for every epoch.
    static let gatedPixelCNNMNIST = Experiment(
        name: "gated-pixelcnn-mnist",
        summary: "Gated PixelCNN conditioned on the digit, on MNIST binarized anew for every epoch",
        paper: "van den Oord et al. 2016b; 81.50 without classes by github.com/EugenHotaj/pytorch-generative",
        paperNats: 81.50, paperTestSet: "54ef9f3529f4e306",
        configuration: RunConfiguration(
            GatedPixelCNN.Settings {
                $0.channels = 24
                $0.blocks = 5
            }
        ) {
            $0.epochs = 4
            $0.batch = 50
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.validationExamples = 2000
        },
        load: { configuration, folder in
            let grey = try Images.mnist("\(folder)/mnist")
            let seed = configuration.seed
            var dataset = try Dataset(
                name: "mnist, dynamic binarization", train: Images.binarized(grey.train, seed: seed, stream: "train"),
                valid: Images.binarized(grey.valid, seed: 0, stream: "valid"),
                test: Images.binarized(grey.test, seed: 0, stream: "test"), exampleShape: [1, 28, 28])
            dataset.labels = grey.labels
            var data = ExperimentData(dataset)
            data.trainingExamples = { Images.binarized(grey.train, seed: seed, stream: "train", step: $0) }
            data.baselines = { [dataset] device in
                [
                    Baselines.independent(dataset, levels: 2),
                    try logisticBaseline(dataset, levels: 2, epochs: 30, on: device),
                ]
            }
            return data
        })

    static let imageTransformerMNIST = Experiment(
        name: "image-transformer-mnist",
        summary: "a transformer over the pixels of the fixed binarization of MNIST",
        paper: "Chen et al. 2020", paperNats: nil,
        configuration: RunConfiguration(
            ImageTransformer.Settings {
                $0.width = 64
                $0.blocks = 4
            }
        ) {
            $0.epochs = 2
            $0.batch = 16
            $0.learningRate = 0.004
            $0.optimizer = .muon
            $0.schedule = .linear
            $0.averaging = 0.999
            $0.clipNorm = 5
            $0.validationExamples = 2000
        }, load: { _, folder in try binarizedMNIST(folder) })

    static let pixelSNAILMNIST = Experiment(
        name: "pixelsnail-mnist",
        summary: "PixelSNAIL in small on the fixed binarization of MNIST",
        paper: "Chen et al. 2018", paperNats: nil,
        configuration: RunConfiguration(
            PixelSNAIL.Settings {
                $0.levels = 2
                $0.channels = 32
                $0.blocks = 2
                $0.residuals = 3
            }
        ) {
            $0.epochs = 3
            $0.batch = 16
            $0.learningRate = 0.003
            $0.schedule = .linear
            $0.averaging = 0.999
            $0.clipNorm = 5
            $0.validationExamples = 2000
        }, load: { _, folder in try binarizedMNIST(folder) })

    /// The first 4000 training images of CIFAR-10: figures do not compare with the paper's.
    static let pixelCNNPlusPlusCIFAR = Experiment(
        name: "pixelcnnpp-cifar", summary: "PixelCNN++ in small on 4000 images of CIFAR-10",
        paper: "Salimans et al. 2017, table 1: 2.92 bits per dimension on the whole set", paperNats: nil,
        configuration: RunConfiguration(
            PixelCNNPlusPlus.Settings {
                $0.channels = 24
                $0.scales = 2
                $0.blocks = 1
                $0.components = 5
                $0.dropout = 0
            }
        ) {
            $0.epochs = 8
            $0.batch = 16
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.samples = 16
        },
        load: { _, folder in
            let path = "\(folder)/cifar10/train_first4000.npz"
            guard Files.exists(path) else {
                throw FileError(
                    path,
                    "is not there. It holds the first 4000 training images of CIFAR-10 as bytes “images” [4000, 3, 32, 32]; put it there, or name another folder with --data"
                )
            }
            let images = try ArrayFile.read(path, name: "images")
            guard images.shape == [4000, 3, 32, 32], images.type == .uint8 else {
                throw FileError(path, "expected uint8[4000, 3, 32, 32], found \(images.type)\(images.shape)")
            }
            let dataset = try Dataset(
                name: "cifar10", train: images.rows(0..<3000), valid: images.rows(3000..<3500),
                test: images.rows(3500..<4000), exampleShape: [3, 32, 32])
            var data = ExperimentData(dataset)
            data.baselines = { device in
                [
                    Baselines.independent(dataset, levels: 256),
                    try logisticBaseline(dataset, levels: 256, epochs: 40, on: device),
                ]
            }
            return data
        })

    static let vpnMovingMNIST = Experiment(
        name: "vpn-moving-mnist", summary: "A Video Pixel Network in small on a moving digit, 5 frames of 20x20",
        paper: "Kalchbrenner et al. 2016, table 1: 87.6 nats a frame on two digits in 64x64", paperNats: nil,
        configuration: RunConfiguration(
            VideoPixelNetwork.Settings {
                $0.channels = 24
                $0.decoderBlocks = 3
            }
        ) {
            $0.epochs = 4
            $0.batch = 32
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.samples = 16
        },
        load: { _, folder in try movingMNIST(folder) })
}

/// Videos `[5, 20, 20]` of one digit of half size that moves and bounces, drawn from MNIST, binary.
func movingMNIST(_ folder: String) throws -> ExperimentData {
    let mnist = try Images.mnist("\(folder)/mnist")
    func videos(_ digits: HostArray, _ count: Int, _ stream: String) -> HostArray {
        Images.movingDigits(digits, count: count, frames: 5, size: 20, seed: 1, stream: stream)
    }
    let dataset = try Dataset(
        name: "moving MNIST", train: videos(mnist.train, 10_000, "train"),
        valid: videos(mnist.valid, 1000, "valid"), test: videos(mnist.test, 1000, "test"),
        exampleShape: [5, 20, 20])
    var data = ExperimentData(dataset)
    data.presentation = .video
    data.baselines = { device in
        [
            Baselines.independent(dataset, levels: 2),
            try logisticBaseline(dataset, levels: 2, epochs: 40, on: device),
        ]
    }
    return data
}
