import Compiler
import Datasets
import Models
import Training

/// A fully visible belief network (Frey et al. 1996): every conditional is a logistic regression on the variables before it. A MADE
/// without hidden layers.
func logisticBaseline(_ dataset: Dataset, levels: Int, epochs: Int, on device: any Device) throws -> Baseline {
    let settings = MADE.Settings {
        $0.hidden = []
        // Many levels: the regression gives location and scale of a discretized logistic.
        $0.conditional = levels == 2 ? "bernoulli" : "logistics:1:\(levels)"
    }
    let configuration = RunConfiguration(settings) {
        $0.epochs = epochs
        $0.learningRate = levels == 2 ? 0.01 : 0.0003
        $0.optimizer = .adamw
        $0.weightDecay = levels == 2 ? 0 : 0.1
        $0.schedule = .cosine
    }
    return try .trained("logistic (FVBN)", configuration, on: dataset, device: device)
}
