import CPUKernels
import Compiler
import Graph

extension ElementsGroup: CPUGroup {
    public func makePlan(_ context: PlanContext) throws -> any GroupPlan { try ElementsPlan(self, context) }
}

/// An independent operation and what follows it: a program that begins with the operation's element at each position.
struct ElementsPlan: GroupPlan {
    let group: ElementsGroup
    let kernel: ElementKernel
    let plan: ElementwisePlan

    init(_ group: ElementsGroup, _ context: PlanContext) throws(CPUError) {
        guard let operation = group.operation as? any CPUElementOperation else {
            throw context.unsupported(
                "operation '\(group.operation.name)' has no CPU face; make it conform to CPUElementOperation")
        }
        try context.check(group.inputs)
        self.group = group
        kernel = ElementKernel(operation)
        let function = group.elementFunction()
        plan = try ElementwisePlan(group.elementwise(function), context, own: [function: kernel])
    }

    func bind(batch: Int) throws(CPUError) -> any BoundGroup { BoundElements(self, try plan.bind(batch: batch), batch) }
}

private final class BoundElements: BoundGroup {
    private let plan: ElementsPlan
    private let nest: any BoundGroup
    private let batch: Int
    var workBytes: Int { nest.workBytes }

    init(_ plan: ElementsPlan, _ nest: any BoundGroup, _ batch: Int) {
        self.plan = plan
        self.nest = nest
        self.batch = batch
    }

    func run(_ run: GroupRun) throws {
        let arrays = run.arrays(inputs: plan.group.inputs, outputs: [], plan.plan.context, batch: batch)
        plan.kernel.context = CPUElementContext(
            inputs: arrays.inputs, shape: plan.group.result.shape.resolved(batch: batch),
            element: plan.group.result.element)
        try nest.run(run)
    }
}

/// The elements of an operation at the positions that a program hands over. One run at a time uses the device, and with it this.
final class ElementKernel: OwnKernel {
    private let operation: any CPUElementOperation
    var context: CPUElementContext?

    init(_ operation: any CPUElementOperation) { self.operation = operation }

    func run(
        _ target: UnsafeMutableRawPointer, _ sources: UnsafePointer<UnsafeRawPointer>, _ isScalar: UnsafePointer<UInt8>,
        count: Int
    ) {
        guard let context else { return }
        let positions = UnsafeBufferPointer(start: sources[0].assumingMemoryBound(to: Int32.self), count: count)
        operation.runCPU(positions, into: target, context)
    }
}
