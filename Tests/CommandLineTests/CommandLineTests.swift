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
        // Below two titles.
        let lines = try CommandLineSession().run("list").output.split(separator: "\n").filter { $0.hasPrefix("  ") }
            .map { Array($0.dropFirst(2).utf8) }
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
        for part in ["\"activation\":\"tanh\"", "\"limit\":4", "\"inputDegrees\":[1,0]", "\"outputDegrees\":[1,0,1,0]"]
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
        for late in ["state.safetensors", "state.previous.safetensors", "metrics.jsonl"] { unlink("\(killed)/\(late)") }
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
        let (pipe, wide) = (session.path("pipe.npy"), session.path("wide.npy"))
        try #require(mkfifo(pipe, 0o600) == 0)
        // No element, but rows of more elements than can be counted.
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 1099511627776, 1099511627776), }"
        try Files.write(
            [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0] + Array(header.utf8), to: wide)
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
            (run + data + ["--set", "seed=-1"], [], "seed expects a whole number, found “-1”"),
            (run + data + ["--set", "optimizer=best"], [], "adamax"),
            (run + data + ["--set", "conditional=categorical:-3"], [], "categorical:LEVELS"),
            (run + data + ["--device", "opencl:99"], [], "opencl:99"),
            (run + data + ["--device", "opencl"], ["OCL_ICD_VENDORS=/nothing"], "OpenCL"),
            (run + data + ["--weights", weights], [], "weights.safetensors"),
            (["run", "made", "--runs", "/proc/nothing"] + data, [], "/proc/nothing"),
            (["sample", session.path("absent"), "--count", "1", "--out", "x.npy"], [], "absent"),
            (["bench", "--only", "nothing"], [], "nothing"),
            (["bench", "--only", ""], [], "no workload “”"),
            (["bench", "--only", "matmul-2048", "--what", "train"], [], "can evaluate only"),
            (["bench", "--seconds", "-1"], [], "found -1"),
            (["profile", "nothing"], [], "no workload “nothing”"),
            (["profile", "matmul-2048"], [], "a product and no model"),
            (["profile", "made", "--rows", "-1"], [], "found -1"),
            (["run", "made", "--epochs", "x"], [], "martlet run --help"),
            (["sample", "a", "--count", "-1.5", "--out", "x.npy"], [], "'-1.5' is invalid"),
            (["nothing"], [], "martlet --help"),
            (run + data + ["--seeds", "1,,2"], [], "found “”"),
            (["run", "made", "--runs", ""] + data, [], "--runs"),
            (run + ["--train", session.path("two\nlines\u{1b}[1m.npy")], [], "two\\nlines\\u{1B}[1m.npy"),
            (run + ["--train", pipe, "--valid", pipe, "--test", pipe], [], "a pipe"),
            (run + ["--train", wide, "--valid", wide, "--test", wide], [], "too large"),
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
            (["encode", flow, "--input", none, "--out", out], "one example or more"),
            (["decode", flow, "--input", none, "--out", out], "one row or more"),
            (["decode", flow, "--input", holed, "--out", out], "row 1, column 1 holds nan"),
            (["complete", made, "--input", nothing, "--observed", nothing, "--out", out], "one example or more"),
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

    /// What was changed by hand is refused before anything is written over.
    @Test func damagedRunsAreRefusedInOneLine() throws {
        let session = try CommandLineSession()
        let whole = try train(session, "whole")
        let other = try train(session, "other", ["--seed", "9"])
        let names = ["config.json", "metrics.jsonl", "model.safetensors", "state.safetensors"]
        let original = try names.map { try Files.read("\(whole)/\($0)") }
        let (arrays, metadata) = try SafeTensors.read("\(whole)/state.safetensors")
        /// A copy of the run with some of its files replaced.
        func expectRefusal(_ replaced: [String: [UInt8]], _ says: String, _ verb: [String]) throws {
            let copy = session.path("copy")
            try Files.makeFolder(copy)
            for (name, bytes) in zip(names, original) {
                try Files.write(replaced[name] ?? bytes, to: "\(copy)/\(name)")
            }
            let status = try session.start(verb.map { $0 == "RUN" ? copy : $0 }).wait()
            let errors = try session.text("errors")
            #expect(status > 0 && errors.contains(says), "\(says): \(status), \(errors)")
            #expect(errors.split(separator: "\n").count == 1, "\(errors)")
            #expect(try replaced["model.safetensors"] != nil || Files.read("\(copy)/model.safetensors") == original[2])
        }
        func state(
            _ change: (inout [String: HostArray], inout [String: String]) -> Void
        ) throws -> [String: [UInt8]] {
            var (arrays, metadata) = (arrays, metadata)
            change(&arrays, &metadata)
            let path = session.path("state.safetensors")
            try SafeTensors.write(arrays.map { (name: $0.key, array: $0.value) }, metadata: metadata, to: path)
            return ["state.safetensors": try Files.read(path)]
        }
        let bias = "layers.0.bias"
        let holed = HostArray([Float](repeating: .nan, count: 24), shape: [24])
        let resume = ["resume", "RUN"]
        try expectRefusal(state { a, _ in a["best.\(bias)"] = holed }, "holds NaN", resume)
        try expectRefusal(state { a, _ in a[bias] = holed }, "holds NaN", resume)
        try expectRefusal(state { a, _ in a["more"] = holed }, "of another run", resume)
        try expectRefusal(state { _, m in m["lossSum"] = "\(Double.nan.bitPattern)" }, "contradict", resume)
        try expectRefusal(state { _, m in m["bestEpoch"] = "50" }, "contradict", resume)
        try expectRefusal(
            state { _, m in (m["stepInEpoch"], m["finished"], m["epoch"], m["bestEpoch"]) = ("9", "0", "1", "0") },
            "steps of an epoch", resume)
        try expectRefusal(state { _, m in m["metricsLength"] = "7" }, "contradict", resume)
        try expectRefusal(
            ["state.safetensors": Files.read("\(other)/state.safetensors")], "the seed 9", resume)
        let config = String(decoding: original[0], as: UTF8.self)
        func edited(_ text: String, _ replacement: String) throws -> [String: [UInt8]] {
            let range = try #require(config.firstRange(of: text))
            return [
                "config.json": Array((config[..<range.lowerBound] + replacement + config[range.upperBound...]).utf8)
            ]
        }
        let out = session.path("out.npy")
        let sample = ["sample", "RUN", "--count", "2", "--out", out]
        try expectRefusal(edited(#""seed" : 1"#, #""seed" : -1"#), "seed = -1", resume)
        try expectRefusal(edited(#""batch" : 50"#, #""batch" : 1.5"#), "batch = 1.5", resume)
        for field in [
            #""classes" : 3000000000"#, #""presentation" : {"sound" : {"rate" : -8}}"#,
            #""presentation" : {"video" : {}}"#,
            #""presentation" : {"text" : {"_0" : {"bytes" : []}}}"#,
        ] {
            try expectRefusal(edited(#""dimensions""#, field + #", "dimensions""#), "impossible examples", sample)
        }
        try expectRefusal(edited(#""dimensions""#, #""classes" : 7, "dimensions""#), "in 7 classes, but", resume)
        #expect(!Files.exists(out))
        #expect(try session.run("evaluate", session.folder).errors.contains("the folder of one run"))
        // The data of another run under the name of this one's.
        try NumPy.write(HostArray((0..<40).map { UInt8($0 % 2) }, shape: [4, 10]), npy: session.path("test.npy"))
        for split in ["train", "valid"] {
            try Files.write(Files.read(session.path("test.npy")), to: session.path("\(split).npy"))
        }
        for verb in [["evaluate", "RUN"], sample + ["--nearest", out]] {
            try expectRefusal([:], "is not what the run was made of", verb)
        }
        #expect(!Files.exists(out))
    }

    /// A run is there once it can be gone on with: killed before, it leaves its name to the next.
    @Test func aRunThatWasKilledAtOnceLeavesItsName() throws {
        let session = try CommandLineSession()
        let run = session.path("early")
        let arguments = ["run", "made", "--runs", session.folder, "--name", "early", "--epochs", "1"]
        let process = try session.start(arguments + ["--set", "hidden=2048,2048"] + session.data())
        // From where the first file is begun; then the folder may be whole before the signal arrives.
        while try !Files.list(session.folder).contains(where: { $0.hasPrefix("early") }) { usleep(200) }
        kill(process.id, SIGKILL)
        _ = process.wait()
        let status =
            Files.exists(run)
            ? try session.start(["resume", run]).wait()
            : try session.start(arguments + ["--set", "hidden=8"] + session.data()).wait()
        let errors = try session.text("errors")
        #expect(status == 0, "\(errors)")
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
        for state in [files[1], "\(run)/state.previous.safetensors"] { try #require(unlink(state) == 0) }
        let trained = try Files.read(files[0])
        #expect(try session.run("resume", run).status > 0)
        #expect(try session.text("errors").contains("state.safetensors: is missing"))
        #expect(try Files.read(files[0]) == trained)
    }
}
