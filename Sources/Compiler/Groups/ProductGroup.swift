import Graph

/// `p[.., m, n] = sum over k of a[.., m, k] * b[.., k, n]` over the live part of a mask, then
/// `outputs = epilogue(p, epilogueInputs)`.
public struct ProductGroup: GroupKind {
    /// How the mask `[out, in]` of a masked dense layer lies in the product.
    public enum Role: String, Hashable, Sendable {
        /// m: rows, n: out, k: in.
        case forward
        /// m: rows, n: in, k: out.
        case inputGradient
        /// m: out, n: in, k: rows. Dead elements of the product are exactly zero.
        case weightGradient
    }

    public struct Mask: Sendable {
        public var structure: MaskStructure
        public var role: Role
        /// The values that hold the degrees of inputs and outputs, when they are known at run time only.
        public var runtimeDegrees: (input: Int, output: Int)?
        /// Whether the dead elements of the outputs are zero already and the epilogue would write zeros there again, as
        /// for masked weights and their moments. Whole dead tiles of a weight gradient may then be left untouched.
        public var deadOutputsStayZero: Bool

        public init(
            _ structure: MaskStructure, _ role: Role, runtimeDegrees: (input: Int, output: Int)? = nil,
            deadOutputsStayZero: Bool = false
        ) {
            self.structure = structure
            self.role = role
            self.runtimeDegrees = runtimeDegrees
            self.deadOutputsStayZero = deadOutputsStayZero
        }
    }

    public var batch: [Extent]
    public var m: Extent
    public var n: Extent
    public var k: Extent
    /// Over `batch + [m, k]`.
    public var a: Operand
    /// Over `batch + [k, n]`.
    public var b: Operand
    public var mask: Mask?
    /// Over `batch + [m, n]`.
    public var epilogueInputs: [Operand]
    /// Register 0 is the product; the others are `epilogueInputs`.
    public var epilogue: Program
    /// Over `batch + [m, n]`.
    public var outputs: [Operand]

    public init(
        batch: [Extent] = [], m: Extent, n: Extent, k: Extent, a: Operand, b: Operand, mask: Mask? = nil,
        epilogueInputs: [Operand], epilogue: Program, outputs: [Operand]
    ) {
        self.batch = batch
        self.m = m
        self.n = n
        self.k = k
        self.a = a
        self.b = b
        self.mask = mask
        self.epilogueInputs = epilogueInputs
        self.epilogue = epilogue
        self.outputs = outputs
    }
}

extension ProductGroup {
    private var result: [Extent] { batch + [m, n] }

    public var reading: [Walk] {
        [Walk([a], over: batch + [m, k]), Walk([b], over: batch + [k, n]), Walk(epilogueInputs, over: result)]
    }
    public var writing: [Walk] { [Walk(outputs, over: result)] }
    public var wholeReads: [Int] { mask?.runtimeDegrees.map { [$0.input, $0.output] } ?? [] }
    public var extents: [Extent] { batch + [m, n, k] }
}

extension MatrixProduct: AnchorOperation {
    public func makeGroup(_ anchor: AnchorContext) -> any GroupKind {
        let (a, b) = (anchor.operand(0), anchor.operand(1))
        let (left, right) = (anchor.inputs[0].shape, anchor.inputs[1].shape)
        let epilogue = anchor.epilogue()
        return ProductGroup(
            batch: Array(left.dimensions.dropLast(2)), m: left[-2], n: right[-1], k: left[-1], a: a, b: b,
            epilogueInputs: epilogue.inputs, epilogue: epilogue.program, outputs: epilogue.outputs)
    }
}

extension MaskedProduct: AnchorOperation {
    public func makeGroup(_ anchor: AnchorContext) -> any GroupKind {
        let (x, y) = (anchor.inputs[0], anchor.inputs[1])
        let a: Operand
        let b: Operand
        let extents: (m: Extent, n: Extent, k: Extent)
        let place: ProductGroup.Role
        switch role {
        case .forward:
            (a, b, place) = (anchor.operand(0), anchor.operand(1, axes: [1, 0]), .forward)
            extents = (x.shape[0], y.shape[0], x.shape[1])
        case .inputGradient:
            (a, b, place) = (anchor.operand(0), anchor.operand(1), .inputGradient)
            extents = (x.shape[0], y.shape[1], x.shape[1])
        case .weightGradient:
            (a, b, place) = (anchor.operand(0, axes: [1, 0]), anchor.operand(1), .weightGradient)
            extents = (x.shape[1], y.shape[1], x.shape[0])
        }
        let epilogue = anchor.epilogue()
        let degrees = anchor.inputs.count == 4 ? (input: anchor.value(2), output: anchor.value(3)) : nil
        let staysZero = role == .weightGradient && anchor.leavesDeadZeros(.dense(mask), epilogue)
        return ProductGroup(
            m: extents.m, n: extents.n, k: extents.k, a: a, b: b,
            mask: ProductGroup.Mask(mask, place, runtimeDegrees: degrees, deadOutputsStayZero: staysZero),
            epilogueInputs: epilogue.inputs, epilogue: epilogue.program, outputs: epilogue.outputs)
    }
}
