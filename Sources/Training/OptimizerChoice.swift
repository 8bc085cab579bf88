import Graph
import Likelihood

/// The optimizer of a run: one of those that have a name, or a rule of the program's own.
///
/// It is stored, and set from the command line, by its name. A rule of one's own cannot be: `config.json` says “own”, and the
/// configuration that such a run is opened with has to hold the rule.
public enum OptimizerChoice: Sendable {
    /// `SGD`: gradient descent without momentum.
    case sgd
    /// `SGD` with the momentum 0.9.
    case momentum
    case adagrad, adadelta, adam, adamw, adamax, muon
    /// `LBFGS`, which is no rule for single parameters.
    case lbfgs
    /// Any rule, set by code alone.
    case own(any Optimizer)

    /// Every choice that has a name.
    public static let named: [OptimizerChoice] = [
        .sgd, .momentum, .adagrad, .adadelta, .adam, .adamw, .adamax, .muon, .lbfgs,
    ]

    public var name: String {
        switch self {
        case .sgd: "sgd"
        case .momentum: "momentum"
        case .adagrad: "adagrad"
        case .adadelta: "adadelta"
        case .adam: "adam"
        case .adamw: "adamw"
        case .adamax: "adamax"
        case .muon: "muon"
        case .lbfgs: "lbfgs"
        case .own: Self.ownName
        }
    }

    static let ownName = "own"
}

extension OptimizerChoice: Codable, Equatable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let name = try container.decode(String.self)
        guard let choice = Self.named.first(where: { $0.name == name }) else {
            throw DecodingError.dataCorruptedError(
                in: container,
                debugDescription: name == Self.ownName
                    ? "a rule of a program's own is in no file; it is set in the code of that program"
                    : "expected \(Self.named.map(\.name).joined(separator: ", ")), found “\(name)”")
        }
        self = choice
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(name)
    }

    /// Whether both stand for the same rule. Rules of one's own are the same if they are of one type and print alike, which shows
    /// the properties of a struct.
    public static func == (a: OptimizerChoice, b: OptimizerChoice) -> Bool {
        if case .own(let a) = a, case .own(let b) = b {
            return type(of: a) == type(of: b) && String(reflecting: a) == String(reflecting: b)
        }
        return a.name == b.name
    }
}

/// A hyperparameter of the optimizer as a setting: a number, or `nil` for what the optimizer has by itself. Files and the command
/// line say “default” for `nil`.
@propertyWrapper
public struct Hyperparameter: Codable, Sendable, Equatable {
    public var wrappedValue: Double?

    public init(wrappedValue: Double?) { self.wrappedValue = wrappedValue }

    private static let defaultName = "default"

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        // A number may come as text: what is given beside a setting that is text, as “default” is, is taken for text.
        let text = try container.decode(JSON.self).description
        wrappedValue = Double(text)
        guard text == Self.defaultName || wrappedValue?.isFinite == true else {
            throw DecodingError.dataCorruptedError(
                in: container, debugDescription: "expected a number or \(Self.defaultName), found “\(text)”")
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        if let wrappedValue {
            try container.encode(wrappedValue)
        } else {
            try container.encode(Self.defaultName)
        }
    }
}

extension TrainingSettings {
    /// The rule that the settings describe: the optimizer that they name, with those of its hyperparameters that are set.
    ///
    /// The hyperparameters of `muon` are its own momentum and those of the AdamW that moves what is no weight of a layer. Of `lbfgs` it is
    /// the rule that a batch goes by, which sums gradients; `makeLBFGS()` makes what moves the parameters then.
    ///
    /// - Throws: `UsageError` for a hyperparameter that the optimizer does not have, and for one out of its range.
    public func makeOptimizer() throws -> any Optimizer {
        let rule: any Optimizer =
            switch optimizer {
            case .sgd: try configured(SGD(), ["momentum": \.momentum])
            case .momentum: try configured(SGD(momentum: 0.9), ["momentum": \.momentum])
            case .adagrad: try configured(Adagrad(), ["epsilon": \.epsilon])
            case .adadelta: try configured(Adadelta(), ["decay": \.decay, "epsilon": \.epsilon])
            case .adam:
                try configured(Adam(), ["beta1": \.beta1, "beta2": \.beta2, "epsilon": \.epsilon])
            case .adamw:
                try configured(AdamW(), ["beta1": \.beta1, "beta2": \.beta2, "epsilon": \.epsilon])
            case .adamax:
                try configured(Adamax(), ["beta1": \.beta1, "beta2": \.beta2, "epsilon": \.epsilon])
            case .muon:
                try configured(
                    Muon(),
                    [
                        "momentum": \.momentum, "beta1": \.others.beta1, "beta2": \.others.beta2,
                        "epsilon": \.others.epsilon,
                    ])
            case .lbfgs: GradientSum()
            case .own(let rule): try configured(rule)
            }
        try rule.validate()
        return rule
    }

    /// L-BFGS with the hyperparameters that are set; `nil` where another optimizer is.
    /// - Throws: `UsageError` for a hyperparameter that it does not have, for one out of its range, and for settings that do nothing
    ///   beside it.
    public func makeLBFGS() throws -> LBFGS? {
        guard optimizer == .lbfgs else { return nil }
        let rule = try configured(
            LBFGS(),
            [
                "history": \.history, "gradientTolerance": \.gradientTolerance,
                "decreaseTolerance": \.decreaseTolerance,
            ])
        try rule.validate()
        let idle: [(setting: String, isSet: Bool)] = [
            ("accumulate=1", accumulate != 1), ("clipNorm=0", clipNorm != 0), ("averaging=0", averaging != 0),
            ("shear=0", shear != 0), ("schedule=constant", schedule != .constant),
        ]
        let wrong = idle.filter(\.isSet).map(\.setting)
        try require(
            wrong.isEmpty,
            "optimizer=lbfgs: it minimises the objective of the whole training set with steps of its own length, beside which some settings do nothing; set \(wrong.joined(separator: " "))"
        )
        return rule
    }

    /// The hyperparameters that are set.
    private var hyperparameters: [(name: String, value: Double)] {
        [
            ("beta1", beta1), ("beta2", beta2), ("decay", decay), ("epsilon", epsilon), ("momentum", momentum),
            ("history", history), ("gradientTolerance", gradientTolerance), ("decreaseTolerance", decreaseTolerance),
        ].compactMap { name, value in value.map { (name, $0) } }
    }

    /// A rule with the hyperparameters that are set.
    /// - Parameter known: where the rule has each of its own.
    private func configured<Rule>(
        _ rule: Rule, _ known: KeyValuePairs<String, WritableKeyPath<Rule, Double>>
    ) throws -> Rule {
        var rule = rule
        for (name, value) in hyperparameters {
            guard let path = known.first(where: { $0.key == name })?.value else {
                throw UsageError(
                    "\(name): \(optimizer.name) has no such hyperparameter; it has \(known.map(\.key).joined(separator: ", "))"
                )
            }
            rule[keyPath: path] = value
        }
        return rule
    }

    /// A rule of the program's own, whose hyperparameters are set where it is made.
    private func configured(_ rule: any Optimizer) throws -> any Optimizer {
        if let (name, _) = hyperparameters.first {
            throw UsageError(
                "\(name): a rule of one's own has its hyperparameters in itself; leave this at its default")
        }
        return rule
    }
}
