/// Names of parameters in files of runs from before names were paths in the whole model: a part that could stand alone, as a flow or
/// the MADE that is a flow's base, named its parameters itself, and kept those names inside of another unless two would have been the
/// same.
struct FormerNames {
    private let names: [String]

    /// - Parameter names: today's, of all parameters of a model.
    init(_ names: [String]) { self.names = names }

    /// The entries of a file under today's names. What an optimizer remembers of a parameter is called after it
    /// (`optimizer.NAME.first`).
    func today<Value>(_ file: [String: Value]) -> [String: Value] {
        // Names that are found as they are belong to nobody else.
        let known = Set(names)
        guard !known.allSatisfy({ file[$0] != nil }) else { return file }
        var former: [String: String] = [:]
        for name in names where file[name] == nil {
            var parts = name.split(separator: ".")
            var candidates: [String] = []
            while parts.count > 1 {
                parts.removeFirst()
                candidates.append(parts.joined(separator: "."))
            }
            if let found = candidates.first(where: { file[$0] != nil && !known.contains($0) }) { former[found] = name }
        }
        return Dictionary(
            file.map { key, value in
                if let name = former[key] { return (name, value) }
                for (old, name) in former {
                    for prefix in ["optimizer.", "average.", "best."] where key.hasPrefix(prefix) {
                        let rest = key.dropFirst(prefix.count)
                        if rest == old || rest.hasPrefix(old + ".") {
                            return (prefix + name + rest.dropFirst(old.count), value)
                        }
                    }
                }
                return (key, value)
            }, uniquingKeysWith: { first, _ in first })
    }
}
