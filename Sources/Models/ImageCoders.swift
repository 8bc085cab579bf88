import Bijectors
import Graph
import Layers

/// Convolutions that halve height and width, then dense layers: from an image to a code.
struct ImageEncoder: Conditioner {
    let convolutions: [ConvolutionLayer]
    let dense: DenseNetwork
    let activation: Activation
    /// `[channels, height, width]`
    private let image: [Int]

    /// - Parameter channels: behind each convolution.
    init(_ image: [Int], channels: [Int], hidden: [Int], code: Int, activation: Activation) {
        let widths = [image[0]] + channels
        (self.image, self.activation) = (image, activation)
        // 3x3, every second row and column; an odd extent keeps its middle.
        convolutions = channels.indices.map {
            ConvolutionLayer(
                widths[$0], widths[$0 + 1], kernel: [3, 3], stride: [2, 2],
                padding: [(before: 1, after: 1), (before: 1, after: 1)])
        }
        let (_, extents) = halved(image, channels: channels)
        dense = DenseNetwork(
            widths[channels.count] * extents.reduce(1, *), hidden: hidden, outputs: code, activation: activation)
    }

    /// x `[batch, channels height width]` to `[batch, code]`.
    func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor {
        let maps = convolutions.reduce(x.reshaped(Shape([x.shape[0]] + image.map { Extent($0) }))) {
            activation($1($0))
        }
        return dense(maps.reshaped([x.shape[0], Shape(Array(maps.shape.dimensions.dropFirst())).count]), context)
    }
}

/// The way back: dense layers, then transposed convolutions that double height and width.
struct ImageDecoder: Conditioner {
    let dense: DenseNetwork
    let convolutions: [ConvolutionLayer]
    let activation: Activation
    private let image: [Int]
    private let smallest: [Int]

    init(_ image: [Int], channels: [Int], hidden: [Int], code: Int, activation: Activation) {
        let widths = [image[0]] + channels
        let (sizes, extents) = halved(image, channels: channels)
        (self.image, self.activation, smallest) = (image, activation, [widths[channels.count]] + extents)
        dense = DenseNetwork(
            code, hidden: hidden.reversed(), outputs: smallest.reduce(1, *), activation: activation)
        convolutions = channels.indices.reversed().map { layer in
            // Rows and columns 2 i - 1 .. 2 i + 1 of an extent that was halved; of an even one the last is cut off.
            let cut = sizes[layer].map { (before: 1, after: $0 % 2 == 0 ? 0 : 1) }
            return ConvolutionLayer(
                widths[layer + 1], widths[layer], kernel: [3, 3], stride: [2, 2], padding: cut, isTransposed: true)
        }
    }

    /// A code `[batch, code]` to `[batch, channels height width]`.
    func callAsFunction(_ code: Tensor, _ context: Context) -> Tensor {
        var maps = activation(dense(code, context)).reshaped(Shape([code.shape[0]] + smallest.map { Extent($0) }))
        for (index, layer) in convolutions.enumerated() {
            maps = layer(maps)
            if index < convolutions.count - 1 { maps = activation(maps) }
        }
        return maps.reshaped([code.shape[0], Extent(image.reduce(1, *))])
    }
}

/// Height and width in front of each convolution, and behind the last.
private func halved(_ image: [Int], channels: [Int]) -> (sizes: [[Int]], last: [Int]) {
    var sizes = [Array(image.dropFirst())]
    for _ in channels { sizes.append(sizes[sizes.count - 1].map { ($0 + 1) / 2 }) }
    return (Array(sizes.dropLast()), sizes[sizes.count - 1])
}
