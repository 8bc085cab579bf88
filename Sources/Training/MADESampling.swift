import Compiler
import Datasets
import Distributions
import Graph
import Models

/// How samples are drawn.
public struct SamplingOptions: Sendable {
    public var seed: UInt64
    /// Runs the whole network once for every variable, as everybody else does; the same draw, up to rounding.
    public var isNaive: Bool
    public var batch: Int

    public init(seed: UInt64 = 0, isNaive: Bool = false, batch: Int = 256) {
        self.seed = seed
        self.isNaive = isNaive
        self.batch = batch
    }
}

extension MADERun {
    /// Samples and the parameters of the conditionals that they were drawn from.
    public struct Drawn {
        /// `[count, variables]`
        public var examples: HostArray
        /// `[count, conditional.parameterCount, variables]`
        public var parameters: HostArray
    }

    /// Draws examples; example i is the same for any count and batch. A mixture first draws one of its masks.
    public func sample(count: Int, _ options: SamplingOptions) throws -> Drawn {
        let members = configuration.ensembleMasks
        let choice = HostRandom(seed: options.seed, stream: "ensemble")
        let chosen = (0..<count).map { members[Int((UInt64(choice.bits(example: $0)) * UInt64(members.count)) >> 32)] }
        return try draw(
            count: count, options, member: { chosen[$0] }, mask: { k in self.masks.mask(k) }, given: nil)
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
        let width = model.variableCount
        guard input.shape.count == 2, input.shape[1] == width, observed.shape == input.shape else {
            throw UsageError(
                "complete: expected an input and a mask of [rows, \(width)], found \(input.shape) and \(observed.shape)"
            )
        }
        let flags = observed.doubles.map { $0 != 0 }
        var values = input.floats
        for i in values.indices where flags[i] && !values[i].isFinite {
            throw UsageError("complete: row \(i / width) has an observed value that is not finite")
        }
        for i in values.indices where !flags[i] { values[i] = 0 }
        var result = [Float](repeating: 0, count: values.count)
        // Rows with one pattern share an order and so a program.
        var patterns: [[Bool]: [Int]] = [:]
        for row in 0..<input.shape[0] {
            patterns[Array(flags[row * width..<(row + 1) * width]), default: []].append(row)
        }
        for (pattern, rows) in patterns.sorted(by: { $0.value[0] < $1.value[0] }) {
            let given = HostArray(rows.flatMap { values[$0 * width..<($0 + 1) * width] }, shape: [rows.count, width])
            let mask = { (k: Int) throws -> (order: [Int32], hidden: [[Int32]]) in
                let base = self.masks.mask(k)
                if self.configuration.orderAgnostic {
                    // Observed first, each part in the order of the mask.
                    let sequence = (0..<width).sorted {
                        (pattern[$0] ? 0 : 1, base.order[$0]) < (pattern[$1] ? 0 : 1, base.order[$1])
                    }
                    return (Order.sequence(sequence).index.map { $0 + 1 }, base.hidden)
                }
                let last = (0..<width).filter { pattern[$0] }.map { base.order[$0] }.max() ?? 0
                if !isApproximate, Int(last) != pattern.count(where: { $0 }) {
                    throw UsageError(
                        "complete: row \(rows[0]) observes variables that are not the first ones of the model's order, so its conditional cannot be drawn exactly; train with orderAgnostic=true, or accept a draw that ignores later observations with --approximate"
                    )
                }
                return base
            }
            let members = try weighMembers(given, pattern, rows, mask, options)
            let drawn = try draw(
                count: rows.count, options, member: { members[$0] }, mask: mask,
                given: (given, pattern), exampleIndex: { rows[$0] })
            let filled = drawn.examples.floats
            for (i, row) in rows.enumerated() {
                for v in 0..<width {
                    result[row * width + v] = pattern[v] ? values[row * width + v] : filled[i * width + v]
                }
            }
        }
        return HostArray(result, shape: input.shape)
    }

    /// The mask that each row is completed with: of a mixture, drawn with the probability that the observed part gives it.
    private func weighMembers(
        _ given: HostArray, _ pattern: [Bool], _ rows: [Int],
        _ mask: (Int) throws -> (order: [Int32], hidden: [[Int32]]),
        _ options: SamplingOptions
    ) throws -> [Int] {
        let members = configuration.ensembleMasks
        let count = given.shape[0]
        guard members.count > 1 else { return [Int](repeating: members[0], count: count) }
        var evidence: [[Double]] = []
        for k in members {
            let (order, hidden) = try mask(k)
            let parameters = model.conditionalParameters(x, .constant(order: order, hidden: hidden))
            let terms = model.conditional.logProbability(x, parameters)
            let seen = Tensor.constant(HostArray(pattern.map { $0 ? 1 : 0 } as [Float]))
            let executable = try device.load(
                compile([Tensor.select(seen.greater(0).broadcast(to: terms.shape), terms, 0).sum(axes: [1])]),
                maximumBatch: min(count, options.batch), states: states.buffers)
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
                if rest < 0 { return members[k] }
            }
            return members[members.count - 1]
        }
    }

    private func draw(
        count: Int, _ options: SamplingOptions, member: (Int) -> Int,
        mask: (Int) throws -> (order: [Int32], hidden: [[Int32]]),
        given: (values: HostArray, pattern: [Bool])?, exampleIndex: (Int) -> Int = { $0 }
    ) throws -> Drawn {
        let width = model.variableCount
        let blocks = model.conditional.parameterCount
        var examples = [Float](repeating: 0, count: count * width)
        var parameters = [Float](repeating: 0, count: count * width * blocks)
        var groups: [Int: [Int]] = [:]
        for i in 0..<count { groups[member(i), default: []].append(i) }
        for (k, rows) in groups.sorted(by: { $0.key < $1.key }) {
            let (order, hidden) = try mask(k)
            let sampler = try MADESampler(
                self, order: order, hidden: hidden, pattern: given?.pattern, options,
                maximumBatch: min(rows.count, options.batch))
            for start in stride(from: 0, to: rows.count, by: options.batch) {
                let part = Array(rows[start..<min(rows.count, start + options.batch)])
                var feeds = RandomSource.feeds(seed: options.seed, examples: part.map(exampleIndex))
                if let given {
                    let values = given.values.floats
                    feeds["given"] = HostArray(
                        part.flatMap { values[$0 * width..<($0 + 1) * width] }, shape: [part.count, width])
                }
                let drawn = try sampler.run(feeds, batch: part.count)
                let (a, b) = (drawn.examples.floats, drawn.parameters.floats)
                for (i, row) in part.enumerated() {
                    examples.replaceSubrange(row * width..<(row + 1) * width, with: a[i * width..<(i + 1) * width])
                    parameters.replaceSubrange(
                        row * width * blocks..<(row + 1) * width * blocks,
                        with: b[i * width * blocks..<(i + 1) * width * blocks])
                }
            }
        }
        return Drawn(
            examples: HostArray(examples, shape: [count, width]),
            parameters: HostArray(parameters, shape: [count, blocks, width]))
    }
}

/// The draw of a MADE under one order, ready to run: compiled, or as the loop over full passes.
public final class MADESampler {
    private enum Way {
        case compiled(any SamplingExecutable)
        case naive(any Executable, groups: [[Int]])
    }

    private let run: MADERun
    private let way: Way
    public let program: SamplingProgram?

    public init(
        _ run: MADERun, order: [Int32], hidden: [[Int32]], pattern: [Bool]? = nil, _ options: SamplingOptions,
        maximumBatch: Int
    ) throws {
        self.run = run
        let orders = ModelOrders.constant(order: order, hidden: hidden)
        let given = pattern.map { pattern in
            (
                values: Tensor.input("given", run.x.shape),
                observed: Tensor.constant(HostArray(pattern.map { $0 ? 1 : 0 } as [Float])).broadcast(to: run.x.shape)
            )
        }
        let (drawn, parameters) = run.model.draw(run.x, orders, RandomSource(), given: given)
        let index = Order(index: order.map { $0 - 1 })
        if options.isNaive {
            way = .naive(
                try run.device.load(
                    compile([drawn, parameters]), maximumBatch: maximumBatch, states: run.states.buffers),
                groups: index.groups)
            program = nil
        } else {
            let program = try SamplingProgram(variable: run.x, drawn: drawn, order: index, outputs: [parameters])
            way = .compiled(try run.device.load(program, maximumBatch: maximumBatch, states: run.states.buffers))
            self.program = program
        }
    }

    /// Bytes that the sampler holds beside the weights.
    public var plannedBytes: Int {
        switch way {
        case .compiled(let executable): executable.plannedBytes
        case .naive(let executable, _): executable.plannedBytes
        }
    }

    public func run(_ feeds: [String: HostArray], batch: Int) throws -> MADERun.Drawn {
        switch way {
        case .compiled(let executable):
            let names = Set(
                executable.program.values.compactMap { if case .input(let name) = $0.storage { name } else { nil } })
            let results = try executable.run(feeds.filter { names.contains($0.key) }, batch: batch)
            return MADERun.Drawn(examples: results[0], parameters: results[1])
        case .naive(let executable, let groups):
            let names = Set(executable.schedule.inputs.map { executable.schedule.values[$0].label })
            let width = run.model.variableCount
            var x = [Float](repeating: 0, count: batch * width)
            var constant = feeds.filter { names.contains($0.key) }.mapValues { Feed.host($0) }
            var parameters = HostArray([0] as [Float])
            for group in groups {
                constant["x"] = .host(HostArray(x, shape: [batch, width]))
                let results = try executable.run(constant, batch: batch)
                let next = results[0].floats
                for v in group { for b in 0..<batch { x[b * width + v] = next[b * width + v] } }
                parameters = results[1]
            }
            return MADERun.Drawn(examples: HostArray(x, shape: [batch, width]), parameters: parameters)
        }
    }
}
