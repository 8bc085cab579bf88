import Distributions
import Graph
import Layers
import Likelihood

/// PixelRNN (van den Oord, Kalchbrenner, Kavukcuoglu 2016, "Pixel Recurrent Neural Networks", sections 3.1 to 3.4, table 1).
///
/// A 7x7 convolution of mask A, layers of two-dimensional LSTMs with the residual connections of figure 5, then 1x1 convolutions. With
/// three channels the feature maps are in three groups: red reads the pixels before, green also red, blue also both (section 3.4).
public struct PixelRNN: AutoregressiveModel, ConfiguredModel {
    /// The 7x7 convolution of mask A, to `2 * units` feature maps.
    public let first: ConvolutionLayer
    /// The two-dimensional LSTMs, each with its residual connection.
    public let layers: [PixelRecurrentLayer]
    /// Three 1x1 convolutions, to the parameters of the conditionals.
    public let head: [ConvolutionLayer]
    /// What is given, added to the first feature maps; not in the paper.
    public let given: ConditionEmbedding?
    public let examples: ExampleShape
    public let conditions: Conditions
    public let conditional: any Conditional
    public let evaluationBatch = 50

    /// The two recurrences of the paper.
    public enum Layer: String, ChoiceSetting {
        /// A row from the row above it: the field above a pixel is a triangle (section 3.1).
        case rowLSTM
        /// A diagonal from the diagonal before it, from the left and from the right: the field is all that is past (section 3.2).
        case diagonalBiLSTM
    }

    /// The choices of a PixelRNN.
    public struct Settings: ModelSettings {
        /// Values of a variable: 2 makes the conditionals Bernoulli, more a softmax over all of them.
        public var levels = 2
        /// rowLSTM or diagonalBiLSTM.
        public var layer = Layer.diagonalBiLSTM
        /// Units of a layer at each pixel (h of the paper), a multiple of the image's channels. Between layers there are twice as many
        /// feature maps.
        public var units = 32
        public var layers = 1
        /// Feature maps of each of the two 1x1 convolutions in front of the conditionals.
        public var headChannels = 32

        public init() {}

        public func validate(_ examples: ExampleShape) throws {
            let image = try requireImage(examples)
            try requireLevels(levels)
            try require(units, "units", in: 1...65536)
            try require(layers, "layers", in: 1...64)
            try require(headChannels, "headChannels", in: 1...65536)
            for (name, value) in [("units", units), ("headChannels", headChannels)] {
                try require(
                    value % image.channels == 0, "\(name): expected a multiple of \(image.channels), found \(value)")
            }
        }

        public mutating func adapt(to data: DataSummary) throws -> [String] {
            levels = try data.levels(
                for: "pixelrnn", other: "glow or realnvp-image for real images, made or maf for tables")
            let image = try data.image(for: "pixelrnn", other: "made or maf")
            units += (image.channels - units % image.channels) % image.channels
            headChannels += (image.channels - headChannels % image.channels) % image.channels
            return []
        }

        public func makeModel(_ examples: ExampleShape, seed: UInt64) throws -> any LikelihoodModel {
            try PixelRNN(examples, self)
        }
    }

    /// - Parameter examples: images `[channels, height, width]` of one or three channels.
    public init(_ examples: ExampleShape, _ settings: Settings) throws {
        try settings.validate(examples)
        self.examples = examples
        let (groups, channels) = (examples.dimensions[0], 2 * settings.units)
        conditional = levelConditional(settings.levels)
        conditions = Conditions(of: examples)
        given = conditions.embedding(channels)
        first = .masked(.a, groups, channels, kernel: 7, channelGroups: groups)
        layers = (0..<settings.layers).map {
            PixelRecurrentLayer(
                settings.layer, units: settings.units, channelGroups: groups, pixelChannels: $0 == 0 ? groups : 0)
        }
        head = [
            .pointwise(channels, settings.headChannels, channelGroups: groups),
            .pointwise(settings.headChannels, settings.headChannels, channelGroups: groups),
            .pointwise(settings.headChannels, groups * conditional.parameterCount, channelGroups: groups),
        ]
    }

    public var order: Order { .raster(examples.dimensions) }

    public func conditionalParameters(_ x: Tensor, _ context: Context) -> Tensor {
        let pixels = x.asImages(examples.dimensions).centred(levels: conditional.domain.levelCount ?? 2)
        var h = first(pixels)
        if let given { h = given(h, context) }
        for layer in layers { h = layer(h, pixels) }
        for layer in head { h = layer(h.relu()) }
        return h.asParameters(channels: examples.dimensions[0], count: conditional.parameterCount)
    }
}

/// A two-dimensional LSTM between 2h feature maps, with the residual connection of figure 5: its h outputs are widened by a 1x1
/// convolution and added to what it reads.
public struct PixelRecurrentLayer: Module {
    let row: RowLSTM?
    let diagonal: DiagonalBiLSTM?
    let expand: ConvolutionLayer

    init(_ layer: PixelRNN.Layer, units: Int, channelGroups: Int, pixelChannels: Int) {
        row = layer == .rowLSTM ? RowLSTM(2 * units, units, channelGroups: channelGroups) : nil
        diagonal =
            layer == .diagonalBiLSTM
            ? DiagonalBiLSTM(2 * units, units, channelGroups: channelGroups, pixelChannels: pixelChannels) : nil
        expand = .pointwise(units, 2 * units, channelGroups: channelGroups)
    }

    func callAsFunction(_ x: Tensor, _ pixels: Tensor) -> Tensor { x + expand(row?(x) ?? diagonal?(x, pixels) ?? x) }
}

/// The Row LSTM (section 3.1, equation 3): a convolution along the row makes the input-to-state part of all rows at once, then each row
/// is computed from the state of the row above it, by a convolution along that.
public struct RowLSTM: Module {
    /// Gates i, f, g, o of `units` each, from the row itself: 3 pixels, of which mask B leaves the one to the left and the pixel's own.
    let inputToState: ConvolutionLayer
    /// From three pixels of the row above.
    let stateToState: ConvolutionLayer

    /// - Parameters:
    ///   - inputs: feature maps that are read.
    ///   - channelGroups: colours that the maps are divided among, one after the other; their numbers divide `inputs` and `units`.
    public init(_ inputs: Int, _ units: Int, channelGroups: Int = 1) {
        inputToState = .gates(inputs, units, kernel: [1, 3], channelGroups: channelGroups)
        stateToState = ConvolutionLayer(units, 4 * units, kernel: [3], hasBias: false)
    }

    /// x `[batch, inputs, height, width]`; gives `[batch, units, height, width]`.
    public func callAsFunction(_ x: Tensor) -> Tensor {
        let gates = inputToState(x)
        let start = gates.startingState([gates.shape[3]])
        let (_, rows) = Tensor.scan([start, start], over: [gates.transposed([2, 0, 1, 3])]) { carries, slices in
            let (h, c) = (slices[0] + stateToState(carries[0])).lstm(cell: carries[1])
            return ([h, c], [h])
        }
        return rows[0].transposed([1, 2, 0, 3])
    }
}

/// The Diagonal BiLSTM (section 3.2): the maps are skewed, each row one pixel further to the right than the one above it, so that a
/// diagonal is a column, whose state follows from the column before by a convolution of two pixels: the one to the left, and the one
/// above. A second LSTM comes from the right; its outputs are shifted down by one row, as what lies to the right of a pixel is still to
/// come in the pixel's own row.
public struct DiagonalBiLSTM: Module {
    /// Gates i, f, g, o of `units` each, from the pixel itself; the LSTM from the left, and the one from the right.
    let inputToState: [ConvolutionLayer]
    let stateToState: [ConvolutionLayer]
    /// The LSTM from the right may read the pixel itself, as it is moved down. The paper does not say so; but no feature map of a pixel
    /// reads the pixel (mask A), so that without this the last pixel of a row would not be seen from the start of the next one.
    let pixelToState: ConvolutionLayer?

    /// - Parameters:
    ///   - inputs: feature maps that are read.
    ///   - channelGroups: colours that the maps are divided among, one after the other; their numbers divide `inputs` and `units`.
    ///   - pixelChannels: the channels of the image, for a first layer; else 0.
    public init(_ inputs: Int, _ units: Int, channelGroups: Int = 1, pixelChannels: Int = 0) {
        pixelToState =
            pixelChannels > 0 ? ConvolutionLayer(pixelChannels, 4 * units, kernel: [1, 1], hasBias: false) : nil
        inputToState = (0..<2).map { _ in .gates(inputs, units, kernel: [1, 1], channelGroups: channelGroups) }
        stateToState = (0..<2).map { _ in
            ConvolutionLayer(units, 4 * units, kernel: [2], padding: [(before: 1, after: 0)], hasBias: false)
        }
    }

    /// x `[batch, inputs, height, width]`, pixels `[batch, channels, height, width]`; gives `[batch, units, height, width]`.
    public func callAsFunction(_ x: Tensor, _ pixels: Tensor) -> Tensor {
        let (left, right) = halves(x, pixels)
        return left + right.shiftedDown()
    }

    /// What comes from the left, and from the right, where a pixel still reads its own row.
    func halves(_ x: Tensor, _ pixels: Tensor) -> (left: Tensor, right: Tensor) {
        var fromRight = inputToState[1](x)
        if let pixelToState { fromRight = fromRight + pixelToState(pixels) }
        let gates = [inputToState[0](x), fromRight.flipped(axes: [3])]
        let start = gates[0].startingState([gates[0].shape[2]])
        let (_, columns) = Tensor.scan(
            [start, start, start, start], over: gates.map { $0.skewed().transposed([3, 0, 1, 2]) }
        ) { carries, slices in
            let left = (slices[0] + stateToState[0](carries[0])).lstm(cell: carries[1])
            let right = (slices[1] + stateToState[1](carries[2])).lstm(cell: carries[3])
            return ([left.output, left.cell, right.output, right.cell], [left.output, right.output])
        }
        let maps = columns.map { $0.transposed([1, 2, 3, 0]).unskewed() }
        return (maps[0], maps[1].flipped(axes: [3]))
    }
}

extension ConvolutionLayer {
    /// The gates of an LSTM from feature maps, with mask B: a convolution whose channels lie gate by gate, and within each gate by
    /// colours.
    fileprivate static func gates(
        _ inputs: Int, _ units: Int, kernel: [Int], channelGroups: Int
    ) -> ConvolutionLayer {
        ConvolutionLayer(
            inputs, 4 * units, kernel: kernel,
            mask: .causal(
                .b, kernel: kernel, outputGroups: (0..<4 * units).map { $0 % units * channelGroups / units },
                inputGroups: (0..<inputs).map { $0 * channelGroups / inputs }))
    }
}

extension Tensor {
    /// The zeros that units start from, of gates `[batch, 4 * units, ..]`: `[batch, units] + extents`.
    fileprivate func startingState(_ extents: [Extent]) -> Tensor {
        Tensor.scalar(0, elementType).broadcast(
            to: Shape([shape[0], Extent(shape[1].coefficient / 4)] + extents))
    }

    /// Maps `[batch, channels, height, width]` as `[batch, channels, height, width + height - 1]`, row r moved to the right by r pixels;
    /// zeros elsewhere.
    fileprivate func skewed() -> Tensor {
        let (height, width) = (shape[2].coefficient, shape[3].coefficient)
        // Rows that are one pixel shorter than they lie apart: every row begins one pixel later than the one before.
        return padded(low: [0, 0, 0, 0], high: [0, 0, 0, height])
            .reshaped([shape[0], shape[1], Extent(height * (width + height))])
            .sliced(axis: 2, from: 0, count: height * (width + height - 1))
            .reshaped([shape[0], shape[1], Extent(height), Extent(width + height - 1)])
    }

    /// The maps that were skewed.
    fileprivate func unskewed() -> Tensor {
        let (height, length) = (shape[2].coefficient, shape[3].coefficient)
        return reshaped([shape[0], shape[1], Extent(height * length)]).padded(low: [0, 0, 0], high: [0, 0, height])
            .reshaped([shape[0], shape[1], Extent(height), Extent(length + 1)])
            .sliced(axis: 3, from: 0, count: length - height + 1)
    }

    /// Maps one row further down: zeros first, the last row dropped.
    fileprivate func shiftedDown() -> Tensor {
        sliced(axis: 2, from: 0, count: shape[2].coefficient - 1).padded(low: [0, 0, 1, 0], high: [0, 0, 0, 0])
    }
}
