import Compiler
import Graph

extension LoopGroup: OpenCLGroup {
    /// The body and the condition are schedules, which the runtime loads as programs of their own.
    public func lower(
        label: String, location: SourceLocation?, _ lowering: inout LoweringContext
    ) throws -> LoweredGroup {
        let carries = self.carries.enumerated().map { index, name in
            LoopPlan.Carry(
                name: name, initial: initial[index], final: final[index],
                history: history.indices.contains(index) ? history[index] : nil)
        }
        let plan = LoopPlan(
            body: body, condition: condition, limit: limit, isReversed: isReversed, carries: carries,
            sequences: sequences, captures: captures, stacked: stacked.map { ($0.value, $0.output) }, count: count)
        return LoweredGroup(steps: [.loop(lowering.add(plan))])
    }
}
