import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Models

/// A `CausalModel` as a run sees it.
public final class CausalTask: TrainableModel {
    public let model: any CausalModel
    private let classes: Int?
    public let evaluationBatch: Int

    /// - Parameter classes: the model is conditioned on the examples' classes.
    public init(_ model: any CausalModel, classes: Int? = nil, evaluationBatch: Int = 100) {
        self.model = model
        self.classes = classes
        self.evaluationBatch = evaluationBatch
    }

    public var module: any Module { model }

    private var context: ForwardContext {
        ForwardContext(label: classes.map { _ in .input("label", [.batch], .int32) })
    }

    public func objective(_ x: Tensor, _ random: RandomSource) -> Objective {
        var context = self.context
        context.random = random
        return Objective(loss: -model.logProbability(x, context).mean())
    }

    public func logProbability(_ x: Tensor) -> Tensor { model.logProbability(x, context) }

    /// The parameters of every conditional.
    func parameters(_ x: Tensor) -> Tensor { model.conditionalParameters(x, context) }

    public func initialization(_ x: Tensor, _ random: RandomSource) -> [StateUpdate] {
        var context = self.context
        let initialization = DataDependentInitialization()
        context.initialization = initialization
        _ = model.conditionalParameters(x, context)
        return initialization.values.map { StateUpdate($0.parameter.tensor, $0.value) }
    }

    public func prove() throws -> String {
        let proof = try model.proveAutoregressive(context)
        var text = "proved: every conditional reads only earlier variables"
        if let pairs = proof.dependencies {
            text += " (\(pairs.present) of \(pairs.allowed) allowed dependencies are present)"
        }
        return text
    }

    public func dependencies(_ x: Tensor) -> (output: Tensor, order: Order)? {
        let parameters = model.conditionalParameters(x, context)
        let first = parameters.sliced(axis: 1, from: 0, count: 1)
        let sites = model.conditional.variablesPerSite
        if sites == 1 { return (first.reshaped(x.shape), model.order) }
        // The channels of a pixel share their parameters.
        let shape = Shape([x.shape[0], Extent(sites), first.shape[2]])
        return (first.broadcast(to: shape).reshaped(x.shape), model.order)
    }

    public func drawing(_ x: Tensor, _ request: DrawingRequest) throws -> Drawing {
        var given: (values: Tensor, observed: Tensor)?
        if let pattern = request.observed {
            try refuseGaps(
                pattern, model.order, request, hint: "accept a draw that ignores later observations with --approximate")
            given = (
                .input("given", x.shape),
                Tensor.constant(HostArray(pattern.map { $0 ? 1 : 0 } as [Float])).broadcast(to: x.shape)
            )
        }
        let (drawn, parameters) = model.draw(
            x, context, RandomSource(), given: given, temperature: request.temperature)
        return Drawing([.incremental(variable: x, drawn: drawn, order: model.order, outputs: [parameters])])
    }

    public func describe() -> ModelDescription {
        let x = Tensor.input("x", [.batch, Extent(model.variableCount)])
        var result = ModelDescription()
        result.conditional = model.conditional.name
        result.inputOrdering = model.order.index.map { $0 + 1 }
        result.layers = convolutionLayers([model.conditionalParameters(x, context)])
        return result
    }
}

/// The choices of a PixelCNN.
public struct PixelCNNSettings: ModelSettings {
    /// Values of a variable: 2 for binary pixels, up to 256.
    public var levels = 2
    /// Feature maps.
    public var channels = 128
    /// Residual blocks.
    public var blocks = 7
    /// The odd extent of the blocks' masked convolutions.
    public var kernel = 3
    /// Feature maps of the 1x1 convolution behind the blocks; 0 takes `channels`.
    public var headChannels = 0
    /// Whether the network learns what to add at every place.
    public var places = false
    /// The share of a block's feature maps that a training step leaves out.
    public var dropout = 0.0

    public init() {}

    public var domain: VariableDomain { pixelDomain(levels) }

    public func validate(_ examples: ExampleShape) throws {
        let image = try requireImage(examples)
        try requireLevels(levels)
        try requireChannels(channels)
        try requireBlocks(blocks)
        try require(
            channels % (2 * image.channels) == 0,
            "channels: expected a multiple of \(2 * image.channels), found \(channels)")
        try require((0...65536).contains(headChannels), "headChannels: expected 0 to 65536, found \(headChannels)")
        try require(
            (1...31).contains(kernel) && kernel % 2 == 1, "kernel: expected an odd number from 1 to 31, found \(kernel)"
        )
        try require((0..<1).contains(dropout), "dropout: expected at least 0 and less than 1, found \(dropout)")
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) -> any TrainableModel {
        CausalTask(
            PixelCNN(
                shape: examples.dimensions, levels: levels, channels: channels, blocks: blocks, kernel: kernel,
                headChannels: headChannels == 0 ? nil : headChannels, places: places,
                dropout: dropout))
    }
}

/// The choices of a Gated PixelCNN.
public struct GatedPixelCNNSettings: ModelSettings {
    public var levels = 2
    public var channels = 128
    public var blocks = 10
    public var headChannels = 32
    /// Conditions the model on the examples' classes, where they are known.
    public var conditional = true

    public init() {}

    public var domain: VariableDomain { pixelDomain(levels) }

    public func validate(_ examples: ExampleShape) throws {
        let image = try requireImage(examples)
        try requireLevels(levels)
        try requireChannels(channels)
        try requireBlocks(blocks)
        try require(
            channels % image.channels == 0, "channels: expected a multiple of \(image.channels), found \(channels)")
        try require(
            (1...65536).contains(headChannels) && headChannels % image.channels == 0,
            "headChannels: expected a multiple of \(image.channels), found \(headChannels)")
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) -> any TrainableModel {
        let classes = conditional ? examples.classes : nil
        return CausalTask(
            GatedPixelCNN(
                shape: examples.dimensions, levels: levels, channels: channels, blocks: blocks,
                headChannels: headChannels, classes: classes), classes: classes)
    }
}

/// The choices of a PixelCNN++.
public struct PixelCNNPlusPlusSettings: ModelSettings {
    public var levels = 256
    public var channels = 160
    public var scales = 3
    public var blocks = 5
    public var components = 10
    public var dropout = 0.5

    public init() {}

    public var domain: VariableDomain { pixelDomain(levels) }

    public func validate(_ examples: ExampleShape) throws {
        let image = try requireImage(examples)
        try requireLevels(levels)
        try requireChannels(channels)
        try requireBlocks(blocks)
        try require((1...6).contains(scales), "scales: expected 1 to 6, found \(scales)")
        try require((1...1024).contains(components), "components: expected 1 to 1024, found \(components)")
        try require((0..<1).contains(dropout), "dropout: expected at least 0 and less than 1, found \(dropout)")
        let unit = 1 << (scales - 1)
        try require(
            image.height % unit == 0 && image.width % unit == 0,
            "scales: \(scales) sizes need images whose sides are multiples of \(unit), found \(image.height)x\(image.width)"
        )
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) -> any TrainableModel {
        CausalTask(
            PixelCNNPlusPlus(
                shape: examples.dimensions, levels: levels, channels: channels, scales: scales, blocks: blocks,
                components: components, dropout: dropout, classes: examples.classes), classes: examples.classes,
            evaluationBatch: 25)
    }
}

/// The choices of an image transformer.
public struct ImageTransformerSettings: ModelSettings {
    /// Values of a variable: 2 for binary pixels, up to 256.
    public var levels = 2
    /// The length of every position's vector.
    public var width = 64
    public var heads = 4
    public var blocks = 8
    public var dropout = 0.0

    public init() {}

    public var domain: VariableDomain { pixelDomain(levels) }

    public func validate(_ examples: ExampleShape) throws {
        _ = try requireImage(examples)
        try requireLevels(levels)
        try requireChannels(width, "width")
        try requireBlocks(blocks)
        try require((1...width).contains(heads), "heads: expected 1 to \(width), found \(heads)")
        try require(width % heads == 0, "width: expected a multiple of the \(heads) heads, found \(width)")
        try require((0..<1).contains(dropout), "dropout: expected at least 0 and less than 1, found \(dropout)")
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) -> any TrainableModel {
        CausalTask(
            ImageTransformer(
                shape: examples.dimensions, levels: levels, width: width, heads: heads, blocks: blocks, dropout: dropout
            ), evaluationBatch: 8)
    }
}

/// The choices of a WaveNet.
public struct WaveNetSettings: ModelSettings {
    public var levels = 256
    public var residual = 64
    public var skip = 256
    public var stacks = 2
    /// Dilations 1, 2, 4, ... of a stack.
    public var layers = 10
    /// softmax or logistics.
    public var output = WaveNet.Output.softmax

    public init() {}

    public var domain: VariableDomain { pixelDomain(levels) }

    public func validate(_ examples: ExampleShape) throws {
        try requireSequence(examples)
        try requireLevels(levels)
        try requireChannels(residual, "residual")
        try requireChannels(skip, "skip")
        // What every layer adds to the skips is all that the head reads.
        try require((1...1024).contains(stacks), "stacks: expected 1 to 1024, found \(stacks)")
        try require((1...20).contains(layers), "layers: expected 1 to 20, found \(layers)")
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) -> any TrainableModel {
        CausalTask(
            WaveNet(
                steps: examples.count, levels: levels, residual: residual, skip: skip, stacks: stacks, layers: layers,
                output: output, classes: examples.classes), classes: examples.classes, evaluationBatch: 4)
    }
}

/// The choices of a ByteNet.
public struct ByteNetSettings: ModelSettings {
    public var levels = 256
    public var channels = 256
    /// Sets of the dilations 1, 2, 4, 8, 16.
    public var sets = 2
    public var kernel = 3
    public var dropout = 0.0
    /// An example is a source and its target.
    public var encoder = false

    public init() {}

    public var domain: VariableDomain { pixelDomain(levels) }

    public func validate(_ examples: ExampleShape) throws {
        try requireSequence(examples)
        try requireLevels(levels)
        try requireChannels(channels)
        try requireBlocks(sets, "sets")
        try require(channels % 2 == 0, "channels: expected an even number, found \(channels)")
        try require((1...64).contains(kernel), "kernel: expected 1 to 64, found \(kernel)")
        try require((0..<1).contains(dropout), "dropout: expected at least 0 and less than 1, found \(dropout)")
        try require(
            !encoder || examples.count % 2 == 0,
            "encoder: an example is a source and a target of equal length, found \(examples.count) characters")
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) -> any TrainableModel {
        CausalTask(
            ByteNet(
                steps: encoder ? examples.count / 2 : examples.count, levels: levels, channels: channels, sets: sets,
                kernel: kernel, dropout: dropout, hasEncoder: encoder), evaluationBatch: 50)
    }
}

/// The choices of a Video Pixel Network.
public struct VideoPixelNetworkSettings: ModelSettings {
    public var channels = 32
    public var encoderBlocks = 2
    public var timeLayers = 2
    public var decoderBlocks = 4

    public init() {}

    public var domain: VariableDomain { .binary }

    public func validate(_ examples: ExampleShape) throws {
        try require(
            examples.dimensions.count == 3,
            "this model wants videos [frames, height, width]; the data are \(examples.dimensions)")
        try requireChannels(channels)
        try requireBlocks(encoderBlocks, "encoderBlocks")
        try require(channels % 2 == 0, "channels: expected an even number, found \(channels)")
        try require((0...8).contains(timeLayers), "timeLayers: expected 0 to 8, found \(timeLayers)")
        try require((0...256).contains(decoderBlocks), "decoderBlocks: expected 0 to 256, found \(decoderBlocks)")
    }

    public func makeModel(_ examples: ExampleShape, seed: UInt64) -> any TrainableModel {
        CausalTask(
            VideoPixelNetwork(
                shape: examples.dimensions, channels: channels, encoderBlocks: encoderBlocks, timeLayers: timeLayers,
                decoderBlocks: decoderBlocks))
    }
}

private func pixelDomain(_ levels: Int) -> VariableDomain { levels == 2 ? .binary : .levels(levels) }

private func requireImage(_ examples: ExampleShape) throws -> (channels: Int, height: Int, width: Int) {
    guard let image = examples.image, image.channels == 1 || image.channels == 3 else {
        throw UsageError(
            "this model wants images [channels, height, width] of 1 or 3 channels; the data are \(examples.dimensions)")
    }
    return image
}

private func requireSequence(_ examples: ExampleShape) throws {
    try require(
        examples.dimensions.count == 1, "this model wants sequences [steps]; the data are \(examples.dimensions)")
}

private func requireLevels(_ levels: Int) throws {
    try require((2...65536).contains(levels), "levels: expected 2 to 65536, found \(levels)")
}

private func requireChannels(_ channels: Int, _ setting: String = "channels") throws {
    try require((1...65536).contains(channels), "\(setting): expected 1 to 65536, found \(channels)")
}

private func requireBlocks(_ blocks: Int, _ setting: String = "blocks") throws {
    try require((0...1024).contains(blocks), "\(setting): expected 0 to 1024, found \(blocks)")
}
