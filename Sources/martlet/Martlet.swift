import ArgumentParser
import Training

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
}
