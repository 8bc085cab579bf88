import Graph

extension Schedule: CustomStringConvertible {
    /// One line a group: what it is, what it reads and what it writes (`MARTLET_DEBUG=2`).
    public var description: String {
        func name(_ id: Int) -> String {
            switch values[id].storage {
            case .input(let name), .state(let name): name
            case .constant: "constant\(id)"
            case .temporary: "t\(id)"
            }
        }
        return groups.enumerated().map { index, group in
            let writes = group.writes.map { "\(name($0)): \(values[$0].type)" }.joined(separator: ", ")
            var seen = Set<Int>()
            let reads = group.reads.filter { seen.insert($0).inserted }.map(name).joined(separator: ", ")
            return "\(index) \(group.label)(\(reads)) -> \(writes)" + (group.location.map { "  \($0)" } ?? "")
        }.joined(separator: "\n") + "\noutputs " + outputs.map(name).joined(separator: ", ")
    }
}

extension Group {
    /// The size of the group: `m x n x k` of a product, the extents of the axes of any other.
    public var extents: String { kind.extents.map(\.description).joined(separator: " x ") }
}
