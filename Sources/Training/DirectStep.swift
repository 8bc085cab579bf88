import Datasets
import Graph
import Likelihood

/// The one step of a model that is fitted at once.
final class DirectStep: TrainingStep {
    private let run: Run
    private let model: any DirectlyFittedModel
    private(set) var isConverged = false

    init(_ run: Run, _ model: any DirectlyFittedModel) { (self.run, self.model) = (run, model) }

    var keptStates: [(name: String, shape: [Int])] { [] }
    var batchesPerStep: Int? { nil }
    var plannedBytes: Int { 0 }

    func run(_ batches: StepBatches) throws -> StepLoss? {
        var values: [Float] = []
        for batch in 0..<batches.count { values += batches.feeds(batch).feeds["x"]?.floats ?? [] }
        let rows = HostArray(values, shape: [batches.examples, run.model.variableCount])
        for (parameter, value) in try model.fitted(to: rows) { try run.states.set(parameter, value) }
        isConverged = true
        return .known(Estimate(try run.figures(Examples(rows))).mean)
    }

    func firstNonFinite(_ batches: StepBatches) throws -> String? { nil }
}
