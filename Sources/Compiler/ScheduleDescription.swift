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
    public var extents: String {
        let axes: [Extent] =
            switch kind {
            case .elementwise(let group): group.iteration
            case .reduction(let group): group.keptExtents + group.reducedExtents
            case .product(let group): group.batch + [group.m, group.n, group.k]
            case .convolution(let group): group.shape
            case .operation: []
            case .loop(let group): [Extent(group.limit)]
            }
        return axes.map(\.description).joined(separator: " x ")
    }
}
