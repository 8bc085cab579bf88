/// The extents of one convolution, along one to three spatial axes: input position `q = p * stride + t * dilation - padding`
/// meets output position `p` at tap `t`.
public struct ConvolutionGeometry: Hashable, Sendable {
    public var inputChannels: Int
    public var outputChannels: Int
    public var groups: Int
    /// Spatial extents of the input and of the output.
    public var input: [Int]
    public var output: [Int]
    public var kernel: [Int]
    public var stride: [Int]
    public var dilation: [Int]
    /// Zeros before the input; negative where the input is cropped.
    public var padding: [Int]

    public var inputsPerGroup: Int { inputChannels / groups }
    public var outputsPerGroup: Int { outputChannels / groups }
    public var inputCount: Int { input.reduce(1, *) }
    public var outputCount: Int { output.reduce(1, *) }
    public var tapCount: Int { kernel.reduce(1, *) }
    public var weightShape: [Int] { [outputChannels, inputsPerGroup] + kernel }

    /// The same with three spatial axes, the new ones first.
    public var threeAxes: ConvolutionGeometry {
        var result = self
        let lead = 3 - kernel.count
        let ones = [Int](repeating: 1, count: lead)
        result.input = ones + input
        result.output = ones + output
        result.kernel = ones + kernel
        result.stride = ones + stride
        result.dilation = ones + dilation
        result.padding = [Int](repeating: 0, count: lead) + padding
        return result
    }
}

/// The three products of a convolution (cross-correlation, as every library of this field has it). All derivatives close
/// over them, and a transposed convolution is the input gradient with its extents stated.
///
/// Operands by role: `forward` (x `[batch, in, spatial..]`, weight `[out, in / groups, kernel..]`) gives
/// `[batch, out, spatial..]`; `inputGradient` (dy, weight) gives what x is; `weightGradient` (dy, x) gives what the weight is.
public struct Convolution: Operation, Hashable {
    public enum Role: String, Hashable, Sendable, CaseIterable { case forward, inputGradient, weightGradient }

    /// Zeros before and after an axis; negative where it is cropped.
    public struct Padding: Hashable, Sendable {
        public var before: Int
        public var after: Int
    }

    public let role: Role
    public let stride: [Int]
    public let padding: [Padding]
    public let dilation: [Int]
    public let groups: Int
    public let mask: ConvolutionMask?
    /// What the operands do not tell: the spatial extents of an input gradient, the kernel of a weight gradient.
    public let extents: [Int]

    public var name: String {
        let base = mask == nil ? "convolution" : "maskedConvolution"
        return role == .forward ? base : "\(base).\(role.rawValue)"
    }

    public var compilerRole: OperationRole { .contraction(splitsChannels: role == .forward && groups == 1) }

    /// The same convolution in another role.
    func with(_ role: Role, extents: [Int]) -> Convolution {
        Convolution(
            role: role, stride: stride, padding: padding, dilation: dilation, groups: groups, mask: mask,
            extents: extents)
    }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let g = try geometry(inputs)
        let channelsAndExtents: [Int]
        switch role {
        case .forward: channelsAndExtents = [g.outputChannels] + g.output
        case .inputGradient: channelsAndExtents = [g.inputChannels] + g.input
        case .weightGradient: return [TensorType(Shape(g.weightShape), inputs[0].element)]
        }
        return [
            TensorType(Shape([inputs[0].shape[0]] + channelsAndExtents.map { Extent($0) }), inputs[0].element)
        ]
    }

    /// The extents of the convolution that these operands belong to.
    public func geometry(_ inputs: [TensorType]) throws(GraphError) -> ConvolutionGeometry {
        let (a, b) = (inputs[0].shape, inputs[1].shape)
        func failure(_ message: String) -> GraphError { GraphError(operation: name, message: message) }
        let expected =
            switch role {
            case .forward: "x [batch, in, spatial..] and weights [out, in / groups, kernel..]"
            case .inputGradient: "[batch, out, spatial..] and weights [out, in / groups, kernel..]"
            case .weightGradient: "[batch, out, spatial..] and [batch, in, spatial..]"
            }
        let axes = a.rank - 2
        guard (1...3).contains(axes), b.rank == a.rank, inputs[0].element == inputs[1].element,
            inputs[0].element.isFloatingPoint, a.dimensions.dropFirst().allSatisfy(\.isStatic),
            b.dimensions.dropFirst(role == .weightGradient ? 1 : 0).allSatisfy(\.isStatic),
            role == .weightGradient ? a[0] == b[0] : b[0].isStatic
        else {
            throw failure("expected \(expected) of one floating type, found \(inputs[0]) and \(inputs[1])")
        }
        let numbers = { (shape: Shape, from: Int) in shape.dimensions.dropFirst(from).map(\.coefficient) }
        let lists = [stride, dilation, padding.map(\.before), role == .forward ? [] : extents]
        guard lists.allSatisfy({ $0.isEmpty || $0.count == axes }),
            (stride + dilation + [groups]).allSatisfy({ $0 >= 1 })
        else {
            throw failure(
                "expected one positive stride and dilation and one padding for each of \(axes) spatial axes and at least one group, found stride \(stride), dilation \(dilation), padding \(padding.map { [$0.before, $0.after] }), groups \(groups)"
            )
        }
        let ones = [Int](repeating: 1, count: axes)
        let zero = [Padding](repeating: Padding(before: 0, after: 0), count: axes)
        let (stride, dilation) = (stride.isEmpty ? ones : stride, dilation.isEmpty ? ones : dilation)
        let padding = padding.isEmpty ? zero : padding
        let (firstChannels, firstExtents) = (a[1].coefficient, numbers(a, 2))
        var result = ConvolutionGeometry(
            inputChannels: 0, outputChannels: 0, groups: groups, input: [], output: [], kernel: [], stride: stride,
            dilation: dilation, padding: padding.map(\.before))
        switch role {
        case .forward:
            (result.inputChannels, result.input) = (firstChannels, firstExtents)
            (result.outputChannels, result.kernel) = (b[0].coefficient, numbers(b, 2))
        case .inputGradient:
            (result.outputChannels, result.input) = (firstChannels, extents)
            (result.inputChannels, result.kernel) = (b[1].coefficient * groups, numbers(b, 2))
        case .weightGradient:
            (result.outputChannels, result.kernel) = (firstChannels, extents)
            (result.inputChannels, result.input) = (b[1].coefficient, numbers(b, 2))
        }
        result.output = (0..<axes).map { axis in
            let room =
                result.input[axis] + padding[axis].before + padding[axis].after - dilation[axis]
                * (result.kernel[axis] - 1) - 1
            return room < 0 ? 0 : room / stride[axis] + 1
        }
        guard (result.input + result.output + result.kernel).allSatisfy({ $0 >= 1 }) else {
            throw failure("no position of the kernel \(result.kernel) lies within the padded input \(result.input)")
        }
        guard role == .forward || result.output == firstExtents else {
            throw failure(
                "a kernel \(result.kernel) over an input \(result.input) gives \(result.output), found \(inputs[0])")
        }
        guard result.inputChannels % groups == 0, result.outputChannels % groups == 0,
            role == .weightGradient
                || b[0].coefficient == result.outputChannels && b[1].coefficient == result.inputsPerGroup
        else {
            throw failure(
                "expected \(expected) with channels that divide into \(groups) groups, found \(inputs[0]) and \(inputs[1])"
            )
        }
        try check(mask, result)
        return result
    }

    /// Every live weight meets every position of the output, in all three roles; positions whose tap lies on padding count too. What a
    /// transposed convolution reads is the output of the convolution whose input gradient it is.
    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? {
        guard let g = try? geometry(inputs) else { return nil }
        let weights = g.weightShape.reduce(1, *)
        let live = mask?.liveCount(outputs: g.outputChannels, inputs: g.inputsPerGroup) ?? weights
        return Work(dense: weights, live: live) * (g.outputCount * inputs[0].shape[0].resolved(batch: batch))
    }

    private func check(_ mask: ConvolutionMask?, _ g: ConvolutionGeometry) throws(GraphError) {
        guard let mask else { return }
        let matrices = mask.taps.compactMap { if case .channels(let bits) = $0 { bits } else { nil } }
        guard mask.taps.count == g.tapCount,
            matrices.allSatisfy({ $0.rows == g.outputChannels && $0.columns == g.inputsPerGroup })
        else {
            let found = matrices.map { "[\($0.rows), \($0.columns)]" }
            throw GraphError(
                operation: name,
                message:
                    "the mask has \(mask.taps.count) taps and channel matrices \(found), the weights are \(g.weightShape)"
            )
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return [nil, nil] }
        let (a, b) = (inputs[0], inputs[1])
        func spatial(_ tensor: Tensor) -> [Int] { tensor.shape.dimensions.dropFirst(2).map(\.coefficient) }
        func product(_ role: Role, _ x: Tensor, _ y: Tensor, _ extents: [Int]) -> Tensor {
            Tensor(with(role, extents: extents), [x, y], at: outputs[0].location)
        }
        switch role {
        case .forward:
            return [product(.inputGradient, g, b, spatial(a)), product(.weightGradient, g, a, spatial(b))]
        case .inputGradient:
            return [product(.forward, g, b, []), product(.weightGradient, a, g, spatial(b))]
        case .weightGradient:
            return [product(.forward, b, g, []), product(.inputGradient, a, g, spatial(b))]
        }
    }
}

extension Tensor {
    /// The convolution of x `[batch, in, spatial..]` with weights `[out, in / groups, kernel..]` (PyTorch's layout), over one
    /// to three spatial axes: `[batch, out, spatial..]`.
    ///
    /// - Parameters:
    ///   - stride: one for each spatial axis; 1 if empty.
    ///   - padding: zeros before and after each axis, 0 if empty; a causal convolution pads only before. Negative padding
    ///     crops.
    ///   - dilation: the distance of neighbouring taps; 1 if empty.
    ///   - mask: which weights are live; all if absent.
    public func convolution(
        _ weight: Tensor, stride: [Int] = [], padding: [(before: Int, after: Int)] = [], dilation: [Int] = [],
        groups: Int = 1, mask: ConvolutionMask? = nil, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        Tensor(
            Convolution(
                role: .forward, stride: stride,
                padding: padding.map { Convolution.Padding(before: $0.before, after: $0.after) }, dilation: dilation,
                groups: groups, mask: mask, extents: []),
            [self, weight], at: SourceLocation(file, line))
    }

    /// The transposed convolution of x `[batch, in, spatial..]` with weights `[in, out / groups, kernel..]`: the input
    /// gradient of a convolution with these weights, of extent
    /// `(x - 1) * stride - before - after + dilation * (kernel - 1) + outputPadding + 1`.
    ///
    /// - Parameters:
    ///   - outputPadding: more positions at the end, below the stride; 0 if empty.
    ///   - mask: over the weights as they lie, `[in, out / groups]` for each tap.
    public func transposedConvolution(
        _ weight: Tensor, stride: [Int] = [], padding: [(before: Int, after: Int)] = [], outputPadding: [Int] = [],
        dilation: [Int] = [], groups: Int = 1, mask: ConvolutionMask? = nil, file: StaticString = #fileID,
        line: UInt = #line
    ) -> Tensor {
        let axes = Swift.max(0, shape.rank - 2)
        // A list of another length is refused by the shape rule.
        func at<T>(_ list: [T], _ axis: Int, _ otherwise: T) -> T { axis < list.count ? list[axis] : otherwise }
        let extents = (0..<axes).map { axis in
            let (pad, kernel) = (at(padding, axis, (before: 0, after: 0)), weight.shape[axis + 2].coefficient)
            return (shape[axis + 2].coefficient - 1) * at(stride, axis, 1) - pad.before - pad.after
                + at(dilation, axis, 1) * (kernel - 1) + at(outputPadding, axis, 0) + 1
        }
        return Tensor(
            Convolution(
                role: .inputGradient, stride: stride,
                padding: padding.map { Convolution.Padding(before: $0.before, after: $0.after) }, dilation: dilation,
                groups: groups, mask: mask, extents: extents),
            [self, weight], at: SourceLocation(file, line))
    }
}
