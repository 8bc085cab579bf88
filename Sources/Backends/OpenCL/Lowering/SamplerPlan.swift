import Compiler

/// How a GPU runs a sampling program: how its groups of work-items are shaped, and whether a step is a part of a long launch, in which
/// every group goes on by itself with examples of its own, or is spread over the whole device, a launch for each work.
///
/// What is drawn does not depend on the plan, to the bit; only the time does. Times come from a model of a GPU whose numbers are
/// rounded figures of current devices. None has confirmed it yet: it is meant to tell apart ways that differ by ten.
struct SamplerPlan {
    /// Of groups, which the kernels are compiled for.
    struct Shape: Equatable {
        /// Work-items.
        var group: Int
        /// Examples that a group draws, a power of two.
        var lanes: Int
        /// Floats of local memory for parts of sums.
        var partials: Int
    }

    /// What a device has.
    struct Limits {
        var units: Int
        var workGroup: Int
        var localBytes: Int

        /// Floats of local memory for parts of sums: three quarters of what there is, up to 32 KiB.
        var partials: Int { powerOfTwo(min(8192, localBytes * 3 / 16)) }
    }

    /// What a step is like; many are alike.
    struct Step: Equatable {
        var works = 0
        var multiplyAdds = 0
        var isWide = false
        var seconds = 0.0
        /// Work-items that are busy at a time with the examples of one group, by multiply-adds.
        var busy = 0.0
        /// Barriers that a group comes to.
        var barriers = 0
    }

    /// What is launched, one after another.
    struct Launch: Equatable {
        var steps: Range<Int>
        /// One step, by a launch for each of its works.
        var isWide: Bool
        var seconds: Double
    }

    let shape: Shape
    private(set) var steps: [Step] = []
    private(set) var launches: [Launch] = []
    private let costs: [WorkCost]
    private let device: DeviceCost

    var seconds: Double { launches.reduce(0) { $0 + $1.seconds } }

    /// A display's watchdog ends launches of more than a few tenths of a second on some systems; the model may be wrong by a few times.
    static let longestLaunch = 0.02

    /// - Parameters:
    ///   - batch: the most examples that are drawn at a time.
    ///   - shapes: those to choose from, if not all that the device has.
    ///   - isWide: whether steps are spread over the device, if the model of the device is not to say it.
    init(_ tables: SamplerTables, _ limits: Limits, batch: Int, shapes: [Shape]? = nil, isWide: Bool? = nil) {
        let program = tables.program
        let costs = program.works.indices.map { WorkCost(program.works[$0], partShift: tables.partShifts[$0]) }
        let (kinds, kind) = Self.kinds(program)
        var counts = [Int](repeating: 0, count: kinds.count)
        for k in kind { counts[k] += 1 }
        func plan(_ shape: Shape) -> (seconds: Double, steps: [Step]) {
            let device = DeviceCost(limits, shape, batch: batch, scoreRows: tables.scoreRows)
            let steps = kinds.map { device.step($0, costs, isWide: isWide) }
            return (zip(steps, counts).reduce(0) { $0 + $1.0.seconds * Double($1.1) }, steps)
        }
        // Of attention one query has room, whatever the shape.
        let room = costs.reduce(1) { max($0, $1.queryFloats) }
        let fitting = (shapes ?? Self.shapes(limits)).filter { $0.lanes * room <= $0.partials }
        let found = fitting.map { (shape: $0, plan: plan($0)) }
            .min { $0.plan.seconds < $1.plan.seconds }!
        shape = found.shape
        self.costs = costs
        device = DeviceCost(limits, shape, batch: batch, scoreRows: tables.scoreRows)
        steps = kind.map { found.plan.steps[$0] }
        for (index, step) in steps.enumerated() {
            if let last = launches.last, !step.isWide, !last.isWide, last.seconds + step.seconds <= Self.longestLaunch {
                launches[launches.count - 1].steps = last.steps.lowerBound..<index + 1
                launches[launches.count - 1].seconds += step.seconds
            } else {
                launches.append(Launch(steps: index..<index + 1, isWide: step.isWide, seconds: step.seconds))
            }
        }
    }

    /// The shapes that are tried.
    private static func shapes(_ limits: Limits) -> [Shape] {
        let largest = powerOfTwo(min(1024, limits.workGroup))
        return [largest / 4, largest / 2, largest].filter { $0 >= min(256, largest) }.flatMap { group in
            [1, 2, 4, 8, 16].filter { $0 <= group }.map { Shape(group: group, lanes: $0, partials: limits.partials) }
        }
    }

    /// The works of each kind of step with the number of their positions, and the kind of each step.
    private static func kinds(_ program: SamplingProgram) -> (kinds: [[(work: Int, positions: Int)]], kind: [Int]) {
        var known: [[Int32]: Int] = [:]
        var kinds: [[(work: Int, positions: Int)]] = []
        let kind = (0..<program.stepCount).map { step -> Int in
            var signature: [Int32] = []
            for section in program.sections {
                for pass in section.passes(step: step) {
                    for work in section.works {
                        let positions = program.works[work].positions(slot: Int(pass.slot)).count
                        if positions > 0 { signature += [Int32(work), Int32(positions)] }
                    }
                }
            }
            if let kind = known[signature] { return kind }
            known[signature] = kinds.count
            kinds.append(
                stride(from: 0, to: signature.count, by: 2).map { (Int(signature[$0]), Int(signature[$0 + 1])) })
            return kinds.count - 1
        }
        return (kinds, kind)
    }

    /// How many groups share a work of a wide step, for the examples of one group.
    /// - Parameter positions: that the work has in the step.
    func chunks(work: Int, positions: Int) -> Int { device.chunks(costs[work], positions: positions) }

    /// What was chosen, for MARTLET_DEBUG.
    var description: String {
        let long = launches.filter { !$0.isWide }
        let wide = launches.filter(\.isWide)
        func milliseconds(_ launches: [Launch]) -> String {
            "\((launches.reduce(0) { $0 + $1.seconds } * 1e4).rounded() / 10) ms"
        }
        var parts: [String] = []
        if !long.isEmpty {
            let longest = long.map(\.seconds).max()!
            parts.append(
                "\(long.reduce(0) { $0 + $1.steps.count }) steps in \(long.count) launches, predicted \(milliseconds(long)), the "
                    + "longest \((longest * 1e4).rounded() / 10) ms")
        }
        if !wide.isEmpty {
            let works = wide.reduce(0) { $0 + steps[$1.steps.lowerBound].works }
            parts.append(
                "\(wide.count) steps over the whole device in \(works) launches, predicted \(milliseconds(wide))")
        }
        return "groups of \(shape.group) work-items for \(shape.lanes) example\(shape.lanes == 1 ? "" : "s"); "
            + parts.joined(separator: "; ")
    }

    /// Every launch, and every run of steps that are alike, for MARTLET_DEBUG=2.
    var lines: [String] {
        func microseconds(_ seconds: Double) -> String { "predicted \((seconds * 1e6).rounded()) us" }
        var lines = launches.map { launch in
            "launch of \(launch.steps.count) step\(launch.steps.count == 1 ? "" : "s") from \(launch.steps.lowerBound)"
                + "\(launch.isWide ? ", each work by itself" : ""): \(microseconds(launch.seconds))"
        }
        var first = 0
        for index in steps.indices where index + 1 == steps.count || steps[index + 1] != steps[first] {
            let step = steps[first]
            lines.append(
                "steps \(first)..<\(index + 1): \(step.works) works, \(step.multiplyAdds) multiply-adds, \(Int(step.busy.rounded())) work-items "
                    + "busy, \(step.barriers) barriers, \(microseconds(step.seconds))")
            first = index + 1
        }
        return lines
    }
}

/// What a work costs at a position.
private struct WorkCost {
    let channels: Int
    /// Of a sum, or keys of a query.
    let terms: Int
    let parts: Int
    /// Cycles of its program for an element, at the latency of a device's instructions and of the loads of its operands.
    let program: Double
    /// Of queries, where it is attention.
    let depth: Int?
    let isSum: Bool

    init(_ work: SamplingProgram.Work, partShift: Int) {
        channels = work.channels
        terms = work.mostTerms
        parts = 1 << partShift
        program = 100 + 60 * Double(work.operands.count) + 40 * Double(work.program.instructions.count)
        depth = if case .attention(let attention) = work.anchor { attention.depth } else { nil }
        isSum = if case .none = work.anchor { false } else { true }
    }

    /// Of local memory, for a query and a lane.
    var queryFloats: Int { depth == nil ? 0 : parts * (2 + channels) }

    func multiplyAdds(_ positions: Int) -> Int {
        guard isSum else { return 0 }
        return positions * (channels + (depth ?? 0)) * terms
    }
}

/// The time of works on a device.
private struct DeviceCost {
    let limits: SamplerPlan.Limits
    let shape: SamplerPlan.Shape
    let scoreRows: Int
    /// Groups of examples.
    let groups: Int
    /// Groups that run at a time.
    let resident: Int

    static let frequency = 1.5e9
    /// From one launch to the next that waits for it.
    static let launch = 3000.0
    /// The chain of tables that leads to a work's operands: cache misses one after another.
    static let tables = 1500.0

    init(_ limits: SamplerPlan.Limits, _ shape: SamplerPlan.Shape, batch: Int, scoreRows: Int) {
        (self.limits, self.shape, self.scoreRows) = (limits, shape, scoreRows)
        groups = (batch + shape.lanes - 1) / shape.lanes
        resident = limits.units * max(1, 1024 / shape.group)
    }

    func step(_ works: [(work: Int, positions: Int)], _ costs: [WorkCost], isWide: Bool?) -> SamplerPlan.Step {
        var long = SamplerPlan.Step()
        var wide = SamplerPlan.Step(isWide: true)
        let waves = Double((groups + resident - 1) / resident)
        var (longCycles, wideCycles) = (0.0, Self.launch)
        for (index, positions) in works {
            let work = costs[index]
            let multiplyAdds = work.multiplyAdds(positions)
            let one = group(work, positions: positions, chunks: 1)
            longCycles += one.cycles * waves
            long.busy += Double(one.busy * multiplyAdds)
            long.barriers += one.barriers
            let chunks = chunks(work, positions: positions)
            let part = group(work, positions: positions, chunks: chunks)
            wideCycles += Self.launch + part.cycles * Double((groups * chunks + resident - 1) / resident)
            wide.busy += Double(part.busy * chunks * multiplyAdds)
            wide.barriers += part.barriers
            long.multiplyAdds += multiplyAdds
        }
        // The variables are kept.
        longCycles += Self.tables * waves
        long.barriers += 1
        let multiplyAdds = Double(max(1, long.multiplyAdds))
        let isWide = isWide ?? (wideCycles < longCycles)
        var result = isWide ? wide : long
        result.seconds = (isWide ? wideCycles : longCycles) / Self.frequency
        (result.works, result.multiplyAdds, result.busy) = (works.count, long.multiplyAdds, result.busy / multiplyAdds)
        return result
    }

    /// As many groups as a work's tasks fill, as long as there are units for them.
    func chunks(_ work: WorkCost, positions: Int) -> Int {
        let most = max(1, 2 * resident / groups)
        if work.depth != nil { return min(positions, scoreRows, most) }
        let tasks = positions * work.channels * shape.lanes * work.parts
        return min(max(1, (tasks + shape.group - 1) / shape.group), positions * work.channels, most)
    }

    /// What one of `chunks` groups does of a work.
    private func group(_ work: WorkCost, positions: Int, chunks: Int) -> (cycles: Double, busy: Int, barriers: Int) {
        let lanes = shape.lanes
        if let depth = work.depth {
            let queries = (positions + chunks - 1) / chunks
            let room = min(shape.partials / (lanes * work.queryFloats), max(1, scoreRows / chunks))
            let passes = (queries + room - 1) / room
            let tasks = min(queries, room) * lanes * work.parts
            let keys = (work.terms + work.parts - 1) / work.parts
            let answers = min(queries, room) * lanes * work.channels
            let cycles =
                rounds(tasks, each: Double(keys * (depth + work.channels + 10)) * term(tasks))
                + rounds(answers, each: 20 * Double(work.parts) + work.program)
            return (Self.tables + Double(passes) * (cycles + 2 * barrier), min(shape.group, tasks), 2 * passes)
        }
        let elements = (positions * work.channels + chunks - 1) / chunks
        let items = elements * lanes
        let isShared = work.parts > 1 && items * work.parts <= shape.partials
        guard isShared else {
            let terms = work.isSum ? Double(work.terms) * term(items) : 0
            return (Self.tables + rounds(items, each: terms + work.program) + barrier, min(shape.group, items), 1)
        }
        let tasks = items * work.parts
        let own = Double((work.terms + work.parts - 1) / work.parts) * term(tasks)
        let cycles = rounds(tasks, each: 60 + own) + rounds(items, each: 4 * Double(work.parts) + work.program)
        return (Self.tables + cycles + 2 * barrier, min(shape.group, tasks), 2)
    }

    private var barrier: Double { 30 + Double(shape.group) / 8 }

    /// Cycles for a term of a sum in each of the work-items that are busy: some eight instructions and two loads, which wait for one
    /// another where few work-items are there to hide it.
    private func term(_ tasks: Int) -> Double { max(12, 8 * Double(min(tasks, shape.group)) / 128) }

    /// Tasks by all work-items, one round after another.
    private func rounds(_ tasks: Int, each: Double) -> Double {
        Double((tasks + shape.group - 1) / shape.group) * each
    }
}

/// The largest power of two that is not larger.
private func powerOfTwo(_ limit: Int) -> Int { limit < 1 ? 1 : 1 << (limit.bitWidth - 1 - limit.leadingZeroBitCount) }
