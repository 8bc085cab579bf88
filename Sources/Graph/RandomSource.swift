/// The counter-based random numbers of a program: the same bits for an example on every backend, in any batch.
///
/// The counter is (variable, example, step, stream), the key is the seed (Philox 4x32-10, Salmon et al. 2011).
public struct RandomSource: Sendable {
    /// int32 `[2]`, low word first.
    public let seed: Tensor
    /// int32 scalar.
    public let step: Tensor
    /// The index of each example, int32 `[batch]`.
    public let examples: Tensor
    /// Added to the stream of every draw.
    private var firstStream = 0

    public static let seedInput = "random.seed"
    public static let stepInput = "random.step"
    public static let examplesInput = "random.examples"

    /// A source whose three values are fed at every run.
    public init() {
        seed = .input(Self.seedInput, [2], .int32)
        step = .input(Self.stepInput, .scalar, .int32)
        examples = .input(Self.examplesInput, [.batch], .int32)
    }

    /// The same source with all streams moved by `offset`: numbers independent of those that this one gives.
    public func substream(_ offset: Int) -> RandomSource {
        var result = self
        result.firstStream += offset
        return result
    }

    /// What to feed for a seed, a step and some examples.
    public static func feeds(seed: UInt64, step: Int = 0, examples: [Int]) -> [String: HostArray] {
        [
            seedInput: HostArray([Int32(truncatingIfNeeded: seed), Int32(truncatingIfNeeded: seed >> 32)]),
            stepInput: HostArray([Int32(truncatingIfNeeded: step)], shape: []),
            examplesInput: HostArray(examples.map { Int32(truncatingIfNeeded: $0) }),
        ]
    }

    /// Random bits `[batch, ..]`, one word for each element; the variable index counts the elements of an example.
    public func bits(_ shape: Shape, stream: Int) -> Tensor {
        let event = shape.removing(axes: [0])
        let variable = Tensor(Position(shape: event, offset: 0, strides: event.strides.map(\.coefficient)), [])
        let word = { (index: Int) in seed.sliced(axis: 0, from: index, count: 1).reshaped(.scalar) }
        return .elementwise(
            .philox,
            [
                word(0), word(1), .scalar(Double(firstStream + stream), .int32), step,
                examples.reshaped(Shape([shape[0]] + event.dimensions.map { _ in 1 })).broadcast(to: shape), variable,
            ])
    }

    /// Uniform in [0, 1): a float32 number, in double precision too.
    public func uniform(_ shape: Shape, stream: Int, as element: ElementType = .float32) -> Tensor {
        let number = bits(shape, stream: stream).apply(.uniformFromBits)
        return element == .float32 ? number : number.cast(to: element)
    }
    /// Standard normal: a float32 number, in double precision too.
    public func normal(_ shape: Shape, stream: Int, as element: ElementType = .float32) -> Tensor {
        let number = bits(shape, stream: stream).apply(.normalFromBits)
        return element == .float32 ? number : number.cast(to: element)
    }
    /// 1 with probability `p`, else 0.
    public func bernoulli(_ p: Tensor, stream: Int) -> Tensor {
        uniform(p.shape, stream: stream, as: p.elementType).less(p).cast(to: p.elementType)
    }
}
