import Bijectors
import Datasets
import Graph
import Layers
import Models

/// The choices of a flow of images.
public struct ImageFlowSettings: ModelSettings {
    /// glow or realnvp.
    public var flow = "glow"
    /// How often half of the latents are handed on; each squeezes height and width by two.
    public var scales = 2
    /// Glow's steps at each scale.
    public var steps = 8
    /// Channels between a conditioner's layers.
    public var hidden = 64
    /// Glow's 1x1 convolutions by LU decomposition of any matrix, or as a product of triangular factors (plu).
    public var linear = "dense"
    /// Whole numbers 0 ..< levels as data; 0 for real ones.
    public var levels = 256
    /// uniform or variational noise for whole numbers.
    public var dequantization = "uniform"
    /// x' = alpha + (1 - 2 alpha) x goes through the logit; negative leaves x in [0, 1).
    public var alpha = 0.05

    public init() {}

    public var domain: VariableDomain { levels > 0 ? .levels(levels) : .real }

    public func validate(_ examples: ExampleShape) throws {
        try require(["glow", "realnvp"].contains(flow), "flow: expected glow or realnvp, found “\(flow)”")
        try require(["dense", "plu"].contains(linear), "linear: expected dense or plu, found “\(linear)”")
        try require(
            ["uniform", "variational"].contains(dequantization),
            "dequantization: expected uniform or variational, found “\(dequantization)”")
        try require((1...256).contains(steps), "steps: expected 1 to 256, found \(steps)")
        try require((1...4096).contains(hidden), "hidden: expected 1 to 4096, found \(hidden)")
        try require(levels == 0 || (2...1 << 16).contains(levels), "levels: expected 0, or 2 to 65536, found \(levels)")
        try require(alpha < 0.5, "alpha: expected a number below 0.5, found \(alpha)")
        guard let image = examples.image else {
            throw UsageError("this flow needs images [channels, height, width], found \(examples.dimensions)")
        }
        let halvings = flow == "glow" ? scales : scales - 1
        try require(
            (1...8).contains(scales) && image.height % (1 << halvings) == 0 && image.width % (1 << halvings) == 0,
            "scales: \(image.height) x \(image.width) cannot be halved \(halvings) times")
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any TrainableModel {
        guard let (channels, height, width) = examples.image else {
            throw UsageError("this flow needs images [channels, height, width], found \(examples.dimensions)")
        }
        let flow: Flow =
            self.flow == "glow"
            ? .glow(
                channels: channels, height: height, width: width, levels: scales, steps: steps, hidden: hidden,
                decomposed: linear != "dense")
            : .realNVPImage(channels: channels, height: height, width: width, levels: scales, hidden: hidden)
        guard levels > 0 else { return FlowModel(flow, evaluationBatch: 100) }
        let whole = Flow(
            Chain(preprocessing(levels: levels, alpha: alpha) + [flow.bijector]), base: flow.base,
            exampleShape: flow.exampleShape)
        let noise: any Dequantization =
            dequantization == "uniform"
            ? UniformDequantization() : VariationalDequantization(variables: examples.count, levels: levels)
        return FlowModel(whole, dequantization: noise, levels: levels, evaluationBatch: 100)
    }
}
