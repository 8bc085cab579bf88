import CPU
import Compiler
import Datasets
import Graph
import Likelihood
import Models
import OpenCL
import Testing

@testable import Training

#if canImport(Glibc)
    import Glibc
#endif

/// The CPU backend and PoCL in both kernel families; OpenCL only where a device is there.
func testDevices() throws -> [any Device] {
    var devices: [any Device] = [try CPUDevice(threads: 2)]
    for family in [KernelFamily.cpu, .gpu] {
        if let device = try? OpenCLDevice.named("opencl", kernels: family) { devices.append(device) }
    }
    return devices
}

private func temporaryFolder() throws -> String {
    var template = Array("/tmp/martlet-test-XXXXXX".utf8CString)
    return String(cString: try #require(mkdtemp(&template)))
}

private func tinyData(_ variables: Int = 9) throws -> Dataset {
    let random = HostRandom(seed: 11, stream: "tiny")
    func draw(_ start: Int, _ count: Int) -> HostArray {
        HostArray(
            (0..<count * variables).map { i -> UInt8 in
                let row = start + i / variables
                let base = random.bits(example: row) & 3
                return UInt8((Int(base) + i % variables) % 3 == 0 ? 1 : 0)
                    ^ (random.uniform(example: row, variable: 1 + i % variables) < 0.1 ? 1 : 0)
            }, shape: [count, variables])
    }
    return try Dataset(name: "tiny", train: draw(0, 230), valid: draw(1000, 60), test: draw(2000, 60))
}

private func settings(
    _ model: (inout MADE.Settings) -> Void = { _ in }, _ change: (inout TrainingSettings) -> Void = { _ in }
) -> RunConfiguration {
    var made = MADE.Settings { $0.hidden = [24, 17] }
    model(&made)
    return RunConfiguration(made) {
        $0.batch = 50
        $0.epochs = 4
        $0.learningRate = 0.01
        change(&$0)
    }
}

@Suite(.serialized) struct TrainerTests {
    private func train(
        _ configuration: RunConfiguration, shape: [Int]? = nil, on device: any Device, stopAfter: [Int] = []
    ) throws -> (bytes: [UInt8], metrics: [String]) {
        let folder = RunFolder(try temporaryFolder())
        let data = try tinyData()
        var stops = stopAfter
        var isFirst = true
        while true {
            let run = try Run(
                configuration, examples: ExampleShape(shape ?? [data.variableCount]), device: device)
            try run.initialize()
            var steps = 0
            let trainer = try Trainer(
                run, train: data[.train], valid: data[.valid], folder: folder,
                report: { report in
                    guard report.validation == nil else { return }
                    steps += 1
                    if let stop = stops.first, steps == stop { interruptionRequested.store(true, ordering: .relaxed) }
                })
            if isFirst { try trainer.start() } else { try trainer.restore() }
            isFirst = false
            let outcome = try trainer.train()
            if outcome == .finished { break }
            interruptionRequested.store(false, ordering: .relaxed)
            stops.removeFirst()
        }
        let lines = String(decoding: try Files.read(folder.metrics), as: UTF8.self).split(separator: "\n").map { line in
            String(line[..<(line.firstRange(of: ",\"seconds\"")?.lowerBound ?? line.endIndex)])
        }
        return (try Files.read(folder.state), lines)
    }

    @Test func resumedRunsEndInTheSameBits() throws {
        for device in try testDevices() {
            // Every kind of run on the CPU; on OpenCL, where each program takes seconds to compile, the plain one.
            let kinds = [
                settings(),
                settings({
                    $0.masks = "fresh"
                    $0.orderAgnostic = true
                }),
                settings({ $0.direct = true }) {
                    $0.optimizer = .adamw
                    $0.weightDecay = 0.01
                    $0.clipNorm = 1
                    $0.averaging = 0.9
                },
                settings({ _ in }) {
                    $0.accumulate = 2
                    $0.clipNorm = 1
                    $0.averaging = 0.9
                },
                settings({ _ in }) {
                    $0.optimizer = .lbfgs
                    $0.weightDecay = 0.01
                    $0.history = 3
                    $0.epochs = 12
                },
            ]
            for configuration in device.name == "cpu" ? kinds : [kinds[0], kinds[4]] {
                let whole = try train(configuration, on: device)
                let parts = try train(configuration, on: device, stopAfter: device.name == "cpu" ? [3, 5, 1] : [7])
                let (a, b) = (try arrays(whole.bytes), try arrays(parts.bytes))
                #expect(a == b, "\(device.name)")
                #expect(whole.metrics == parts.metrics, "\(device.name)")
            }
        }
    }

    /// Running statistics have no average: the averaged weights are evaluated and kept with the statistics as they are.
    @Test func averagedWeightsKeepTheirRunningStatistics() throws {
        var configuration = settings()
        configuration.model = Flow.VectorSettings {
            $0.hidden = [8]
            $0.layers = 1
            $0.levels = 2
            $0.normalization = "batchNorm"
        }
        configuration.averaging = 0.9
        configuration.epochs = 1
        let device = try CPUDevice(threads: 1)
        let whole = try arrays(train(configuration, on: device).bytes)
        for name in whole.keys where name.hasPrefix("best.") && name.contains("running") {
            #expect(whole[name] == whole[String(name.dropFirst(5))], "\(name)")
        }
        let parts = try arrays(train(configuration, on: device, stopAfter: [3]).bytes)
        #expect(whole == parts)
    }

    /// An interruption in the middle of a line search leaves the weights where the step began, and the run ends in the same bits.
    @Test func anInterruptedLineSearchIsDoneAgain() throws {
        let device = try CPUDevice(threads: 1)
        let data = try tinyData()
        let configuration = settings({ _ in }) {
            $0.optimizer = .lbfgs
            $0.epochs = 6
        }
        func trained(interruptingBatch stop: Int?) throws -> ([[Float]], interruptions: Int) {
            let run = try Run(configuration, examples: ExampleShape([data.variableCount]), device: device)
            try run.initialize()
            let step = try run.makeTrainingStep()
            let rows = data[.train].rows
            var (fed, interruptions) = (0, 0)
            let batches = StepBatches(count: 5, examples: 230) { batch in
                fed += 1
                if fed == stop { interruptionRequested.store(true, ordering: .relaxed) }
                let range = batch * 50..<min(230, batch * 50 + 50)
                return (
                    ["x": HostArray(rows.rows(range).floats, shape: [range.count, data.variableCount])], range.count
                )
            }
            var (done, last) = (0, try run.parameters.map { try run.states.get($0.parameter)!.floats })
            while done < 6 {
                if try step.run(batches)?.value() != nil {
                    done += 1
                } else {
                    interruptions += 1
                    interruptionRequested.store(false, ordering: .relaxed)
                    #expect(try run.parameters.map { try run.states.get($0.parameter)!.floats } == last)
                }
                last = try run.parameters.map { try run.states.get($0.parameter)!.floats }
            }
            return (last, interruptions)
        }
        let whole = try trained(interruptingBatch: nil)
        // In the first evaluation of all, in one of a line search, and in a later one.
        for stop in [2, 8, 23] {
            let parts = try trained(interruptingBatch: stop)
            #expect(parts.0 == whole.0 && parts.interruptions == 1, "\(stop)")
        }
    }

    private func arrays(_ bytes: [UInt8]) throws -> [String: HostArray] {
        let path = try temporaryFolder() + "/state"
        try Files.write(bytes, to: path)
        return try SafeTensors.read(path).arrays
    }

    @Test func threadsDoNotChangeTheBits() throws {
        let one = try train(settings(), on: CPUDevice(threads: 1))
        let two = try train(settings(), on: CPUDevice(threads: 2))
        #expect(try arrays(one.bytes) == arrays(two.bytes))
    }

    /// Shearing changes what is learned, but not in the epochs that are to be straight.
    @Test func lastEpochsAreStraight() throws {
        let device = try CPUDevice(threads: 1)
        func metrics(shear: Double, straight: Int) throws -> [String] {
            try train(
                settings({ _ in }) {
                    $0.shear = shear
                    $0.straightEpochs = straight
                }, shape: [1, 3, 3], on: device
            ).metrics
        }
        let plain = try metrics(shear: 0, straight: 0)
        #expect(try metrics(shear: 1, straight: 4) == plain)
        let late = try metrics(shear: 1, straight: 3)
        #expect(late[0] != plain[0] && late.count == 4)
        // Of four epochs the first is sheared in both runs, the second in one.
        #expect(try metrics(shear: 1, straight: 2)[0] == late[0])
        #expect(try metrics(shear: 1, straight: 2)[1] != late[1])
    }

    @Test(arguments: OptimizerChoice.named) func everyOptimizerLearns(_ optimizer: OptimizerChoice) throws {
        let device = try CPUDevice(threads: 1)
        let data = try tinyData()
        let configuration = settings({ _ in }) {
            $0.optimizer = optimizer
            $0.learningRate = optimizer == .adadelta ? 10 : optimizer == .adagrad || optimizer == .sgd ? 0.1 : 0.01
            $0.epochs = 15
        }
        let run = try Run(configuration, examples: ExampleShape([data.variableCount]), device: device)
        try run.initialize()
        let before = -Estimate(try run.logProbability(data.valid)).mean
        let trainer = try Trainer(
            run, train: data[.train], valid: data[.valid], folder: RunFolder(try temporaryFolder()))
        try trainer.start()
        _ = try trainer.train()
        #expect(trainer.bestValidation < before - 0.5, "\(optimizer.name)")
    }

    /// The step that fails is named, also where a device is a step further when that is seen.
    @Test func nonFiniteValuesAreTraced() throws {
        let data = try tinyData()
        let found = try testDevices().map { device in
            let run = try Run(
                settings({ _ in }) {
                    $0.learningRate = 1e30
                    $0.optimizer = .sgd
                }, examples: ExampleShape([data.variableCount]), device: device)
            try run.initialize()
            let trainer = try Trainer(
                run, train: data[.train], valid: data[.valid], folder: RunFolder(try temporaryFolder()))
            try trainer.start()
            let error = #expect(throws: NonFiniteError.self) { try trainer.train() }
            return error?.description ?? ""
        }
        #expect(found.allSatisfy { $0.contains("first produced by") && $0.contains("in step 2") }, "\(found)")
    }

    @Test func ordersKnownAtRunTimeTrain() throws {
        let device = try CPUDevice(threads: 2)
        let data = try tinyData()
        let run = try Run(
            settings({
                $0.masks = "3"
                $0.orderAgnostic = true
            }) { $0.epochs = 20 }, examples: ExampleShape([data.variableCount]), device: device)
        #expect(try (run.model as? MADE)?.proveAutoregressive().isSymbolic == true)
        try run.initialize()
        let before = -Estimate(try run.logProbability(data.valid)).mean
        let trainer = try Trainer(
            run, train: data[.train], valid: data[.valid], folder: RunFolder(try temporaryFolder()))
        try trainer.start()
        _ = try trainer.train()
        #expect(trainer.bestValidation < before - 0.5)
    }

    @Test func wrongSettingsAreRefused() {
        var configuration = RunConfiguration(MADE.Settings())
        for wrong in ["hiden=3", "batch=x", "batch", "optimizer=fast", "hidden=a,b"] {
            #expect(throws: UsageError.self, "\(wrong)") { try configuration.set(wrong) }
        }
        #expect(throws: Never.self) { try configuration.set("hidden=7") }
        #expect((configuration.model as? MADE.Settings)?.hidden == [7])
        #expect(throws: Never.self) { try configuration.set("hidden=30,20") }
        #expect((configuration.model as? MADE.Settings)?.hidden == [30, 20])
        for change in [
            { $0.conditional = "normal" }, { $0.ordering = "1,2" }, { $0.masks = "0" }, { $0.hidden = [0] },
            { $0.masks = "1025" },
        ] as [(inout MADE.Settings) -> Void] {
            #expect(throws: UsageError.self) {
                try RunConfiguration(MADE.Settings(change)).validate(ExampleShape([4]))
            }
        }
        #expect(throws: Never.self) {
            let many = MADE.Settings { ($0.masks, $0.ensemble) = ("1048576", 8) }
            try RunConfiguration(many).validate(ExampleShape([4]))
        }
        for change in [{ $0.batch = 0 }, { $0.epochs = .max }] as [(inout TrainingSettings) -> Void] {
            #expect(throws: UsageError.self) {
                try RunConfiguration(MADE.Settings(), change).validate(ExampleShape([4]))
            }
        }
    }

    /// A model of one's own may call a setting as training once did, but not as it does.
    @Test func namesOfSettingsMeanOneThing() throws {
        struct Own: ModelSettings {
            var rate = 0.5
            func validate(_ examples: ExampleShape) throws {}
            func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel { try MADE(examples) }
        }
        struct Clash: ModelSettings {
            var batch = 3
            func validate(_ examples: ExampleShape) throws {}
            func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel { try MADE(examples) }
        }
        var own = RunConfiguration(Own())
        try own.set("rate=0.25")
        #expect((own.model as? Own)?.rate == 0.25 && own.learningRate == TrainingSettings().learningRate)
        var made = RunConfiguration(MADE.Settings())
        try made.set("rate=0.25")
        #expect(made.learningRate == 0.25)
        let error = #expect(throws: UsageError.self) { try RunConfiguration(Clash()).fields() }
        #expect(error?.description.hasPrefix("batch: training has a setting of this name") == true)
    }

    /// What a model cannot be made of is refused by the name that the setting has.
    @Test func refusedSettingsAreNamed() throws {
        let wrong: [(String, any ModelSettings, ExampleShape)] = [
            ("stacks", WaveNet.Settings { $0.stacks = 0 }, ExampleShape([9])),
            ("residual", WaveNet.Settings { $0.residual = 0 }, ExampleShape([9])),
            ("sets", ByteNet.Settings { $0.sets = -1 }, ExampleShape([9])),
            ("encoderBlocks", VideoPixelNetwork.Settings { $0.encoderBlocks = -1 }, ExampleShape([2, 3, 3])),
            ("blocks", PixelCNN.Settings { $0.blocks = -1 }, ExampleShape([1, 3, 3])),
        ]
        for (name, settings, shape) in wrong {
            let error = #expect(throws: UsageError.self, "\(name)") { try settings.validate(shape) }
            #expect(error?.description.hasPrefix("\(name): ") == true, "\(error?.description ?? "")")
        }
    }

    @Test func configurationsSurviveTheirFile() throws {
        let folder = RunFolder(try temporaryFolder())
        var written = settings({ $0.masks = "7" }) {
            $0.learningRate = 0.25
            // The digits of a seed decide about masks and shuffles to the last one.
            $0.seed = .max
        }
        try written.set("rate=1e-3")
        #expect(written.seed == .max)
        try folder.write(
            config: StoredRun(written, examples: ExampleShape([9]), dataFolder: "data", device: "cpu"))
        let read = try folder.readConfig().configuration(
            preset: RunConfiguration(MADE.Settings()), path: folder.config)
        #expect(read.training == written.training && read.experiment == written.experiment)
        #expect(read.model as? MADE.Settings == written.model as? MADE.Settings)
    }

    /// What no run writes is refused before anything is computed from it.
    @Test func impossibleFilesAreRefused() throws {
        let folder = RunFolder(try temporaryFolder())
        let preset = settings()
        for extents in [[], [-9], [0], [1 << 40, 1 << 40]] as [[Int]] {
            try folder.write(
                config: StoredRun(preset, examples: ExampleShape(extents), dataFolder: "data", device: "cpu"))
            let stored = try folder.readConfig()
            #expect(throws: FileError.self) { try stored.configuration(preset: preset, path: folder.config) }
        }
        let (data, device) = (try tinyData(), try CPUDevice(threads: 1))
        let run = try Run(preset, examples: ExampleShape([data.variableCount]), device: device)
        try run.initialize()
        let trainer = try Trainer(run, train: data[.train], valid: data[.valid], folder: folder)
        try trainer.start()
        let (arrays, metadata) = try SafeTensors.read(folder.state)
        let wrong = [("stepInEpoch", "-5"), ("metricsLength", "-1"), ("step", "\(Int.max)"), ("epoch", "1.5")]
        for (key, value) in wrong {
            try SafeTensors.write(
                arrays.map { (name: $0.key, array: $0.value) }, metadata: metadata.merging([key: value]) { $1 },
                to: folder.state)
            #expect(throws: FileError.self, "\(key)") { try trainer.restore() }
        }
    }

    /// A run from before a setting has its default, whatever the preset has become since; one with a setting that nobody knows is
    /// refused.
    @Test func olderRunsTakeDefaults() throws {
        let folder = RunFolder(try temporaryFolder())
        let written = settings({ $0.masks = "7" }) { $0.learningRate = 0.25 }
        try folder.write(
            config: StoredRun(written, examples: ExampleShape([9]), dataFolder: "data", device: "cpu"))
        let text = String(decoding: try Files.read(folder.config), as: UTF8.self)
        let preset = RunConfiguration(MADE.Settings { $0.masks = "1,2,3" })
        func stored(_ text: String) throws -> RunConfiguration {
            try Files.write(Array(text.utf8), to: folder.config)
            return try folder.readConfig().configuration(preset: preset, path: folder.config)
        }
        let setting = try #require(text.firstRange(of: try Regex(#""masks"\s*:\s*"7"\s*,"#)))
        let older = try stored(text.replacing(text[setting], with: ""))
        #expect((older.model as? MADE.Settings)?.masks == MADE.Settings().masks)
        #expect(older.training.learningRate == 0.25)
        let newer = text.replacing(text[setting], with: text[setting] + #""mask":1,"#)
        #expect(throws: FileError.self) { try stored(newer) }
    }
}
