import Compiler
import Datasets
import Graph
import Likelihood

/// Pictures of a model of points on a plane: its density, its samples, and the grid of latents as the flow bends it.
public enum PlanePictures {
    /// The square that is shown reaches from -reach to reach.
    private static let reach = 4.0
    private static let side = 320

    /// Writes `density.png`, `samples.png` and, for models with latents, `grid.png` into a folder; their paths.
    public static func write(_ run: Run, samples: Int, seed: UInt64, folder: String) throws -> [String] {
        var paths = ["\(folder)/density.png"]
        try writeDensity(run, side: side, to: paths[0])
        if samples > 0 {
            let drawn = try run.sample(count: samples, SamplingOptions(seed: seed)).examples
            paths.append("\(folder)/samples.png")
            try PNG.write(points(drawn.doubles, strength: 160), to: paths[paths.count - 1])
        }
        if run.model is any LatentModel {
            paths.append("\(folder)/grid.png")
            try PNG.write(points(try run.decode(lattice()).doubles, strength: 90), to: paths[paths.count - 1])
        }
        return paths
    }

    /// Writes the density as a picture of `side` by `side` pixels.
    public static func writeDensity(_ run: Run, side: Int, to path: String) throws {
        try PNG.write(density(run, side: side), to: path)
    }

    /// Dark where the density is high; the darkest is the maximum.
    private static func density(_ run: Run, side: Int) throws -> HostArray {
        var plane: [Float] = []
        for row in 0..<side {
            for column in 0..<side {
                plane.append(Float((Double(column) + 0.5) / Double(side) * 2 * reach - reach))
                plane.append(Float(reach - (Double(row) + 0.5) / Double(side) * 2 * reach))
            }
        }
        let logs = try run.logProbability(HostArray(plane, shape: [side * side, 2]))
        let top = logs.filter(\.isFinite).max() ?? 0
        return HostArray(
            logs.map { log in UInt8(255 * (1 - Math.exp((log.isNaN ? -.infinity : log) - top).squareRoot())) },
            shape: [side, side])
    }

    /// Each point darkens its pixel.
    private static func points(_ x: [Double], strength: Int) -> HostArray {
        var pixels = [Int](repeating: 255, count: side * side)
        for i in 0..<x.count / 2 {
            let column = ((x[2 * i] + reach) / (2 * reach) * Double(side)).rounded(.down)
            let row = ((reach - x[2 * i + 1]) / (2 * reach) * Double(side)).rounded(.down)
            guard column >= 0, row >= 0, column < Double(side), row < Double(side) else { continue }
            pixels[Int(row) * side + Int(column)] -= strength
        }
        return HostArray(pixels.map { UInt8(max(0, $0)) }, shape: [side, side])
    }

    /// Lines of constant first or second latent, half a standard deviation apart, as many points each.
    private static func lattice() -> HostArray {
        var latents: [Float] = []
        for line in -6...6 {
            for step in 0..<1500 {
                let along = Float(step) / 1499 * 6 - 3
                latents += [Float(line) / 2, along, along, Float(line) / 2]
            }
        }
        return HostArray(latents, shape: [latents.count / 2, 2])
    }
}
