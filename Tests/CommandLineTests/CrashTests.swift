import Datasets
import Graph
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// What a run leaves behind when it is killed, when its disk fails, or when the power is cut, at any call that touches its folder:
/// something that goes on, and ends in the bits of a run that nothing happened to.
///
/// A sample of the calls is taken here; `make crash-test` (`MARTLET_CRASH_TEST=1`) takes all of them.
@Suite(
    .serialized,
    .enabled(
        if: dlsym(nil, "__tsan_init") == nil && dlsym(nil, "__asan_init") == nil,
        "what is preloaded would stand before a sanitizer"))
struct CrashTests {
    private static let takesAll = getenv("MARTLET_CRASH_TEST") != nil
    private let session: CommandLineSession
    private let data: [String]
    /// What a run is given beside.
    private var more: [String] = []

    init() throws {
        session = try CommandLineSession()
        data = try session.data(rows: 60)
    }

    private static let faults = ["kill", "power", "bytes", "ENOSPC", "EDQUOT", "EIO"]

    // MARK: a run, with something happening to it

    private func arguments(_ device: String, runs: String) -> [String] {
        [
            "run", "made", "--runs", session.path(runs), "--name", "r", "--epochs", "2", "--device", device, "--set",
            "hidden=5", "--set", "batch=20",
        ] + data + more
    }

    /// Everything of a run that does not depend on the time.
    private struct Outcome: Equatable {
        let model: [UInt8]
        let metrics: [String]
        let state: [String: HostArray]

        init(_ folder: String) throws {
            model = try Files.read("\(folder)/model.safetensors")
            metrics = String(decoding: try Files.read("\(folder)/metrics.jsonl"), as: UTF8.self)
                .split(separator: "\n", omittingEmptySubsequences: false)
                .map { line in String(line[..<(line.firstRange(of: ",\"seconds\"")?.lowerBound ?? line.endIndex)]) }
            state = try SafeTensors.read("\(folder)/state.safetensors").arrays
        }
    }

    private func environment(_ fault: String, at call: Int, below root: String) -> [String] {
        [
            "LD_PRELOAD=\(CommandLineSession.built("libDiskFaults.so"))", "DISK_FAULTS_ROOT=\(session.path(root))",
            "DISK_FAULTS_LOG=\(session.path("calls"))", "DISK_FAULTS_SAVED=\(session.path("saved"))",
            "DISK_FAULTS_DO=\(fault)", "DISK_FAULTS_AT=\(call)",
        ]
    }

    /// The calls of the program's last start that touched the folder.
    private func calls() throws -> [Substring] { try session.text("calls").split(separator: "\n") }

    /// Which calls of so many something happens at: all of them, or some that are spread over them and differ from fault to fault.
    private func chosen(_ count: Int, _ fault: String, sample: Int) -> [Int] {
        if Self.takesAll { return Array(1...count) }
        let first = 1 + (Self.faults.firstIndex(of: fault) ?? 0)
        return Array(stride(from: first, through: count, by: max(1, count / sample)))
    }

    private func clean(_ names: String...) throws {
        for name in names + ["saved"] { try session.remove(name) }
        try Files.makeFolder(session.path("saved"))
    }

    /// Starts the program with a fault and checks that it ended as one may.
    /// - Returns: the epochs that it said were done.
    @discardableResult
    private func fail(_ arguments: [String], _ fault: String, at call: Int, below root: String) throws -> Int {
        let status = try session.start(arguments, environment: environment(fault, at: call, below: root)).wait()
        let lines = try session.text("errors").split(separator: "\n")
        // Beside epochs, what was found out about the data, and what a run goes on from.
        let errors = lines.filter { !$0.hasPrefix("epoch ") && !$0.hasPrefix("note: ") && !$0.contains("goes on") }
        let place = "\(fault) at \(try calls().last ?? "no call")"
        if ["kill", "power", "bytes"].contains(fault) {
            #expect(status == -SIGKILL, "\(place): \(status), \(errors)")
        } else {
            // Of what makes no difference, such as removing what an earlier process left, nothing is said.
            #expect(status >= 0, "\(place)")
            #expect(errors.count == (status == 0 ? 0 : 1), "\(place): \(errors)")
            #expect(errors.allSatisfy { $0.hasPrefix("Error: ") }, "\(place): \(errors)")
        }
        return lines.filter { $0.hasPrefix("epoch ") }.compactMap { number(after: "epoch ", in: $0) }.max() ?? 0
    }

    private func number(after words: String, in text: some StringProtocol) -> Int? {
        let text = String(text)
        return text.firstRange(of: words).flatMap { Int(text[$0.upperBound...].prefix(while: \.isNumber)) }
    }

    /// Goes on with a run, or begins it again where nothing is there, and compares its end.
    /// - Parameters:
    ///   - done: the epochs that are not to be done again.
    ///   - isSilent: whether nothing may be missing that the run would have to do without.
    private func expectTheEnd(
        _ whole: Outcome, _ device: String, _ place: String, after done: Int = 0, isSilent: Bool = false
    ) throws {
        let isThere = Files.exists(session.path("runs/r"))
        let goOn = isThere ? ["resume", session.path("runs/r")] : arguments(device, runs: "runs")
        let status = try session.start(goOn).wait()
        let errors = try session.text("errors")
        #expect(status == 0, "\(place): \(errors)")
        #expect(!isSilent || !errors.contains("goes on"), "\(place): \(errors)")
        let begun = try number(after: "goes on after epoch ", in: session.text("output")) ?? 0
        #expect(begun >= done, "\(place): \(done) epochs were done, and it goes on after \(begun)")
        guard status == 0 else { return }
        #expect(try Outcome(session.path("runs/r")) == whole, "\(place)")
        let left = try Files.list(session.path("runs")) + Files.list(session.path("runs/r"))
        #expect(!left.contains { $0.hasSuffix(".partial") }, "\(place): \(left)")
    }

    /// The CPU, and an OpenCL device where there is one.
    private func devices() throws -> [String] {
        try ["cpu"] + (session.run("devices").output.contains("opencl") ? ["opencl"] : [])
    }

    private func wholeRun(_ device: String) throws -> Outcome {
        try clean("runs", "whole-\(device)")
        let whole = session.path("whole-\(device)")
        let status = try session.start(
            arguments(device, runs: "whole-\(device)"),
            environment: environment("none", at: 0, below: "whole-\(device)")
        ).wait()
        let errors = try session.text("errors")
        try #require(status == 0, "\(errors)")
        return try Outcome("\(whole)/r")
    }

    @Test func runsGoOnAfterAnything() throws {
        for device in try devices() {
            let whole = try wholeRun(device)
            let count = try calls().count
            try #require(count > 100, "\(count) calls")
            for fault in Self.faults {
                let points = chosen(count, fault, sample: device == "cpu" ? 8 : 1)
                for call in points {
                    try clean("runs")
                    let done = try fail(arguments(device, runs: "runs"), fault, at: call, below: "runs")
                    // What the state counts was synced before it, and both of its renames after.
                    try expectTheEnd(
                        whole, device, "\(device), \(fault) at call \(call) of a run", after: done,
                        isSilent: fault == "power")
                }
                if Self.takesAll { print("\(device): \(fault) at each of \(points.count) calls of a run") }
            }
        }
    }

    /// Steps of another kind: what they have to remember is in the state, whenever they are killed.
    @Test(arguments: [
        ["optimizer=lbfgs", "schedule=constant", "averaging=0", "dropout=0", "history=2", "patience=0"],
        ["accumulate=2", "clipNorm=0.5"],
    ]) func otherStepsGoOnAfterAKill(_ settings: [String]) throws {
        var tests = self
        // Five epochs: an iteration of L-BFGS is one.
        tests.more = settings.flatMap { ["--set", $0] } + ["--epochs", "5"]
        let whole = try tests.wholeRun("cpu")
        let count = try tests.calls().count
        for call in tests.chosen(count, "kill", sample: 9) {
            try tests.clean("runs")
            let done = try tests.fail(tests.arguments("cpu", runs: "runs"), "kill", at: call, below: "runs")
            try tests.expectTheEnd(whole, "cpu", "\(settings[0]), killed at call \(call)", after: done)
        }
    }

    /// The numbers of the calls of a kind that touched a file.
    private func calls(_ kind: String, _ file: String) throws -> [Int] {
        try calls().enumerated().filter { $1.contains(" \(kind) /") && $1.hasSuffix("/\(file)") }.map { $0.offset + 1 }
    }

    /// A run that goes on, and has something happen to it again.
    @Test func resumedRunsGoOnAfterAnything() throws {
        for device in try devices().prefix(Self.takesAll ? 2 : 1) {
            let whole = try wholeRun(device)
            // Stopped within the line of an epoch, and between the two renames of a state.
            let (lines, renames) = try (calls("write", "metrics.jsonl"), calls("rename", "state.safetensors"))
            let stops = [("between", renames[2]), ("early", lines[0]), ("late", lines[1])]
            for (name, call) in stops.prefix(device == "cpu" ? 3 : 1) {
                try clean("runs", name)
                try fail(arguments(device, runs: "runs"), "kill", at: call, below: "runs")
                try session.copy("runs", to: name)
                let resume = ["resume", session.path("runs/r")]
                #expect(try session.start(resume, environment: environment("none", at: 0, below: "runs")).wait() == 0)
                let count = try calls().count
                for fault in Self.faults {
                    let points = chosen(count, fault, sample: 3)
                    for call in points {
                        try clean("runs")
                        try session.copy(name, to: "runs")
                        let done = try fail(resume, fault, at: call, below: "runs")
                        let place = "\(device), \(fault) at call \(call) of resume, \(name)"
                        try expectTheEnd(whole, device, place, after: done)
                    }
                    if Self.takesAll {
                        print("\(device): \(fault) at each of \(points.count) calls of resume, \(name)")
                    }
                }
            }
        }
    }

    /// An output is whole, or as it was before.
    @Test func outputsAreWholeOrAsBefore() throws {
        let images = ["run", "made-glyphs", "--runs", session.path("runs"), "--name", "r", "--epochs", "0"]
        #expect(try session.start(images + ["--set", "hidden=5"]).wait() == 0)
        for name in ["draws.npy", "draws.png"] {
            let out = session.path("out/\(name)")
            let sample = { ["sample", session.path("runs/r"), "--count", "40", "--out", out, "--seed", $0] }
            func draw(_ seed: String) throws -> [UInt8] {
                let status = try session.start(sample(seed), environment: environment("none", at: 0, below: "out"))
                    .wait()
                #expect(status == 0)
                return try Files.read(out)
            }
            try clean("out")
            try Files.makeFolder(session.path("out"))
            let (old, new) = try (draw("1"), draw("2"))
            let count = try calls().count
            for fault in Self.faults {
                for call in chosen(count, fault, sample: 2) {
                    try clean()
                    try Files.write(old, to: out)
                    try fail(sample("2"), fault, at: call, below: "out")
                    let found = try Files.read(out)
                    #expect(found == old || found == new, "\(fault) at call \(call)")
                    #expect(try draw("2") == new)
                    #expect(try Files.list(session.path("out")) == [name], "\(fault) at call \(call)")
                }
            }
            unlink(out)
        }
    }

    // MARK: several at a time

    /// Of two that go on with a run at the same moment one does, and the other is told so; or they do it one after the other.
    @Test func twoWritersRuinNothing() throws {
        let whole = try wholeRun("cpu")
        let call = try calls("write", "metrics.jsonl")[0]
        try clean("runs", "stopped")
        try fail(arguments("cpu", runs: "runs"), "kill", at: call, below: "runs")
        try session.copy("runs", to: "stopped")
        let resume = ["resume", session.path("runs/r")]
        for _ in 0..<(Self.takesAll ? 40 : 8) {
            try clean("runs")
            try session.copy("stopped", to: "runs")
            let both = try ["1", "2"].map { try session.start(resume, number: $0) }
            let statuses = both.map { $0.wait() }
            #expect(statuses.contains(0), "\(statuses)")
            for (status, number) in zip(statuses, ["1", "2"]) where status != 0 {
                let errors = try session.text("errors" + number)
                #expect(status == 1 && errors.contains("is in use by"), "\(status): \(errors)")
            }
            try expectTheEnd(whole, "cpu", "two at a time")
        }
    }

    /// Several that write one file each write it whole.
    @Test func writersOfOneFileDoNotMeet() throws {
        #expect(try session.start(arguments("cpu", runs: "runs")).wait() == 0)
        let out = session.path("out/z.npy")
        try Files.makeFolder(session.path("out"))
        let sample = ["sample", session.path("runs/r"), "--count", "2000", "--out", out]
        #expect(try session.start(sample).wait() == 0)
        let drawn = try Files.read(out)
        for _ in 0..<(Self.takesAll ? 30 : 4) {
            let all = try (1...3).map { try session.start(sample, number: "\($0)") }
            #expect(all.map { $0.wait() } == [0, 0, 0])
            #expect(try Files.read(out) == drawn)
            #expect(try Files.list(session.path("out")) == ["z.npy"])
        }
    }
}
