import Datasets
import FoundationEssentials
import Graph
import Likelihood

/// Every choice of a run: what `config.json` holds and `--set key=value` changes. The settings of training, those of the model's family
/// and the files of an experiment on anybody's data lie side by side under their names.
@dynamicMemberLookup
public struct RunConfiguration: Sendable {
    public var experiment: String
    public var training: TrainingSettings
    public var model: any ModelSettings
    /// Of the experiments that take anybody's data.
    public var files = DataFiles()

    public init(
        _ model: any ModelSettings, experiment: String = "made", _ change: (inout TrainingSettings) -> Void = { _ in }
    ) {
        self.experiment = experiment
        self.model = model
        training = TrainingSettings()
        change(&training)
    }

    public subscript<T>(dynamicMember path: WritableKeyPath<TrainingSettings, T>) -> T {
        get { training[keyPath: path] }
        set { training[keyPath: path] = newValue }
    }

    /// Refuses settings that cannot be run on such examples.
    public func validate(_ examples: ExampleShape) throws {
        try training.validate()
        try require(
            training.shear == 0 || examples.image != nil,
            "shear: wants images [channels, height, width]; the data are \(examples.dimensions)")
        try requireFloat32(model)
        try model.validate(examples)
    }

    /// The same family with every setting at its default.
    func defaults() -> RunConfiguration {
        func plain<M: ModelSettings>(_: M) -> any ModelSettings { M() }
        return RunConfiguration(plain(model), experiment: experiment)
    }

    /// What each setting means, by its name.
    public var meanings: [String: SettingMeaning] {
        TrainingSettings.meanings.merging(DataFiles.meanings) { a, _ in a }.merging(type(of: model).meanings) { a, _ in
            a
        }
    }

    // MARK: as JSON

    /// Every setting by its name.
    /// - Throws: `UsageError` where a setting of the model is called as one of training: a name means one thing.
    public func fields() throws -> [String: JSON] {
        let training = try jsonFields(training).merging(jsonFields(files)) { a, _ in a }
            .merging(["experiment": .text(experiment)]) { a, _ in a }
        let model = try jsonFields(model)
        if let both = model.keys.sorted().first(where: { training[$0] != nil }) {
            throw UsageError(
                "\(both): training has a setting of this name; call that of \(type(of: self.model)) otherwise")
        }
        return training.merging(model) { a, _ in a }
    }

    /// Today's name of a setting that may be called as it was before. A setting of that very name is meant first.
    /// - Parameter known: the names that there are.
    private func today(_ name: String, known: [String: JSON]) -> String {
        if known[name] != nil { return name }
        return TrainingSettings.formerNames[name] ?? type(of: model).formerNames[name] ?? name
    }

    /// Settings under today's names.
    func today(_ fields: [String: JSON]) throws -> [String: JSON] {
        let known = try self.fields()
        return Dictionary(fields.map { (today($0, known: known), $1) }, uniquingKeysWith: { first, _ in first })
    }

    /// The configuration with some settings replaced. An optimizer of the program's own is not among the fields, which know
    /// only that there is one; it stays unless they name another.
    func replacing(_ fields: [String: JSON]) throws -> RunConfiguration {
        var result = self
        var fields = fields
        let keepsOptimizer =
            training.optimizer.name == OptimizerChoice.ownName
            && fields["optimizer"]?.description == OptimizerChoice.ownName
        if keepsOptimizer { fields["optimizer"] = .text(OptimizerChoice.adam.name) }
        let data = try JSONEncoder().encode(fields)
        result.training = try JSONDecoder().decode(TrainingSettings.self, from: data)
        if keepsOptimizer { result.training.optimizer = training.optimizer }
        result.model = try decoded(like: model, data)
        result.files = try JSONDecoder().decode(DataFiles.self, from: data)
        if case .text(let name)? = fields["experiment"] { result.experiment = name }
        return result
    }

    private func decoded<M: ModelSettings>(like model: M, _ data: Data) throws -> any ModelSettings {
        try JSONDecoder().decode(M.self, from: data)
    }

    /// Applies `key=value`; the value is JSON, or text as it stands.
    /// - Throws: `UsageError` for a key or a value that does not fit.
    public mutating func set(_ assignment: String) throws {
        guard let split = assignment.firstIndex(of: "=") else {
            throw UsageError("--set \(assignment): expected key=value")
        }
        let text = String(assignment[assignment.index(after: split)...])
        var fields = try self.fields()
        let key = today(String(assignment[..<split]), known: fields)
        fields["experiment"] = nil
        guard let old = fields[key] else {
            throw UsageError(
                "--set \(key): there is no such setting\(suggestion(for: key, among: fields.keys)); there are \(fields.keys.sorted().joined(separator: ", "))"
            )
        }
        var value = JSON.text(text)
        if case .text = old {
        } else if let parsed = try? JSONDecoder().decode(JSON.self, from: Data(text.utf8)) {
            value = parsed
        } else if let number = Double(text), number.isFinite {
            // .2 is a number to everybody but JSON.
            value = .number(number)
        }
        switch (old, value) {
        case (.list, .whole), (.list, .number): value = .list([value])
        default: break
        }
        if case .list = old, case .text = value, !text.isEmpty {
            let parts = text.split(separator: ",", omittingEmptySubsequences: false)
            try require(!parts.contains(""), "--set \(assignment): a part of the list is empty")
        }
        if case .list = old, case .text = value {
            value = .list(text.split(separator: ",").map { Double($0).map { .number($0) } ?? .text(String($0)) })
        }
        fields[key] = value
        do {
            self = try replacing(fields)
        } catch {
            let reason = describe(error)
            // What the reader itself says names types of the program, or that a number is none of JSON's.
            var isReaders = reason.contains("JSON") || reason.contains("Cannot initialize")
            if case .typeMismatch? = error as? DecodingError { isReaders = true }
            guard isReaders else { throw UsageError("--set \(assignment): \(reason)") }
            let expected =
                switch old {
                case .whole: "a whole number"
                case .number: "a number"
                case .flag: "true or false"
                default: "another value"
                }
            throw UsageError(
                "--set \(assignment): \(key) expects \(meanings[key]?.range ?? expected), found “\(text)”; it is now \(old)"
            )
        }
    }
}

/// A value's stored properties by name.
private func jsonFields<T: Encodable>(_ value: T) throws -> [String: JSON] {
    try JSONDecoder().decode([String: JSON].self, from: JSONEncoder().encode(value))
}

/// `config.json`: the settings of a run and what it was made for.
public struct StoredRun: Codable, Sendable {
    public let experiment: String
    private let settings: [String: JSON]
    public let examples: ExampleShape
    public let dataFolder: String
    public let device: String
    /// The files that the examples came from, where they are a person's own.
    public let sources: [LoadedFiles.Source]?

    public init(
        _ configuration: RunConfiguration, examples: ExampleShape, dataFolder: String, device: String,
        sources: [LoadedFiles.Source]? = nil
    ) throws {
        self.sources = sources
        experiment = configuration.experiment
        settings = try configuration.fields()
        self.examples = examples
        self.dataFolder = dataFolder
        self.device = device
    }

    /// The run's configuration.
    ///
    /// A setting that the run does not know, as it is older than the setting, has its default and not the preset's value.
    ///
    /// - Parameter preset: the experiment's own, which says what family the model is of.
    public func configuration(preset: RunConfiguration, path: String) throws -> RunConfiguration {
        guard examples.isPossible else {
            throw FileError(path, "describes impossible examples, \(examples); it is damaged")
        }
        let defaults = try preset.defaults().fields()
        let settings = try preset.today(settings)
        if let unknown = settings.keys.sorted().first(where: { defaults[$0] == nil }) {
            throw FileError(
                path,
                "holds the setting “\(unknown)”, which \(experiment) does not have; it is of another version of the program, or damaged"
            )
        }
        do {
            return try preset.replacing(defaults.merging(settings) { _, stored in stored })
        } catch {
            // A number that no reader takes is reported without its name.
            let culprit = settings.keys.sorted().first { name in
                (try? preset.replacing(defaults.merging([name: settings[name]!]) { _, stored in stored })) == nil
            }
            throw FileError(
                path,
                culprit.map { "holds \($0) = \(settings[$0]!), which does not fit; it was \(defaults[$0]!) by default" }
                    ?? "is not a configuration of \(experiment): \(describe(error))")
        }
    }
}
