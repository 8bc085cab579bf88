import Datasets
import Lab

extension Experiment {
    /// Every experiment of the program `martlet`.
    public static let papers: [Experiment] =
        (families + [autoregressionSunspots, madeGlyphs, madeMNIST, madeMNISTPaper] + madeUCI + networks + rnadeUCI
        + autoencoders + pixelModels + sequenceModels + recurrentModels
        + [mafBSDS300, realNVPBSDS300] + flowImages + flowDensities)
        .map { $0.taking(duration(of: $0.name)) }

    /// About how long a run takes on two cores of a busy machine, and of a family on what.
    static func duration(of name: String) -> String? {
        durations[name] ?? onTables[name].map { "\($0) for 1600 rows of 11" }
            ?? onImages[name].map { "\($0) for 1000 grey images of 28 x 28" }
            ?? onDensities.first { flow, _ in PlanarDensity.allCases.contains { name == "\(flow)-\($0.rawValue)" } }?
            .value
    }

    private static let onTables = [
        "made": "8 s", "nice": "16 s", "realnvp": "5 s", "maf": "3 s", "spline": "5 s", "spline-coupling": "15 s",
        "naf": "9 s", "planar": "20 s", "radial": "20 s", "vae": "6 s", "ar": "1 s", "tabular": "1 s",
    ]

    private static let onImages = [
        "pixelcnn": "6 min", "gated-pixelcnn": "18 min", "pixelcnnpp": "45 min", "image-transformer": "45 min",
        "glow": "3 min", "realnvp-image": "14 min",
    ]

    private static let onDensities = [
        "maf": "90 s", "spline": "2 min", "realnvp": "80 s", "planar": "1 min",
        "ffjord": "15 min", "flow-matching": "6 min",
    ]

    private static let durations = [
        "wavenet": "half an hour or more for 20 minutes at 8 kHz", "bytenet": "45 min for a megabyte",
        "ar-sunspots": "1 s", "made-glyphs": "35 s", "made-mnist": "3 min", "made-mnist-8000": "12 min",
        "made-adult": "16 s",
        "made-connect4": "20 s", "made-dna": "2 s", "made-mushrooms": "4 s", "made-nips": "7 s",
        "nade-adult": "90 s", "nade-connect4": "4 min", "nade-dna": "3 min", "nade-mushrooms": "2 min",
        "nade-nips": "1 min",
        "bengio-mushrooms": "15 s", "fvbn-mnist": "1 min", "rnade-housing": "10 s",
        "rnade-parkinsons": "1 min", "rnade-whitewine": "90 s", "nade-mnist": "40 min or more",
        "orderless-nade-mnist": "an hour",
        "fvbn-glyphs": "1 s", "bengio-glyphs": "15 s", "nade-glyphs": "4 min", "orderless-nade-glyphs": "8 min",
        "row-lstm-mnist": "40 min", "diagonal-bilstm-mnist": "20 min",
        "lstm-glyphs": "8 min", "gru-glyphs": "8 min", "row-lstm-glyphs": "13 min", "diagonal-bilstm-glyphs": "9 min",
        "gated-pixelcnn-glyphs": "5 min", "pixelcnnpp-glyphs": "5 min", "vpn-glyphs": "1 min",
        "wavenet-glyphs": "1 min",
        "pixelcnn-glyphs": "2 min", "image-transformer-glyphs": "8 min", "pixelcnn-mnist": "15 to 20 min",
        "pixelcnn-mnist-long": "2 hours", "gated-pixelcnn-mnist": "27 min", "pixelcnnpp-cifar": "4 min",
        "vpn-moving-mnist": "5 min", "wavenet-digits": "4 min", "bytenet-shakespeare": "22 min",
        "bytenet-reversal": "2 min", "lstm-shakespeare": "14 min", "maf-bsds300": "14 min", "realnvp-bsds300": "14 min",
        "nice-mnist": "4 min",
        "maf-mnist": "5 min", "realnvp-mnist": "27 min", "glow-mnist": "12 min", "glow-mnist-prior": "5 min",
        "glow-mnist-classes": "5 min", "glow-cifar": "3 min", "videoflow-moving-mnist": "20 min",
        "videoflow-moving-mnist-independent": "15 min",
        "vae-iaf-mnist": "3 min", "vae-planar-mnist": "5 min",
    ]
}
