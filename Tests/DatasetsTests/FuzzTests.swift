import Testing

@testable import fuzz_readers

@Suite struct FuzzTests {
    /// A short part of what `make fuzz` does, always the same.
    @Test(arguments: Target.all.map(\.name))
    func damagedFilesAreReadOrRefused(_ name: String) throws {
        let target = try #require(Target.all.first { $0.name == name })
        var fuzzer = Fuzzer(target, folder: try #require(Fuzzer.makeFolder()), seed: 1)
        defer { fuzzer.removeFolder() }
        for _ in 0..<300 { try fuzzer.step() }
        // Seeds arrive whole now and then.
        #expect(fuzzer.counts.accepted > 10)
    }
}
