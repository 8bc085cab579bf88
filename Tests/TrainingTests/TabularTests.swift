import CPU
import Compiler
import Datasets
import Graph
import Layers
import Likelihood
import Models
import Testing

@testable import Training

/// Conditionals as tables, beside the counts that they are made of.
@Suite(.serialized) struct TabularTests {
    /// Rows that depend on one another: a variable is likely to be that before it.
    private func rows(_ count: Int, _ width: Int, levels: Int) -> HostArray {
        let random = HostRandom(seed: 8, stream: "tables")
        return HostArray(
            (0..<count).flatMap { row -> [UInt8] in
                var value = 0
                return (0..<width).map { place in
                    if random.uniform(example: row, variable: 2 * place) < 0.6 {
                        value = Int(random.bits(example: row, variable: 2 * place + 1) % UInt32(levels))
                    }
                    return UInt8(value)
                }
            }, shape: [count, width])
    }

    private func fit(
        _ rows: HostArray, levels: Int, smoothing: Double = 1, on device: any Device
    ) throws -> (run: Run, model: TabularConditionals) {
        let model = try TabularConditionals([rows.shape[1]]) { ($0.levels, $0.smoothing) = (levels, smoothing) }
        return (try model.fit(Examples(rows), valid: Examples(rows), on: device, report: { _ in }), model)
    }

    /// Every value of every variable, the last changing first.
    private func all(_ width: Int, levels: Int) -> HostArray {
        let count = (0..<width).reduce(1) { total, _ in total * levels }
        return HostArray(
            (0..<count).flatMap { code -> [UInt8] in
                var (rest, digits) = (code, [UInt8](repeating: 0, count: width))
                for place in (0..<width).reversed() {
                    digits[place] = UInt8(rest % levels)
                    rest /= levels
                }
                return digits
            }, shape: [count, width])
    }

    @Test(arguments: [(10, 2), (5, 4)]) func tablesAreCounts(width: Int, levels: Int) throws {
        let data = rows(700, width, levels: levels)
        let values = (0..<700).map { Array(data.rows($0..<$0 + 1).floats.map { Int($0) }) }
        for device in try testDevices().prefix(2) {
            let (run, model) = try fit(data, levels: levels, smoothing: 0.5, on: device)
            #expect(try model.prove().hasPrefix("proved"))
            let logs = try run.logProbability(all(width, levels: levels))
            #expect(abs(logs.reduce(0) { $0 + Math.exp($1) } - 1) < 1e-5, "\(device.name)")
            // By hand: how often each value followed each beginning.
            for row in [0, 1, 699] {
                var expected = 0.0
                for place in 0..<width {
                    let alike = values.filter { $0[..<place] == values[row][..<place] }
                    let hits = alike.count { $0[place] == values[row][place] }
                    expected += Math.log((Double(hits) + 0.5) / (Double(alike.count) + 0.5 * Double(levels)))
                }
                let found = try run.logProbability(data.rows(row..<row + 1))[0]
                #expect(abs(found - expected) < 1e-5, "\(device.name), row \(row)")
            }
            // Draws are those of full passes, of which the compiled sampler makes none.
            let (drawn, parameters) = model.draw(run.x)
            let program = try SamplingProgram(variable: run.x, drawn: drawn, order: model.order, outputs: [parameters])
            #expect(program.fullPasses == nil)
            let many = try run.sample(count: 4000, SamplingOptions(seed: 2)).examples.floats
            let naive = try run.sample(count: 100, SamplingOptions(seed: 2, isNaive: true)).examples.floats
            #expect(Array(many[..<naive.count]) == naive, "\(device.name)")
            // Two neighbours are alike as often as in the data.
            func share(_ values: [Float]) -> Double {
                let count = values.count / width
                return Double((0..<count).count { values[$0 * width + 2] == values[$0 * width + 3] }) / Double(count)
            }
            #expect(abs(share(many) - share(data.floats)) < 0.06)
        }
    }

    /// Tables too large are refused with their size, and what may be done.
    @Test func growthIsBounded() throws {
        #expect(throws: Never.self) { try TabularConditionals([16]) }
        let error = #expect(throws: UsageError.self) { try TabularConditionals([20]) }
        #expect(
            error?.description
                == "tables of 20 variables of 2 values have 1048575 rows, the last of them 524288; expected at most 65536 (limit). Leave variables out, or take made"
        )
        let four = #expect(throws: UsageError.self) { try TabularConditionals([784]) { $0.levels = 256 } }
        #expect(four?.description.contains("expected at most 65536") == true)
        #expect(throws: UsageError.self) { try TabularConditionals([4]) { $0.smoothing = 0 } }
        let model = try TabularConditionals([8])
        let chart = try #require(try model.chart(of: []) { _ in [] })
        #expect(chart.lines[1].values == [1, 2, 4, 8, 16, 32, 64, 128])
    }

    /// A run of it is a run: one epoch, one step, to the same bits wherever it was stopped.
    @Test func oneStepIsTheWholeRun() throws {
        let data = Examples(rows(300, 6, levels: 2))
        let device = try CPUDevice(threads: 1)
        let model = try TabularConditionals([6])
        let run = try Run(model, device: device)
        try run.initialize()
        let trainer = try Trainer(run, train: data, valid: data, folder: nil)
        try trainer.start()
        #expect(try trainer.train() == .finished)
        #expect(trainer.epochsDone == 1 && trainer.bestEpoch == 1)
        let mean = -Estimate(try run.logProbability(data.rows)).mean
        #expect(abs(trainer.bestValidation - mean) < 1e-9)
    }
}
