import Distributions
import Graph
import Layers

/// An invertible map with the logarithm of its Jacobian's determinant.
///
/// `forward` goes the way in which densities are evaluated, from data x to latents z, so that
/// log p(x) = log p(z) + log|det dz/dx|; `inverse` goes the way in which samples are made. Both work on examples
/// `[batch, ..]`, in float32 or float64, and are ordinary graphs: they can be differentiated, fused and compiled.
public protocol Bijector: Module {
    /// z and log|det dz/dx|.
    func forward(_ x: Tensor, _ context: Context) -> Mapped
    /// x and log|det dx/dz|, as one graph. Where `structure.inversion` is sequential this costs as many passes as there are
    /// variables; `FlowSampler` compiles the incremental program instead.
    func inverse(_ z: Tensor, _ context: Context) -> Mapped
    /// How determinant and inverse are found, and why that is right.
    var structure: BijectorStructure { get }
    /// The conditioners whose dependencies have to respect an order for `structure` to hold, built on x.
    func claims(_ x: Tensor, _ context: Context) -> [OrderClaim]
    /// The bijectors that this one applies one after the other; itself, if it is one step.
    var steps: [any Bijector] { get }
    /// For a sequential inverse: variable t of x as a function of z and of the variables of x before t.
    func solve(_ z: Tensor, given x: Tensor, _ context: Context) -> (drawn: Tensor, order: Order)?
}

extension Bijector {
    public func claims(_ x: Tensor, _ context: Context) -> [OrderClaim] { [] }
    public var steps: [any Bijector] { [self] }
    public func solve(_ z: Tensor, given x: Tensor, _ context: Context) -> (drawn: Tensor, order: Order)? { nil }

    /// The shape of z for examples of a shape.
    public func outputShape(_ input: Shape, features: Tensor? = nil) -> Shape {
        forward(.input("shape", input, element), Context(features: features)).value.shape
    }
}

/// A bijector that says itself what training minimises: the likelihood and something beside it, or something else that leads to the same
/// density.
public protocol LossBijector: Bijector {
    /// The loss of each example, `[batch]`, in place of -log p(x) under the base and this bijector.
    func loss(_ x: Tensor, base: any Distribution, _ context: Context) -> Tensor
}

/// A mapped tensor and the logarithm of the absolute determinant of the map's Jacobian, `[batch]`, in nats.
public struct Mapped {
    public var value: Tensor
    public var logDeterminant: Tensor

    public init(_ value: Tensor, _ logDeterminant: Tensor) {
        self.value = value
        self.logDeterminant = logDeterminant
    }
}

/// The parameters that a conditioner computes for the elements of x, and the order that they must respect.
public struct OrderClaim {
    public let name: String
    public let parameters: Tensor
    public let x: Tensor
    public let order: Order
    /// For each element of `parameters` (of one example) the element of x that it transforms.
    public let variables: [Int32]

    /// A mistake in place of parameters; `prove` throws it.
    package init(_ name: String, mistake: Tensor, of x: Tensor) {
        self.init(name, mistake, of: x, order: Order(index: []), variables: [])
    }

    public init(_ name: String, _ parameters: Tensor, of x: Tensor, order: Order, variables: [Int32]) {
        self.name = name
        self.parameters = parameters
        self.x = x
        self.order = order
        self.variables = variables
    }

    /// - Throws: `DependencyLeak` with the path of the first parameter that reads what it must not.
    public func prove() throws -> AutoregressiveProof {
        try AutoregressiveProof([ConditionalParameters(name, parameters, variables: variables)], of: x, order: order)
    }
}

extension Bijector {
    /// Proves every claim on examples of a shape: what `structure` says of the Jacobian is then true of the graph.
    /// - Throws: `DependencyLeak` naming the way by which a conditioner breaks its order, or by which a transformer reads other elements
    ///   than its own; `GraphError` where a conditioner reads an input that it was not handed, of which nothing can be proved.
    @discardableResult public func proveStructure(
        _ shape: Shape, features: Tensor? = nil, element: ElementType = .float32
    )
        throws -> [(claim: String, proof: AutoregressiveProof)]
    {
        let known = features.map { Set(topologicalOrder([$0]).compactMap { Tensor($0).placeholder }) } ?? []
        return try claims(.ownVariable(shape, element), Context(features: features)).map { claim in
            let proof = try claim.prove()
            for placeholder in topologicalOrder([claim.parameters]).compactMap({ Tensor($0).placeholder })
            where placeholder.role == .input && placeholder.type.shape.isBatched && placeholder != claim.x.placeholder
                && !known.contains(placeholder)
            {
                throw GraphError(
                    operation: claim.name,
                    message:
                        "expected parameters of the tensor and the features that the conditioner is handed, found that they read the input “\(placeholder.label)”; examples may reach the conditioner through it, and nothing is proved of them",
                    location: claim.parameters.location)
            }
            return (claim.name, proof)
        }
    }
}

/// What is known of a bijector's Jacobian, and what follows for determinant and inverse.
public struct BijectorStructure: Sendable, CustomStringConvertible {
    public enum Jacobian: String, Sendable {
        case identity, diagonal, triangular, permutation, lowRank = "low rank", orthogonal, dense, composition
    }

    public enum Inversion: String, Sendable {
        /// A formula, or a root that is found element by element.
        case direct
        /// Variable after variable, in the order of the conditioner.
        case sequential
    }

    public var name: String
    public var jacobian: Jacobian
    /// Which determinant is used, and why.
    public var determinant: String
    /// Which inverse is used, and why.
    public var inverse: String
    public var inversion: Inversion
    public var parts: [BijectorStructure]

    public init(
        _ name: String, _ jacobian: Jacobian, determinant: String, inverse: String, inversion: Inversion = .direct,
        parts: [BijectorStructure] = []
    ) {
        self.name = name
        self.jacobian = jacobian
        self.determinant = determinant
        self.inverse = inverse
        self.inversion = inversion
        self.parts = parts
    }

    public var description: String { lines().joined(separator: "\n") }

    /// A few lines for each step; what repeats is written once and counted.
    public func lines(indent: String = "") -> [String] {
        if parts.isEmpty {
            return [
                "\(indent)\(name): \(jacobian.rawValue) Jacobian",
                "\(indent)  determinant: \(determinant)", "\(indent)  inverse: \(inverse)",
            ]
        }
        let all = parts.map { $0.lines(indent: indent + "  ") }
        var result = ["\(indent)\(name) of \(parts.count):"]
        var next = 0
        while next < all.count {
            // The run of equal blocks, of up to four parts each, that covers most.
            let (length, repeats) =
                (1...4).map { length in (length, Self.repeats(all, next, length)) }
                .max { ($0.1 > 1 ? $0.0 * $0.1 : 1, $1.0) < ($1.1 > 1 ? $1.0 * $1.1 : 1, $0.0) } ?? (1, 1)
            if repeats > 1 {
                result.append("\(indent)  \(repeats) times:")
                result += all[next..<next + length].joined().map { "  " + $0 }
                next += length * repeats
            } else {
                result += all[next]
                next += 1
            }
        }
        return result
    }

    /// How often the block of `length` parts from `start` stands there in a row.
    private static func repeats(_ all: [[String]], _ start: Int, _ length: Int) -> Int {
        guard start + length <= all.count else { return 0 }
        var count = 1
        while start + (count + 1) * length <= all.count,
            (0..<length).allSatisfy({ all[start + count * length + $0] == all[start + $0] })
        {
            count += 1
        }
        return count
    }
}

extension Tensor {
    /// The sum over everything but the batch, `[batch]`.
    func summedOverEvent() -> Tensor { shape.rank > 1 ? sum(axes: Array(1..<shape.rank)) : self }

    /// Zero for every example, of this tensor's element type.
    public func zeroPerExample() -> Tensor { Tensor.scalar(0, elementType).broadcast(to: [shape[0]]) }

    /// A scalar of the graph for every example of `x`.
    func perExample(of x: Tensor) -> Tensor { broadcast(to: [x.shape[0]]) }

    /// The value between two numbers; outside no gradient flows, at the two numbers all of it: `maximum` would halve it there.
    func clamped(_ low: Double, _ high: Double) -> Tensor {
        let (low, high) = (Tensor.scalar(low, elementType), Tensor.scalar(high, elementType))
        return .select(less(low), low, .select(greater(high), high, self))
    }
}

extension Tensor {
    /// What a bijector that is looked at by itself reads: no input of anybody's, though features may be computed from those.
    package static func ownVariable(_ shape: Shape, _ element: ElementType = .float32) -> Tensor {
        .input("own x", shape, element)
    }
}
