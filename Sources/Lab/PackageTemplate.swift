/// The files of a package that `new` writes.
struct PackageTemplate {
    let name: String
    /// The line of Package.swift that names Martlet.
    let dependency: String
    /// What Martlet's package is called there.
    let package: String

    /// The module's name in Swift.
    private var module: String { String(name.map { $0 == "-" ? "_" : $0 }) }
    /// The model's type.
    private var type: String { name.split(separator: "-").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined() }

    var files: [(file: String, text: String)] {
        [
            ("Package.swift", manifest), ("README.md", readme), (".gitignore", ".build/\nruns/\n"),
            ("Sources/\(name)/Model.swift", model), ("Sources/\(name)/Experiment.swift", experiment),
            ("Sources/\(name)/Main.swift", main), ("Tests/\(name)Tests/ModelTests.swift", tests),
        ]
    }

    private var manifest: String {
        """
        // swift-tools-version: 6.1
        import PackageDescription

        let package = Package(
            name: "\(name)",
            dependencies: [
                \(dependency)
            ],
            targets: [
                .executableTarget(name: "\(name)", dependencies: [.product(name: "Martlet", package: "\(package)")]),
                .testTarget(name: "\(name)Tests", dependencies: ["\(name)"]),
            ],
            swiftLanguageModes: [.v6]
        )

        """
    }

    private var main: String {
        """
        import Martlet

        /// Every verb for these experiments: `\(name) --help` lists them.
        @main struct Main: Laboratory {
            static let experiments = [\(type).glyphs]
        }

        """
    }

    private var model: String {
        """
        import Martlet

        /// Binary variables, one after the other: a network with one masked hidden layer computes the logit of each from those before
        /// it. Change it into a model of your own; what it says of its order is proved before anything is trained.
        struct \(type): AutoregressiveModel, ConfiguredModel {
            struct Settings: ModelSettings {
                /// Units of the hidden layer.
                var hidden = 128

                func validate(_ examples: ExampleShape) throws { try require(hidden, "hidden", in: 1...65536) }

                func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
                    try \(type)(examples, self)
                }
            }

            let examples: ExampleShape
            let conditional: any Conditional = BernoulliConditional()
            let network: MaskedMLP

            init(_ examples: ExampleShape, _ settings: Settings) throws {
                try settings.validate(examples)
                self.examples = examples
                network = .autoregressive(order: .natural(examples.count), hidden: [settings.hidden], parameters: 1)
            }

            /// The logit of each variable, `[batch, 1, variables]`, from x `[batch, variables]`.
            func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
                network(x, context).reshaped([x.shape[0], 1, Extent(variableCount)])
            }
        }

        """
    }

    private var experiment: String {
        """
        import Martlet

        extension \(type) {
            /// Images of ten glyphs, whose generator's likelihood is known: the best that a model can do.
            static let glyphs = Experiment(
                name: "\(name)-glyphs", summary: "\(type) on ten glyphs, beside the generator's own likelihood",
                configuration: RunConfiguration(Settings()) {
                    $0.epochs = 10
                    $0.learningRate = 0.005
                },
                load: { _, _ in
                    let glyphs = Glyphs(seed: 2015)
                    let draw = { (split: Dataset.Split, count: Int) in glyphs.draw(split, count: count) }
                    var data = ExperimentData(
                        try Dataset(
                            name: "glyphs", train: draw(.train, 10_000), valid: draw(.valid, 1000),
                            test: draw(.test, 2000), exampleShape: [1, Glyphs.height, Glyphs.width]))
                    data.optimum = { glyphs.logProbability($0) }
                    return data
                })
        }

        """
    }

    private var tests: String {
        """
        import Martlet
        import Testing

        @testable import \(module)

        @Suite struct ModelTests {
            private func run(on device: String) throws -> Run {
                let run = try Run(\(type)([8]) { $0.hidden = 12 }, device: Devices.named(device))
                try run.initialize()
                return run
            }

            /// All 256 vectors of eight bits.
            private let everything = Examples((0..<256).map { code in (0..<8).map { Float(code >> $0 & 1) } })

            /// No conditional reads its own variable or a later one.
            @Test func looksOnlyBackwards() throws {
                let proof = try \(type)([8]) { $0.hidden = 12 }.proveAutoregressive()
                #expect(proof.dependencies?.present == 28)
            }

            @Test func probabilitiesSumToOne() throws {
                let total = try run(on: "cpu").evaluations(everything).reduce(0) { $0 + Math.exp(-$1) }
                #expect(abs(total - 1) < 1e-5)
            }

            /// The same figures on the CPU and on OpenCL, where there is such a device.
            @Test func devicesAgree() throws {
                guard try Devices.all().count > 1 else { return }
                let (a, b) = (
                    try run(on: "cpu").evaluations(everything), try run(on: "opencl").evaluations(everything)
                )
                #expect(zip(a, b).allSatisfy { abs($0 - $1) < 1e-4 })
            }

            /// The compiled draw is that of the loop over full passes.
            @Test func drawsAreThoseOfTheLoop() throws {
                let run = try run(on: "cpu")
                let compiled = try run.sample(count: 50, SamplingOptions(seed: 3)).examples
                #expect(try run.sample(count: 50, SamplingOptions(seed: 3, isNaive: true)).examples == compiled)
            }
        }

        """
    }

    private var readme: String {
        """
        # \(name)

        A model of its own on Martlet.

            swift build -c release
            .build/release/\(name) run \(name)-glyphs                    # train; the test figure beside the generator's
            .build/release/\(name) sample runs/\(name)-glyphs-1 --count 100 --out glyphs.png
            .build/release/\(name) inspect \(name)-glyphs                # layers, multiply-adds, the proof
            .build/release/\(name) --help                          # every verb
            swift test                                        # proof, enumeration, CPU against OpenCL

        `Sources/\(name)/Model.swift` is the model, `Experiment.swift` its data and settings.

        """
    }
}
