import Distributions
import Graph
import Testing

@testable import Datasets

/// Small files of other people's programs, each of which stands for a kind: what they hold, or how they are refused.
@Suite struct CaseTests {
    private let folder = "/" + "\(#filePath)".split(separator: "/").dropLast().joined(separator: "/") + "/Cases"

    /// What a file is refused with.
    private func refusal(_ name: String, _ read: (String) throws -> Void) -> String {
        do throws {
            try read("\(folder)/\(name)")
            return "nothing: it was read"
        } catch {
            return "\(error)"
        }
    }

    private func sound(_ name: String) throws -> (samples: [Float], rate: Int) {
        try Sound.read(wav: Files.read("\(folder)/\(name)"), name: name)
    }

    /// A program that writes into a pipe cannot go back and say how much it wrote.
    @Test func soundsWhoseSizeWasNeverWritten() throws {
        let (piped, unpatched) = try (sound("pipe.wav"), sound("unpatched.wav"))
        #expect(piped.samples.count == 2000 && piped.rate == 8000)
        #expect(piped.samples.prefix(4).map { $0 * 32768 } == [0, 499, 998, 1494])
        #expect(unpatched.samples == piped.samples)
        // Nor may a size that was written go beyond the end.
        var short = try Files.read("\(folder)/unpatched.wav")
        short.replaceSubrange(40..<44, with: [0xFF, 0x10, 0, 0])
        let error = #expect(throws: FileError.self) { try Sound.read(wav: short, name: "short.wav") }
        #expect(error?.message.contains("ends within its chunk “data”") == true)
        // A recording of nothing.
        short.replaceSubrange(40..<44, with: [0, 0, 0, 0])
        #expect(try Sound.read(wav: Array(short[..<44]), name: "empty.wav").samples.isEmpty)
    }

    @Test(arguments: [
        ("mulaw-guid.wav", "16-bit mu-law"), ("extfloat.wav", "16-bit floats"), ("align.wav", "in blocks of 8 bytes"),
    ])
    func soundsOfOtherFormats(_ name: String, _ says: String) {
        let refusal = refusal(name) { _ in _ = try sound(name) }
        #expect(refusal.contains(says), "\(refusal)")
    }

    @Test func extensibleSounds() throws {
        // The case of floats, made one of PCM.
        var bytes = try Files.read("\(folder)/extfloat.wav")
        bytes[44] = 1
        #expect(try Sound.read(wav: bytes, name: "a").samples.map { $0 * 32768 } == [1, -2, 300, -32768])
        bytes[50] = 1
        #expect(throws: FileError.self) { try Sound.read(wav: bytes, name: "a") }
    }

    /// Text beside the arrays is no reason to refuse them, unless it is asked for.
    @Test func archivesWithOtherMembers() throws {
        let path = "\(folder)/with-strings.npz"
        let data = try Dataset(npz: path, name: "a", source: "")
        #expect(data.train.shape[1] == 4)
        let arrays = try NumPy.read(npz: path)
        #expect(arrays.keys.sorted() == ["test", "train", "valid"], "\(arrays.keys)")
        #expect(try ArrayFile.read(path, name: "valid") == arrays["valid"])
        let other = try #require(NumPyArchive(path).names.first { arrays[$0] == nil })
        #expect(throws: FileError.self) { try ArrayFile.read(path, name: other) }
        let error = #expect(throws: FileError.self) { try ArrayFile.read(path) }
        #expect(error?.message.contains("found train, valid, test") == true, "\(String(describing: error))")
        let absent = #expect(throws: FileError.self) { try NumPy.read(npz: path, ["images"]) }
        #expect(absent?.message.contains("expected the array images, found train") == true)
    }

    @Test(arguments: [
        ("structured.npy", "a structured array of the fields a, b, c"), ("fortran1.npy", "neither True nor False"),
        ("fortran_true_lc.npy", "not a dictionary of exactly"), ("extrakey.npy", "not a dictionary of exactly"),
        ("descr_x.npy", "type “xf4”"),
    ])
    func arraysWithOtherHeaders(_ name: String, _ says: String) {
        let refusal = refusal(name) { _ = try NumPy.read(npy: $0) }
        #expect(refusal.contains(says), "\(refusal)")
    }

    @Test(arguments: [
        ("semicolon.csv", "line 1, column 1", "commas, not semicolons"),
        ("first_row_semicolon.csv", "line 1, column 1", "commas, not semicolons"),
        ("first_row_na.csv", "line 1, column 1", "“NA”"), ("vt.csv", "line 1, column 2", "found “2\u{B}3”"),
        ("nel.csv", "line 1, column 2", "found “2\u{2028}3”"), ("numhdr.csv", "line 1, column 1", "“id”"),
    ])
    func tablesThatAreNotMeantSo(_ name: String, _ place: String, _ says: String) {
        let refusal = refusal(name) { _ = try CSV.read($0) }
        #expect(refusal.contains(place) && refusal.contains(says), "\(refusal)")
    }

    @Test func whatIsNoticedOfTables() throws {
        func notices(_ text: String) throws -> [String] {
            var notices: [String] = []
            _ = try CSV.decode(Array(text.utf8), "a.csv") { notices.append($0) }
            return notices
        }
        var found: [String] = []
        let index = try CSV.read("\(folder)/index.csv") { found.append($0) }
        #expect(index.shape == [3, 3])
        #expect(found.count == 2 && found[0].contains("“”, “a”, “b”") && found[1].contains("index=False"), "\(found)")
        #expect(try notices("0,1,2\n5,6,7\n")[0].contains("header=False"))
        #expect(
            try notices("a,b\n5,6\n") == ["line 1 is taken for the names of the columns, not for an example: “a”, “b”"])
        #expect(try notices("1,5\n2,6\n3,9\n")[0].contains("the first column counts the rows"))
        #expect(try notices("1,5\n2,6\n4,9\n").isEmpty)
        #expect(try notices("3\n4\n5\n").isEmpty)
    }

    @Test(arguments: [
        ("tail", "but 16 follow"), ("hole", "leave a hole"), ("dup", "names “a” twice"), ("leadspace", "not the JSON"),
        ("utf16", "not the JSON"), ("bool2", "boolean of value 2"),
    ])
    func weightsThatTheReferenceRefuses(_ name: String, _ says: String) {
        let refusal = refusal("\(name).safetensors") { _ = try SafeTensors.read($0) }
        #expect(refusal.contains(says), "\(refusal)")
    }

    /// What is finite in double precision, but infinite where it is used.
    @Test func valuesBeyondFloat32() throws {
        let array = try NumPy.read(npy: "\(folder)/f64_1e300.npy")
        #expect(array.isFinite && array.firstBeyondFloat32 == 0)
        let problem = VariableDomain.real.problem(in: array)
        #expect(problem?.hasPrefix("row 0, column 0 holds") == true && problem?.contains("3.4e38") == true)
        #expect(VariableDomain.real.problem(in: try NumPy.read(npy: "\(folder)/real.npy")) == nil)
    }
}
