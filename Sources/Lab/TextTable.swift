import Datasets

/// Rows of cells under a heading, printed in columns and written as CSV.
struct TextTable {
    let heading: [String]
    var rows: [[String]]

    /// Prints it, the last column as it comes: it ends the line.
    /// - Parameter marks: what is written behind some rows, by their places.
    func print(marking marks: [Int: String] = [:]) {
        let all = [heading] + rows
        let widths = heading.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        for (index, row) in all.enumerated() {
            let cells = zip(row.dropLast(), widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }
            printLine((cells + row.suffix(1)).joined(separator: "  ") + (marks[index - 1].map { "  \($0)" } ?? ""))
        }
    }

    func write(csv path: String) throws {
        let lines = ([heading] + rows).map { row in
            row.map { cell in
                cell.contains(where: { ",\"\n".contains($0) })
                    ? "\"" + cell.replacing("\"", with: "\"\"") + "\"" : cell
            }.joined(separator: ",") + "\n"
        }
        try Files.write(Array(lines.joined().utf8), to: path)
    }
}
