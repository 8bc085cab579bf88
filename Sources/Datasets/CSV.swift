import Graph

/// Numbers separated by commas, one row a line.
public enum CSV {
    /// A `[rows, columns]` float32 array. A first line of names is a heading, which is no row.
    /// - Parameter notice: is told in words what looks as if it were not meant so.
    /// - Throws: `FileError` with line and column of the first cell that is not a number.
    public static func read(
        _ path: String, notice: (String) -> Void = { _ in }
    ) throws(FileError) -> HostArray {
        try decode(Files.read(path, limit: 1 << 32), path, notice: notice)
    }

    static func decode(
        _ bytes: [UInt8], _ path: String, notice: (String) -> Void = { _ in }
    ) throws(FileError) -> HostArray {
        try TableReader.read(bytes, path, separator: UInt8(ascii: ",")) {
            (reader: inout TableReader) throws(FileError) in
            let first = try reader.firstLine()
            var isHeading = false
            if first.cells.allSatisfy({ reader.number($0) == nil }) {
                try reader.requireNames(first)
                isHeading = true
                notice(
                    "line \(first.line) is taken for the names of the columns, not for an example: \(first.cells.prefix(4).map { "“\(reader.string($0))”" }.joined(separator: ", "))\(first.cells.count > 4 ? ", ..." : "")"
                )
            }
            let values = try reader.rows(after: first, isHeading: isHeading)
            guard values.shape[0] > 0 else { throw FileError(path, "holds no numbers") }
            Self.notice(values, hasHeading: isHeading, notice)
            return values
        }
    }

    /// What is read as numbers, but looks as if it had been written for other ends.
    private static func notice(_ table: HostArray, hasHeading: Bool, _ notice: (String) -> Void) {
        let (rows, columns) = (table.shape[0], table.shape[1])
        guard columns >= 2 else { return }
        if !hasHeading, columns >= 3, rows > 1, (0..<columns).allSatisfy({ table.element($0) == Double($0) }) {
            notice(
                "line 1 counts the columns from 0, as a heading of pandas without names does; it is read as an example: leave it out with header=False"
            )
        }
        let start = table.element(0)
        if rows >= 3, start == 0 || start == 1,
            (0..<rows).allSatisfy({ table.element($0 * columns) == start + Double($0) })
        {
            notice(
                "the first column counts the rows, as an index of pandas does; it is read as a variable: leave it out with index=False"
            )
        }
    }
}
