import Bijectors
import Distributions
import Graph
import Layers
import Likelihood

// VideoFlow (Kumar, Babaeizadeh, Erhan, Finn, Levine, Dinh, Kingma 2019, "VideoFlow: A Conditional Flow-Based Model for Stochastic
// Video Generation").

extension Flow {
    /// Every frame x[t] has latents z[t] = f(x[t]) of a Glow (Kingma and Dhariwal 2018), which is the same for all frames: at each of
    /// its levels a squeeze, steps, and half of the channels as the level's latents z[t, l] (section 4.1). Those have an autoregressive
    /// prior over frames, p(z[t, l] | z[< t, l], z[t, > l]), a Gaussian whose mean and deviation a residual network computes from the
    /// level's latents of earlier frames and from what went on to the levels above (section 4.2, equations 3 to 5).
    ///
    /// As the prior is a bijector too, `LatentDynamics`, the latents of this flow are standard normal noise, and draws at a lower
    /// temperature are less noise (section 5.1). The first frames of a video may be given; see `LatentGroups`.
    /// - Parameters:
    ///   - scales: levels; each halves height and width.
    ///   - steps, hidden: of the Glow.
    ///   - contextFrames: earlier frames that the prior reads, 3 in the paper. With none frames are independent of one another.
    ///   - priorHidden, priorBlocks: of the prior's residual networks.
    ///   - features: numbers that each video is conditioned on.
    public static func videoFlow(
        frames: Int, height: Int, width: Int, scales: Int = 2, steps: Int = 8, hidden: Int = 64,
        contextFrames: Int = 3, priorHidden: Int = 64, priorBlocks: Int = 2, features: Int = 0
    ) -> Flow {
        let bijector = MultiScale([1, frames, height, width], scales: scales, features: features) { index, shape in
            let c = 4 * shape[0]
            let steps = (0..<steps).flatMap { _ -> [any Bijector] in
                [
                    ActNorm(c), DenseLinear(c),
                    Coupling(
                        .half(keepsSecond: true), AffineTransformer(.shiftThenScale, bound: .sigmoid(shift: 2)),
                        conditioner: ConvolutionNetwork(
                            channels: [c - c / 2, hidden, hidden, 2 * (c / 2)], kernels: [3, 1, 3], features: features,
                            isVideo: true)),
                ]
            }
            // The last level has no level above.
            let kept = index == scales - 1 ? 0 : c / 2
            if kept == 0, contextFrames == 0 || frames == 1 { return Chain([Squeeze()] + steps) }
            let prior = LatentDynamics(
                kept: kept, channels: c - kept, frames: frames, contextFrames: contextFrames, hidden: priorHidden,
                blocks: priorBlocks, features: features)
            return Chain([Squeeze()] + steps + [prior])
        }
        let pixels = height * width
        return Flow(
            bijector, base: DiagonalNormal(), exampleShape: [1, frames, height, width], features: features,
            groups: LatentGroups(
                variables: Order(index: (0..<Int32(frames * pixels)).map { $0 / Int32(pixels) }),
                latents: bijector.places(along: 1)))
    }
}

extension Flow {
    /// The choices of a VideoFlow.
    public struct VideoSettings: ModelSettings {
        /// Levels of latents; each halves height and width.
        public var scales = 2
        /// Glow's steps at each level.
        public var steps = 8
        /// Channels between a coupling's convolutions.
        public var hidden = 64
        /// Earlier frames that the prior of a frame's latents reads; 0 makes frames independent of one another.
        public var contextFrames = 3
        /// Channels of the prior's residual networks.
        public var priorHidden = 64
        /// Their residual blocks.
        public var priorBlocks = 2
        /// Whole numbers 0 ..< levels as data; 0 for real ones.
        public var levels = 256
        /// uniform or variational noise for whole numbers; variational noise is computed from its own frame.
        public var dequantization = "variational"
        /// x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves x in [0, 1).
        public var alpha = 0.05

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            try require(
                examples.dimensions.count == 3,
                "this model wants videos [frames, height, width]; the data are \(examples.dimensions)")
            try require(steps, "steps", in: 1...256)
            try require(hidden, "hidden", in: 1...4096)
            try require(contextFrames, "contextFrames", in: 0...1024)
            try require(priorHidden, "priorHidden", in: 1...4096)
            try require(priorBlocks, "priorBlocks", in: 0...64)
            try requireNoise(levels: levels, dequantization: dequantization, alpha: alpha)
            let (height, width) = (examples.dimensions[1], examples.dimensions[2])
            try require(
                (1...8).contains(scales) && height % (1 << scales) == 0 && width % (1 << scales) == 0,
                "scales: \(height) x \(width) cannot be halved \(scales) times")
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.flowLevels(for: "videoflow")
            guard data.examples.dimensions.count == 3, data.examples.dimensions[0] > 1 else {
                throw UsageError(
                    "videoflow models videos [frames, height, width] of two frames or more, found \(data.examples); take glow for images"
                )
            }
            let (height, width) = (data.examples.dimensions[1], data.examples.dimensions[2])
            let halvings = imageHalvings(height, width)
            guard halvings > 0 else {
                throw UsageError(
                    "videoflow halves the sides of frames, and \(height)x\(width) cannot be halved; crop them, or take vpn"
                )
            }
            scales = min(scales, halvings)
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try validate(examples)
            let (frames, height, width) = (examples.dimensions[0], examples.dimensions[1], examples.dimensions[2])
            let conditions = Conditions(of: examples)
            let flow = Flow.videoFlow(
                frames: frames, height: height, width: width, scales: scales, steps: steps, hidden: hidden,
                contextFrames: contextFrames, priorHidden: priorHidden, priorBlocks: priorBlocks,
                features: conditions.vectorCount)
            guard levels > 0 else {
                let (steps, noise) = standardization(
                    ExampleShape([1, frames, height, width], columns: examples.columns))
                return flow.preceded(by: steps, dequantization: noise, evaluationBatch: 100, conditions: conditions)
            }
            let noise: any Dequantization =
                dequantization == "uniform"
                ? UniformDequantization(levels: levels)
                : VariationalDequantization(
                    levels: levels, images: [1, frames, height, width], hidden: 32, isVideo: true)
            return flow.preceded(
                by: unitInterval(levels: levels, alpha: alpha), dequantization: noise, evaluationBatch: 100,
                conditions: conditions)
        }
    }
}
