import Graph

/// How one group's results differ between two devices that were given the same inputs.
public struct GroupComparison: Sendable {
    public let index: Int
    public let label: String
    public let location: SourceLocation?
    /// max |a - b| over the group's outputs; 1 where a condition differs. A condition may differ where the group writes numbers beside it
    /// that differ at the same place: they lie on its threshold within rounding, and their difference is counted.
    public let largestDifference: Double
    /// max |a|, of numbers.
    public let largestValue: Double
    public var relativeDifference: Double { largestValue > 0 ? largestDifference / largestValue : largestDifference }
}

/// Runs a schedule on two devices group by group: each group of the second gets the inputs that the first had, so a
/// difference belongs to the group that made it.
///
/// - Parameters:
///   - feeds: every input by name.
///   - first, second: the schedule loaded on each device, with states of equal content.
/// - Returns: a comparison for every group, and the end-to-end difference of each output when both run on their own.
public func compareGroups(
    _ first: any Executable, _ second: any Executable, feeds: [String: HostArray], batch: Int
) throws -> (groups: [GroupComparison], outputs: [Double]) {
    let schedule = first.schedule
    var initial: [Int: HostArray] = [:]
    for id in schedule.states { initial[id] = try first.read(id, batch: batch) }
    for id in schedule.inputs {
        guard let array = feeds[schedule.values[id].label] else {
            throw GraphError(operation: schedule.values[id].label, message: "no value was given for this input")
        }
        try first.write(array, to: id, batch: batch)
        try second.write(array, to: id, batch: batch)
    }
    var result: [GroupComparison] = []
    var written = Set<Int>()
    for (index, group) in schedule.groups.enumerated() {
        try first.clearFirstWrites(of: index, written: &written, batch: batch)
        for id in Set(group.reads).sorted() {
            if case .constant = schedule.values[id].storage { continue }
            try second.write(try first.read(id, batch: batch), to: id, batch: batch)
        }
        // A value that a group only writes in part keeps the rest.
        for id in Set(group.writes).subtracting(group.reads).sorted() {
            try second.write(try first.read(id, batch: batch), to: id, batch: batch)
        }
        try first.run(group: index, batch: batch)
        try second.run(group: index, batch: batch)
        var (difference, largest) = (0.0, 0.0)
        let pairs = try Set(group.writes).sorted().map { id in
            (
                isCondition: schedule.values[id].type.element == .bool,
                a: try first.read(id, batch: batch).doubles, b: try second.read(id, batch: batch).doubles
            )
        }
        for pair in pairs {
            let numbers = pair.isCondition ? pairs.filter { !$0.isCondition && $0.a.count == pair.a.count } : []
            for (i, (x, y)) in zip(pair.a, pair.b).enumerated() where !(x.isNaN && y.isNaN) {
                if !pair.isCondition, x.isFinite { largest = Swift.max(largest, abs(x)) }
                if x == y || numbers.contains(where: { $0.a[i] != $0.b[i] }) { continue }
                difference = Swift.max(difference, abs(x - y).isNaN ? .infinity : abs(x - y))
            }
        }
        result.append(
            GroupComparison(
                index: index, label: group.label, location: group.location, largestDifference: difference,
                largestValue: largest))
    }
    // Both devices run the whole schedule from the same states, each with its own intermediate results.
    for (id, array) in initial {
        try first.write(array, to: id, batch: batch)
        try second.write(array, to: id, batch: batch)
    }
    let a = try first.run(feeds.mapValues { .host($0) }, batch: batch)
    let b = try second.run(feeds.mapValues { .host($0) }, batch: batch)
    let outputs = zip(a, b).map { x, y in
        zip(x.doubles, y.doubles).reduce(0.0) { Swift.max($0, abs($1.0 - $1.1)) }
            / Swift.max(1e-30, x.doubles.reduce(0.0) { Swift.max($0, abs($1)) })
    }
    for (id, array) in initial {
        try first.write(array, to: id, batch: batch)
        try second.write(array, to: id, batch: batch)
    }
    return (result, outputs)
}
