import Graph
import Testing

@testable import Datasets

@Suite struct ImageTests {
    /// Every pixel comes from at most `limit` times half of the image's extent away, in either direction and as often in one as in
    /// the other; channels move alike; a step's images are its own.
    @Test func shearedPixelsComeFromNearby() {
        let (count, height, width, limit) = (200, 28, 20, 0.15)
        let plane = (0..<height * width).map(Float.init)
        let image = plane + plane.map { $0 + 1000 }
        let images = HostArray(
            Array(repeating: image, count: count).flatMap { $0 }, shape: [count, 2 * height * width])
        let sheared = { (limit: Double, step: Int) in
            Images.sheared(images, shape: (2, height, width), limit: limit, seed: 7, step: step)
        }
        #expect(sheared(0, 0) == images)
        #expect(sheared(limit, 3) == sheared(limit, 3))
        #expect(sheared(limit, 3) != sheared(limit, 4))
        let values = sheared(limit, 3).floats
        let farthest = (Int((limit * Double(width) / 2).rounded(.up)), Int((limit * Double(height) / 2).rounded(.up)))
        var sums = (0, 0)
        var moved = 0
        for example in 0..<count {
            for r in 0..<height {
                for c in 0..<width {
                    let at = (example * 2 * height + r) * width + c
                    let (row, column) = (Int(values[at]) / width, Int(values[at]) % width)
                    #expect(values[at + height * width] == values[at] + 1000)
                    #expect(abs(row - r) <= farthest.0 && abs(column - c) <= farthest.1)
                    sums.0 += row - r
                    sums.1 += column - c
                    if row != r || column != c { moved += 1 }
                }
            }
        }
        let pixels = Double(count * height * width)
        #expect(abs(Double(sums.0)) / pixels < 0.05 && abs(Double(sums.1)) / pixels < 0.05)
        #expect(Double(moved) / pixels > 0.3)
    }
}
