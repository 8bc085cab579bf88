import CZip
import Distributions
import Graph
import Testing

@testable import Datasets
@testable import Likelihood
@testable import fuzz_readers

#if canImport(Glibc)
    import Glibc
#endif

@Suite struct MemoryTests {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    private func write(_ text: String, _ path: String) throws {
        let full = folder.path + path
        try Files.makeFolder(String(full[..<full.lastIndex(of: "/")!]))
        try Files.write(Array(text.utf8), to: full)
    }

    /// What is left is the least that is left of the machine's memory and of any group's, in both versions of control groups.
    @Test func limitsOfControlGroups() throws {
        try write("MemTotal: 4096 kB\nMemFree: 1 kB\nMemAvailable: 2048 kB\n", "/proc/meminfo")
        func bounds() -> (limit: Double, rest: Double) {
            let bounds = HostMemory.bounds(folder.path)
            return (bounds.map(\.limit).min()!, bounds.map(\.rest).min()!)
        }
        #expect(bounds() == (4096 * 1024, 2048 * 1024))
        // The second version: of a group above, with files that can be given up.
        try write("0::/user/job\n", "/proc/self/cgroup")
        try write("max\n", "/sys/fs/cgroup/user/job/memory.max")
        try write("1000000\n", "/sys/fs/cgroup/user/memory.max")
        try write("700000\n", "/sys/fs/cgroup/user/memory.current")
        try write("anon 500000\ninactive_file 150000\n", "/sys/fs/cgroup/user/memory.stat")
        #expect(bounds() == (1_000_000, 450_000))
        // The first, whose unlimited groups have a number too.
        try write("5:cpu,cpuacct:/\n4:memory:/job\n", "/proc/self/cgroup")
        try write("9223372036854771712\n", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
        try write("900000\n", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
        try write("800000\n", "/sys/fs/cgroup/memory/job/memory.limit_in_bytes")
        try write("600000\n", "/sys/fs/cgroup/memory/job/memory.usage_in_bytes")
        #expect(bounds() == (800_000, 200_000))
    }

    @Test func thisProcessHasMemory() {
        #expect(HostMemory.available > 0x1p26 && HostMemory.available <= HostMemory.bytes)
        #expect(HostMemory.text(1.5e6) == "2 MiB" && HostMemory.text(0x1p30 * 1.26) == "1.3 GiB")
    }

    /// A header that names half a terabyte is answered with both sizes, and nothing is allocated.
    @Test func whatDoesNotFitIsRefusedBefore() throws {
        let path = "\(folder.path)/a.idx.gz"
        let file = try #require(gzopen(path, "wb"))
        gzwrite(file, [0, 0, 8, 2, 0, 0x80, 0, 0, 0, 1, 0, 0] as [UInt8], 12)
        gzclose(file)
        let error = #expect(throws: FileError.self) { try IDX.read(path) }
        #expect(error?.message.hasPrefix("takes 512.0 GiB of memory, of which") == true, "\(error!)")
    }

    /// The same file for several sets lies in memory once.
    @Test func aFileThatIsNamedTwiceIsReadOnce() throws {
        let path = "\(folder.path)/a.npy"
        try NumPy.write(HostArray([1, 2.5, 3, 4] as [Float], shape: [2, 2]), npy: path)
        var files = DataFiles()
        (files.train, files.valid, files.test) = (path, path, path)
        let data = try files.load(seed: 1).dataset
        let places = Set([data.train, data.valid, data.test].map { $0.withUnsafeBytes { $0.baseAddress } })
        #expect(places.count == 1)
    }

    /// Checks of a domain look at elements one by one.
    @Test func checksTakeNoMemory() {
        let array = HostArray([UInt8](repeating: 1, count: 1 << 27), shape: [1 << 20, 128])
        let before = Fuzzer.peak()
        for domain in [VariableDomain.binary, .levels(2), .levels(256), .real] {
            #expect(domain.problem(in: array) == nil)
        }
        // The thread sanitizer keeps a shadow of what is read.
        if dlsym(nil, "__tsan_init") == nil { #expect(Fuzzer.peak() - before < 1 << 25) }
        var changed = array
        changed.withUnsafeMutableBytes { $0[128 * 77 + 5] = 3 }
        #expect(VariableDomain.binary.problem(in: changed)?.hasPrefix("row 77, column 5 holds 3.0") == true)
        #expect(VariableDomain.levels(3).problem(in: changed)?.contains("from 0 to 2") == true)
    }
}
