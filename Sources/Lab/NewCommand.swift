import ArgumentParser
import Datasets
import Likelihood

#if canImport(Glibc)
    import Glibc
#endif

struct NewCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "new",
        abstract: "Write a package with a model, an experiment and a test of your own; it has every verb for them.")

    @Argument(help: "The package's name: a new folder.") var name: String
    @Option(
        help:
            "Where the package finds Martlet: a folder, or the address of a repository (with --tag). The clone that this program was built in, if not given."
    )
    var martlet: String?
    @Option(help: "The tagged version of the repository, such as 1.0.0.") var tag: String?

    func run() throws {
        let last = String(name.split(separator: "/").last ?? "")
        try require(
            last.first?.isLetter == true && last.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") },
            "new: expected a name of letters, digits and “-” that begins with a letter, found “\(last)”")
        try require(
            !["martlet", "test", "tests", "swift", "package"].contains(last.lowercased()),
            "new: “\(last)” is the name of something else in a package; choose another")
        let dependency = try dependency()
        let files = PackageTemplate(name: last, dependency: dependency.line, package: dependency.package).files
        let isNew = try Files.makeFolder(name) { path in
            for (file, text) in files {
                let place = "\(path)/\(file)"
                try Files.makeFolder(String(place[..<(place.lastIndex(of: "/") ?? place.startIndex)]))
                try Files.write(Array(text.utf8), to: place)
            }
        }
        guard isNew else { throw FileError(name, "is there already; choose another name") }
        printLine("wrote \(name): \(files.map(\.file).joined(separator: ", "))")
        printLine("next: cd \(name) && swift build -c release && .build/release/\(last) run \(last)-glyphs")
    }

    /// The line of Package.swift that names Martlet, and what its products are asked of.
    private func dependency() throws -> (line: String, package: String) {
        if let tag {
            guard let martlet else { throw UsageError("--tag \(tag): name the repository with --martlet") }
            let package = martlet.split(separator: "/").last.map { $0.hasSuffix(".git") ? $0.dropLast(4) : $0 } ?? ""
            return (".package(url: \"\(quoted(martlet))\", exact: \"\(quoted(tag))\")", String(package))
        }
        guard let folder = martlet ?? Self.ownClone() else {
            throw UsageError(
                "new: this program does not lie in a clone of Martlet; name a clone, or a repository and its --tag, with --martlet"
            )
        }
        guard Files.exists("\(folder)/Package.swift"), let whole = Self.absolute(folder) else {
            throw UsageError(
                "--martlet \(folder): expected the folder of a clone of Martlet, which holds Package.swift")
        }
        return (".package(path: \"\(quoted(whole))\")", whole.split(separator: "/").last.map(String.init) ?? whole)
    }

    private func quoted(_ text: String) -> String {
        text.flatMap { $0 == "\"" || $0 == "\\" ? ["\\", $0] : [$0] }.map(String.init).joined()
    }

    private static func absolute(_ path: String) -> String? {
        guard let resolved = realpath(path, nil) else { return nil }
        defer { free(resolved) }
        return String(cString: resolved)
    }

    /// The clone whose build folder this program lies in.
    private static func ownClone() -> String? {
        guard var folder = absolute("/proc/self/exe") else { return nil }
        while let slash = folder.lastIndex(of: "/") {
            folder = String(folder[..<slash])
            if Files.exists("\(folder)/Sources/Likelihood"), Files.exists("\(folder)/Package.swift") { return folder }
        }
        return nil
    }
}
