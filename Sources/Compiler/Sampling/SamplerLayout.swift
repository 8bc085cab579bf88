import Graph

/// The part of a tensor that one piece of work computes. Of a tensor `[batch, channels, positions..]` it may be a range
/// of channels at every position, and any axis may be that of channels; of any tensor it may be everything, each element being a
/// position of its own.
struct SamplerLayout {
    /// The tensor's shape for a batch of one example.
    let shape: [Int]
    let channels: Range<Int>
    private let channelAxis: Int?

    var isSplit: Bool { channelAxis != nil }

    /// All of a tensor, each element a position.
    init(_ shape: Shape) {
        self.shape = shape.resolved(batch: 1)
        channels = 0..<1
        channelAxis = nil
    }

    init(_ shape: Shape, channels: Range<Int>, axis: Int = 1) {
        self.shape = shape.resolved(batch: 1)
        self.channels = channels
        channelAxis = axis
    }

    /// Whether a shape is `[batch, channels, positions..]`.
    static func splits(_ shape: Shape) -> Bool { shape.rank >= 3 && shape[0] == .batch }

    var positionAxes: [Int] {
        guard let channelAxis else { return Array(shape.indices) }
        return shape.indices.dropFirst().filter { $0 != channelAxis }
    }
    var positionCount: Int { positionAxes.reduce(1) { $0 * shape[$1] } }

    /// Where the layout's elements lie in memory with this offset and these strides along the shape's axes.
    func table(offset: Int, strides: [Int]) -> SamplingProgram.Table {
        let channel = channelAxis.map { strides[$0] } ?? 0
        return SamplingProgram.Table(
            positions: affinePositions(
                positionAxes.map { shape[$0] }, offset: offset + channels.lowerBound * channel,
                strides: positionAxes.map { strides[$0] }), channelStride: channel)
    }

    /// Where the layout's elements lie in a contiguous tensor.
    var target: SamplingProgram.Table { table(offset: 0, strides: Shape(shape).strides.map(\.coefficient)) }
}

extension SamplerBuilder {
    /// The layouts that cover the channels of some tensors of one shape, each of channels that become computable together.
    /// - Parameters:
    ///   - kinds: a number for each channel; channels of different numbers belong to different layouts.
    ///   - result: the tensor that the channels are moved to (by a concatenation, say), and its channel that takes the
    ///     first of them. Channels that differ there belong to different layouts, even if they do not differ here.
    func layouts(
        _ tensors: [Tensor], kinds: [Int]? = nil, movedTo result: (tensor: Tensor, channel: Int)? = nil
    ) -> [SamplerLayout] {
        let shape = tensors[0].shape
        guard hasChannels, SamplerLayout.splits(shape) else { return [SamplerLayout(shape)] }
        let channels = shape[1].coefficient
        // Whether channel c of a tensor differs from channel c - 1 in its levels, in what is needed of it, or in what
        // is known.
        func differs(_ tensor: Tensor, _ c: Int) -> Bool {
            let width = dependencies.count(tensor) / tensor.shape[1].coefficient
            func differs<T: Equatable>(_ array: [T]?) -> Bool {
                guard let array else { return false }
                for p in c * width..<(c + 1) * width where array[p] != array[p - width] { return true }
                return false
            }
            return self.kinds.contains { differs($0.levels[tensor]) || differs($0.needed[tensor]) }
                || differs(dependencies.knownValues(tensor)?.isKnown)
        }
        let starts = (0..<channels).filter { c in
            c == 0 || kinds.map { $0[c] != $0[c - 1] } == true || tensors.contains { differs($0, c) }
                || result.map { differs($0.tensor, $0.channel + c) } == true
        }
        // Channels without a pattern are better taken element by element.
        if kinds == nil, starts.count > 32 { return [SamplerLayout(shape)] }
        return starts.indices.map {
            SamplerLayout(shape, channels: starts[$0]..<($0 + 1 < starts.count ? starts[$0 + 1] : channels))
        }
    }
}
