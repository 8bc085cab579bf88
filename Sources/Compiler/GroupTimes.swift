import Graph

/// How long a group of a schedule took.
public struct GroupTime: Sendable {
    /// The operations in the group.
    public let label: String
    /// The line that made it.
    public let location: SourceLocation?
    /// On an OpenCL device what the device measured, without the pauses between kernels; on the CPU by the clock.
    public let seconds: Double

    public init(_ group: Group, seconds: Double) {
        label = group.label
        location = group.location
        self.seconds = seconds
    }
}

/// Prints how long the groups of a run took, the longest first and those of one kind together (`MARTLET_DEBUG=4`).
///
/// - Parameter times: one for each group of the schedule, in order.
public func printTimes(_ times: [GroupTime], of schedule: Schedule) {
    var kinds: [String: (seconds: Double, count: Int)] = [:]
    for (time, group) in zip(times, schedule.groups) {
        let place = time.location.map { " (\($0))" } ?? ""
        kinds["\(time.label) [\(group.extents)]\(place)", default: (0, 0)].seconds += time.seconds
        kinds["\(time.label) [\(group.extents)]\(place)", default: (0, 0)].count += 1
    }
    for (kind, time) in kinds.sorted(by: { $0.value.seconds > $1.value.seconds }) {
        debugLine("\((time.seconds * 1e6).rounded() / 1e3) ms, \(time.count) times: \(kind)")
    }
}
