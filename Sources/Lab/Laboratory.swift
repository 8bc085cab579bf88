import ArgumentParser
import Compiler
import Datasets
import Likelihood
import Synchronization
import Training

#if canImport(Glibc)
    @preconcurrency import Glibc
#elseif canImport(Musl)
    @preconcurrency import Musl
#endif

/// A program with every verb of the command line for its own experiments:
///
///     @main struct Birds: Laboratory {
///         static let experiments = [nadeBirds, madeBirds]
///     }
///
/// `birds run nade-birds` then trains, `birds sample runs/nade-birds-1 --out birds.npy` draws, and so on; `birds --help` lists the
/// verbs.
public protocol Laboratory {
    /// What the program is called in its messages; the name of its file, if not given.
    static var name: String { get }
    static var abstract: String { get }
    static var experiments: [Experiment] { get }
    /// Experiments on the same examples, whose members are experiments of the program too.
    static var groups: [ExperimentGroup] { get }
    /// What `bench` times beside the experiments.
    static var workloads: [Workload] { get }
}

extension Laboratory {
    public static var name: String {
        String(CommandLine.arguments.first?.split(separator: "/").last ?? "lab")
    }
    public static var abstract: String { "Likelihood models that look only backwards: train, evaluate, sample, prove." }
    public static var groups: [ExperimentGroup] { [] }
    public static var workloads: [Workload] { [] }

    /// Runs the verb that the arguments name, and ends the program with a status that is not 0 if it fails.
    public static func main() {
        Catalogue.set(
            Catalogue(name: name, abstract: abstract, experiments: experiments, groups: groups, workloads: workloads))
        Program.main()
    }
}

/// The version of the framework, in results and for `--version`.
let martletVersion = "1.0.0"

/// What the running program offers; set once, before arguments are read.
struct Catalogue: Sendable {
    var name = "lab"
    var abstract = ""
    /// Those that stand for themselves, then members of groups that are not among them.
    var experiments: [Experiment] = []
    var groups: [ExperimentGroup] = []
    var workloads: [Workload] = []

    private static let current = Mutex(Catalogue())

    init() {}

    init(
        name: String, abstract: String, experiments: [Experiment], groups: [ExperimentGroup], workloads: [Workload]
    ) {
        (self.name, self.abstract, self.groups, self.workloads) = (name, abstract, groups, workloads)
        let own = Set(experiments.map(\.name))
        self.experiments = experiments + groups.flatMap(\.members).filter { !own.contains($0.name) }
    }

    static func set(_ catalogue: Catalogue) { current.withLock { $0 = catalogue } }

    static var name: String { current.withLock { $0.name } }
    static var abstract: String { current.withLock { $0.abstract } }
    static var experiments: [Experiment] { current.withLock { $0.experiments } }
    static var groups: [ExperimentGroup] { current.withLock { $0.groups } }
    static var workloads: [Workload] { current.withLock { $0.workloads } }

    /// - Throws: `UsageError` that lists what there is.
    static func experiment(_ name: String) throws -> Experiment {
        let all = experiments
        if let group = groups.first(where: { $0.name == name }) {
            throw UsageError(
                "\(name) is several experiments, which \(self.name) run trains; take one of \(group.members.map(\.name).joined(separator: ", "))"
            )
        }
        guard let found = all.first(where: { $0.name == name }) else {
            throw UsageError(
                "there is no experiment “\(name)”\(suggestion(for: name, among: all.map(\.name))); \(self.name) list shows \(all.map(\.name).joined(separator: ", "))"
            )
        }
        return found
    }
}

struct Program: ParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: Catalogue.name, abstract: Catalogue.abstract, version: martletVersion,
            subcommands: [
                ListCommand.self, RunCommand.self, ResumeCommand.self, SweepCommand.self, EvaluateCommand.self,
                SampleCommand.self,
                CompleteCommand.self, EncodeCommand.self, DecodeCommand.self, InterpolateCommand.self,
                InspectCommand.self, SettingsCommand.self, CompareCommand.self, BenchCommand.self,
                ProfileCommand.self, DevicesCommand.self,
                NewCommand.self,
            ])
    }

    static func main() {
        // A file that grows beyond a limit is an error like any other, not the end of the program.
        signal(SIGXFSZ, SIG_IGN)
        // Lines appear as they are printed, in files too.
        setvbuf(stdout, nil, _IOLBF, 0)
        do {
            var command = try parseAsRoot()
            try command.run()
            if fflush(stdout) != 0 || ferror(stdout) != 0 {
                throw FileError("standard output", "cannot be written: \(String(cString: strerror(errno)))")
            }
        } catch  where exitCode(for: error) == .success || error is ExitCode {
            // Help that was asked for, and failures that are printed already.
            exit(withError: error)
        } catch let error as any DetailedError {
            errorLine("Error: \(error.summary)")
            for line in error.details { errorLine("    \(line)") }
            Self.exit(withError: exitCode(for: error))
        } catch {
            errorLine("Error: \(message(for: error))\(hint(error))")
            Self.exit(withError: exitCode(for: error))
        }
    }

    /// Where to read what the command line may be, if that was not understood.
    private static func hint(_ error: any Error) -> String {
        guard exitCode(for: error) == .validationFailure else { return "" }
        let verbs = configuration.subcommands.map { $0._commandName }
        let verb = CommandLine.arguments.dropFirst().first { verbs.contains($0) }
        return "; see \(Catalogue.name) \(verb.map { "\($0) " } ?? "")--help"
    }
}
