import Compiler
import Datasets
import Distributions
import Graph
import Likelihood
import Training

/// An experiment: its data, its model's settings and, where it repeats a paper, the figure that the paper reports. No mechanism.
///
///     let made = Experiment(
///         name: "made-coins", summary: "MADE on coins", configuration: RunConfiguration(MADE.Settings()) { $0.epochs = 5 },
///         load: { _, _ in ExperimentData(try Dataset(name: "coins", train: train, valid: valid, test: test)) })
///
/// Or a family of models on anybody's files:
///
///     let made = Experiment(family: "made", summary: "MADE", configuration: RunConfiguration(MADE.Settings()))
public struct Experiment: Sendable {
    public let name: String
    public let summary: String
    /// About how long a run takes; see `taking`.
    public private(set) var duration: String?
    /// Author, year, table.
    public let paper: String
    /// The paper's figure on the test set, in nats; lower is better.
    public let paperNats: Double?
    /// `Dataset.testChecksum` of the test set that the paper's figure is for; beside other data it is not printed.
    public let paperTestSet: String?
    public let configuration: RunConfiguration
    /// Whether this is a family on anybody's files, whose settings follow from the data.
    public let isFamily: Bool
    /// How many steps a family's training takes where examples are few, and its epochs would be less.
    let leastSteps: Int
    let load: @Sendable (RunConfiguration, _ dataFolder: String) throws -> ExperimentData

    /// - Parameters:
    ///   - configuration: the model's settings and those of training.
    ///   - load: the data, read from a folder of data sets, or drawn.
    public init(
        name: String, summary: String, paper: String = "", paperNats: Double? = nil, paperTestSet: String? = nil,
        configuration: RunConfiguration,
        load: @escaping @Sendable (RunConfiguration, _ dataFolder: String) throws -> ExperimentData
    ) {
        self.init(name, summary, paper, paperNats, paperTestSet, configuration, isFamily: false, load)
    }

    /// A family of models on files that the command line names with `--train`.
    /// - Parameters:
    ///   - kind: what examples are; nothing for a family that takes any, as a vector.
    ///   - configuration: the settings that do not follow from the data.
    ///   - leastSteps: how many steps training takes where examples are few and the configuration's epochs would be less, up to thirty
    ///     times those.
    ///   - baselines: simple models to print beside the run's figure.
    public init(
        family name: String, summary: String, paper: String = "", kind: ExampleKind? = nil,
        configuration: RunConfiguration, leastSteps: Int = 4000,
        baselines: @escaping @Sendable (LoadedFiles, any Device) throws -> [Baseline] = { _, _ in [] }
    ) {
        self.init(name, summary, paper, nil, nil, configuration, isFamily: true, leastSteps: leastSteps) {
            configuration, _ in
            // Said once the run begins, so that a refusal is one line.
            var notices: [String] = []
            let files = try configuration.files.load(as: kind, seed: configuration.seed) { notices.append($0) }
            var data = ExperimentData(files: files)
            data.notices = notices
            data.baselines = { try baselines(files, $0) }
            return data
        }
    }

    private init(
        _ name: String, _ summary: String, _ paper: String, _ paperNats: Double?, _ paperTestSet: String?,
        _ configuration: RunConfiguration, isFamily: Bool, leastSteps: Int = 0,
        _ load: @escaping @Sendable (RunConfiguration, _ dataFolder: String) throws -> ExperimentData
    ) {
        (self.name, self.summary, self.paper, self.paperNats) = (name, summary, paper, paperNats)
        (self.paperTestSet, self.isFamily, self.leastSteps, self.load) = (paperTestSet, isFamily, leastSteps, load)
        var named = configuration
        named.experiment = name
        self.configuration = named
    }

    /// The same experiment with a word on how long a run takes, and on what.
    public func taking(_ duration: String?) -> Experiment {
        var result = self
        result.duration = duration
        return result
    }

    /// The data, read or drawn.
    /// - Parameter dataFolder: where the real sets lie, one folder each.
    public func data(_ configuration: RunConfiguration, dataFolder: String) throws -> ExperimentData {
        if isFamily {
            try require(
                !configuration.files.train.isEmpty,
                "\(name): name your data with --train FILE, and --valid and --test if they are not to be split off")
        } else {
            // Examples of the experiment's own in their place would go unnoticed.
            try require(
                configuration.files == DataFiles(),
                "\(name) has its own data; --train and the like are for \(Catalogue.experiments.filter(\.isFamily).map(\.name).joined(separator: ", "))"
            )
        }
        return try load(configuration, dataFolder)
    }
}

/// The examples of an experiment, and what is known of the best possible figure.
public struct ExperimentData: Sendable {
    public let dataset: Dataset
    /// Fresh examples for each epoch, where they are drawn on the fly.
    public var trainingExamples: (@Sendable (_ epoch: Int) -> HostArray)?
    /// The generator's own log-likelihood in nats of each example, where it is known: the optimum.
    public var optimum: (@Sendable (HostArray) -> [Double])?
    /// How people look at an example that is not an image.
    public var presentation: ExampleShape.Presentation?
    /// Simple models evaluated on the same test examples.
    public var baselines: (@Sendable (any Device) throws -> [Baseline])?
    /// What a person's own files hold, where the examples are of such.
    let files: LoadedFiles?
    /// What was found out about them, a line each.
    var notices: [String] = []

    /// Mean and deviation of each feature of the training set, for a person's own files.
    private let featureColumns: [Column]?

    public init(_ dataset: Dataset) {
        self.dataset = dataset
        (files, featureColumns) = (nil, nil)
    }

    init(files: LoadedFiles) {
        dataset = files.dataset
        self.files = files
        featureColumns = dataset.features?[.train].flatMap { ExampleShape(standardizing: $0).columns }
    }

    public var examples: ExampleShape {
        if var examples = files?.examples {
            examples.featureColumns = featureColumns
            return examples
        }
        return ExampleShape(
            dataset.exampleShape, classes: dataset.labels?.classes,
            features: dataset.features?[.train]?.shape.dropFirst().reduce(1, *), presentation: presentation)
    }
}

extension RunConfiguration {
    /// The settings that follow from a person's data.
    /// - Returns: those that changed, and what else a person ought to know of them, a line each.
    /// - Parameter override: what a person set, which stands above that.
    mutating func adapt(
        to data: ExperimentData, leastSteps: Int, override: (inout RunConfiguration) throws -> Void
    ) throws -> [String] {
        guard let files = data.files else { return [] }
        let before = try fields()
        let summary = DataSummary(
            data.examples, files.values, count: files.dataset.train.shape[0],
            hasGaps: self.files.missing == "marginalize")
        let notes = try model.adapt(to: summary)
        let steps = (summary.count + training.batch - 1) / training.batch
        // What reads gaps trains on many masks in a step, and is evaluated by a pass for each variable.
        let wanted = summary.hasGaps ? leastSteps / 3 : leastSteps
        training.epochs = max(training.epochs, min(30 * training.epochs, wanted / steps))
        if summary.hasGaps, training.validationExamples == 0 { training.validationExamples = 300 }
        // Fewer examples than variables are learned by heart in a few steps.
        if summary.count < summary.examples.count { training.learningRate /= 5 }
        try override(&self)
        let changed = try fields().filter { before[$0.key]?.description != $0.value.description }
        let words = changed.map { "\($0.key)=\($0.value)" }.sorted().joined(separator: " ")
        return (words.isEmpty ? [] : ["set by the data: \(words)"]) + notes
    }
}
