import Datasets
import Testing

@testable import Training

#if canImport(Glibc)
    import Glibc
#endif

/// What a state remembers of the metrics, and what is made of that.
@Suite struct RunFolderTests {
    private let folder: RunFolder

    init() throws {
        var template = Array("/tmp/martlet-folder-XXXXXX".utf8CString)
        folder = RunFolder(String(cString: try #require(mkdtemp(&template))))
    }

    /// Of long runs the last lines are remembered, whole ones, in bounded room.
    @Test func theEndOfTheMetricsIsKept() throws {
        var progress = TrainingProgress()
        var all = ""
        for epoch in 1...5000 {
            let line = #"{"epoch":\#(epoch),"valid_nats":1.2345}"#
            progress.add(metrics: line)
            all += line + "\n"
            #expect(progress.metricsEnd.utf8.count <= 1 << 16 && all.hasSuffix(progress.metricsEnd))
            #expect(progress.metricsEnd.hasPrefix(#"{"epoch""#), "\(epoch)")
        }
        #expect(progress.metricsLength == all.utf8.count && progress.metricsEnd.utf8.count > 1 << 14)
        #expect(try TrainingProgress(progress.metadata, "state").metricsEnd == progress.metricsEnd)
    }

    /// Lines that are neither in the file nor in the state are named, and the run goes on.
    @Test func lostLinesAreNamed() throws {
        let lines = (1...9).map { "line \($0)\n" }
        let end = lines[6...].joined()
        let length = lines.joined().utf8.count
        func restore(_ found: String) throws -> (String, Int, String?) {
            try Files.write(Array(found.utf8), to: folder.metrics)
            let (length, note) = try folder.restoreMetrics(length: length, end: end, epochs: 9)
            return (String(decoding: try Files.read(folder.metrics), as: UTF8.self), length, note)
        }
        for found in [lines.joined(), lines.joined() + "a line that the state does not count"] {
            let (text, kept, note) = try restore(found)
            #expect(text == lines.joined() && kept == length && note == nil)
        }
        let (text, kept, note) = try restore("line 1\nline 2\nli")
        #expect(text == "line 1\nline 2\n" + end && kept == text.utf8.count)
        #expect(note?.contains("the lines of epochs 3 to 6 are lost") == true, "\(note ?? "")")
        let (again, _, told) = try restore(lines[..<6].joined())
        #expect(again == lines.joined() && told?.contains("written again from the state") == true)
    }

    @Test func oneTrainerAtATimeHasTheLock() throws {
        var first: RunLock? = try RunLock(folder)
        let error = #expect(throws: FileError.self) { try RunLock(folder) }
        #expect(error?.description.contains("is in use by process \(getpid())") == true, "\(error?.description ?? "")")
        withExtendedLifetime(first) {}
        first = nil
        #expect(throws: Never.self) { try RunLock(folder) }
    }
}
