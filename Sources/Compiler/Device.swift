import Graph

/// Something that runs schedules: the CPU backend or an OpenCL device. Nothing above this protocol knows which.
public protocol Device: AnyObject, Sendable {
    /// `cpu`, `opencl:0`, ..
    var name: String { get }
    /// What a person would call it, with driver and version.
    var summary: String { get }

    /// Zeroed memory that outlives a run.
    func makeBuffer(byteCount: Int) throws -> any DeviceBuffer

    /// Prepares a schedule for batches of up to `maximumBatch` examples. Every state of the schedule is found in `states` by
    /// name; programs that share a buffer share the state.
    func load(_ schedule: Schedule, maximumBatch: Int, states: [String: any DeviceBuffer]) throws -> any Executable

    /// Prepares a sampler for batches of up to `maximumBatch` examples.
    func load(_ program: SamplingProgram, maximumBatch: Int, states: [String: any DeviceBuffer]) throws
        -> any SamplingExecutable
}

/// Memory on a device.
public protocol DeviceBuffer: AnyObject, Sendable {
    var byteCount: Int { get }
    func write(_ source: UnsafeRawBufferPointer) throws
    func read(into target: UnsafeMutableRawBufferPointer) throws
}

/// What a program is fed: an array of the host's, or one that is already on the device.
public enum Feed: Sendable {
    case host(HostArray)
    case device(any DeviceBuffer)
}

/// A schedule that is ready to run on one device.
public protocol Executable: AnyObject {
    var schedule: Schedule { get }
    var maximumBatch: Int { get }
    /// Bytes of device memory that the program holds beside its states and fed buffers.
    var plannedBytes: Int { get }

    /// Runs every group and waits. `feeds` are matched to the schedule's inputs by name, and there must be one for each and no
    /// other; the result holds the schedule's outputs in order.
    func run(_ feeds: [String: Feed], batch: Int) throws -> [HostArray]

    /// Begins what `run` does, and does not wait for a device that goes on by itself.
    func start(_ feeds: [String: Feed], batch: Int) throws -> StartedRun

    /// Runs every group as `run` does, one after another, and says how long each took: one time for each group of the schedule, in order.
    func profile(_ feeds: [String: Feed], batch: Int) throws -> [GroupTime]

    /// Runs one group, for comparing devices: the caller writes the group's inputs first and reads its outputs after.
    func run(group: Int, batch: Int) throws
    func write(_ array: HostArray, to value: Int, batch: Int) throws
    func read(_ value: Int, batch: Int) throws -> HostArray
}

/// A run that a device may still be at. What is started after it runs after it.
public struct StartedRun {
    /// Whether the outputs are there already.
    public let isFinished: Bool
    private let wait: () throws -> [HostArray]

    /// - Parameter wait: waits for the outputs.
    public init(waiting wait: @escaping () throws -> [HostArray]) { (isFinished, self.wait) = (false, wait) }

    public init(finished outputs: [HostArray]) { (isFinished, wait) = (true, { outputs }) }

    /// The schedule's outputs, in order.
    public func outputs() throws -> [HostArray] { try wait() }
}

extension Executable {
    /// The host runs it by itself.
    public func start(_ feeds: [String: Feed], batch: Int) throws -> StartedRun {
        StartedRun(finished: try run(feeds, batch: batch))
    }

    /// Fills the temporaries that a group is the first to write with zeros, for comparisons group by group: the group
    /// may write only its part of a concatenation, and the rest would be what other values left in that memory.
    ///
    /// - Parameter written: the values that earlier groups have written; those that this one writes are added.
    public func clearFirstWrites(of group: Int, written: inout Set<Int>, batch: Int) throws {
        for id in schedule.groups[group].writes where written.insert(id).inserted {
            guard case .temporary = schedule.values[id].storage else { continue }
            let type = schedule.values[id].type
            try write(HostArray(type: type.element, shape: type.shape.resolved(batch: batch)), to: id, batch: batch)
        }
    }
}

/// A sampler that is ready to run on one device.
public protocol SamplingExecutable: AnyObject {
    var program: SamplingProgram { get }
    var maximumBatch: Int { get }
    /// Bytes of device memory that the sampler holds beside its states.
    var plannedBytes: Int { get }

    /// Draws `batch` examples. The result holds the variable and the program's outputs, `[batch, ..]`.
    func run(_ feeds: [String: HostArray], batch: Int) throws -> [HostArray]
}

extension TensorType {
    /// The size of an array of `batch` examples.
    public func byteCount(batch: Int) -> Int { shape.count.resolved(batch: batch) * element.byteCount }
}

extension HostArray {
    /// Reads a whole buffer.
    public init(reading buffer: any DeviceBuffer, type: ElementType, shape: [Int]) throws {
        self.init(type: type, shape: shape)
        try withUnsafeMutableBytes { try buffer.read(into: $0) }
    }
}

/// An error of more than one line: what a device's compiler says, for example.
public protocol DetailedError: Error {
    /// What was expected, what was found and what to do, in one line.
    var summary: String { get }
    /// The lines that follow.
    var details: [String] { get }
}
