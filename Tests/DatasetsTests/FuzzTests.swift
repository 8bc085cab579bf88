import Testing

#if canImport(Glibc)
    import Glibc
#endif

@testable import fuzz_readers

@Suite struct FuzzTests {
    /// A short part of what `make fuzz` does, always the same.
    @Test(
        .enabled(if: dlsym(nil, "__tsan_init") == nil, "the thread sanitizer's own time would count"),
        arguments: Target.all.map(\.name))
    func damagedFilesAreReadOrRefused(_ name: String) throws {
        let target = try #require(Target.all.first { $0.name == name })
        var fuzzer = Fuzzer(target, folder: try #require(Fuzzer.makeFolder()), seed: 1)
        defer { fuzzer.removeFolder() }
        for _ in 0..<300 { try fuzzer.step() }
        // Seeds arrive whole now and then.
        #expect(fuzzer.counts.accepted > 10)
    }

    /// What a reader takes too much of is found.
    @Test func readersThatTakeTooMuch() throws {
        // Other tests of this process may have had more than this one has now, and not every kernel lets that be forgotten.
        let greedy = Target(name: "greedy", file: "a", seeds: [[1]]) { _ in
            let count = 1 << 28 + max(0, Fuzzer.peak() - (try Self.resident()))
            return [UInt8](repeating: 1, count: count).contains(0) ? 1 : 0
        }
        let slow = Target(name: "slow", file: "a", seeds: [[1]]) { _ in
            let end = Fuzzer.processorTime() + 1.01
            while Fuzzer.processorTime() < end {}
            return 0
        }
        for (target, says) in [(greedy, "MiB for content of 0 bytes"), (slow, "took 1.")] {
            var fuzzer = Fuzzer(target, folder: try #require(Fuzzer.makeFolder()), seed: 1)
            defer { fuzzer.removeFolder() }
            let failure = #expect(throws: Fuzzer.Failure.self) { try fuzzer.step() }
            #expect(failure?.description.contains(says) == true, "\(String(describing: failure))")
        }
    }

    /// The memory that the process has now, in bytes.
    private static func resident() throws -> Int {
        let descriptor = open("/proc/self/statm", O_RDONLY)
        defer { close(descriptor) }
        let text = String(unsafeUninitializedCapacity: 256) { max(0, read(descriptor, $0.baseAddress!, $0.count)) }
        return try #require(Int(text.split(separator: " ").dropFirst().first ?? "")) * sysconf(Int32(_SC_PAGESIZE))
    }
}
