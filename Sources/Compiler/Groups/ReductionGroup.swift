import Graph

/// For every index of `keptExtents`: `(x, stored) = prologue(inputs)` over all of `reducedExtents`, `r = reduce x`,
/// then `outputs = epilogue(r, epilogueInputs)`. The order of summation is a fixed tree that depends on the extents
/// alone, and carried out with so much more precision than floats have that a sum of floats is rounded once.
public struct ReductionGroup: GroupKind {
    public enum Kind: String, Hashable, Sendable, CaseIterable { case sum, maximum, minimum }

    public var kind: Kind
    public var keptExtents: [Extent]
    public var reducedExtents: [Extent]
    /// Over `keptExtents + reducedExtents`.
    public var inputs: [Operand]
    /// Its first output is what is reduced, the others are written to `stored`.
    public var prologue: Program
    /// Over `keptExtents + reducedExtents`. Like an elementwise group's outputs they may update an input in place.
    public var stored: [Operand]
    /// Over `keptExtents`.
    public var epilogueInputs: [Operand]
    /// Register 0 is the reduced value; the others are `epilogueInputs`.
    public var epilogue: Program
    /// Over `keptExtents`.
    public var outputs: [Operand]

    public init(
        kind: Kind, keptExtents: [Extent], reducedExtents: [Extent], inputs: [Operand], prologue: Program,
        stored: [Operand] = [],
        epilogueInputs: [Operand], epilogue: Program, outputs: [Operand]
    ) {
        self.kind = kind
        self.keptExtents = keptExtents
        self.reducedExtents = reducedExtents
        self.inputs = inputs
        self.prologue = prologue
        self.stored = stored
        self.epilogueInputs = epilogueInputs
        self.epilogue = epilogue
        self.outputs = outputs
    }
}

extension ReductionGroup {
    public var reading: [Walk] { [Walk(inputs, over: extents), Walk(epilogueInputs, over: keptExtents)] }
    public var writing: [Walk] { [Walk(stored, over: extents), Walk(outputs, over: keptExtents)] }
    public var extents: [Extent] { keptExtents + reducedExtents }
    public var readsOnce: Bool { true }
}
