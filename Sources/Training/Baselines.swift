import Compiler
import Datasets
import Graph
import Likelihood

/// A figure of a simple model on the same test examples, to be read beside a run's own.
public struct Baseline: Codable, Sendable {
    public let name: String
    /// Mean negative log-likelihood of an example.
    public let nats: Double
}

extension Baseline {
    /// A model that is trained on the device and stopped early on the validation set.
    public static func trained(
        _ name: String, _ configuration: RunConfiguration, on dataset: Dataset, device: any Device
    ) throws -> Baseline {
        let run = try Run(configuration, examples: ExampleShape([dataset.variableCount]), device: device)
        try run.initialize()
        let trainer = try Trainer(run, train: dataset[.train], valid: dataset[.valid], folder: nil)
        try trainer.start()
        _ = try trainer.train()
        try trainer.useBest()
        return Baseline(name: name, nats: try run.evaluate(dataset[.test]).mean)
    }
}

/// Simple models that any other has to beat.
public enum Baselines {
    /// Every variable on its own: its frequencies in the training set, each value counted once more.
    public static func independent(_ dataset: Dataset, levels: Int) -> Baseline {
        let (train, test) = (dataset.train.floats, dataset.test.floats)
        let width = dataset.variableCount
        var counts = [Double](repeating: 1, count: width * levels)
        for (i, value) in train.enumerated() { counts[i % width * levels + Int(value)] += 1 }
        let total = Double(dataset.train.shape[0] + levels)
        var sum = 0.0
        for (i, value) in test.enumerated() { sum -= Math.log(counts[i % width * levels + Int(value)] / total) }
        return Baseline(name: "independent variables", nats: sum / Double(dataset.test.shape[0]))
    }

    /// A Markov model of some order over sequences, its counts smoothed with those of the orders below (Witten and Bell 1991).
    public static func markov(_ dataset: Dataset, levels: Int, order: Int) -> Baseline {
        /// Successors of a context: how often each came.
        struct Context {
            var total = 0
            var counts: [UInt16: Int] = [:]
        }
        var contexts = [[UInt64: Context]](repeating: [:], count: order + 1)
        let width = dataset.variableCount
        func key(_ row: ArraySlice<Float>, _ end: Int, _ length: Int) -> UInt64 {
            (end - length..<end).reduce(0) { $0 * UInt64(levels + 1) + UInt64(row[$1]) + 1 }
        }
        let train = dataset.train.floats
        for start in stride(from: 0, to: train.count, by: width) {
            let row = train[start..<start + width]
            for t in row.indices {
                for length in 0...min(order, t - start) {
                    let symbol = UInt16(row[t])
                    let context = key(row, t, length)
                    contexts[length][context, default: Context()].total += 1
                    contexts[length][context]!.counts[symbol, default: 0] += 1
                }
            }
        }
        let test = dataset.test.floats
        var sum = 0.0
        for start in stride(from: 0, to: test.count, by: width) {
            let row = test[start..<start + width]
            for t in row.indices {
                var p = 1 / Double(levels)
                for length in 0...min(order, t - start) {
                    guard let context = contexts[length][key(row, t, length)] else { break }
                    let kinds = Double(context.counts.count)
                    p = (Double(context.counts[UInt16(row[t])] ?? 0) + kinds * p) / (Double(context.total) + kinds)
                }
                sum -= Math.log(p)
            }
        }
        return Baseline(name: "Markov model of order \(order)", nats: sum / Double(dataset.test.shape[0]))
    }
}
