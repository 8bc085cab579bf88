import Datasets
import Lab
import Likelihood
import Models
import Training

extension Experiment {
    /// MADE on images whose exact likelihood is known, drawn anew for every epoch.
    static let madeGlyphs = Experiment(
        name: "made-glyphs",
        summary: "MADE on ten glyphs at random offsets with flipped pixels, beside the generator's own likelihood",
        paper: "Germain et al. 2015", paperNats: nil,
        configuration: RunConfiguration(MADE.Settings { $0.hidden = [512, 512] }) {
            $0.epochs = 100
            $0.learningRate = 0.002
            $0.schedule = .cosine
            $0.finalRate = 0.01
            $0.samples = 100
        },
        load: { _, _ in try glyphs() })

    /// The images, with the generator's own likelihood.
    /// - Parameter shape: how the 80 pixels of an example lie.
    static func glyphs(of shape: [Int] = [1, Glyphs.height, Glyphs.width]) throws -> ExperimentData {
        let glyphs = Glyphs(seed: 2015)
        let epochSize = 20_000
        var data = ExperimentData(
            try Dataset(
                name: "glyphs", train: glyphs.draw(.train, count: epochSize), valid: glyphs.draw(.valid, count: 2_000),
                test: glyphs.draw(.test, count: 5_000), exampleShape: shape))
        data.trainingExamples = { glyphs.draw(.train, start: $0 * epochSize, count: epochSize) }
        data.optimum = { glyphs.logProbability($0) }
        return data
    }
}
