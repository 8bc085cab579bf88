/// An operation that runs a graph of its own again and again. Its operands are the first carries, the sequences, the captures; its results
/// the last carries, the stacked outputs, the carries before each step if it keeps them, and the number of steps if it counts them.
public protocol LoopOperation: Operation {
    var loop: Loop { get }
    /// How often at least: the steps of a scan, one of an iteration.
    var repetitions: Int { get }
    /// What a step computes, from the loop's operands and from placeholders for what is carried.
    ///
    /// - Parameter isRead: which results of the loop somebody reads.
    func body(_ inputs: [Tensor], isRead: [Bool]) -> [Tensor]
}

/// The graph that a loop runs, in placeholders, and how often.
public struct Loop: Sendable {
    /// Placeholders for what goes from step to step, for the step's slices of the sequences, and for what every step reads.
    public var carries: [Tensor]
    public var slices: [Tensor]
    public var captures: [Tensor]
    public var newCarries: [Tensor]
    /// What every step hands out, to be stacked along a new first axis.
    public var outputs: [Tensor]
    /// A bool scalar: whether to take another step from the carries.
    public var goesOn: Tensor?
    /// How many steps, at most.
    public var limit: Int
    /// From the last slice to the first.
    public var isReversed: Bool
    /// Whether the carries before each step are results.
    public var keepsHistory: Bool
    /// Whether the number of steps is a result, int32.
    public var countsSteps: Bool
}

extension Node {
    /// The loop, if this is one of a fixed number of steps: what those do to dependencies is followed through its body.
    package var stepwiseLoop: Loop? {
        guard roleKind == .loop, case .loop(let operation) = compilerRole else { return nil }
        let loop = operation.loop
        return loop.goesOn == nil && !loop.countsSteps ? loop : nil
    }
}

extension LoopOperation {
    public var compilerRole: OperationRole { .loop(self) }

    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? {
        let operands = inputs.map { loopPlaceholder($0) }
        let works = applications(of: body(operands, isRead: outputs.map { _ in true })).compactMap {
            $0.multiplyAdds(batch: batch)
        }
        return works.isEmpty ? nil : works.reduce(Work(0), +) * repetitions
    }

    public func exps(_ inputs: [TensorType], batch: Int) -> Int {
        let operands = inputs.map { loopPlaceholder($0) }
        let results = loop.carries.count + loop.outputs.count
        return applications(of: body(operands, isRead: (0..<results).map { _ in true }))
            .reduce(0) { $0 + $1.exps(batch: batch) } * repetitions
    }
}
