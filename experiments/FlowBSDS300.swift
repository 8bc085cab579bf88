import Datasets
import Graph
import Training

/// 8 x 8 patches of natural images as the flow papers use them: uniform noise is added, the result divided by 256, each
/// patch's mean subtracted, and the last pixel, which the others now give, left out: 63 dimensions.
private func patches(_ folder: String) throws -> ExperimentData {
    let path = "\(folder)/bsds300/patches8x8_uint8.npz"
    let raw = try Dataset(
        npz: path, name: "bsds300",
        source: "It holds grey 8 x 8 patches of the BSDS300 images as the arrays train, valid and test of bytes [n, 64]")
    func prepare(_ split: Dataset.Split) -> HostArray {
        let bytes = raw.examples(split)
        let count = bytes.shape[0]
        let noise = HostRandom(seed: 300, stream: "bsds300.\(split.rawValue)")
        let values = bytes.doubles
        var result = [Float](repeating: 0, count: count * 63)
        for row in 0..<count {
            let patch: [Double] = (0..<64).map {
                (values[row * 64 + $0] + Double(noise.uniform(example: row, variable: $0))) * 0x1p-8
            }
            let mean: Double = patch.reduce(0) { $0 + $1 } * 0x1p-6
            for i in 0..<63 { result[row * 63 + i] = Float(patch[i] - mean) }
        }
        return HostArray(result, shape: [count, 63])
    }
    return ExperimentData(
        try Dataset(name: "bsds300", train: prepare(.train), valid: prepare(.valid), test: prepare(.test)))
}

extension Experiment {
    /// Log-scales are bounded: a plain MAF with unbounded ones overfits and gives -inf on a few test patches.
    static let mafBSDS300 = Experiment(
        name: "maf-bsds300", summary: "MAF of 5 layers on natural image patches",
        paper: "Papamakarios et al. 2017, table 1: MAF (5) 155.69", paperNats: -155.69,
        configuration: RunConfiguration(
            FlowSettings {
                $0.flow = "maf"
                $0.layers = 5
                $0.hidden = [512, 512]
                $0.limit = 3
                $0.normalization = "actNorm"
            }, experiment: "maf-bsds300"
        ) {
            $0.batch = 512
            $0.epochs = 30
            $0.rate = 0.0007
            $0.schedule = .cosine
            $0.averaging = 0.999
            $0.clipNorm = 10
            $0.weightDecay = 1e-5
            $0.samples = 0
        },
        load: { _, folder in try patches(folder) })

    static let realNVPBSDS300 = Experiment(
        name: "realnvp-bsds300", summary: "RealNVP of 10 couplings on natural image patches",
        paper: "Papamakarios et al. 2017, table 1: Real NVP (10) 153.28", paperNats: -153.28,
        configuration: RunConfiguration(
            FlowSettings {
                $0.flow = "realnvp"
                $0.layers = 10
                $0.hidden = [512, 512]
                $0.limit = 3
                $0.normalization = "actNorm"
            }, experiment: "realnvp-bsds300"
        ) {
            $0.batch = 512
            $0.epochs = 30
            $0.rate = 0.0007
            $0.schedule = .cosine
            $0.averaging = 0.999
            $0.clipNorm = 10
            $0.weightDecay = 1e-5
            $0.samples = 0
        },
        load: { _, folder in try patches(folder) })
}
