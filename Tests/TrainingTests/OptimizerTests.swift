import Graph
import Layers
import Testing

@testable import Training

/// Muon's step, in double precision.
@Suite struct OptimizerTests {
    private func step(_ rows: [[Double]], mask: MaskStructure? = nil) throws -> [[Double]] {
        let columns = rows[0].count
        let parameter = Parameter([rows.count, columns], .zeros, mask: mask)
        let direction = Tensor.constant(HostArray(rows.flatMap { $0 }, shape: [rows.count, columns]))
        let values = try Interpreter().run(Muon.step(direction, of: parameter)).elements
        return (0..<rows.count).map { Array(values[$0 * columns..<($0 + 1) * columns]) }
    }

    /// What five steps of the quintic make of a singular value.
    private func quintic(_ s: Double) -> Double {
        var x = s
        for _ in 0..<5 {
            let square = x * x
            x *= 3.4445 - 4.7750 * square + 2.0315 * square * square
        }
        return x
    }

    /// Singular values are moved one by one, and rotations pass through.
    @Test(arguments: [false, true]) func singularValuesBecomeAlike(isTall: Bool) throws {
        let (singular, angle) = ([3.0, 0.5, 0.1], 0.7)
        let norm = singular.reduce(0) { $0 + $1 * $1 }.squareRoot()
        let (c, s) = (Math.cos(angle), Math.sin(angle))
        let rotation = [[c, -s, 0], [s, c, 0], [0, 0, 1]]
        func matrix(_ singular: [Double]) -> [[Double]] {
            (0..<3).map { r in (0..<5).map { $0 < 3 ? rotation[r][$0] * singular[$0] : 0 } }
        }
        func transposed(_ m: [[Double]]) -> [[Double]] { m[0].indices.map { c in m.map { $0[c] } } }
        let found = try step(isTall ? transposed(matrix(singular)) : matrix(singular))
        // As long as a step of Adam: equal singular values would have a root mean square of 0.2.
        let scale = 0.2 * 5.0.squareRoot()
        let expected = matrix(singular.map { scale * quintic($0 / norm) })
        for (row, want) in zip(isTall ? transposed(found) : found, expected) {
            for (a, b) in zip(row, want) { #expect(abs(a - b) < 1e-12) }
        }
        for value in singular { #expect((0.65...1.25).contains(quintic(value / norm))) }
    }

    /// Dead weights do not move, and the live ones are as long as before.
    @Test func deadWeightsStay() throws {
        let mask = MaskStructure.degrees(input: [1, 2, 3, 4], output: [1, 2, 3], strict: false)
        let rows: [[Double]] = [[1, -2, 3, 4], [0.5, 2, -1, 3], [2, 2, 1, -5]]
        let found = try step(rows, mask: mask)
        for r in 0..<3 {
            for c in 0..<4 {
                let isLive = mask.isLive(output: r, input: c)
                #expect((found[r][c] != 0) == isLive)
            }
        }
    }

    @Test func whatIsNoWeightGoesByAdam() {
        #expect(Optimizer.muon.rule(for: "layers.0.weight", Parameter([3, 4], .zeros)) == .muon)
        #expect(Optimizer.muon.rule(for: "layers.0.bias", Parameter([3], .zeros)) == .adamw)
        #expect(Optimizer.muon.rule(for: "places", Parameter([3, 4, 4], .zeros)) == .adamw)
        #expect(Optimizer.momentum.rule(for: "layers.0.bias", Parameter([3], .zeros)) == .momentum)
    }
}
