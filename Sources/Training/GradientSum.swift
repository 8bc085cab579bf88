import Graph
import Layers

/// The gradient of a step that reads several batches, summed batch by batch. It moves nothing itself:
///
///     v' = s g                     of the first batch of a step
///     v' = v + s g                 of the others
///
/// where s is the share of the step's examples that the batch holds, so that v ends as the gradient of the mean over all of them.
struct GradientSum: Optimizer {
    static let slot = "gradient"
    static let isFirst = "optimizer.isFirst"
    static let share = "optimizer.share"

    var slots: [String] { [Self.slot] }

    /// Those of a step of a single batch; `feeds` gives those of any.
    func scalars(rate: Double, step: Int) -> [String: Double] { [Self.isFirst: 1, Self.share: 1] }

    static func feeds(isFirst: Bool, share: Double) -> [String: HostArray] {
        [
            Self.isFirst: HostArray([isFirst ? 1 : 0] as [Float], shape: []),
            Self.share: HostArray([Float(share)], shape: []),
        ]
    }

    func update(_ parameter: Parameter, gradient: Tensor, slots: [Tensor], weightDecay: Double) -> (
        parameter: Tensor, slots: [Tensor]
    ) {
        // Chosen and not multiplied by zero: what a step left that went too far may be no number.
        let before = Tensor.select(scalar(Self.isFirst, for: parameter).greater(0), 0, slots[0])
        return (parameter.tensor, [before + gradient * scalar(Self.share, for: parameter)])
    }

    /// The sum that belongs to a parameter.
    static func state(of name: String, _ parameter: Parameter) -> Tensor {
        TrainingProgram.slot(slot, of: name, parameter)
    }
}
