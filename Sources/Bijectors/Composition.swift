import Graph
import Layers

/// Bijectors one after the other; the first is the nearest to the data.
public struct Chain: Bijector {
    public let layers: [any Bijector]

    public init(_ layers: [any Bijector]) { self.layers = layers }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        layers.reduce(Mapped(x, x.zeroPerExample())) { so, layer in
            let next = layer.forward(so.value, context)
            return Mapped(next.value, so.logDeterminant + next.logDeterminant)
        }
    }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        layers.reversed().reduce(Mapped(z, z.zeroPerExample())) { so, layer in
            let next = layer.inverse(so.value, context)
            return Mapped(next.value, so.logDeterminant + next.logDeterminant)
        }
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "composition", .composition, determinant: "the sum of the parts', by the chain rule",
            inverse: "the parts' inverses in the opposite order",
            inversion: layers.contains { $0.structure.inversion == .sequential } ? .sequential : .direct,
            parts: layers.map(\.structure))
    }

    /// Each layer's claims on an input of its own, so that a proof is as small as the layer.
    public func claims(_ x: Tensor, _ context: Context) -> [OrderClaim] {
        var result: [OrderClaim] = []
        var type = x.type
        for (index, layer) in layers.enumerated() {
            let own = Tensor.ownVariable(type.shape, type.element)
            result += layer.claims(own, context).map {
                OrderClaim(
                    "layer \(index), \($0.name)", $0.parameters, of: $0.x, order: $0.order, variables: $0.variables)
            }
            let next = layer.forward(own, context).value
            // Nothing can be said of what comes behind a mistake.
            if next.error != nil { return result + [OrderClaim("layer \(index)", mistake: next, of: own)] }
            type = next.type
        }
        return result
    }

    public var steps: [any Bijector] { layers.flatMap(\.steps) }
}

/// A bijector used the other way round: what was fast for densities is now fast for samples (IAF against MAF).
public struct Inverted: Bijector {
    public let original: any Bijector

    public init(_ original: any Bijector) { self.original = original }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped { original.inverse(x, context) }
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped { original.forward(z, context) }

    /// The same bijector where it need not be turned round as a whole: the inverse of an inverse is what that was made of, and of a
    /// chain the inverses in the opposite order, so that a step whose inverse is sequential is found.
    private var resolved: (any Bijector)? {
        if let inner = original as? Inverted { return inner.original }
        return original is Chain ? Chain(original.steps.reversed().flatMap { Inverted($0).steps }) : nil
    }

    public var steps: [any Bijector] { resolved?.steps ?? [self] }

    public func solve(_ z: Tensor, given x: Tensor, _ context: Context) -> (drawn: Tensor, order: Order)? {
        resolved?.solve(z, given: x, context)
    }

    public var structure: BijectorStructure {
        if let resolved { return resolved.structure }
        let inner = original.structure
        return BijectorStructure(
            "inverse of \(inner.name)", inner.jacobian, determinant: "minus that of the original: \(inner.determinant)",
            inverse: "the original, in one pass", inversion: .direct, parts: [])
    }

    /// The original's, on what it reads: its inverse's result, whose shape need not be x's.
    public func claims(_ x: Tensor, _ context: Context) -> [OrderClaim] {
        if let resolved { return resolved.claims(x, context) }
        let own = original.inverse(x, context).value
        // Nothing can be said of what comes behind a mistake.
        if own.error != nil { return [OrderClaim("inverse", mistake: own, of: x)] }
        return original.claims(.ownVariable(own.shape, own.elementType), context)
    }
}

/// Elements of each example in another order: z[i] = x[order[i]] along axis 1.
public struct Permutation: Bijector {
    public let order: [Int]

    public init(_ order: [Int]) {
        trap(unless: order.sorted() == Array(order.indices), "\(order) is no permutation")
        self.order = order
    }

    public static func reversal(_ count: Int) -> Permutation { Permutation((0..<count).reversed()) }

    private func permuted(_ x: Tensor, _ order: [Int]) -> Tensor {
        if x.shape.rank < 2 || x.shape[1] != Extent(order.count) {
            return .misuse("permutation", "expected [batch, \(order.count), ..], found \(x.shape)", of: x)
        }
        if order == Array(order.indices.reversed()) { return x.flipped(axes: [1]) }
        return x.gathered(.constant(HostArray(order.map { Int32($0) })), axis: 1)
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped { Mapped(permuted(x, order), x.zeroPerExample()) }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        Mapped(permuted(z, order.indices.sorted { order[$0] < order[$1] }), z.zeroPerExample())
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "permutation", .permutation, determinant: "1, as a permutation keeps volumes",
            inverse: "the opposite permutation")
    }
}

/// The same elements under another shape; shapes are those of one example.
public struct Reshaped: Bijector {
    public let from: [Int]
    public let to: [Int]

    public init(from: [Int], to: [Int]) {
        self.from = from
        self.to = to
    }

    private func shaped(_ x: Tensor, _ from: [Int], _ to: [Int]) -> Mapped {
        let (old, new) = (Shape([x.shape[0]] + from.map { Extent($0) }), Shape([x.shape[0]] + to.map { Extent($0) }))
        if x.shape != old {
            let problem = Tensor.misuse("reshape", "expected \(old), found \(x.shape)", of: x)
            return Mapped(problem, problem)
        }
        return Mapped(x.reshaped(new), x.zeroPerExample())
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped { shaped(x, from, to) }
    public func inverse(_ z: Tensor, _ context: Context) -> Mapped { shaped(z, to, from) }

    public var structure: BijectorStructure {
        BijectorStructure(
            "reshape", .permutation, determinant: "1, as elements only change their places", inverse: "the old shape")
    }
}

/// Blocks of 2 x 2 pixels become channels: `[batch, c, h, w]` to `[batch, 4 c, h / 2, w / 2]`, channel `4 c + 2 i + j` holding
/// pixel (i, j) of each block (Dinh et al. 2017, section 3.6). Axes between the channels and the height, as the frames of a video,
/// stay as they are.
public struct Squeeze: Bijector {
    public init() {}

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let rank = x.shape.rank
        let (h, w) = rank < 4 ? (1, 1) : (x.shape[rank - 2].coefficient, x.shape[rank - 1].coefficient)
        if h % 2 != 0 || w % 2 != 0 {
            let problem = Tensor.misuse(
                "squeeze", "expected [batch, channels, height, width] of even height and width, found \(x.shape)", of: x
            )
            return Mapped(problem, problem)
        }
        let (n, c, between) = (x.shape[0], x.shape[1], Array(x.shape.dimensions[2..<rank - 2]))
        let (rows, columns) = (Extent(h / 2), Extent(w / 2))
        let blocks = x.reshaped(Shape([n, c] + between + [rows, 2, columns, 2]))
            .transposed([0, 1, rank - 1, rank + 1] + Array(2..<rank - 2) + [rank - 2, rank])
        return Mapped(blocks.reshaped(Shape([n, c * 4] + between + [rows, columns])), x.zeroPerExample())
    }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let (n, c, rank) = (z.shape[0], Extent(z.shape[1].coefficient / 4), z.shape.rank)
        let (between, h, w) = (Array(z.shape.dimensions[2..<rank - 2]), z.shape[rank - 2], z.shape[rank - 1])
        let pixels = z.reshaped(Shape([n, c, 2, 2] + between + [h, w]))
            .transposed([0, 1] + Array(4..<rank) + [rank, 2, rank + 1, 3])
        return Mapped(pixels.reshaped(Shape([n, c] + between + [h * 2, w * 2])), z.zeroPerExample())
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "squeeze", .permutation, determinant: "1, as elements only change their places",
            inverse: "the blocks put back")
    }
}
