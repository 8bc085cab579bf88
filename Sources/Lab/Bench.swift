import Compiler
import Datasets
import Distributions
import Graph
import Likelihood
import Training

/// Something that `bench` can time: a model's training step and draw, or a plain product of matrices.
public struct Workload: Sendable {
    public let name: String
    let kind: Kind

    enum Kind: Sendable {
        case model(@Sendable () throws -> Model)
        /// Float32, `m x k x n`.
        case product(Int, Int, Int)
    }

    /// A model, the shape of its examples, how many are drawn, and the batch that is trained on.
    struct Model: Sendable {
        var configuration: RunConfiguration
        let examples: ExampleShape
        let sampleBatch: Int
        let batch: @Sendable (_ count: Int) -> Examples
    }

    /// - Parameter value: element i of the batch that is trained on, the examples' elements counted one after the other.
    public init(
        _ name: String, _ configuration: RunConfiguration, _ examples: ExampleShape, sampleBatch: Int,
        _ value: @escaping @Sendable (Int) -> Float
    ) {
        self.name = name
        let model = Model(configuration: configuration, examples: examples, sampleBatch: sampleBatch) { count in
            Examples(HostArray((0..<count * examples.count).map(value), shape: [count, examples.count]))
        }
        kind = .model { model }
    }

    /// A product of matrices `m x k` and `k x n`.
    public init(_ name: String, product m: Int, _ k: Int, _ n: Int) {
        self.name = name
        kind = .product(m, k, n)
    }

    /// An experiment's own model on its first training examples.
    init(_ experiment: Experiment, dataFolder: String) {
        name = experiment.name
        kind = .model {
            let data = try experiment.data(experiment.configuration, dataFolder: dataFolder)
            let train = data.dataset[.train]
            return Model(configuration: experiment.configuration, examples: data.examples, sampleBatch: 64) { count in
                train[(0..<count).map { $0 % train.count }]
            }
        }
    }

    /// What can be timed of it.
    var activities: [String] {
        if case .product = kind { return ["evaluate"] }
        return ["train", "sample"]
    }
}

/// How a workload is timed.
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
        /// Where the floor was asked for: the least time that the step's work takes at this machine's rates of the same minute, what it
        /// is made of, and the median over it.
        public var floor_ms: Double?
        public var over_floor: Double?
        public var work: StepWork?
        public var rates: FloorRates?
    }

    /// - Parameter settings: `key=value`s to change in the workload's configuration, for series; what is timed is then no longer
    ///   the peer's workload.
    /// - Returns: nothing for a draw of a model that does not draw.
    public static func run(
        _ workload: Workload, _ what: String, device: any Device, seconds: Double, settings: [String] = [],
        withFloor: Bool = false
    ) throws -> Row? {
        switch workload.kind {
        case .product(let m, let k, let n):
            return try product(workload.name, m, k, n, device, seconds, settings)
        case .model(let make):
            var model = try make()
            for setting in settings { try model.configuration.set(setting) }
            return try Self.model(workload.name, model, what, device, seconds, withFloor)
        }
    }

    /// A model's training step on one resident batch (forward, backward, optimizer), or a batch drawn.
    private static func model(
        _ name: String, _ workload: Workload.Model, _ what: String, _ device: any Device, _ seconds: Double,
        _ withFloor: Bool
    ) throws -> Row? {
        let (configuration, examples, sampleBatch) = (workload.configuration, workload.examples, workload.sampleBatch)
        let run = try Run(configuration, examples: examples, device: device)
        try run.initialize()
        let parameterCount = run.model.parameterCount
        if what == "sample" {
            guard run.canDraw else { return nil }
            // The classes and features of the batch that is trained on.
            var conditions = workload.batch(sampleBatch).feeds
            conditions["x"] = nil
            let sampler = try Sampler(run, DrawingRequest(), SamplingOptions(), maximumBatch: sampleBatch)
            var seed: UInt64 = 0
            return try time(
                name, what, device, batch: sampleBatch, parameters: parameterCount, seconds, least: 1,
                bytes: run.states.byteCount + sampler.plannedBytes
            ) {
                seed += 1
                let feeds = RandomSource.feeds(seed: seed, examples: Array(0..<sampleBatch)).merging(conditions) { $1 }
                _ = try sampler.run(feeds, batch: sampleBatch)
            }
        }
        let step = try TrainingStepOnce(run, workload, device)
        var row = try time(
            name, what, device, batch: step.batch, parameters: parameterCount, seconds, least: 3,
            bytes: step.executable.plannedBytes + run.states.byteCount + step.fedBytes
        ) { _ = try step.executable.run(step.feeds, batch: step.batch) }
        if withFloor { try addFloor(to: &row, step, device) }
        return row
    }

    /// The training step of a workload with some settings changed.
    static func trainingStep(
        of workload: Workload, settings: [String], device: any Device
    ) throws -> TrainingStepOnce {
        guard case .model(let make) = workload.kind else {
            throw UsageError("profile: \(workload.name) is a product and no model; bench times it")
        }
        var model = try make()
        for setting in settings { try model.configuration.set(setting) }
        let run = try Run(model.configuration, examples: model.examples, device: device)
        try run.initialize()
        return try TrainingStepOnce(run, model, device)
    }

    /// Measures the rates right behind the step, as a shared machine is another one a minute later.
    private static func addFloor(to row: inout Row, _ step: TrainingStepOnce, _ device: any Device) throws {
        let rates = try FloorRates.measure(on: device)
        let work = step.work
        let floor = work.seconds(at: rates) * 1e3
        row.floor_ms = (floor * 1000).rounded() / 1000
        row.over_floor = (row.median_ms / floor * 1000).rounded() / 1000
        (row.work, row.rates) = (work, rates)
    }

    /// A model's training step, ready to run on one batch that lies on the device.
    struct TrainingStepOnce {
        let batch: Int
        let program: TrainingProgram
        let executable: any Executable
        let feeds: [String: Feed]
        let fedBytes: Int

        init(_ run: Run, _ workload: Workload.Model, _ device: any Device) throws {
            batch = workload.configuration.batch
            program = try run.makeTrainingProgram()
            executable = try device.load(program.schedule, maximumBatch: batch, states: run.states.buffers)
            var arrays = run.stepFeeds(step: 0, rate: 1e-4, examples: Array(0..<batch))
            arrays.merge(workload.batch(batch).feeds) { $1 }
            var feeds: [String: Feed] = [:]
            var bytes = 0
            let names = Set(program.inputs)
            for (name, array) in arrays where names.contains(name) {
                let buffer = try device.makeBuffer(byteCount: array.bytes.count)
                try array.withUnsafeBytes { try buffer.write($0) }
                feeds[name] = .device(buffer)
                bytes += buffer.byteCount
            }
            (self.feeds, fedBytes) = (feeds, bytes)
        }

        /// The numerators of the step's floor.
        var work: StepWork { program.work(batch: batch, cacheBytes: FloorRates.sharedCacheBytes ?? 32 << 20) }
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
            let elapsed = try clock.measure(body).seconds
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
