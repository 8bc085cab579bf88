import Datasets
import Compiler
import Distributions
import Graph
import Layers

/// What the examples of a data set look like: `[variables]`, `[channels, height, width]`, `[steps]`.
public struct ExampleShape: Codable, Sendable, Equatable, CustomStringConvertible {
    public var dimensions: [Int]
    /// The number of classes, where every example has a label.
    public var classes: Int?
    /// How people look at an example that is not an image.
    public var presentation: Presentation?

    public enum Presentation: Codable, Sendable, Equatable {
        /// Mu-law codes at a rate in Hz.
        case sound(rate: Int)
        case text(Alphabet)
        /// Frames, side by side.
        case video
    }

    public init(_ dimensions: [Int], classes: Int? = nil, presentation: Presentation? = nil) {
        self.dimensions = dimensions
        self.classes = classes
        self.presentation = presentation
    }

    public var count: Int { dimensions.reduce(1, *) }

    public var description: String {
        let presented =
            switch presentation {
            case .sound(let rate): ", sound at \(rate) Hz"
            case .text(let alphabet): ", text of \(alphabet.count) symbols"
            case .video: ", video"
            case nil: ""
            }
        return "\(dimensions)" + (classes.map { " in \($0) classes" } ?? "") + presented
    }

    /// Whether there can be such examples; what a file says of them may be damaged.
    var isPossible: Bool {
        // Each on its own first, so that the product does not overflow.
        guard !dimensions.isEmpty, dimensions.count <= 8, dimensions.allSatisfy({ (1...1 << 24).contains($0) }),
            dimensions.reduce(1.0, { $0 * Double($1) }) <= 0x1p24, classes.map({ (1...1 << 20).contains($0) }) != false
        else { return false }
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

/// The hyperparameters of one family of models, and how they make a model.
///
/// A stored run keeps them by name. A setting that is added later has a default that leaves models as they were: runs from before
/// it take that.
public protocol ModelSettings: Codable, Sendable, Equatable {
    /// The defaults.
    init()
    /// What the examples may hold.
    var domain: VariableDomain { get }
    /// Throws a `UsageError` for settings that cannot be run on such examples.
    func validate(_ examples: ExampleShape) throws
    func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any TrainableModel
}

extension ModelSettings {
    public init(_ change: (inout Self) -> Void) {
        self.init()
        change(&self)
    }
}

/// A likelihood model as a run sees it. Examples are `[batch, variables]` float32, the variables of an image in the order
/// channel, row, column.
///
/// A model may read the input `label`, int32 `[batch]`, where its examples have classes.
public protocol TrainableModel {
    /// Holds the parameters.
    var module: any Module { get }
    /// Examples that are evaluated together.
    var evaluationBatch: Int { get }

    /// What a training step minimises.
    /// - Parameter random: for noise that is drawn anew at every step (dropout, dequantization).
    func objective(_ x: Tensor, _ random: RandomSource) throws -> Objective
    /// log p(x) in nats, `[batch]`; a bound or an estimate where the exact one cannot be had.
    func logProbability(_ x: Tensor) throws -> Tensor
    /// What a step of training is fed beside examples, random numbers and the optimizer's scalars.
    func feeds(step: Int) -> [String: HostArray]
    /// What each member of the model's ensemble is fed; the likelihood is their mixture's.
    var members: [[String: HostArray]] { get }

    /// The proof that the model is what it says: one line.
    /// - Throws: `DependencyLeak` that names the way of the first leak.
    func prove() throws -> String
    /// What `inspect` shows.
    func describe() -> ModelDescription
    /// The graph of the picture that `inspect --dependencies` draws: one element for each variable.
    func dependencies(_ x: Tensor) throws -> (output: Tensor, order: Order)?

    /// How examples are drawn.
    func drawing(_ x: Tensor, _ request: DrawingRequest) throws -> Drawing
    /// log p of the observed part of x under a member, `[batch]`, for the choice of the member that completes it.
    func observedLogProbability(_ x: Tensor, _ request: DrawingRequest) throws -> Tensor?
    /// Values of parameters that depend on the first batch of examples (weight normalization, ActNorm).
    func initialization(_ x: Tensor, _ random: RandomSource) throws -> [StateUpdate]
}

extension TrainableModel {
    public var evaluationBatch: Int { 500 }
    public var members: [[String: HostArray]] { [[:]] }
    public func objective(_ x: Tensor, _ random: RandomSource) throws -> Objective {
        Objective(loss: -(try logProbability(x)).mean())
    }
    public func feeds(step: Int) -> [String: HostArray] { [:] }
    public func dependencies(_ x: Tensor) throws -> (output: Tensor, order: Order)? { nil }
    public func observedLogProbability(_ x: Tensor, _ request: DrawingRequest) throws -> Tensor? { nil }
    public func initialization(_ x: Tensor, _ random: RandomSource) throws -> [StateUpdate] { [] }
}

/// What a training step computes.
public struct Objective {
    /// Scalar, in nats.
    public var loss: Tensor
    /// States beside the parameters that a step moves (running statistics).
    public var updates: [StateUpdate]

    public init(loss: Tensor, updates: [StateUpdate] = []) {
        self.loss = loss
        self.updates = updates
    }
}

/// What is asked of a draw.
public struct DrawingRequest {
    /// Which member of the ensemble.
    public var member = 0
    /// Where true the variable is taken from the input `given` instead of drawn.
    public var observed: [Bool]?
    /// Accept a draw that ignores observations that come later in the order.
    public var isApproximate = false
    /// Divides logits, or multiplies standard deviations; 1 draws from the model.
    public var temperature = 1.0

    public init() {}
}

/// How a draw is made, stage after stage; a stage reads the result of the one before as its input `Drawing.previous`.
public struct Drawing {
    public enum Stage {
        /// One group of variables after another, each a function of the earlier ones.
        case incremental(variable: Tensor, drawn: Tensor, order: Order, outputs: [Tensor])
        /// All at once: the result, then what is handed back beside it.
        case direct([Tensor])
    }

    public static let previous = "previous"
    public var stages: [Stage]

    public init(_ stages: [Stage]) { self.stages = stages }
}

/// A model in numbers.
public struct ModelDescription: Encodable, Sendable {
    public struct Layer: Encodable, Sendable {
        public var name: String
        public var shape: [Int]
        /// For one example.
        public var multiplyAdds: Int
        public var liveMultiplyAdds: Int
        public var inputDegrees: [Int32]?
        public var outputDegrees: [Int32]?
        public var isStrict: Bool?

        public init(
            name: String, shape: [Int], multiplyAdds: Int, liveMultiplyAdds: Int, inputDegrees: [Int32]? = nil,
            outputDegrees: [Int32]? = nil, isStrict: Bool? = nil
        ) {
            self.name = name
            self.shape = shape
            self.multiplyAdds = multiplyAdds
            self.liveMultiplyAdds = liveMultiplyAdds
            self.inputDegrees = inputDegrees
            self.outputDegrees = outputDegrees
            self.isStrict = isStrict
        }
    }

    public struct Mask: Encodable, Sendable {
        public var order: [Int32]
        public var hiddenDegrees: [[Int32]]
    }

    public var conditional: String?
    public var activation: String?
    public var inputOrdering: [Int32]?
    public var layers: [Layer]
    public var ensemble: [Mask]?
    /// What a reader should know beside (which determinant and inverse a flow uses, and why).
    public var remarks: [String] = []

    public init(layers: [Layer] = [], remarks: [String] = []) {
        self.layers = layers
        self.remarks = remarks
    }
}

/// The convolutions that some tensors are computed by, with the multiply-adds of one example.
func convolutionLayers(_ outputs: [Tensor]) -> [ModelDescription.Layer] {
    topologicalOrder(outputs).compactMap { node in
        guard let convolution = node.operation as? Convolution, convolution.role != .weightGradient,
            let geometry = try? convolution.geometry(node.inputs.map(\.type))
        else { return nil }
        let positions = convolution.role == .forward ? geometry.outputCount : geometry.inputCount
        let weights = geometry.weightShape.reduce(1, *)
        let live =
            convolution.mask?.liveCount(outputs: geometry.outputChannels, inputs: geometry.inputsPerGroup)
            ?? weights
        // The parameter that the weight is made from.
        let label = topologicalOrder([node.inputs[1]]).compactMap { Tensor($0).placeholder?.label }.first
        return ModelDescription.Layer(
            name: label.map { $0.hasSuffix(".weight") ? String($0.dropLast(7)) : $0 } ?? "convolution",
            shape: geometry.weightShape, multiplyAdds: weights * positions, liveMultiplyAdds: live * positions)
    }
}

/// The multiply-adds of one example in products of what is computed from it with matrices of parameters, by the name of the first
/// parameter of two axes that a matrix is made of: a 1x1 convolution's matrix serves every position.
func productMultiplyAdds(_ outputs: [Tensor]) -> [String: Int] {
    var result: [String: Int] = [:]
    var ofExamples = Set<Tensor>()
    for node in topologicalOrder(outputs) {
        let reads = node.inputs.map { ofExamples.contains(Tensor($0.node)) }
        if reads.contains(true) || Tensor(node).placeholder?.role == .input { ofExamples.insert(Tensor(node)) }
        guard node.operation is MatrixProduct, reads[0] != reads[1] else { continue }
        let sources = topologicalOrder([node.inputs[reads[0] ? 1 : 0]]).compactMap { Tensor($0).placeholder }
        guard let weight = sources.first(where: { $0.type.shape.rank == 2 }) else { continue }
        let (outputs, terms) = (Tensor(node).shape.count.resolved(batch: 1), node.inputs[0].shape[-1].coefficient)
        result[weight.label, default: 0] += outputs * terms
    }
    return result
}
