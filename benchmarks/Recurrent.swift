import Distributions
import Graph
import Lab
import Layers
import Likelihood
import Models
import Training

extension Workload {
    static let recurrent: [Workload] = [
        // 100 steps of 512 real inputs, 512 units, the mean square of the outputs.
        Workload(
            "lstm", RunConfiguration(RecurrentSquares.Settings()) { $0.batch = 64 }, [100 * 512], sampleBatch: 64,
            normal),
        Workload(
            "row-lstm", RunConfiguration(PixelRNN.Settings { $0.layer = .rowLSTM }) { $0.batch = 16 }, [1, 28, 28],
            sampleBatch: 16, binary),
        Workload(
            "diagonal-bilstm", RunConfiguration(PixelRNN.Settings()) { $0.batch = 16 }, [1, 28, 28], sampleBatch: 16,
            binary),
    ]
}

/// A recurrent layer by itself: the loss is the mean square of its outputs.
private struct RecurrentSquares: ConfiguredModel {
    let network: RecurrentStack
    let examples: ExampleShape
    let inputs: Int

    struct Settings: ModelSettings {
        var recurrence = Recurrence.lstm
        /// Numbers that each step reads; an example holds those of all steps.
        var inputs = 512
        var units = 512
        var layers = 1

        func validate(_ examples: ExampleShape) throws {
            try require(inputs, "inputs", in: 1...examples.count)
            try require(units, "units", in: 1...65536)
            try require(layers, "layers", in: 1...64)
            try require(
                examples.count % inputs == 0, "inputs: expected a divisor of \(examples.count), found \(inputs)")
        }

        func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try RecurrentSquares(examples, self)
        }
    }

    init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        inputs = settings.inputs
        network = RecurrentStack(settings.recurrence, settings.inputs, settings.units, layers: settings.layers)
    }

    var domain: VariableDomain { .real }
    var metric: Metric { .squaredError }

    private func outputs(_ x: Tensor, _ context: Context) -> Tensor {
        let steps = Extent(variableCount / inputs)
        return network(x.reshaped([x.shape[0], steps, Extent(inputs)]).transposed([1, 0, 2]), context).outputs
    }

    func evaluation(_ x: Tensor, _ context: Context) -> Tensor { outputs(x, context).squared().sum(axes: [0, 2]) }
    func objective(_ x: Tensor, _ context: Context) -> Tensor { outputs(x, context).squared().mean() }
}
