import CPU
import Datasets
import Graph
import Likelihood
import Models
import Testing

@testable import Training

#if canImport(Glibc)
    import Glibc
#endif

/// A model, fitted to arrays in one call; and what it refuses, as a thrown, typed error in one line.
@Suite struct FitTests {
    private let device: CPUDevice
    private let bits = Examples((0..<64).map { code in (0..<6).map { Float(code >> $0 & 1) } })

    init() throws { device = try CPUDevice(threads: 1) }

    private func silent(_ report: Trainer.ProgressReport) {}

    /// Half a run, gone on with from its folder, ends in the bits of a whole one; its weights load again.
    @Test func foldersAreGoneOnWith() throws {
        var template = Array("/tmp/martlet-fit-XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        let model = { try MADE([6]) { $0.hidden = [9] } }
        func fit(_ epochs: Int, in folder: String?) throws -> Run {
            try model().fit(
                bits, on: device, folder: folder,
                {
                    $0.epochs = epochs
                    $0.batch = 20
                    $0.learningRate = 0.01
                }, report: silent)
        }
        let whole = try fit(6, in: nil)
        let stopped = try fit(6, in: folder)
        #expect(try stopped.evaluations(bits) == whole.evaluations(bits))
        // Finished: nothing more is done, and the weights are the same.
        #expect(try fit(6, in: folder).evaluations(bits) == whole.evaluations(bits))
        #expect(
            try model().load("\(folder)/model.safetensors", on: device).evaluations(bits) == whole.evaluations(bits))
    }

    /// Weights without a state are not overwritten.
    @Test func weightsAreNotOverwritten() throws {
        var template = Array("/tmp/martlet-fit-XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        let run = try Run(MADE([6]) { $0.hidden = [9] }, device: device)
        try run.initialize()
        try run.save(weights: "\(folder)/model.safetensors")
        let before = try Files.read("\(folder)/model.safetensors")
        #expect(throws: FileError.self) {
            try MADE([6]) { $0.hidden = [9] }.fit(bits, on: device, folder: folder, { $0.epochs = 1 }, report: silent)
        }
        #expect(try Files.read("\(folder)/model.safetensors") == before)
    }

    /// One writer at a time.
    @Test func foldersInUseAreRefused() throws {
        var template = Array("/tmp/martlet-fit-XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        let lock = try RunLock(RunFolder(folder))
        let error = #expect(throws: FileError.self) {
            try MADE([6]) { $0.hidden = [9] }.fit(bits, on: device, folder: folder, { $0.epochs = 1 }, report: silent)
        }
        #expect(error?.description.contains("is in use by process") == true, "\(error?.description ?? "")")
        #expect(try Files.list(folder) == ["lock"])
        withExtendedLifetime(lock) {}
    }

    /// Class and features reach training, figures and draws.
    @Test func conditionsAreRead() throws {
        let given = (0..<200).map { (row: Int) -> Float in row % 2 == 0 ? -2 : 2 }
        let around = { (row: Int) -> Float in row % 2 == 0 ? -5 : 5 }
        let features = HostArray(given, shape: [200, 1])
        let values = HostArray((0..<200).map { around($0) + Float($0 % 7) / 20 }, shape: [200, 1])
        let run = try Flow.maf(variables: 1, layers: 2, hidden: [16], features: 1).fit(
            Examples(values, features: features), on: device,
            {
                $0.epochs = 150
                $0.learningRate = 0.02
            }, report: silent)
        let drawn = try run.sample(count: 20, SamplingOptions(features: features.rows(0..<20))).examples.floats
        for (index, value) in drawn.enumerated() { #expect(abs(value - around(index)) < 3) }
    }

    @Test func badInputIsRefused() throws {
        func message(_ body: () throws -> Void) -> String {
            do {
                try body()
                return "nothing was thrown"
            } catch let error as UsageError {
                return error.description
            } catch let error as FileError {
                return error.description
            } catch {
                return "another error: \(error)"
            }
        }
        let made = try MADE([6]) { $0.hidden = [9] }
        let flow = Flow.maf(variables: 6, layers: 1, hidden: [8], features: 2)
        let image = try GatedPixelCNN(ExampleShape([1, 2, 3], classes: 2)) {
            $0.channels = 4
            $0.blocks = 1
            $0.headChannels = 2
        }
        let cases: [(String, String)] = [
            ("hidden: expected", message { _ = try MADE([6]) { $0.hidden = [0] } }),
            ("kernel: expected an odd", message { _ = try PixelCNN([1, 4, 4]) { $0.kernel = 2 } }),
            ("latents: expected 2 to 4096, found 1", message { _ = try VAE([6]) { $0.latents = 1 } }),
            ("learningRate: expected", message { _ = try made.fit(bits, on: device, { $0.learningRate = -1 }) }),
            ("expected examples of 6 variables", message { _ = try made.fit(Examples([[0, 1]]), on: device) }),
            ("holds 0.5; expected 0 or 1", message { _ = try made.fit(Examples([[0, 1, 0, 1, 0, 0.5]]), on: device) }),
            ("two examples or more", message { _ = try made.fit(Examples([[0, 1, 0, 1, 0, 1]]), on: device) }),
            ("give them beside the examples", message { _ = try flow.fit(bits, on: device) }),
            (
                "expected features [64, 2], found [64, 3]",
                message {
                    _ = try flow.fit(
                        Examples(bits.rows, features: HostArray(type: .float32, shape: [64, 3])), on: device)
                }
            ),
            ("give the class of each example", message { _ = try image.fit(bits, on: device) }),
            (
                "expected 64 classes from 0 to 1, found 3",
                message { _ = try image.fit(Examples(bits.rows, labels: [0, 1, 1]), on: device) }
            ),
            (
                "expected 64 classes from 0 to 1, found 64 from 0 to 2",
                message { _ = try image.fit(Examples(bits.rows, labels: (0..<64).map { $0 % 3 }), on: device) }
            ),
        ]
        for (part, found) in cases { #expect(found.contains(part), "\(part): \(found)") }
    }

    /// A weights file of another model changes nothing.
    @Test func foreignWeightsAreRefused() throws {
        var template = Array("/tmp/martlet-fit-XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        let other = try Run(MADE([6]) { $0.hidden = [5] }, device: device)
        try other.initialize()
        try other.save(weights: "\(folder)/other.safetensors")
        let run = try Run(MADE([6]) { $0.hidden = [9] }, device: device)
        try run.initialize()
        let before = try run.evaluations(bits)
        #expect(throws: FileError.self) { try run.load(weights: "\(folder)/other.safetensors") }
        #expect(try run.evaluations(bits) == before)
    }
}
