import Graph

/// What a compiled graph does, step by step, in terms that say nothing of any device.
///
/// A schedule is a list of groups. A group reads logical values and writes logical values; what lies between (a bias,
/// an activation, an optimizer's whole update) happens without touching memory. Every backend runs the same schedule,
/// so backends can be compared group by group.
public struct Schedule: Sendable {
    public var values: [Value] = []
    /// In an order in which they may run.
    public var groups: [Group] = []
    /// Values that are fed at every run.
    public var inputs: [Int] = []
    /// Values that persist on the device from one run to the next; groups may write them in place.
    public var states: [Int] = []
    /// Values that are handed back, in the order that was asked for.
    public var outputs: [Int] = []

    public init() {}

    /// Checks that nothing is read before it is written: a fault of the compiler, which must not become a wrong number.
    func checkOrder() throws(GraphError) {
        func isComputed(_ value: Int) -> Bool { if case .temporary = values[value].storage { true } else { false } }
        var written = Set<Int>()
        func check(_ value: Int, _ reader: String, _ location: SourceLocation?) throws(GraphError) {
            guard isComputed(value), !written.contains(value) else { return }
            throw GraphError(
                operation: reader,
                message:
                    "the compiled graph reads '\(values[value].label)' before it is computed, which is a fault of the compiler; "
                    + "please report it with the graph", location: location)
        }
        for group in groups {
            for value in group.reads { try check(value, group.label, group.location) }
            written.formUnion(group.writes)
        }
        for value in outputs { try check(value, "output", nil) }
    }
}

/// A tensor whose value replaces a state at the end of a run.
public struct StateUpdate: Sendable {
    public let state: Tensor
    public let value: Tensor

    public init(_ state: Tensor, _ value: Tensor) {
        self.state = state
        self.value = value
    }
}

/// A contiguous row-major array that groups read or write.
public struct Value: Sendable {
    public enum Storage: Sendable {
        case input(String)
        case state(String)
        case constant(HostArray)
        case temporary
    }

    public var type: TensorType
    public var storage: Storage
    /// The operation that made it, for listings and messages.
    public var label: String

    public init(_ type: TensorType, _ storage: Storage, label: String) {
        self.type = type
        self.storage = storage
        self.label = label
    }
}

/// An affine view of a value over the axes of a group: the element at index `(i0, i1, ..)` lies at
/// `sum(offset) + sum(strides[a] * i_a)`, counted in elements. A stride of zero broadcasts; negative strides walk backwards.
public struct Operand: Hashable, Sendable {
    public enum Source: Hashable, Sendable {
        case value(Int)
        /// No memory is read: the int32 element is the position itself.
        case position
    }

    public var source: Source
    /// Terms to be added up.
    public var offset: [Extent]
    /// One for each axis of the group's iteration.
    public var strides: [Extent]
    public var element: ElementType

    public init(_ source: Source, offset: [Extent] = [], strides: [Extent], element: ElementType) {
        self.source = source
        self.offset = offset
        self.strides = strides
        self.element = element
    }

    public var value: Int? { if case .value(let id) = source { id } else { nil } }
}

/// A straight-line program over scalars. Registers are numbered: first the `inputs`, then the `constants`, then the
/// results of the `instructions` in order.
public struct Program: Hashable, Sendable {
    public struct Constant: Hashable, Sendable {
        public var value: Double
        public var element: ElementType
        public init(_ value: Double, _ element: ElementType) {
            self.value = value
            self.element = element
        }
    }

    public struct Instruction: Hashable, Sendable {
        public var function: ElementwiseFunction
        public var operands: [Int]
        /// The type of the result.
        public var element: ElementType
        public init(_ function: ElementwiseFunction, _ operands: [Int], _ element: ElementType) {
            self.function = function
            self.operands = operands
            self.element = element
        }
    }

    /// The element types of the input registers.
    public var inputs: [ElementType]
    public var constants: [Constant]
    public var instructions: [Instruction]
    /// The registers that leave the program.
    public var outputs: [Int]

    public init(inputs: [ElementType], constants: [Constant] = [], instructions: [Instruction] = [], outputs: [Int]) {
        self.inputs = inputs
        self.constants = constants
        self.instructions = instructions
        self.outputs = outputs
    }

    public func element(of register: Int) -> ElementType {
        if register < inputs.count { return inputs[register] }
        let rest = register - inputs.count
        return rest < constants.count ? constants[rest].element : instructions[rest - constants.count].element
    }

    public var isIdentity: Bool { instructions.isEmpty && inputs.count == 1 && outputs == [0] }
}

/// A piece of work that runs as one.
public struct Group: Sendable {
    public enum Kind: Sendable {
        case elementwise(ElementwiseGroup)
        case reduction(ReductionGroup)
        case product(ProductGroup)
        case convolution(ConvolutionGroup)
        case operation(OperationGroup)
        case loop(LoopGroup)
    }

    public var kind: Kind
    /// The operations in it, for listings: `maskedDense+add+relu`.
    public var label: String
    public var location: SourceLocation?

    public init(_ kind: Kind, label: String, location: SourceLocation?) {
        self.kind = kind
        self.label = label
        self.location = location
    }
}

/// `outputs[j][i] = program(inputs[..][i])` for every index `i` of the iteration space. An output may be the same element
/// of the same value as an input (an update in place), never another element of it. Copies, concatenation and padding are
/// identity programs whose operands have offsets.
public struct ElementwiseGroup: Sendable {
    public var iteration: [Extent]
    public var inputs: [Operand]
    public var program: Program
    /// One for each program output, over `iteration`.
    public var outputs: [Operand]

    public init(iteration: [Extent], inputs: [Operand], program: Program, outputs: [Operand]) {
        self.iteration = iteration
        self.inputs = inputs
        self.program = program
        self.outputs = outputs
    }
}

/// For every index of `keptExtents`: `(x, stored) = prologue(inputs)` over all of `reducedExtents`, `r = reduce x`,
/// then `outputs = epilogue(r, epilogueInputs)`. The order of summation is a fixed tree that depends on the extents
/// alone, and carried out with so much more precision than floats have that a sum of floats is rounded once.
public struct ReductionGroup: Sendable {
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

/// `p[.., m, n] = sum over k of a[.., m, k] * b[.., k, n]` over the live part of a mask, then
/// `outputs = epilogue(p, epilogueInputs)`.
public struct ProductGroup: Sendable {
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

/// A convolution or one of its gradients over the live weights of a mask, then
/// `outputs = epilogue(result, epilogueInputs)`.
///
/// Operands by role: `forward` takes x and the weight, `inputGradient` dy and the weight, `weightGradient` dy and x.
///
/// The channels of a forward result may be split into two halves that the epilogue reads together, as a gate does.
public struct ConvolutionGroup: Sendable {
    public var role: Convolution.Role
    public var geometry: ConvolutionGeometry
    public var mask: ConvolutionMask?
    public var batch: Extent
    /// Over `[batch, channels, spatial..]`.
    public var a: Operand
    /// Over `[out, in / groups, kernel..]`, or `[batch, channels, spatial..]` for a weight gradient.
    public var b: Operand
    /// 1, or 2 where the epilogue takes channel c of the first half and channel c of the second half at once; only for
    /// `forward` without groups.
    public var sections: Int
    /// Over the axes of `shape`.
    public var epilogueInputs: [Operand]
    /// The first registers are the result, one for each section; the others are `epilogueInputs`.
    public var epilogue: Program
    public var outputs: [Operand]

    public init(
        role: Convolution.Role, geometry: ConvolutionGeometry, mask: ConvolutionMask? = nil, batch: Extent, a: Operand,
        b: Operand, sections: Int = 1, epilogueInputs: [Operand], epilogue: Program, outputs: [Operand]
    ) {
        self.role = role
        self.geometry = geometry
        self.mask = mask
        self.batch = batch
        self.a = a
        self.b = b
        self.sections = sections
        self.epilogueInputs = epilogueInputs
        self.epilogue = epilogue
        self.outputs = outputs
    }

    /// The axes of a section of the result.
    public var shape: [Extent] {
        switch role {
        case .forward: [batch, Extent(geometry.outputChannels / sections)] + geometry.output.map { Extent($0) }
        case .inputGradient: [batch, Extent(geometry.inputChannels)] + geometry.input.map { Extent($0) }
        case .weightGradient: geometry.weightShape.map { Extent($0) }
        }
    }
}

/// An operation that is not of the fused families, on whole contiguous values. Each backend has one function for it.
public struct OperationGroup: Sendable {
    public var operation: any Operation
    public var inputs: [Int]
    public var outputs: [Int]

    public init(operation: any Operation, inputs: [Int], outputs: [Int]) {
        self.operation = operation
        self.inputs = inputs
        self.outputs = outputs
    }
}
