import Graph

/// A convolution in one, two or three dimensions with bias. x `[batch, in, spatial..]`, weight `[out, in / groups, kernel..]`.
/// A mask makes it a masked convolution: what it removes is exactly zero and never computed.
public struct ConvolutionLayer: Module {
    public let weight: Parameter
    public let bias: Parameter?
    /// The length of each output channel's weights, where they are normalised: `weight * gain / |weight|`
    /// (Salimans and Kingma 2016, equation 2).
    public let gain: Parameter?
    public let stride: [Int]
    public let padding: [(before: Int, after: Int)]
    public let dilation: [Int]
    public let groups: Int
    public let mask: ConvolutionMask?
    public let isTransposed: Bool

    /// - Parameters:
    ///   - padding: zeros before and after each axis; as many as keep the extent if not given.
    ///   - isTransposed: a transposed convolution, its weight `[in, out / groups, kernel..]`.
    ///   - initializer: how weights and bias start, if not as PyTorch's.
    public init(
        _ inputs: Int, _ outputs: Int, kernel: [Int], stride: [Int] = [], padding: [(before: Int, after: Int)]? = nil,
        dilation: [Int] = [], groups: Int = 1, mask: ConvolutionMask? = nil, hasBias: Bool = true,
        isNormalized: Bool = false, isTransposed: Bool = false, initializer: Initializer? = nil
    ) {
        let live = mask.map { $0.liveCount(outputs: outputs, inputs: inputs / groups) / max(1, outputs) }
        let fan = max(1, live ?? inputs / groups * kernel.reduce(1, *))
        let shape = isTransposed ? [inputs, outputs / groups] + kernel : [outputs, inputs / groups] + kernel
        weight = Parameter(
            shape, initializer ?? (isNormalized ? .normal(standardDeviation: 0.05) : .fanIn(fan)), mask: mask)
        bias = hasBias ? Parameter([outputs], initializer ?? (isNormalized ? .zeros : .fanIn(fan))) : nil
        gain = isNormalized ? Parameter([outputs], .constant(1)) : nil
        self.stride = stride
        self.padding =
            padding
            ?? kernel.enumerated().map { axis, extent in
                let reach = (extent - 1) * (dilation.isEmpty ? 1 : dilation[axis])
                return (before: reach / 2, after: reach - reach / 2)
            }
        self.dilation = dilation
        self.groups = groups
        self.mask = mask
        self.isTransposed = isTransposed
    }

    public func callAsFunction(
        _ x: Tensor, _ context: Context = Context(), file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        let y = convolve(x, effectiveWeight, file, line)
        guard context.mode == .initialize, let gain, let bias else {
            return bias.map { y + $0.tensor.perChannel(y) } ?? y
        }
        // The first batch leaves this layer with mean zero and variance one. A channel that does not vary but for rounding (all that is
        // above the only row of an image, say) keeps the scale 1: the inverse of nothing would be multiplied from layer to layer.
        let axes = (0..<y.shape.rank).filter { $0 != 1 }
        let mean = y.mean(axes: axes, keepingAxes: true)
        let centred = y - mean
        let variance = centred.squared().mean(axes: axes, keepingAxes: true)
        let varies = variance.sqrt().greater(mean.absolute() * 1e-6)
        let scale = Tensor.select(varies, 1 / (variance + 1e-10).sqrt(), 1)
        let flat = Shape([y.shape[1]])
        context.update(gain, gain.tensor * scale.reshaped(flat))
        context.update(bias, -(mean * scale).reshaped(flat))
        return centred * scale
    }

    /// The sum of `layers[i](inputs[i])`, computed as one convolution over the channels of all inputs: what is summed is neither
    /// written nor read one layer at a time. The layers differ in their weights alone.
    public static func sum(
        _ layers: [ConvolutionLayer], of inputs: [Tensor], file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        let first = layers[0]
        trap(
            unless:
                layers.count == inputs.count && first.groups == 1
                && layers.allSatisfy {
                    ($0.stride, $0.dilation, $0.groups) == (first.stride, first.dilation, first.groups)
                        && $0.padding.elementsEqual(first.padding, by: ==) && $0.mask == nil && !$0.isTransposed
                }, "the layers of a sum must agree in all but their weights, without masks or groups")
        let x = Tensor.concatenate(inputs, axis: 1)
        let y = first.convolve(x, .concatenate(layers.map(\.effectiveWeight), axis: 1), file, line)
        let biases = layers.compactMap { $0.bias?.tensor }
        guard let bias = biases.first else { return y }
        return y + biases.dropFirst().reduce(bias, +).perChannel(y)
    }

    /// The weight as it multiplies.
    private var effectiveWeight: Tensor {
        guard let gain else { return weight.tensor }
        let rank = weight.shape.count
        let outputAxis = isTransposed ? 1 : 0
        let norm =
            (weight.tensor.squared().sum(axes: (0..<rank).filter { $0 != outputAxis }, keepingAxes: true) + 1e-12)
            .sqrt()
        let shape = Shape((0..<rank).map { $0 == outputAxis ? weight.tensor.shape[outputAxis] : 1 })
        return weight.tensor * (gain.tensor.reshaped(shape) / norm)
    }

    private func convolve(_ x: Tensor, _ weight: Tensor, _ file: StaticString, _ line: UInt) -> Tensor {
        isTransposed
            ? x.transposedConvolution(
                weight, stride: stride, padding: padding, dilation: dilation, groups: groups, mask: mask, file: file,
                line: line)
            : x.convolution(
                weight, stride: stride, padding: padding, dilation: dilation, groups: groups, mask: mask, file: file,
                line: line)
    }
}

extension ConvolutionLayer {
    /// A masked convolution of pixels in raster order, of odd extent and the same size (van den Oord et al. 2016, figure 4).
    public static func masked(
        _ kind: ConvolutionMask.Kind, _ inputs: Int, _ outputs: Int, kernel: Int, channelGroups: Int = 1
    ) -> ConvolutionLayer {
        ConvolutionLayer(
            inputs, outputs, kernel: [kernel, kernel],
            mask: .causal(
                kind, kernel: [kernel, kernel], outputs: outputs, inputs: inputs, channelGroups: channelGroups))
    }

    /// A 1x1 convolution whose channel groups read only their own and earlier ones.
    public static func pointwise(_ inputs: Int, _ outputs: Int, channelGroups: Int = 1) -> ConvolutionLayer {
        channelGroups == 1
            ? ConvolutionLayer(inputs, outputs, kernel: [1, 1])
            : masked(.b, inputs, outputs, kernel: 1, channelGroups: channelGroups)
    }

    /// A causal convolution in one dimension: position t reads t, t - dilation, ... (van den Oord et al. 2016, section 2.1).
    public static func causal(_ inputs: Int, _ outputs: Int, kernel: Int, dilation: Int = 1) -> ConvolutionLayer {
        ConvolutionLayer(
            inputs, outputs, kernel: [kernel], padding: [(before: (kernel - 1) * dilation, after: 0)],
            dilation: [dilation])
    }
}
