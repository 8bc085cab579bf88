// What a convolution means in double precision, and what each of its elements reads.

/// `count` output positions of one row that read input positions `stride` apart at one tap.
struct ConvolutionSpan {
    var output: Int
    var input: Int
    var count: Int
}

extension ConvolutionGeometry {
    /// For each tap the rows of positions that it joins; what would read padding is left out.
    func spans() -> [[ConvolutionSpan]] {
        let g = threeAxes
        return ConvolutionMask.positions(g.kernel).map { tap in
            let shift = (0..<3).map { tap[$0] * g.dilation[$0] - g.padding[$0] }
            var result: [ConvolutionSpan] = []
            // Output columns whose input column exists.
            let first = shift[2] >= 0 ? 0 : (-shift[2] + g.stride[2] - 1) / g.stride[2]
            let room = g.input[2] - 1 - shift[2]
            let end = room < 0 ? 0 : Swift.min(g.output[2], room / g.stride[2] + 1)
            guard first < end else { return [] }
            for z in 0..<g.output[0] {
                let zi = z * g.stride[0] + shift[0]
                guard (0..<g.input[0]).contains(zi) else { continue }
                for y in 0..<g.output[1] {
                    let yi = y * g.stride[1] + shift[1]
                    guard (0..<g.input[1]).contains(yi) else { continue }
                    result.append(
                        ConvolutionSpan(
                            output: (z * g.output[1] + y) * g.output[2] + first,
                            input: (zi * g.input[1] + yi) * g.input[2] + first * g.stride[2] + shift[2],
                            count: end - first))
                }
            }
            return result
        }
    }

    /// For each tap the input position that each output position reads, negative where that is padding.
    public func sources() -> [[Int32]] {
        let step = stride.last ?? 1
        return spans().map { spans in
            var table = [Int32](repeating: -1, count: outputCount)
            for span in spans { for j in 0..<span.count { table[span.output + j] = Int32(span.input + j * step) } }
            return table
        }
    }
}

extension Convolution {
    /// The geometry of operands that were checked when the node was made, from their run-time shapes.
    private func geometry(_ shapes: [[Int]], _ element: ElementType = .float32) -> ConvolutionGeometry {
        guard let geometry = try? geometry(shapes.map { TensorType(Shape($0), element) }) else {
            fatalError("operands of \(shapes) were refused when the node was made")
        }
        return geometry
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let g = geometry(inputs.map(\.shape))
        if role == .forward, let elements, elements.count < outputs[0].elements.count / 4 {
            evaluate(elements, g, inputs, &outputs[0])
            return
        }
        let batch = inputs[0].shape[0]
        let (spans, step) = (g.spans(), g.stride.last ?? 1)
        let (nx, ny, taps) = (g.inputCount, g.outputCount, g.tapCount)
        var result = [Double](repeating: 0, count: outputs[0].elements.count)
        result.withUnsafeMutableBufferPointer { r in
            inputs[0].elements.withUnsafeBufferPointer { a in
                inputs[1].elements.withUnsafeBufferPointer { b in
                    for o in 0..<g.outputChannels {
                        for i in 0..<g.inputsPerGroup {
                            let channel = o / g.outputsPerGroup * g.inputsPerGroup + i
                            for tap in 0..<taps where mask?.isLive(output: o, input: i, tap: tap) != false {
                                let w = (o * g.inputsPerGroup + i) * taps + tap
                                var sum = 0.0
                                for n in 0..<batch {
                                    let y = (n * g.outputChannels + o) * ny
                                    let x = (n * g.inputChannels + channel) * nx
                                    for span in spans[tap] {
                                        let (p, q) = (y + span.output, x + span.input)
                                        switch role {
                                        case .forward:
                                            for j in 0..<span.count { r[p + j] += a[q + j * step] * b[w] }
                                        case .inputGradient:
                                            for j in 0..<span.count { r[q + j * step] += a[p + j] * b[w] }
                                        case .weightGradient:
                                            for j in 0..<span.count { sum += a[p + j] * b[q + j * step] }
                                        }
                                    }
                                }
                                if role == .weightGradient { r[w] = sum }
                            }
                        }
                    }
                }
            }
        }
        outputs[0].elements = result
    }

    /// A few elements of the forward role, each by itself.
    private func evaluate(_ elements: [Int], _ g: ConvolutionGeometry, _ inputs: [Values], _ output: inout Values) {
        let sources = g.sources()
        let (nx, ny) = (g.inputCount, g.outputCount)
        for e in elements {
            let (n, o, p) = (e / (ny * g.outputChannels), e / ny % g.outputChannels, e % ny)
            var sum = 0.0
            for (tap, table) in sources.enumerated() where table[p] >= 0 {
                for i in 0..<g.inputsPerGroup where mask?.isLive(output: o, input: i, tap: tap) != false {
                    let channel = o / g.outputsPerGroup * g.inputsPerGroup + i
                    sum +=
                        inputs[0].elements[(n * g.inputChannels + channel) * nx + Int(table[p])]
                        * inputs[1].elements[(o * g.inputsPerGroup + i) * g.tapCount + tap]
                }
            }
            output.elements[e] = sum
        }
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let g = geometry(context.inputShapes)
        let batch = context.inputShapes[0][0]
        let taps = g.tapCount
        // An input channel and an output channel for every weight, -1 for dead ones.
        func weights(_ channel: (_ output: Int, _ input: Int) -> Int) -> [Int32] {
            (0..<g.outputChannels * g.inputsPerGroup * taps).map { w in
                let (o, i) = (w / (g.inputsPerGroup * taps), w / taps % g.inputsPerGroup)
                guard mask?.isLive(output: o, input: i, tap: w % taps) != false else { return -1 }
                return Int32(channel(o, o / g.outputsPerGroup * g.inputsPerGroup + i))
            }
        }
        func planes(_ channels: Int, _ count: Int) -> [Int32] {
            (0..<batch * channels).flatMap { [Int32](repeating: Int32($0 % channels), count: count) }
        }
        switch role {
        case .forward:
            return [
                .window(WindowRelation(g, mask, batch: batch, isTransposed: false)),
                .lines(
                    input: weights { o, _ in o }, output: planes(g.outputChannels, g.outputCount),
                    count: g.outputChannels),
            ]
        case .inputGradient:
            return [
                .window(WindowRelation(g, mask, batch: batch, isTransposed: true)),
                .lines(
                    input: weights { _, i in i }, output: planes(g.inputChannels, g.inputCount), count: g.inputChannels),
            ]
        case .weightGradient:
            // Dead weights read one more line, on which nothing lies.
            return [
                .lines(
                    input: planes(g.outputChannels, g.outputCount),
                    output: weights { o, _ in o }.map { $0 < 0 ? Int32(g.outputChannels) : $0 },
                    count: g.outputChannels + 1),
                .lines(
                    input: planes(g.inputChannels, g.inputCount),
                    output: weights { _, i in i }.map { $0 < 0 ? Int32(g.inputChannels) : $0 },
                    count: g.inputChannels + 1),
            ]
        }
    }
}
