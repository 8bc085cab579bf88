import ArgumentParser
import Datasets
import Likelihood

struct NewCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new", abstract: "Write a package with a model, an experiment and a test of your own.")

    @Argument(help: "The package's name, a new folder.") var name: String

    func run() throws { throw UsageError("not yet") }
}
