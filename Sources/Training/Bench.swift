import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Models

/// The workloads on which the project is measured against its peers, and how one is timed.
public enum Bench {
    /// A line of output.
    public struct Row: Codable, Sendable {
        public var peer = "martlet"
        public let workload: String
        public let what: String
        public let device: String
        public let batch: Int
        public let params: Int
        public let median_ms: Double
        public let min_ms: Double
        public let runs: Int
        public let per_second: Double
        /// Bytes on the device: states, fed buffers and everything planned.
        public let peak_bytes: Int
    }

    public static let workloads =
        ["made", "made-large"] + flows + [
            "pixelcnn", "gated-pixelcnn", "wavenet", "image-transformer", "matmul-2048", "matmul-100x784x500",
            "matmul-512x1024x1024",
        ]

    /// What each workload can time.
    public static func activities(_ workload: String) -> [String] {
        workload.hasPrefix("matmul") ? ["evaluate"] : ["train", "sample"]
    }

    /// - Parameter settings: `key=value`s to change in the workload's configuration, for series; what is timed is then no longer
    ///   the peer's workload.
    public static func run(
        _ workload: String, _ what: String, device: any Device, seconds: Double, settings: [String] = []
    ) throws -> Row {
        switch workload {
        case "matmul-2048": return try product(workload, 2048, 2048, 2048, device, seconds, settings)
        case "matmul-100x784x500": return try product(workload, 100, 784, 500, device, seconds, settings)
        case "matmul-512x1024x1024": return try product(workload, 512, 1024, 1024, device, seconds, settings)
        default:
            var chosen = try Self.workload(workload)
            for setting in settings { try chosen.configuration.set(setting) }
            return try model(workload, chosen, what, device, seconds)
        }
    }

    /// A model, the shape of its examples, how many are drawn, and element i of the batch that is trained on.
    struct Workload {
        var configuration: RunConfiguration
        let examples: ExampleShape
        let sampleBatch: Int
        let value: (Int) -> Float

        init(_ configuration: RunConfiguration, _ shape: [Int], sampleBatch: Int, _ value: @escaping (Int) -> Float) {
            self.configuration = configuration
            examples = ExampleShape(shape)
            self.sampleBatch = sampleBatch
            self.value = value
        }
    }

    private static func workload(_ name: String) throws -> Workload {
        let random = HostRandom(seed: 0, stream: "bench")
        let binary = { (index: Int) -> Float in random.uniform(example: index) < 0.13 ? 1 : 0 }
        switch name {
        case "made", "made-large":
            // 784-hidden-784, Bernoulli, natural order.
            let isLarge = name == "made-large"
            let settings = MADESettings { $0.hidden = isLarge ? [4096, 4096] : [500, 500] }
            return Workload(
                RunConfiguration(settings) { $0.batch = isLarge ? 256 : 100 }, [784], sampleBatch: 100, binary)
        case "pixelcnn":
            return Workload(
                RunConfiguration(PixelCNNSettings()) { $0.batch = 32 }, [1, 28, 28], sampleBatch: 16, binary)
        case "gated-pixelcnn":
            return Workload(
                RunConfiguration(GatedPixelCNNSettings()) { $0.batch = 16 }, [1, 28, 28], sampleBatch: 16, binary)
        case "wavenet":
            return Workload(RunConfiguration(WaveNetSettings()) { $0.batch = 1 }, [8000], sampleBatch: 1) {
                Float(random.bits(example: $0) % 256)
            }
        case "image-transformer":
            return Workload(
                RunConfiguration(ImageTransformerSettings()) { $0.batch = 8 }, [1, 28, 28], sampleBatch: 8, binary)
        case _ where flows.contains(name): return flow(name)
        default:
            throw UsageError("bench: there is no workload “\(name)”; there are \(workloads.joined(separator: ", "))")
        }
    }

    /// A model's training step on one resident batch (forward, backward, optimizer), or a batch drawn.
    private static func model(
        _ name: String, _ workload: Workload, _ what: String, _ device: any Device, _ seconds: Double
    ) throws -> Row {
        let (configuration, examples, sampleBatch) = (workload.configuration, workload.examples, workload.sampleBatch)
        let run = try Run(configuration, examples: examples, device: device)
        try run.initialize()
        let parameterCount = run.model.module.parameterCount
        if what == "sample" {
            let sampler = try Sampler(run, DrawingRequest(), SamplingOptions(), maximumBatch: sampleBatch)
            var seed: UInt64 = 0
            return try time(
                name, what, device, batch: sampleBatch, parameters: parameterCount, seconds, least: 1,
                bytes: run.states.byteCount + sampler.plannedBytes
            ) {
                seed += 1
                _ = try sampler.run(
                    RandomSource.feeds(seed: seed, examples: Array(0..<sampleBatch)), batch: sampleBatch)
            }
        }
        let batch = configuration.batch
        let program = try run.makeTrainingProgram()
        let executable = try device.load(program.schedule, maximumBatch: batch, states: run.states.buffers)
        var arrays = run.stepFeeds(step: 0, rate: 1e-4, examples: Array(0..<batch))
        arrays["x"] = HostArray((0..<batch * examples.count).map(workload.value), shape: [batch, examples.count])
        var feeds: [String: Feed] = [:]
        var bytes = 0
        let names = Set(program.inputs)
        for (name, array) in arrays where names.contains(name) {
            let buffer = try device.makeBuffer(byteCount: array.bytes.count)
            try array.withUnsafeBytes { try buffer.write($0) }
            feeds[name] = .device(buffer)
            bytes += buffer.byteCount
        }
        return try time(
            name, what, device, batch: batch, parameters: parameterCount, seconds, least: 3,
            bytes: executable.plannedBytes + run.states.byteCount + bytes
        ) { _ = try executable.run(feeds, batch: batch) }
    }

    /// A plain float32 product `m x k x n`; the second operand counts as the parameters.
    private static func product(
        _ name: String, _ m: Int, _ k: Int, _ n: Int, _ device: any Device, _ seconds: Double, _ settings: [String]
    ) throws -> Row {
        guard settings.isEmpty else { throw UsageError("--set \(settings[0]): \(name) has no settings") }
        let a = Tensor.input("a", [Extent(m), Extent(k)])
        let b = Tensor.input("b", [Extent(k), Extent(n)])
        let result = Tensor.state("c", [Extent(m), Extent(n)])
        let states = StateStore(device)
        try states.set("c", HostArray(type: .float32, shape: [m, n]))
        // The product stays on the device, as the peer's does.
        let executable = try device.load(
            compile([], updates: [StateUpdate(result, a.matmul(b))]), maximumBatch: 1, states: states.buffers)
        var feeds: [String: Feed] = [:]
        for (name, count) in [("a", m * k), ("b", k * n)] {
            let random = HostRandom(seed: 0, stream: name)
            let buffer = try device.makeBuffer(byteCount: count * 4)
            try HostArray((0..<count).map { Float(random.uniform(example: $0) - 0.5) }).withUnsafeBytes {
                try buffer.write($0)
            }
            feeds[name] = .device(buffer)
        }
        return try time(
            name, "evaluate", device, batch: m, parameters: k * n, seconds, least: 3,
            bytes: executable.plannedBytes + states.byteCount + (m * k + k * n) * 4
        ) { _ = try executable.run(feeds, batch: 1) }
    }

    /// One run to warm up, then runs until the time is over and at least `least`.
    private static func time(
        _ workload: String, _ what: String, _ device: any Device, batch: Int, parameters: Int, _ seconds: Double,
        least: Int, bytes: Int,
        _ body: () throws -> Void
    ) throws -> Row {
        try body()
        let clock = ContinuousClock()
        var times: [Double] = []
        var total = 0.0
        while times.count < least || (total < seconds && times.count < 100_000) {
            let duration = try clock.measure(body)
            let elapsed = Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
            times.append(elapsed * 1e3)
            total += elapsed
        }
        times.sort()
        let median = (times[times.count / 2] + times[(times.count - 1) / 2]) / 2
        let thousandths = { (x: Double) in (x * 1000).rounded() / 1000 }
        return Row(
            workload: workload, what: what, device: device.name, batch: batch, params: parameters,
            median_ms: thousandths(median),
            min_ms: thousandths(times[0]), runs: times.count,
            per_second: (Double(batch) / median * 1e5).rounded() / 100, peak_bytes: bytes)
    }
}
