import Compiler
import Datasets
import Graph
import Likelihood

/// A figure of a simple model on the same test examples, to be read beside a run's own.
public struct Baseline: Codable, Sendable {
    public let name: String
    /// Mean negative log-likelihood of an example.
    public let nats: Double

    public init(name: String, nats: Double) { (self.name, self.nats) = (name, nats) }
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
        let width = dataset.variableCount
        var counts = [Double](repeating: 1, count: width * levels)
        dataset.train.forEachBlock { values in
            for (i, value) in values.enumerated() { counts[i % width * levels + Int(value)] += 1 }
        }
        let total = Double(dataset.train.shape[0] + levels)
        var sum = 0.0
        dataset.test.forEachBlock { values in
            for (i, value) in values.enumerated() {
                sum -= Math.log(counts[i % width * levels + Int(value)] / total)
            }
        }
        return Baseline(name: "independent variables", nats: sum / Double(dataset.test.shape[0]))
    }

    /// A Gaussian with any covariance, fitted to the training set, in the units of the data. A little of each variance is added where
    /// columns are so dependent that the covariance has no inverse.
    /// - Returns: `nil` where that does not help, or would take more than seconds.
    public static func gaussian(_ dataset: Dataset) -> Baseline? {
        let (width, count) = (dataset.variableCount, dataset.train.shape[0])
        // With fewer examples the covariance is none of a density.
        guard count > width, Double(count) * Double(width * width) <= 4e9 else { return nil }
        var mean = [Double](repeating: 0, count: width)
        dataset.train.forEachBlock { values in
            for (i, value) in values.enumerated() { mean[i % width] += Double(value) / Double(count) }
        }
        var covariance = [Double](repeating: 0, count: width * width)
        dataset.train.forEachBlock { values in
            for start in stride(from: 0, to: values.count, by: width) {
                let centred = (0..<width).map { Double(values[start + $0]) - mean[$0] }
                for i in 0..<width {
                    for j in 0...i { covariance[i * width + j] += centred[i] * centred[j] / Double(count) }
                }
            }
        }
        guard let factor = cholesky(covariance, width) else { return nil }
        let logDeterminant = (0..<width).reduce(0) { $0 + Math.log(factor[$1 * width + $1]) }
        var sum = 0.0
        dataset.test.forEachBlock { values in
            for start in stride(from: 0, to: values.count, by: width) {
                var z = (0..<width).map { Double(values[start + $0]) - mean[$0] }
                for i in 0..<width {
                    for j in 0..<i { z[i] -= factor[i * width + j] * z[j] }
                    z[i] /= factor[i * width + i]
                }
                sum += z.reduce(0) { $0 + $1 * $1 } / 2
            }
        }
        let nats = sum / Double(dataset.test.shape[0]) + logDeterminant + Double(width) * 0.9189385332046727
        return Baseline(name: "Gaussian with full covariance", nats: nats)
    }

    /// The lower factor of a symmetric matrix whose lower half is given; `nil` where it is not positive definite even with a millionth of
    /// its diagonal added.
    private static func cholesky(_ matrix: [Double], _ n: Int) -> [Double]? {
        for share in [0, 1e-12, 1e-9, 1e-6] {
            var l = matrix
            for i in 0..<n { l[i * n + i] *= 1 + share }
            var isPositive = true
            for j in 0..<n where isPositive {
                for k in 0..<j { l[j * n + j] -= l[j * n + k] * l[j * n + k] }
                isPositive = l[j * n + j] > 1e-14 * matrix[j * n + j]
                l[j * n + j] = l[j * n + j].squareRoot()
                for i in j + 1..<max(n, j + 1) {
                    for k in 0..<j { l[i * n + j] -= l[i * n + k] * l[j * n + k] }
                    l[i * n + j] /= l[j * n + j]
                }
            }
            if isPositive { return l }
        }
        return nil
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

extension HostArray {
    /// The rows as floats, some thousands of numbers at a time: all of them may be more than memory holds.
    fileprivate func forEachBlock(_ body: ([Float]) -> Void) {
        let rows = max(1, (1 << 16) / max(1, shape[1]))
        for start in stride(from: 0, to: shape[0], by: rows) {
            body(self.rows(start..<min(shape[0], start + rows)).floats)
        }
    }
}
