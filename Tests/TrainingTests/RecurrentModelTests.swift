import Compiler
import Datasets
import Graph
import Layers
import Likelihood
import Models
import Testing
import Training

/// Recurrent networks and PixelRNN as distributions, on every device.
extension NetworkTests {
    private static let recurrent = ["rnn", "lstm", "gru", "row lstm", "diagonal bilstm"]

    private func recurrentModel(_ name: String, _ image: [Int], levels: Int) throws -> any AutoregressiveModel {
        switch name {
        case "row lstm", "diagonal bilstm":
            try PixelRNN(ExampleShape(image)) {
                $0.layer = name == "row lstm" ? .rowLSTM : .diagonalBiLSTM
                $0.levels = levels
                $0.units = 3
                $0.headChannels = 4
            }
        default:
            try RecurrentModel([image.reduce(1, *)]) {
                $0.recurrence = Recurrence(rawValue: name) ?? .lstm
                $0.levels = levels
                $0.units = 4
                $0.layers = 2
            }
        }
    }

    @Test(arguments: recurrent)
    func recurrentModelsSumToOne(_ name: String) throws {
        let binary = Examples((0..<1024).map { code in (0..<10).map { Float(code >> $0 & 1) } })
        let quaternary = Examples((0..<1024).map { code in (0..<5).map { Float(code >> (2 * $0) & 3) } })
        for (examples, image, levels) in [(binary, [1, 2, 5], 2), (quaternary, [1, 5, 1], 4)] {
            let model = try recurrentModel(name, image, levels: levels)
            for device in try devices(levels == 2 ? 2 : 1) {
                let figures = try Self.run(model, device, sharpened: 2).evaluations(examples)
                let sum = figures.reduce(0) { $0 + Math.exp(-$1) }
                #expect(abs(sum - 1) < 1e-5, "\(name), \(levels) levels, \(device.summary): \(sum)")
                #expect((figures.max() ?? 0) - (figures.min() ?? 0) > 0.5)
            }
        }
    }

    /// A draw costs about one pass, is none of full passes, and draws what they draw.
    @Test(arguments: recurrent)
    func recurrentDrawsEqualFullPasses(_ name: String) throws {
        for levels in [2, 5] {
            let model = try recurrentModel(name, [1, 4, 5], levels: levels)
            let x = model.makeInput()
            let (drawn, parameters) = model.draw(x)
            let program = try SamplingProgram(variable: x, drawn: drawn, order: model.order, outputs: [parameters])
            #expect(program.fullPasses == nil, "\(program.fullPasses?.reason ?? "")")
            let pass = contractions(of: [parameters]).reduce(0) { $0 + $1.work.live }
            #expect(
                Double(program.multiplyAdds) <= 1.2 * Double(pass), "\(name): \(program.multiplyAdds), a pass \(pass)")
            let runs = try devices(levels == 2 ? 2 : 1).map { try Self.run(model, $0, sharpened: 2) }
            let naive = try runs[0].sample(count: 40, SamplingOptions(seed: 5, isNaive: true)).examples.floats
            for run in runs {
                let compiled = try run.sample(count: 40, SamplingOptions(seed: 5, batch: 33)).examples.floats
                let same = (0..<40).count { row in
                    (row * 20..<row * 20 + 20).allSatisfy { compiled[$0] == naive[$0] }
                }
                // Rounding may tip a draw that lies on an edge.
                #expect(same >= 39, "\(name), \(run.device.summary): \(same) of 40")
            }
        }
    }
}
