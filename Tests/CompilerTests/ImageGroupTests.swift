import Graph
import Testing

@testable import Compiler

/// What image models are made of compiles into few groups: movement is folded into operands, not copied.
@Suite struct ImageGroupTests {
    private let x = Tensor.input("x", [.batch, 8, 6, 6])
    private let w = Tensor.input("w", [16, 8, 3, 3])
    private var y: Tensor { x.convolution(w, padding: [(1, 1), (1, 1)]) }

    private func labels(_ outputs: [Tensor]) throws -> [String] { try compile(outputs).groups.map(\.label) }

    @Test func gateReadsHalvesOfTheChannels() throws {
        let y = y
        let gate = y.sliced(axis: 1, from: 0, count: 8).tanh() * y.sliced(axis: 1, from: 8, count: 8).sigmoid()
        #expect(try labels([gate]) == ["convolution", "tanh+sigmoid+multiply"])
    }

    @Test func biasActivationAndResidualAreTheEpilogue() throws {
        let v = Tensor.input("v", [8, 8, 1, 1])
        let h = (x + (x.convolution(v) + Tensor.input("b", [8, 1, 1]))).relu()
        #expect(try labels([h]) == ["convolution+add+add+relu"])
    }

    @Test func slicesAndNearestUpsamplingAreRead() throws {
        // A convolution reads a slice of channels where it lies.
        let slice = y.sliced(axis: 1, from: 4, count: 8).convolution(w, padding: [(1, 1), (1, 1)])
        #expect(try labels([slice]) == ["convolution", "convolution"])
        // Nearest upsampling is a broadcast: only the reshape that joins its axes copies.
        let up = x.reshaped([.batch, 8, 6, 1, 6, 1]).broadcast(to: [.batch, 8, 6, 2, 6, 2]).reshaped([
            .batch, 8, 12, 12,
        ])
        #expect(try labels([up + 1]).count == 2)
        // Average pooling reduces a view.
        let pooled = x.reshaped([.batch, 8, 3, 2, 3, 2]).mean(axes: [3, 5])
        #expect(try labels([pooled]).count == 1)
    }

    @Test func gradientsOfAGateAreOneGroupForEachHalf() throws {
        let y = y
        let gate = y.sliced(axis: 1, from: 0, count: 8).tanh() * y.sliced(axis: 1, from: 8, count: 8).sigmoid()
        // Both halves of the gradient are written where the convolution reads them.
        let groups = try labels(gradients(of: gate.squared().sum(), with: [w]))
        #expect(groups.count == 3, "\(groups)")
    }
}
