import Foundation
import Synchronization
import Testing

@testable import Graph

/// Graphs as deep as a recurrence written out over very many steps.
@Suite struct DeepGraphTests {
    /// Runs `body` on a thread with a small stack, where recursion over the depth of a graph would end the process.
    private func onSmallStack(_ body: @escaping @Sendable () -> Void) {
        let done = DispatchSemaphore(value: 0)
        let thread = Thread {
            body()
            done.signal()
        }
        thread.stackSize = 512 << 10
        thread.start()
        done.wait()
    }

    @Test func aMillionNodesAreMadeDifferentiatedAndFreed() {
        let slope = Mutex<Int?>(nil)
        onSmallStack {
            let x = Tensor.input("x", .scalar)
            var t = x
            for _ in 0..<1_000_000 { t = t + 1 }
            let gradient = try? gradients(of: t, with: [x])
            slope.withLock { $0 = gradient?.count }
        }
        #expect(slope.withLock { $0 } == 1)
    }

    /// Chains that meet again are freed once.
    @Test func sharedPartsAreFreedWithTheirLastReader() {
        onSmallStack {
            var (a, b) = (Tensor.input("a", [3]), Tensor.input("b", [3]))
            for _ in 0..<50_000 { (a, b) = (a + b, a * b) }
            let kept = a
            a = b
            b = kept
            _ = topologicalOrder([a]).count
        }
    }

    /// A slice of nothing has a gradient of zeros.
    @Test func emptySlicesHaveGradients() throws {
        let x = Tensor.input("x", [3, 2])
        for (axis, step) in [(0, 1), (1, 1), (0, -1)] {
            let none = x.sliced(axis: axis, from: 0, count: 0, step: step)
            let padded = none.padded(
                low: axis == 0 ? [3, 0] : [0, 2], high: [0, 0])
            let gradient = try gradients(of: (padded * x).sum() + none.sum(), with: [x])[0]
            let values = Values(shape: [3, 2], elements: [1, 2, 3, 4, 5, 6])
            #expect(try Interpreter(batch: 1, ["x": values]).run(gradient).elements == [0, 0, 0, 0, 0, 0])
        }
    }
}
