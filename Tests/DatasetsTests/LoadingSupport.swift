import CZip
import Graph
import Likelihood
import Testing

@testable import Datasets
@testable import fuzz_readers

/// Files of a test, and what loading them says.
struct Loading {
    let folder: TemporaryFolder
    init() throws { folder = try TemporaryFolder() }

    /// Writes a file and names it.
    @discardableResult func write(_ name: String, _ bytes: [UInt8]) throws -> String {
        let path = "\(folder.path)/\(name)"
        try Files.makeFolder(String(path[..<path.lastIndex(of: "/")!]))
        try Files.write(bytes, to: path)
        return path
    }

    @discardableResult func write(_ name: String, _ text: String) throws -> String { try write(name, Array(text.utf8)) }

    @discardableResult func write(_ name: String, _ array: HostArray) throws -> String {
        let path = "\(folder.path)/\(name)"
        try NumPy.write(array, npy: path)
        return path
    }

    /// An archive of arrays.
    func write(_ name: String, _ arrays: [(String, HostArray)]) throws -> String {
        let files = try arrays.map { name, array in
            ("\(name).npy", try Files.read(write("member.npy", array)))
        }
        return try write(name, Container.zip(files.map { (name: $0.0, bytes: $0.1) }))
    }

    func files(_ train: String, _ set: (inout DataFiles) -> Void = { _ in }) -> DataFiles {
        var files = DataFiles()
        files.train = train
        set(&files)
        return files
    }

    func load(
        _ train: String, as wanted: ExampleKind? = nil, seed: UInt64 = 1, _ set: (inout DataFiles) -> Void = { _ in }
    ) throws -> (LoadedFiles, [String]) {
        var notices: [String] = []
        let loaded = try files(train, set).load(as: wanted, seed: seed) { notices.append($0) }
        return (loaded, notices)
    }

    /// What loading is refused with.
    func refusal(
        _ train: String, as wanted: ExampleKind? = nil, _ set: (inout DataFiles) -> Void = { _ in }
    ) -> String {
        do {
            _ = try load(train, as: wanted, set)
            return "nothing: it was read"
        } catch {
            #expect(error is FileError || error is UsageError, "\(error)")
            let text = "\(error)"
            #expect(!text.contains("\n"))
            return text
        }
    }
}

/// Rows of a table as text, each of which a function of its number makes.
func lines(_ count: Int, _ row: (Int) -> String) -> String { (0..<count).map { row($0) + "\n" }.joined() }

/// The folder of real data beside the repository, where there is one.
let sharedData: String? = {
    let root = "/" + "\(#filePath)".split(separator: "/").dropLast(3).joined(separator: "/")
    let folder = "\(root)/../shared/data"
    return Files.isFolder(folder) ? folder : nil
}()
