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

    /// The view of every `steps[a]`-th element along each axis a from `starts[a]` on.
    func part(from starts: [Int], steps: [Int]? = nil) -> Operand {
        var part = self
        part.offset += zip(starts, strides).filter { $0.0 != 0 && $0.1 != 0 }.map { $1 * Extent($0) }
        if let steps { part.strides = zip(steps, strides).map { $1 * Extent($0) } }
        return part
    }
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
