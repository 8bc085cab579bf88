import Datasets
import Distributions
import FoundationEssentials
import Graph
import Models

/// Every choice of a run of an autoregressive network; what `config.json` holds and `--set key=value` changes.
public struct RunConfiguration: Codable, Sendable, Equatable {
    public var experiment = "made"
    /// Files of the generic experiment.
    public var train = ""
    public var valid = ""
    public var test = ""

    /// Units of each hidden layer.
    public var hidden = [500, 500]
    /// relu, tanh, sigmoid or softplus.
    public var activation = "relu"
    /// bernoulli, categorical:LEVELS or mixture:COMPONENTS.
    public var conditional = "bernoulli"
    /// natural, random, or the variables in the order of drawing, separated by commas.
    public var ordering = "natural"
    /// A new order for every mask.
    public var orderAgnostic = false
    /// How many masks are cycled, or "fresh" for a new one at every step.
    public var masks = "1"
    /// Masks in the ensemble that is evaluated and sampled; 0 takes all of a finite list, or 8 of a fresh one.
    public var ensemble = 0
    /// Connections from inputs to outputs.
    public var direct = false

    public var batch = 100
    public var epochs = 20
    public var rate = 0.001
    public var optimizer = Optimizer.adam
    public var schedule = RateSchedule.constant
    /// The rate's factor at the end of the schedule.
    public var finalRate = 0.01
    public var weightDecay = 0.0
    public var clipNorm = 0.0
    public var averaging = 0.0
    /// Epochs without a better validation figure after which training stops; 0 never.
    public var lookAhead = 30
    public var seed: UInt64 = 1
    /// Images on the sheet of samples at the end; 0 draws none.
    public var samples = 64

    public init() {}

    /// Applies `key=value`; the value is JSON, or text as it stands.
    /// - Throws: `UsageError` for a key or a value that does not fit.
    public mutating func set(_ assignment: String) throws {
        guard let split = assignment.firstIndex(of: "=") else {
            throw UsageError("--set \(assignment): expected key=value")
        }
        let key = String(assignment[..<split])
        let text = String(assignment[assignment.index(after: split)...])
        var fields = try JSONDecoder().decode([String: JSON].self, from: JSONEncoder().encode(self))
        guard let old = fields[key] else {
            throw UsageError(
                "--set \(key): there is no such setting; there are \(fields.keys.sorted().joined(separator: ", "))")
        }
        var value = JSON.text(text)
        if case .text = old {
        } else if let parsed = try? JSONDecoder().decode(JSON.self, from: Data(text.utf8)) {
            value = parsed
        }
        if case .list = old, case .number = value { value = .list([value]) }
        if case .list = old, case .text = value {
            value = .list(text.split(separator: ",").map { Double($0).map { .number($0) } ?? .text(String($0)) })
        }
        fields[key] = value
        do {
            self = try JSONDecoder().decode(Self.self, from: JSONEncoder().encode(fields))
        } catch {
            throw UsageError("--set \(assignment): \(describe(error))")
        }
    }

    /// Refuses settings that cannot be run.
    public func validate(variables: Int) throws {
        func require(_ condition: Bool, _ message: String) throws { if !condition { throw UsageError(message) } }
        try require(
            hidden.allSatisfy { (1...1 << 20).contains($0) } && hidden.count <= 64,
            "hidden: expected up to 64 layers of 1 to 1048576 units, found \(hidden)")
        try require((1...1 << 20).contains(batch), "batch: expected 1 to 1048576, found \(batch)")
        try require(epochs >= 0, "epochs: expected 0 or more, found \(epochs)")
        try require(rate.isFinite && rate >= 0, "rate: expected a number of at least 0, found \(rate)")
        try require(
            finalRate.isFinite && finalRate >= 0, "finalRate: expected a number of at least 0, found \(finalRate)")
        try require(
            weightDecay.isFinite && weightDecay >= 0,
            "weightDecay: expected a number of at least 0, found \(weightDecay)")
        try require(clipNorm.isFinite && clipNorm >= 0, "clipNorm: expected a number of at least 0, found \(clipNorm)")
        try require((0..<1).contains(averaging), "averaging: expected at least 0 and less than 1, found \(averaging)")
        try require(
            masks == "fresh" || Int(masks).map { (1...1 << 20).contains($0) } == true,
            "masks: expected a count or “fresh”, found “\(masks)”")
        try require((0...1 << 16).contains(ensemble), "ensemble: expected 0 to 65536, found \(ensemble)")
        try require((0...1 << 14).contains(samples), "samples: expected 0 to 16384, found \(samples)")
        try require(
            !orderAgnostic || masks != "1",
            "orderAgnostic=true needs several masks, one for each order: set masks=fresh or a count")
        _ = try makeConditional()
        _ = try makeActivation()
        _ = try makeOrdering(variables: variables)
    }

    public func makeActivation() throws -> MADE.Activation {
        guard let result = MADE.Activation(rawValue: activation) else {
            throw UsageError(
                "activation: expected \(MADE.Activation.allCases.map(\.rawValue).joined(separator: ", ")), found “\(activation)”"
            )
        }
        return result
    }

    public func makeConditional() throws -> any Conditional {
        let parts = conditional.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let number = parts.count == 2 ? Int(parts[1]) : nil
        switch (parts[0], number) {
        case ("bernoulli", nil) where parts.count == 1: return Bernoulli()
        case ("categorical", let levels?) where (2...65536).contains(levels): return Categorical(levels: levels)
        case ("mixture", let components?) where (1...4096).contains(components):
            return MixtureOfGaussians(components: components)
        default:
            throw UsageError(
                "conditional: expected bernoulli, categorical:LEVELS or mixture:COMPONENTS, found “\(conditional)”")
        }
    }

    /// What the examples may hold.
    public var domain: VariableDomain {
        if conditional == "bernoulli" { return .binary }
        if conditional.hasPrefix("categorical:"), let levels = Int(conditional.dropFirst(12)) { return .levels(levels) }
        return .real
    }

    public func makeOrdering(variables: Int) throws -> MaskSampler.Ordering {
        switch ordering {
        case "natural": return .natural
        case "random": return .random
        default:
            let sequence = ordering.split(separator: ",").map { Int($0) }
            guard sequence.compactMap({ $0 }).sorted() == Array(0..<variables) else {
                throw UsageError(
                    "ordering: expected natural, random, or the numbers 0 to \(variables - 1) in some order")
            }
            return .given(sequence.compactMap { $0 })
        }
    }

    /// Whether one mask serves the whole run, so that it can be part of the program.
    public var hasConstantMask: Bool { masks == "1" }

    public func maskIndex(step: Int) -> Int { Int(masks).map { step % $0 } ?? step }

    /// The masks of the ensemble.
    public var ensembleMasks: [Int] {
        let all = Int(masks) ?? 8
        return Array(0..<(ensemble == 0 ? all : masks == "fresh" ? ensemble : min(ensemble, all)))
    }
}

/// A wrong choice of the caller's: what was expected, what was found, what to do.
public struct UsageError: Error, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Any JSON value.
enum JSON: Codable {
    case number(Double)
    case text(String)
    case flag(Bool)
    case list([JSON])

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let value = try? container.decode(Bool.self) {
            self = .flag(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .text(value)
        } else {
            self = .list(try container.decode([JSON].self))
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .number(let value):
            if let whole = Int(exactly: value) { try container.encode(whole) } else { try container.encode(value) }
        case .text(let value): try container.encode(value)
        case .flag(let value): try container.encode(value)
        case .list(let value): try container.encode(value)
        }
    }
}
