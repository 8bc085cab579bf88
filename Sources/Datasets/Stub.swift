import Distributions
import Graph
import Likelihood

extension Dataset { public var weights: [Split: [Float]]? { nil } }

extension DataFiles {
    public func load(as wanted: ExampleKind?, seed: UInt64, notice: (String) -> Void) throws -> LoadedFiles {
        let array = try ArrayFile.read(train)
        let n = array.shape[0]
        let order = HostRandom(seed: seed, stream: "split").permutation(n, step: 0)
        let (a, b) = (n * 8 / 10, n * 9 / 10)
        var shape = Array(array.shape.dropFirst())
        if shape.count == 2 { shape = [1] + shape }
        let flat = Examples(array).rows
        let parts = [order[..<a], order[a..<b], order[b...]].map { flat.rows($0.sorted()) }
        let dataset = try Dataset(name: train, train: parts[0], valid: parts[1], test: parts[2], exampleShape: shape)
        let values = parts[0].doubles
        let isWhole = values.allSatisfy { $0 >= 0 && $0 == $0.rounded() || $0.isNaN }
        let top = values.max() ?? 1
        var columns: [Column]? = nil
        let w = flat.shape[1]
        if !isWhole {
            columns = (0..<w).map { c in
                let own = stride(from: c, to: values.count, by: w).map { values[$0] }
                let mean = own.reduce(0, +) / Double(own.count)
                let v = own.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(own.count)
                return Column("c\(c)", .real(mean: mean, deviation: v.squareRoot()))
            }
        }
        return LoadedFiles(
            dataset: dataset, examples: ExampleShape(shape, columns: columns),
            values: isWhole ? (top <= 1 ? .binary : .levels(Int(top) + 1)) : .real,
            rows: [.train: order[..<a].sorted(), .valid: order[a..<b].sorted(), .test: order[b...].sorted()], sources: [])
    }
}

extension LoadedFiles {
    public static func read(_ path: String, like examples: ExampleShape, values: VariableDomain, allowsMissing: Bool) throws -> HostArray {
        Examples(try ArrayFile.read(path)).rows
    }
    public static func readFeatures(_ path: String, count: Int?) throws -> HostArray { try ArrayFile.read(path) }
}

public enum Table {
    public static func write(_ rows: HostArray, columns: [Column], extra: [(name: String, values: [Double])], to path: String) throws {}
}
