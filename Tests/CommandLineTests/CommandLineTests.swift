import Datasets
import Graph
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// What people type, from end to end.
@Suite(.serialized) struct CommandLineTests {
    private func train(_ session: CommandLineSession, _ name: String, _ more: [String] = []) throws -> String {
        let arguments = ["run", "made", "--runs", session.folder, "--name", name]
        let epochs = more.contains("--epochs") ? [] : ["--epochs", "3"]
        let status = try session.start(arguments + epochs + ["--set", "hidden=24,17"] + more + session.data()).wait()
        let errors = try session.text("errors")
        #expect(status == 0, "\(errors)")
        return session.path(name)
    }

    @Test func aRunIsEvaluatedSampledCompletedAndInspected() throws {
        let session = try CommandLineSession()
        let run = try train(session, "a")
        // The figure is that of the examples one by one.
        let nats = session.path("nats.npy")
        let evaluated = try session.run("evaluate", run, "--json", "--per-example", nats)
        let values = try NumPy.read(npy: nats).doubles
        #expect(evaluated.status == 0 && values.count == 300)
        let mean: Double = values.reduce(0, +) / 300
        #expect(evaluated.output.contains("\"mean_nats\""))
        #expect(mean > 0 && mean < 9 * 0.6931472)
        // The compiled sampler and the loop over full passes draw the same.
        let (fast, naive) = (session.path("fast.npy"), session.path("naive.npy"))
        #expect(try session.run("sample", run, "--count", "50", "--out", fast).status == 0)
        #expect(try session.run("sample", run, "--count", "50", "--out", naive, "--naive").status == 0)
        #expect(try Files.read(fast) == Files.read(naive))
        // Observed entries come back unchanged.
        let mask = session.path("mask.npy")
        try NumPy.write(
            HostArray((0..<450).map { $0 % 9 < 4 ? 1 : 0 } as [UInt8], shape: [50, 9]), npy: mask)
        let completed = session.path("completed.npy")
        let result = try session.run("complete", run, "--input", fast, "--observed", mask, "--out", completed)
        #expect(result.status == 0, "\(result.errors)")
        let (before, after) = try (NumPy.read(npy: fast).floats, NumPy.read(npy: completed).floats)
        #expect((0..<450).allSatisfy { $0 % 9 >= 4 || before[$0] == after[$0] })
        let inspected = try session.run("inspect", run, "--json")
        #expect(inspected.status == 0 && inspected.output.contains("layers.0.weight"))
    }

    @Test func summariesStandBelowOneAnother() throws {
        let lines = try CommandLineSession().run("list").output.split(separator: "\n").map { Array($0.utf8) }
        // Two spaces or more end a name.
        let ends = try lines.map { line in
            try #require(line.indices.dropLast().first { line[$0...].starts(with: "  ".utf8) })
        }
        let columns = zip(lines, ends).map { line, end in line[end...].firstIndex { $0 != UInt8(ascii: " ") } }
        #expect(lines.count > 1 && Set(columns).count == 1, "\(columns)")
    }

    /// What a flow's network is made of, outside of its weights: the choices of the run, and what each unit of a conditioner may see.
    @Test func inspectionTellsHowToRebuildAFlow() throws {
        let session = try CommandLineSession()
        let told = try session.run(
            "inspect", "maf-moons", "--json", "--set", "layers=2", "--set", "hidden=3", "--set", "activation=tanh")
        #expect(told.status == 0, "\(told.errors)")
        for part in ["\"activation\":\"tanh\"", "\"limit\":4", "\"inputDegrees\":[2,1]", "\"outputDegrees\":[2,1,2,1]"]
        {
            #expect(told.output.contains(part), "\(part)")
        }
    }

    /// Killed at several moments, a run ends with the bits of one that was never stopped.
    @Test func killedRunsEndTheSame() throws {
        let session = try CommandLineSession()
        let whole = try train(session, "whole", ["--set", "batch=20"])
        let killed = session.path("killed")
        let arguments = ["run", "made", "--runs", session.folder, "--name", "killed", "--epochs", "3"]
        let settings = ["--set", "hidden=24,17", "--set", "batch=20"]
        var process = try session.start(arguments + settings + session.data())
        // Until there is something to go on from.
        while !Files.exists("\(killed)/state.safetensors") { usleep(500) }
        for delay in [0, 2_000, 9_000, 23_000] as [UInt32] {
            usleep(delay)
            kill(process.id, SIGKILL)
            _ = process.wait()
            process = try session.start(["resume", killed])
        }
        let status = process.wait()
        let errors = try session.text("errors")
        #expect(status == 0, "\(errors)")
        #expect(try Files.read("\(whole)/model.safetensors") == Files.read("\(killed)/model.safetensors"))
        let lines = { (folder: String) in
            String(decoding: try Files.read("\(folder)/metrics.jsonl"), as: UTF8.self).split(separator: "\n")
                .map { $0.split(separator: ",").filter { !$0.contains("seconds") } }
        }
        #expect(try lines(whole) == lines(killed))
    }

    /// Weights made elsewhere give the figures that they gave there; several seeds give as many runs and their spread.
    @Test func weightsAndSeeds() throws {
        let session = try CommandLineSession()
        let first = try train(session, "first")
        let weights = ["--weights", "\(first)/model.safetensors"]
        let untrained = try train(session, "untrained", ["--epochs", "0"] + weights)
        #expect(try session.run("evaluate", untrained).output == session.run("evaluate", first).output)
        // Killed before its first save, a run still begins with the weights that it was given.
        let killed = session.path("killed")
        let again = [
            "run", "made", "--runs", session.folder, "--name", "killed", "--epochs", "0", "--set", "hidden=24,17",
        ]
        let process = try session.start(again + weights + session.data())
        while !Files.exists("\(killed)/config.json") { usleep(500) }
        kill(process.id, SIGKILL)
        _ = process.wait()
        for late in ["state.safetensors", "metrics.jsonl"] { unlink("\(killed)/\(late)") }
        #expect(try session.run("resume", killed).status == 0)
        #expect(try Files.read("\(killed)/model.safetensors") == Files.read("\(untrained)/model.safetensors"))
        let seeds = ["run", "made", "--runs", session.folder, "--name", "s", "--epochs", "1", "--seeds", "1,2,3"]
        #expect(try session.start(seeds + session.data()).wait() == 0)
        #expect(try session.text("output").contains("3 seeds: test "))
        let figures = try (1...3).map { try session.run("evaluate", session.path("s-seed\($0)")).output }
        #expect(Set(figures).count == 3)
        let other = try session.run(
            "evaluate", session.path("s-seed1"), "--weights", "\(session.path("s-seed2"))/model.safetensors")
        #expect(other.output == figures[1])
    }

    /// A fixed order completes observed prefixes; anything else only where that is asked for.
    @Test func completionIsExactOrRefused() throws {
        let session = try CommandLineSession()
        let run = try train(session, "a")
        let (input, mask) = (session.path("input.npy"), session.path("mask.npy"))
        let output = session.path("output.npy")
        try NumPy.write(HostArray((0..<45).map { $0 % 2 } as [UInt8], shape: [5, 9]), npy: input)
        try NumPy.write(HostArray((0..<45).map { $0 % 9 == 4 ? 1 : 0 } as [UInt8], shape: [5, 9]), npy: mask)
        let arguments = ["complete", run, "--input", input, "--observed", mask, "--out", output]
        #expect(try session.start(arguments).wait() > 0)
        #expect(try session.text("errors").contains("--approximate") && !Files.exists(output))
        #expect(try session.start(arguments + ["--approximate"]).wait() == 0)
        let (before, after) = try (NumPy.read(npy: input).doubles, NumPy.read(npy: output).doubles)
        let observed = stride(from: 4, to: 45, by: 9)
        #expect(observed.map { before[$0] } == observed.map { after[$0] })
    }

    @Test func badInputIsRefusedInOneLine() throws {
        let session = try CommandLineSession()
        let data = try session.data()
        let run = ["run", "made", "--runs", session.path("runs")]
        let broken = session.path("broken.npy")
        try Files.write(Array(Files.read(session.path("train.npy")).prefix(100)), to: broken)
        let weights = session.path("weights.safetensors")
        try Files.write([255, 255, 255, 255, 255, 255, 255, 127, 123, 125] as [UInt8], to: weights)
        let cases: [(arguments: [String], environment: [String], says: String)] = [
            (["run", "nothing"], [], "martlet list"),
            (run + ["--train", broken, "--valid", broken, "--test", broken], [], "broken.npy"),
            (run + ["--train", session.path("absent.npy")], [], "absent.npy"),
            (["run", "pixelcnn-glyphs", "--runs", session.path("runs")] + data, [], "has its own data"),
            (run + data + ["--set", "hiden=3"], [], "hidden"),
            (run + data + ["--set", "hidden=-3"], [], "-3"),
            (run + data + ["--set", "batch=0"], [], "batch"),
            (run + data + ["--epochs", "\(Int.max)"], [], "epochs"),
            (["run", "pixelcnn-glyphs", "--runs", session.path("runs"), "--set", "levels=0"], [], "levels"),
            (["inspect", session.folder, "--set", "hidden=3"], [], "experiment"),
            (run + data + ["--set", "hidden=5,,5"], [], "empty"),
            (run + data + ["--set", "seed=-1"], [], "does not fit seed"),
            (run + data + ["--set", "optimizer=best"], [], "adamax"),
            (run + data + ["--set", "conditional=categorical:-3"], [], "categorical:LEVELS"),
            (run + data + ["--device", "opencl:99"], [], "opencl:99"),
            (run + data + ["--device", "opencl"], ["OCL_ICD_VENDORS=/nothing"], "OpenCL"),
            (run + data + ["--weights", weights], [], "weights.safetensors"),
            (["run", "made", "--runs", "/proc/nothing"] + data, [], "/proc/nothing"),
            (["sample", session.path("absent"), "--count", "1", "--out", "x.npy"], [], "absent"),
            (["bench", "--only", "nothing"], [], "nothing"),
        ]
        for entry in cases {
            let status = try session.start(entry.arguments, environment: entry.environment).wait()
            let errors = try session.text("errors")
            #expect(status > 0, "\(entry.arguments): \(status)")
            #expect(errors.contains(entry.says), "\(entry.arguments): \(errors)")
            #expect(errors.split(separator: "\n").count == 1, "\(entry.arguments): \(errors)")
        }
        #expect(!Files.isFolder(session.path("runs")), "a refused run left a folder")
    }

    /// Options that would be passed over or give a file that is not what its name says.
    @Test func badUseOfARunIsRefusedInOneLine() throws {
        let session = try CommandLineSession()
        let made = try train(session, "a")
        let flow = session.path("f")
        let trained = try session.run(
            "run", "realnvp-moons", "--runs", session.folder, "--name", "f", "--epochs", "1", "--set", "hidden=4",
            "--set", "layers=2")
        #expect(trained.status == 0, "\(trained.errors)")
        let (none, holed, out) = (session.path("none.npy"), session.path("holed.npy"), session.path("out.npy"))
        try NumPy.write(HostArray([] as [Float], shape: [0, 2]), npy: none)
        try NumPy.write(HostArray([1, 2, 3, .nan] as [Float], shape: [2, 2]), npy: holed)
        let nothing = session.path("nothing.npy")
        try NumPy.write(HostArray([] as [Float], shape: [0, 9]), npy: nothing)
        let cases: [(arguments: [String], says: String)] = [
            (["encode", flow, "--input", holed, "--out", session.path("out.png")], "ends in .npy"),
            (["encode", flow, "--input", none, "--out", out], "one row or more"),
            (["decode", flow, "--input", none, "--out", out], "one row or more"),
            (["decode", flow, "--input", holed, "--out", out], "row 1, column 1 holds nan"),
            (["complete", made, "--input", nothing, "--observed", nothing, "--out", out], "one row or more"),
            (["evaluate", made, "--labels", none], "--input"),
            (["evaluate", made, "--per-example", session.path("out.csv")], "--per-example"),
            (["inspect", made, "--receptive-field", session.path("out.txt")], "--receptive-field"),
            (["inspect", made, "--dependencies", out], "--dependencies"),
            (["inspect", made, "--variable", "3"], "--receptive-field"),
            (["sample", made, "--count", "1", "--out", out, "--nearest", session.path("near.wav")], "--nearest"),
        ]
        for entry in cases {
            let status = try session.start(entry.arguments).wait()
            let errors = try session.text("errors")
            #expect(status > 0 && errors.contains(entry.says), "\(entry.arguments): \(errors)")
            #expect(errors.split(separator: "\n").count == 1, "\(entry.arguments): \(errors)")
            #expect(!Files.exists(out), "\(entry.arguments)")
        }
    }

    /// Where nothing more can be written, a run says so and the checkpoint of before stays whole. The thread sanitizer's own memory
    /// is a file, for which the limit is too tight as well.
    @Test(.enabled(if: dlsym(nil, "__tsan_init") == nil, "not under the thread sanitizer"))
    func aFullDiskLosesNothing() throws {
        let session = try CommandLineSession()
        let run = session.path("full")
        let arguments = ["run", "made", "--runs", session.folder, "--name", "full", "--epochs", "40"]
        let process = try session.start(arguments + ["--set", "hidden=24,17"] + session.data())
        while !Files.exists("\(run)/state.safetensors") { usleep(500) }
        kill(process.id, SIGKILL)
        _ = process.wait()
        let files = ["\(run)/model.safetensors", "\(run)/state.safetensors"]
        let before = try files.map { try Files.read($0) }
        // Files of 2 KiB at most, which neither of the two fits.
        let limited = try session.start(["resume", run], shell: "ulimit -f 4; exec \"$0\" \"$@\"").wait()
        let errors = try session.text("errors")
        #expect(limited > 0 && errors.contains("cannot be written"), "\(limited): \(errors)")
        #expect(try files.map { try Files.read($0) } == before)
        #expect(try session.run("resume", run).status == 0)
        // What was trained is not trained over.
        try #require(unlink(files[1]) == 0)
        let trained = try Files.read(files[0])
        #expect(try session.run("resume", run).status > 0)
        #expect(try session.text("errors").contains("state.safetensors: is missing"))
        #expect(try Files.read(files[0]) == trained)
    }
}
