import Compiler
import Graph

/// A kind of group that OpenCL devices run: it adds its kernels' text to a program and says how they are launched.
///
///     extension MyGroup: OpenCLGroup {
///         public func lower(
///             label: String, location: SourceLocation?, _ lowering: inout LoweringContext
///         ) throws -> LoweredGroup {
///             let name = lowering.kernel("__kernel void KERNEL(__global const float* x, __global float* y, int n) { .. }", prefix: "mine")
///             return LoweredGroup(steps: [
///                 .launch(name, [.value(x), .value(y), .extent(n)], groups: { _ in [64] }, local: [64])
///             ])
///         }
///     }
public protocol OpenCLGroup {
    /// Called once, when a schedule is loaded; the result serves every batch size.
    ///
    /// - Parameters:
    ///   - label: the operations in the group, for messages.
    ///   - location: the line that made it.
    ///   - lowering: the program that the group becomes a part of.
    /// - Throws: `OpenCLError` where the device cannot run the group.
    func lower(label: String, location: SourceLocation?, _ lowering: inout LoweringContext) throws -> LoweredGroup
}

extension Schedule {
    /// The program that a device runs for this schedule.
    func lowered(for device: OpenCLDevice, maximumBatch: Int) throws -> LoweredProgram {
        var lowering = LoweringContext(device, values: values, maximumBatch: maximumBatch)
        let groups = try groups.map { group in
            guard let kind = group.kind as? any OpenCLGroup else {
                throw OpenCLError.unsupported(
                    "\(group.label): a group of kind \(type(of: group.kind)) has no OpenCL face; make it conform to OpenCLGroup"
                )
            }
            return try kind.lower(label: group.label, location: group.location, &lowering)
        }
        return lowering.program(groups, of: self)
    }
}
