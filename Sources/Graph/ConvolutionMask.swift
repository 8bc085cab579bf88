/// Which weights of a convolution are live, tap by tap. Dead weights are exactly zero, get exactly zero gradient and are
/// never visited.
///
///     let first = ConvolutionMask.causal(.a, kernel: [7, 7])            // the first layer of a PixelCNN
///     let inner = ConvolutionMask.causal(.b, kernel: [3, 3], outputs: 96, inputs: 96, channelGroups: 3)
public struct ConvolutionMask: Hashable, Sendable {
    public enum Tap: Hashable, Sendable {
        case dead
        case live
        /// Live where the matrix `[out, in / groups]` is 1.
        case channels(BitMatrix)
    }

    /// One for each position of the kernel, in row-major order.
    public let taps: [Tap]

    public init(taps: [Tap]) { self.taps = taps }

    /// Any set of taps, by their position in the kernel.
    public init(kernel: [Int], isLive: (_ position: [Int]) -> Bool) {
        taps = Self.positions(kernel).map { isLive($0) ? .live : .dead }
    }

    /// Whether weight `[output, input, tap]` is live; `input` counts within the output's group of the convolution.
    public func isLive(output: Int, input: Int, tap: Int) -> Bool {
        switch taps[tap] {
        case .dead: false
        case .live: true
        case .channels(let bits): bits[output, input]
        }
    }

    /// The taps that some channel uses.
    public var liveTaps: [Int] {
        taps.indices.filter {
            switch taps[$0] {
            case .dead: false
            case .live: true
            case .channels(let bits): bits.liveCount > 0
            }
        }
    }

    /// Weights that are live, of `outputs` x `inputs` channel pairs.
    public func liveCount(outputs: Int, inputs: Int) -> Int {
        taps.reduce(0) { sum, tap in
            switch tap {
            case .dead: sum
            case .live: sum + outputs * inputs
            case .channels(let bits): sum + bits.liveCount
            }
        }
    }

    /// Every position of a kernel in row-major order.
    static func positions(_ kernel: [Int]) -> [[Int]] {
        kernel.reduce([[]]) { heads, extent in heads.flatMap { head in (0..<extent).map { head + [$0] } } }
    }
}

extension ConvolutionMask {
    /// The masks of van den Oord et al. 2016 ("Pixel Recurrent Neural Networks", section 3.4): what lies before the centre
    /// in raster order is live, what lies behind it dead.
    public enum Kind: String, Hashable, Sendable, CaseIterable {
        /// The centre is dead, or reads only earlier channel groups: the first layer.
        case a
        /// The centre is live, or reads its own and earlier channel groups: every other layer.
        case b
    }

    /// A causal mask for a kernel of 1, 2 or 3 axes whose centre is at `extent / 2` of each.
    ///
    /// With several channel groups (3 for RGB: R before G before B) feature map `c` of `C` belongs to group
    /// `c * channelGroups / C`, and at the centre output group `g` reads input groups below `g` (A) or up to `g` (B).
    /// - Parameters:
    ///   - outputs: output channels; needed with several channel groups.
    ///   - inputs: input channels; needed with several channel groups.
    public static func causal(
        _ kind: Kind, kernel: [Int], outputs: Int = 1, inputs: Int = 1, channelGroups: Int = 1
    ) -> ConvolutionMask {
        if channelGroups == 1 { return causal(kernel: kernel, centre: kind == .b ? .live : .dead) }
        return causal(
            kind, kernel: kernel, outputGroups: (0..<outputs).map { $0 * channelGroups / outputs },
            inputGroups: (0..<inputs).map { $0 * channelGroups / inputs })
    }

    /// A causal mask whose channels belong to the groups given, one number for each channel.
    public static func causal(
        _ kind: Kind, kernel: [Int], outputGroups: [Int], inputGroups: [Int]
    ) -> ConvolutionMask {
        let bits = BitMatrix(rows: outputGroups.count, columns: inputGroups.count) {
            kind == .a ? inputGroups[$1] < outputGroups[$0] : inputGroups[$1] <= outputGroups[$0]
        }
        return causal(kernel: kernel, centre: .channels(bits))
    }

    private static func causal(kernel: [Int], centre: Tap) -> ConvolutionMask {
        let middle = kernel.map { $0 / 2 }
        var centre = centre
        // Channels of a single group are told apart by nothing, and kernels take them together.
        if case .channels(let bits) = centre {
            if bits.liveCount == 0 { centre = .dead }
            if bits.liveCount == bits.rows * bits.columns { centre = .live }
        }
        return ConvolutionMask(
            taps: positions(kernel).map { position in
                position == middle ? centre : position.lexicographicallyPrecedes(middle) ? .live : .dead
            })
    }
}

/// The mask of a weight, whatever layer it belongs to.
public enum WeightMask: Hashable, Sendable {
    /// Of a weight `[out, in]`.
    case dense(MaskStructure)
    /// Of a weight `[out, in / groups, kernel..]`.
    case convolution(ConvolutionMask)

    /// How many elements of a weight of some shape are not known to be dead.
    public func liveCount(shape: [Int]) -> Int {
        switch self {
        case .dense(let mask): mask.liveCount ?? shape.reduce(1, *)
        case .convolution(let mask): mask.liveCount(outputs: shape[0], inputs: shape[1])
        }
    }

    /// Whether an element of a weight of some shape, in row-major order, is known to be dead.
    public func isDead(_ element: Int, shape: [Int]) -> Bool {
        switch self {
        case .dense(let mask):
            return mask.isLive(output: element / shape[1], input: element % shape[1]) == false
        case .convolution(let mask):
            let (pair, tap) = (element / mask.taps.count, element % mask.taps.count)
            return !mask.isLive(output: pair / shape[1], input: pair % shape[1], tap: tap)
        }
    }
}
