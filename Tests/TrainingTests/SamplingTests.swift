import CPU
import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Likelihood
import Models
import OpenCL
import Synchronization
import Testing

@testable import Training

@Suite(.serialized) struct SamplingTests {
    private func run(_ device: any Device, variables: Int, _ change: (inout MADE.Settings) -> Void = { _ in }) throws
        -> Run
    {
        var settings = MADE.Settings { $0.hidden = [37, 29] }
        change(&settings)
        let run = try Run(
            RunConfiguration(settings) { $0.seed = 9 }, examples: ExampleShape([variables]), device: device)
        try run.initialize()
        // Larger weights than those that training starts from, so that the conditionals differ from one half.
        for (name, parameter) in run.parameters {
            let values = parameter.initialValue(named: name, seed: 4).floats.map { $0 * 4 }
            try run.states.set(parameter, HostArray(values, shape: parameter.shape))
        }
        return run
    }

    /// Devices whose sampler exists.
    private func samplingDevices() throws -> [any Device] { try testDevices() }

    @Test(arguments: ["bernoulli", "categorical:5", "mixture:3"]) func compiledAndNaiveDrawTheSame(conditional: String)
        throws
    {
        let runs = try samplingDevices().map {
            try run($0, variables: 30) {
                $0.conditional = conditional
                $0.direct = true
                $0.ordering = "random"
            }
        }
        for own in runs {
            let device = own.device
            let compiled = try own.sample(count: 100, SamplingOptions(seed: 5, batch: 33))
            // Full passes on the device itself for one conditional; there are many kernels in them.
            let run = conditional == "bernoulli" ? own : runs[0]
            let naive = try run.sample(count: 100, SamplingOptions(seed: 5, isNaive: true, batch: 50))
            let same = (0..<100).filter { row in
                zip(compiled.examples.rows(row..<row + 1).floats, naive.examples.rows(row..<row + 1).floats).allSatisfy
                {
                    abs($0 - $1) <= 1e-3 * max(1, abs($1))
                }
            }
            #expect(same.count >= 99, "\(device.summary)")
            // Logits against the full pass on the same pixels.
            let x = compiled.examples
            let model = try #require(run.model as? MADE)
            let full = try run.device.load(
                compile([model.conditionalParameters(run.x, Context())]), maximumBatch: 100, states: run.states.buffers)
            let logits = try full.run(["x": .host(x)], batch: 100)[0].floats
            let largest = max(1, logits.map { abs($0) }.max()!)
            let worst = zip(compiled.outputs[0].floats, logits).map { abs($0 - $1) }.max()!
            #expect(worst <= 4e-6 * largest, "\(device.summary): \(worst)")
        }
    }

    /// Beside a GPU that should be slower, the processor draws from the GPU's weights, also when these have changed, and says so once.
    @Test func aProcessorDrawsForAGPU() throws {
        guard let gpu = try? OpenCLDevice.named("opencl", kernels: .gpu) else { return }
        let notes = Mutex<[String]>([])
        let both = AutomaticDevice(gpu, try CPUDevice(threads: 2)) { line in notes.withLock { $0.append(line) } }
        let (automatic, own) = (try run(both, variables: 200), try run(CPUDevice(threads: 2), variables: 200))
        for factor in [1, -0.5] as [Float] {
            for run in [automatic, own] {
                for (_, parameter) in run.parameters {
                    let values = try run.states.get(parameter)!
                    try run.states.set(parameter, HostArray(values.floats.map { $0 * factor }, shape: values.shape))
                }
            }
            let options = SamplingOptions(seed: 3, batch: 20)
            #expect(try automatic.sample(count: 20, options).examples == own.sample(count: 20, options).examples)
        }
        let said = notes.withLock { $0 }
        #expect(said.count == 1 && said[0].contains("`--device opencl:0` draws there"), "\(said)")
    }

    @Test func examplesDoNotDependOnTheBatch() throws {
        for device in try samplingDevices() {
            let run = try run(device, variables: 20)
            let many = try run.sample(count: 50, SamplingOptions(seed: 1)).examples
            let few = try run.sample(count: 7, SamplingOptions(seed: 1, batch: 3)).examples
            #expect(few == many.rows(0..<7), "\(device.summary)")
        }
    }

    /// Against a search by hand, over more rows than one chunk holds.
    @Test func nearestTrainingExamples() throws {
        let draw = { (rows: Int, seed: Int) -> HostArray in
            let random = HostRandom(seed: UInt64(seed), stream: "nearest")
            return HostArray(
                (0..<rows * 6).map { Float(random.bits(example: $0 / 6, variable: $0 % 6) % 9) }, shape: [rows, 6])
        }
        let (examples, train) = (draw(300, 1), draw(5003, 2))
        let (a, b) = (examples.floats, train.floats)
        for device in try testDevices() {
            let found = try NearestExamples(to: examples, in: train, on: device)
            for i in stride(from: 0, to: 300, by: 10) {
                let least = (0..<5003).map { row in
                    (0..<6).reduce(0) { $0 + (a[i * 6 + $1] - b[row * 6 + $1]) * (a[i * 6 + $1] - b[row * 6 + $1]) }
                }.min()!
                #expect(abs(found.distances[i] - Double(least).squareRoot()) < 1e-9, "\(device.summary)")
            }
            #expect(found.examples(of: train).rows(7..<8) == train.rows(found.rows[7]..<found.rows[7] + 1))
        }
    }

    @Test func theSameBitsOnOneThreadAndTwo() throws {
        let one = try run(CPUDevice(threads: 1), variables: 20).sample(count: 90, SamplingOptions(seed: 1))
        let two = try run(CPUDevice(threads: 2), variables: 20).sample(count: 90, SamplingOptions(seed: 1))
        #expect(one.examples == two.examples && one.outputs == two.outputs)
    }

    /// Completions at D = 8 against the enumerated conditional, by chi-square.
    @Test(arguments: [false, true]) func completionsFollowTheConditional(agnostic: Bool) throws {
        let run = try run(CPUDevice(threads: 2), variables: 8) {
            if agnostic {
                $0.orderAgnostic = true
                $0.masks = "fresh"
                $0.ensemble = 1
            } else {
                $0.masks = "3"
            }
        }
        let observed: [Bool] =
            agnostic
            ? [false, true, false, false, true, false, true, false]
            : [true, true, true, false, false, false, false, false]
        let values: [Float] = [1, 0, 1, 0, 1, 0, 0, 1]
        let count = 20_000
        let input = HostArray((0..<count).flatMap { _ in values }, shape: [count, 8])
        let mask = HostArray((0..<count).flatMap { _ in observed }, shape: [count, 8])
        let drawn = try run.complete(input, observed: mask, SamplingOptions(seed: 3, batch: 4096)).floats
        let free = (0..<8).filter { !observed[$0] }
        var counts = [Double](repeating: 0, count: 1 << free.count)
        for row in 0..<count {
            for v in 0..<8 where observed[v] { #expect(drawn[row * 8 + v] == values[v]) }
            counts[free.enumerated().reduce(0) { $0 + (drawn[row * 8 + $1.element] > 0 ? 1 << $1.offset : 0) }] += 1
        }
        // Enumerate under the order that the completion used.
        var rows: [Float] = []
        for code in 0..<counts.count {
            var x = values
            for (bit, v) in free.enumerated() { x[v] = Float(code >> bit & 1) }
            rows += x
        }
        var logs: [Double]
        if agnostic {
            let model = try #require(run.model as? MADE)
            let base = model.masks.mask(0)
            let sequence = (0..<8).sorted {
                (observed[$0] ? 0 : 1, base.order.index[$0]) < (observed[$1] ? 0 : 1, base.order.index[$1])
            }
            let orders = ModelOrders.constant(order: .sequence(sequence), hidden: base.hidden)
            let executable = try run.device.load(
                compile([model.logProbability(run.x, Context(orders: orders))]),
                maximumBatch: counts.count,
                states: run.states.buffers)
            logs = try executable.run(["x": .host(HostArray(rows, shape: [counts.count, 8]))], batch: counts.count)[0]
                .doubles
        } else {
            logs = try run.logProbability(HostArray(rows, shape: [counts.count, 8]))
        }
        let total = logs.reduce(0) { $0 + Math.exp($1) }
        logs = logs.map { Math.exp($0) / total }
        // Cells with few expected draws are pooled.
        var (statistic, cells) = (0.0, 0)
        var (pooledSeen, pooledExpected) = (0.0, 0.0)
        for (seen, p) in zip(counts, logs) {
            let expected = p * Double(count)
            if expected < 8 {
                pooledSeen += seen
                pooledExpected += expected
            } else {
                statistic += (seen - expected) * (seen - expected) / expected
                cells += 1
            }
        }
        if pooledExpected > 0 {
            statistic += (pooledSeen - pooledExpected) * (pooledSeen - pooledExpected) / pooledExpected
            cells += 1
        }
        // Wilson and Hilferty's normal approximation; 3.1 leaves one in a thousand.
        let k = Double(max(1, cells - 1))
        let z = (Math.pow(statistic / k, 1.0 / 3) - (1 - 2 / (9 * k))) / (2 / (9 * k)).squareRoot()
        #expect(z < 3.1, "chi-square \(statistic) with \(cells - 1) degrees of freedom")
    }

    @Test func fixedOrdersRefuseWhatTheyCannotDraw() throws {
        let run = try run(CPUDevice(threads: 1), variables: 6)
        let x = HostArray([Float](repeating: 1, count: 6), shape: [1, 6])
        let gaps = HostArray([false, true, false, false, false, false], shape: [1, 6])
        #expect(throws: UsageError.self) { try run.complete(x, observed: gaps, SamplingOptions()) }
        #expect(throws: Never.self) { try run.complete(x, observed: gaps, SamplingOptions(), isApproximate: true) }
    }

    /// An observed value that the model's variables cannot have is refused; what is not observed may be anything.
    @Test func completionsRefuseForeignValues() throws {
        let run = try run(CPUDevice(threads: 1), variables: 4)
        let observed = HostArray([true, true, false, false], shape: [1, 4])
        #expect(throws: UsageError.self) {
            try run.complete(
                HostArray([1, 255, 0, 0] as [Float], shape: [1, 4]), observed: observed, SamplingOptions())
        }
        #expect(throws: Never.self) {
            try run.complete(
                HostArray([1, 0, 0.5, .nan] as [Float], shape: [1, 4]), observed: observed, SamplingOptions())
        }
    }

    /// A limit of 0 leaves log-scales unbounded in every flow, and temperature reaches a base that is autoregressive itself.
    @Test func flowsOfEverySetting() throws {
        for flow in ["realnvp", "maf", "maf-mog", "iaf"] {
            let settings = RunConfiguration(
                Flow.VectorSettings {
                    $0.flow = flow
                    $0.layers = 1
                    $0.hidden = [8]
                    $0.components = 2
                    $0.limit = 0
                })
            let run = try Run(settings, examples: ExampleShape([2]), device: CPUDevice(threads: 1))
            let rows = HostArray((0..<200).map { Float($0 % 17) / 4 - 2 }, shape: [100, 2])
            try run.initialize(Examples(rows))
            let loss = run.model.objective(run.x, run.model.makeContext(.train))
            let slopes = try gradients(of: loss, with: run.model.parameters.map(\.tensor))
            let found = try run.device.load(compile(slopes), maximumBatch: 100, states: run.states.buffers)
                .run(["x": .host(rows)], batch: 100)
            #expect(found.allSatisfy { $0.floats.allSatisfy(\.isFinite) }, "\(flow)")
            func deviation(_ temperature: Double) throws -> Double {
                let x = try run.sample(count: 400, SamplingOptions(temperature: temperature)).examples.doubles
                let mean: Double = x.reduce(0.0) { $0 + $1 } * (1 / 800)
                let square: Double = x.reduce(0.0) { $0 + ($1 - mean) * ($1 - mean) }
                return square.squareRoot()
            }
            #expect(try deviation(0.01) < 0.5 * deviation(1), "\(flow)")
            // Latents that are no numbers are refused; here a scale of exp(1e30).
            guard flow == "realnvp" else { continue }
            for (_, parameter) in run.parameters {
                let ones = [Float](repeating: 1, count: parameter.shape.reduce(1, *))
                try run.states.set(parameter, HostArray(ones, shape: parameter.shape))
            }
            #expect(throws: UsageError.self) { try run.encode(Examples([[1, 1e30]])) }
        }
    }

    /// A flow whose base is made of flows draws alike in stages of compiled programs, by full passes, and as one graph; the temperature
    /// reaches the base that holds the noise, and what is given reaches all of them.
    @Test func basesMadeOfFlowsAreDrawn() throws {
        func maf(_ base: (any Distribution)? = nil) -> Flow {
            .maf(variables: 3, layers: 2, hidden: [6], features: 2, base: base, startsAtIdentity: false)
        }
        let bases: [any Distribution] = [
            maf(), maf(ConditionalNormal([3], features: 2)),
            maf(
                AutoregressiveDensity(
                    variables: 3, hidden: [5], conditional: MixtureOfGaussians(components: 2), features: 2)),
            Mixture([maf(), maf(), maf(FullNormal(3)), maf(StudentT([3]))]),
        ]
        let count = 60
        let features = HostArray((0..<2 * count).map { Float($0 % 13) / 6 - 1 }, shape: [count, 2])
        for base in bases {
            for device in try testDevices() {
                let flow = maf(base)
                let run = try Run(flow, device: device)
                try run.initialize()
                for (name, parameter) in run.parameters where name.contains("base") {
                    let start = parameter.initialValue(named: name, seed: 3).floats
                    var moved = start.enumerated().map { $1 + Float($0 % 7) / 20 - 0.15 }
                    parameter.clearDead(&moved)
                    try run.states.set(parameter, HostArray(moved, shape: parameter.shape))
                }
                for temperature in [1, 0.25] {
                    var options = SamplingOptions(seed: 8, batch: 33, features: features, temperature: temperature)
                    let compiled = try run.sample(count: count, options).examples.floats
                    options.isNaive = true
                    let naive = try run.sample(count: count, options).examples.floats
                    let x = flow.sample(flow.shape, flow.makeContext(), temperature: temperature)
                    var feeds = RandomSource.feeds(seed: 8, examples: Array(0..<count))
                    feeds["features"] = features
                    let graph = try device.load(compile([x]), maximumBatch: count, states: run.states.buffers)
                        .run(feeds.mapValues { .host($0) }, batch: count)[0].floats
                    for (a, (b, c)) in zip(compiled, zip(naive, graph)) {
                        #expect(
                            max(abs(a - b), abs(a - c)) <= 1e-4 * max(1, abs(a)),
                            "\(flow.base.name) on \(device.name): \(a), \(b) and \(c)")
                    }
                    // Another example's features, another draw.
                    options.features = HostArray(features.floats.map { $0 + 1 }, shape: [count, 2])
                    #expect(try run.sample(count: count, options).examples.floats != naive)
                }
            }
        }
    }

    /// The coldest draw is of levels that there are; what is colder is refused.
    @Test func theColdestDrawIsOfLevels() throws {
        for device in try testDevices() {
            let run = try run(device, variables: 5) { $0.conditional = "categorical:4" }
            let drawn = try run.sample(count: 50, SamplingOptions(temperature: 1e-30)).examples.doubles
            #expect(drawn.allSatisfy { (0..<4).contains($0) }, "\(device.summary)")
            #expect(throws: UsageError.self) { try run.sample(count: 1, SamplingOptions(temperature: 1e-40)) }
        }
    }

    /// Every model sums to one over all its inputs on every device.
    @Test func modelsSumToOne() throws {
        for device in try testDevices() {
            for (levels, variables, change) in [
                (
                    2, 10,
                    {
                        $0.masks = "4"
                        $0.orderAgnostic = true
                    }
                ),
                (
                    2, 10,
                    {
                        $0.ordering = "random"
                        $0.direct = true
                    }
                ),
                (4, 5, { $0.conditional = "categorical:4" }),
            ] as [(Int, Int, (inout MADE.Settings) -> Void)] {
                let run = try run(device, variables: variables, change)
                let count = (0..<variables).reduce(1) { n, _ in n * levels }
                let rows = (0..<count).flatMap { code -> [Float] in
                    var rest = code
                    return (0..<variables).map { _ in
                        defer { rest /= levels }
                        return Float(rest % levels)
                    }
                }
                let total = try run.logProbability(HostArray(rows, shape: [count, variables])).reduce(0) {
                    $0 + Math.exp($1)
                }
                #expect(abs(total - 1) < 1e-5, "\(device.summary): \(total)")
            }
        }
    }

    /// One lane or several, one thread or a team: vectors hold channels or examples, and every example is the same to the bit.
    @Test func fewLanesDrawTheSameBits() throws {
        let models: [(any ModelSettings, ExampleShape)] = [
            (
                WaveNet.Settings {
                    $0.levels = 11
                    $0.residual = 67
                    $0.skip = 35
                    $0.stacks = 1
                    $0.layers = 6
                }, ExampleShape([70])
            ),
            (
                GatedPixelCNN.Settings {
                    $0.channels = 37
                    $0.blocks = 2
                    $0.headChannels = 5
                }, ExampleShape([1, 5, 6])
            ),
        ]
        for (settings, shape) in models {
            func draw(threads: Int, count: Int, batch: Int) throws -> Run.Drawn {
                let run = try Run(RunConfiguration(settings), examples: shape, device: CPUDevice(threads: threads))
                try run.initialize()
                return try run.sample(count: count, SamplingOptions(seed: 2, batch: batch))
            }
            let many = try draw(threads: 2, count: 20, batch: 20)
            for (threads, batch) in [(1, 1), (2, 1), (2, 3), (1, 4), (3, 4), (2, 16), (1, 20)] {
                let other = try draw(threads: threads, count: 4, batch: batch)
                let what = "\(threads) threads, batches of \(batch)"
                #expect(other.examples == many.examples.rows(0..<4), "\(what)")
                #expect(other.outputs[0] == many.outputs[0].rows(0..<4), "\(what)")
            }
            let team = try draw(threads: 2, count: 16, batch: 16)
            #expect(team.examples == many.examples.rows(0..<16) && team.outputs[0] == many.outputs[0].rows(0..<16))
        }
    }

    /// Models of convolutions: compiled and naive, logits against the full pass.
    @Test func convolutionModelsDrawTheSame() throws {
        let models: [(any ModelSettings, ExampleShape)] = [
            (
                PixelCNN.Settings {
                    $0.channels = 8
                    $0.blocks = 2
                }, ExampleShape([1, 8, 7])
            ),
            (
                GatedPixelCNN.Settings {
                    $0.channels = 6
                    $0.blocks = 2
                    $0.headChannels = 4
                }, ExampleShape([1, 7, 8], classes: 3)
            ),
            (
                PixelCNNPlusPlus.Settings {
                    $0.channels = 4
                    $0.scales = 2
                    $0.blocks = 1
                    $0.components = 2
                }, ExampleShape([3, 4, 4])
            ),
            (
                WaveNet.Settings {
                    $0.levels = 16
                    $0.residual = 6
                    $0.skip = 8
                    $0.stacks = 1
                    $0.layers = 4
                }, ExampleShape([40])
            ),
        ]
        for (settings, shape) in models {
            func makeRun(_ device: any Device) throws -> Run {
                let run = try Run(RunConfiguration(settings), examples: shape, device: device)
                try run.initialize()
                return run
            }
            // The loop over full passes, and the parameters of a full pass, are the processor's on one thread.
            let reference = try makeRun(CPUDevice(threads: 1))
            var options = SamplingOptions(seed: 5, batch: 17, label: shape.classes.map { _ in 1 })
            let one = try reference.sample(count: 20, options).examples
            options.isNaive = true
            let naive = try reference.sample(count: 20, options).examples
            options.isNaive = false
            let full = try reference.device.load(
                compile([
                    try #require(reference.model as? any AutoregressiveModel).conditionalParameters(
                        reference.x, reference.model.makeContext())
                ]), maximumBatch: 20, states: reference.states.buffers)
            for device in try samplingDevices() {
                let compiled = try makeRun(device).sample(count: 20, options)
                func same(_ other: HostArray) -> Int {
                    (0..<20).count { compiled.examples.rows($0..<$0 + 1) == other.rows($0..<$0 + 1) }
                }
                if device is CPUDevice { #expect(compiled.examples == one) }
                #expect(same(naive) >= 19, "\(device.summary)")
                var feeds: [String: Feed] = ["x": .host(compiled.examples)]
                if shape.classes != nil { feeds["label"] = .host(HostArray([Int32](repeating: 1, count: 20))) }
                let logits = try full.run(feeds, batch: 20)[0].floats
                let largest = max(1, logits.map { abs($0) }.max() ?? 0)
                let worst = zip(compiled.outputs[0].floats, logits).map { abs($0 - $1) }.max() ?? 0
                #expect(worst <= 4e-6 * largest, "\(device.summary): \(worst)")
            }
        }
    }
}
