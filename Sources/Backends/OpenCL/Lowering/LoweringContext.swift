import Compiler
import Graph

/// What the groups of a schedule share while they are lowered: the program's text and the tables that it will have on the device.
/// Nothing is enqueued.
public struct LoweringContext {
    public let device: OpenCLDevice
    /// The values of the schedule; operands name them by number.
    public let values: [Value]
    public let maximumBatch: Int
    private var library = KernelLibrary()
    /// The names of operations that brought text of their own.
    private var operations: [String] = []
    private var memory: [OwnedMemory] = []
    private var tables: [[Int32]: LaunchArgument] = [:]
    private var degrees: [RuntimeDegreesKey: RuntimeDegrees] = [:]
    private var loops: [LoopPlan] = []

    /// How kernels are to be written.
    public var family: KernelFamily { device.family }
    /// How many work-groups (GPU) or threads (processor) the device runs at once, at least.
    public var computeUnits: Int { device.description.computeUnits }

    init(_ device: OpenCLDevice, values: [Value], maximumBatch: Int) {
        self.device = device
        self.values = values
        self.maximumBatch = maximumBatch
    }

    /// Adds a kernel's OpenCL C 1.2, in which the kernel is called `KERNEL`. Functions beside it are called
    /// `MARTLET_NAME(KERNEL, _function)`, so that they are its own; macros are taken back at the end. The text of Kernels/common.cl is in
    /// front of it.
    /// - Returns: the name for `LoweredGroup.Step.launch`. Equal texts are one kernel.
    public mutating func kernel(_ text: String, prefix: String) -> String { library.add(text, prefix: prefix) }

    /// Puts the functions of Kernels/include/MartletRandom.h in front of the program.
    public mutating func useRandom() { library.useRandom() }

    /// A constant table on the device; equal tables are one.
    public mutating func table(_ table: [Int32]) -> LaunchArgument {
        if let known = tables[table] { return known }
        let argument = own(.table(table))
        tables[table] = argument
        return argument
    }

    // MARK: - For the groups of this module

    /// Adds what the functions of a program need beside its own text.
    mutating func use(_ program: Program) { library.use(program) }

    /// Adds kernels with names of their own, once.
    mutating func addOnce(_ text: String) { library.addOnce(text) }

    /// Adds the text of an operation.
    /// - Parameter names: of the kernels in it, macros for `MARTLET_NAME(KERNEL, _<name>)`.
    mutating func kernels(_ text: String, of operation: String, names: [String]) -> String {
        if !operations.contains(operation) { operations.append(operation) }
        return library.add(text, prefix: "operation", further: names)
    }

    /// A loop's place in the program.
    mutating func add(_ loop: LoopPlan) -> Int {
        loops.append(loop)
        return loops.count - 1
    }

    /// Where the sorted degrees of a pair of values go.
    mutating func runtimeDegrees(_ key: RuntimeDegreesKey, inputs: Int, outputs: Int) -> RuntimeDegrees {
        if let known = degrees[key] { return known }
        let made = RuntimeDegrees(
            inputOrder: own(.uninitialized(byteCount: inputs * 4)),
            outputOrder: own(.uninitialized(byteCount: outputs * 4)),
            extents: own(.uninitialized(byteCount: outputs * 4)), starts: own(.uninitialized(byteCount: inputs * 4)),
            inputPlace: own(.uninitialized(byteCount: inputs * 4)),
            outputPlace: own(.uninitialized(byteCount: outputs * 4)))
        degrees[key] = made
        return made
    }

    /// A counter of tiles, where the device counts them.
    mutating func tileCounter(dense: @escaping @Sendable (_ batch: Int) -> Int) -> TileCounter? {
        guard device.countsTiles else { return nil }
        memory.append(.zeros(byteCount: 4))
        return TileCounter(memory: memory.count - 1, dense: dense)
    }

    private mutating func own(_ contents: OwnedMemory) -> LaunchArgument {
        memory.append(contents)
        return .owned(memory.count - 1)
    }

    /// What the runtime loads.
    /// - Parameter groups: those of the schedule.
    func program(_ groups: [LoweredGroup], of schedule: Schedule) -> LoweredProgram {
        let order = LaunchOrder(groups, of: schedule, library, self)
        return LoweredProgram(
            source: library.source(order.joined), operations: operations, groups: groups, order: order, memory: memory,
            loops: loops)
    }
}
