// How the elements of a convolution are made, for the compiled draw.

extension Convolution {
    /// A number for each channel of the result, equal for channels that read the same channels at every tap.
    public func channelKinds(_ inputs: [TensorType]) -> [Int]? {
        guard role != .weightGradient, let g = try? geometry(inputs) else { return nil }
        let isForward = role == .forward
        let count = isForward ? g.outputChannels : g.inputChannels
        let perGroup = isForward ? g.outputsPerGroup : g.inputsPerGroup
        var known: [[Int]: Int] = [:]
        return (0..<count).map { channel in
            var signature = [channel / perGroup]
            for case .channels(let bits) in mask?.taps ?? [] {
                signature +=
                    isForward
                    ? (0..<bits.columns).map { bits[channel, $0] ? 1 : 0 }
                    : (0..<bits.rows).map { bits[$0, channel % perGroup] ? 1 : 0 }
            }
            known[signature] = known[signature] ?? known.count
            return known[signature]!
        }
    }

    /// Of a convolution, or a transposed one: each tap that meets the input is a segment over the channels that it reads.
    public func elementRule(_ context: ElementRuleContext) -> ElementRule? {
        guard role != .weightGradient, let channels = context.channels, let g = try? geometry(context.inputs) else {
            return nil
        }
        let isForward = role == .forward
        let first = channels.lowerBound
        let perGroup = isForward ? g.outputsPerGroup : g.inputsPerGroup
        let readChannels = isForward ? g.inputsPerGroup : g.outputsPerGroup
        let group = first / perGroup
        // From one channel of an operand to the next, and from one channel of the result's weights to the next.
        let pixels = context.inputShapes[0][2...].reduce(1, *)
        let (taps, wholeFilter) = (g.tapCount, g.inputsPerGroup * g.tapCount)
        let (readStride, ownStride) = isForward ? (taps, wholeFilter) : (wholeFilter, taps)
        // The runs of channels that a tap reads, the same for all channels that are asked about.
        let sources = g.sources()
        let runs = sources.indices.map { tap in
            ranges(below: readChannels) { c in
                mask.map {
                    isForward
                        ? $0.isLive(output: first, input: c, tap: tap)
                        : $0.isLive(output: group * g.outputsPerGroup + c, input: first % perGroup, tap: tap)
                } ?? true
            }
        }
        // Which position each tap reads, for every position of the result.
        let count = isForward ? g.outputCount : g.inputCount
        var reads = [[(tap: Int, position: Int32)]](repeating: [], count: count)
        for (tap, table) in sources.enumerated() {
            for (p, q) in table.enumerated() where q >= 0 {
                if isForward { reads[p].append((tap, q)) } else { reads[Int(q)].append((tap, Int32(p))) }
            }
        }
        // Positions at which the same taps lie at the same distances share a row.
        var (rows, row, bases): ([[SumOfProducts.Segment]], [Int32], [Int32]) = ([], [], [])
        var known: [[SumOfProducts.Segment]: Int32] = [:]
        for read in reads {
            let base = read.first?.position ?? 0
            let segments = read.flatMap { tap, position in
                runs[tap].map { run in
                    SumOfProducts.Segment(
                        a: position - base + Int32(run.lowerBound * pixels),
                        b: Int32(tap + run.lowerBound * readStride), count: Int32(run.count))
                }
            }
            if known[segments] == nil {
                known[segments] = Int32(rows.count)
                rows.append(segments)
            }
            row.append(known[segments]!)
            bases.append(base + Int32(group * readChannels * pixels))
        }
        let weight =
            isForward ? first * wholeFilter : group * g.outputsPerGroup * wholeFilter + first % perGroup * taps
        return .products(
            SumOfProducts(
                aBase: bases, bBase: [Int32](repeating: Int32(weight), count: count), aStride: pixels,
                bStride: readStride, aChannelStride: 0, bChannelStride: ownStride, rows: rows, row: row))
    }
}
