import ArgumentParser
import Datasets
import Training

#if canImport(Glibc)
    @preconcurrency import Glibc
#elseif canImport(Musl)
    @preconcurrency import Musl
#endif

@main
struct Martlet: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "martlet",
        abstract: "Likelihood models that look only backwards: train, evaluate, sample, prove.",
        subcommands: [
            List.self, Run.self, Resume.self, Evaluate.self, Sample.self, Complete.self, Encode.self,
            Decode.self, Interpolate.self, Inspect.self, Compare.self,
            Bench.self,
            Devices.self,
        ])

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
        } catch {
            errorLine("Error: \(printable(message(for: error)))\(hint(error))")
            Self.exit(withError: exitCode(for: error))
        }
    }

    /// Where to read what the command line may be, if that was not understood.
    private static func hint(_ error: any Error) -> String {
        guard exitCode(for: error) == .validationFailure else { return "" }
        let verbs = configuration.subcommands.map { $0._commandName }
        let verb = CommandLine.arguments.dropFirst().first { verbs.contains($0) }
        return "; see martlet \(verb.map { "\($0) " } ?? "")--help"
    }

    /// One line that a terminal shows as it stands: names and files may hold line breaks and control characters.
    private static func printable(_ text: String) -> String {
        text.unicodeScalars.reduce(into: "") { line, scalar in
            switch scalar.properties.generalCategory {
            case .control, .format, .lineSeparator, .paragraphSeparator: line += scalar.escaped(asASCII: true)
            default: line.unicodeScalars.append(scalar)
            }
        }
    }
}
