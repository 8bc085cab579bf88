import COpenCL
import Compiler
import Graph

// What a lowering hands to the runtime: kernels' text, and for each group of the schedule what to enqueue. Nothing here is on a device.

/// A schedule as its device runs it.
struct LoweredProgram {
    /// The OpenCL C of all kernels.
    var source: String
    /// The names of operations whose own text is in the source.
    var operations: [String]
    var groups: [LoweredGroup]
    var order: LaunchOrder
    /// Memory of the program's own, by the numbers in `LaunchArgument.owned`.
    var memory: [OwnedMemory]
    var loops: [LoopPlan]
}

/// A group as its device runs it.
public struct LoweredGroup {
    public var steps: [Step]
    /// Bytes of each piece of memory that lives from the group's first step to its last.
    public var scratch: [Int]
    /// Where the tiles that product kernels execute are counted, and how many there would be without a mask.
    var tileCounter: TileCounter?

    public init(steps: [Step] = [], scratch: [Int] = []) {
        self.steps = steps
        self.scratch = scratch
    }

    /// A piece of a group's work; steps run one after another.
    public struct Step {
        enum Work {
            case launch(Launch)
            case host(HostStep)
            /// A loop by its place in `LoweredProgram.loops`.
            case loop(Int)
        }

        let work: Work

        /// One kernel over `groups` work-groups of `local` work-items; nothing runs where a dimension has no group.
        public static func launch(
            _ kernel: String, _ arguments: [LaunchArgument], groups: @escaping @Sendable (_ batch: Int) -> [Int],
            local: [Int]
        ) -> Step {
            Step(work: .launch(Launch(kernel: kernel, arguments: arguments, groups: groups, local: local)))
        }

        static func host(_ step: HostStep) -> Step { Step(work: .host(step)) }
        static func loop(_ place: Int) -> Step { Step(work: .loop(place)) }
    }
}

/// An argument of a launch, in the order of the kernel's parameters.
public enum LaunchArgument: Sendable {
    /// The memory of one of the schedule's values.
    case value(Int)
    /// Memory that lives for one group, by its place in `LoweredGroup.scratch`.
    case scratch(Int)
    /// Memory of the program's own, such as a table of a mask; `LoweringContext` makes these.
    case owned(Int)
    /// A 32-bit integer that depends on nothing but the batch.
    case integer(@Sendable (_ batch: Int) -> Int)

    public static func extent(_ extent: Extent) -> LaunchArgument { .integer { extent.resolved(batch: $0) } }
    public static func constant(_ value: Int) -> LaunchArgument { .integer { _ in value } }
    static func sum(_ extents: [Extent]) -> LaunchArgument {
        .integer { batch in extents.reduce(0) { $0 + $1.resolved(batch: batch) } }
    }
}

/// One enqueued kernel.
struct Launch {
    var kernel: String
    var arguments: [LaunchArgument]
    /// Work-groups along each dimension; nothing runs where one is zero.
    var groups: @Sendable (_ batch: Int) -> [Int]
    var local: [Int]
}

/// Memory that a program has for itself as long as it is loaded.
enum OwnedMemory {
    case table([Int32])
    /// Bytes that a kernel writes before another reads them.
    case uninitialized(byteCount: Int)
    case zeros(byteCount: Int)
}

struct TileCounter {
    /// The program's own memory that holds the count.
    var memory: Int
    var dense: @Sendable (_ batch: Int) -> Int
}
