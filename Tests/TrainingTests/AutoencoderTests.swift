import CPU
import Compiler
import Datasets
import Graph
import Likelihood
import Models
import OpenCL
import Testing
import Training

/// Autoencoders: codes, corruption, the Markov chain, and what they lack beside a masked one.
@Suite(.serialized) struct AutoencoderTests {
    /// A few patterns of eight variables, which an autoencoder of few numbers can hold.
    private static let patterns = Examples(
        (0..<256).map { row in (0..<8).map { [15, 240, 51, 204][row % 4] >> $0 & 1 == 1 ? 1 : 0 } as [Float] })
    private static let everything = Examples((0..<256).map { code in (0..<8).map { Float(code >> $0 & 1) } })

    private func train(_ model: any LikelihoodModel, epochs: Int = 30) throws -> Run {
        try model.fit(
            Self.patterns, on: CPUDevice(threads: 2),
            {
                $0.epochs = epochs
                $0.batch = 16
                $0.learningRate = 0.01
            }, report: { _ in })
    }

    /// The product of an autoencoder's outputs over all x sums to no one, by far; a MADE of as many units does.
    @Test func productsOfUnmaskedOutputsAreNoDistribution() throws {
        func total(_ model: any LikelihoodModel) throws -> Double {
            try train(model).evaluations(Self.everything).reduce(0) { $0 + Math.exp(-$1) }
        }
        let unmasked = try total(
            Autoencoder([8]) {
                $0.hidden = [16]
                $0.code = 16
            })
        let masked = try total(MADE([8]) { $0.hidden = [16, 16] })
        #expect(abs(masked - 1) < 1e-5, "\(masked)")
        // It learns to copy, and then gives every x a probability near one.
        #expect(unmasked > 3, "\(unmasked)")
    }

    /// A narrow code holds the four patterns, by dense layers and by convolutions.
    @Test(arguments: [[], [6, 8]] as [[Int]]) func reconstructs(_ channels: [Int]) throws {
        var shape = ExampleShape([8])
        if !channels.isEmpty { shape = ExampleShape([1, 2, 4]) }
        let model = try Autoencoder(shape) {
            $0.channels = channels
            $0.hidden = [16]
            $0.code = 2
        }
        let run = try train(model, epochs: 60)
        let codes = try run.encode(Self.patterns[0..<4])
        #expect(codes.shape == [4, 2])
        #expect(try run.decode(codes).floats == Self.patterns[0..<4].rows.floats)
        let line = try run.interpolate(Self.patterns.rows.rows(0..<1), Self.patterns.rows.rows(1..<2), count: 5)
        #expect(line.floats.prefix(8).elementsEqual(Self.patterns[0..<1].rows.floats))
        #expect(line.floats.suffix(8).elementsEqual(Self.patterns[1..<2].rows.floats))
        // Without corruption there is nothing to draw from.
        let problem = #expect(throws: UsageError.self) { _ = try run.sample(count: 1) }
        #expect(problem?.description.contains("corruption=masking:0.3") == true)
    }

    @Test func codesAreSparse() throws {
        func meanActivation(_ sparsity: String) throws -> Double {
            let run = try train(
                Autoencoder([8]) {
                    $0.hidden = []
                    $0.code = 32
                    $0.sparsity = sparsity
                })
            let codes = try run.encode(Self.patterns).doubles
            return codes.reduce(0) { $0 + abs($1) } / Double(codes.count)
        }
        let (plain, absolute) = (try meanActivation("none"), try meanActivation("l1:0.5"))
        #expect(absolute < 0.3 * plain, "\(absolute) of \(plain)")
        let rate = try meanActivation("kl:0.1:10")
        #expect(abs(rate - 0.1) < 0.04, "\(rate)")
    }

    /// The chain forgets where it begins and visits all patterns that it was trained on; both devices draw the same.
    @Test(arguments: ["masking:0.25", "saltpepper:0.2", "gaussian:0.5"])
    func denoisingDrawsItsPatterns(_ corruption: String) throws {
        let model = try Autoencoder([8]) {
            $0.hidden = [32]
            $0.code = 16
            $0.corruption = corruption
            $0.steps = 20
        }
        let run = try train(model, epochs: 40)
        let drawn = try run.sample(count: 400, SamplingOptions(seed: 3)).examples
        let known = (0..<4).map { row in Self.patterns.rows.rows(row..<row + 1).floats }
        let found = (0..<400).map { row in known.firstIndex(of: drawn.rows(row..<row + 1).floats) }
        let counts = (0..<4).map { pattern in found.count { $0 == pattern } }
        #expect(counts.reduce(0, +) > 200, "\(counts)")
        #expect((counts.min() ?? 0) >= 5, "\(counts)")
        // The same bits but where rounding tips a draw.
        for device in try testDevices().dropFirst().prefix(1) {
            let other = try Run(model, device: device)
            for parameter in model.parameters {
                try other.states.set(parameter, try #require(try run.states.get(parameter)))
            }
            let same = try other.sample(count: 400, SamplingOptions(seed: 3)).examples
            let equal = (0..<400).count { drawn.rows($0..<$0 + 1).floats == same.rows($0..<$0 + 1).floats }
            #expect(equal >= 396, "\(equal) of 400 on \(device.summary)")
        }
    }

    @Test(
        arguments: [
            ("corruption", "masking:1"), ("corruption", "blur:2"), ("corruption", "gaussian"), ("sparsity", "l1"),
            ("sparsity", "kl:2:1"), ("sparsity", "l1:-1"), ("code", "0"), ("channels", "8"),
        ])
    func refusesWhatItCannot(_ setting: String, _ value: String) throws {
        let problem = #expect(throws: UsageError.self) {
            _ = try Autoencoder([8]) {
                switch setting {
                case "corruption": $0.corruption = value
                case "sparsity": $0.sparsity = value
                case "code": $0.code = 0
                default: $0.channels = [8]
                }
            }
        }
        #expect(problem?.description.contains("expected") == true || setting == "channels")
    }
}
