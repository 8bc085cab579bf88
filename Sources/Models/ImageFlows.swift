import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

// Flows of images, `[batch, channels, height, width]`, and of videos, `[batch, channels, frames, height, width]`.

/// Scales of a multi-scale flow (Dinh et al. 2017, section 3.6): each squeezes, transforms, and hands half of its channels on as
/// latents. All latents of an image, the first scale's first, are one vector `[batch, D]`.
public struct MultiScale: Bijector {
    public let scales: [Chain]

    /// In files scales are `levels`.
    public func name(ofProperty property: String) -> String { property == "scales" ? "levels" : property }

    private func flat(_ x: Tensor) -> Tensor {
        x.reshaped([x.shape[0], x.shape.dimensions.dropFirst().reduce(1) { $0 * $1 }])
    }

    public func forward(_ x: Tensor, _ context: Context) -> Mapped {
        let x = checked(x, example)
        if x.error != nil { return Mapped(x, x) }
        var (h, log, latents) = (x, x.zeroPerExample(), [Tensor]())
        for (index, scale) in scales.enumerated() {
            let next = scale.forward(h, context)
            if next.value.error != nil { return next }
            (h, log) = (next.value, log + next.logDeterminant)
            guard index < scales.count - 1 else { break }
            let channels = h.shape[1].coefficient
            latents.append(flat(h.sliced(axis: 1, from: channels / 2, count: channels - channels / 2)))
            h = h.sliced(axis: 1, from: 0, count: channels / 2)
        }
        return Mapped(.concatenate(latents + [flat(h)], axis: 1), log)
    }

    public func inverse(_ z: Tensor, _ context: Context) -> Mapped {
        let z = checked(z, [example.reduce(1, *)])
        if z.error != nil { return Mapped(z, z) }
        // The shapes of the scales' results follow from the number of latents and the first scale's input.
        var start = z.shape[1].coefficient
        var (h, log) = (Tensor?.none, z.zeroPerExample())
        for (index, scale) in scales.enumerated().reversed() {
            let shape = shapes[index]
            let share = index == scales.count - 1 ? shape[0] : shape[0] - shape[0] / 2
            let count = shape.dropFirst().reduce(share, *)
            start -= count
            let own = z.sliced(axis: 1, from: start, count: count).reshaped(
                Shape([z.shape[0], Extent(share)] + shape.dropFirst().map { Extent($0) }))
            let next = scale.inverse(h.map { .concatenate([$0, own], axis: 1) } ?? own, context)
            (h, log) = (next.value, log + next.logDeterminant)
        }
        return Mapped(h ?? z, log)
    }

    /// x, or a mistake where the scales do not fit the data, or x is no such data.
    private func checked(_ x: Tensor, _ shape: [Int]) -> Tensor {
        problem.map { .misuse($0.operation, $0.message, of: x) } ?? x.examples(of: shape, for: "multi-scale")
    }

    /// For each latent its index along an axis of an example's data that scales do not change, as 1 is for the frames of a video.
    public func places(along axis: Int) -> [Int32] {
        shapes.enumerated().flatMap { index, shape -> [Int32] in
            let share = index == shapes.count - 1 ? shape[0] : shape[0] - shape[0] / 2
            let inner = shape[(axis + 1)...].reduce(1, *)
            return (0..<shape.dropFirst().reduce(share, *)).map { Int32($0 / inner % shape[axis]) }
        }
    }

    /// Channels, height and width of the data, or channels, frames, height and width.
    private let example: [Int]
    /// The same of each scale's result.
    private let shapes: [[Int]]
    /// Why the scales do not fit the data.
    private let problem: GraphError?

    /// - Parameters:
    ///   - example: channels, height and width of the data, or channels, frames, height and width.
    ///   - features: numbers that each example is conditioned on.
    ///   - scale: what a scale does, given the shape of its input.
    public init(
        _ example: [Int], scales count: Int, features: Int = 0, _ scale: (_ index: Int, _ shape: [Int]) -> Chain
    ) {
        let context = Context(
            features: features > 0 ? .input("features of shape", [1, Extent(features)]) : nil)
        var shape = example
        var (scales, shapes, problem) = ([Chain](), [[Int]](), GraphError?.none)
        for index in 0..<count {
            let chain = scale(index, shape)
            scales.append(chain)
            let output = chain.forward(.input("shape", Shape([1] + shape)), context).value
            problem = output.error
            if problem != nil { break }
            let result = output.shape.resolved(batch: 1)
            shapes.append(Array(result.dropFirst()))
            shape = [result[1] / 2] + result[2...]
        }
        self.example = example
        (self.scales, self.shapes, self.problem) = (scales, shapes, problem)
    }

    public var structure: BijectorStructure {
        BijectorStructure(
            "multi-scale, scales", .composition, determinant: "the sum of the scales'; handing on is a permutation",
            inverse: "scale by scale from the last", parts: scales.map(\.structure))
    }

    public func claims(_ x: Tensor, _ context: Context) -> [OrderClaim] {
        var result: [OrderClaim] = []
        var type = x.type
        for (index, scale) in scales.enumerated() {
            let own = Tensor.ownVariable(type.shape, type.element)
            result += scale.claims(own, context).map {
                OrderClaim(
                    "scale \(index), \($0.name)", $0.parameters, of: $0.x, order: $0.order, variables: $0.variables)
            }
            let next = scale.forward(own, context).value
            if next.error != nil { return result + [OrderClaim("scale \(index)", mistake: next, of: own)] }
            type = next.type
            type.shape.dimensions[1] = Extent(type.shape[1].coefficient / 2)
        }
        return result
    }
}

extension Flow {
    /// Glow (Kingma and Dhariwal 2018): at each scale a squeeze and `steps` of ActNorm, an invertible 1x1 convolution and an
    /// affine coupling, whose scales are sigmoids (their code; log-scales below 0).
    /// - Parameters:
    ///   - decomposed: the convolution's matrix is kept as P L U (equation 10) instead of whole.
    ///   - leastScale: of a coupling. In draws a network may read what no image gave, and answer with a scale so near 0 that the inverse
    ///     leaves the range of floats.
    ///   - network: of residual blocks; `nil` for Glow's three convolutions with `hidden` channels between them.
    ///   - learnedPrior: whether the latents' distribution is learned, as in their code; see `multiScale`.
    public static func glow(
        channels: Int, height: Int, width: Int, scales: Int = 3, steps: Int = 32, hidden: Int = 512,
        decomposed: Bool = false, leastScale: Double = 0, features: Int = 0, network: ResidualBlocks? = nil,
        learnedPrior: Bool = false
    ) -> Flow {
        var couplings = 0
        let transformer = AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2, least: leastScale))
        return multiScale([channels, height, width], scales, features, learnedPrior) { _, shape in
            let c = shape[0] * 4
            func conditioner() -> any Conditioner {
                couplings += 1
                let (inputs, outputs) = (c - c / 2, 2 * (c / 2))
                return network?.conditioner(inputs, outputs, hidden, features, couplings)
                    ?? ConvolutionNetwork(
                        channels: [inputs, hidden, hidden, outputs], kernels: [3, 1, 3], features: features)
            }
            return [Squeeze()]
                + (0..<steps).flatMap { _ -> [any Bijector] in
                    [
                        ActNorm(c), decomposed ? PLULinear(c) : DenseLinear(c),
                        Coupling(.half(keepsSecond: true), transformer, conditioner: conditioner()),
                    ]
                }
        }
    }

    /// Scales of which all but the last squeeze, or all, and the distribution of their latents.
    /// - Parameter learnedPrior: whether the latents that a scale hands on are normal with means and deviations that one convolution
    ///   computes from the other half of the channels (Kingma and Dhariwal 2018, whose code has that of a split), and those of the last
    ///   scale normal with means and deviations of their own, given the features where there are such.
    private static func multiScale(
        _ shape: [Int], _ scales: Int, _ features: Int, _ learnedPrior: Bool,
        _ steps: (_ index: Int, _ shape: [Int]) -> [any Bijector]
    ) -> Flow {
        let bijector = MultiScale(shape, scales: scales, features: features) { index, shape in
            let own = steps(index, shape)
            guard learnedPrior, index < scales - 1 else { return Chain(own) }
            // As a coupling, that makes standard normal latents of them.
            let c = 4 * shape[0]
            let prior = Coupling(
                .half(keepsSecond: false), AffineTransformer(.standardize, bound: .tanh(limit: 4)),
                conditioner: ConvolutionNetwork(channels: [c / 2, 2 * (c - c / 2)], kernels: [3]))
            return Chain(own + [prior])
        }
        return Flow(
            bijector, base: learnedPrior ? bijector.learnedBase(features: features) : DiagonalNormal(),
            exampleShape: shape, features: features)
    }

    /// RealNVP on images (Dinh et al. 2017, section 3.6): three couplings with checkerboard masks, a squeeze, three with channel
    /// masks, then the next scale on half of the channels; the last scale has four checkerboard couplings.
    public static func realNVPImage(
        channels: Int, height: Int, width: Int, scales: Int = 2, hidden: Int = 64, layers: Int = 2, limit: Double = 3,
        features: Int = 0, network: ResidualBlocks? = nil, learnedPrior: Bool = false
    ) -> Flow {
        var couplings = 0
        let transformer = AffineTransformer(.scaleThenShift, bound: .tanh(limit: limit))
        func coupling(_ partition: Partition, _ inputs: Int, _ outputs: Int) -> any Bijector {
            couplings += 1
            return Coupling(
                partition, transformer,
                conditioner: network?.conditioner(inputs, 2 * outputs, hidden, features, couplings)
                    ?? ConvolutionNetwork(
                        channels: [inputs] + [Int](repeating: hidden, count: layers + 1) + [2 * outputs],
                        kernels: [Int](repeating: 3, count: layers + 2), features: features))
        }
        return multiScale([channels, height, width], scales, features, learnedPrior) { index, shape in
            let c = shape[0]
            let isLast = index == scales - 1
            var steps: [any Bijector] = []
            for i in 0..<(isLast ? 4 : 3) {
                steps += [ActNorm(c), coupling(.checkerboard(keepsOdd: i % 2 == 1), c, c)]
            }
            if isLast { return steps }
            steps.append(Squeeze())
            for i in 0..<3 {
                steps += [ActNorm(4 * c), coupling(.half(keepsSecond: i % 2 == 0), 2 * c, 2 * c)]
            }
            return steps
        }
    }

    /// What the networks of couplings of images are made of beside their hidden channels.
    public struct ResidualBlocks: Sendable, Equatable {
        public var count: Int
        public var norm: ConvolutionNorm
        /// The share of each block's inner maps that a training step leaves out.
        public var dropout: Double

        public init(_ count: Int, norm: ConvolutionNorm = .none, dropout: Double = 0) {
            (self.count, self.norm, self.dropout) = (count, norm, dropout)
        }

        fileprivate func conditioner(
            _ inputs: Int, _ outputs: Int, _ hidden: Int, _ features: Int, _ index: Int
        ) -> any Conditioner {
            ResidualNetwork(
                inputs, hidden: hidden, blocks: count, outputs: outputs, features: features, norm: norm,
                dropout: dropout, stream: index)
        }
    }
}

extension MultiScale {
    /// The standard normal for the latents that scales hand on, a normal with means and deviations of its own for those of the last.
    fileprivate func learnedBase(features: Int) -> any Distribution {
        let (all, last) = (example.reduce(1, *), shapes.last?.reduce(1, *) ?? 0)
        let top: any Distribution =
            features > 0 ? ConditionalNormal([last], features: features) : DiagonalNormal([last])
        return all == last ? top : ProductDistribution([(DiagonalNormal(), all - last), (top, last)])
    }
}

extension Flow {
    /// The choices of a flow of images.
    public struct ImageSettings: ModelSettings {
        /// glow or realnvp.
        public var flow = "glow"
        /// How often half of the latents are handed on; each squeezes height and width by two.
        public var scales = 2
        /// Glow's steps at each scale.
        public var steps = 8
        /// Channels between a conditioner's layers.
        public var hidden = 64
        /// Residual blocks of a conditioner; 0 for plain convolutions.
        public var blocks = 0
        /// Of residual blocks: none, layer or weight.
        public var norm = "none"
        /// Of residual blocks: the share of their inner maps that a training step leaves out.
        public var dropout = 0.0
        /// Whether the latents' means and deviations are learned: of those that a scale hands on given the other half, of the last
        /// scale's given class and features.
        public var learnedPrior = false
        /// Glow's 1x1 convolutions by LU decomposition of any matrix, or as a product of triangular factors (plu).
        public var linear = "dense"
        /// The least scale of Glow's couplings, which keeps draws in the range of floats; 0 for the sigmoid of its code.
        public var leastScale = 0.0
        /// Whole numbers 0 ..< levels as data; 0 for real ones.
        public var levels = 256
        /// uniform or variational noise for whole numbers.
        public var dequantization = "uniform"
        /// x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves x in [0, 1).
        public var alpha = 0.05

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(["glow", "realnvp"].contains(flow), "flow: expected glow or realnvp, found “\(flow)”")
            try require(["dense", "plu"].contains(linear), "linear: expected dense or plu, found “\(linear)”")
            try requireNoise(levels: levels, dequantization: dequantization, alpha: alpha)
            try require(0..<1 ~= leastScale, "leastScale: expected a number from 0 to below 1, found \(leastScale)")
            try require(steps, "steps", in: 1...256)
            try require(hidden, "hidden", in: 1...4096)
            try require(blocks, "blocks", in: 0...64)
            try requireDropout(dropout)
            _ = try requireChoice(norm, "norm") as ConvolutionNorm
            let image = try imageShape(examples)
            let halvings = flow == "glow" ? scales : scales - 1
            try require(
                (1...8).contains(scales) && image.height % (1 << halvings) == 0 && image.width % (1 << halvings) == 0,
                "scales: \(image.height) x \(image.width) cannot be halved \(halvings) times")
        }

        public func requireEffects() throws {
            try require(
                norm == "none" || blocks > 0, "norm=\(norm) has no effect without residual blocks; set blocks=2, say")
            try require(
                leastScale == 0 || flow == "glow",
                "leastScale=\(leastScale) has no effect: scales of realnvp are exp(-3) at least")
            try require(
                dropout == 0 || blocks > 0,
                "dropout=\(dropout) has no effect without residual blocks; set blocks=2, say")
        }

        private func imageShape(_ examples: ExampleShape) throws -> (channels: Int, height: Int, width: Int) {
            guard let image = examples.image else {
                throw UsageError("this flow needs images [channels, height, width], found \(examples.dimensions)")
            }
            return image
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try validate(examples)
            let (channels, height, width) = try imageShape(examples)
            let conditions = Conditions(of: examples)
            let network =
                blocks == 0 ? nil : ResidualBlocks(blocks, norm: try requireChoice(norm, "norm"), dropout: dropout)
            let flow: Flow =
                self.flow == "glow"
                ? .glow(
                    channels: channels, height: height, width: width, scales: scales, steps: steps, hidden: hidden,
                    decomposed: linear != "dense", leastScale: leastScale, features: conditions.vectorCount,
                    network: network,
                    learnedPrior: learnedPrior)
                : .realNVPImage(
                    channels: channels, height: height, width: width, scales: scales, hidden: hidden,
                    features: conditions.vectorCount, network: network, learnedPrior: learnedPrior)
            guard levels > 0 else {
                let (steps, noise) = standardization(examples)
                return flow.preceded(by: steps, dequantization: noise, evaluationBatch: 100, conditions: conditions)
            }
            let noise: any Dequantization =
                dequantization == "uniform"
                ? UniformDequantization(levels: levels)
                : VariationalDequantization(variables: examples.count, levels: levels)
            return flow.preceded(
                by: unitInterval(levels: levels, alpha: alpha), dequantization: noise, evaluationBatch: 100,
                conditions: conditions)
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.flowLevels(for: flow)
            let image = try data.image(for: flow == "glow" ? "glow" : "realnvp-image", other: "realnvp or maf")
            let halvings = imageHalvings(image.height, image.width)
            guard flow != "glow" || halvings > 0 else {
                throw UsageError(
                    "glow halves the sides of images, and \(image.height)x\(image.width) cannot be halved; crop them, or take realnvp-image or pixelcnn"
                )
            }
            scales = min(scales, flow == "glow" ? halvings : halvings + 1)
            return []
        }
    }
}

/// How often both sides can be halved.
func imageHalvings(_ height: Int, _ width: Int) -> Int {
    min(height.trailingZeroBitCount, width.trailingZeroBitCount)
}

/// Refuses settings of whole numbers' noise that mean nothing.
func requireNoise(levels: Int, dequantization: String, alpha: Double) throws {
    try require(
        ["uniform", "variational"].contains(dequantization),
        "dequantization: expected uniform or variational, found “\(dequantization)”")
    try require(levels == 0 || (2...1 << 16).contains(levels), "levels: expected 0, or 2 to 65536, found \(levels)")
    try require(alpha < 0.5, "alpha: expected a number below 0.5, found \(alpha)")
}

extension DataSummary {
    /// Channels, height and width.
    /// - Throws: `UsageError` for what is no image of one or three channels.
    func image(for family: String, other: String) throws -> (channels: Int, height: Int, width: Int) {
        guard let image = examples.image, image.channels == 1 || image.channels == 3 else {
            throw UsageError(
                "\(family) models images of 1 or 3 channels, found \(examples); take \(other)")
        }
        return image
    }
}
