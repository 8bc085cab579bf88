import Datasets
import Graph
import Likelihood

/// Charts as grey pictures.
public enum ChartPicture {
    private static let (width, height, margin) = (640, 320, 12)

    /// Writes a chart as PNG.
    public static func write(_ chart: Chart, to path: String) throws { try PNG.write(pixels(chart), to: path) }

    /// `[height, width]`, white where nothing is drawn.
    static func pixels(_ chart: Chart) -> HostArray {
        let lines = chart.lines + (chart.band.map { [$0.low, $0.high] } ?? [])
        let values = lines.flatMap(\.values).filter(\.isFinite)
        let (low, high) = (values.min() ?? 0, values.max() ?? 1)
        let last = max(1, lines.map { $0.first + $0.values.count - 1 }.max() ?? 1)
        var pixels = [UInt8](repeating: 255, count: width * height)
        func column(_ place: Double) -> Double {
            Double(margin) + place / Double(last) * Double(width - 1 - 2 * margin)
        }
        func row(_ value: Double) -> Double {
            let share = high > low ? (value - low) / (high - low) : 0.5
            return Double(height - 1 - margin) - share * Double(height - 1 - 2 * margin)
        }
        /// The value of a line between its points.
        func value(_ line: Chart.Line, at place: Double) -> Double? {
            let offset = place - Double(line.first)
            guard offset >= 0, offset <= Double(line.values.count - 1) else { return nil }
            let index = min(Int(offset), max(0, line.values.count - 2))
            guard line.values.count > 1 else { return line.values[0] }
            let share = offset - Double(index)
            return line.values[index] * (1 - share) + line.values[index + 1] * share
        }
        func fill(_ x: Int, from a: Double, to b: Double, _ shade: UInt8) {
            guard a.isFinite, b.isFinite else { return }
            let (top, bottom) = (min(a, b).rounded(), max(a, b).rounded())
            for y in max(0, Int(top))...max(0, min(height - 1, Int(bottom))) where y < height {
                pixels[y * width + x] = shade
            }
        }
        // Four points in each column of pixels, so that steep lines have no gaps and sharp turns keep their height.
        for x in 0..<width {
            let place = { (part: Double) in
                (Double(x) + part - Double(margin)) / Double(width - 1 - 2 * margin) * Double(last)
            }
            if let band = chart.band, let a = value(band.low, at: place(0)), let b = value(band.high, at: place(0)) {
                fill(x, from: row(a), to: row(b), 216)
            }
            for line in chart.lines {
                let rows = (0...4).compactMap { value(line, at: place(Double($0) / 4)) }.map(row)
                if let top = rows.min(), let bottom = rows.max() { fill(x, from: top, to: bottom + 1, line.shade) }
            }
        }
        return HostArray(pixels, shape: [height, width])
    }
}
