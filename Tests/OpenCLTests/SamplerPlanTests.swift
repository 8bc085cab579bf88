import Compiler
import Graph
import Testing

@testable import OpenCL

/// A draw on a GPU is the same to the bit, however its work is spread over groups.
@Suite(.serialized) struct SamplerPlanTests {
    /// Three heads of attention, sums of as many terms as variables and of 24, a largest number of 24. The first five variables are one step.
    static func program(_ count: Int) throws -> SamplingProgram {
        let positions = Extent(count)
        let x = Tensor.input("x", [.batch, positions])
        func weights(_ shape: [Int], _ seed: UInt64) -> Tensor {
            var dice = Dice(seed)
            return .constant(HostArray(dice.floats(shape.reduce(1, *)).map { $0 * 0.4 }, shape: shape))
        }
        let before = x.padded(low: [0, 5], high: [0, 0]).sliced(axis: 1, from: 0, count: count)
        let embedded = before.reshaped([.batch, 1, positions]).convolution(weights([24, 1, 1], 1))
        func heads(_ seed: UInt64) -> Tensor {
            embedded.convolution(weights([24, 24, 1], seed)).reshaped([.batch, 3, 8, positions])
        }
        let found = Tensor.attention(byDepth: heads(2), heads(3), heads(4), .causal).reshaped([.batch, 24, positions])
        let largest = (found + embedded).max(axes: [1], keepingAxes: true)
        let mixed = (found.convolution(weights([1, 24, 1], 5)) + largest * 0.1).reshaped(x.shape)
        let degrees = (1...count).map { Int32($0) }
        let dense = before.maskedDense(
            weights([count, count], 6), mask: .degrees(input: degrees, output: degrees, strict: false))
        return try SamplingProgram(
            variable: x, drawn: (mixed + dense).tanh() + .input("noise", x.shape),
            order: Order(index: (0..<count).map { Int32(max(0, $0 - 4)) }), outputs: [mixed])
    }

    private func draw(
        _ program: SamplingProgram, _ noise: HostArray, batch: Int, _ shape: SamplerPlan.Shape, isWide: Bool
    ) throws -> [[Double]] {
        let device = try Devices.of(.gpu)
        let sampler = try OpenCLSampler(device, program, maximumBatch: batch, states: [:]) {
            SamplerPlan($0, device.description.samplerLimits, batch: batch, shapes: [shape], isWide: isWide)
        }
        let rows = HostArray(Array(noise.floats.prefix(batch * 40)), shape: [batch, 40])
        return try sampler.run(["noise": rows], batch: batch).map(\.doubles)
    }

    @Test func drawsAreEqualToTheBit() throws {
        let program = try Self.program(40)
        #expect(program.fullPasses == nil)
        var dice = Dice(9)
        let noise = HostArray(dice.floats(5 * 40), shape: [5, 40])
        let first = try draw(
            program, noise, batch: 5, SamplerPlan.Shape(group: 64, lanes: 1, partials: 2048), isWide: false)
        var oracle = try SamplingInterpreter(program, batch: 5, ["noise": noise.values])
        for (a, b) in zip(oracle.run(), first) { expectClose(b, a.elements, tolerance: 1e-5) }
        // 512 floats leave no room for all parts of a sum.
        for (group, lanes, partials) in [(256, 16, 2048), (64, 4, 512), (128, 2, 8192)] {
            for isWide in [false, true] {
                let shape = SamplerPlan.Shape(group: group, lanes: lanes, partials: partials)
                #expect(try draw(program, noise, batch: 5, shape, isWide: isWide) == first, "\(shape), \(isWide)")
            }
        }
        let alone = try draw(
            program, noise, batch: 1, SamplerPlan.Shape(group: 256, lanes: 1, partials: 8192), isWide: true)
        #expect(zip(alone, first).allSatisfy { $0 == Array($1.prefix($0.count)) })
    }
}
