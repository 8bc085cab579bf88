import Graph
import Testing

@testable import Datasets

@Suite struct DensityTests {
    /// The density integrates to one, and gives every quarter of the plane the share of points that is drawn there.
    @Test(arguments: PlanarDensity.allCases) func drawsAreFromTheDensity(_ density: PlanarDensity) {
        let (side, width) = (200, 10.0)
        let cell = width / Double(side)
        var total = 0.0
        var boxes = [Double](repeating: 0, count: 16)
        for i in 0..<side {
            for j in 0..<side {
                let (x, y) = ((Double(i) + 0.5) * cell - width / 2, (Double(j) + 0.5) * cell - width / 2)
                let mass = Math.exp(density.logDensity(x, y)) * cell * cell
                total += mass
                boxes[box(x, y)] += mass
            }
        }
        #expect(abs(total - 1) < 2e-3, "\(total)")
        let count = 20_000
        let points = density.draw(seed: 3, count: count).doubles
        var seen = [Double](repeating: 0, count: 16)
        for i in 0..<count { seen[box(points[2 * i], points[2 * i + 1])] += 1 / Double(count) }
        for (a, b) in zip(boxes, seen) { #expect(abs(a - b) < 5 * (b * (1 - b) / Double(count)).squareRoot() + 2e-3) }
    }

    private func box(_ x: Double, _ y: Double) -> Int {
        let place = { (v: Double) in v < -1 ? 0 : v < 0 ? 1 : v < 1 ? 2 : 3 }
        return place(x) * 4 + place(y)
    }
}
