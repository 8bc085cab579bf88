/// A wrong choice of the caller's: what was expected, what was found, what to do.
public struct UsageError: Error, Sendable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// Throws a `UsageError` with `message` unless the condition holds.
public func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw UsageError(message()) }
}

/// “; did you mean NAME?”, where a name is written nearly as one that there is; empty elsewhere.
public func suggestion(for name: String, among known: some Sequence<String>) -> String {
    let near = known.map { (distance: editDistance(name.lowercased(), $0.lowercased()), name: $0) }
        .filter { $0.distance <= max(1, name.count / 3) }.min { ($0.distance, $0.name) < ($1.distance, $1.name) }
    return near.map { "; did you mean \($0.name)?" } ?? ""
}

/// Letters to put in, leave out, replace or swap with their neighbour until one word is the other (Damerau 1964).
private func editDistance(_ a: String, _ b: String) -> Int {
    let (a, b) = (Array(a.utf8), Array(b.utf8))
    var rows = [[Int]](repeating: [Int](repeating: 0, count: b.count + 1), count: a.count + 1)
    for i in 0...a.count { rows[i][0] = i }
    for j in 0...b.count { rows[0][j] = j }
    guard !a.isEmpty, !b.isEmpty else { return a.count + b.count }
    for i in 1...a.count {
        for j in 1...b.count {
            rows[i][j] = min(
                rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1))
            if i > 1, j > 1, a[i - 1] == b[j - 2], a[i - 2] == b[j - 1] {
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
            }
        }
    }
    return rows[a.count][b.count]
}
