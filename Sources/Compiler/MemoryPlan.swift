import Graph

/// Where the temporaries of a schedule lie in one block of memory. Temporaries that are never alive together share memory.
public struct MemoryPlan: Sendable {
    /// Byte offset of each temporary, by value.
    public let offsets: [Int: Int]
    public let byteCount: Int

    /// A temporary's size, and the first and the last group that use it.
    private struct Life {
        let value: Int
        let size: Int
        let first: Int
        let last: Int
    }

    /// So many temporaries are placed largest first, which packs best and takes time that grows with their square; more are placed as they
    /// come, in time that grows as their number.
    private static let mostSorted = 1 << 14

    /// - Parameter blockBytes: of one allocation at most, a multiple of the alignment: no temporary lies across a multiple of it, but one
    ///   that is larger itself.
    public init(_ schedule: Schedule, batch: Int, alignment: Int = 256, blockBytes: Int = .max) {
        let lives = Self.lives(schedule, batch: batch, alignment: alignment)
        (offsets, byteCount) =
            lives.count <= Self.mostSorted
            ? Self.placeLargestFirst(lives, blockBytes) : Self.placeInTurn(lives, blockBytes)
    }

    /// The first place from `start` on at which `size` bytes lie in one block.
    private static func place(_ start: Int, _ size: Int, _ blockBytes: Int) -> Int {
        let left = blockBytes - start % blockBytes
        return size <= left || size > blockBytes ? start : start + left
    }

    private static func lives(_ schedule: Schedule, batch: Int, alignment: Int) -> [Life] {
        var first: [Int: Int] = [:]
        var last: [Int: Int] = [:]
        for (index, group) in schedule.groups.enumerated() {
            for value in group.reads + group.writes {
                guard case .temporary = schedule.values[value].storage else { continue }
                if first[value] == nil { first[value] = index }
                last[value] = index
            }
        }
        for value in schedule.outputs where first[value] != nil { last[value] = schedule.groups.count }
        return first.map { value, born in
            let type = schedule.values[value].type
            let bytes = max(1, type.shape.count.resolved(batch: batch)) * type.element.byteCount
            return Life(
                value: value, size: (bytes + alignment - 1) / alignment * alignment, first: born, last: last[value]!)
        }
    }

    /// Each at the lowest place that is free for the whole of its life.
    private static func placeLargestFirst(
        _ lives: [Life], _ blockBytes: Int
    ) -> (offsets: [Int: Int], byteCount: Int) {
        var offsets: [Int: Int] = [:]
        var total = 0
        // Sorted by `start`.
        var placed: [(first: Int, last: Int, start: Int, end: Int)] = []
        for life in lives.sorted(by: { ($1.size, $0.value) < ($0.size, $1.value) }) {
            var place = 0
            for other in placed where other.first <= life.last && life.first <= other.last {
                if place + life.size <= other.start { break }
                place = Self.place(max(place, other.end), life.size, blockBytes)
            }
            offsets[life.value] = place
            total = max(total, place + life.size)
            let index = placed.firstIndex { $0.start > place } ?? placed.count
            placed.insert((life.first, life.last, place, place + life.size), at: index)
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
