import Compiler
import Graph
import Testing

@testable import CPU

/// What `martlet compare` says of two devices.
@Suite struct CompareTests {
    /// A product of two steps is zero if both are rounded, and is not where they are fused; so of each row's condition. Without vectors
    /// nothing is fused.
    private func compare(rows: Int, onThreshold: Int) throws -> GroupComparison {
        let (x, w) = (Tensor.input("x", [.batch, 2]), Tensor.input("w", [2, 8]))
        let schedule = try compile([x.matmul(w).greater(0), x.matmul(w)])
        let fraction: Float = 1 + 1 / 4096
        let rounded = fraction * fraction
        var values: [Float] = []
        for row in 0..<rows { values += row < onThreshold ? [-rounded, fraction] : [1, 1] }
        let feeds = [
            "x": HostArray(values, shape: [rows, 2]),
            "w": HostArray([Float](repeating: 1, count: 8) + [Float](repeating: fraction, count: 8), shape: [2, 8]),
        ]
        let executables = try [VectorLevel.portable, .best].map {
            try CPUDevice(threads: 1, level: $0).load(schedule, maximumBatch: rows, states: [:])
        }
        let (groups, _) = try compareGroups(executables[0], executables[1], feeds: feeds, batch: rows)
        return try #require(groups.first { $0.label.contains("matmul") })
    }

    /// Numbers agree; the conditions of what lies on the threshold are told apart from them, by their share.
    @Test(.enabled(if: VectorLevel.best != .portable)) func conditionsAreComparedByTheirShare() throws {
        let none = try compare(rows: 50, onThreshold: 0)
        #expect(none.relativeDifference == 0)
        let some = try compare(rows: 50, onThreshold: 5)
        #expect(some.differingShare == 0.1 && some.relativeDifference == 0.1)
        #expect(some.largestDifference > 0 && some.largestDifference < 1e-6)
    }
}
