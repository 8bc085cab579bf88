import Graph
import Likelihood

/// What came of a group as one picture (SVG): a line for each model, the best at the top, and its dots on logarithmic scales.
struct GroupPicture {
    private struct Panel {
        let title: String
        /// How a number is written beside its dot.
        let digits: Int
        let value: (GroupRun.Row) -> Double?
    }

    private let title: String
    private let rows: [GroupRun.Row]
    private let panels: [Panel]

    private static let (names, panel, line, top) = (200.0, 200.0, 20.0, 60.0)

    /// - Parameter rows: in the order in which they are shown; those without a likelihood are left out.
    init(title: String, _ rows: [GroupRun.Row]) {
        self.title = title
        self.rows = rows.filter { $0.test != nil && $0.isLikelihood == true }
        let hasOptimum = rows.contains { $0.aboveOptimum != nil }
        panels = [
            hasOptimum
                ? Panel(title: "nats above the optimum", digits: 2) { $0.aboveOptimum?.mean }
                : Panel(title: "test figure", digits: 2) { $0.test?.mean },
            Panel(title: "parameters", digits: 0) { $0.parameters.map(Double.init) },
            Panel(title: "seconds of training", digits: 1) { $0.seconds },
            Panel(title: "seconds for \(GroupRun.draws) draws", digits: 3) { $0.drawingSeconds },
        ]
    }

    var svg: String {
        let width = Self.names + Self.panel * Double(panels.count) + 20
        let height = Self.top + Self.line * Double(rows.count) + 40
        var parts = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 \(fixed(width, 0)) \(fixed(height, 0))\" font-family=\"sans-serif\" font-size=\"12\">",
            "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
            SVG.text(title, 10, 24, "font-size=\"15\" font-weight=\"bold\""),
        ]
        for (index, row) in rows.enumerated() {
            let y = place(of: index)
            if index % 2 == 0 {
                parts.append(
                    "<rect x=\"0\" y=\"\(fixed(y - Self.line / 2, 1))\" width=\"\(fixed(width, 0))\" height=\"\(fixed(Self.line, 0))\" fill=\"#f4f4f4\"/>"
                )
            }
            parts.append(SVG.text(row.experiment, 10, y + 4, ""))
        }
        for (index, panel) in panels.enumerated() {
            parts += drawn(panel, left: Self.names + Self.panel * Double(index))
        }
        if rows.contains(where: { $0.isBound == true }) {
            parts.append(
                SVG.text("○ a bound: the model's own likelihood is at least as good", 10, height - 12, "fill=\"#555\""))
        }
        return (parts + ["</svg>", ""]).joined(separator: "\n")
    }

    private func place(of row: Int) -> Double { Self.top + Self.line * (Double(row) + 0.5) }

    private func drawn(_ panel: Panel, left: Double) -> [String] {
        // A figure below the optimum, as a test set may give by chance, has no logarithm; it stands at the left end.
        let values = rows.map { panel.value($0).flatMap { $0.isFinite ? $0 : nil } }
        let positive = values.compactMap { $0 }.filter { $0 > 0 }
        guard let least = positive.min(), let most = positive.max() else { return [] }
        let (low, high) = (Math.log(least), Math.log(most))
        // The number stands to the right of its dot.
        let (start, end) = (left + 10, left + Self.panel - 70)
        var parts = [SVG.text(panel.title, left + 4, Self.top - 12, "fill=\"#555\"")]
        for (index, value) in values.enumerated() {
            guard let value else { continue }
            let share = high > low && value > 0 ? (Math.log(value) - low) / (high - low) : 0
            let (x, y) = (start + share * (end - start), place(of: index))
            let isHollow = rows[index].isBound == true
            parts.append(
                "<line x1=\"\(fixed(start, 1))\" y1=\"\(fixed(y, 1))\" x2=\"\(fixed(x, 1))\" y2=\"\(fixed(y, 1))\" stroke=\"#bbb\"/>"
            )
            parts.append(
                "<circle cx=\"\(fixed(x, 1))\" cy=\"\(fixed(y, 1))\" r=\"4\" stroke=\"#1f5fa8\" fill=\"\(isHollow ? "white" : "#1f5fa8")\"/>"
            )
            parts.append(SVG.text(fixed(value, panel.digits), x + 8, y + 4, "font-size=\"10\""))
        }
        return parts
    }
}
