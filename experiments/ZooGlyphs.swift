import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

extension ExperimentGroup {
    /// Every family on images whose likelihood is known, 20 000 of them drawn anew for every epoch, so that nothing is learned by heart:
    /// what is left between a figure and the optimum is the model and its training.
    public static let zooGlyphs = ExperimentGroup(
        name: "zoo-glyphs", summary: "every family on ten glyphs, beside the generator's own likelihood",
        duration: "an hour and a half", members: members.map { $0.taking(Experiment.duration(of: $0.name)) })

    private static let members: [Experiment] = [
        onGlyphs("tabular"), onGlyphs("ar"),
        onGlyphs("fvbn") { $0.epochs = 30 },
        onGlyphs("bengio", BengioNetwork.Settings()) {
            $0.epochs = 60
            $0.learningRate = 0.002
        },
        onGlyphs("nade", NADE.Settings { $0.hidden = 500 }) {
            $0.epochs = 60
            $0.learningRate = 0.002
        },
        onGlyphs(
            "made", named: "orderless-nade",
            MADE.Settings {
                $0.hidden = [512, 512]
                $0.orderless = true
            }
        ) {
            $0.epochs = 60
            $0.validationExamples = 500
        },
        .madeGlyphs,
        onGlyphs("recurrent", named: "lstm") {
            $0.epochs = 8
            $0.learningRate = 0.004
        },
        onGlyphs("recurrent", named: "gru", RecurrentModel.Settings { $0.recurrence = .gru }) {
            $0.epochs = 8
            $0.learningRate = 0.004
        },
        onGlyphs("pixelrnn", named: "row-lstm", PixelRNN.Settings { $0.layer = .rowLSTM }) { $0.epochs = 8 },
        onGlyphs("pixelrnn", named: "diagonal-bilstm") { $0.epochs = 8 },
        .pixelCNNGlyphs,
        onGlyphs("gated-pixelcnn") { $0.epochs = 6 },
        onGlyphs(
            "pixelcnnpp",
            PixelCNNPlusPlus.Settings {
                $0.channels = 48
                $0.scales = 2
                $0.blocks = 2
                $0.components = 5
                $0.dropout = 0
            }
        ) { $0.epochs = 4 },
        onGlyphs("vpn", of: [2, 5, 8]) { $0.epochs = 8 },
        // Five frames of two rows, as its sides are halved.
        onGlyphs("videoflow", of: [5, 2, 8]) { $0.epochs = 8 },
        onGlyphs(
            "wavenet", of: [80],
            WaveNet.Settings {
                $0.residual = 32
                $0.skip = 64
                $0.layers = 6
            }
        ) {
            $0.epochs = 8
            $0.batch = 32
        },
        onGlyphs("bytenet", of: [80], ByteNet.Settings { $0.channels = 128 }) { $0.epochs = 5 },
        .imageTransformerGlyphs,
        onGlyphs(
            "pixelsnail",
            PixelSNAIL.Settings {
                $0.channels = 48
                $0.blocks = 2
                $0.residuals = 2
            }
        ) { $0.epochs = 4 },
        onGlyphs("nice") { $0.epochs = 40 },
        onGlyphs("realnvp") { $0.epochs = 40 },
        onGlyphs("maf") { $0.epochs = 40 },
        onGlyphs("spline") { $0.epochs = 20 },
        onGlyphs("spline-coupling") { $0.epochs = 20 },
        onGlyphs("naf") { $0.epochs = 30 },
        onGlyphs("planar") { $0.epochs = 40 },
        onGlyphs("radial") { $0.epochs = 40 },
        onGlyphs("ffjord") { $0.epochs = 8 },
        onGlyphs("glow") { $0.epochs = 8 },
        onGlyphs("realnvp-image") { $0.epochs = 3 },
        onGlyphs("tarflow") { $0.epochs = 8 },
        onGlyphs("vae") { $0.epochs = 60 },
        onGlyphs("autoencoder") { $0.epochs = 20 },
    ]

    /// A family with the settings that it has on anybody's files, but for those that guard against few examples.
    /// - Parameters:
    ///   - name: what stands before `-glyphs`, where it is not the family's own.
    ///   - shape: how the 80 pixels lie; a video is the upper half and then the lower.
    private static func onGlyphs(
        _ family: String, named name: String? = nil, of shape: [Int] = [1, Glyphs.height, Glyphs.width],
        _ model: (any ModelSettings)? = nil, _ change: (inout TrainingSettings) -> Void = { _ in }
    ) -> Experiment {
        guard let experiment = Experiment.families.first(where: { $0.name == family }) else {
            preconditionFailure("\(family): expected a family")
        }
        var configuration = experiment.configuration
        if let model { configuration.model = model }
        var refusal: UsageError?
        do {
            let summary = DataSummary(ExampleShape(shape), .binary, count: 1 << 20)
            _ = try configuration.model.adapt(to: summary)
        } catch {
            refusal = error as? UsageError ?? UsageError("\(error)")
        }
        change(&configuration.training)
        let title = family == name ?? family ? family : "\(family) as \(name ?? family)"
        return Experiment(
            name: "\(name ?? family)-glyphs", summary: "\(title) on ten glyphs", paper: experiment.paper,
            configuration: configuration,
            load: { [refusal] configuration, folder in
                if let refusal { throw refusal }
                return try Experiment.glyphs(of: shape)
            })
    }
}
