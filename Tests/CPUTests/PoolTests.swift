import CPUKernels
import Foundation
import Testing

/// The thread pool by itself.
@Suite struct PoolTests {
    /// Many short jobs of changing size: every index runs exactly once, workers stay within bounds.
    @Test(arguments: [1, 2, 4]) func everyIndexRunsOnce(threads: Int32) throws {
        let pool = try #require(martlet_pool_create(threads))
        defer { martlet_pool_destroy(pool) }
        #expect(martlet_pool_threads(pool) == threads)
        for round in 0..<3000 {
            let count = round % 7 == 0 ? round % 300 : round % 5
            var ran = [Int32](repeating: 0, count: count)
            ran.withUnsafeMutableBufferPointer { runs in
                var context = (runs: runs.baseAddress, threads: threads)
                withUnsafeMutablePointer(to: &context) { context in
                    martlet_pool_run(
                        pool, Int64(count),
                        { context, index, worker in
                            let context = context!.assumingMemoryBound(
                                to: (runs: UnsafeMutablePointer<Int32>?, threads: Int32).self)
                            // A worker that is out of bounds counts as a run too many.
                            context.pointee.runs![Int(index)] += worker < context.pointee.threads ? 1 : 2
                        }, context)
                }
            }
            #expect(ran.allSatisfy { $0 == 1 })
        }
    }

    /// What is dealt in turn is dealt once, and every share begins with the first of the order that is left for it.
    @Test func dealingIsComplete() {
        for threads in Int32(1)...5 {
            for count in Int64(0)..<40 {
                let dealt = (0..<count).map { martlet_dealt_in_turn(count, threads, $0) }
                #expect(dealt.sorted() == Array(0..<count))
                for worker in 0..<threads where Int64(worker) < count {
                    #expect(dealt[Int(martlet_share_start(count, Int64(threads), Int64(worker)))] == Int64(worker))
                }
                #expect(martlet_share_start(count, Int64(threads), Int64(threads)) == count)
            }
        }
    }

    /// Workers that went to sleep come back.
    @Test func parkedWorkersWake() throws {
        let pool = try #require(martlet_pool_create(3))
        defer { martlet_pool_destroy(pool) }
        for _ in 0..<5 {
            var sum: [Int64] = [0, 0, 0]
            sum.withUnsafeMutableBufferPointer { sum in
                martlet_pool_run(
                    pool, 100,
                    { context, index, worker in
                        context!.assumingMemoryBound(to: Int64.self)[Int(worker)] += index
                    }, sum.baseAddress)
            }
            #expect(sum.reduce(0, +) == 4950)
            var pause = timespec(tv_sec: 0, tv_nsec: 2_000_000)
            nanosleep(&pause, nil)
        }
    }
}
