import Graph

/// What a training step has to do on any machine, whatever the program: the numerators of the time below which no step can be.
///
///     let work = StepWork([loss], updates: updates, schedule: try compile([loss], updates: updates), batch: 100, cacheBytes: 32 << 20)
///     let rates = try FloorRates.measure(on: device)
///     print(work.seconds(at: rates))
public struct StepWork: Hashable, Sendable, Codable {
    /// Of live weights and of everything else that sums products, gradients included, each equal application once: what a program
    /// computes again to save memory is not counted.
    public var multiplyAdds: Int
    /// Elements of exp, log, tanh and their like; each counts as one exp.
    public var exps: Int
    /// Bytes that go from or to memory, as they do not fit a cache.
    public var bytes: Int

    /// Counts of anything, of no step in particular; each is what its property says.
    public init(multiplyAdds: Int, exps: Int, bytes: Int) {
        self.multiplyAdds = multiplyAdds
        self.exps = exps
        self.bytes = bytes
    }

    /// Multiply-adds and exps are counted in the graph, after equal applications were made one and constants folded. Bytes are counted
    /// in the schedule, by two rules:
    ///
    /// 1. A value that is larger than the cache is fetched by every group that reads it and stored by every group that writes it, as
    ///    much of it as the group touches.
    /// 2. If everything a step touches (states, what is fed, constants, and the memory of temporaries that share it) is larger than
    ///    the cache together, then what outlives a step is not in the cache when the next one starts: each smaller state, input and
    ///    constant that is read is fetched once, and each such state that is written is stored once.
    ///
    /// Temporaries that fit the cache move no bytes, nor does what happens inside a loop.
    ///
    /// - Parameters:
    ///   - outputs, updates, maskedStates: as `compile` was given them. Of masked states (masked weights and their moments) only live
    ///     elements are moved.
    ///   - schedule: what `compile` made of them.
    ///   - batch: how many examples a step has.
    ///   - cacheBytes: the size of the cache that the processors share.
    public init(
        _ outputs: [Tensor], updates: [StateUpdate], maskedStates: [Tensor: WeightMask] = [:], schedule: Schedule,
        batch: Int,
        cacheBytes: Int
    ) {
        var simplifier = Simplifier()
        let applications = applications(of: simplifier.simplify(outputs + updates.map(\.value)))
        multiplyAdds = applications.reduce(0) { $0 + ($1.multiplyAdds(batch: batch)?.live ?? 0) }
        exps = applications.reduce(0) { $0 + $1.exps(batch: batch) }
        var live: [String: Int] = [:]
        for (state, mask) in maskedStates {
            if let label = state.placeholder?.label {
                live[label] = mask.liveCount(shape: state.shape.resolved(batch: batch))
            }
        }
        bytes = schedule.bytesBeyond(cache: cacheBytes, batch: batch, live: live)
    }

    /// The work of both, one after the other.
    public static func + (a: StepWork, b: StepWork) -> StepWork {
        StepWork(multiplyAdds: a.multiplyAdds + b.multiplyAdds, exps: a.exps + b.exps, bytes: a.bytes + b.bytes)
    }

    /// The sum of the three times, as if none went on beside another.
    public func seconds(at rates: FloorRates) -> Double {
        Double(multiplyAdds) / rates.multiplyAdds + Double(exps) / rates.exps + Double(bytes) / rates.bytes
    }
}

extension Schedule {
    /// - Parameter live: how many elements of some states exist, by name.
    fileprivate func bytesBeyond(cache: Int, batch: Int, live: [String: Int]) -> Int {
        func size(_ value: Int) -> Int { values[value].type.byteCount(batch: batch) }
        func outlivesStep(_ value: Int) -> Bool {
            if case .temporary = values[value].storage { false } else { true }
        }
        func moved(_ elements: Int, of value: Int) -> Int {
            var elements = min(elements, values[value].type.shape.count.resolved(batch: batch))
            if case .state(let name) = values[value].storage, let live = live[name] { elements = min(elements, live) }
            return elements * values[value].type.element.byteCount
        }
        var total = 0
        var (fetched, stored) = (Set<Int>(), Set<Int>())
        for group in groups {
            let (reads, writes) = group.touched(batch: batch)
            for (value, elements) in reads + writes where size(value) > cache { total += moved(elements, of: value) }
            fetched.formUnion(reads.map(\.value).filter { outlivesStep($0) && size($0) <= cache })
            stored.formUnion(writes.map(\.value).filter { outlivesStep($0) && size($0) <= cache })
        }
        let together =
            fetched.union(stored).union(values.indices.filter { outlivesStep($0) && size($0) > cache })
            .reduce(0) { $0 + moved(.max, of: $1) } + MemoryPlan(self, batch: batch).byteCount
        if together > cache {
            total += (Array(fetched) + Array(stored)).reduce(0) { $0 + moved(.max, of: $1) }
        }
        return total
    }
}

extension Group {
    /// The values that a group reads and writes, each once, and how many elements of each: of a view, those in it.
    func touched(batch: Int) -> (
        reads: [(value: Int, elements: Int)], writes: [(value: Int, elements: Int)]
    ) {
        func elements(_ walks: [Walk], _ whole: [Int]) -> [(value: Int, elements: Int)] {
            var counts: [Int: Int] = [:]
            for walk in walks {
                for operand in Set(walk.operands) {
                    guard let value = operand.value else { continue }
                    // Along axes of stride zero elements repeat.
                    counts[value, default: 0] += zip(walk.extents, operand.strides).filter { $0.1 != 0 }.reduce(1) {
                        $0 * $1.0.resolved(batch: batch)
                    }
                }
            }
            for value in whole { counts[value] = .max }
            return counts.map { (value: $0.key, elements: $0.value) }
        }
        return (elements(kind.reading, kind.wholeReads), elements(kind.writing, kind.wholeWrites))
    }
}
