import Lab

extension Experiment {
    /// Every experiment of the program `martlet`.
    public static let papers: [Experiment] =
        (families + [madeGlyphs, madeMNIST, madeMNISTPaper] + madeUCI + pixelModels + sequenceModels
        + [mafBSDS300, realNVPBSDS300] + flowImages + flowDensities)
        .map { $0.taking(durations[$0.name] ?? $0.name.split(separator: "-").first.flatMap { densities[String($0)] }) }

    /// About how long runs take on two cores of a busy machine, mostly as `docs/results.md` has them; those of families on what is said.
    private static let durations: [String: String] = [
        "made": "8 s for 1600 rows of 11, 20 s for 5000 binary ones of 123",
        "nice": "16 s for 1600 rows of 11", "realnvp": "5 s for 1600 rows of 11", "maf": "3 s for 1600 rows of 11",
        "spline": "5 s for 1600 rows of 11",
        "spline-coupling": "15 s for 1600 rows of 11", "naf": "9 s for 1600 rows of 11",
        "planar": "20 s for 1600 rows of 11",
        "radial": "20 s for 1600 rows of 11", "vae": "6 s for 1600 rows of 11",
        "pixelcnn": "6 min for 1000 of 28 x 28", "gated-pixelcnn": "18 min for 1000 of 28 x 28",
        "pixelcnnpp": "45 min for 1000 of 28 x 28",
        "image-transformer": "45 min for 1000 of 28 x 28", "glow": "3 min for 1000 of 28 x 28",
        "realnvp-image": "14 min for 1000 of 28 x 28",
        "wavenet": "half an hour or more for 20 minutes at 8 kHz", "bytenet": "45 min for a megabyte",
        "vpn": "minutes for hundreds of short, small videos",
        "made-glyphs": "35 s", "made-mnist": "3 min", "made-mnist-8000": "12 min", "made-adult": "16 s",
        "made-connect4": "20 s", "made-dna": "2 s", "made-mushrooms": "4 s", "made-nips": "7 s",
        "pixelcnn-glyphs": "2 min", "image-transformer-glyphs": "8 min", "pixelcnn-mnist": "15 to 20 min",
        "pixelcnn-mnist-long": "2 hours", "gated-pixelcnn-mnist": "27 min", "pixelcnnpp-cifar": "4 min",
        "vpn-moving-mnist": "5 min", "wavenet-digits": "4 min", "bytenet-shakespeare": "22 min",
        "bytenet-reversal": "2 min", "maf-bsds300": "14 min", "realnvp-bsds300": "14 min", "nice-mnist": "4 min",
        "maf-mnist": "5 min", "realnvp-mnist": "27 min", "glow-mnist": "12 min", "glow-cifar": "3 min",
        "vae-iaf-mnist": "3 min", "vae-planar-mnist": "5 min",
    ]

    /// Those of the flows of densities in the plane.
    private static let densities = ["maf": "90 s", "spline": "2 min", "realnvp": "80 s", "planar": "1 min"]
}
