import Distributions
import Graph

/// What is seen of an array's values in one pass.
struct ValueRange {
    var least = Double.infinity
    var most = -Double.infinity
    /// Of those that are known.
    var isWhole = true
    /// The first that is not a number, and the first that is infinite.
    var firstMissing: Int?
    var firstInfinite: Int?

    init(_ array: HostArray) {
        array.withUnsafeBytes { bytes in
            switch array.type {
            case .uint8, .bool:
                var isThere = [Bool](repeating: false, count: 256)
                for byte in bytes { isThere[Int(byte)] = true }
                least = isThere.firstIndex(of: true).map(Double.init) ?? least
                most = isThere.lastIndex(of: true).map(Double.init) ?? most
            case .int32:
                let values = bytes.bindMemory(to: Int32.self)
                for value in values {
                    least = min(least, Double(value))
                    most = max(most, Double(value))
                }
            case .float32: scan(bytes.bindMemory(to: Float.self))
            case .float64: scan(bytes.bindMemory(to: Double.self))
            }
        }
    }

    private mutating func scan<T: BinaryFloatingPoint>(_ values: UnsafeBufferPointer<T>) {
        var (least, most, isWhole) = (T.infinity, -T.infinity, true)
        for (i, value) in values.enumerated() {
            guard value.isFinite else {
                if value.isNaN { firstMissing = firstMissing ?? i } else { firstInfinite = firstInfinite ?? i }
                continue
            }
            least = value < least ? value : least
            most = value > most ? value : most
            isWhole = isWhole && value == value.rounded(.towardZero)
        }
        (self.least, self.most, self.isWhole) = (Double(least), Double(most), isWhole)
    }

    mutating func merge(_ other: ValueRange) {
        least = min(least, other.least)
        most = max(most, other.most)
        isWhole = isWhole && other.isWhole
    }

    /// What variables hold that are all alike, from the values of all of them.
    /// - Parameter isImage: whether bytes are brightnesses, however dark.
    func domain(isImage: Bool) -> VariableDomain {
        guard isWhole, least >= 0, most < 65536 else { return .real }
        if most <= 1 { return .binary }
        return .levels(isImage || most > 16 && most <= 255 ? 256 : Int(most) + 1)
    }
}

/// Means and deviations of the columns of float32 rows, and what else is seen of each; NaN is left out.
struct ColumnMoments {
    var means: [Double]
    var deviations: [Double]
    var least: [Float]
    var most: [Float]
    var isWhole: [Bool]
    var counts: [Int]

    init(_ rows: HostArray) {
        let (count, width) = (rows.shape[0], rows.shape[1])
        means = [Double](repeating: 0, count: width)
        deviations = means
        least = [Float](repeating: .infinity, count: width)
        most = [Float](repeating: -.infinity, count: width)
        isWhole = [Bool](repeating: true, count: width)
        counts = [Int](repeating: 0, count: width)
        rows.withUnsafeBytes { bytes in
            let values = bytes.bindMemory(to: Float.self)
            var place = 0
            for _ in 0..<count {
                for column in 0..<width {
                    let value = values[place]
                    place &+= 1
                    if value.isNaN { continue }
                    counts[column] &+= 1
                    means[column] += Double(value)
                    if value < least[column] { least[column] = value }
                    if value > most[column] { most[column] = value }
                    if value != value.rounded(.towardZero) { isWhole[column] = false }
                }
            }
            for column in 0..<width { means[column] /= Double(max(1, counts[column])) }
            place = 0
            for _ in 0..<count {
                for column in 0..<width {
                    let difference = Double(values[place]) - means[column]
                    place &+= 1
                    if !difference.isNaN { deviations[column] += difference * difference }
                }
            }
        }
        for column in 0..<width {
            deviations[column] = (deviations[column] / Double(max(1, counts[column]))).squareRoot()
        }
    }

    var count: Int { means.count }

    /// Whether a column has one value alone.
    func isConstant(_ column: Int) -> Bool { !(least[column] < most[column]) }

    /// What standardises a column; 1 for its deviation where it has none.
    func scaling(_ column: Int) -> (mean: Double, deviation: Double) {
        let deviation = deviations[column]
        return (counts[column] > 0 ? means[column] : 0, deviation > 0 && deviation.isFinite ? deviation : 1)
    }
}
