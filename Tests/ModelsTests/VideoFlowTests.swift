import Bijectors
import CPU
import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Likelihood
import OpenCL
import Testing
import Training

@testable import Models

@Suite(.serialized) struct VideoFlowTests {
    private func makeModel(_ change: (inout Flow.VideoSettings) -> Void = { _ in }) throws -> Flow {
        let settings = Flow.VideoSettings {
            $0.steps = 2
            $0.hidden = 6
            $0.priorHidden = 5
            $0.priorBlocks = 1
            $0.levels = 2
            change(&$0)
        }
        return try #require(settings.makeModel([4, 8, 4], seed: 1) as? Flow)
    }

    /// A run with weights off their starts.
    private func makeRun(_ flow: Flow, _ device: any Device) throws -> Run {
        let run = try Run(flow, device: device)
        try run.initialize()
        for (index, (name, parameter)) in run.parameters.enumerated() {
            let start = parameter.initialValue(named: name, seed: 3).floats
            let moved = start.enumerated().map { $1 + Float(($0 * 37 + index * 11) % 19) / 60 - 0.15 }
            try run.states.set(parameter, HostArray(moved, shape: parameter.shape))
        }
        return run
    }

    private func devices() throws -> [any Device] {
        [try CPUDevice(threads: 2)] + [try? OpenCLDevice.named("opencl")].compactMap { $0 }
    }

    private func videos(_ count: Int, seed: Int = 1) -> [Float] {
        (0..<count * 128).map { Float(($0 * 7919 + $0 / 128 * 31 * seed) % 13 < 5 ? 1 : 0) }
    }

    /// Every claim is proved, that of the frames among them; with frames in the wrong groups it is refused, and so is a prior that reads
    /// the frame behind.
    @Test func noFrameReadsALaterOne() throws {
        let flow = try makeModel()
        let proofs = try flow.proveStructure()
        #expect(proofs.contains { $0.claim == "latents" } && proofs.contains { $0.claim.contains("parameters") })
        let groups = try #require(flow.groups)
        #expect(groups.latents.count == 128 && groups.variables.groupCount == 4)
        for (place, latents) in [("latents", groups.latents.map { max(0, $0 - 1) }), ("order", groups.latents)] {
            let order = Order(index: groups.variables.index.map { place == "order" ? 3 - $0 : $0 })
            let wrong = Flow(
                flow.bijector, base: flow.base, exampleShape: [1, 4, 8, 4],
                groups: LatentGroups(variables: order, latents: latents))
            #expect(throws: DependencyLeak.self, "\(place)") { try wrong.proveStructure() }
        }
        // A frame alone has nothing before it.
        #expect(try makeModel { $0.contextFrames = 0 }.prove().contains("respect their orders"))
    }

    /// Latents of the first frames do not change with the later ones, to the bit; those of later frames do change with the first.
    @Test func latentsOfFirstFramesAreTheirOwn() throws {
        for device in try devices() {
            let flow = try makeModel { $0.dequantization = "uniform" }
            let run = try makeRun(flow, device)
            let groups = try #require(flow.groups)
            var rows = videos(3)
            let before = try run.encode(Examples(HostArray(rows, shape: [3, 128])))
            // Another third frame.
            for row in 0..<3 { for v in 64..<96 { rows[row * 128 + v] = 1 - rows[row * 128 + v] } }
            let after = try run.encode(Examples(HostArray(rows, shape: [3, 128])))
            for frame in 0..<4 {
                let own = groups.latents.indices.filter { groups.latents[$0] == Int32(frame) }
                func values(_ array: HostArray) -> [Float] {
                    let floats = array.floats
                    return (0..<3).flatMap { row in own.map { floats[row * 128 + $0] } }
                }
                let isEqual = values(before) == values(after)
                #expect(isEqual == (frame < 2), "frame \(frame) on \(device.name)")
            }
        }
    }

    /// The devices agree on density and gradients; examples come back from their latents.
    @Test func devicesAgreeAndLatentsComeBack() throws {
        var found: [[[Float]]] = []
        for device in try devices() {
            let flow = try makeModel()
            let run = try makeRun(flow, device)
            let rows = HostArray(videos(5), shape: [5, 128])
            let loss = flow.objective(run.x, run.model.makeContext(.train))
            let outputs =
                try [flow.evaluation(run.x, run.model.makeContext())]
                + gradients(of: loss, with: run.model.parameters.map(\.tensor))
            let schedule = try compile(outputs)
            var feeds = RandomSource.feeds(seed: 3, examples: Array(0..<5))
            feeds["x"] = rows
            found.append(
                try device.load(schedule, maximumBatch: 5, states: run.states.buffers)
                    .run(feeds.mapValues { .host($0) }, batch: 5).map(\.floats))
            let back = try run.decode(run.encode(Examples(rows)))
            #expect(back.floats == rows.floats, "\(device.name)")
        }
        guard found.count == 2 else { return }
        for (a, b) in zip(found[0], found[1]) {
            let scale = max(1, a.map(\.magnitude).max() ?? 0)
            let worst = zip(a, b).map { abs($0 - $1) }.max() ?? 0
            #expect(worst <= 5e-5 * scale, "\(worst) of \(scale)")
        }
    }

    /// Frames that are given come back, what is drawn depends on them, and anything but whole first frames is refused.
    @Test func firstFramesAreGiven() throws {
        let flow = try makeModel { $0.levels = 16 }
        let run = try makeRun(flow, try CPUDevice(threads: 1))
        let rows = videos(6).map { $0 * 9 }
        func mask(_ isGiven: (Int) -> Bool) -> HostArray {
            HostArray((0..<6 * 128).map { isGiven($0 % 128) ? 1 : 0 } as [Float], shape: [6, 128])
        }
        func complete(_ rows: [Float], _ observed: HostArray, approximate: Bool = false) throws -> [Float] {
            try run.complete(
                HostArray(rows, shape: [6, 128]), observed: observed, SamplingOptions(seed: 4),
                isApproximate: approximate
            ).floats
        }
        let one = try complete(rows, mask { $0 < 32 })
        for i in one.indices where i % 128 < 32 { #expect(one[i] == rows[i]) }
        #expect(one.allSatisfy { $0 >= 0 && $0 < 16 && $0 == $0.rounded() })
        // What stands in later frames does not matter, what stands in the given one does.
        let others = rows.enumerated().map { $0 % 128 < 32 ? $1 : 9 - $1 }
        #expect(try complete(others, mask { $0 < 32 }) == one)
        let first = rows.enumerated().map { $0 % 128 < 32 ? 9 - $1 : $1 }
        let moved = try complete(first, mask { $0 < 32 })
        #expect(one.indices.contains { $0 % 128 >= 32 && moved[$0] != one[$0] })
        for wrong in [mask { $0 >= 96 }, mask { $0 < 40 }] {
            let error = #expect(throws: UsageError.self) { try complete(rows, wrong) }
            #expect(error?.description.contains("give whole groups") == true)
            #expect(throws: Never.self) { try complete(rows, wrong, approximate: true) }
        }
        #expect(throws: UsageError.self) {
            let glow = try Run(Flow.glow(channels: 1, height: 4, width: 4, scales: 1, steps: 1, hidden: 2))
            _ = try glow.complete(
                HostArray(type: .float32, shape: [1, 16]), observed: HostArray(type: .float32, shape: [1, 16]))
        }
    }

    /// The noise of the given frames stays in the latents, so that a colder draw is nearer to the mean of its later frames.
    @Test func colderDrawsHaveLessNoise() throws {
        let flow = try makeModel { $0.levels = 0 }
        let run = try makeRun(flow, try CPUDevice(threads: 1))
        func spread(_ temperature: Double) throws -> Double {
            let x = try run.sample(count: 200, SamplingOptions(seed: 2, temperature: temperature)).examples.doubles
            var sum = 0.0
            for v in 0..<128 {
                let column: [Double] = (0..<200).map { x[$0 * 128 + v] }
                let mean: Double = column.reduce(0.0) { $0 + $1 } / 200
                for value in column { sum += (value - mean) * (value - mean) }
            }
            return sum
        }
        #expect(try spread(0.1) < 0.1 * spread(1))
    }

    @Test func wrongSettingsAreRefused() throws {
        let wrong: [((inout Flow.VideoSettings) -> Void, String)] = [
            ({ $0.scales = 3 }, "8 x 4 cannot be halved 3 times"),
            ({ $0.contextFrames = -1 }, "contextFrames: expected 0"),
            ({ $0.dequantization = "none" }, "dequantization: expected uniform or variational, found “none”"),
            ({ $0.levels = 1 }, "levels: expected 0, or 2 to 65536"),
        ]
        for (change, text) in wrong {
            let error = #expect(throws: UsageError.self) { try makeModel(change) }
            #expect(error?.description.contains(text) == true, "\(error?.description ?? "")")
        }
        let videos = DataSummary([5, 7, 8], .binary, count: 10)
        var settings = Flow.VideoSettings()
        #expect(throws: UsageError.self) { try settings.adapt(to: videos) }
        #expect(try settings.adapt(to: DataSummary([5, 6, 8], .levels(4), count: 10)).isEmpty)
        #expect(settings.scales == 1 && settings.levels == 4)
    }
}
