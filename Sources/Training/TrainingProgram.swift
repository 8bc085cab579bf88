import Compiler
import Graph
import Layers
import Likelihood

/// What a training step does with gradients.
public struct UpdateRule: Sendable {
    /// What moves the parameters.
    public var optimizer: any Optimizer
    public var weightDecay: Double
    /// Gradients whose joint norm is larger are scaled down to it; 0 leaves them.
    public var clipNorm: Double
    /// Decay of the running average of the weights; 0 keeps none.
    public var averaging: Double

    public init(
        optimizer: any Optimizer = Adam(), weightDecay: Double = 0, clipNorm: Double = 0, averaging: Double = 0
    ) {
        self.optimizer = optimizer
        self.weightDecay = weightDecay
        self.clipNorm = clipNorm
        self.averaging = averaging
    }
}

/// A training step as a schedule: loss, gradients and the optimizer's update in one program, states updated in place.
public struct TrainingProgram {
    public let schedule: Schedule
    /// The names of everything that a step has to be fed.
    public var inputs: [String] { schedule.inputs.map { schedule.values[$0].label } }
    /// What the schedule was compiled from, for counts of its work.
    private let graph: (outputs: [Tensor], updates: [StateUpdate], maskedStates: [Tensor: WeightMask])
    /// Whether a step moves states by other means than gradients.
    let hasOtherUpdates: Bool
    /// The parameters that it moves.
    let trained: [(name: String, parameter: Parameter)]
    /// Names and shapes of the states beside the parameters.
    public let optimizerStates: [(name: String, shape: [Int])]

    /// - Parameters:
    ///   - loss: a scalar.
    ///   - parameters: of these the trained ones get gradients, but for those that `others` set.
    ///   - others: states that a step moves by other means than gradients (running statistics).
    /// - Throws: `UsageError` where two parameters have one name, or the optimizer's hyperparameters are out of range; and what
    ///   `gradients` and `compile` throw.
    public init(
        loss: Tensor, parameters: [(name: String, parameter: Parameter)], rule: UpdateRule,
        updates others: [StateUpdate] = []
    ) throws {
        let trained = try Self.trained(parameters, besides: others)
        let grads = try gradients(of: loss, with: trained.map(\.parameter.tensor))
        try self.init([loss], trained, grads, rule, others)
    }

    /// A step from gradients that were summed over several batches, by a program of the same parameters whose rule was `GradientSum`.
    init(summed parameters: [(name: String, parameter: Parameter)], rule: UpdateRule) throws {
        try self.init([], parameters, parameters.map { GradientSum.state(of: $0.name, $0.parameter) }, rule, [])
    }

    /// The parameters that gradients train.
    private static func trained(
        _ parameters: [(name: String, parameter: Parameter)], besides others: [StateUpdate]
    ) throws -> [(name: String, parameter: Parameter)] {
        for (name, alike) in Dictionary(grouping: parameters, by: \.name) where alike.count > 1 {
            throw UsageError(
                "\(alike.count) parameters are called “\(name)” and would share one state; put their modules into one and train its namedParameters()"
            )
        }
        return parameters.filter { p in
            p.parameter.isTrained && !others.contains { $0.state == p.parameter.tensor }
        }
    }

    private init(
        _ outputs: [Tensor], _ parameters: [(name: String, parameter: Parameter)], _ grads: [Tensor],
        _ rule: UpdateRule, _ others: [StateUpdate]
    ) throws {
        try rule.optimizer.validate()
        (trained, hasOtherUpdates) = (parameters, !others.isEmpty)
        var grads = grads
        if rule.clipNorm > 0 {
            let square = grads.map { ($0 * $0).sum() }.reduce(Tensor.scalar(0)) { $0 + $1 }
            let factor = Tensor.scalar(rule.clipNorm) / square.sqrt().maximum(.scalar(rule.clipNorm))
            grads = grads.map { $0 * factor }
        }
        var updates = others
        var maskedStates: [Tensor: WeightMask] = [:]
        var states: [(String, [Int])] = []
        for ((name, parameter), gradient) in zip(parameters, grads) {
            let p = parameter.tensor
            let optimizer = rule.optimizer.rule(for: name, parameter)
            let slots = optimizer.slots.map { Self.slot($0, of: name, parameter) }
            let (new, newSlots) = optimizer.update(
                parameter, gradient: gradient, slots: slots, weightDecay: rule.weightDecay)
            try require(
                newSlots.count == slots.count,
                "\(type(of: optimizer)) gives \(newSlots.count) new memories of “\(name)”; expected \(slots.count): \(optimizer.slots.joined(separator: ", "))"
            )
            updates += zip(slots, newSlots).map { StateUpdate($0, $1) }
            if new != p { updates.append(StateUpdate(p, new)) }
            states += slots.map { ($0.placeholder!.label, parameter.shape) }
            var own = [p] + slots
            if rule.averaging > 0 {
                let average = Tensor.state("average.\(name)", p.shape, p.elementType)
                updates.append(StateUpdate(average, average * rule.averaging + new * (1 - rule.averaging)))
                states.append(("average.\(name)", parameter.shape))
                own.append(average)
            }
            if let mask = parameter.mask { for state in own { maskedStates[state] = mask } }
        }
        optimizerStates = states.map { (name: $0.0, shape: $0.1) }
        graph = (outputs, updates, maskedStates)
        schedule = try compile(outputs, updates: updates, maskedStates: maskedStates)
    }

    /// What an optimizer remembers of a parameter.
    static func slot(_ slot: String, of name: String, _ parameter: Parameter) -> Tensor {
        .state("optimizer.\(name).\(slot)", parameter.tensor.shape, parameter.tensor.elementType)
    }

    /// What no program of the same step is spared: the algorithm's live multiply-adds, exps, and bytes that do not fit a cache.
    public func work(batch: Int, cacheBytes: Int) -> StepWork {
        StepWork(
            graph.outputs, updates: graph.updates, maskedStates: graph.maskedStates, schedule: schedule, batch: batch,
            cacheBytes: cacheBytes)
    }
}
