import Datasets
import Graph
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// What keeps a run's folder whole: one writer, saves on every signal, damage that is found and survived, names that stay where they
/// belong, lines that move no cursor.
@Suite(.serialized) struct RunFolderTests {
    private let session: CommandLineSession
    private let data: [String]

    init() throws {
        session = try CommandLineSession()
        data = try session.data()
    }

    private func arguments(_ name: String, epochs: Int = 3) -> [String] {
        [
            "run", "made", "--runs", session.folder, "--name", name, "--device", "cpu", "--epochs", "\(epochs)",
            "--set", "hidden=24,17", "--set", "patience=0",
        ] + data
    }

    private func train(_ name: String) throws -> String {
        let status = try session.start(arguments(name)).wait()
        let errors = try session.text("errors")
        #expect(status == 0, "\(errors)")
        return session.path(name)
    }

    /// A run that goes on until it is stopped, after its first epoch.
    private func startLong(_ name: String, shell: String? = nil) throws -> CommandLineSession.Process {
        let process = try session.start(arguments(name, epochs: 1_000_000), shell: shell, number: name)
        while (try? Files.read(session.path("\(name)/metrics.jsonl")).isEmpty) ?? true { usleep(500) }
        return process
    }

    @Test func aRunHasOneWriter() throws {
        let process = try startLong("long")
        defer { kill(process.id, SIGKILL) }
        let run = session.path("long")
        let refused = try session.run("resume", run)
        #expect(refused.status == 1)
        #expect(refused.errors.split(separator: "\n").count == 1, "\(refused.errors)")
        #expect(refused.errors.contains("long: is in use by process \(process.id), “martlet run made --runs"))
        #expect(refused.errors.contains("since 20") && refused.errors.contains(" UTC; wait until"), "\(refused.errors)")
        // Who only reads is not in the way.
        #expect(try session.run("evaluate", run).status == 0)
        #expect(try session.run("sample", run, "--count", "3", "--out", session.path("z.npy")).status == 0)
        #expect(try session.run("inspect", run).status == 0)
        // The lock goes with its process.
        kill(process.id, SIGKILL)
        _ = process.wait()
        let next = try session.start(["resume", run], number: "next")
        // Nobody is left behind: tests that start processes of their own wait for any child, and would for ever be told of this one.
        defer {
            kill(next.id, SIGKILL)
            _ = next.wait()
        }
        while try !session.text("long/lock").hasPrefix("process \(next.id), “martlet resume") { usleep(500) }
    }

    @Test(arguments: [(SIGHUP, 129), (SIGINT, 130), (SIGTERM, 143)] as [(Int32, Int32)])
    func signalsSave(_ number: Int32, _ status: Int32) throws {
        let process = try startLong("long")
        kill(process.id, number)
        #expect(process.wait() == status)
        #expect(try session.text("errorslong").contains("everything is saved"))
        // Between two epochs there is nothing in the metrics that the state does not count.
        let state = try SafeTensors.read(session.path("long/state.safetensors")).metadata
        #expect(try state["metricsLength"] == "\(Files.read(session.path("long/metrics.jsonl")).count)")
    }

    /// A run under `nohup` outlives its terminal.
    @Test func anIgnoredHangUpStaysIgnored() throws {
        let process = try startLong("long", shell: "trap '' HUP; exec \"$0\" \"$@\"")
        kill(process.id, SIGHUP)
        usleep(300_000)
        kill(process.id, SIGTERM)
        #expect(process.wait() == 143)
    }

    // MARK: damage

    private func flip(_ path: String, at share: Double) throws {
        var bytes = try Files.read(path)
        bytes[Int(share * Double(bytes.count))] ^= 0x10
        try Files.write(bytes, to: path)
    }

    @Test func aDamagedStateIsPassedOver() throws {
        let run = try train("a")
        let (state, previous) = ("\(run)/state.safetensors", "\(run)/state.previous.safetensors")
        let files = [state, "\(run)/model.safetensors", "\(run)/metrics.jsonl"]
        let whole = try files.map { try Files.read($0) }
        for share in [0.001, 0.1, 0.5, 0.999] {
            try flip(state, at: share)
            let resumed = try session.run("resume", run)
            #expect(resumed.status == 0, "\(share): \(resumed.errors)")
            #expect(resumed.errors.split(separator: "\n").count == 1, "\(share): \(resumed.errors)")
            #expect(resumed.errors.contains("goes on from \(previous)"), "\(share): \(resumed.errors)")
            #expect(try files.map { try Files.read($0) } == whole, "\(share)")
        }
        try #require(unlink(state) == 0)
        #expect(try session.run("resume", run).errors.contains("state.safetensors: is missing; the run goes on from"))
        #expect(try files.map { try Files.read($0) } == whole)
        // Without a whole one nothing is written over.
        try flip(state, at: 0.5)
        try flip(previous, at: 0.5)
        let before = try [state, previous].map { try Files.read($0) }
        let refused = try session.run("resume", run)
        #expect(refused.status == 1 && refused.errors.split(separator: "\n").count == 1, "\(refused.errors)")
        #expect(refused.errors.contains("state.safetensors: is damaged"), "\(refused.errors)")
        #expect(try [state, previous].map { try Files.read($0) } == before)
    }

    @Test func aDamagedModelIsWrittenAgain() throws {
        let run = try train("a")
        let model = "\(run)/model.safetensors"
        let whole = try Files.read(model)
        try flip(model, at: 0.9)
        let refused = try session.run("evaluate", run)
        #expect(refused.status == 1 && refused.errors.contains("model.safetensors: is damaged"), "\(refused.errors)")
        #expect(refused.errors.contains("resume \(run) writes it again"), "\(refused.errors)")
        #expect(try session.run("resume", run).status == 0)
        #expect(try Files.read(model) == whole)
    }

    /// Files as they were before they had checksums and ends of metrics.
    @Test func olderRunsGoOn() throws {
        let run = try train("a")
        let (state, metrics) = ("\(run)/state.safetensors", "\(run)/metrics.jsonl")
        let whole = try Files.read("\(run)/model.safetensors")
        var (arrays, metadata) = try SafeTensors.read(state)
        metadata["metricsEnd"] = nil
        try SafeTensors.write(arrays.map { (name: $0.key, array: $0.value) }, metadata: metadata, to: state)
        arrays = [:]
        for path in [state, "\(run)/model.safetensors"] {
            var bytes = try Files.read(path)
            for (old, new) in [("martlet-checksum", "something-else  "), ("crc64-xz:", "nothing  ")] {
                let place = try #require(bytes.firstRange(of: Array(old.utf8)))
                bytes.replaceSubrange(place, with: Array(new.utf8))
            }
            try Files.write(bytes, to: path)
        }
        unlink("\(run)/state.previous.safetensors")
        unlink("\(run)/lock")
        #expect(try session.run("evaluate", run).status == 0)
        let lines = try Files.read(metrics)
        let resumed = try session.run("resume", run)
        #expect(resumed.status == 0 && resumed.errors.isEmpty, "\(resumed.errors)")
        #expect(try Files.read(metrics) == lines && Files.read("\(run)/model.safetensors") == whole)
        // Lines that the state does not hold are lost, and no more than they.
        try Files.write(lines.prefix(lines.count * 2 / 3 - 5), to: metrics)
        let shortened = try session.run("resume", run)
        #expect(shortened.status == 0 && shortened.errors.contains("epochs 2 to 3 are lost"), "\(shortened.errors)")
    }

    /// The metrics that a state counts are there, whatever happened to their file.
    @Test func metricsAreWrittenAgain() throws {
        let run = try train("a")
        let metrics = "\(run)/metrics.jsonl"
        let whole = try Files.read(metrics)
        var changed = whole
        changed[20] ^= 1
        for found in [nil, [], Array(whole.prefix(200)), Array(whole.dropLast()), changed] as [[UInt8]?] {
            if let found { try Files.write(found, to: metrics) } else { unlink(metrics) }
            let resumed = try session.run("resume", run)
            #expect(resumed.status == 0, "\(resumed.errors)")
            #expect(resumed.errors.split(separator: "\n").count == 1, "\(resumed.errors)")
            #expect(resumed.errors.contains("metrics.jsonl: is not as the state remembers it; written again"))
            #expect(try Files.read(metrics) == whole)
        }
    }

    // MARK: names

    @Test func namesStayBelowTheFolderOfRuns() throws {
        try Files.makeFolder(session.path("below"))
        let before = try Files.list(session.folder)
        for name in ["../x", "a/../../x", "/x", session.path("x"), "", ".", "a//b", "a/", "x\u{1B}[2J", "x\ny"] {
            let refused = try session.run(
                "run", "made-glyphs", "--runs", session.path("below"), "--name", name, "--epochs", "0")
            #expect(refused.status > 0 && refused.errors.contains("--name"), "\(name): \(refused.errors)")
            #expect(refused.errors.split(separator: "\n").count == 1, "\(name): \(refused.errors)")
        }
        #expect(try Files.list(session.path("below")).isEmpty)
        #expect(try Files.list(session.folder).filter { $0 != "output" && $0 != "errors" } == before)
        #expect(try session.start(arguments("set/first", epochs: 0)).wait() == 0)
        #expect(Files.exists(session.path("set/first/model.safetensors")))
    }

    /// Names with control characters, of one byte and of two, are written out wherever they are printed.
    @Test func nothingPrintedMovesTheCursor() throws {
        let odd = session.path("odd\u{1B}[31m\u{9B}2J\n.npy")
        try Files.write(Files.read(session.path("train.npy")), to: odd)
        let named = ["--train", odd, "--valid", odd, "--test", odd, "--set", "hidden=5", "--epochs", "1"]
        let runs = session.path("runs\u{1B}]0;title\u{7}")
        let verbs = [
            ["run", "made", "--runs", runs, "--name", "a"] + named, ["resume", "\(runs)/a"], ["evaluate", "\(runs)/a"],
            ["inspect", "\(runs)/a", "--json"], ["inspect", "\(runs)/a"], ["evaluate", "\(runs)/\u{9B}"],
            ["inspect", "\(runs)/a", "--dependencies", "\(runs)/\u{1B}[2J.png"],
        ]
        for verb in verbs {
            _ = try session.start(verb).wait()
            for stream in ["output", "errors"] {
                let scalars = try session.text(stream).unicodeScalars
                let isPlain = scalars.allSatisfy { $0 == "\n" || $0.properties.generalCategory != .control }
                let text = try session.text(stream)
                #expect(isPlain, "\(verb[0]), \(stream): \(text.debugDescription)")
            }
        }
    }
}
