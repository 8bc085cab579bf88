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
        } catch {
            exit(withError: error)
        }
        if fflush(stdout) != 0 || ferror(stdout) != 0 {
            exit(withError: FileError("standard output", "cannot be written: \(String(cString: strerror(errno)))"))
        }
    }
}
