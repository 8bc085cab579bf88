import Graph

/// A piece of work that runs as one.
public struct Group: Sendable {
    public var kind: any GroupKind
    /// The operations in it, for listings: `maskedDense+add+relu`.
    public var label: String
    public var location: SourceLocation?
    /// The operations in it, of which `Schedule.work` counts the multiply-adds and exps; none in a group that only copies.
    public var applied: [AppliedOperation]

    /// - Parameters:
    ///   - label: the operations' names, for listings.
    ///   - location: the line that made it, if one did.
    ///   - applied: what its work is counted by.
    public init(
        _ kind: any GroupKind, label: String, location: SourceLocation?, applied: [AppliedOperation] = []
    ) {
        self.kind = kind
        self.label = label
        self.location = location
        self.applied = applied
    }
}

/// A kind of group: what it reads and writes, and how far its axes go. How it runs is each backend's business, which has an extension of
/// every kind that it runs (`CPUGroup`, `OpenCLGroup`); a kind of one's own is a type that conforms to all three.
public protocol GroupKind: Sendable {
    /// The views that it reads and writes, element by element or more than once.
    var reading: [Walk] { get }
    var writing: [Walk] { get }
    /// The values that it reads and writes as they are, without a view.
    var wholeReads: [Int] { get }
    var wholeWrites: [Int] { get }
    /// The extents of its axes: `m x n x k` of a product, the iteration of any other.
    var extents: [Extent] { get }
    /// Whether it takes every element of what it reads into its registers once, whatever the device: what it moves can then be counted.
    var readsOnce: Bool { get }
}

extension GroupKind {
    public var wholeReads: [Int] { [] }
    public var wholeWrites: [Int] { [] }
    public var readsOnce: Bool { false }
}

/// Operands that are walked together, and the extents of the axes along which they are.
public struct Walk: Sendable {
    public var operands: [Operand]
    public var extents: [Extent]

    public init(_ operands: [Operand], over extents: [Extent]) {
        self.operands = operands
        self.extents = extents
    }
}

extension Group {
    /// The values that the group reads.
    public var reads: [Int] { kind.reading.flatMap { $0.operands.compactMap(\.value) } + kind.wholeReads }
    /// The values that the group writes.
    public var writes: [Int] { kind.writing.flatMap { $0.operands.compactMap(\.value) } + kind.wholeWrites }
}

/// An operation at which a group of its own begins, with the elementwise functions behind it: a product, a convolution. It says which kind
/// of group it is; everything else, which operands it may read where they lie and which functions follow in its group, the compiler
/// knows from its role.
public protocol AnchorOperation: Operation {
    /// The group, of what `anchor` says: where the operands lie, and what follows.
    func makeGroup(_ anchor: AnchorContext) -> any GroupKind
}
