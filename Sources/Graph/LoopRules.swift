/// The dependency rules of a loop's body, which are read once for all its steps.
///
/// A step computes the same from what it carries and from its slices as every other step. So whoever follows dependencies through a loop
/// goes through the body step after step, and a step that starts from what an earlier one started from ends as that one did.
final class LoopRules {
    let loop: Loop
    let body: Dependencies
    /// Which results of the loop anybody reads: last carries, stacked outputs, carries before each step.
    private let isRead: [Bool]

    init(_ loop: Loop, inputs: [KnownValues?], isRead: [Bool], batch: Int) throws(GraphError) {
        self.loop = loop
        self.isRead = isRead
        // A slice may be known at one step and not at the next; what every step reads is the same at all.
        let known = zip(loop.captures, inputs.suffix(loop.captures.count))
        body = try Dependencies(
            body: loop.newCarries + loop.outputs, batch: batch,
            known: Dictionary(
                known.compactMap { tensor, known in known.map { (tensor, $0) } }, uniquingKeysWith: { a, _ in a }))
    }

    /// Elements of the tensors of all steps.
    var elementCount: Int { body.elementCount * loop.limit }

    /// The place of a step's slices, and of what it stacks.
    private func place(_ step: Int) -> Int { loop.isReversed ? loop.limit - 1 - step : step }

    // MARK: forwards

    /// What the elements of the results are, from what those of the operands are; `nil` where nothing is carried to any element.
    ///
    /// - Parameters:
    ///   - recorded: takes the values in each step.
    func propagate<V: Equatable>(
        _ inputs: [[V]?], none: V, shift: ValueShift<V>?, combine: (inout V, V) -> Void,
        degrees: Dependencies.DegreeRule<V>?,
        recorded: ((StepKinds<V>) -> Void)? = nil
    ) -> [[V]?] {
        let carryCount = loop.carries.count
        let placeholders = loop.carries + loop.slices + loop.captures
        var state = Array(inputs.prefix(carryCount))
        let sequences = inputs[carryCount..<carryCount + loop.slices.count]
        let captured = Array(inputs.suffix(loop.captures.count))
        let stackedTypes = loop.outputs + (loop.keepsHistory ? loop.carries : [])
        var stacked = [[V]?](repeating: nil, count: stackedTypes.count)
        func stack(_ values: [V]?, _ result: Int, _ place: Int) {
            guard let values, isRead[carryCount + result] else { return }
            if stacked[result] == nil { stacked[result] = [V](repeating: none, count: values.count * loop.limit) }
            stacked[result]?.replaceSubrange(place * values.count..<(place + 1) * values.count, with: values)
        }
        var found = KnownSteps<V>(keepsAll: recorded != nil)
        var steps: [(kind: Int, shift: V?)] = []
        for step in 0..<loop.limit {
            let place = place(step)
            let slices = zip(loop.slices, sequences).map { slice, sequence -> [V]? in
                let count = body.count(slice)
                return sequence.map { Array($0[place * count..<(place + 1) * count]) }
            }
            if loop.keepsHistory {
                for (index, values) in state.enumerated() { stack(values, loop.outputs.count + index, place) }
            }
            var start = state + slices + captured
            let base = shift?.takeBase(&start)
            let (kind, values, _) = found.kind(of: start) {
                let seeds = zip(placeholders, start).compactMap { tensor, values in values.map { (tensor, $0) } }
                return body.propagate(
                    Dictionary(seeds, uniquingKeysWith: { a, _ in a }), none: none, shift: shift, combine: combine,
                    degrees: degrees)
            }
            steps.append((kind, base))
            func result(_ tensor: Tensor) -> [V]? {
                guard var values = values[tensor] else { return nil }
                if let base { shift?.add(base, &values) }
                return values
            }
            state = loop.newCarries.map(result)
            for (index, output) in loop.outputs.enumerated() where isRead[carryCount + index] {
                stack(result(output), index, place)
            }
        }
        recorded?(StepKinds(kinds: found.kinds, steps: steps))
        return state + stacked
    }

    // MARK: backwards

    /// Which elements of the operands the marked elements of the results are computed from.
    ///
    /// - Parameter recorded: takes the marks in each step.
    func reach(_ results: [[Bool]?], recorded: ((StepKinds<Bool>) -> Void)? = nil) -> [[Bool]?] {
        let carryCount = loop.carries.count
        func union(_ a: [Bool]?, _ b: [Bool]?) -> [Bool]? {
            guard let a, let b else { return a ?? b }
            return zip(a, b).map { $0 || $1 }
        }
        func slice(_ result: Int, _ place: Int, like tensor: Tensor) -> [Bool]? {
            let count = body.count(tensor)
            return results[result].map { Array($0[place * count..<(place + 1) * count]) }
        }
        var state = Array(results.prefix(carryCount))
        var sequences = [[Bool]?](repeating: nil, count: loop.slices.count)
        var captured = [[Bool]?](repeating: nil, count: loop.captures.count)
        var found = KnownSteps<Bool>(keepsAll: recorded != nil)
        var steps = [(kind: Int, shift: Bool?)](repeating: (0, nil), count: loop.limit)
        for step in (0..<loop.limit).reversed() {
            let place = place(step)
            let start = state + loop.outputs.enumerated().map { slice(carryCount + $0, place, like: $1) }
            let (kind, marks, isNew) = found.kind(of: start) {
                let seeds = zip(loop.newCarries + loop.outputs, start).compactMap { t, marks in marks.map { (t, $0) } }
                return body.reach(Dictionary(seeds, uniquingKeysWith: { union($0, $1) ?? $0 }))
            }
            if isNew {
                for (index, tensor) in loop.captures.enumerated() {
                    captured[index] = union(captured[index], marks[tensor])
                }
            }
            steps[step].kind = kind
            state = loop.carries.map { marks[$0] }
            if loop.keepsHistory {
                for (index, carry) in loop.carries.enumerated() {
                    state[index] = union(
                        state[index], slice(carryCount + loop.outputs.count + index, place, like: carry))
                }
            }
            for (index, tensor) in loop.slices.enumerated() {
                guard let own = marks[tensor] else { continue }
                if sequences[index] == nil {
                    sequences[index] = [Bool](repeating: false, count: own.count * loop.limit)
                }
                sequences[index]?.replaceSubrange(place * own.count..<(place + 1) * own.count, with: own)
            }
        }
        recorded?(StepKinds(kinds: found.kinds, steps: steps))
        return state + sequences + captured
    }
}

/// What an analysis found in steps so far, by what they started from.
private struct KnownSteps<V: Equatable> {
    /// Whether every kind is kept, and not the latest alone.
    let keepsAll: Bool
    private var starts: [[[V]?]] = []
    private(set) var kinds: [[Tensor: [V]]] = []

    init(keepsAll: Bool) { self.keepsAll = keepsAll }

    /// The kind of a step, what was found in its tensors, and whether `find` was asked for it.
    mutating func kind(of start: [[V]?], _ find: () -> [Tensor: [V]]) -> (Int, [Tensor: [V]], isNew: Bool) {
        if let known = starts.lastIndex(of: start) { return (known, kinds[known], false) }
        if !keepsAll, starts.count >= 4 {
            starts.removeFirst()
            kinds.removeFirst()
        }
        starts.append(start)
        kinds.append(find())
        return (kinds.count - 1, kinds[kinds.count - 1], true)
    }
}

/// What an analysis found in the steps of a loop, in the order in which they run.
public struct StepKinds<V> {
    /// What it found in the tensors of the body, for each kind of step.
    public let kinds: [[Tensor: [V]]]
    /// The kind of each step, and by how much its values are more than those of its kind.
    public let steps: [(kind: Int, shift: V?)]
}

/// How values that count steps are compared: steps are of one kind if their values differ by one number.
struct ValueShift<V> {
    /// Takes a number off all values, the same for equal kinds, and returns it.
    let takeBase: (inout [[V]?]) -> V
    /// Puts it back.
    let add: (V, inout [V]) -> Void
}

extension ValueShift<Int32> {
    /// Of levels: order indices, -1 where no variable is read, which no shift changes.
    static var levels: ValueShift {
        ValueShift(
            takeBase: { values in
                // The least, so that what remains is no less than zero, and -1 still says that nothing is read.
                var base = Int32.max
                for own in values { for value in own ?? [] where value >= 0 { base = min(base, value) } }
                guard base > 0, base < .max else { return 0 }
                for index in values.indices {
                    guard let own = values[index] else { continue }
                    values[index] = own.map { $0 < 0 ? $0 : $0 - base }
                }
                return base
            },
            add: { base, values in
                guard base > 0 else { return }
                for e in values.indices where values[e] >= 0 { values[e] += base }
            })
    }
}
