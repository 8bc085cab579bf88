import CPUKernels
import Compiler
import Graph

extension OperationGroup: CPUGroup {
    public func makePlan(_ context: PlanContext) throws -> any GroupPlan { try OperationPlan(self, context) }
}

/// An operation that runs as a whole.
struct OperationPlan: GroupPlan {
    let operation: any CPUOperation
    let group: OperationGroup
    let context: PlanContext

    init(_ group: OperationGroup, _ context: PlanContext) throws(CPUError) {
        guard let operation = group.operation as? any CPUOperation else {
            throw context.unsupported(
                "operation '\(group.operation.name)' has no CPU face; make it conform to CPUOperation in Backends/CPU")
        }
        try context.check(group.inputs + group.outputs)
        self.operation = operation
        self.group = group
        self.context = context
    }

    func bind(batch: Int) -> any BoundGroup { BoundOperation(self, batch: batch) }
}

private final class BoundOperation: BoundGroup {
    let plan: OperationPlan
    let batch: Int

    init(_ plan: OperationPlan, batch: Int) {
        self.plan = plan
        self.batch = batch
    }

    func run(_ run: GroupRun) throws {
        try plan.operation.runCPU(
            run.arrays(inputs: plan.group.inputs, outputs: plan.group.outputs, plan.context, batch: batch))
    }
}
