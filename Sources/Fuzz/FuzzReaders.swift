import Datasets

#if canImport(Glibc)
    @preconcurrency import Glibc
#endif

/// `fuzz-readers [--seconds N] [--seed N] [--only NAME]`: damaged files for every reader of the project. Each reader runs in a process
/// of its own, so that one that crashes leaves the others; the file that did it is kept and named. The status is 0 if none did.
@main struct FuzzReaders {
    static func main() {
        // Lines appear in their order, in files too.
        setvbuf(stdout, nil, _IOLBF, 0)
        var options = ["--seconds": "60", "--seed": "\(time(nil))", "--only": "", "--child": ""]
        var arguments = CommandLine.arguments.dropFirst()
        while let name = arguments.popFirst() {
            guard options[name] != nil, let value = arguments.popFirst() else {
                print(
                    "expected --seconds N, --seed N or --only NAME (\(Target.all.map(\.name).joined(separator: ", ")))")
                exit(2)
            }
            options[name] = value
        }
        guard let seconds = Double(options["--seconds"]!), seconds > 0, let seed = UInt64(options["--seed"]!) else {
            print("--seconds, --seed: expected numbers")
            exit(2)
        }
        if let target = Target.all.first(where: { $0.name == options["--child"] }) {
            exit(fuzz(target, seconds: seconds, seed: seed, folder: options["--only"]!))
        }
        let targets = Target.all.filter { options["--only"]!.isEmpty || $0.name == options["--only"] }
        print("seed \(seed), \(seconds) s for \(targets.count) readers")
        var failures = 0
        for target in targets where !run(target, seconds: seconds / Double(targets.count), seed: seed) { failures += 1 }
        exit(failures == 0 && !targets.isEmpty ? 0 : 1)
    }

    /// One reader, in this process.
    private static func fuzz(_ target: Target, seconds: Double, seed: UInt64, folder: String) -> Int32 {
        var fuzzer = Fuzzer(target, folder: folder, seed: seed)
        let end = ContinuousClock.now + .seconds(seconds)
        do {
            while ContinuousClock.now < end {
                // A reader that never ends is ended by the signal.
                alarm(5)
                try fuzzer.step()
            }
        } catch {
            print("\(target.name): \(error)")
            return 1
        }
        let counts = fuzzer.counts
        print(
            "\(target.name): \(counts.inputs) inputs, \(counts.accepted) of them read, the slowest in \(Int(counts.slowest * 1e6)) µs"
        )
        return 0
    }

    /// One reader, in a process of its own.
    private static func run(_ target: Target, seconds: Double, seed: UInt64) -> Bool {
        guard let folder = Fuzzer.makeFolder() else {
            print("no temporary folder can be made")
            return false
        }
        let fuzzer = Fuzzer(target, folder: folder, seed: seed)
        let arguments = ["--child", target.name, "--only", folder, "--seconds", "\(seconds)", "--seed", "\(seed)"]
        var argv = ([CommandLine.arguments[0]] + arguments).map { strdup($0) } + [nil]
        defer {
            for pointer in argv { free(pointer) }
            fuzzer.removeFolder()
        }
        var (id, status) = (pid_t(), Int32())
        guard posix_spawn(&id, "/proc/self/exe", nil, nil, &argv, environ) == 0 else {
            print("\(target.name): no process can be started")
            return false
        }
        while waitpid(id, &status, 0) < 0, errno == EINTR {}
        if status == 0 { return true }
        let kept = "fuzz-\(target.name)-\(seed).\(target.file.split(separator: ".").dropFirst().joined(separator: "."))"
        let signal = status & 0x7F
        let reason = signal == SIGALRM ? "did not end" : signal != 0 ? "crashed by signal \(signal)" : "failed"
        do {
            try Files.write(try Files.read(fuzzer.path), to: kept)
            print("\(target.name): \(reason); the input is kept as \(kept)")
        } catch {
            print("\(target.name): \(reason); the input cannot be kept: \(error)")
        }
        return false
    }
}
