import Graph
import Kernels
import Synchronization

/// A tensor that is trained: its shape, how it starts, and the state that holds it while a program runs.
///
/// Masked parameters know their mask: dead entries start at zero and stay there. A parameter has no name of its own: the module that
/// is asked for its `namedParameters` names all that it holds.
public final class Parameter {
    public let shape: [Int]
    public let initializer: Initializer
    /// For weights whose dead entries are exactly zero.
    public let mask: WeightMask?
    /// Whether gradients train it; else it is what a pass over data finds for it (running statistics), or stays.
    public let isTrained: Bool
    /// The working type; `Module.use(_:)` changes it. Tensors that were made before keep theirs.
    public internal(set) var element = ElementType.float32 {
        didSet { if element != oldValue { made = nil } }
    }
    private let identity: Int
    private static let count = Atomic<Int>(0)
    private var made: Tensor?
    /// The state that holds it in programs.
    public var tensor: Tensor {
        if let made { return made }
        let tensor = Tensor.state(label, Shape(shape), element)
        made = tensor
        return tensor
    }

    /// What programs call its state; no two parameters of a process share one.
    public var label: String { "parameter \(identity)" }

    /// - Parameter mask: of weights `[out, in]`.
    public convenience init(
        _ shape: [Int], _ initializer: Initializer, mask: MaskStructure? = nil, isTrained: Bool = true
    ) {
        self.init(shape, initializer, weightMask: mask.map { .dense($0) }, isTrained: isTrained)
    }

    /// - Parameter mask: of the weights `[out, in / groups, kernel..]` of a convolution.
    public convenience init(_ shape: [Int], _ initializer: Initializer, mask: ConvolutionMask?) {
        self.init(shape, initializer, weightMask: mask.map { .convolution($0) }, isTrained: true)
    }

    private init(_ shape: [Int], _ initializer: Initializer, weightMask mask: WeightMask?, isTrained: Bool) {
        self.shape = shape
        self.initializer = initializer
        self.mask = mask
        self.isTrained = isTrained
        identity = Self.count.add(1, ordering: .relaxed).newValue
    }

    /// Sets the entries that the mask removes to zero.
    public func clearDead(_ values: inout [Float]) {
        guard let mask, shape.count >= 2 else { return }
        for e in values.indices where mask.isDead(e, shape: shape) { values[e] = 0 }
    }

    /// The starting value under a seed: a function of seed, name and position alone.
    /// - Parameter name: the parameter's path in the whole model, as `namedParameters` gives it.
    public func initialValue(named name: String, seed: UInt64) -> HostArray {
        var values = initializer.values(count: shape.reduce(1, *), seed: seed, stream: stableHash(name))
        clearDead(&values)
        return HostArray(values, shape: shape)
    }
}

/// The distribution from which a parameter starts.
public enum Initializer: Hashable, Sendable {
    case constant(Float)
    /// Uniform in [-bound, bound].
    case uniform(bound: Float)
    case normal(standardDeviation: Float)
    /// A random rotation, for square matrices: normal rows made orthonormal (Gram and Schmidt, in double precision).
    case rotation(Int)

    public static let zeros = Initializer.constant(0)

    /// What PyTorch's `Linear` does: uniform with bound 1 / sqrt(inputs) (He et al. 2015 with a = sqrt(5)).
    public static func fanIn(_ inputs: Int) -> Initializer { .uniform(bound: 1 / Float(max(1, inputs)).squareRoot()) }

    func values(count: Int, seed: UInt64, stream: UInt32) -> [Float] {
        if case .rotation(let n) = self {
            let raw = Initializer.normal(standardDeviation: 1).values(count: count, seed: seed, stream: stream)
            return Self.orthonormalRows(raw.map { Double($0) }, n).map { Float($0) }
        }
        let (low, high) = (UInt32(truncatingIfNeeded: seed), UInt32(truncatingIfNeeded: seed >> 32))
        return (0..<count).map { i in
            switch self {
            case .constant(let value): return value
            case .uniform(let bound):
                let bits = martlet_philox_word0(low, high, UInt32(truncatingIfNeeded: i), 0, 0, stream)
                return (martlet_uniform_from_bits(bits) * 2 - 1) * bound
            case .normal(let deviation):
                return martlet_normal_from_bits(
                    martlet_philox_word0(low, high, UInt32(truncatingIfNeeded: i), 0, 0, stream)) * deviation
            case .rotation: return 0
            }
        }
    }

    private static func orthonormalRows(_ rows: [Double], _ n: Int) -> [Double] {
        var a = rows
        for i in 0..<n {
            // Twice, so that what rounding leaves of the earlier rows goes too.
            for _ in 0..<2 {
                for j in 0..<i {
                    let product = (0..<n).reduce(0) { $0 + a[i * n + $1] * a[j * n + $1] }
                    for k in 0..<n { a[i * n + k] -= product * a[j * n + k] }
                }
            }
            let norm = (0..<n).reduce(0) { $0 + a[i * n + $1] * a[i * n + $1] }.squareRoot()
            for k in 0..<n { a[i * n + k] /= norm }
        }
        return a
    }
}

/// A part of a model that holds parameters: a layer, or a model made of layers. Parameters are found by looking at stored
/// properties, arrays included, so a new layer only declares them:
///
///     struct Scale: Module {
///         let weight = Parameter([784], .constant(1))
///         func callAsFunction(_ x: Tensor) -> Tensor { x * weight.tensor }
///     }
public protocol Module {
    /// What the parameters of a stored property are called by, in front of their own path: the property's name. An empty name leaves
    /// the property out, so that `network.layers.0.weight` is `layers.0.weight`.
    func name(ofProperty property: String) -> String
}

extension Module {
    public func name(ofProperty property: String) -> String { property }

    /// Every parameter with its path from this module (`layers.0.weight`), in the order of declaration. A parameter that is reached by
    /// several paths has the first.
    public func namedParameters() -> [(name: String, parameter: Parameter)] {
        var found: [(name: String, parameter: Parameter)] = []
        var known = Set<ObjectIdentifier>()
        func visit(_ value: Any, _ path: String) {
            if let parameter = value as? Parameter {
                if known.insert(ObjectIdentifier(parameter)).inserted { found.append((path, parameter)) }
                return
            }
            let mirror = Mirror(reflecting: value)
            func below(_ part: String) -> String { path.isEmpty ? part : part.isEmpty ? path : "\(path).\(part)" }
            switch mirror.displayStyle {
            case .optional:
                for child in mirror.children { visit(child.value, path) }
            case .collection:
                for (index, child) in mirror.children.enumerated() { visit(child.value, below("\(index)")) }
            default:
                guard let module = value as? any Module else { return }
                for child in mirror.children {
                    guard let label = child.label else { continue }
                    visit(child.value, below(module.name(ofProperty: label)))
                }
            }
        }
        visit(self, "")
        return found
    }

    /// The working type of the parameters; float32 where there are none.
    public var element: ElementType { parameters.first?.element ?? .float32 }

    /// Sets the working type of every parameter, for the tensors that are made of it from here on.
    public func use(_ element: ElementType) {
        for (_, parameter) in namedParameters() { parameter.element = element }
    }

    public var parameters: [Parameter] { namedParameters().map(\.parameter) }
    /// The number of trained values; masked entries are counted.
    public var parameterCount: Int { parameters.reduce(0) { $0 + $1.shape.reduce(1, *) } }

    /// The starting value of every parameter by its label, as programs are given states.
    public func initialValues(seed: UInt64) -> [String: HostArray] {
        Dictionary(
            uniqueKeysWithValues: namedParameters().map { ($1.label, $1.initialValue(named: $0, seed: seed)) })
    }
}
