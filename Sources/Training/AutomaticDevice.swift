import CPU
import Compiler
import Graph
import OpenCL
import Synchronization

/// The GPU that `auto` takes, beside the processor, which draws what it should draw sooner: one sound of a WaveNet is a chain of 8000 small
/// steps, of which a GPU has no use for most of its units.
///
/// Both times are predicted, by the model that plans a draw on the GPU and by what draws reach on a processor.
final class AutomaticDevice: Device {
    let gpu: OpenCLDevice
    private let processor: CPUDevice
    private let note: @Sendable (String) -> Void
    /// What was said already, as every epoch may draw.
    private let said = Mutex(Set<String>())

    /// - Parameter note: is told where a draw goes to the processor, once for each kind of draw.
    init(_ gpu: OpenCLDevice, _ processor: CPUDevice, note: @escaping @Sendable (String) -> Void) {
        (self.gpu, self.processor, self.note) = (gpu, processor, note)
    }

    var name: String { gpu.name }
    var summary: String { gpu.summary }

    func makeBuffer(byteCount: Int) throws -> any DeviceBuffer { try gpu.makeBuffer(byteCount: byteCount) }

    func load(_ schedule: Schedule, maximumBatch: Int, states: [String: any DeviceBuffer]) throws -> any Executable {
        try gpu.load(schedule, maximumBatch: maximumBatch, states: states)
    }

    func load(
        _ program: SamplingProgram, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws -> any SamplingExecutable {
        let own = processor.predictedSeconds(program, batch: maximumBatch)
        guard let other = try gpu.predictedSeconds(program, batch: maximumBatch), own < other else {
            return try gpu.load(program, maximumBatch: maximumBatch, states: states)
        }
        func milliseconds(_ seconds: Double) -> String { "\(Int((seconds * 1e3).rounded(.up))) ms" }
        let line =
            "\(maximumBatch) examples at a time are drawn on the processor, which should take \(milliseconds(own)) where "
            + "\(gpu.name) should take \(milliseconds(other)); `--device \(gpu.name)` draws there"
        if said.withLock({ $0.insert(line).inserted }) { note(line) }
        return try MovedSampler(program, on: processor, maximumBatch: maximumBatch, states: states)
    }
}

/// A sampler on another device than its weights, which are copied before each draw.
private final class MovedSampler: SamplingExecutable {
    private let sampler: any SamplingExecutable
    private let states: [(source: any DeviceBuffer, copy: any DeviceBuffer)]
    private let copiedBytes: Int

    var program: SamplingProgram { sampler.program }
    var maximumBatch: Int { sampler.maximumBatch }
    var plannedBytes: Int { sampler.plannedBytes + copiedBytes }

    init(
        _ program: SamplingProgram, on device: any Device, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws {
        let names = Set(program.stateNames)
        let copies = try states.filter { names.contains($0.key) }.mapValues {
            (source: $0, copy: try device.makeBuffer(byteCount: $0.byteCount))
        }
        self.states = Array(copies.values)
        copiedBytes = copies.values.reduce(0) { $0 + $1.copy.byteCount }
        sampler = try device.load(program, maximumBatch: maximumBatch, states: copies.mapValues(\.copy))
    }

    func run(_ feeds: [String: HostArray], batch: Int) throws -> [HostArray] {
        for (source, copy) in states {
            var bytes = [UInt8](repeating: 0, count: source.byteCount)
            try bytes.withUnsafeMutableBytes { try source.read(into: $0) }
            try bytes.withUnsafeBytes { try copy.write($0) }
        }
        return try sampler.run(feeds, batch: batch)
    }
}
