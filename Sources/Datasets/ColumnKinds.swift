import Distributions
import Graph

/// What the columns of a table are as variables of a model.
struct ColumnKinds {
    private(set) var columns: [Column]?
    private(set) var values: VariableDomain
    private(set) var notices: [String] = []

    /// Whole numbers are counts if they lie within this, or are no more different ones than `mostCounts`.
    private static let widestCounts: Float = 1000
    private static let mostCounts = 100
    /// From here on float32 has no place for every whole number.
    private static let largestWhole: Float = 0x1p24

    /// - Parameters:
    ///   - parts: of the rows, texts already as the places of `names`.
    ///   - chosen: the columns that are variables.
    init(
        _ tables: [RawTable], _ parts: TableParts, _ chosen: [Int], _ names: [Int: [String]], _ path: String
    ) throws(FileError) {
        let moments = parts.slices(tables.map(\.values)).map { ColumnMoments($0) }
        let (train, table) = (moments[0], tables[0])
        /// Of all parts.
        let least = chosen.map { column in moments.map { $0.least[column] }.min()! }
        let most = chosen.map { column in moments.map { $0.most[column] }.max()! }
        let isWhole = chosen.indices.map { i in
            moments.allSatisfy { $0.isWhole[chosen[i]] } && max(abs(least[i]), abs(most[i])) <= Self.largestWhole
        }
        let isComplete = chosen.allSatisfy { column in tables.allSatisfy { $0.gaps[column] == nil } }
        let isOfNumbers = chosen.allSatisfy { names[$0] == nil }
        if isOfNumbers, isComplete, isWhole.allSatisfy({ $0 }), Self.areAlike(least, most) {
            (columns, values, notices) = Self.levels(most.max()!, table, chosen, train)
            return
        }
        var kinds: [Column] = []
        for (i, column) in chosen.enumerated() {
            let title = table.columnTitle(column)
            guard train.counts[column] > 0, !train.isConstant(column) else {
                let value = train.least[column]
                let text =
                    names[column]?.first.map { "“\($0)”" }
                    ?? (value == value.rounded() && abs(value) < 0x1p24 ? "\(Int(value))" : "\(value)")
                throw FileError(
                    path,
                    "\(title) holds \(train.counts[column] == 0 ? "nothing" : "\(text) alone") in the training rows; leave it out"
                )
            }
            let (mean, deviation) = train.scaling(column)
            var kind = Column.Kind.real(mean: mean, deviation: deviation)
            if let names = names[column] {
                kind = .category(names)
            } else if isWhole[i], least[i] == 0, most[i] == 1 {
                kind = .category(["0", "1"])
            } else if isWhole[i], most[i] - least[i] <= Self.widestCounts || Self.hasFewValues(table, column, parts) {
                kind = .whole(mean: mean, deviation: deviation)
            } else if deviation < abs(mean) * 0x1p-20 {
                notices.append(
                    "\(title) holds numbers so large beside their differences that float32 tells few apart; subtract \(Float(mean)) from them"
                )
            }
            kinds.append(Column(table.names[column], kind))
        }
        columns = kinds
        let isReal = kinds.allSatisfy { if case .real = $0.kind { true } else { false } }
        values = isReal ? .real : .table(kinds)
        notices.insert(Self.words(kinds), at: 0)
    }

    /// Columns that are all alike, of whole numbers up to the greatest.
    private static func levels(
        _ greatest: Float, _ table: RawTable, _ chosen: [Int], _ train: ColumnMoments
    ) -> ([Column]?, VariableDomain, [String]) {
        let levels = greatest > 16 ? 256 : Int(greatest) + 1
        let named = chosen.map { column in
            let (mean, deviation) = train.scaling(column)
            return Column(
                table.names[column],
                greatest <= 1 ? .category(["0", "1"]) : .whole(mean: mean, deviation: deviation))
        }
        let words = greatest <= 1 ? "0 and 1" : "whole numbers, read as 0 to \(levels - 1)"
        return (
            table.isNamed ? named : nil, greatest <= 1 ? .binary : .levels(levels),
            ["all \(chosen.count) columns hold \(words)"]
        )
    }

    private static func words(_ kinds: [Column]) -> String {
        var counts: (real: Int, whole: Int, names: Int) = (0, 0, 0)
        for column in kinds {
            switch column.kind {
            case .real: counts.real += 1
            case .whole: counts.whole += 1
            case .category: counts.names += 1
            }
        }
        let parts = [
            counts.real > 0 ? "\(counts.real) of real numbers" : nil,
            counts.whole > 0 ? "\(counts.whole) of whole numbers" : nil,
            counts.names > 0 ? "\(counts.names) of names or of 0 and 1" : nil,
        ].compactMap { $0 }
        return "\(kinds.count) column\(kinds.count == 1 ? "" : "s"): \(parts.joined(separator: ", "))"
    }

    /// Whether columns of whole numbers look like pixels or answers of one scale: all from 0, and most up to about the same number.
    private static func areAlike(_ least: [Float], _ most: [Float]) -> Bool {
        guard let greatest = most.max(), greatest >= 1, greatest <= 255, least.allSatisfy({ $0 >= 0 }) else {
            return false
        }
        let full = least.indices.count { least[$0] == 0 && most[$0] >= 0.9 * greatest }
        return 2 * full > least.count
    }

    private static func hasFewValues(_ table: RawTable, _ column: Int, _ parts: TableParts) -> Bool {
        var seen = Set<Float>()
        table.forEach(column, in: parts.places[0].rows) { if seen.count <= mostCounts { seen.insert($1) } }
        return seen.count <= mostCounts
    }
}
