import Compiler
import Datasets
import Distributions
import Graph
import Layers

/// A model with its weights on a device and the program that evaluates it.
public final class Run {
    public let configuration: RunConfiguration
    public let examples: ExampleShape
    public let device: any Device
    public let model: any TrainableModel
    public let states: StateStore
    /// What moves the parameters, made of the configuration.
    public let optimizer: any Optimizer
    public let parameters: [(name: String, parameter: Parameter)]
    /// The examples' placeholder, `[batch, variables]`.
    public let x: Tensor
    private var evaluator: (any Executable)?

    public init(_ configuration: RunConfiguration, examples: ExampleShape, device: any Device) throws {
        try configuration.validate(examples)
        self.configuration = configuration
        self.examples = examples
        self.device = device
        model = try configuration.model.makeModel(examples, seed: configuration.seed)
        parameters = model.module.namedParameters()
        states = StateStore(device)
        optimizer = try configuration.training.makeOptimizer()
        x = Tensor.input("x", [.batch, Extent(examples.count)])
        // On the device, packed there, where they are made, and in the tables of the proof.
        try requireMemory(copies: 4)
    }

    /// Starting weights: a function of the seed, and of some examples for models that fit themselves to the first batch.
    public func initialize(_ first: HostArray? = nil, labels: HostArray? = nil) throws {
        for (name, parameter) in parameters { try states.set(name, parameter.initialValue(seed: configuration.seed)) }
        let updates = try model.initialization(x, RandomSource())
        guard let first, !updates.isEmpty else { return }
        let count = min(first.shape[0], max(configuration.batch, 1))
        let executable = try device.load(
            compile([], updates: updates), maximumBatch: count, states: states.buffers)
        let rows = first.rows(0..<count)
        var feeds = RandomSource.feeds(seed: configuration.seed, examples: Array(0..<count))
        feeds["x"] = HostArray(rows.floats, shape: rows.shape)
        feeds["label"] = labels?.rows(0..<count)
        for (name, array) in model.members[0] { feeds[name] = array }
        _ = try executable.run(feeds.known(to: executable), batch: count)
    }

    /// Refuses models so large that some arrays of the size of all parameters cannot be had.
    private func requireMemory(copies: Int) throws {
        let count = parameters.reduce(0.0) { $0 + Double($1.parameter.shape.reduce(1, *)) }
        try HostMemory.require(
            4 * count * Double(copies), for: "a model of \(Int(count)) parameters", "make it smaller")
    }

    /// Weights made elsewhere, under the names that `inspect` lists.
    public func load(weights path: String) throws {
        let (arrays, _) = try SafeTensors.read(path)
        for (name, parameter) in parameters {
            guard let array = arrays[name] else {
                throw FileError(path, "has no “\(name)”; expected \(parameters.map(\.name).joined(separator: ", "))")
            }
            guard array.shape == parameter.shape, array.type.isFloatingPoint else {
                throw FileError(path, "“\(name)” is \(array.type)\(array.shape); expected float32\(parameter.shape)")
            }
            guard array.isFinite else { throw FileError(path, "“\(name)” holds NaN or infinity") }
            var values = array.floats
            parameter.clearDead(&values)
            try states.set(name, HostArray(values, shape: parameter.shape))
        }
        if let extra = arrays.keys.sorted().first(where: { name in !parameters.contains { $0.name == name } }) {
            throw FileError(path, "holds “\(extra)”, which this model does not have")
        }
    }

    public func save(weights path: String, prefix: String = "") throws {
        try SafeTensors.write(
            try parameters.map { (name: $0.name, array: try states.get(prefix + $0.name) ?? states.get($0.name)!) },
            metadata: ["experiment": configuration.experiment], to: path)
    }

    /// log p(x) in nats of every row, the mixture over the ensemble: logsumexp over k of log p_k(x), minus log K.
    /// - Parameter labels: int32, one for each row, for models that are conditioned on classes.
    public func logProbability(_ rows: HostArray, labels: HostArray? = nil) throws -> [Double] {
        let batch = model.evaluationBatch
        let evaluator =
            try self.evaluator
            ?? device.load(compile([try model.logProbability(x)]), maximumBatch: batch, states: states.buffers)
        self.evaluator = evaluator
        let members = model.members
        let count = rows.shape[0]
        var total = [Double](repeating: -.infinity, count: count)
        for member in members {
            for start in stride(from: 0, to: count, by: batch) {
                let range = start..<min(count, start + batch)
                let part = rows.rows(range)
                var feeds = member
                feeds.merge(RandomSource.feeds(seed: configuration.seed, examples: Array(range))) { a, _ in a }
                feeds["x"] = HostArray(part.floats, shape: part.shape)
                feeds["label"] = labels?.rows(range)
                let values = try evaluator.run(feeds.known(to: evaluator), batch: part.shape[0])[0].doubles
                for (i, value) in values.enumerated() {
                    let (a, b) = (max(total[start + i], value), min(total[start + i], value))
                    total[start + i] = b == -.infinity ? a : a + Math.log1p(Math.exp(b - a))
                }
            }
        }
        let shift = Math.log(Double(members.count))
        return total.map { $0 - shift }
    }

    /// A training step with the optimizer's states made.
    public func makeTrainingProgram() throws -> TrainingProgram {
        let settings = configuration.training
        let objective = try model.objective(x, RandomSource())
        let program = try TrainingProgram(
            loss: objective.loss, parameters: parameters,
            rule: UpdateRule(
                optimizer: optimizer, weightDecay: settings.weightDecay, clipNorm: settings.clipNorm,
                averaging: settings.averaging), updates: objective.updates)
        // Parameters, the best of them and what the optimizer remembers, and all of it once more where it is saved; packed weights of
        // the program that validates.
        let memories = program.optimizerStates.count / max(1, parameters.count)
        try requireMemory(copies: 2 * (2 + memories) + 1)
        for (name, shape) in program.optimizerStates { try states.set(name, HostArray(type: .float32, shape: shape)) }
        return program
    }

    /// Gives the optimizer the memories of a run under way. A first step of Adam divides gradients by themselves, so that where they
    /// all but cancel their rounding is as large as a step; no comparison of devices means that.
    public func warmOptimizer(of program: TrainingProgram) throws {
        for (name, shape) in program.optimizerStates {
            guard let owner = parameters.first(where: { name.hasPrefix("optimizer.\($0.name).") }) else { continue }
            var values = [Float](repeating: 0.01, count: shape.reduce(1, *))
            owner.parameter.clearDead(&values)
            try states.set(name, HostArray(values, shape: shape))
        }
    }

    /// What a step is fed beside the examples.
    public func stepFeeds(step: Int, rate: Double, examples: [Int]) -> [String: HostArray] {
        var feeds = model.feeds(step: step)
        for (name, value) in optimizer.scalars(rate: rate, step: step + 1) {
            feeds[name] = HostArray([Float(value)], shape: [])
        }
        return feeds.merging(RandomSource.feeds(seed: configuration.seed, step: step, examples: examples)) { a, _ in a }
    }
}

extension [String: HostArray] {
    /// What a program reads of these, ready to be fed.
    func known(to executable: any Executable) -> [String: Feed] {
        let names = Set(executable.schedule.inputs.map { executable.schedule.values[$0].label })
        return filter { names.contains($0.key) }.mapValues { .host($0) }
    }
}

/// A mean with its standard error.
public struct Estimate: Codable, Sendable {
    public let mean: Double
    public let standardError: Double
    public let count: Int

    public init(_ values: [Double]) {
        count = values.count
        let m = values.reduce(0) { $0 + $1 } / Double(max(1, values.count))
        let variance = values.reduce(0) { $0 + ($1 - m) * ($1 - m) } / Double(max(1, values.count - 1))
        mean = m
        standardError = (variance / Double(max(1, values.count))).squareRoot()
    }
}
