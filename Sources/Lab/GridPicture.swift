import Datasets
import FoundationEssentials
import Likelihood

/// The densities on the plane that a group's members learned as one picture (SVG): a row for each model, a column for each data set,
/// below each density its figure.
struct GridPicture {
    private struct Cell {
        let row: GroupRun.Row
        let column: Int
        /// Of the model's density, as its run wrote it.
        let png: [UInt8]?
    }

    private let title: String
    private let columns: [String]
    /// By model, in the order of the members.
    private let lines: [(model: String, cells: [Cell])]

    private static let (side, names, gap, top) = (80.0, 150.0, 6.0, 60.0)
    private static let line = side + 22

    /// - Parameters:
    ///   - rows: of members called `MODEL-COLUMN`; others are left out.
    ///   - folder: of the group.
    init(title: String, _ rows: [GroupRun.Row], columns: [String], folder: String) {
        (self.title, self.columns) = (title, columns)
        var lines: [(model: String, cells: [Cell])] = []
        for row in rows {
            guard let column = columns.firstIndex(where: { row.experiment.hasSuffix("-\($0)") }) else { continue }
            let model = String(row.experiment.dropLast(columns[column].count + 1))
            let png = try? Files.read("\(folder)/\(row.experiment)/\(GroupRun.smallDensity)", limit: 1 << 20)
            let cell = Cell(row: row, column: column, png: png)
            if let place = lines.firstIndex(where: { $0.model == model }) {
                lines[place].cells.append(cell)
            } else {
                lines.append((model, [cell]))
            }
        }
        self.lines = lines
    }

    var svg: String {
        let width = Self.names + (Self.side + Self.gap) * Double(columns.count) + 10
        let height = Self.top + Self.line * Double(lines.count) + 10
        var parts = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(fixed(width, 0)) \(fixed(height, 0))\" font-family=\"sans-serif\" font-size=\"12\">",
            "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
            SVG.text(title, 10, 24, "font-size=\"15\" font-weight=\"bold\""),
        ]
        for (index, column) in columns.enumerated() {
            parts.append(SVG.text(column, left(index), Self.top - 8, "font-size=\"10\" fill=\"#555\""))
        }
        for (index, line) in lines.enumerated() {
            let y = Self.top + Self.line * Double(index)
            parts.append(SVG.text(line.model, 10, y + Self.side / 2, ""))
            for cell in line.cells {
                let x = left(cell.column)
                if let png = cell.png {
                    parts.append(
                        "<image x=\"\(fixed(x, 1))\" y=\"\(fixed(y, 1))\" width=\"\(fixed(Self.side, 0))\" height=\"\(fixed(Self.side, 0))\" href=\"data:image/png;base64,\(Data(png).base64EncodedString())\"/>"
                    )
                }
                let figure = cell.row.aboveOptimum ?? cell.row.test
                parts.append(
                    SVG.text(figure.map { fixed($0.mean, 3) } ?? "–", x, y + Self.side + 13, "font-size=\"10\""))
            }
        }
        return (parts + ["</svg>", ""]).joined(separator: "\n")
    }

    private func left(_ column: Int) -> Double { Self.names + (Self.side + Self.gap) * Double(column) }
}

/// What pictures are written with.
enum SVG {
    static func text(_ text: String, _ x: Double, _ y: Double, _ attributes: String) -> String {
        let escaped = text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
        return "<text x=\"\(fixed(x, 1))\" y=\"\(fixed(y, 1))\" \(attributes)>\(escaped)</text>"
    }
}
