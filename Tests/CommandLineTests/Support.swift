import Datasets
import Graph
import Testing

#if canImport(Glibc)
    import Glibc
#endif

/// The program as its users start it, in a folder of its own that is removed at the end.
final class CommandLineSession {
    let folder: String

    init() throws {
        var template = Array("/tmp/martlet-cli-XXXXXX".utf8CString)
        folder = String(cString: try #require(mkdtemp(&template)))
    }

    deinit { _ = try? Self.start("/bin/rm", ["-rf", folder], output: "/dev/null", errors: "/dev/null").wait() }

    struct Result {
        let status: Int32
        let output: String
        let errors: String
    }

    struct Process {
        let id: pid_t

        /// The exit status; minus the signal that ended it, if one did.
        func wait() -> Int32 {
            var status: Int32 = 0
            while waitpid(id, &status, 0) < 0, errno == EINTR {}
            return status & 0x7f == 0 ? status >> 8 & 0xff : -(status & 0x7f)
        }
    }

    /// What SwiftPM puts beside the tests: the program, and what is preloaded into it.
    static func built(_ name: String) -> String {
        let tests = CommandLine.arguments[0]
        return (tests.lastIndex(of: "/").map { String(tests[...$0]) } ?? "./") + name
    }

    private static var program: String { built("martlet") }

    static func start(
        _ path: String, _ arguments: [String], output: String, errors: String, environment: [String] = []
    ) throws -> Process {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        for (descriptor, file) in [(STDOUT_FILENO, output), (STDERR_FILENO, errors)] {
            posix_spawn_file_actions_addopen(&actions, descriptor, file, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        }
        // Threads that tests run on block signals, which a program would inherit.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var inherited: [String] = []
        var entry = environ
        while let value = entry.pointee {
            inherited.append(String(cString: value))
            entry += 1
        }
        var argv: [UnsafeMutablePointer<CChar>?] = ([path] + arguments).map { strdup($0) } + [nil]
        var envp: [UnsafeMutablePointer<CChar>?] = (environment + inherited).map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var id = pid_t()
        try #require(posix_spawn(&id, path, &actions, &attributes, &argv, &envp) == 0, "\(path) cannot be started")
        return Process(id: id)
    }

    /// - Parameters:
    ///   - shell: what a shell does before it becomes the program, if anything.
    ///   - number: that of the files `output` and `errors`, for processes side by side.
    func start(
        _ arguments: [String], environment: [String] = [], shell: String? = nil, number: String = ""
    ) throws -> Process {
        try Self.start(
            shell == nil ? Self.program : "/bin/sh", (shell.map { ["-c", $0, Self.program] } ?? []) + arguments,
            output: path("output" + number), errors: path("errors" + number), environment: environment)
    }

    func run(_ arguments: String..., environment: [String] = []) throws -> Result {
        try run(arguments, environment: environment)
    }

    func run(_ arguments: [String], environment: [String] = []) throws -> Result {
        let status = try start(arguments, environment: environment).wait()
        return try Result(status: status, output: text("output"), errors: text("errors"))
    }

    /// Removes a file or folder, or copies one.
    func remove(_ name: String) throws { try shell("/bin/rm", "-rf", path(name)) }
    func copy(_ name: String, to other: String) throws { try shell("/bin/cp", "-a", path(name), path(other)) }

    func copy(absolute file: String, to name: String) throws { try shell("/bin/cp", file, path(name)) }

    private func shell(_ program: String, _ arguments: String...) throws {
        let process = try Self.start(program, arguments, output: path("shell"), errors: path("shell"))
        try #require(process.wait() == 0, "\(program) \(arguments)")
    }

    func text(_ name: String) throws -> String { String(decoding: try Files.read("\(folder)/\(name)"), as: UTF8.self) }

    func path(_ name: String) -> String { "\(folder)/\(name)" }

    /// Three npy files of rows that depend on each other, and the arguments that name them.
    func data(rows: Int = 300, variables: Int = 9) throws -> [String] {
        var arguments: [String] = []
        for (split, seed) in [("train", 1), ("valid", 2), ("test", 3)] {
            let random = HostRandom(seed: UInt64(seed), stream: "command line")
            let values = (0..<rows * variables).map { i -> UInt8 in
                let base = Int(random.bits(example: i / variables) & 3)
                return (base + i % variables) % 3 == 0 ? 1 : 0
            }
            try NumPy.write(HostArray(values, shape: [rows, variables]), npy: path("\(split).npy"))
            arguments += ["--\(split)", path("\(split).npy")]
        }
        return arguments
    }
}
