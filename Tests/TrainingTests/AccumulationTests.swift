import CPU
import Compiler
import Datasets
import Graph
import Likelihood
import Models
import Testing

@testable import Training

/// Steps of several batches, beside those of one large batch.
@Suite struct AccumulationTests {
    private func weights(
        _ optimizer: OptimizerChoice, batch: Int, accumulate: Int, on device: any Device,
        _ change: (inout TrainingSettings) -> Void = { _ in }
    ) throws -> (values: [Float], losses: [Double]) {
        let random = HostRandom(seed: 2, stream: "accumulation")
        let rows = HostArray(
            (0..<230 * 6).map { UInt8(random.uniform(example: $0 / 6, variable: $0 % 6) < 0.3 ? 1 : 0) },
            shape: [230, 6])
        var settings = TrainingSettings()
        (settings.batch, settings.accumulate, settings.epochs, settings.optimizer) = (batch, accumulate, 3, optimizer)
        settings.learningRate = 0.01
        change(&settings)
        // Units are left out by example and step, whatever batch an example is in.
        let model = try MADE([6]) { ($0.hidden, $0.dropout) = ([16], 0.25) }
        let run = try Run(model, settings: settings, device: device)
        try run.initialize()
        var losses: [Double] = []
        let trainer = try Trainer(
            run, train: Examples(rows), valid: Examples(rows), folder: nil,
            report: { if $0.validation == nil { losses.append($0.loss) } })
        try trainer.start()
        _ = try trainer.train()
        try trainer.useBest()
        return (try run.parameters.flatMap { try run.states.get($0.parameter)!.floats }, losses)
    }

    private func expectClose(_ a: [Float], _ b: [Float], _ what: String) {
        let largest = zip(a, b).map { abs($0 - $1) }.max() ?? .infinity
        #expect(a.count == b.count && largest < 2e-5, "\(what): \(largest)")
    }

    /// 230 examples are a step of 150 and one of 80: three batches, then one whole and a part of one.
    @Test(arguments: OptimizerChoice.named.filter { $0 != .lbfgs })
    func severalBatchesAreOneLargeOne(_ optimizer: OptimizerChoice) throws {
        let device = try CPUDevice(threads: 2)
        // Rounding of gradients that all but cancel is divided by its own size at first, unless there is more to divide by.
        func steady(_ settings: inout TrainingSettings) {
            if [.adagrad, .adadelta, .adam, .adamw, .adamax].contains(optimizer) { settings.epsilon = 1e-3 }
        }
        func changed(_ settings: inout TrainingSettings) {
            steady(&settings)
            (settings.clipNorm, settings.averaging, settings.weightDecay) = (0.2, 0.9, 0.01)
        }
        for (name, change) in [("plain", steady), ("clipped, averaged, decayed", changed)] {
            let large = try weights(optimizer, batch: 150, accumulate: 1, on: device, change)
            let small = try weights(optimizer, batch: 50, accumulate: 3, on: device, change)
            expectClose(small.values, large.values, "\(optimizer.name), \(name)")
            #expect(small.losses.count == 6 && large.losses.count == 6)
            for (a, b) in zip(small.losses, large.losses) { #expect(abs(a - b) < 1e-5) }
            // Another number of batches is another step.
            let other = try weights(optimizer, batch: 50, accumulate: 2, on: device, change)
            #expect(zip(other.values, large.values).contains { abs($0 - $1) > 1e-4 }, "\(optimizer.name), \(name)")
        }
    }

    /// What a step keeps between its operations is that of one batch.
    @Test func memoryIsThatOfOneBatch() throws {
        func planned(batch: Int, accumulate: Int) throws -> Int {
            var settings = TrainingSettings()
            (settings.batch, settings.accumulate, settings.optimizer) = (batch, accumulate, .sgd)
            let model = try MADE([20]) { $0.hidden = [100] }
            let run = try Run(model, settings: settings, device: CPUDevice(threads: 1))
            try run.initialize()
            return try run.makeTrainingStep().plannedBytes
        }
        let (small, summed, large) = (
            try planned(batch: 100, accumulate: 1), try planned(batch: 100, accumulate: 16),
            try planned(batch: 1600, accumulate: 1)
        )
        #expect(summed < 2 * small && large > 8 * small, "\(small), \(summed), \(large)")
    }

    @Test func devicesAgree() throws {
        let found = try testDevices().map {
            try weights(.sgd, batch: 50, accumulate: 3, on: $0) { $0.clipNorm = 0.2 }.values
        }
        for other in found.dropFirst() { expectClose(other, found[0], "OpenCL") }
    }
}
