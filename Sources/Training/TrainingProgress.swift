import Datasets

/// What a run has to remember beside arrays.
struct TrainingProgress {
    var epoch = 0
    var stepInEpoch = 0
    var step = 0
    var lossSum = 0.0
    var best = Double.infinity
    var bestEpoch = -1
    var metricsLength = 0
    var isFinished = false

    var metadata: [String: String] {
        [
            "epoch": "\(epoch)", "stepInEpoch": "\(stepInEpoch)", "step": "\(step)",
            "lossSum": "\(lossSum.bitPattern)",
            "best": "\(best.bitPattern)", "bestEpoch": "\(bestEpoch)", "metricsLength": "\(metricsLength)",
            "finished": isFinished ? "1" : "0",
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
        let finished = try integer("finished")
        isFinished = finished == 1
        guard finished <= 1, lossSum.isFinite, !best.isNaN, bestEpoch < epoch, stepInEpoch <= step, epoch <= step
        else {
            throw FileError(path, "has counts that contradict each other; it is damaged")
        }
    }
}
