import Datasets
import Likelihood

#if canImport(Glibc)
    import Glibc
#endif

/// Gives one reader damaged files, one after the other, from a folder in memory. The process ends where a reader crashes: the file
/// that it was given is there then.
struct Fuzzer {
    let target: Target
    /// Where the file lies.
    let folder: String
    private var random: SplitMix
    private(set) var counts = Counts()

    struct Counts {
        var inputs = 0
        /// Inputs that were read as if nothing were wrong with them.
        var accepted = 0
        /// In seconds, of the processor.
        var slowest = 0.0
    }

    /// A reader that took too much.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    init(_ target: Target, folder: String, seed: UInt64) {
        (self.target, self.folder) = (target, folder)
        random = SplitMix(state: seed)
    }

    var path: String { "\(folder)/\(target.file)" }

    /// A new folder in memory, or with other temporary files where there is none.
    static func makeFolder() -> String? {
        var template = Array("\(Files.isFolder("/dev/shm") ? "/dev/shm" : "/tmp")/martlet-fuzz-XXXXXX".utf8CString)
        return mkdtemp(&template).map { String(cString: $0) }
    }

    func removeFolder() {
        unlink(path)
        rmdir(folder)
    }

    /// Reads one more damaged file.
    /// - Throws: `Failure` for more than a second, or more memory than the file's content explains.
    mutating func step() throws {
        var bytes = target.seeds.randomElement(using: &random)!
        let other = target.seeds.randomElement(using: &random)!
        for _ in 0..<random.below(5) {
            Mutation.allCases.randomElement(using: &random)!.apply(
                &bytes, other: other, tokens: target.tokens, &random)
        }
        if random.below(4) != 0 { bytes = target.wrap(bytes) }
        // And what is around it, now and then.
        if random.below(4) == 0 {
            Mutation.allCases.randomElement(using: &random)!.apply(&bytes, other: other, tokens: [], &random)
        }
        try write(bytes)
        Self.resetPeak()
        let (before, start) = (Self.peak(), Self.processorTime())
        var size = 0
        do {
            size = try target.read(path)
            counts.accepted += 1
        } catch is FileError {
        } catch is UsageError {}
        let seconds = Self.processorTime() - start
        counts.inputs += 1
        counts.slowest = max(counts.slowest, seconds)
        let grown = Self.peak() - before
        guard grown <= 64 << 20 + 4 * size else {
            throw Failure(description: "took \(grown >> 20) MiB for content of \(size) bytes")
        }
        guard seconds < 1 else { throw Failure(description: "took \(seconds) s") }
    }

    private func write(_ bytes: [UInt8]) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw FileError(path, "cannot be written") }
        defer { close(descriptor) }
        let count = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        guard count == bytes.count else { throw FileError(path, "cannot be written") }
    }

    /// Lets the peak count from what the process has now: what came before would hide a reader that takes less than that. A kernel
    /// that cannot do it goes on counting from the start of the process.
    private static func resetPeak() {
        let descriptor = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        _ = Glibc.write(descriptor, "5", 1)
    }

    /// The most memory that the process has had, in bytes.
    static func peak() -> Int {
        var usage = rusage()
        getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
        return usage.ru_maxrss * 1024
    }

    static func processorTime() -> Double {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}
