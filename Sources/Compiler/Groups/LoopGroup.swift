import Graph

/// A schedule that runs again and again: a scan or an iteration.
///
/// The body's states are the carries from step to step; its inputs are the slices of the sequences, and the captures,
/// which every step reads. Nothing leaves the device between steps.
public struct LoopGroup: GroupKind {
    /// A result of the loop and the body's output that it is stacked from.
    public struct Stack: Sendable {
        public var value: Int
        public var output: Int
    }

    /// What the loop runs.
    public var operation: any Operation
    public var body: Schedule
    /// Computes a bool: whether to take another step.
    public var condition: Schedule?
    /// How many steps, at most.
    public var limit: Int
    /// From the last slice to the first.
    public var isReversed: Bool
    /// The names of the carries among the states of body and condition.
    public var carries: [String]
    /// Values of the outer schedule, in the order of the operation's operands: the first carries, the sequences that
    /// are sliced along their first axis, and the captures.
    public var initial: [Int]
    public var sequences: [(value: Int, name: String)]
    public var captures: [(value: Int, name: String)]
    /// Values of the outer schedule that take the last carries; `nil` for those that nothing reads.
    public var final: [Int?]
    /// The outputs of every step that are read.
    public var stacked: [Stack]
    /// Values of the outer schedule that take the carries before each step; `nil` for those that nothing reads.
    public var history: [Int?]
    /// The value that takes the number of steps, if it is read.
    public var count: Int?

    public var reading: [Walk] { [] }
    public var writing: [Walk] { [] }
    public var wholeReads: [Int] { initial + sequences.map(\.value) + captures.map(\.value) }
    public var wholeWrites: [Int] { (final + history + [count]).compactMap(\.self) + stacked.map(\.value) }
    public var extents: [Extent] { [Extent(limit)] }

    /// - Parameters:
    ///   - inputs: the values of the operands.
    ///   - outputs: the value of each result that is read.
    init(_ operation: any LoopOperation, inputs: [Int], outputs: [Int?]) throws(GraphError) {
        let loop = operation.loop
        let count = loop.carries.count
        let places = loop.outputs.indices.filter { outputs[count + $0] != nil }
        let carried = Carried(loop.carries)
        self.operation = operation
        body = try carried.compile(places.map { loop.outputs[$0] }, next: loop.newCarries)
        if let goesOn = loop.goesOn { condition = try carried.compile([goesOn], next: []) }
        limit = loop.limit
        isReversed = loop.isReversed
        carries = carried.names
        initial = Array(inputs.prefix(count))
        sequences = zip(inputs.dropFirst(count), loop.slices).map { ($0, $1.placeholder!.label) }
        captures = zip(inputs.suffix(loop.captures.count), loop.captures).map { ($0, $1.placeholder!.label) }
        final = Array(outputs.prefix(count))
        stacked = places.enumerated().map { Stack(value: outputs[count + $1]!, output: $0) }
        let rest = outputs.dropFirst(count + loop.outputs.count)
        history = loop.keepsHistory ? Array(rest.prefix(count)) : []
        self.count = loop.countsSteps ? rest.last! : nil
        let (body, condition) = (body, condition)
        sequences.removeAll { !body.reads($0.name) }
        captures.removeAll { !body.reads($0.name) && condition?.reads($0.name) != true }
    }
}

/// The carries of a loop's body as states, so that a step writes new carries over the old ones where it can.
private struct Carried {
    let placeholders: [Tensor]
    let states: [Tensor]
    var names: [String] { states.map { $0.placeholder!.label } }

    init(_ placeholders: [Tensor]) {
        self.placeholders = placeholders
        states = placeholders.map { .state($0.placeholder!.label, $0.shape, $0.elementType) }
    }

    func compile(_ outputs: [Tensor], next: [Tensor]) throws(GraphError) -> Schedule {
        let tensors = replacing(Dictionary(uniqueKeysWithValues: zip(placeholders, states)), in: outputs + next)
        return try Compiler.compile(
            Array(tensors.prefix(outputs.count)),
            updates: zip(states, tensors.suffix(next.count)).map { StateUpdate($0, $1) })
    }
}

extension Schedule {
    /// Whether there is an input of this name.
    public func reads(_ input: String) -> Bool {
        inputs.contains { if case .input(input) = values[$0].storage { true } else { false } }
    }
}
