import Datasets
import Graph
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// Files of the user's that a run cannot use, or that are more than the machine can hold.
@Suite(.serialized) struct DataFileTests {
    /// The arguments of a small run on real numbers.
    private func arguments(_ session: CommandLineSession, test: String = "real.npy") -> [String] {
        let real = session.path("real.npy")
        return [
            "run", "made", "--runs", session.folder, "--name", "a", "--epochs", "0", "--set", "hidden=4", "--set",
            "conditional=mixture:1", "--train", real, "--valid", real, "--test", session.path(test),
        ]
    }

    private func session() throws -> CommandLineSession {
        let session = try CommandLineSession()
        try NumPy.write(
            HostArray((0..<60).map { Float($0 % 7) }, shape: [20, 3]), npy: session.path("real.npy"))
        return session
    }

    private func expectRefusal(_ session: CommandLineSession, _ arguments: [String], _ says: [String]) throws {
        let status = try session.start(arguments).wait()
        let errors = try session.text("errors")
        #expect(status > 0 && says.allSatisfy(errors.contains), "\(status): \(errors)")
        #expect(errors.split(separator: "\n").count == 1, "\(errors)")
    }

    /// Numbers that only double precision holds are refused wherever they would become infinite.
    @Test func valuesBeyondFloat32() throws {
        let session = try session()
        try NumPy.write(
            HostArray((0..<60).map { $0 == 31 ? 1e300 : 0 } as [Double], shape: [20, 3]), npy: session.path("big.npy"))
        try expectRefusal(
            session, arguments(session, test: "big.npy"), ["big.npy", "example 10, variable 1", "float32"])
        for setting in ["rate=1e300", "weightDecay=1e39", "clipNorm=1e-300", "epsilon=1e300"] {
            let name = setting == "rate=1e300" ? "learningRate" : String(setting.prefix { $0 != "=" })
            try expectRefusal(session, arguments(session) + ["--set", setting], [name, "within float32"])
        }
        #expect(!Files.exists(session.path("a")))
        #expect(try session.start(arguments(session)).wait() == 0)
        let (weights, _) = try SafeTensors.read(session.path("a/model.safetensors"))
        let named = weights.sorted { $0.key < $1.key }.map { (name: $0.key, array: $0.value) }
        var (wide, more) = (named, named)
        var values = wide[0].array.doubles
        values[0] = 1e300
        wide[0].array = HostArray(values, shape: wide[0].array.shape)
        more.append((name: "steps", array: HostArray([7] as [Int32])))
        let path = session.path("weights.safetensors")
        let evaluate = ["evaluate", session.path("a"), "--weights", path]
        try SafeTensors.write(wide, to: path)
        try expectRefusal(session, evaluate, ["“\(wide[0].name)” holds 1e+300", "float32"])
        try SafeTensors.write(more, to: path)
        try expectRefusal(session, evaluate, ["“steps”, which this model does not have"])
    }

    /// A script that reads figures has to learn from the status that there is none.
    @Test func aFigureThatIsNotFiniteIsNoSuccess() throws {
        let session = try session()
        try NumPy.write(
            HostArray((0..<60).map { $0 == 31 ? 3e38 : 0 } as [Float], shape: [20, 3]), npy: session.path("far.npy"))
        for flags in [[], ["--json"]] {
            let status = try session.start(arguments(session, test: "far.npy") + flags).wait()
            let errors = try session.text("errors")
            #expect(status > 0 && errors.contains("row 10 has the figure inf, as 1 of 20 rows"), "\(status): \(errors)")
            // What was trained is there.
            #expect(Files.exists(session.path("a/model.safetensors")))
            #expect(try session.start(["evaluate", session.path("a")]).wait() > 0)
            _ = try CommandLineSession.start(
                "/bin/rm", ["-rf", session.path("a")], output: "/dev/null", errors: "/dev/null"
            )
            .wait()
        }
    }

    /// Whole numbers that train and real ones that test are examples of different kinds; an orderless network is asked for by its name
    /// alone; and a number is one without a zero in front.
    @Test func kindsAndSettings() throws {
        let session = try CommandLineSession()
        let data = try session.data()
        try NumPy.write(
            HostArray((0..<90).map { Float($0) / 7 }, shape: [10, 9]), npy: session.path("real.npy"))
        let run = ["run", "made", "--runs", session.folder, "--device", "cpu", "--epochs", "1"]
        let mixed = try session.run(run + data + ["--test", session.path("real.npy"), "--name", "mixed"])
        #expect(
            mixed.status != 0 && mixed.errors.contains("real.npy: holds numbers that are not whole"), "\(mixed.errors)")
        #expect(!Files.exists(session.path("mixed")))
        let free = try session.run(run + data + ["--set", "orderless=true", "--set", "dropout=.25", "--name", "free"])
        #expect(free.status == 0, "\(free.errors)")
        #expect(try session.text("free/config.json").contains("\"dropout\" : 0.25"))
        let wrong = try session.run(run + data + ["--set", "dropout=much"])
        #expect(wrong.errors.contains("dropout expects 0 to below 1, found “much”"), "\(wrong.errors)")
    }

    /// More than the process may have is refused in one line before it is allocated, where it would be the end of it. The sanitizers
    /// take more than the limit for themselves.
    @Test(.enabled(if: dlsym(nil, "__tsan_init") == nil && dlsym(nil, "__asan_init") == nil, "not under sanitizers"))
    func filesLargerThanMemory() throws {
        let session = try session()
        let path = session.path("large.npy")
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': (60000000, 100), }"
        try Files.write(
            [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0] + Array(header.utf8), to: path)
        // A hole that takes no place on the disk.
        try #require(truncate(path, 10 + header.utf8.count + 6_000_000_000) == 0)
        let arguments = ["run", "made", "--runs", session.folder, "--train", path, "--valid", path, "--test", path]
        let status = try session.start(arguments, shell: "ulimit -v 3000000; exec \"$0\" \"$@\"").wait()
        let errors = try session.text("errors")
        #expect(status > 0 && errors.contains("large.npy: takes 5.6 GiB of memory, of which"), "\(status): \(errors)")
        #expect(errors.split(separator: "\n").count == 1, "\(errors)")
    }

    /// So is a training step whose values between its operations do not fit, and no folder of a run is left.
    @Test(.enabled(if: dlsym(nil, "__tsan_init") == nil && dlsym(nil, "__asan_init") == nil, "not under sanitizers"))
    func stepsLargerThanMemory() throws {
        let session = try session()
        let arguments = [
            "run", "maf-moons", "--runs", session.folder, "--name", "large", "--device", "cpu", "--set",
            "hidden=20000,3", "--set",
            "batch=8192",
        ]
        let status = try session.start(arguments, shell: "ulimit -v 4000000; exec \"$0\" \"$@\"").wait()
        let errors = try session.text("errors")
        #expect(
            status > 0 && errors.contains("a training step of 8192 examples together takes"), "\(status): \(errors)")
        #expect(errors.split(separator: "\n").count == 1, "\(errors)")
        #expect(!Files.exists(session.path("large")))
    }
}
