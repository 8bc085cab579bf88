import CPUKernels
import Compiler
import Graph
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// The vector instructions that the CPU kernels are compiled for; the widest that the processor has are chosen at run
/// time.
public enum InstructionSet: String, Sendable, CaseIterable {
    case portable, avx2, avx512

    var kernels: martlet_isa {
        switch self {
        case .portable: MARTLET_PORTABLE
        case .avx2: MARTLET_AVX2
        case .avx512: MARTLET_AVX512
        }
    }

    /// The widest that this processor has.
    public static var best: InstructionSet {
        switch martlet_best_isa() {
        case MARTLET_AVX512: .avx512
        case MARTLET_AVX2: .avx2
        default: .portable
        }
    }

    /// Those that this processor can run.
    public static var available: [InstructionSet] {
        allCases.filter { $0.kernels.rawValue <= martlet_best_isa().rawValue }
    }
}

/// The processor: vector code on all cores.
///
/// Results do not depend on the number of threads, to the bit; they may differ in the last bits between instruction
/// sets. Subnormal numbers are taken for zero.
public final class CPUDevice: Device, @unchecked Sendable {
    public let threads: Int
    public let instructionSet: InstructionSet
    let pool: OpaquePointer
    /// One program at a time uses the pool.
    let lock = Mutex(())

    public var name: String { "cpu" }

    public var summary: String {
        let vectors =
            switch instructionSet {
            case .portable: "portable"
            case .avx2: "AVX2"
            case .avx512: "AVX-512"
            }
        return "\(processorName()), \(vectors) vectors, \(threads) thread\(threads == 1 ? "" : "s")"
    }

    /// About as many as its cores do at most: two vectors in each cycle, at the clock of a server under load.
    public var multiplyAddsPerSecond: Double {
        let lanes =
            switch instructionSet {
            case .portable: 4.0
            case .avx2: 8.0
            case .avx512: 16.0
            }
        return Double(threads) * lanes * 2 * 2.5e9
    }

    /// About how long a draw takes: draws reach a fifth of what the cores do at most, and begin a step in two microseconds. Sixteen
    /// examples are a thread's; of fewer, two threads share the channels.
    public func predictedSeconds(_ program: SamplingProgram, batch: Int) -> Double {
        let busy = min(threads, max(2, (batch + 15) / 16))
        let rate = 0.2 * multiplyAddsPerSecond * Double(busy) / Double(threads)
        return Double(program.multiplyAdds) * Double(batch) / rate + Double(program.stepCount) * 2e-6
    }

    /// - Parameters:
    ///   - threads: as many as there are cores if absent.
    ///   - instructionSet: the widest of the processor if absent, or the one that `MARTLET_VECTOR` names; in place of
    ///     one that the processor does not have it takes the widest that it has.
    public init(threads: Int? = nil, instructionSet: InstructionSet? = nil) throws {
        let requested = threads ?? max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        guard (1...1024).contains(requested), let pool = martlet_pool_create(Int32(requested)) else {
            throw CPUError.noThreads(requested: requested)
        }
        self.pool = pool
        self.threads = requested
        let wanted =
            instructionSet ?? getenv("MARTLET_VECTOR").flatMap { InstructionSet(rawValue: String(cString: $0)) }
            ?? .best
        self.instructionSet = InstructionSet.available.contains(wanted) ? wanted : .best
    }

    deinit { martlet_pool_destroy(pool) }

    public func makeBuffer(byteCount: Int) throws -> any DeviceBuffer { try CPUBuffer(byteCount: byteCount) }

    public func load(
        _ schedule: Schedule, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws -> any Executable {
        try CPUExecutable(schedule, maximumBatch: maximumBatch, states: states, device: self)
    }

    public func load(
        _ program: SamplingProgram, maximumBatch: Int, states: [String: any DeviceBuffer]
    ) throws -> any SamplingExecutable {
        if let passes = program.fullPasses {
            return FullPassSampler(
                program, try load(passes.schedule, maximumBatch: maximumBatch, states: states),
                variable: passes.variable)
        }
        return try CPUSampler(program, maximumBatch: maximumBatch, states: states, device: self)
    }
}

private func processorName() -> String {
    guard let file = fopen("/proc/cpuinfo", "r") else { return "CPU" }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 512)
    while fgets(&line, Int32(line.count), file) != nil {
        let text = line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        if text.hasPrefix("model name"), let colon = text.firstIndex(of: ":") {
            return text[text.index(after: colon)...].split(whereSeparator: \.isWhitespace).joined(separator: " ")
        }
    }
    return "CPU"
}
