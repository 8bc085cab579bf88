import Compiler
import Graph

/// An operation with an OpenCL face: the operations outside the fused families, and a user's own kernels.
///
///     extension MyOperation: OpenCLOperation {
///         func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
///             OpenCLOperationPlan(
///                 source: "__kernel void square(__global const float* x, __global float* y, int n) { .. }",
///                 steps: [.launch("square", [.input(0), .output(0), .extent(n)], groups: { .. }, local: [64])])
///         }
///     }
public protocol OpenCLOperation: Operation {
    /// How the operation runs. Called once, when a schedule is loaded; the plan serves every batch size.
    func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan
}

/// What an operation is told when it is lowered.
public struct OpenCLOperationContext: Sendable {
    public let device: OpenCLDevice
    public let inputTypes: [TensorType]
    public let outputTypes: [TensorType]
    public let maximumBatch: Int

    public var family: KernelFamily { device.family }
    /// How many work-groups (GPU) or threads (processor) the device runs at once, at least.
    public var computeUnits: Int { device.description.computeUnits }
}

/// An argument of an operation's kernel, in the order of its parameters.
public enum OpenCLArgument: Sendable {
    /// The memory of an operand, contiguous and row-major; bool and uint8 are `uchar`.
    case input(Int)
    case output(Int)
    /// Scratch memory by its position in `OpenCLOperationPlan.scratch`.
    case scratch(Int)
    /// An `int` that depends on nothing but the batch.
    case integer(@Sendable (_ batch: Int) -> Int)

    public static func extent(_ extent: Extent) -> OpenCLArgument { .integer { extent.resolved(batch: $0) } }
    public static func constant(_ value: Int) -> OpenCLArgument { .integer { _ in value } }
}

public enum OpenCLOperationStep: Sendable {
    /// One kernel over `groups` work-groups of `local` work-items; it is skipped where a dimension has no group.
    case launch(
        _ kernel: String, _ arguments: [OpenCLArgument], groups: @Sendable (_ batch: Int) -> [Int], local: [Int])
    /// Work of the host's, run after everything before it has finished on the device.
    case host(@Sendable (OpenCLHostContext) throws -> Void)
}

public struct OpenCLOperationPlan: Sendable {
    /// OpenCL C 1.2 that defines the kernels of `steps`. The macros and functions of Kernels/common.cl are in scope; the
    /// kernels' names are private to the operation, other names should carry a prefix of their own.
    public var source: String
    /// Bytes of scratch memory, at the largest batch.
    public var scratch: [Int]
    public var steps: [OpenCLOperationStep]

    public init(source: String = "", scratch: [Int] = [], steps: [OpenCLOperationStep]) {
        self.source = source
        self.scratch = scratch
        self.steps = steps
    }
}

/// The operands of an operation whose step runs on the host.
public struct OpenCLHostContext {
    public let batch: Int
    public let device: OpenCLDevice
    /// The memory of the operands.
    public let inputs: [OpenCLBuffer]
    public let outputs: [OpenCLBuffer]
    let inputTypes: [TensorType]
    let outputTypes: [TensorType]

    /// Reads an operand.
    public func read(input index: Int) throws -> HostArray {
        let type = inputTypes[index]
        return try HostArray(reading: inputs[index], type: type.element, shape: type.shape.resolved(batch: batch))
    }

    /// Writes a result, which must have the output's type and shape.
    public func write(_ array: HostArray, output index: Int) throws {
        let shape = outputTypes[index].shape.resolved(batch: batch)
        guard array.type == outputTypes[index].element, array.shape == shape else {
            throw OpenCLError.mismatch(
                "output \(index): expected \(outputTypes[index].element)\(shape), found \(array.type)\(array.shape)")
        }
        try array.withUnsafeBytes { try outputs[index].write($0) }
    }
}

/// Lowers an operation by its OpenCL face; one that has none is refused.
func lowerOperation(
    _ group: OperationGroup, label: String, values: [Value], lowering: inout LoweringContext
) throws -> LoweredGroup {
    guard let operation = group.operation as? any OpenCLOperation else {
        throw OpenCLError.unsupported(
            "\(label): the operation \(group.operation.name) does not run on OpenCL devices; use `--device cpu`, or give it "
                + "an extension that conforms to OpenCLOperation")
    }
    let context = OpenCLOperationContext(
        device: lowering.device, inputTypes: group.inputs.map { values[$0].type },
        outputTypes: group.outputs.map { values[$0].type }, maximumBatch: lowering.maximumBatch)
    let plan = try operation.openCL(context)
    var names: [String: String] = [:]
    for case .launch(let kernel, _, _, _) in plan.steps { names[kernel] = "" }
    if !plan.source.isEmpty {
        if !lowering.operations.contains(operation.name) { lowering.operations.append(operation.name) }
        // The library names the whole text; kernels hang their own names on that.
        let kernels = names.keys.sorted()
        let text =
            kernels.map { "#define \($0) MARTLET_NAME(KERNEL, _\($0))\n" }.joined() + plan.source
            + kernels.map { "\n#undef \($0)" }.joined()
        let name = lowering.library.add(text, prefix: "operation")
        for kernel in kernels { names[kernel] = "\(name)_\(kernel)" }
    }
    let steps = plan.steps.map { step -> Step in
        switch step {
        case .launch(let kernel, let arguments, let groups, let local):
            return .launch(
                Launch(
                    kernel: names[kernel] ?? kernel,
                    arguments: arguments.map {
                        switch $0 {
                        case .input(let index): .value(group.inputs[index])
                        case .output(let index): .value(group.outputs[index])
                        case .scratch(let index): .scratch(index)
                        case .integer(let value): .integer(value)
                        }
                    }, groups: groups, local: local))
        case .host(let body): return .host(body)
        }
    }
    return LoweredGroup(steps: steps, scratch: plan.scratch)
}
