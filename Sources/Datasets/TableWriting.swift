import Distributions
import Graph

/// Tables of numbers and names as files.
public enum Table {
    /// Writes rows as a csv file with a heading, which `LoadedFiles.read` reads back to the bit.
    /// - Parameters:
    ///   - rows: `[rows, columns]`, as a model has them: the places of names, NaN where nothing is known.
    ///   - columns: without any names, nor `extra`, there is no heading.
    ///   - extra: further columns behind.
    /// - Throws: `FileError` where a cell is none of its column's names, or the file cannot be written.
    public static func write(
        _ rows: HostArray, columns: [Column], extra: [(name: String, values: [Double])] = [], to path: String
    ) throws {
        let count = rows.shape.first ?? 0
        guard rows.shape == [count, columns.count], extra.allSatisfy({ $0.values.count == count }) else {
            throw FileError(
                path,
                "cannot hold \(rows.shape) in \(columns.count) columns, with \(extra.map(\.values.count)) numbers behind"
            )
        }
        var bytes: [UInt8] = []
        let names = columns.map(\.name) + extra.map(\.name)
        if names.contains(where: { !$0.isEmpty }) {
            let shown = names.enumerated().map { $1.isEmpty ? "column \($0 + 1)" : $1 }
            bytes += Array((shown.map(quoted).joined(separator: ",") + "\n").utf8)
        }
        let quotedNames = columns.map { $0.categories?.map(quoted) }
        // Some rows at once: the numbers of all would take a second array.
        for start in stride(from: 0, to: count, by: 4096) {
            let part = rows.rows(start..<min(count, start + 4096))
            let cells = part.floats
            for row in 0..<part.shape[0] {
                var line: [String] = []
                for (i, column) in columns.enumerated() {
                    let cell = cells[row * columns.count + i]
                    line.append(try text(cell, column, quotedNames[i], path))
                }
                for (_, values) in extra { line.append(values[start + row].isNaN ? "" : "\(values[start + row])") }
                // A line of nothing would be passed over.
                let joined = line.joined(separator: ",")
                bytes += Array(((joined.isEmpty ? "\"\"" : joined) + "\n").utf8)
            }
        }
        try Files.write(bytes, to: path)
    }

    private static func text(
        _ cell: Float, _ column: Column, _ names: [String]?, _ path: String
    ) throws(FileError) -> String {
        if cell.isNaN { return "" }
        switch column.kind {
        case .real: return "\(cell)"
        case .whole: return cell == cell.rounded() && abs(cell) <= 0x1p24 ? "\(Int(cell))" : "\(cell)"
        case .category:
            guard let names, let place = Int(exactly: cell), names.indices.contains(place) else {
                throw FileError(
                    path,
                    "a cell of column “\(column.name)” is \(cell), which is the place of none of its \(names?.count ?? 0) names"
                )
            }
            return names[place]
        }
    }

    /// A name in quotation marks where others would take it apart.
    private static func quoted(_ name: String) -> String {
        let isPlain =
            !name.isEmpty && name.first != " " && name.last != " "
            && name.utf8.allSatisfy { byte in !",;\t\"\n\r".utf8.contains(byte) }
        return isPlain
            ? name : "\"\(name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\""))\""
    }
}
