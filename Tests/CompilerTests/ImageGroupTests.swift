import Graph
import Testing

@testable import Compiler

/// What image models are made of compiles into few groups: movement is folded into operands, not copied.
@Suite struct ImageGroupTests {
    private let x = Tensor.input("x", [.batch, 8, 6, 6])
    private let w = Tensor.input("w", [16, 8, 3, 3])
    private var y: Tensor { x.convolution(w, padding: [(1, 1), (1, 1)]) }

    private func labels(_ outputs: [Tensor]) throws -> [String] { try compile(outputs).groups.map(\.label) }

    private func gate(_ y: Tensor) -> Tensor {
        y.sliced(axis: 1, from: 0, count: 8).tanh() * y.sliced(axis: 1, from: 8, count: 8).sigmoid()
    }

    @Test func gateIsPartOfItsConvolution() throws {
        #expect(try labels([gate(y)]) == ["convolution+tanh+sigmoid+multiply"])
        // What lies between the two is computed for each half.
        let v = y + Tensor.input("b", [16, 1, 1])
        let schedule = try compile([gate(v)])
        #expect(schedule.groups.map(\.label) == ["convolution+add+tanh+add+sigmoid+multiply"])
        guard let group = schedule.groups[0].kind as? ConvolutionGroup else { return }
        #expect(group.sections == 2 && group.shape == [.batch, 8, 6, 6] && group.outputs.count == 1)
        // Who reads both halves together finds them side by side.
        let across = v.convolution(.input("u", [4, 16, 1, 1]))
        #expect(
            try labels([gate(v), across]) == ["convolution+add+tanh+add+sigmoid+multiply", "convolution"])
        // The last of several convolutions takes the gate.
        let two = y + x.convolution(.input("t", [16, 8, 1, 1]))
        #expect(try labels([gate(two)]).last?.hasSuffix("tanh+add+sigmoid+multiply") == true)
        #expect(try labels([gate(two)]).count == 2)
    }

    @Test func gateStaysApartWhereItWouldPartOthers() throws {
        let y = y
        // A function of the whole stays where the whole is computed.
        #expect(try labels([gate(y), y.relu()]) == ["convolution+relu", "tanh+sigmoid+multiply"])
        // One half alone is read where it lies.
        #expect(try labels([y.sliced(axis: 1, from: 8, count: 8).tanh()]) == ["convolution", "tanh"])
        let grouped = x.convolution(.input("g", [16, 4, 1, 1]), groups: 2)
        #expect(try labels([gate(grouped)]) == ["convolution", "tanh+sigmoid+multiply"])
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

    @Test func gradientsOfAGateAreWrittenSideBySide() throws {
        // Both halves of the gradient are written where the convolution reads them.
        let groups = try labels(gradients(of: gate(y).squared().sum(), with: [w]))
        #expect(groups.count == 2, "\(groups)")
        let apart = try labels(gradients(of: (gate(y) * .input("d", [.batch, 8, 6, 6])).sum(), with: [w, x]))
        #expect(apart.count == 3 && !apart.contains { $0.contains("concatenate") }, "\(apart)")
    }
}
