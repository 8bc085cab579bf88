import Datasets
import Graph
import Lab
import Likelihood
import Models
import Training

/// 8 x 8 patches of natural images as the flow papers use them: uniform noise is added, the result divided by 256, each
/// patch's mean subtracted, and the last pixel, which the others now give, left out: 63 dimensions.
private func patches(_ folder: String) throws -> ExperimentData {
    let path = "\(folder)/bsds300/patches8x8_uint8.npz"
    let raw = try Dataset(
        npz: path, name: "bsds300", exampleShape: [64],
        source: "It holds grey 8 x 8 patches of the BSDS300 images as the arrays train, valid and test of bytes [n, 64]"
    )
    for split in Dataset.Split.allCases where raw.examples(split).type != .uint8 {
        throw FileError(path, "expected bytes, found the \(split) patches as \(raw.examples(split).type)")
    }
    /// - Parameter round: of the noise and, beyond the first, of the symmetry that each patch is turned by.
    @Sendable func prepare(_ split: Dataset.Split, round: Int = 0) -> HostArray {
        let bytes = raw.examples(split)
        let count = bytes.shape[0]
        let noise = HostRandom(seed: 300 + UInt64(round), stream: "bsds300.\(split.rawValue)")
        let values = bytes.floats
        var result = [Float](repeating: 0, count: count * 63)
        var patch = [Double](repeating: 0, count: 64)
        for row in 0..<count {
            let symmetry = round == 0 ? 0 : Int(noise.bits(example: row, variable: 64) % 8)
            var sum = 0.0
            for i in 0..<64 {
                var (y, x) = (i / 8, i % 8)
                if symmetry & 1 != 0 { x = 7 - x }
                if symmetry & 2 != 0 { y = 7 - y }
                if symmetry & 4 != 0 { (x, y) = (y, x) }
                patch[i] = (Double(values[row * 64 + 8 * y + x]) + noise.uniform(example: row, variable: i)) * 0x1p-8
                sum += patch[i]
            }
            for i in 0..<63 { result[row * 63 + i] = Float(patch[i] - sum * 0x1p-6) }
        }
        return HostArray(result, shape: [count, 63])
    }
    var data = ExperimentData(
        try Dataset(name: "bsds300", train: prepare(.train), valid: prepare(.valid), test: prepare(.test)))
    // The patches come from few images: turned and mirrored, with new noise in every epoch, they are hard to learn by heart.
    data.trainingExamples = { prepare(.train, round: $0 + 1) }
    return data
}

extension Experiment {
    /// Log-scales are bounded: a plain MAF with unbounded ones overfits and gives -inf on a few test patches.
    private static func bsds300(
        _ flow: String, summary: String, paper: String, paperNats: Double, epochs: Int
    ) -> Experiment {
        Experiment(
            name: "\(flow)-bsds300", summary: summary, paper: paper, paperNats: paperNats,
            paperTestSet: "17254729cf083eca",
            configuration: RunConfiguration(
                Flow.VectorSettings {
                    $0.flow = flow
                    $0.layers = 10
                    $0.hidden = [512, 512]
                    $0.limit = 3
                    $0.normalization = "actNorm"
                }
            ) {
                $0.batch = 512
                $0.epochs = epochs
                $0.learningRate = 0.0007
                $0.schedule = .cosine
                $0.averaging = 0.999
                $0.clipNorm = 10
                $0.weightDecay = 1e-5
                $0.samples = 0
            },
            load: { _, folder in try patches(folder) })
    }

    static let mafBSDS300 = bsds300(
        "maf", summary: "MAF of 10 layers on natural image patches",
        paper: "Papamakarios et al. 2017, table 1: MAF (10) 154.93", paperNats: -154.93, epochs: 14)

    static let realNVPBSDS300 = bsds300(
        "realnvp", summary: "RealNVP of 10 couplings on natural image patches",
        paper: "Papamakarios et al. 2017, table 1: Real NVP (10) 153.28", paperNats: -153.28, epochs: 30)
}
