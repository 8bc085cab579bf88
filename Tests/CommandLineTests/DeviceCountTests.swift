import Datasets
import Testing

/// What a GPU would be asked to do, by a library that poses as one and runs nothing (Tests/MockOpenCL).
@Suite(.serialized) struct DeviceCountTests {
    let session: CommandLineSession

    init() throws {
        session = try CommandLineSession()
        // The program opens it by its usual name.
        try session.copy(absolute: CommandLineSession.built("libMockOpenCL.so"), to: "libOpenCL.so.1")
    }

    /// Lines of the log, and what the program said on standard error.
    private func bench(
        _ workload: String, _ what: String, limits: [String] = []
    ) throws -> (log: [[String]], errors: [String]) {
        let result = try session.run(
            ["bench", "--only", workload, "--what", what, "--device", "opencl:0", "--seconds", "0.01"],
            environment: [
                "LD_LIBRARY_PATH=\(session.folder)", "MOCK_LOG=\(session.path("log"))", "MARTLET_CACHE=/dev/null",
                "MARTLET_DEBUG=2",
            ] + limits)
        try #require(result.status == 0, "\(result.errors.suffix(500))")
        func lines(_ text: String) -> [String] { text.split(separator: "\n").map(String.init) }
        return (
            lines(try session.text("log")).map { $0.split(separator: " ").map(String.init) }, lines(result.errors)
        )
    }

    private func number(_ field: String) -> Int { field.split(separator: "=").last.flatMap { Int($0) } ?? 0 }

    /// The last whole step of a training run: what comes before the commands are handed to the device. The loss, which is read behind
    /// that, stands in front of it.
    private func step(_ log: [[String]]) throws -> [[String]] {
        let steps = log.split(separator: ["flush"]).filter { $0.contains { $0[0] == "launch" } }
        let step = try #require(steps.last)
        return Array(step.first == ["wait", "read", "4"] ? step.dropFirst() : step)
    }

    @Test(arguments: [("made", 13), ("realnvp", 107), ("pixelcnn", 130), ("glow", 624), ("wavenet", 285)])
    func trainingSteps(workload: String, launches: Int) throws {
        let step = try step(bench(workload, "train").log)
        let launched = step.filter { $0[0] == "launch" }
        #expect(launched.count <= launches, "\(workload)")
        #expect(!step.contains { $0[0] == "wait" }, "\(workload) waits within a step")
    }

    /// A step of a hundred thousand multiply-adds keeps 256 work-items busy, a work has two barriers at most, no launch is long, and no
    /// kernel has more arguments than every device takes.
    @Test(arguments: ["pixelcnn", "gated-pixelcnn", "wavenet", "image-transformer"])
    func draws(workload: String) throws {
        let (log, errors) = try bench(workload, "sample")
        let launched = log.filter { $0[0] == "launch" }
        #expect(launched.allSatisfy { number($0[4]) <= 512 })
        #expect(launched.contains { $0[1] == "martlet_sample" })
        var (steps, launches) = (0, 0)
        for line in errors {
            let words = line.split(separator: " ").map(String.init)
            if words.dropFirst().first == "steps" {
                // opencl:0: steps A..<B: W works, M multiply-adds, N work-items busy, K barriers, predicted T us
                let (works, multiplyAdds, busy, barriers) = (words[3], words[5], words[7], words[10])
                let (w, m, n, b) = try (
                    #require(Int(works)), #require(Int(multiplyAdds)), #require(Int(busy)), #require(Int(barriers))
                )
                // An average by multiply-adds, of which the first layer has a few.
                if m >= 100_000 { #expect(n >= 255, "\(line)") }
                #expect(b <= 2 * w + 1, "\(line)")
                steps += 1
            } else if words.dropFirst().first == "launch" {
                let seconds = try #require(Double(words[words.count - 2]))
                #expect(seconds <= 50_000, "\(line)")
                launches += 1
            }
        }
        #expect(steps > 0 && launches > 0)
    }

    /// Of a device with small groups, little local memory or small allocations, nothing asks for more; the library refuses what does.
    @Test(arguments: [64, 256], ["train", "sample"]) func smallDevice(group: Int, what: String) throws {
        let limits = ["MOCK_WORK_GROUP=\(group)", "MOCK_LOCAL=16384", "MOCK_ALLOCATION=\(256 << 20)"]
        for workload in ["made", "pixelcnn", "image-transformer"] {
            let (log, _) = try bench(workload, what, limits: limits)
            #expect(log.contains { $0[0] == "launch" }, "\(workload)")
            #expect(log.filter { $0[0] == "launch" }.allSatisfy { number($0[3]) <= group }, "\(workload)")
        }
    }

    /// A GPU is taken where it should be faster than the processor; an emulator that calls itself one is not, and that is said.
    @Test func whatAutoTakes() throws {
        func run(_ name: String) throws -> CommandLineSession.Result {
            try session.run(
                ["run", "made-glyphs", "--epochs", "0", "--runs", session.path("runs")],
                environment: ["LD_LIBRARY_PATH=\(session.folder)", "MOCK_NAME=\(name)", "MARTLET_CACHE=/dev/null"])
        }
        let emulated = try run("llvmpipe (LLVM 15)")
        #expect(emulated.status == 0 && emulated.errors.contains("--device opencl:0"), "\(emulated.errors)")
        #expect(emulated.output.contains("vectors"), "\(emulated.output)")
        let real = try run("Large GPU")
        #expect(real.output.contains("Large GPU") && !real.errors.contains("calls itself"), "\(real)")
        // A sound is a chain of 8000 small steps; sixteen images at a time are work for many units.
        func draws(_ workload: String) throws -> CommandLineSession.Result {
            try session.run(
                ["bench", "--only", workload, "--what", "sample", "--device", "auto", "--seconds", "0.01"],
                environment: ["LD_LIBRARY_PATH=\(session.folder)", "MOCK_NAME=Large GPU", "MARTLET_CACHE=/dev/null"])
        }
        let sound = try draws("wavenet")
        #expect(sound.status == 0 && sound.errors.contains("drawn on the processor"), "\(sound.errors)")
        let images = try draws("pixelcnn")
        #expect(images.status == 0 && !images.errors.contains("drawn on the processor"), "\(images.errors)")
    }

    /// In training the loss of a step is waited for behind the launches of the next one, and nothing else is waited for.
    @Test func trainingWaitsOneStepLate() throws {
        let result = try session.run(
            [
                "run", "made-glyphs", "--epochs", "1", "--set", "batch=500", "--device", "opencl:0", "--runs",
                session.path("runs"),
            ],
            environment: [
                "LD_LIBRARY_PATH=\(session.folder)", "MOCK_LOG=\(session.path("log"))", "MARTLET_CACHE=/dev/null",
            ])
        try #require(result.output.contains("parameters"), "\(result.errors)")
        // What lies between the waits for two losses: the launches of a step.
        let commands = try session.text("log").split(separator: "\n")
        let steps = commands.split { $0 == "wait event" }.dropFirst().dropLast()
        #expect(steps.count > 5)
        for step in steps.prefix(5) {
            #expect(step.contains { $0.hasPrefix("launch") } && step.contains("flush"))
            #expect(!step.contains { $0.hasPrefix("wait") }, "\(step)")
        }
    }

    /// Without a loader of OpenCL everything runs on the processor, and a device of OpenCL is said not to be there.
    @Test func noLoader() throws {
        try session.remove("libOpenCL.so.1")
        // An empty file is no library.
        let none = ["LD_LIBRARY_PATH=\(session.folder)"]
        try Files.write([], to: session.path("libOpenCL.so.1"))
        let cpu = try session.run(
            ["bench", "--only", "matmul-100x784x500", "--device", "cpu", "--seconds", "0.01"], environment: none)
        #expect(cpu.status == 0, "\(cpu.errors)")
        let auto = try session.run(["devices"], environment: none)
        #expect(auto.status == 0 && auto.output.contains("cpu") && !auto.output.contains("opencl:0"), "\(auto)")
        let opencl = try session.run(
            ["bench", "--only", "matmul-100x784x500", "--device", "opencl", "--seconds", "0.01"], environment: none)
        #expect(opencl.status != 0 && opencl.errors.contains("no OpenCL device found"), "\(opencl.errors)")
    }
}
