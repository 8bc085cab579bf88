import Graph

/// A schedule that runs again and again: a scan or an iteration.
///
/// The body's states are the carries from step to step; its inputs are the slices of the sequences, and the captures,
/// which every step reads. Nothing leaves the device between steps.
public struct LoopGroup: Sendable {
    /// A result of the loop and the body's output that it is stacked from.
    public struct Stack: Sendable {
        public var value: Int
        public var output: Int
    }

    /// The `Scan` or the `Iterate` that the loop runs.
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

    public var reads: [Int] { initial + sequences.map(\.value) + captures.map(\.value) }
    public var writes: [Int] { (final + history + [count]).compactMap(\.self) + stacked.map(\.value) }

    /// - Parameters:
    ///   - inputs: the values of the operands.
    ///   - outputs: the value of each result that is read.
    init(_ scan: Scan, inputs: [Int], outputs: [Int?]) throws(GraphError) {
        let places = scan.outputs.indices.filter { outputs[scan.carries.count + $0] != nil }
        let carried = Carried(scan.carries)
        operation = scan
        body = try carried.compile(places.map { scan.outputs[$0] }, next: scan.newCarries)
        limit = scan.steps
        isReversed = scan.isReversed
        carries = carried.names
        initial = Array(inputs.prefix(scan.carries.count))
        sequences = zip(inputs.dropFirst(scan.carries.count), scan.slices).map { ($0, $1.placeholder!.label) }
        captures = zip(inputs.suffix(scan.captures.count), scan.captures).map { ($0, $1.placeholder!.label) }
        final = Array(outputs.prefix(scan.carries.count))
        stacked = places.enumerated().map { Stack(value: outputs[scan.carries.count + $1]!, output: $0) }
        history = Array(outputs.suffix(scan.carries.count))
        sequences.removeAll { !body.reads($0.name) }
        captures.removeAll { !body.reads($0.name) }
    }

    init(_ iterate: Iterate, inputs: [Int], outputs: [Int?]) throws(GraphError) {
        let carried = Carried(iterate.carries)
        operation = iterate
        body = try carried.compile([], next: iterate.newCarries)
        condition = try carried.compile([iterate.goesOn], next: [])
        limit = iterate.limit
        isReversed = false
        carries = carried.names
        initial = Array(inputs.prefix(iterate.carries.count))
        sequences = []
        captures = zip(inputs.suffix(iterate.captures.count), iterate.captures).map { ($0, $1.placeholder!.label) }
        final = Array(outputs.prefix(iterate.carries.count))
        stacked = []
        history = []
        count = outputs[iterate.carries.count]
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
