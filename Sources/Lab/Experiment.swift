import Compiler
import Datasets
import Graph
import Likelihood
import Training

/// An experiment: its data, its model's settings and, where it repeats a paper, the figure that the paper reports. No mechanism.
///
///     let made = Experiment(
///         name: "made-coins", summary: "MADE on coins", configuration: RunConfiguration(MADE.Settings()) { $0.epochs = 5 },
///         load: { _, _ in ExperimentData(try Dataset(name: "coins", train: train, valid: valid, test: test)) })
public struct Experiment: Sendable {
    public let name: String
    public let summary: String
    /// Author, year, table.
    public let paper: String
    /// The paper's figure on the test set, in nats; lower is better.
    public let paperNats: Double?
    public let configuration: RunConfiguration
    /// Whether the examples come from the files that the settings name.
    public let readsFiles: Bool
    let load: @Sendable (RunConfiguration, _ dataFolder: String) throws -> ExperimentData

    /// - Parameters:
    ///   - configuration: the model's settings and those of training.
    ///   - load: the data, read from files of the user's or from a folder of data sets, or drawn.
    public init(
        name: String, summary: String, paper: String = "", paperNats: Double? = nil, configuration: RunConfiguration,
        readsFiles: Bool = false,
        load: @escaping @Sendable (RunConfiguration, _ dataFolder: String) throws -> ExperimentData
    ) {
        (self.name, self.summary, self.paper, self.paperNats) = (name, summary, paper, paperNats)
        (self.readsFiles, self.load) = (readsFiles, load)
        var named = configuration
        named.experiment = name
        self.configuration = named
    }

    /// The data, read or drawn.
    /// - Parameter dataFolder: where the real sets lie, one folder each.
    public func data(_ configuration: RunConfiguration, dataFolder: String) throws -> ExperimentData {
        // Examples of the experiment's own in their place would go unnoticed.
        guard readsFiles || [configuration.train, configuration.valid, configuration.test].allSatisfy(\.isEmpty) else {
            let others = Catalogue.experiments.filter(\.readsFiles).map(\.name).joined(separator: ", ")
            throw UsageError("\(name) has its own data; --train, --valid and --test are for \(others)")
        }
        let data = try load(configuration, dataFolder)
        try configuration.validate(data.examples)
        return data
    }
}

/// The examples of an experiment, and what is known of the best possible figure.
public struct ExperimentData: Sendable {
    public let dataset: Dataset
    /// Fresh examples for each epoch, where they are drawn on the fly.
    public var trainingExamples: (@Sendable (_ epoch: Int) -> HostArray)?
    /// The generator's own log-likelihood in nats of each example, where it is known: the optimum.
    public var optimum: (@Sendable (HostArray) -> [Double])?

    public init(_ dataset: Dataset) { self.dataset = dataset }

    /// How people look at an example that is not an image.
    public var presentation: ExampleShape.Presentation?
    /// Simple models evaluated on the same test examples.
    public var baselines: (@Sendable (any Device) throws -> [Baseline])?

    public var examples: ExampleShape {
        ExampleShape(
            dataset.exampleShape, classes: dataset.labels?.classes,
            features: dataset.features?[.train]?.shape.dropFirst().reduce(1, *), presentation: presentation)
    }
}
