import Distributions

/// The hyperparameters of one family of models, and how they make a model. They are nested in the model that they are of, and checked
/// there, so that the command line and a caller of the library get the same error.
///
/// A stored run keeps them by name. A setting that is added later has a default that leaves models as they were: runs from before
/// it take that. One that gets another name stays readable under the old one: see `formerNames`.
public protocol ModelSettings: Codable, Sendable, Equatable {
    /// The defaults.
    init()
    /// Chooses what follows from the data: how many values a variable has, say. What a person sets comes after it.
    /// - Returns: what a person ought to know of the choice, a line each.
    /// - Throws: `UsageError` for data that the family cannot take: it says why, and what family can.
    mutating func adapt(to data: DataSummary) throws -> [String]
    /// Throws a `UsageError` for settings that cannot be run on such examples.
    func validate(_ examples: ExampleShape) throws
    /// Refuses what was set and does nothing beside the other settings. It is asked where a new run begins; runs that were stored before
    /// may hold such settings.
    func requireEffects() throws
    func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel
    /// Today's name of every setting that was called otherwise before, by the old name.
    static var formerNames: [String: String] { get }
    /// What each setting means, by its name, for people at the command line.
    static var meanings: [String: SettingMeaning] { get }
}

/// What a setting means, and what it may be, in words.
public struct SettingMeaning: Sendable, Equatable {
    public let text: String
    public let range: String

    public init(_ text: String, _ range: String) { (self.text, self.range) = (text, range) }
}

extension ModelSettings {
    public static var formerNames: [String: String] { [:] }
    public static var meanings: [String: SettingMeaning] { [:] }

    public mutating func adapt(to data: DataSummary) throws -> [String] { [] }
    public func requireEffects() throws {}

    public init(_ change: (inout Self) -> Void) {
        self.init()
        change(&self)
    }
}

/// What is known of data before there is a model of them.
public struct DataSummary: Sendable {
    public var examples: ExampleShape
    public var values: VariableDomain
    /// Training examples.
    public var count: Int
    /// Whether values may be missing, and are to be marginalized.
    public var hasGaps: Bool

    public init(_ examples: ExampleShape, _ values: VariableDomain, count: Int, hasGaps: Bool = false) {
        (self.examples, self.values, self.count, self.hasGaps) = (examples, values, count, hasGaps)
    }

    /// How many values a variable has.
    /// - Throws: `UsageError` for data whose variables are not whole numbers of a range, all of one.
    /// - Parameter other: what models such data instead.
    public func levels(for family: String, other: String) throws -> Int {
        try requireNoGaps(for: family)
        if let levels = values.levelCount { return levels }
        let found = values == .real ? "real numbers" : "columns of different kinds"
        throw UsageError("\(family) models whole numbers from 0 on, found \(found); take \(other)")
    }

    /// The same of sequences.
    public func sequenceLevels(for family: String) throws -> Int {
        let levels = try levels(for: family, other: "made or maf")
        try require(
            examples.dimensions.count == 1,
            "\(family) models sequences, found \(examples); take pixelcnn for images, or --set layout=vectors for rows of numbers"
        )
        return levels
    }

    public func requireNoGaps(for family: String) throws {
        guard hasGaps else { return }
        throw UsageError(
            "missing=marginalize: \(family) needs every value; take made, whose network reads what is there")
    }
}

/// A model that is made from settings alone:
///
///     let model = try PixelCNN([1, 28, 28]) { $0.channels = 64 }
public protocol ConfiguredModel: LikelihoodModel {
    associatedtype Settings: ModelSettings
    /// Throws what `settings.validate(examples)` throws.
    init(_ examples: ExampleShape, _ settings: Settings) throws
}

extension ConfiguredModel {
    public init(_ examples: ExampleShape, _ change: (inout Settings) -> Void = { _ in }) throws {
        let settings = Settings(change)
        try requireFloat32(settings)
        try self.init(examples, settings)
    }
}

// What several families ask of their examples and settings.

/// Channels, height and width of images of one or three channels.
public func requireImage(_ examples: ExampleShape) throws -> (channels: Int, height: Int, width: Int) {
    guard let image = examples.image, image.channels == 1 || image.channels == 3 else {
        throw UsageError(
            "this model wants images [channels, height, width] of 1 or 3 channels; the data are \(examples.dimensions)")
    }
    return image
}

public func requireSequence(_ examples: ExampleShape) throws {
    try require(
        examples.dimensions.count == 1, "this model wants sequences [steps]; the data are \(examples.dimensions)")
}

/// A whole number of a range: `channels: expected 1 to 65536, found 0`.
public func require(_ value: Int, _ setting: String, in range: ClosedRange<Int>) throws {
    try require(
        range.contains(value), "\(setting): expected \(range.lowerBound) to \(range.upperBound), found \(value)")
}

/// How many values a variable takes.
public func requireLevels(_ levels: Int) throws { try require(levels, "levels", in: 2...65536) }

/// A share of units that is left out.
public func requireDropout(_ dropout: Double) throws {
    try require((0..<1).contains(dropout), "dropout: expected at least 0 and less than 1, found \(dropout)")
}

/// Refuses settings one of whose numbers is none in float32, in which models compute: those that are too large would be infinite
/// there, and those that are too small 0.
public func requireFloat32(_ settings: Any) throws {
    for (name, value) in Mirror(reflecting: settings).children {
        // A property wrapper stores its value under the name with a line before it.
        let name = String((name ?? "").drop { $0 == "_" })
        for number in numbers(in: value) where !Float(number).isFinite || (Float(number) == 0) != (number == 0) {
            throw UsageError("\(name): expected a number within float32, from 1e-45 to 3.4e38, found \(number)")
        }
    }
}

/// The doubles of a value, of its elements and of its properties.
private func numbers(in value: Any) -> [Double] {
    if let number = value as? Double { return [number] }
    let mirror = Mirror(reflecting: value)
    // What an enumeration carries, as a rule of one's own does, is checked where it is made.
    guard mirror.displayStyle != .enum, mirror.displayStyle != .class else { return [] }
    return mirror.children.flatMap { numbers(in: $0.value) }
}

/// One of the names of an enumeration.
public func requireChoice<Choice: RawRepresentable & CaseIterable>(_ name: String, _ setting: String) throws -> Choice
where Choice.RawValue == String {
    guard let choice = Choice(rawValue: name) else {
        throw UsageError(
            "\(setting): expected \(Choice.allCases.map(\.rawValue).joined(separator: ", ")), found “\(name)”")
    }
    return choice
}

/// A setting that is one of a few names; a wrong one is answered with all of them.
public protocol ChoiceSetting: RawRepresentable, CaseIterable, Codable, Sendable where RawValue == String {}

extension ChoiceSetting {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let name = try container.decode(String.self)
        guard let value = Self(rawValue: name) else {
            throw DecodingError.dataCorruptedError(
                in: container,
                debugDescription: "expected \(Self.allCases.map(\.rawValue).joined(separator: ", ")), found “\(name)”")
        }
        self = value
    }
}
