import Compiler

/// In which order a device is handed the steps of a schedule's groups, and which of them share a launch.
///
/// A launch costs a GPU some microseconds however little it does, and a flow of many layers has hundreds that do next to nothing: a scale is
/// the exponential of its parameter, a bias is moved by its gradient. Those that depend on parameters alone go first; those that nobody
/// waits for are kept back; and of one kernel, those that wait at the same time become one launch (`JoinedKernel`). No element is computed
/// otherwise than before, so results keep their bits. On other devices steps run in turn (`OpenCLDevice.joinsLaunches`).
struct LaunchOrder {
    /// A step of a group.
    struct Place: Hashable {
        var group: Int
        var step: Int
    }

    /// What is enqueued one after another; where there are several places, they are one launch.
    private(set) var stages: [[Place]] = []
    /// The kernels whose launches are joined, by the names of their launches.
    private(set) var joined: [String: JoinedKernel] = [:]
    /// The first and the last stage of each group; `nil` for a group without steps.
    private(set) var times: [ClosedRange<Int>?] = []

    /// Values in memory that a launch kept back may read, at most: they live until it runs.
    private static let mostBytes = 1 << 20
    /// The same for a launch that goes first.
    private static let mostBytesAhead = 1 << 16

    /// - Parameters:
    ///   - schedule: the groups that were lowered, with what they read and write.
    ///   - library: knows the parameters of kernels.
    init(_ groups: [LoweredGroup], of schedule: Schedule, _ library: KernelLibrary, _ lowering: LoweringContext) {
        // Of many values memory is planned for groups in turn.
        let pieces = schedule.values.count + groups.reduce(0) { $0 + $1.scratch.count }
        guard lowering.device.joinsLaunches, pieces <= MemoryPlan.mostSorted else {
            stages = groups.enumerated().flatMap { index, group in
                group.steps.indices.map { [Place(group: index, step: $0)] }
            }
            times = Self.times(of: groups.count, stages)
            return
        }
        let candidates = Candidates(groups, library, lowering)
        var nodes: [Node] = []
        for (index, group) in groups.enumerated() {
            let (reads, writes) = (Set(schedule.groups[index].reads), Set(schedule.groups[index].writes))
            for step in group.steps.indices {
                let kernel = candidates.kernel(of: group.steps[step])
                nodes.append(
                    Node(Place(group: index, step: step), kernel, group.steps[step], reads: reads, writes: writes))
            }
        }
        func bytes(_ values: Set<Int>) -> Int {
            values.reduce(0) { sum, value in
                guard case .temporary = schedule.values[value].storage else { return sum }
                return sum + schedule.values[value].type.byteCount(batch: lowering.maximumBatch)
            }
        }
        let (ahead, rest) = Self.goingAhead(nodes) { bytes($0.reads.union($0.writes)) <= Self.mostBytesAhead }
        var waiting = Waiting(candidates.capacities)
        for node in ahead + rest {
            let scratch = groups[node.place.group].scratch.reduce(0, +)
            waiting.take(node, isKeptBack: bytes(node.reads) + scratch <= Self.mostBytes)
        }
        waiting.releaseAll()
        stages = waiting.stages
        times = Self.times(of: groups.count, stages)
        for stage in stages where stage.count > 1 {
            guard let name = groups[stage[0].group].steps[stage[0].step].kernel,
                let isShared = candidates.isShared[name]
            else { continue }
            let capacity = max(stage.count, joined[name]?.capacity ?? 0)
            joined[name] = JoinedKernel(capacity: capacity, isShared: isShared)
        }
    }

    private static func times(of groups: Int, _ stages: [[Place]]) -> [ClosedRange<Int>?] {
        var times = [ClosedRange<Int>?](repeating: nil, count: groups)
        for (time, stage) in stages.enumerated() {
            for place in stage { times[place.group] = (times[place.group]?.lowerBound ?? time)...time }
        }
        return times
    }

    /// A step and the memory that it touches.
    private struct Node {
        let place: Place
        /// What launches that could be one have in common; `nil` for a step that shares no launch.
        let kernel: LaunchKind?
        let reads: Set<Int>
        let writes: Set<Int>

        init(_ place: Place, _ kernel: LaunchKind?, _ step: LoweredGroup.Step, reads: Set<Int>, writes: Set<Int>) {
            (self.place, self.kernel) = (place, kernel)
            guard case .launch(let launch) = step.work else {
                (self.reads, self.writes) = (reads, writes)
                return
            }
            // A launch touches nothing but its arguments. What the group does not speak of may be written.
            let touched = Set(launch.arguments.compactMap { if case .value(let value) = $0 { value } else { nil } })
            self.reads = touched.intersection(reads)
            self.writes = touched.subtracting(reads.subtracting(writes))
        }
    }

    /// What can be computed before anything else, as nothing in front of it touches the same memory, and the others.
    private static func goingAhead(_ nodes: [Node], _ isSmall: (Node) -> Bool) -> (ahead: [Node], rest: [Node]) {
        var (ahead, rest): ([Node], [Node]) = ([], [])
        var (read, written) = (Set<Int>(), Set<Int>())
        var left = Set<Int>()
        for node in nodes {
            if node.kernel != nil, !left.contains(node.place.group), isSmall(node),
                node.reads.isDisjoint(with: written),
                node.writes.isDisjoint(with: written), node.writes.isDisjoint(with: read)
            {
                ahead.append(node)
            } else {
                rest.append(node)
                left.insert(node.place.group)
                read.formUnion(node.reads)
                written.formUnion(node.writes)
            }
        }
        return (ahead, rest)
    }

    /// Launches that are kept back, in sets of one kind, until they are needed or a set is full.
    private struct Waiting {
        private struct Launches {
            var kind: LaunchKind
            var nodes: [Node] = []
            /// The sets that have to run before this one.
            var needs = Set<Int>()
        }

        private(set) var stages: [[Place]] = []
        private let capacities: [String: Int]
        private var sets: [Int: Launches] = [:]
        private var current: [LaunchKind: Int] = [:]
        private var made = 0
        /// By value, and by group: the sets whose members read or write it, or are steps of it.
        private var readers: [Int: Set<Int>] = [:]
        private var writers: [Int: Set<Int>] = [:]
        private var steps: [Int: Set<Int>] = [:]

        init(_ capacities: [String: Int]) { self.capacities = capacities }

        mutating func take(_ node: Node, isKeptBack: Bool) {
            guard isKeptBack, let kind = node.kernel else {
                for set in conflicts(node).sorted() { release(set) }
                stages.append([node.place])
                return
            }
            if let own = current[kind], conflicts(node).contains(where: { leads($0, to: own) }) { release(own) }
            let own = current[kind] ?? make(kind)
            sets[own]!.needs.formUnion(conflicts(node))
            sets[own]!.nodes.append(node)
            for value in node.reads { readers[value, default: []].insert(own) }
            for value in node.writes { writers[value, default: []].insert(own) }
            steps[node.place.group, default: []].insert(own)
            if sets[own]!.nodes.count == capacities[kind.name] { release(own) }
        }

        mutating func releaseAll() { for set in sets.keys.sorted() { release(set) } }

        private mutating func make(_ kind: LaunchKind) -> Int {
            made += 1
            sets[made] = Launches(kind: kind)
            current[kind] = made
            return made
        }

        /// The waiting sets that have to run before a node.
        private func conflicts(_ node: Node) -> Set<Int> {
            var found = steps[node.place.group] ?? []
            for value in node.reads.union(node.writes) { found.formUnion(writers[value] ?? []) }
            for value in node.writes { found.formUnion(readers[value] ?? []) }
            return found
        }

        /// Whether `set` is `other` or has to wait for it.
        private func leads(_ set: Int, to other: Int) -> Bool {
            set == other || (sets[set]?.needs ?? []).contains { leads($0, to: other) }
        }

        private mutating func release(_ set: Int) {
            guard let launches = sets[set] else { return }
            for needed in launches.needs.sorted() { release(needed) }
            sets[set] = nil
            if current[launches.kind] == set { current[launches.kind] = nil }
            for node in launches.nodes {
                for value in node.reads { readers[value]?.remove(set) }
                for value in node.writes { writers[value]?.remove(set) }
                steps[node.place.group]?.remove(set)
            }
            stages.append(launches.nodes.map(\.place))
        }
    }
}

/// What launches must have in common to be one: a kernel, and the size of its grid.
private struct LaunchKind: Hashable {
    var name: String
    var groups: [Int]
}

/// The launches that may be joined with others.
private struct Candidates {
    /// How many launches of a kernel fit into one, by the kernel's name; only those of which two do.
    private(set) var capacities: [String: Int] = [:]
    /// Which parameters of a kernel are the same memory in all of its launches.
    private(set) var isShared: [String: [Bool]] = [:]
    private let batch: Int
    private let computeUnits: Int

    init(_ groups: [LoweredGroup], _ library: KernelLibrary, _ lowering: LoweringContext) {
        (batch, computeUnits) = (lowering.maximumBatch, lowering.computeUnits)
        var launches: [String: [Launch]] = [:]
        for case .launch(let launch) in groups.lazy.flatMap(\.steps).map(\.work) {
            launches[launch.kernel, default: []].append(launch)
        }
        for (name, launches) in launches where launches.count > 1 {
            guard let parameters = library.parameters(of: name), parameters.count == launches[0].arguments.count else {
                continue
            }
            let shared = parameters.indices.map { place in
                guard case .value(let first) = launches[0].arguments[place] else { return false }
                return launches.allSatisfy {
                    if case .value(first) = $0.arguments[place] { true } else { false }
                }
            }
            let bytes = zip(parameters, shared).map { ($0.byteCount, $1) }
            let fixed = bytes.reduce(0) { $0 + ($1.1 ? $1.0 : 0) }
            let own = bytes.reduce(0) { $0 + ($1.1 ? 0 : $1.0) }
            let capacity = min(JoinedKernel.mostMembers, (JoinedKernel.mostBytes - fixed) / max(1, own))
            if capacity > 1 { (capacities[name], isShared[name]) = (capacity, shared) }
        }
    }

    /// Of a launch that leaves most of the device idle and could be joined with others.
    func kernel(of step: LoweredGroup.Step) -> LaunchKind? {
        guard case .launch(let launch) = step.work, capacities[launch.kernel] != nil else { return nil }
        let groups = launch.groups(batch)
        guard groups.count < 3, groups.reduce(1, *) <= computeUnits else { return nil }
        return LaunchKind(name: launch.kernel, groups: groups)
    }
}

extension LoweredProgram {
    /// The launches of a batch in their order, for MARTLET_DEBUG: their work-groups, the groups of the schedule that share one, and the
    /// multiply-adds of these.
    func launchLines(of schedule: Schedule, batch: Int) -> [String] {
        order.stages.compactMap { stage in
            let launches = stage.compactMap { place -> Launch? in
                guard case .launch(let launch) = groups[place.group].steps[place.step].work else { return nil }
                return launch
            }
            guard let first = launches.first else { return nil }
            let workGroups = launches.reduce(0) { $0 + $1.groups(batch).reduce(1, *) }
            let names = stage.map { "\($0.group)" }.joined(separator: ",")
            let multiplyAdds = stage.reduce(0) { $0 + schedule.work(ofGroup: $1.group, batch: batch).multiplyAdds }
            return "\(workGroups) work-groups of \(first.kernel) for groups \(names): \(multiplyAdds) multiply-adds"
        }
    }
}

extension LoweredGroup.Step {
    /// The kernel of a launch.
    fileprivate var kernel: String? { if case .launch(let launch) = work { launch.kernel } else { nil } }
}
