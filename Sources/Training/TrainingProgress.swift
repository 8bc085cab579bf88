import Datasets

/// What a run has to remember beside arrays.
struct TrainingProgress {
    var epoch = 0
    var stepInEpoch = 0
    var step = 0
    var lossSum = 0.0
    var best = Double.infinity
    var bestEpoch = -1
    /// Bytes of `metrics.jsonl`, and its last lines, from which they are written again if the file was lost or cut short.
    var metricsLength = 0
    var metricsEnd = ""
    var isFinished = false

    /// Lines of the metrics that are kept here: so many that most runs have no more, so few that saving takes no longer by them.
    private static let mostOfMetrics = 1 << 16

    /// Counts a line of the metrics, without its line break.
    mutating func add(metrics line: String) {
        metricsLength += line.utf8.count + 1
        metricsEnd += line + "\n"
        guard metricsEnd.utf8.count > Self.mostOfMetrics else { return }
        let half = metricsEnd.utf8.index(metricsEnd.startIndex, offsetBy: Self.mostOfMetrics / 2)
        metricsEnd = metricsEnd[half...].firstIndex(of: "\n").map { String(metricsEnd[$0...].dropFirst()) } ?? ""
    }

    var metadata: [String: String] {
        [
            "epoch": "\(epoch)", "stepInEpoch": "\(stepInEpoch)", "step": "\(step)",
            "lossSum": "\(lossSum.bitPattern)",
            "best": "\(best.bitPattern)", "bestEpoch": "\(bestEpoch)", "metricsLength": "\(metricsLength)",
            "metricsEnd": metricsEnd, "finished": isFinished ? "1" : "0",
        ]
    }

    init() {}

    init(_ metadata: [String: String], _ path: String) throws {
        func integer(_ key: String, from least: Int = 0) throws -> Int {
            // No run comes near the upper end, and sums of numbers below it do not overflow.
            guard let text = metadata[key], let value = Int(text), (least...1 << 59).contains(value) else {
                throw FileError(path, "does not name its \(key); it is not a run's state")
            }
            return value
        }
        func double(_ key: String) throws -> Double {
            guard let text = metadata[key], let bits = UInt64(text) else {
                throw FileError(path, "does not name its \(key); it is not a run's state")
            }
            return Double(bitPattern: bits)
        }
        epoch = try integer("epoch")
        stepInEpoch = try integer("stepInEpoch")
        step = try integer("step")
        lossSum = try double("lossSum")
        best = try double("best")
        bestEpoch = try integer("bestEpoch", from: -1)
        metricsLength = try integer("metricsLength")
        // Older states do not have it.
        metricsEnd = metadata["metricsEnd"] ?? ""
        let finished = try integer("finished")
        isFinished = finished == 1
        guard finished <= 1, lossSum.isFinite, !best.isNaN, bestEpoch < epoch, stepInEpoch <= step, epoch <= step,
            metricsEnd.utf8.count <= metricsLength
        else {
            throw FileError(path, "has counts that contradict each other; it is damaged")
        }
    }
}
