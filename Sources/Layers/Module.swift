import Graph
import Kernels
import Synchronization

/// A tensor that is trained: its shape, how it starts, and the state that holds it while a program runs.
///
/// Masked parameters know their mask: dead entries start at zero and stay there.
public final class Parameter {
    public let shape: [Int]
    public let initializer: Initializer
    /// For weights whose dead entries are exactly zero.
    public let mask: WeightMask?
    /// The name in files: the path of properties that leads to it, as PyTorch would write it. Set by `namedParameters`.
    public internal(set) var name = ""
    /// Whether gradients train it; else it is what a pass over data finds for it (running statistics), or stays.
    public let isTrained: Bool
    /// The working type; `Module.use(_:)` changes it before the first tensor is made.
    public internal(set) var element = ElementType.float32
    private let identity: Int
    private static let count = Atomic<Int>(0)
    private var made: Tensor?
    public var tensor: Tensor {
        if let made { return made }
        let tensor = Tensor.state(name.isEmpty ? "parameter \(identity)" : name, Shape(shape), element)
        made = tensor
        return tensor
    }

    /// Gives the parameter another name than that of another parameter of the same module.
    func rename(_ path: String, besides other: String) {
        precondition(
            made == nil,
            "the parameters “\(path)” and “\(other)” are both called “\(name)”; ask the module that holds them for namedParameters() before a tensor of theirs is made"
        )
        name = path
    }

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
    public func initialValue(seed: UInt64) -> HostArray {
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
public protocol Module {}

extension Module {
    /// Every parameter with its path (`layers.0.weight`), in the order of declaration.
    ///
    /// The names are given to the parameters too, so ask for them before the first tensor is made. A part that was asked before, as
    /// a model asks for its own, keeps its names, unless two parts have the same: then theirs are their paths in this module.
    @discardableResult public func namedParameters() -> [(name: String, parameter: Parameter)] {
        var found: [(path: String, parameter: Parameter)] = []
        func visit(_ value: Any, _ path: String) {
            if let parameter = value as? Parameter {
                if parameter.name.isEmpty { parameter.name = path }
                if !found.contains(where: { $0.parameter === parameter }) { found.append((path, parameter)) }
                return
            }
            let mirror = Mirror(reflecting: value)
            switch mirror.displayStyle {
            case .optional:
                for child in mirror.children { visit(child.value, path) }
            case .collection:
                for (index, child) in mirror.children.enumerated() {
                    visit(child.value, path.isEmpty ? "\(index)" : "\(path).\(index)")
                }
            default:
                guard value is any Module else { return }
                for child in mirror.children {
                    guard let label = child.label else { continue }
                    visit(child.value, path.isEmpty ? label : "\(path).\(label)")
                }
            }
        }
        visit(self, "")
        for (_, alike) in Dictionary(grouping: found, by: \.parameter.name) where alike.count > 1 {
            for (path, parameter) in alike where path != parameter.name {
                parameter.rename(path, besides: alike.first { $0.path != path }!.path)
            }
        }
        return found.map { (name: $0.parameter.name, parameter: $0.parameter) }
    }

    /// Sets the working type of every parameter; ask before the first tensor is made.
    public func use(_ element: ElementType) {
        for (_, parameter) in namedParameters() { parameter.element = element }
    }

    public var parameters: [Parameter] { namedParameters().map(\.parameter) }
    /// The number of trained values; masked entries are counted.
    public var parameterCount: Int { parameters.reduce(0) { $0 + $1.shape.reduce(1, *) } }
}
