import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Likelihood
import OpenCL

/// A model with its weights on a device: what is trained, evaluated, drawn from, saved.
public final class Run {
    public let model: any LikelihoodModel
    /// What an example is: the model's, and how people look at one.
    public let examples: ExampleShape
    public let settings: TrainingSettings
    /// What messages and files call it.
    public let name: String
    public let device: any Device
    public let states: StateStore
    /// What moves the parameters, made of the configuration.
    public let optimizer: any Optimizer
    public let parameters: [(name: String, parameter: Parameter)]
    /// The examples' placeholder, `[batch, variables]`.
    public let x: Tensor
    private var evaluator: (any Executable)?

    /// The parameters have no values yet: see `initialize` and `load`.
    /// - Parameters:
    ///   - examples: in place of the model's own, where more is known of them.
    ///   - device: `nil` takes a GPU, or else the CPU.
    /// - Throws: `UsageError` for settings that cannot be run, and where there is not enough memory for the parameters.
    public init(
        _ model: any LikelihoodModel, examples: ExampleShape? = nil, settings: TrainingSettings = TrainingSettings(),
        name: String = "model", device: (any Device)? = nil
    ) throws {
        try settings.validate()
        self.model = model
        self.examples = examples ?? model.examples
        self.settings = settings
        self.name = name
        self.device = try device ?? Devices.best()
        optimizer = try settings.makeOptimizer()
        parameters = model.namedParameters()
        states = StateStore(self.device)
        x = model.makeInput()
        for (name, alike) in Dictionary(grouping: parameters, by: \.name) where alike.count > 1 {
            throw UsageError(
                "\(alike.count) parameters of the model are called “\(name)”; give one of them another name")
        }
        if let (name, parameter) = parameters.first(where: { $0.parameter.element != .float32 }) {
            throw UsageError(
                "runs are in float32, and parameter \(name) is \(parameter.element); call `use(.float32)`, or compile a step of your own"
            )
        }
        // On the device, packed there, where they are made, and in the tables of the proof.
        try requireMemory(copies: 4)
    }

    /// The model that a configuration says.
    public convenience init(_ configuration: RunConfiguration, examples: ExampleShape, device: any Device) throws {
        try configuration.validate(examples)
        try self.init(
            configuration.model.makeModel(examples, seed: configuration.seed), examples: examples,
            settings: configuration.training, name: configuration.experiment, device: device)
    }

    /// Starting weights: a function of the seed, and of some examples for models that fit themselves to the first batch.
    public func initialize(_ first: Examples? = nil) throws {
        for (name, parameter) in parameters {
            try states.set(parameter, parameter.initialValue(named: name, seed: settings.seed))
        }
        let context = model.makeContext(.initialize)
        model.initialize(x, context)
        guard let first, !context.updates.isEmpty else { return }
        let count = min(first.count, max(settings.batch, 1))
        let executable = try load(
            compile([], updates: context.updates.map { StateUpdate($0.parameter.tensor, $0.value) }),
            maximumBatch: count, for: "an initialization by the first batch")
        var feeds = RandomSource.feeds(seed: settings.seed, examples: Array(0..<count))
        feeds.merge(first[0..<count].feeds) { $1 }
        feeds.merge(model.members[0]) { $1 }
        _ = try executable.run(feeds.known(to: executable), batch: count)
    }

    /// Refuses models so large that some arrays of the size of all parameters cannot be had.
    private func requireMemory(copies: Int) throws {
        let count = parameters.reduce(0.0) { $0 + Double($1.parameter.shape.reduce(1, *)) }
        try HostMemory.require(
            4 * count * Double(copies), for: "a model of \(Int(count)) parameters", "make it smaller")
    }

    /// Refuses examples that the model cannot take.
    /// - Throws: `UsageError` that names the first value, label or shape that does not fit.
    public func validate(_ examples: Examples, of name: String) throws {
        let (rows, conditions) = (examples.rows, model.conditions)
        guard rows.shape.count == 2, rows.shape[0] > 0, rows.shape[1] == model.variableCount else {
            throw UsageError(
                "\(name): expected examples of \(model.variableCount) variables, one row or more, found \(rows.shape)")
        }
        if let problem = model.domain.problem(in: rows, allowsMissing: model.acceptsMissing) {
            throw UsageError("\(name): \(problem)")
        }
        if let weights = examples.weights {
            guard weights.count == rows.shape[0], weights.allSatisfy({ $0 >= 0 && $0.isFinite }),
                weights.contains(where: { $0 > 0 })
            else {
                throw UsageError(
                    "\(name): expected \(rows.shape[0]) weights of at least 0, not all of them 0, found \(weights.count) from \(weights.min() ?? 0) to \(weights.max() ?? 0)"
                )
            }
        }
        if let classes = conditions.classes {
            guard let labels = examples.labels else {
                throw UsageError(
                    "\(name): the model is conditioned on \(classes) classes; give the class of each example")
            }
            guard labels.count == rows.shape[0], labels.allSatisfy({ (0..<Int32(classes)).contains($0) }) else {
                throw UsageError(
                    "\(name): expected \(rows.shape[0]) classes from 0 to \(classes - 1), found \(labels.count) from \(labels.min() ?? 0) to \(labels.max() ?? 0)"
                )
            }
        }
        if !conditions.features.isEmpty {
            let expected = [rows.shape[0]] + conditions.features
            guard let features = examples.features else {
                throw UsageError(
                    "\(name): the model is conditioned on features \(expected); give them beside the examples")
            }
            guard features.shape == expected else {
                throw UsageError("\(name): expected features \(expected), found \(features.shape)")
            }
            if let bad = features.firstBeyondFloat32 {
                throw UsageError(
                    "\(name): the features hold \(features.element(bad)); expected finite numbers within float32, up to 3.4e38"
                )
            }
        }
    }

    // MARK: files

    /// Weights made elsewhere, under the names that `inspect` lists.
    /// - Throws: `FileError` for a file that is not of this model; the weights are then as they were.
    public func load(weights path: String) throws {
        let arrays = FormerNames(parameters.map(\.name)).today(try SafeTensors.read(path).arrays)
        var found: [(parameter: Parameter, array: HostArray)] = []
        for (name, parameter) in parameters {
            guard let array = arrays[name] else {
                throw FileError(path, "has no “\(name)”; expected \(parameters.map(\.name).joined(separator: ", "))")
            }
            guard array.shape == parameter.shape, array.type.isFloatingPoint else {
                throw FileError(path, "“\(name)” is \(array.type)\(array.shape); expected float32\(parameter.shape)")
            }
            if let bad = array.firstBeyondFloat32 {
                throw FileError(
                    path, "“\(name)” holds \(array.element(bad)); expected finite numbers within float32, up to 3.4e38")
            }
            var values = array.floats
            parameter.clearDead(&values)
            found.append((parameter, HostArray(values, shape: parameter.shape)))
        }
        if let extra = arrays.keys.sorted().first(where: { name in !parameters.contains { $0.name == name } }) {
            throw FileError(path, "holds “\(extra)”, which this model does not have")
        }
        for (parameter, array) in found { try states.set(parameter, array) }
    }

    /// Writes the weights as safetensors.
    public func save(weights path: String) throws {
        try SafeTensors.write(
            try parameters.map { (name: $0.name, array: try states.get($0.parameter)!) },
            metadata: ["experiment": name], to: path)
    }

    /// Writes the best weights so far, or the weights where there are none yet.
    func save(best path: String) throws {
        try SafeTensors.write(
            try parameters.map {
                (name: $0.name, array: try states.get("best.\($0.name)") ?? states.get($0.parameter)!)
            },
            metadata: ["experiment": name], to: path)
    }

    // MARK: figures

    /// The figure of every example in the unit of `model.metric`; less is better.
    ///
    /// Of an ensemble of likelihood models it is that of their mixture: the logarithm of the mean of p_k(x) over the members k.
    /// - Throws: `UsageError` for examples that the model cannot take.
    public func evaluations(_ examples: Examples) throws -> [Double] {
        try validate(examples, of: "evaluate")
        return try figures(examples)
    }

    /// -log p of the known part of every example in nats: exactly its marginal, where the model's order puts it first or its network
    /// reads what is known.
    /// - Parameter observed: not zero where a variable is known, `[rows, variables]` or one row for all.
    /// - Throws: `UsageError` for examples that the model cannot take, and where its order does not allow it.
    public func evaluations(_ examples: Examples, observed: HostArray) throws -> [Double] {
        let (count, width) = (examples.count, self.examples.count)
        guard observed.count == width || observed.shape == examples.rows.shape else {
            throw UsageError(
                "--observed: expected a mask \([count, width]) or of one row, found \(observed.shape)")
        }
        let single = observed.doubles.map { $0 != 0 }
        let flags = single.count == width ? (0..<count).flatMap { _ in single } : single
        if model.acceptsMissing {
            var values = examples.rows.floats
            for i in values.indices where !flags[i] { values[i] = .nan }
            var known = examples
            known.rows = HostArray(values, shape: examples.rows.shape)
            return try evaluations(known)
        }
        try validate(examples, of: "evaluate")
        guard model is any AutoregressiveModel else {
            throw UsageError("--observed: \(name) has no marginals of its variables; take a made")
        }
        guard model.members.count == 1 else {
            throw UsageError("--observed: \(name) is a mixture of masks; its marginals are not known")
        }
        var result = [Double](repeating: 0, count: count)
        // Rows with one pattern share a program.
        let patterns = Dictionary(grouping: 0..<count) { Array(flags[$0 * width..<($0 + 1) * width]) }
        for (pattern, rows) in patterns.sorted(by: { $0.value[0] < $1.value[0] }) {
            var request = DrawingRequest()
            request.observed = pattern
            do {
                _ = try model.drawing(x, model.makeContext(), request)
            } catch is UsageError {
                throw UsageError(
                    "--observed: the known variables of row \(rows[0]) are not the first ones of the order of \(name), which alone have a marginal of it; a made that was trained with --missing marginalize has one of any"
                )
            }
            guard let terms = try model.observedLogProbability(x, model.makeContext(), request) else {
                throw UsageError("--observed: \(name) has no terms of single variables, so no marginals")
            }
            let batch = min(model.evaluationBatch, rows.count)
            let program = try load(compile([terms]), maximumBatch: batch, for: "an evaluation")
            for start in stride(from: 0, to: rows.count, by: batch) {
                let part = Array(rows[start..<min(rows.count, start + batch)])
                let feeds = examples[part].feeds.known(to: program)
                for (row, value) in zip(part, try program.run(feeds, batch: part.count)[0].doubles) {
                    result[row] = -value
                }
            }
        }
        return result
    }

    /// The mean figure with its standard error.
    public func evaluate(_ examples: Examples) throws -> Estimate {
        Estimate(try evaluations(examples), weights: examples.weights)
    }

    /// log p(x) in nats of every row, or a bound on it.
    /// - Throws: `UsageError` for a model without a likelihood.
    public func logProbability(_ rows: HostArray, labels: [Int32]? = nil, features: HostArray? = nil) throws -> [Double]
    {
        guard model.metric.isLogLikelihood else {
            throw UsageError("\(name) has no likelihood; its figure is the \(model.metric.name)")
        }
        return try figures(Examples(rows, labels: labels, features: features)).map { -$0 }
    }

    /// Loads a program over the weights, where the memory that is left holds what it keeps between its operations.
    func load(_ schedule: Schedule, maximumBatch: Int, for purpose: String) throws -> any Executable {
        let opencl = device as? OpenCLDevice ?? (device as? AutomaticDevice)?.gpu
        if opencl?.isGPU != true {
            let advice = "make the model smaller" + (maximumBatch > 1 ? ", or the batches" : "")
            try HostMemory.require(
                Double(MemoryPlan(schedule, batch: maximumBatch).byteCount),
                for: "\(purpose) of \(maximumBatch) examples together", advice)
        }
        return try device.load(schedule, maximumBatch: maximumBatch, states: states.buffers)
    }

    /// The program that gives examples their figures.
    func loadEvaluator() throws -> any Executable {
        let program =
            try evaluator
            ?? load(
                compile([model.evaluation(x, model.makeContext())]), maximumBatch: model.evaluationBatch,
                for: "an evaluation")
        evaluator = program
        return program
    }

    /// - Parameter examples: known to fit.
    func figures(_ examples: Examples) throws -> [Double] {
        let (evaluator, members) = (try loadEvaluator(), model.members)
        var total = [Double](repeating: -.infinity, count: examples.count)
        for member in members {
            for (i, value) in try values(of: evaluator, examples, member).enumerated() {
                let (a, b) = (max(total[i], -value), min(total[i], -value))
                total[i] = b == -.infinity ? a : a + Math.log1p(Math.exp(b - a))
            }
        }
        let shift = Math.log(Double(members.count))
        return total.map { -($0 - shift) }
    }

    /// The number that a program has for each example.
    private func values(
        of program: any Executable, _ examples: Examples, _ member: [String: HostArray]
    ) throws -> [Double] {
        let batch = model.evaluationBatch
        return try stride(from: 0, to: examples.count, by: batch).flatMap { start in
            let range = start..<min(examples.count, start + batch)
            var feeds = member
            feeds.merge(RandomSource.feeds(seed: settings.seed, examples: Array(range))) { a, _ in a }
            feeds.merge(examples[range].feeds) { $1 }
            return try program.run(feeds.known(to: program), batch: range.count)[0].doubles
        }
    }

    /// How much the figures of examples took to compute, on the mean, for a model that finds out as it runs.
    /// - Parameter examples: known to fit.
    public func effort(_ examples: Examples) throws -> (unit: String, count: Estimate)? {
        guard let (unit, count) = (model as? any MeteredModel)?.effort(x, model.makeContext()) else { return nil }
        let program = try load(compile([count]), maximumBatch: model.evaluationBatch, for: "a count")
        return (unit, Estimate(try values(of: program, examples, model.members[0])))
    }

    // MARK: training

    /// A training step of one batch with the optimizer's states made. Where a step reads several batches, as those of L-BFGS do, it is
    /// the program that all of them go through.
    public func makeTrainingProgram() throws -> TrainingProgram { try makeTrainingProgram(updateRule(optimizer)) }

    func makeTrainingProgram(_ rule: UpdateRule) throws -> TrainingProgram {
        let context = model.makeContext(.train)
        let loss = model.objective(x, context)
        let program = try TrainingProgram(
            loss: loss, parameters: parameters, rule: rule,
            updates: context.updates.map { StateUpdate($0.parameter.tensor, $0.value) })
        // Parameters, the best of them and what the optimizer remembers, and all of it once more where it is saved; packed weights of
        // the program that validates.
        let memories = program.optimizerStates.count / max(1, parameters.count)
        try requireMemory(copies: 2 * (2 + memories) + 1)
        try makeStates(program.optimizerStates)
        return program
    }

    /// Puts zeros under each name.
    /// - Throws: `UsageError` where memory is too small for them, and for them once more where they are saved.
    func makeStates(_ shapes: [(name: String, shape: [Int])]) throws {
        let count = shapes.reduce(0.0) { $0 + Double($1.shape.reduce(1, *)) }
        try HostMemory.require(
            8 * count, for: "what an optimizer remembers of \(Int(count)) numbers", "make the model smaller")
        for (name, shape) in shapes { try states.set(name, HostArray(type: .float32, shape: shape)) }
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
        return feeds.merging(RandomSource.feeds(seed: settings.seed, step: step, examples: examples)) { a, _ in a }
    }
}

extension [String: HostArray] {
    /// What a program reads of these, ready to be fed.
    public func known(to executable: any Executable) -> [String: Feed] {
        let names = Set(executable.schedule.inputs.map { executable.schedule.values[$0].label })
        return filter { names.contains($0.key) }.mapValues { .host($0) }
    }
}

/// A mean with its standard error.
public struct Estimate: Codable, Sendable {
    public let mean: Double
    public let standardError: Double
    public let count: Int

    /// - Parameter weights: how much each value counts; alike, if not given.
    public init(_ values: [Double], weights: [Float]? = nil) {
        count = values.count
        guard let weights else {
            let m = values.reduce(0) { $0 + $1 } / Double(max(1, values.count))
            let variance = values.reduce(0) { $0 + ($1 - m) * ($1 - m) } / Double(max(1, values.count - 1))
            mean = m
            standardError = (variance / Double(max(1, values.count))).squareRoot()
            return
        }
        let total = weights.reduce(0) { $0 + Double($1) }
        let m = zip(values, weights).reduce(0) { $0 + $1.0 * Double($1.1) } / total
        let squares = zip(values, weights).reduce(0) { $0 + Double($1.1 * $1.1) * ($1.0 - m) * ($1.0 - m) }
        mean = m
        standardError = squares.squareRoot() / total
    }
}
