import Compiler
import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

extension Experiment {
    /// Every family of models, on anybody's files: `martlet run maf --train wine.csv`. Settings that follow from the data (how many
    /// values a variable has, what a table's columns are, how often an image can be halved) are found when it is read.
    static let families: [Experiment] =
        [made, fvbn, bengio, nade, autoencoder] + vectorFlows + imageModels + sequences + [recurrent, vae] + classics

    static let made = Experiment(
        family: "made", summary: "masked autoencoder: any data; tables of mixed columns, with gaps",
        paper: "Germain et al. 2015",
        configuration: tables(MADE.Settings { $0.hidden = [1000] }) {
            $0.batch = 50
            $0.learningRate = 0.005
            $0.averaging = 0.995
        }, leastSteps: 12_000, baselines: baselines)

    // MARK: from regressions to networks

    private static let fvbn = Experiment(
        family: "fvbn", summary: "a regression for each variable on those before it: any data as a vector; convex",
        paper: "Frey 1998",
        configuration: tables(FVBN.Settings()) {
            $0.learningRate = 0.003
            $0.averaging = 0.995
        }, baselines: baselines)

    private static let bengio = Experiment(
        family: "bengio", summary: "a hidden group for each variable: any data as a vector",
        paper: "Bengio and Bengio 2000",
        configuration: tables(BengioNetwork.Settings { $0.dropout = 0.3 }) {
            $0.batch = 50
            $0.averaging = 0.995
        }, baselines: baselines)

    private static let nade = Experiment(
        family: "nade", summary: "hidden units that are running sums over the variables: any data as a vector",
        paper: "Larochelle and Murray 2011; Uria et al. 2013",
        configuration: tables(
            NADE.Settings {
                $0.hidden = 200
                $0.dropout = 0.3
            }
        ) {
            $0.batch = 50
            $0.averaging = 0.995
        }, baselines: baselines)

    private static let autoencoder = Experiment(
        family: "autoencoder",
        summary: "codes and reconstructions, no likelihood: any data as a vector, images by convolutions too",
        paper: "Vincent et al. 2008; Bengio et al. 2013",
        configuration: tables(
            Autoencoder.Settings {
                $0.corruption = "masking:0.3"
                $0.hidden = [128]
            }
        ) { $0.clipNorm = 5 })

    // MARK: flows of vectors

    private static let vectorFlows: [Experiment] = [
        flow("nice", "additive couplings: tables and vectors of numbers", "Dinh et al. 2015") {
            $0.hidden = [256, 256]
            $0.layers = 4
        },
        flow("realnvp", "affine couplings: tables and vectors of numbers, given something", "Dinh et al. 2017") {
            $0.layers = 8
            $0.hidden = [128, 128]
            $0.normalization = "actNorm"
        },
        flow("maf", "masked autoregressive flow: likewise", "Papamakarios et al. 2017") {
            $0.hidden = [128, 128]
            $0.normalization = "actNorm"
        },
        flow("spline", "autoregressive splines: likewise", "Durkan et al. 2019") {
            $0.flow = "autoregressive"
            $0.transformer = "spline:8"
            $0.layers = 3
            $0.hidden = [128, 128]
            $0.splineBound = 5
        },
        flow("spline-coupling", "couplings with splines: likewise, drawn in one pass", "Durkan et al. 2019") {
            $0.flow = "coupling"
            $0.transformer = "spline:8"
            $0.layers = 6
            $0.hidden = [128, 128]
            $0.splineBound = 5
        },
        flow("naf", "neural autoregressive flow: likewise", "Huang et al. 2018") {
            $0.flow = "autoregressive"
            $0.transformer = "sigmoidal:8"
            $0.layers = 3
            $0.hidden = [128, 128]
        },
        flow("planar", "planar flows: a few numbers", "Rezende and Mohamed 2015") { $0.layers = 32 },
        flow("radial", "radial flows: a few numbers", "Rezende and Mohamed 2015") { $0.layers = 32 },
        Experiment(
            family: "ffjord", summary: "a flow in continuous time: tables and vectors of numbers, given something",
            paper: "Grathwohl et al. 2019",
            configuration: tables(
                Flow.ContinuousSettings {
                    $0.hidden = [64, 64]
                    $0.steps = 8
                }
            ) {
                $0.learningRate = 0.003
                $0.clipNorm = 5
            }, baselines: baselines),
    ]

    private static func flow(
        _ name: String, _ summary: String, _ paper: String, _ change: (inout Flow.VectorSettings) -> Void
    ) -> Experiment {
        let settings = Flow.VectorSettings {
            $0.flow = name
            change(&$0)
        }
        return Experiment(
            family: name, summary: summary, paper: paper,
            configuration: tables(settings) {
                $0.learningRate = 0.003
                $0.clipNorm = 5
                $0.weightDecay = 0.01
            }, baselines: baselines)
    }

    // MARK: images and videos

    private static let imageModels: [Experiment] = [
        Experiment(
            family: "pixelcnn", summary: "masked convolutions: images of whole numbers",
            paper: "van den Oord et al. 2016", kind: .images,
            configuration: images(
                PixelCNN.Settings {
                    $0.channels = 64
                    $0.blocks = 7
                    $0.positionEmbedding = true
                }), baselines: baselines),
        Experiment(
            family: "gated-pixelcnn", summary: "two stacks without a blind spot: images of whole numbers",
            paper: "van den Oord et al. 2016b", kind: .images,
            configuration: images(
                GatedPixelCNN.Settings {
                    $0.channels = 48
                    $0.blocks = 6
                }), baselines: baselines),
        Experiment(
            family: "pixelcnnpp", summary: "mixtures of logistics, down- and upsampling: images of many values",
            paper: "Salimans et al. 2017", kind: .images,
            configuration: images(
                PixelCNNPlusPlus.Settings {
                    $0.channels = 48
                    $0.scales = 2
                    $0.blocks = 2
                    $0.components = 5
                    $0.dropout = 0.1
                }), baselines: baselines),
        Experiment(
            family: "image-transformer", summary: "causal attention over pixels: small images of whole numbers",
            paper: "Chen et al. 2020", kind: .images,
            configuration: images(ImageTransformer.Settings { $0.blocks = 4 }), baselines: baselines),
        Experiment(
            family: "pixelsnail",
            summary: "convolutions, and attention over all pixels before: images of whole numbers",
            paper: "Chen et al. 2018", kind: .images, configuration: images(PixelSNAIL.Settings()),
            baselines: baselines),
        Experiment(
            family: "pixelrnn", summary: "two-dimensional LSTMs over rows or diagonals: small images of whole numbers",
            paper: "van den Oord et al. 2016", kind: .images,
            configuration: images(PixelRNN.Settings()), baselines: baselines),
        Experiment(
            family: "glow", summary: "invertible 1x1 convolutions: images whose sides can be halved",
            paper: "Kingma and Dhariwal 2018", kind: .images,
            configuration: images(Flow.ImageSettings { $0.leastScale = 0.05 }),
            baselines: baselines),
        Experiment(
            family: "realnvp-image", summary: "couplings with checkerboards: images",
            paper: "Dinh et al. 2017", kind: .images,
            configuration: images(Flow.ImageSettings { $0.flow = "realnvp" }), baselines: baselines),
        Experiment(
            family: "tarflow", summary: "an autoregressive flow of transformers over patches: images",
            paper: "Zhai et al. 2024", kind: .images,
            configuration: images(Flow.PatchSettings()), baselines: baselines),
        Experiment(
            family: "vpn", summary: "a PixelCNN for each frame, given the frames before: videos",
            paper: "Kalchbrenner et al. 2016", kind: .videos,
            configuration: images(VideoPixelNetwork.Settings { $0.channels = 32 }), baselines: baselines),
        Experiment(
            family: "videoflow",
            summary: "a Glow of each frame, its latents given those before: videos whose sides can be halved",
            paper: "Kumar et al. 2019", kind: .videos, configuration: images(Flow.VideoSettings()),
            baselines: baselines),
    ]

    // MARK: sounds and texts

    private static let sequences: [Experiment] = [
        Experiment(
            family: "wavenet", summary: "dilated causal convolutions: sounds, and sequences of whole numbers",
            paper: "van den Oord et al. 2016", kind: .sequences,
            configuration: RunConfiguration(
                WaveNet.Settings {
                    $0.residual = 32
                    $0.skip = 64
                    $0.layers = 8
                }
            ) {
                $0.epochs = 4
                $0.batch = 4
                $0.learningRate = 0.002
                $0.schedule = .cosine
                $0.samples = 4
                $0.validationExamples = 256
            }, baselines: markov),
        Experiment(
            family: "bytenet",
            summary: "dilated causal convolutions of characters: texts, and sequences of whole numbers",
            paper: "Kalchbrenner et al. 2016", kind: .sequences,
            configuration: RunConfiguration(
                ByteNet.Settings {
                    $0.channels = 128
                    $0.dropout = 0.1
                }
            ) {
                $0.epochs = 10
                $0.batch = 16
                $0.learningRate = 0.002
                $0.schedule = .cosine
                $0.samples = 4
                $0.validationExamples = 1000
            }, baselines: markov),
    ]

    /// Recurrent networks take anything of whole numbers, one variable after the other.
    private static let recurrent = Experiment(
        family: "recurrent", summary: "an LSTM, GRU or RNN: sequences, and small images of whole numbers",
        paper: "Graves 2013",
        configuration: RunConfiguration(RecurrentModel.Settings()) {
            $0.epochs = 10
            $0.batch = 32
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.clipNorm = 5
            $0.samples = 4
            $0.validationExamples = 1000
        }, baselines: baselines)

    private static let vae = Experiment(
        family: "vae", summary: "variational autoencoder with a flow as posterior: any data without gaps; a bound",
        paper: "Kingma and Welling 2014; Kingma et al. 2016",
        configuration: tables(
            VAE.Settings {
                $0.posterior = "iaf:2"
                $0.latents = 16
                $0.hidden = [200, 200]
                $0.iafHidden = [128]
            }
        ) { $0.clipNorm = 5 }, baselines: baselines)

    // MARK: fitted at once

    private static let classics: [Experiment] = [
        Experiment(
            family: "ar", summary: "linear autoregression: rows of numbers as series, fitted by least squares",
            paper: "Yule 1927", configuration: RunConfiguration(LinearAutoregression.Settings()) { $0.epochs = 1 },
            leastSteps: 1,
            baselines: baselines),
        Experiment(
            family: "tabular", summary: "tables of counts: a few columns of few values",
            paper: "Bengio and Bengio 2000",
            configuration: RunConfiguration(TabularConditionals.Settings()) { $0.epochs = 1 },
            leastSteps: 1, baselines: baselines),
    ]

    // MARK: what they share

    /// Small tables as they come: a falling rate, averaged weights, and an end where validation turns away.
    private static func tables(
        _ model: any ModelSettings, _ change: (inout TrainingSettings) -> Void
    ) -> RunConfiguration {
        RunConfiguration(model) {
            $0.epochs = 20
            $0.learningRate = 0.001
            $0.optimizer = .adamw
            $0.schedule = .cosine
            $0.averaging = 0.99
            change(&$0)
        }
    }

    private static func images(_ model: any ModelSettings) -> RunConfiguration {
        RunConfiguration(model) {
            $0.epochs = 6
            $0.batch = 32
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.averaging = 0.99
            $0.clipNorm = 5
            $0.validationExamples = 2000
        }
    }

    /// What any model of such data has to beat.
    private static func baselines(_ files: LoadedFiles, _ device: any Device) throws -> [Baseline] {
        let dataset = files.dataset
        let isKnown = Dataset.Split.allCases.allSatisfy { dataset.examples($0).isFinite }
        guard isKnown, dataset.features == nil, dataset.labels == nil, dataset.weights == nil else { return [] }
        guard let levels = files.values.levelCount else {
            return files.values == .real ? [Baselines.gaussian(dataset)].compactMap { $0 } : []
        }
        // A network without hidden layers has variables² weights for each value or parameter.
        guard dataset.variableCount <= 1024 else { return [Baselines.independent(dataset, levels: levels)] }
        // A regression has learned what it can from some ten thousand examples.
        var few = dataset
        few.train = dataset.train.rows(0..<min(50_000, dataset.train.shape[0]))
        few.valid = dataset.valid.rows(0..<min(5000, dataset.valid.shape[0]))
        let steps = (few.train.shape[0] + 99) / 100
        return [
            Baselines.independent(dataset, levels: levels),
            try logisticBaseline(few, levels: levels, epochs: max(2, min(60, 2000 / steps)), on: device),
        ]
    }

    private static func markov(_ files: LoadedFiles, _ device: any Device) throws -> [Baseline] {
        guard let levels = files.values.levelCount else { return [] }
        return (1...3).map { Baselines.markov(files.dataset, levels: levels, order: $0) }
    }
}
