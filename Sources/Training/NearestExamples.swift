import Compiler
import Datasets
import Graph
import Likelihood

/// For each of some examples the one of a training set that lies nearest: whoever looks at samples wants to know whether they
/// were learnt by heart. The search is in float32: rows that it cannot tell apart count as equally near.
public struct NearestExamples: Sendable {
    /// Rows of the training set.
    public let rows: [Int]
    /// Euclidean distances, in the units of the data.
    public let distances: [Double]

    /// - Parameters:
    ///   - examples: `[count, variables]`.
    ///   - train: `[examples, variables]`; of equally near ones the first counts.
    /// - Throws: `UsageError` unless the widths agree, and what the device throws.
    public init(to examples: HostArray, in train: HostArray, on device: any Device) throws {
        let (count, width, total) = (examples.shape[0], train.shape[1], train.shape[0])
        guard examples.shape == [count, width], count > 0 else {
            throw UsageError(
                "the examples are \(examples.shape); expected [count, \(width)], as wide as the training set")
        }
        let (batch, chunk) = (min(count, 256), min(total, 4096))
        let x = Tensor.input("x", [.batch, Extent(width)])
        let y = Tensor.input("y", [Extent(chunk), Extent(width)])
        // |x - y|^2 without |x|^2, which is the same for every y.
        let score = y.squared().sum(axes: [1]) - 2 * x.matmul(y.transposed([1, 0]))
        let program = try device.load(compile([score]), maximumBatch: batch, states: [:])
        var best = [(score: Float, row: Int)](repeating: (.infinity, 0), count: count)
        // The last chunk overlaps the one before it, where the set does not divide.
        for start in stride(from: 0, to: total, by: chunk).map({ min($0, total - chunk) }) {
            let part = train.rows(start..<start + chunk)
            let candidates = Feed.host(HostArray(part.floats, shape: part.shape))
            for first in stride(from: 0, to: count, by: batch) {
                let range = first..<min(count, first + batch)
                let queries = examples.rows(range)
                let scores = try program.run(
                    ["x": .host(HostArray(queries.floats, shape: queries.shape)), "y": candidates], batch: range.count
                )[0].floats
                for (i, value) in scores.enumerated() where value < best[first + i / chunk].score {
                    best[first + i / chunk] = (value, start + i % chunk)
                }
            }
        }
        rows = best.map(\.row)
        distances = rows.indices.map { i in
            let (a, b) = (examples.rows(i..<i + 1).floats, train.rows(best[i].row..<best[i].row + 1).floats)
            return zip(a, b).reduce(0) { $0 + Double(($1.0 - $1.1) * ($1.0 - $1.1)) }.squareRoot()
        }
    }

    /// The rows themselves, in the order of the examples.
    public func examples(of train: HostArray) -> HostArray {
        HostArray(
            rows.flatMap { train.rows($0..<$0 + 1).floats }, shape: [rows.count, train.shape[1]])
    }
}
