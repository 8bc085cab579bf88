import Bijectors
import Distributions
import Graph
import Layers

// Flows of images, `[batch, channels, height, width]`.

/// Levels of a multi-scale flow (Dinh et al. 2017, section 3.6): each squeezes, transforms, and hands half of its channels on as
/// latents. All latents of an image, the first level's first, are one vector `[batch, D]`.
public struct MultiScale: Bijector {
    public let levels: [Chain]

    private func flat(_ x: Tensor) -> Tensor {
        x.reshaped([x.shape[0], x.shape.dimensions.dropFirst().reduce(1) { $0 * $1 }])
    }

    public func forward(_ x: Tensor, _ pass: Pass) -> Mapped {
        let x = checked(x, example)
        if x.error != nil { return Mapped(x, x) }
        var (h, log, latents) = (x, x.zeroPerExample(), [Tensor]())
        for (index, level) in levels.enumerated() {
            let next = level.forward(h, pass)
            if next.value.error != nil { return next }
            (h, log) = (next.value, log + next.logDeterminant)
            guard index < levels.count - 1 else { break }
            let channels = h.shape[1].coefficient
            latents.append(flat(h.sliced(axis: 1, from: channels / 2, count: channels - channels / 2)))
            h = h.sliced(axis: 1, from: 0, count: channels / 2)
        }
        return Mapped(.concatenate(latents + [flat(h)], axis: 1), log)
    }

    public func inverse(_ z: Tensor, _ pass: Pass) -> Mapped {
        let z = checked(z, [example.reduce(1, *)])
        if z.error != nil { return Mapped(z, z) }
        // The shapes of the levels' results follow from the number of latents and the first level's input.
        var start = z.shape[1].coefficient
        var (h, log) = (Tensor?.none, z.zeroPerExample())
        for (index, level) in levels.enumerated().reversed() {
            let shape = shapes[index]
            let share = index == levels.count - 1 ? shape[0] : shape[0] - shape[0] / 2
            let count = share * shape[1] * shape[2]
            start -= count
            let own = z.sliced(axis: 1, from: start, count: count).reshaped(
                [z.shape[0], Extent(share), Extent(shape[1]), Extent(shape[2])])
            let next = level.inverse(h.map { .concatenate([$0, own], axis: 1) } ?? own, pass)
            (h, log) = (next.value, log + next.logDeterminant)
        }
        return Mapped(h ?? z, log)
    }

    /// x, or a mistake where the levels do not fit the data, or x is no such data.
    private func checked(_ x: Tensor, _ shape: [Int]) -> Tensor {
        problem.map { .misuse($0.operation, $0.message, of: x) } ?? x.examples(of: shape, for: "multi-scale")
    }

    /// Channels, height and width of the data.
    private let example: [Int]
    /// Channels, height and width of each level's result.
    private let shapes: [[Int]]
    /// Why the levels do not fit the data.
    private let problem: GraphError?

    /// - Parameters:
    ///   - example: channels, height and width of the data.
    ///   - level: what a level does behind its squeeze, given its channels, height and width.
    public init(_ example: [Int], levels count: Int, _ level: (_ index: Int, _ shape: [Int]) -> Chain) {
        var shape = example
        var (levels, shapes, problem) = ([Chain](), [[Int]](), GraphError?.none)
        for index in 0..<count {
            let chain = level(index, shape)
            levels.append(chain)
            // Asked of a copy: a tensor fixes its parameter's name, and names are given to the finished flow.
            let output = level(index, shape).forward(.input("shape", Shape([1] + shape)), Pass()).value
            problem = output.error
            if problem != nil { break }
            let result = output.shape.resolved(batch: 1)
            shapes.append(Array(result.dropFirst()))
            shape = [result[1] / 2, result[2], result[3]]
        }
        self.example = example
        (self.levels, self.shapes, self.problem) = (levels, shapes, problem)
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "multi-scale, levels", .composition, determinant: "the sum of the levels'; handing on is a permutation",
            inverse: "level by level from the last", parts: levels.map(\.structure))
    }

    public func claims(_ x: Tensor, _ pass: Pass) -> [OrderClaim] {
        var result: [OrderClaim] = []
        var type = x.type
        for (index, level) in levels.enumerated() {
            let own = Tensor.ownVariable(type.shape, type.element)
            result += level.claims(own, pass).map {
                OrderClaim(
                    "level \(index), \($0.name)", $0.parameters, of: $0.x, order: $0.order, variables: $0.variables)
            }
            let next = level.forward(own, pass).value
            if next.error != nil { return result + [OrderClaim("level \(index)", mistake: next, of: own)] }
            type = next.type
            type.shape.dimensions[1] = Extent(type.shape[1].coefficient / 2)
        }
        return result
    }
}

extension Flow {
    /// Glow (Kingma and Dhariwal 2018): at each level a squeeze and `steps` of ActNorm, an invertible 1x1 convolution and an
    /// affine coupling, whose scales are sigmoids (their code; log-scales below 0).
    /// - Parameter decomposed: the convolution's matrix is kept as P L U (equation 10) instead of whole.
    public static func glow(
        channels: Int, height: Int, width: Int, levels: Int = 3, steps: Int = 32, hidden: Int = 512,
        decomposed: Bool = false
    ) -> Flow {
        let bijector = MultiScale([channels, height, width], levels: levels) { _, shape in
            let c = shape[0] * 4
            return Chain(
                [Squeeze()]
                    + (0..<steps).flatMap { _ -> [any Bijector] in
                        [
                            ActNorm(c), decomposed ? PLULinear(c) : DenseLinear(c),
                            Coupling(
                                .half(keepsSecond: true), AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2)),
                                conditioner: ConvolutionNetwork(
                                    channels: [c - c / 2, hidden, hidden, 2 * (c / 2)], kernels: [3, 1, 3])),
                        ]
                    })
        }
        return Flow(bijector, base: DiagonalNormal(), exampleShape: [channels, height, width])
    }

    /// RealNVP on images (Dinh et al. 2017, section 3.6): three couplings with checkerboard masks, a squeeze, three with channel
    /// masks, then the next level on half of the channels; the last level has four checkerboard couplings.
    public static func realNVPImage(
        channels: Int, height: Int, width: Int, levels: Int = 2, hidden: Int = 64, blocks: Int = 2, limit: Double = 3
    ) -> Flow {
        let transformer = AffineTransformer(.scaleThenShift, bound: .tanh(limit: limit))
        func coupling(_ partition: Partition, _ inputs: Int, _ outputs: Int) -> any Bijector {
            Coupling(
                partition, transformer,
                conditioner: ConvolutionNetwork(
                    channels: [inputs] + [Int](repeating: hidden, count: blocks + 1) + [2 * outputs],
                    kernels: [Int](repeating: 3, count: blocks + 2)))
        }
        let bijector = MultiScale([channels, height, width], levels: levels) { index, shape in
            let c = shape[0]
            let isLast = index == levels - 1
            var steps: [any Bijector] = []
            for i in 0..<(isLast ? 4 : 3) {
                steps += [ActNorm(c), coupling(.checkerboard(keepsOdd: i % 2 == 1), c, c)]
            }
            if isLast { return Chain(steps) }
            steps.append(Squeeze())
            for i in 0..<3 {
                steps += [ActNorm(4 * c), coupling(.half(keepsSecond: i % 2 == 0), 2 * c, 2 * c)]
            }
            return Chain(steps)
        }
        return Flow(bijector, base: DiagonalNormal(), exampleShape: [channels, height, width])
    }
}
