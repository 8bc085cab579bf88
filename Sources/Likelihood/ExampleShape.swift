import Distributions
import Graph
import Layers

/// What the examples of a data set look like: `[variables]`, `[channels, height, width]`, `[steps]`; what is known beside each of
/// them, and how people look at one.
public struct ExampleShape: Codable, Sendable, Equatable, CustomStringConvertible, ExpressibleByArrayLiteral {
    public var dimensions: [Int]
    /// The number of classes, where every example has a label.
    public var classes: Int?
    /// Their names, where they have such.
    public var classNames: [String]?
    /// The count of real numbers that are known beside every example, where there are such.
    public var features: Int?
    /// How people look at an example that is not an image.
    public var presentation: Presentation?
    /// What every variable is, where the examples are rows of a table, or real numbers that a model standardises.
    public var columns: [Column]?
    /// Mean and deviation of each feature, where a model standardises them.
    public var featureColumns: [Column]?

    public enum Presentation: Codable, Sendable, Equatable {
        /// Mu-law codes at a rate in Hz.
        case sound(rate: Int)
        case text(Alphabet)
        /// Frames, side by side.
        case video
    }

    public init(
        _ dimensions: [Int], classes: Int? = nil, features: Int? = nil, presentation: Presentation? = nil,
        columns: [Column]? = nil
    ) {
        self.dimensions = dimensions
        self.classes = classes
        self.features = features
        self.presentation = presentation
        self.columns = columns
    }

    public init(arrayLiteral dimensions: Int...) { self.init(dimensions) }

    /// The number of variables.
    public var count: Int { dimensions.reduce(1, *) }

    public var description: String {
        let presented =
            switch presentation {
            case .sound(let rate): ", sound at \(rate) Hz"
            case .text(let alphabet): ", text of \(alphabet.count) symbols"
            case .video: ", video"
            case nil: ""
            }
        return "\(dimensions)" + (classes.map { " in \($0) classes" } ?? "")
            + (features.map { " beside \($0) features" } ?? "") + presented
    }

    /// Whether there can be such examples; what a file says of them may be damaged.
    public var isPossible: Bool {
        // Each on its own first, so that the product does not overflow.
        guard !dimensions.isEmpty, dimensions.count <= 8, dimensions.allSatisfy({ (1...1 << 24).contains($0) }),
            dimensions.reduce(1.0, { $0 * Double($1) }) <= 0x1p24, classes.map({ (1...1 << 20).contains($0) }) != false,
            features.map({ (1...1 << 20).contains($0) }) != false
        else { return false }
        guard columns?.isPossible(count: count) != false, classNames.map({ $0.count == classes }) != false else {
            return false
        }
        return switch presentation {
        case .sound(let rate): (1...1 << 20).contains(rate)
        case .text(let alphabet): alphabet.count > 0
        case .video: dimensions.count == 3
        case nil: true
        }
    }

    /// Channels, height and width, where examples are images.
    public var image: (channels: Int, height: Int, width: Int)? {
        dimensions.count == 3 && presentation == nil ? (dimensions[0], dimensions[1], dimensions[2]) : nil
    }
}

extension [Column] {
    /// Whether there can be such columns of `count` variables.
    fileprivate func isPossible(count variables: Int) -> Bool {
        count == variables
            && allSatisfy {
                let (mean, deviation) = $0.scaling
                return mean.isFinite && deviation > 0 && deviation.isFinite && $0.categories?.isEmpty != true
            }
    }
}

/// Characters as whole numbers.
public struct Alphabet: Codable, Sendable, Equatable {
    /// The byte of each symbol, ascending.
    public let bytes: [UInt8]

    /// The bytes that occur in a text.
    public init(of text: [UInt8]) { bytes = Set(text).sorted() }
    public init(bytes: [UInt8]) { self.bytes = bytes }

    public var count: Int { bytes.count }

    public func decode(_ symbols: [Int]) -> [UInt8] { symbols.map { bytes[max(0, min(count - 1, $0))] } }
}

/// What a model reads beside its variables.
public struct Conditions: Sendable, Equatable {
    /// The number of classes, if each example's class is read.
    public var classes: Int?
    /// The shape of one example's features, `[count]` or `[channels, steps]`; empty if none are read.
    public var features: [Int]
    /// Mean and deviation of each of `count` features, by which a context's are standardised; empty leaves them as they are.
    public var columns: [Column] = []

    public init(classes: Int? = nil, features: [Int] = []) {
        self.classes = classes
        self.features = features
    }

    /// All that examples have beside their variables.
    public init(of examples: ExampleShape) {
        self.init(classes: examples.classes, features: examples.features.map { [$0] } ?? [])
        columns = examples.featureColumns ?? []
    }

    /// Numbers of class and features in one vector; see `Context.joined`.
    public var vectorCount: Int { (classes ?? 0) + (features.count == 1 ? features[0] : 0) }

    /// A layer that adds what is read to feature maps; `nil` if nothing is.
    public func embedding(_ channels: Int) -> ConditionEmbedding? {
        ConditionEmbedding(classes: classes, features: features.count == 1 ? features[0] : 0, channels)
    }

    /// A context whose features are class and features in one vector.
    public func joined(_ context: Context, beside x: Tensor) -> Context {
        context.joined(beside: x, classes: classes, features: features.count == 1 ? features[0] : 0)
    }

    /// The features of examples as a program is fed them, standardised.
    func input(_ element: ElementType) -> Tensor? {
        guard !features.isEmpty else { return nil }
        let raw = Tensor.input("features", Shape([.batch] + features.map { Extent($0) }), element)
        return columns.isEmpty ? raw : raw.standardized(columns)
    }
}
