/// What an operation is to the compiler. Fusion, views, schedules and samplers read this, and never ask for an operation's type; so an
/// operation that says what it is is lowered like every other of its kind.
public enum OperationRole: Sendable {
    /// Nothing computes it.
    case source(Source)
    /// A function of one element of each operand, at the same place. Chains of them run as one kernel.
    case elementwise(ElementwiseFunction)
    /// The elements of its operand, found where the operand lies: it costs nothing where strides describe it.
    case view(any ViewOperation)
    /// Boxes of its operands, put together in memory of its own.
    case assembly(any AssemblyOperation)
    /// The first operand reduced over some axes. The elementwise functions in front of it and behind it run in its kernel.
    case reduction(Reduction.Kind, axes: [Int])
    /// A sum of products of its first two operands, which are read through whatever strides they have; further operands are read as whole
    /// values. The elementwise functions behind it run in its kernel. The compiler is told by the operation which kind of group it is
    /// (`Compiler.AnchorOperation`).
    /// - Parameter splitsChannels: whether a kernel can hand over the two halves of the result's channels (axis 1) side by side, so that
    ///   functions of both run in it.
    case contraction(splitsChannels: Bool)
    /// Each element of its only result is computed on its own, from whole operands. The elementwise functions behind it run in its kernel.
    case independent
    /// A graph of its own, run again and again.
    case loop(any LoopOperation)
    /// Anything else, on whole values. It is never fused.
    case opaque

    /// The role without what belongs to it.
    enum Kind: UInt8 {
        case placeholder, constant, position, elementwise, view, assembly, reduction, contraction, independent, loop,
            opaque
    }

    var kind: Kind {
        switch self {
        case .source(.placeholder): .placeholder
        case .source(.constant): .constant
        case .source(.position): .position
        case .elementwise: .elementwise
        case .view: .view
        case .assembly: .assembly
        case .reduction: .reduction
        case .contraction: .contraction
        case .independent: .independent
        case .loop: .loop
        case .opaque: .opaque
        }
    }

    /// Where a tensor comes from that nothing computes.
    public enum Source: Sendable {
        /// Fed at every run, or kept between runs.
        case placeholder
        /// Part of the program.
        case constant(HostArray)
        /// int32 numbers counted along the axes.
        case position(Position)
    }
}

/// Where the elements of a tensor lie in an array: the element at index `(i0, i1, ..)` at `sum(offset) + sum(strides[a] * i_a)`.
public struct StridedLayout: Hashable, Sendable {
    /// Terms to be added up.
    public var offset: [Extent]
    /// One for each axis of the tensor; zero where elements repeat, negative where they are read backwards.
    public var strides: [Extent]

    public init(offset: [Extent] = [], strides: [Extent]) {
        self.offset = offset
        self.strides = strides
    }

    /// A row-major array.
    public init(_ shape: Shape) { self.init(strides: shape.strides) }
}

extension Node {
    /// The function, if this is an elementwise operation.
    public var elementwise: ElementwiseFunction? {
        guard roleKind == .elementwise else { return nil }
        return if case .elementwise(let function) = compilerRole { function } else { nil }
    }
    /// The operation, if this is a view.
    public var view: (any ViewOperation)? { if case .view(let view) = compilerRole { view } else { nil } }
    /// The array, if this is a constant.
    public var constant: HostArray? { if case .source(.constant(let array)) = compilerRole { array } else { nil } }
    /// What is counted, if these are positions.
    public var position: Position? { if case .source(.position(let position)) = compilerRole { position } else { nil } }
    public var isPlaceholder: Bool { roleKind == .placeholder }
    public var isElementwise: Bool { roleKind == .elementwise }
    public var isView: Bool { roleKind == .view }
    public var isReduction: Bool { roleKind == .reduction }
    /// Whether it is fed, kept between runs, or part of the program.
    public var isGiven: Bool { roleKind == .placeholder || roleKind == .constant }
}

extension Tensor {
    /// The value of a tensor whose elements are all one constant.
    public var constantEverywhere: Double? {
        var node = node
        while node.isView { node = node.inputs[0].node }
        return node.constant.flatMap { $0.count == 1 ? $0.doubles[0] : nil }
    }
}
