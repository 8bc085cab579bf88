import Graph

/// A convolution, or its input gradient, as sums over shifted planes: what kernels of every backend walk.
///
/// There are always three axes: the convolution's own, and then axes of extent one. A result position is
/// `m * resultStep + pass.phase`; at a tap it reads source position `(m + tap.shift) * sourceStep + tap.phase`. A
/// strided convolution reads its source in phases; a strided input gradient (a transposed convolution) has one pass for each
/// phase of its result, and each pass meets only the taps that reach it.
public struct ConvolutionTaps: Sendable {
    public struct Tap: Sendable, Hashable {
        /// Its place in the kernel.
        public var index: Int
        public var shift: [Int]
        public var phase: [Int]
    }

    public struct Pass: Sendable {
        public var phase: [Int]
        /// Positions `m` along each axis.
        public var counts: [Int]
        public var taps: [Tap]
    }

    public let geometry: ConvolutionGeometry
    public let mask: ConvolutionMask?
    public let isTransposed: Bool
    /// Channels of the result and of the source.
    public let rows: Int
    public let planes: Int
    public let result: [Int]
    public let source: [Int]
    public let resultStep: [Int]
    public let sourceStep: [Int]
    public let passes: [Pass]

    public var rowsPerGroup: Int { rows / geometry.groups }
    public var planesPerGroup: Int { planes / geometry.groups }
    /// Least and greatest shift along each axis, over all taps.
    public let leastShift: [Int]
    public let greatestShift: [Int]

    /// - Parameter isTransposed: whether the source is the output's gradient and the result the input's.
    public init(_ geometry: ConvolutionGeometry, _ mask: ConvolutionMask?, isTransposed: Bool) {
        self.geometry = geometry
        self.mask = mask
        self.isTransposed = isTransposed
        let three = { (list: [Int], fill: Int) in list + [Int](repeating: fill, count: 3 - list.count) }
        let (input, output) = (three(geometry.input, 1), three(geometry.output, 1))
        let stride = three(geometry.stride, 1)
        let (dilation, padding) = (three(geometry.dilation, 1), three(geometry.padding, 0))
        let ones = [1, 1, 1]
        (rows, planes) =
            isTransposed
            ? (geometry.inputChannels, geometry.outputChannels) : (geometry.outputChannels, geometry.inputChannels)
        (result, source) = isTransposed ? (input, output) : (output, input)
        (resultStep, sourceStep) = isTransposed ? (stride, ones) : (ones, stride)
        let positions = Self.indices(three(geometry.kernel, 1))
        let live = mask?.liveTaps ?? Array(positions.indices)
        let steps = resultStep
        let extents = result
        passes = Self.indices(steps).map { (phase: [Int]) -> Pass in
            let taps: [Tap] = live.compactMap { (index: Int) -> Tap? in
                let position = positions[index]
                var (shift, rest) = ([0, 0, 0], [0, 0, 0])
                for axis in 0..<3 {
                    let reach = position[axis] * dilation[axis] - padding[axis]
                    let distance = isTransposed ? phase[axis] - reach : reach
                    shift[axis] = Self.floor(distance, stride[axis])
                    rest[axis] = distance - shift[axis] * stride[axis]
                }
                if isTransposed, rest != [0, 0, 0] { return nil }
                return Tap(index: index, shift: shift, phase: rest)
            }
            var counts = [0, 0, 0]
            for axis in 0..<3 {
                counts[axis] = Swift.max(0, (extents[axis] - phase[axis] + steps[axis] - 1) / steps[axis])
            }
            return Pass(phase: phase, counts: counts, taps: taps)
        }
        let shifts = passes.flatMap { $0.taps.map(\.shift) }
        leastShift = (0..<3).map { axis in shifts.map { $0[axis] }.min() ?? 0 }
        greatestShift = (0..<3).map { axis in shifts.map { $0[axis] }.max() ?? 0 }
    }

    /// Whether a row reads a plane of its own group at a tap; `plane` counts all planes.
    public func isLive(row: Int, plane: Int, tap: Int) -> Bool {
        guard let mask else { return true }
        let (output, input) = isTransposed ? (plane, row) : (row, plane)
        return mask.isLive(output: output, input: input % geometry.inputsPerGroup, tap: tap)
    }

    /// Whether channels are told apart by the mask.
    public var hasChannelMask: Bool {
        mask?.taps.contains { if case .channels = $0 { true } else { false } } ?? false
    }

    private static func indices(_ extents: [Int]) -> [[Int]] {
        extents.reduce([[]]) { heads, extent in heads.flatMap { head in (0..<extent).map { head + [$0] } } }
    }

    private static func floor(_ a: Int, _ b: Int) -> Int { a >= 0 ? a / b : -((b - 1 - a) / b) }
}
