import Foundation
import Graph
import Synchronization
import Testing

@testable import Compiler

/// Graphs as deep as a recurrence written out over very many steps: compiled by loops, as recursion over their depth would overflow the
/// stack, and in a time that grows with their size and not with its square.
@Suite struct DeepCompileTests {
    /// Compiles on a thread with a small stack; the number of groups.
    private func groups(_ make: @escaping @Sendable () throws -> [Tensor]) -> Int? {
        let done = DispatchSemaphore(value: 0)
        let count = Mutex<Int?>(nil)
        let thread = Thread {
            let found = try? compile(make()).groups.count
            count.withLock { $0 = found }
            done.signal()
        }
        thread.stackSize = 512 << 10
        thread.start()
        done.wait()
        return count.withLock { $0 }
    }

    /// 56 functions fit into a group.
    @Test func aChainOfFunctions() {
        let found = groups {
            var t = Tensor.input("x", [.batch, 8])
            for _ in 0..<100_000 { t = t + 1 }
            return [t]
        }
        #expect(found == (100_000 + 55) / 56)
    }

    @Test func aChainOfSums() {
        let found = groups {
            var t = Tensor.input("x", [.batch, 8])
            for _ in 0..<5000 { t = t.tanh() + t.sum(axes: [1], keepingAxes: true) }
            return [t]
        }
        #expect(found == 5001)
    }

    @Test func aRecurrenceWithItsGradient() {
        let found = groups {
            let (x, w) = (Tensor.input("x", [.batch, 8]), Tensor.state("w", [8, 8]))
            var t = x
            for _ in 0..<5000 { t = t + t.matmul(w).tanh() }
            return try gradients(of: t.sum(), with: [w])
        }
        #expect(found.map { $0 < 20000 } == true)
    }

    /// Few temporaries, and so many that they are placed in turn, in one block and in blocks of a device's largest allocation: those that are
    /// alive together never share memory, none lies across blocks, and what ends is used again.
    @Test(arguments: [2000, 20_000], [Int.max, 1 << 14]) func manyTemporaries(steps: Int, blockBytes: Int) {
        var schedule = Schedule()
        func add(_ count: Int, _ storage: Value.Storage) -> Int {
            schedule.values.append(Value(TensorType(Shape([count])), storage, label: "v"))
            return schedule.values.count - 1
        }
        var last = add(100, .input("x"))
        // Every tenth value lives on for a thousand groups.
        var kept: [Int] = []
        for step in 0..<steps {
            let next = add(64 + step * 37 % 500, .temporary)
            var read = [last]
            if step % 10 == 0 { kept.append(next) }
            if kept.count > 100 { read.append(kept.removeFirst()) }
            schedule.groups.append(
                Group(
                    OperationGroup(operation: Broadcast(shape: []), inputs: read, outputs: [next]), label: "g",
                    location: nil))
            last = next
        }
        schedule.outputs = [last]
        let plan = MemoryPlan(schedule, batch: 1, blockBytes: blockBytes)
        var (first, final) = ([Int: Int](), [Int: Int]())
        for (index, group) in schedule.groups.enumerated() {
            for value in group.reads + group.writes where plan.offsets[value] != nil {
                first[value] = first[value] ?? index
                final[value] = index
            }
        }
        #expect(plan.offsets.count == steps)
        for (value, offset) in plan.offsets {
            let end = offset + schedule.values[value].type.byteCount(batch: 1) - 1
            if offset / blockBytes != end / blockBytes { Issue.record("\(offset) to \(end) lies across blocks") }
        }
        // At every group, the values that are alive, in the order of their places.
        var alive: [Int] = []
        var most = 0
        for index in schedule.groups.indices {
            alive.removeAll { final[$0]! < index }
            alive += schedule.groups[index].writes
            let spans = alive.map {
                (plan.offsets[$0]!, plan.offsets[$0]! + schedule.values[$0].type.byteCount(batch: 1))
            }
            .sorted { $0 < $1 }
            for (a, b) in zip(spans, spans.dropFirst()) where a.1 > b.0 {
                Issue.record("\(a) and \(b) at group \(index)")
                return
            }
            most = max(most, spans.reduce(0) { $0 + $1.1 - $1.0 })
        }
        #expect(plan.byteCount < 2 * most)
    }

    /// What is counted from positions is computed by every reader again, but not a long chain of it; movement is followed to its start.
    @Test func chainsOfCountedAndOfMovedTensors() {
        let found = groups {
            var counted = Tensor.iota([8], axis: 0)
            for i in 0..<5000 { counted = counted * 3 + Tensor.scalar(Double(i % 7), .int32) }
            var moved = Tensor.input("x", [8, 8])
            for _ in 0..<3000 { moved = moved.transposed([1, 0]).sliced(axis: 0, from: 7, count: 8, step: -1) }
            return [counted, moved + 1]
        }
        #expect(found.map { $0 < 400 } == true)
    }
}
