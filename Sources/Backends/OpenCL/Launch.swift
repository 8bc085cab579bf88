import COpenCL
import Compiler
import Graph

/// An argument of a launch, in the order of the kernel's parameters.
enum LaunchArgument {
    /// The memory of one of the schedule's values.
    case value(Int)
    /// Memory that lives for one group; the slots are shared by all groups.
    case scratch(Int)
    /// Memory of the program's own: a table of a mask, sorted degrees.
    case buffer(OpenCLBuffer)
    /// A 32-bit integer that depends on nothing but the batch.
    case integer(@Sendable (_ batch: Int) -> Int)

    static func extent(_ extent: Extent) -> LaunchArgument { .integer { extent.resolved(batch: $0) } }
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

/// A step of a lowered group.
enum Step {
    case launch(Launch)
    /// Work of the host's, with everything enqueued before it finished.
    case host((OpenCLHostContext) throws -> Void)
    case loop(OpenCLLoop)
}

/// A group as its device runs it.
struct LoweredGroup {
    var steps: [Step] = []
    /// Bytes wanted in each scratch slot.
    var scratch: [Int] = []
    /// Where the tiles that product kernels execute are counted, and how many there would be without a mask.
    var tileCounter: TileCounter?
}

struct TileCounter {
    var buffer: OpenCLBuffer
    var dense: @Sendable (_ batch: Int) -> Int
}

/// The parameters of a kernel and what they are bound to, side by side.
struct ParameterList {
    private(set) var text: [String] = []
    private(set) var names: [String] = []
    private(set) var arguments: [LaunchArgument] = []

    mutating func pointer(_ type: String, _ name: String, _ argument: LaunchArgument, constant: Bool = false) {
        text.append("__global \(constant ? "const " : "")\(type)* \(name)")
        names.append(name)
        arguments.append(argument)
    }

    mutating func integer(_ name: String, _ argument: LaunchArgument) {
        text.append("const int \(name)")
        names.append(name)
        arguments.append(argument)
    }

    var declaration: String { text.joined(separator: ", ") }
}

/// The source of a program under construction. Kernels with the same text are one kernel: what differs between them
/// (extents, strides, memory) is bound at launch.
struct KernelLibrary {
    private var names: [String: String] = [:]
    private var bodies: [String] = []
    private(set) var needsRandom = false
    private var preludes: [String] = []

    /// Adds a kernel whose text calls itself `KERNEL` and returns its name.
    mutating func add(_ text: String, prefix: String) -> String {
        if let name = names[text] { return name }
        let name = "\(prefix)_\(names.count)"
        names[text] = name
        bodies.append("#define KERNEL \(name)\n\(text)\n#undef KERNEL")
        return name
    }

    /// Adds text once, as it is.
    mutating func addOnce(_ text: String) { if !preludes.contains(text) { preludes.append(text) } }

    mutating func useRandom() { needsRandom = true }

    /// Adds what the functions of a program need beside its own text.
    mutating func use(_ program: Program) {
        if ProgramText.usesRandom(program) { useRandom() }
        for definition in ProgramText.definitions(of: program) { addOnce(definition) }
    }

    /// The whole program.
    var source: String {
        var parts = [KernelText.common]
        if needsRandom { parts.append(KernelText.random + "\n#pragma OPENCL FP_CONTRACT ON") }
        return (parts + preludes + bodies).joined(separator: "\n") + "\n"
    }
}
