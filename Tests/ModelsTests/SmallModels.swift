import Likelihood

@testable import Models

/// Small models of every family, with weights large enough that every path matters.
struct SmallModel {
    let name: String
    let model: any AutoregressiveModel
}

func smallModels() throws -> [SmallModel] {
    [
        SmallModel(
            name: "pixelcnn",
            model: try PixelCNN([1, 6, 5]) {
                $0.channels = 8
                $0.blocks = 2
            }),
        SmallModel(
            name: "pixelcnn that knows its positions",
            model: try PixelCNN([1, 6, 5]) {
                $0.channels = 8
                $0.blocks = 2
                $0.kernel = 5
                $0.positionEmbedding = true
            }),
        SmallModel(
            name: "pixelcnn of three channels",
            model: try PixelCNN([3, 4, 5]) {
                $0.levels = 4
                $0.channels = 12
                $0.blocks = 2
            }),
        SmallModel(
            name: "gated pixelcnn",
            model: try GatedPixelCNN(ExampleShape([1, 6, 5], classes: 3)) {
                $0.channels = 6
                $0.blocks = 2
                $0.headChannels = 5
            }),
        SmallModel(
            name: "gated pixelcnn of three channels",
            model: try GatedPixelCNN([3, 4, 4]) {
                $0.levels = 3
                $0.channels = 6
                $0.blocks = 2
                $0.headChannels = 6
            }),
        SmallModel(
            name: "pixelcnn++",
            model: try PixelCNNPlusPlus([3, 4, 4]) {
                $0.channels = 4
                $0.blocks = 1
                $0.components = 2
            }),
        SmallModel(
            name: "wavenet",
            model: try WaveNet(ExampleShape([21], classes: 2)) {
                $0.levels = 8
                $0.residual = 4
                $0.skip = 6
                $0.layers = 3
            }),
        SmallModel(
            name: "wavenet with logistics",
            model: try WaveNet([14]) {
                $0.levels = 64
                $0.residual = 4
                $0.skip = 6
                $0.stacks = 1
                $0.layers = 3
                $0.output = .logistics
            }),
        SmallModel(
            name: "bytenet",
            model: try ByteNet([15]) {
                $0.levels = 5
                $0.channels = 8
                $0.sets = 1
            }),
        SmallModel(
            name: "bytenet with an encoder",
            model: try ByteNet([12]) {
                $0.levels = 5
                $0.channels = 8
                $0.sets = 1
                $0.encoder = true
            }),
        SmallModel(
            name: "image transformer",
            model: try ImageTransformer([1, 3, 4]) {
                $0.width = 6
                $0.heads = 2
                $0.blocks = 2
            }),
        SmallModel(
            name: "image transformer of three levels",
            model: try ImageTransformer([3, 2, 2]) {
                $0.levels = 3
                $0.width = 8
                $0.heads = 2
                $0.blocks = 2
            }),
        SmallModel(
            name: "image transformer that turns by position",
            model: try ImageTransformer([1, 3, 3]) {
                $0.width = 8
                $0.heads = 2
                $0.blocks = 1
                $0.positions = .rotary
            }),
        SmallModel(
            name: "image transformer of rows and columns",
            model: try ImageTransformer([1, 4, 3]) {
                $0.width = 6
                $0.heads = 2
                $0.blocks = 2
                $0.pattern = "axial"
            }),
        SmallModel(
            name: "image transformer of windows",
            model: try ImageTransformer([1, 4, 3]) {
                $0.width = 6
                $0.heads = 2
                $0.blocks = 2
                $0.pattern = "window:3"
            }),
        SmallModel(
            name: "pixelsnail",
            model: try PixelSNAIL(ExampleShape([1, 4, 3], classes: 2)) {
                $0.levels = 2
                $0.channels = 4
                $0.blocks = 2
                $0.residuals = 1
                $0.queryDepth = 3
            }),
        SmallModel(
            name: "pixelsnail of three channels",
            model: try PixelSNAIL([3, 3, 3]) {
                $0.levels = 5
                $0.channels = 8
                $0.blocks = 1
                $0.residuals = 1
                $0.heads = 2
                $0.queryDepth = 2
                $0.components = 2
            }),
        SmallModel(
            name: "recurrent",
            model: try RecurrentModel(ExampleShape([9], classes: 2)) {
                $0.levels = 4
                $0.units = 5
                $0.layers = 2
            }),
        SmallModel(
            name: "recurrent over pixels",
            model: try RecurrentModel([1, 3, 4]) {
                $0.recurrence = .gru
                $0.units = 5
            }),
        SmallModel(
            name: "recurrent without gates",
            model: try RecurrentModel([8]) {
                $0.recurrence = .rnn
                $0.levels = 3
                $0.units = 5
            }),
        SmallModel(
            name: "row lstm",
            model: try PixelRNN(ExampleShape([1, 5, 4], classes: 3)) {
                $0.layer = .rowLSTM
                $0.units = 3
                $0.layers = 2
                $0.headChannels = 4
            }),
        SmallModel(
            name: "diagonal bilstm",
            model: try PixelRNN([1, 4, 5]) {
                $0.units = 3
                $0.layers = 2
                $0.headChannels = 4
            }),
        SmallModel(
            name: "row lstm of three channels",
            model: try PixelRNN([3, 3, 4]) {
                $0.layer = .rowLSTM
                $0.levels = 4
                $0.units = 6
                $0.headChannels = 6
            }),
        SmallModel(
            name: "diagonal bilstm of three channels",
            model: try PixelRNN([3, 3, 3]) {
                $0.levels = 3
                $0.units = 6
                $0.headChannels = 6
            }),
        SmallModel(
            name: "video pixel network",
            model: try VideoPixelNetwork([3, 4, 5]) {
                $0.channels = 6
                $0.encoderBlocks = 1
                $0.decoderBlocks = 1
            }),
    ]
}
