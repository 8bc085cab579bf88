import Graph

/// Where the temporaries of a schedule lie in one block of memory. Temporaries that are never alive together share memory.
public struct MemoryPlan: Sendable {
    /// Byte offset of each temporary, by value; behind the values those of `scratch`, in order.
    public let offsets: [Int: Int]
    public let byteCount: Int

    /// Memory of a group's own.
    public struct Scratch: Sendable {
        public var group: Int
        public var byteCount: Int

        public init(group: Int, byteCount: Int) { (self.group, self.byteCount) = (group, byteCount) }
    }

    /// A temporary's size, the first and the last group that use it, and from when to when it is used where groups do not run in turn.
    private struct Life {
        let value: Int
        let size: Int
        let first: Int
        let last: Int
        let times: ClosedRange<Int>

        func overlaps(_ other: Life) -> Bool {
            other.first <= last && first <= other.last || times.overlaps(other.times)
        }
    }

    /// So many temporaries are placed largest first, which packs best and takes time that grows with their square; more are placed as they
    /// come, in time that grows as their number. Groups of schedules with more run in turn.
    public static let mostSorted = 1 << 14

    /// - Parameters:
    ///   - blockBytes: of one allocation at most, a multiple of the alignment: no temporary lies across a multiple of it, but one that is
    ///     larger itself.
    ///   - times: when each group begins and ends, where groups do not run one after another; none of one that does nothing. The plan is
    ///     right for groups in turn as well.
    ///   - scratch: further memory, that lives as long as its group runs.
    public init(
        _ schedule: Schedule, batch: Int, alignment: Int = 256, blockBytes: Int = .max,
        times: [ClosedRange<Int>?]? = nil, scratch: [Scratch] = []
    ) {
        let turns = schedule.groups.indices.map { $0...$0 as ClosedRange<Int>? }
        let lives = Self.lives(schedule, batch: batch, alignment: alignment, turns, times, scratch)
        (offsets, byteCount) =
            lives.count <= Self.mostSorted
            ? Self.placeLargestFirst(lives, blockBytes) : Self.placeInTurn(lives, blockBytes)
    }

    /// The first place from `start` on at which `size` bytes lie in one block.
    private static func place(_ start: Int, _ size: Int, _ blockBytes: Int) -> Int {
        let left = blockBytes - start % blockBytes
        return size <= left || size > blockBytes ? start : start + left
    }

    private static func lives(
        _ schedule: Schedule, batch: Int, alignment: Int, _ turns: [ClosedRange<Int>?], _ times: [ClosedRange<Int>?]?,
        _ scratch: [Scratch]
    ) -> [Life] {
        /// From the first to the last use of each temporary.
        func spans(_ times: [ClosedRange<Int>?]) -> [Int: ClosedRange<Int>] {
            var spans: [Int: ClosedRange<Int>] = [:]
            for (group, time) in zip(schedule.groups, times) {
                guard let time else { continue }
                for value in group.reads + group.writes {
                    guard case .temporary = schedule.values[value].storage else { continue }
                    let known = spans[value] ?? time
                    spans[value] = min(known.lowerBound, time.lowerBound)...max(known.upperBound, time.upperBound)
                }
            }
            for value in schedule.outputs { spans[value] = spans[value].map { $0.lowerBound...Int.max } }
            for (index, own) in scratch.enumerated() { spans[schedule.values.count + index] = times[own.group] }
            return spans
        }
        let inTurn = spans(turns)
        let inTime = times.map(spans) ?? inTurn
        return inTurn.compactMap { value, turn in
            let bytes =
                value < schedule.values.count
                ? schedule.values[value].type.byteCount(batch: batch) : scratch[value - schedule.values.count].byteCount
            return inTime[value].map {
                Life(
                    value: value, size: (max(1, bytes) + alignment - 1) / alignment * alignment, first: turn.lowerBound,
                    last: turn.upperBound, times: $0)
            }
        }
    }

    /// Each at the lowest place that is free for the whole of its life.
    private static func placeLargestFirst(
        _ lives: [Life], _ blockBytes: Int
    ) -> (offsets: [Int: Int], byteCount: Int) {
        var offsets: [Int: Int] = [:]
        var total = 0
        // Sorted by `start`.
        var placed: [(life: Life, start: Int, end: Int)] = []
        for life in lives.sorted(by: { ($1.size, $0.value) < ($0.size, $1.value) }) {
            var place = 0
            for other in placed where other.life.overlaps(life) {
                if place + life.size <= other.start { break }
                place = Self.place(max(place, other.end), life.size, blockBytes)
            }
            offsets[life.value] = place
            total = max(total, place + life.size)
            let index = placed.firstIndex { $0.start > place } ?? placed.count
            placed.insert((life, place, place + life.size), at: index)
        }
        return (offsets, total)
    }

    /// Each, when its life begins, in the smallest gap that holds it; gaps open as lives end.
    private static func placeInTurn(
        _ lives: [Life], _ blockBytes: Int
    ) -> (offsets: [Int: Int], byteCount: Int) {
        var offsets: [Int: Int] = [:]
        var total = 0
        // Sorted by `start`; no two touch.
        var gaps: [(start: Int, end: Int)] = []
        func place(_ life: Life) {
            func start(_ gap: (start: Int, end: Int)) -> Int { Self.place(gap.start, life.size, blockBytes) }
            var best: Int?
            for (index, gap) in gaps.enumerated() where gap.end - start(gap) >= life.size {
                if best.map({ gap.end - gap.start < gaps[$0].end - gaps[$0].start }) ?? true { best = index }
            }
            guard let best else {
                // At the end, from where the last gap begins if it reaches there.
                let begin = gaps.last?.end == total ? gaps.removeLast().start : total
                let place = start((begin, .max))
                if place > begin { gaps.append((begin, place)) }
                offsets[life.value] = place
                total = place + life.size
                return
            }
            // What is left of the gap, in front and behind.
            let (gap, place) = (gaps[best], start(gaps[best]))
            offsets[life.value] = place
            let left = [(gap.start, place), (place + life.size, gap.end)].filter { $0.0 < $0.1 }
            gaps.replaceSubrange(best...best, with: left)
        }
        func free(_ life: Life) {
            let start = offsets[life.value]!
            let index = gaps.firstIndex { $0.start > start } ?? gaps.count
            gaps.insert((start, start + life.size), at: index)
            if index + 1 < gaps.count, gaps[index].end == gaps[index + 1].start {
                gaps[index].end = gaps.remove(at: index + 1).end
            }
            if index > 0, gaps[index - 1].end == gaps[index].start { gaps[index - 1].end = gaps.remove(at: index).end }
        }
        let births = lives.sorted { ($0.first, $1.size, $0.value) < ($1.first, $0.size, $1.value) }
        let deaths = lives.sorted { ($0.last, $0.value) < ($1.last, $1.value) }
        var next = 0
        for life in births {
            while deaths[next].last < life.first {
                free(deaths[next])
                next += 1
            }
            place(life)
        }
        return (offsets, total)
    }
}
