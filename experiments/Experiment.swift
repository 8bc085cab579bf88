import Compiler
import Datasets
import Graph
import Training

/// A paper's experiment: its data, its model's settings and the figure that the paper reports. No mechanism.
public struct Experiment: Sendable {
    public let name: String
    public let summary: String
    /// Author, year, table.
    public let paper: String
    /// The paper's figure on the test set, in nats; lower is better.
    public let paperNats: Double?
    public let configuration: RunConfiguration
    /// Whether the examples come from the files that the settings name.
    var readsFiles = false
    let load: @Sendable (RunConfiguration, _ dataFolder: String) throws -> ExperimentData

    /// The data, read or drawn.
    /// - Parameter dataFolder: where the real sets lie, one folder each.
    public func data(_ configuration: RunConfiguration, dataFolder: String) throws -> ExperimentData {
        // Examples of the experiment's own in their place would go unnoticed.
        guard readsFiles || [configuration.train, configuration.valid, configuration.test].allSatisfy(\.isEmpty) else {
            let others = Self.all.filter(\.readsFiles).map(\.name).joined(separator: ", ")
            throw UsageError("\(name) has its own data; --train, --valid and --test are for \(others)")
        }
        let data = try load(configuration, dataFolder)
        // Before the examples' values: what they may be is one of the settings.
        try configuration.validate(data.examples)
        try data.dataset.require(configuration.model.domain)
        return data
    }

    /// Every experiment, by name.
    public static let all: [Experiment] =
        [madeGlyphs, madeMNIST, madeMNISTPaper] + madeUCI + [made] + pixelModels + sequenceModels
        + flows

    static let flows: [Experiment] = [mafBSDS300, realNVPBSDS300] + flowImages + flowDensities

    public static func named(_ name: String) throws -> Experiment {
        guard let found = all.first(where: { $0.name == name }) else {
            throw UsageError(
                "there is no experiment “\(name)”; martlet list shows \(all.map(\.name).joined(separator: ", "))")
        }
        return found
    }
}

/// The examples of an experiment, and what is known of the best possible figure.
public struct ExperimentData: Sendable {
    public let dataset: Dataset
    /// Fresh examples for each epoch, where they are drawn on the fly.
    public var trainingExamples: (@Sendable (_ epoch: Int) -> HostArray)?
    /// The generator's own log-likelihood in nats of each example, where it is known: the optimum.
    public var optimum: (@Sendable (HostArray) -> [Double])?

    init(_ dataset: Dataset) { self.dataset = dataset }

    /// How people look at an example that is not an image.
    public var presentation: ExampleShape.Presentation?
    /// Simple models evaluated on the same test examples.
    public var baselines: (@Sendable (any Device) throws -> [Baseline])?

    public var examples: ExampleShape {
        ExampleShape(dataset.exampleShape, classes: dataset.labels?.classes, presentation: presentation)
    }
}
