import Compiler
import Datasets
import Distributions
import Graph
import Likelihood

/// How samples are drawn.
public struct SamplingOptions: Sendable {
    public var seed: UInt64
    /// Runs the whole network once for every variable, as everybody else does; the same draw, up to rounding.
    public var isNaive: Bool
    public var batch: Int
    /// The class of every example, for models that are conditioned on classes; without one each example draws its own.
    public var label: Int?
    /// The class of each example in place of one for all.
    public var labels: [Int32]?
    /// The features of each example, `[count, ..]`, for models that are conditioned on features.
    public var features: HostArray?
    public var temperature: Double

    public init(
        seed: UInt64 = 0, isNaive: Bool = false, batch: Int = 256, label: Int? = nil, labels: [Int32]? = nil,
        features: HostArray? = nil, temperature: Double = 1
    ) {
        self.labels = labels
        self.seed = seed
        self.isNaive = isNaive
        self.batch = batch
        self.label = label
        self.features = features
        self.temperature = temperature
    }
}

extension Run {
    /// Samples and what was handed back beside them.
    public struct Drawn {
        /// `[count, variables]`
        public var examples: HostArray
        /// The outputs of the last stage (the parameters of the conditionals that examples were drawn from), examples first.
        public var outputs: [HostArray]
    }

    /// Draws examples; example i is the same for any count and batch. A mixture first draws one of its members.
    public func sample(count: Int, _ options: SamplingOptions = SamplingOptions()) throws -> Drawn {
        guard (1...1 << 24).contains(count) else { throw UsageError("count: expected 1 to 16777216, found \(count)") }
        try requireConditions(options, count: count)
        let members = UInt64(model.members.count)
        let choice = HostRandom(seed: options.seed, stream: "ensemble")
        let chosen = (0..<count).map { Int((UInt64(choice.bits(example: $0)) * members) >> 32) }
        return try draw(count: count, options, DrawingRequest(), member: { chosen[$0] }, given: nil)
    }

    /// Whether the model draws examples.
    public var canDraw: Bool { (try? model.drawing(x, model.makeContext(), DrawingRequest())) != nil }

    /// Refuses classes and features that the model cannot take.
    func requireConditions(_ options: SamplingOptions, count: Int) throws {
        let conditions = model.conditions
        if let label = options.label {
            guard let classes = conditions.classes else {
                throw UsageError("--class \(label): \(name) is not conditioned on classes")
            }
            try require((0..<classes).contains(label), "--class \(label): expected 0 to \(classes - 1)")
        }
        if let labels = options.labels {
            guard let classes = conditions.classes else { throw UsageError("\(name) is not conditioned on classes") }
            guard labels.count == count, labels.allSatisfy({ (0..<Int32(classes)).contains($0) }) else {
                throw UsageError(
                    "labels: expected \(count) classes from 0 to \(classes - 1), one for each example, found \(labels.count) from \(labels.min() ?? 0) to \(labels.max() ?? 0)"
                )
            }
        }
        let expected = [count] + conditions.features
        if let features = options.features {
            guard !conditions.features.isEmpty else { throw UsageError("\(name) is not conditioned on features") }
            guard features.shape == expected else {
                throw UsageError("features: expected \(expected), one row for each example, found \(features.shape)")
            }
            if let bad = features.firstBeyondFloat32 {
                throw UsageError(
                    "features: they hold \(features.element(bad)); expected finite numbers within float32, up to 3.4e38"
                )
            }
        } else if !conditions.features.isEmpty {
            throw UsageError("features: \(name) is conditioned on features \(expected); give one row for each example")
        }
        try require(
            // Below, parameters divided by it leave the range of float32.
            Float(options.temperature).isFinite && options.temperature >= 1e-30,
            "--temperature \(options.temperature): expected a number from 1e-30 to 3.4e38")
    }

    /// What the conditions of some examples feed.
    /// - Parameter rows: the examples' places in the whole draw.
    func conditionFeeds(_ rows: [Int], _ options: SamplingOptions) -> [String: HostArray] {
        var feeds: [String: HostArray] = [:]
        if let classes = model.conditions.classes {
            // Without a class each example draws its own.
            let random = HostRandom(seed: options.seed, stream: "class")
            feeds["label"] = HostArray(
                rows.map { row in
                    options.labels?[row] ?? Int32(options.label ?? Int(random.uniform(example: row) * Double(classes)))
                })
        }
        feeds["features"] = options.features.map {
            HostArray($0.rows(rows).floats, shape: [rows.count] + $0.shape.dropFirst())
        }
        return feeds
    }

    /// Fills in what was not observed, by draws from the conditional distribution.
    ///
    /// An order-agnostic model puts the observed variables first, so that the draw is exact. A fixed order is exact where
    /// the observed variables are the first ones; otherwise it refuses, unless `isApproximate`.
    ///
    /// - Parameters:
    ///   - input: `[count, variables]`; what stands at unobserved places does not matter.
    ///   - observed: the same shape, not zero where the input is observed.
    public func complete(
        _ input: HostArray, observed: HostArray, _ options: SamplingOptions = SamplingOptions(),
        isApproximate: Bool = false
    ) throws -> HostArray {
        try requireConditions(options, count: input.shape.first ?? 0)
        let width = examples.count
        guard input.shape.count == 2, input.shape[0] > 0, input.shape[1] == width, observed.shape == input.shape else {
            throw UsageError(
                "complete: expected an input and a mask of one row or more [rows, \(width)], found \(input.shape) and \(observed.shape)"
            )
        }
        guard observed.isFinite else {
            throw UsageError("complete: the mask holds NaN or infinity; expected 0 where the input is not observed")
        }
        var flags = observed.doubles.map { $0 != 0 }
        var values = input.floats
        if model.acceptsMissing { for i in values.indices where values[i].isNaN { flags[i] = false } }
        for i in values.indices where flags[i] && !values[i].isFinite {
            throw UsageError("complete: row \(i / width) has an observed value that is not finite")
        }
        for i in values.indices where !flags[i] { values[i] = 0 }
        if let problem = model.domain.problem(in: HostArray(values, shape: input.shape)) {
            throw UsageError("complete, the observed part of the input: \(problem)")
        }
        if model.acceptsMissing {
            // Every row has a pattern of its own, in one program.
            var request = DrawingRequest()
            request.readsObserved = true
            let mask = HostArray(flags.map { $0 ? 1 : 0 } as [Float], shape: input.shape)
            let given = HostArray(values, shape: input.shape)
            return try draw(
                count: input.shape[0], options, request, member: { _ in 0 }, given: given, observed: mask
            ).examples
        }
        var result = [Float](repeating: 0, count: values.count)
        // Rows with one pattern share an order and so a program.
        var patterns: [[Bool]: [Int]] = [:]
        for row in 0..<input.shape[0] {
            patterns[Array(flags[row * width..<(row + 1) * width]), default: []].append(row)
        }
        for (pattern, rows) in patterns.sorted(by: { $0.value[0] < $1.value[0] }) {
            let given = HostArray(rows.flatMap { values[$0 * width..<($0 + 1) * width] }, shape: [rows.count, width])
            var request = DrawingRequest()
            request.observed = pattern
            request.isApproximate = isApproximate
            let members = try weighMembers(given, request, rows, options)
            let drawn = try draw(
                count: rows.count, options, request, member: { members[$0] }, given: given, exampleIndex: { rows[$0] })
            let filled = drawn.examples.floats
            for (i, row) in rows.enumerated() {
                for v in 0..<width {
                    result[row * width + v] = pattern[v] ? values[row * width + v] : filled[i * width + v]
                }
            }
        }
        return HostArray(result, shape: input.shape)
    }

    /// The member that each row is completed with: of a mixture, drawn with the probability that the observed part gives it.
    private func weighMembers(
        _ given: HostArray, _ request: DrawingRequest, _ rows: [Int], _ options: SamplingOptions
    ) throws -> [Int] {
        let members = model.members.count
        let count = given.shape[0]
        guard members > 1 else { return [Int](repeating: 0, count: count) }
        var evidence: [[Double]] = []
        for k in 0..<members {
            var request = request
            request.member = k
            guard let terms = try model.observedLogProbability(x, model.makeContext(), request) else {
                throw UsageError("complete: \(name) is a mixture that cannot be completed")
            }
            let executable = try load(
                compile([terms]), maximumBatch: min(count, options.batch), for: "a completion")
            var values: [Double] = []
            for start in stride(from: 0, to: count, by: options.batch) {
                let range = start..<min(count, start + options.batch)
                var feeds = conditionFeeds(range.map { rows[$0] }, options)
                feeds["x"] = given.rows(range)
                values += try executable.run(feeds.known(to: executable), batch: range.count)[0].doubles
            }
            evidence.append(values)
        }
        let random = HostRandom(seed: options.seed, stream: "ensemble")
        return (0..<count).map { row in
            let logs = evidence.map { $0[row] }
            let top = logs.max() ?? 0
            let weights = logs.map { Math.exp($0 - top) }
            var rest = random.uniform(example: rows[row]) * weights.reduce(0) { $0 + $1 }
            for (k, weight) in weights.enumerated() {
                rest -= weight
                if rest < 0 { return k }
            }
            return members - 1
        }
    }

    private func draw(
        count: Int, _ options: SamplingOptions, _ request: DrawingRequest, member: (Int) -> Int, given: HostArray?,
        observed: HostArray? = nil, exampleIndex: (Int) -> Int = { $0 }
    ) throws -> Drawn {
        // The parts, all of them gathered, what is converted for a file, and the numbers of the examples beside them.
        try HostMemory.require(
            Double(count) * (64 + 24 * Double(examples.count)),
            for: "a draw of \(count) examples of \(examples.count) variables",
            "draw fewer")
        var parts: [(rows: [Int], drawn: Drawn)] = []
        var groups: [Int: [Int]] = [:]
        for i in 0..<count { groups[member(i), default: []].append(i) }
        for (k, rows) in groups.sorted(by: { $0.key < $1.key }) {
            var request = request
            request.member = k
            request.temperature = options.temperature
            let sampler = try Sampler(self, request, options, maximumBatch: min(rows.count, options.batch))
            for start in stride(from: 0, to: rows.count, by: options.batch) {
                let part = Array(rows[start..<min(rows.count, start + options.batch)])
                var feeds = RandomSource.feeds(seed: options.seed, examples: part.map(exampleIndex))
                if let given { feeds[Drawing.given] = given.rows(part) }
                if let observed { feeds[Drawing.observed] = observed.rows(part) }
                feeds.merge(conditionFeeds(part.map(exampleIndex), options)) { $1 }
                parts.append((part, try sampler.run(feeds, batch: part.count)))
            }
        }
        let drawn = HostArray.gathered(parts.map { ($0.rows, $0.drawn.examples) }, count: count)
        if !drawn.isFinite, let bad = drawn.floats.firstIndex(where: { !$0.isFinite }) {
            throw UsageError(
                "example \(bad / examples.count) was drawn as \(drawn.floats[bad]) in variable \(bad % examples.count); the weights or the temperature are too large"
            )
        }
        return Drawn(
            examples: drawn,
            outputs: (parts.first?.drawn.outputs.indices ?? 0..<0).map { index in
                HostArray.gathered(parts.map { ($0.rows, $0.drawn.outputs[index]) }, count: count)
            })
    }
}

extension HostArray {
    /// Rows put back into their places.
    fileprivate static func gathered(_ parts: [(rows: [Int], array: HostArray)], count: Int) -> HostArray {
        let shape = Array(parts.first?.array.shape.dropFirst() ?? [])
        let width = shape.reduce(1, *)
        var result = [Float](repeating: 0, count: count * width)
        for (rows, array) in parts {
            let values = array.floats
            for (i, row) in rows.enumerated() {
                result.replaceSubrange(row * width..<(row + 1) * width, with: values[i * width..<(i + 1) * width])
            }
        }
        return HostArray(result, shape: [count] + shape)
    }
}

/// A draw that is ready to run: compiled, or as the loop over full passes.
public final class Sampler {
    private enum Stage {
        case sequential(any SamplingExecutable)
        case direct(any Executable, times: Int)
    }

    private let run: Run
    private var stages: [Stage] = []
    /// The programs that draw variable after variable.
    public private(set) var programs: [SamplingProgram] = []

    public convenience init(_ run: Run, _ request: DrawingRequest, _ options: SamplingOptions, maximumBatch: Int) throws
    {
        try self.init(
            run, try run.model.drawing(run.x, run.model.makeContext(), request), options, maximumBatch: maximumBatch)
    }

    public init(_ run: Run, _ drawing: Drawing, _ options: SamplingOptions, maximumBatch: Int) throws {
        self.run = run
        for stage in drawing.stages {
            switch stage {
            case .incremental(let variable, let drawn, let order, let outputs):
                let program =
                    options.isNaive
                    ? try SamplingProgram(fullPassesOver: variable, drawn: drawn, order: order, outputs: outputs)
                    : try SamplingProgram(variable: variable, drawn: drawn, order: order, outputs: outputs)
                if let reason = program.fullPasses?.reason {
                    debugLine("drawing with a full pass for each of \(program.stepCount) steps: \(reason)")
                }
                stages.append(
                    .sequential(try run.device.load(program, maximumBatch: maximumBatch, states: run.states.buffers)))
                programs.append(program)
            case .direct(let outputs):
                try add(outputs, times: 1, maximumBatch)
            case .repeated(let outputs, let times):
                try add(outputs, times: times, maximumBatch)
            }
        }
    }

    private func add(_ outputs: [Tensor], times: Int, _ maximumBatch: Int) throws {
        let executable = try run.load(compile(outputs), maximumBatch: maximumBatch, for: "a draw")
        stages.append(.direct(executable, times: times))
    }

    /// Bytes that the sampler holds beside the weights.
    public var plannedBytes: Int {
        stages.reduce(0) { total, stage in
            switch stage {
            case .sequential(let executable): total + executable.plannedBytes
            case .direct(let executable, _): total + executable.plannedBytes
            }
        }
    }

    public func run(_ feeds: [String: HostArray], batch: Int) throws -> Run.Drawn {
        var feeds = feeds
        var results: [HostArray] = []
        for stage in stages {
            switch stage {
            case .sequential(let executable):
                let names = executable.program.inputNames
                results = try executable.run(feeds.filter { names.contains($0.key) }, batch: batch)
            case .direct(let executable, let times):
                for step in 0..<times {
                    feeds[RandomSource.stepInput] = HostArray([Int32(step)], shape: [])
                    results = try executable.run(feeds.known(to: executable), batch: batch)
                    feeds[Drawing.previous] = results[0]
                }
            }
            feeds[Drawing.previous] = results[0]
        }
        return Run.Drawn(examples: results[0], outputs: Array(results.dropFirst()))
    }
}
