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
