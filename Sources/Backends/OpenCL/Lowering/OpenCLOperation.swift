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
    /// Constant `int`s in the device's memory.
    case table([Int32])
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
