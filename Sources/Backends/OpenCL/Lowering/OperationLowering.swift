import Compiler
import Graph

extension OperationGroup: OpenCLGroup {
    /// By the operation's OpenCL face; one that has none is refused.
    public func lower(
        label: String, location: SourceLocation?, _ lowering: inout LoweringContext
    ) throws -> LoweredGroup {
        guard let operation = operation as? any OpenCLOperation else {
            throw OpenCLError.unsupported(
                "\(label): the operation \(operation.name) does not run on OpenCL devices; use `--device cpu`, or give it "
                    + "an extension that conforms to OpenCLOperation")
        }
        let inputTypes = inputs.map { lowering.values[$0].type }
        let outputTypes = outputs.map { lowering.values[$0].type }
        let plan = try operation.openCL(
            OpenCLOperationContext(
                device: lowering.device, inputTypes: inputTypes, outputTypes: outputTypes,
                maximumBatch: lowering.maximumBatch))
        let names = addKernels(of: plan, operation: operation.name, &lowering)
        let steps = plan.steps.map { step -> LoweredGroup.Step in
            switch step {
            case .launch(let kernel, let arguments, let groups, let local):
                .launch(names[kernel] ?? kernel, arguments.map { bound($0, &lowering) }, groups: groups, local: local)
            case .host(let body):
                .host(
                    HostStep(
                        inputs: inputs, outputs: outputs, inputTypes: inputTypes, outputTypes: outputTypes, body: body))
            }
        }
        return LoweredGroup(steps: steps, scratch: plan.scratch)
    }

    /// Adds the operation's text; the result is what its kernels are called in the program.
    private func addKernels(
        of plan: OpenCLOperationPlan, operation: String, _ lowering: inout LoweringContext
    ) -> [String: String] {
        guard !plan.source.isEmpty else { return [:] }
        var kernels = Set<String>()
        for case .launch(let kernel, _, _, _) in plan.steps { kernels.insert(kernel) }
        // The library names the whole text; kernels hang their own names on that.
        let macros = kernels.sorted().map { (name: $0, value: "MARTLET_NAME(KERNEL, _\($0))") }
        let name = lowering.kernels(with(macros, plan.source), of: operation, names: kernels.sorted())
        return Dictionary(uniqueKeysWithValues: kernels.map { ($0, "\(name)_\($0)") })
    }

    /// An argument of the operation's as the schedule's values have it.
    private func bound(_ argument: OpenCLArgument, _ lowering: inout LoweringContext) -> LaunchArgument {
        switch argument {
        case .input(let index): .value(inputs[index])
        case .output(let index): .value(outputs[index])
        case .scratch(let index): .scratch(index)
        case .table(let table): lowering.table(table)
        case .integer(let value): .integer(value)
        }
    }
}
