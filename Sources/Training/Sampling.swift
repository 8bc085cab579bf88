import Compiler
import Datasets
import Distributions
import Graph

/// How samples are drawn.
public struct SamplingOptions: Sendable {
    public var seed: UInt64
    /// Runs the whole network once for every variable, as everybody else does; the same draw, up to rounding.
    public var isNaive: Bool
    public var batch: Int
    /// The class of every example, for models that are conditioned on classes.
    public var label: Int?
    public var temperature: Double

    public init(
        seed: UInt64 = 0, isNaive: Bool = false, batch: Int = 256, label: Int? = nil, temperature: Double = 1
    ) {
        self.seed = seed
        self.isNaive = isNaive
        self.batch = batch
        self.label = label
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
    public func sample(count: Int, _ options: SamplingOptions) throws -> Drawn {
        try checkLabel(options)
        let members = UInt64(model.members.count)
        let choice = HostRandom(seed: options.seed, stream: "ensemble")
        let chosen = (0..<count).map { Int((UInt64(choice.bits(example: $0)) * members) >> 32) }
        return try draw(count: count, options, DrawingRequest(), member: { chosen[$0] }, given: nil)
    }

    private func checkLabel(_ options: SamplingOptions) throws {
        if let label = options.label {
            guard let classes = examples.classes else {
                throw UsageError("--class \(label): \(configuration.experiment) is not conditioned on classes")
            }
            try require((0..<classes).contains(label), "--class \(label): expected 0 to \(classes - 1)")
        }
        try require(
            // Below, parameters divided by it leave the range of float32.
            options.temperature.isFinite && options.temperature >= 1e-30,
            "--temperature \(options.temperature): expected a number of at least 1e-30")
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
        _ input: HostArray, observed: HostArray, _ options: SamplingOptions, isApproximate: Bool = false
    ) throws -> HostArray {
        try checkLabel(options)
        let width = examples.count
        guard input.shape.count == 2, input.shape[0] > 0, input.shape[1] == width, observed.shape == input.shape else {
            throw UsageError(
                "complete: expected an input and a mask of one row or more [rows, \(width)], found \(input.shape) and \(observed.shape)"
            )
        }
        guard observed.isFinite else {
            throw UsageError("complete: the mask holds NaN or infinity; expected 0 where the input is not observed")
        }
        let flags = observed.doubles.map { $0 != 0 }
        var values = input.floats
        for i in values.indices where flags[i] && !values[i].isFinite {
            throw UsageError("complete: row \(i / width) has an observed value that is not finite")
        }
        for i in values.indices where !flags[i] { values[i] = 0 }
        try configuration.model.domain.require(
            HostArray(values, shape: input.shape), of: "complete, the observed part of the input")
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
            guard let terms = try model.observedLogProbability(x, request) else {
                throw UsageError("complete: \(configuration.experiment) is a mixture that cannot be completed")
            }
            let executable = try device.load(
                compile([terms]), maximumBatch: min(count, options.batch), states: states.buffers)
            var values: [Double] = []
            for start in stride(from: 0, to: count, by: options.batch) {
                let part = given.rows(start..<min(count, start + options.batch))
                values += try executable.run(["x": .host(part)], batch: part.shape[0])[0].doubles
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
        exampleIndex: (Int) -> Int = { $0 }
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
                if let given { feeds["given"] = given.rows(part) }
                if examples.classes != nil {
                    // Without a class each example draws its own.
                    let random = HostRandom(seed: options.seed, stream: "class")
                    feeds["label"] = HostArray(
                        part.map { row in
                            Int32(
                                options.label
                                    ?? Int(random.uniform(example: exampleIndex(row)) * Double(examples.classes ?? 1)))
                        })
                }
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
    /// Some rows, in the given order.
    func rows(_ chosen: [Int]) -> HostArray {
        let width = shape.dropFirst().reduce(1, *)
        let values = floats
        return HostArray(
            chosen.flatMap { values[$0 * width..<($0 + 1) * width] }, shape: [chosen.count] + shape.dropFirst())
    }

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
        case direct(any Executable)
    }

    private let run: Run
    private var stages: [Stage] = []
    /// The programs that draw variable after variable.
    public private(set) var programs: [SamplingProgram] = []

    public convenience init(_ run: Run, _ request: DrawingRequest, _ options: SamplingOptions, maximumBatch: Int) throws
    {
        try self.init(run, try run.model.drawing(run.x, request), options, maximumBatch: maximumBatch)
    }

    public init(_ run: Run, _ drawing: Drawing, _ options: SamplingOptions, maximumBatch: Int) throws {
        self.run = run
        let (device, states) = (run.device, run.states.buffers)
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
                stages.append(.sequential(try device.load(program, maximumBatch: maximumBatch, states: states)))
                programs.append(program)
            case .direct(let outputs):
                stages.append(.direct(try device.load(compile(outputs), maximumBatch: maximumBatch, states: states)))
            }
        }
    }

    /// Bytes that the sampler holds beside the weights.
    public var plannedBytes: Int {
        stages.reduce(0) { total, stage in
            switch stage {
            case .sequential(let executable): total + executable.plannedBytes
            case .direct(let executable): total + executable.plannedBytes
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
            case .direct(let executable):
                results = try executable.run(feeds.known(to: executable), batch: batch)
            }
            feeds[Drawing.previous] = results[0]
        }
        return Run.Drawn(examples: results[0], outputs: Array(results.dropFirst()))
    }
}
