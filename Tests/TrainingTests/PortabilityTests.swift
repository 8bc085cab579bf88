import CPU
import Compiler
import Datasets
import Graph
import Likelihood
import OpenCL
import Testing
import Training

@testable import Models

/// What a GPU that nobody has tried has to get right: small models train and draw on it as on the processor. `make test-rusticl` runs this
/// alone on an implementation of OpenCL that calls itself one.
@Suite(.serialized) struct PortabilityTests {
    private struct Case: Sendable, CustomTestStringConvertible {
        let name: String
        let examples: ExampleShape
        let settings: @Sendable () -> any ModelSettings
        var testDescription: String { name }
    }

    private static let cases = [
        Case(name: "made", examples: [10]) { MADE.Settings { $0.hidden = [24, 17] } },
        Case(name: "nade", examples: [10]) { NADE.Settings { $0.hidden = 7 } },
        Case(name: "pixelcnn", examples: [1, 5, 6]) {
            PixelCNN.Settings {
                $0.channels = 6
                $0.blocks = 1
            }
        },
        Case(name: "lstm", examples: [12]) { RecurrentModel.Settings { $0.units = 9 } },
        Case(name: "transformer", examples: [1, 4, 5]) {
            ImageTransformer.Settings {
                $0.width = 8
                $0.heads = 2
                $0.blocks = 1
            }
        },
    ]

    /// The first OpenCL device, if it is a GPU or says so.
    private static let gpu = (try? OpenCLDevice.named("opencl")).flatMap { $0.family == .gpu ? $0 : nil }

    @Test(
        .enabled(if: gpu != nil, "the first OpenCL device is no GPU; other tests compare both families on it"),
        arguments: cases)
    private func trainsAndDrawsAsTheProcessor(_ one: Case) throws {
        let count = 20
        let rows = (0..<count).map { row in (0..<one.examples.count).map { Float((row * 7 + $0 * $0) % 3 == 0 ? 1 : 0) }
        }
        let configuration = RunConfiguration(one.settings()) {
            $0.batch = count
            $0.optimizer = .sgd
        }
        var expected: (losses: [Float], weights: [[Float]], drawn: [[Float]])?
        for device in [try CPUDevice(threads: 2), try #require(Self.gpu)] as [any Device] {
            let run = try Run(configuration, examples: one.examples, device: device)
            try run.initialize()
            let program = try run.makeTrainingProgram()
            let step = try device.load(program.schedule, maximumBatch: count, states: run.states.buffers)
            let losses = try (0..<3).map { index in
                var feeds = run.stepFeeds(step: index, rate: 0.01, examples: Array(0..<count))
                feeds.merge(Examples(rows).feeds) { $1 }
                let known = feeds.filter { program.inputs.contains($0.key) }.mapValues { Feed.host($0) }
                return try step.run(known, batch: count)[0].floats[0]
            }
            let weights = try run.model.parameters.map { try #require(try run.states.get($0)).floats }
            let drawn = try run.sample(count: 100, SamplingOptions(seed: 4)).examples.floats
            let width = one.examples.count
            let images = (0..<100).map { Array(drawn[$0 * width..<($0 + 1) * width]) }
            guard let expected else {
                #expect(losses[2] < losses[0] && Set(images).count > 20)
                expected = (losses, weights, images)
                continue
            }
            #expect(zip(losses, expected.losses).allSatisfy { abs($0 - $1) < 1e-4 * abs($1) }, "\(device.summary)")
            for (own, other) in zip(weights, expected.weights) {
                #expect(zip(own, other).allSatisfy { abs($0 - $1) < 1e-4 }, "\(device.summary)")
            }
            let same = zip(images, expected.drawn).count { $0 == $1 }
            #expect(same >= 99, "\(device.summary): \(same) of 100 draws")
        }
    }
}
