import CPU
import Compiler
import Graph
import OpenCL
import Testing

/// Draws through attention: keys and values are kept, and each step answers its own queries.
@Suite(.serialized) struct AttentionSamplerTests {
    /// What each of some positions finds among the late ones, `[batch, positions]`.
    private func layer(
        _ x: Tensor, _ pattern: AttentionPattern, heads: Int, depth: Int, width: Int, keys: Tensor? = nil
    ) -> Tensor {
        let count = x.shape[1].coefficient
        func shape(_ tensor: Tensor) -> Tensor { tensor.reshaped([.batch, 1, tensor.shape[1]]) }
        func split(_ tensor: Tensor, _ depth: Int, _ seed: UInt64) -> Tensor {
            let weights = numbers(heads * depth, seed: seed).map(Float.init)
            return tensor.convolution(.constant(HostArray(weights, shape: [heads * depth, 1, 1])))
                .reshaped([.batch, Extent(heads), Extent(depth), tensor.shape[2]])
        }
        let late = shape(x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: count))
        let read = keys.map(shape) ?? late
        let found = Tensor.attention(
            byDepth: split(late * 3, depth, 1), split(read * 2, depth, 2), split((read * 2).tanh(), width, 3), pattern)
        // Small enough that what rounding does to a draw does not grow from step to step.
        let merge = numbers(heads * width, seed: 4).map { Float($0 / 4) }
        return found.reshaped([.batch, Extent(heads * width), Extent(count)])
            .convolution(.constant(HostArray(merge, shape: [1, heads * width, 1]))).reshaped(x.shape)
    }

    private func program(
        _ count: Int, _ pattern: AttentionPattern, heads: Int, depth: Int, width: Int, keys: Tensor? = nil
    ) throws -> (own: SamplingProgram, naive: SamplingProgram) {
        let x = Tensor.input("x", [.batch, Extent(count)])
        let drawn =
            layer(x, pattern, heads: heads, depth: depth, width: width, keys: keys)
            + Tensor.input("noise", x.shape)
        let own = try SamplingProgram(variable: x, drawn: drawn, order: .natural(count))
        #expect(own.fullPasses == nil, "\(own.fullPasses?.reason ?? "")")
        #expect(own.works.contains { if case .attention = $0.anchor { true } else { false } }, "\(pattern)")
        return (
            own, try SamplingProgram(fullPassesOver: x, drawn: drawn, order: .natural(count), outputs: [])
        )
    }

    private func devices() throws -> [any Device] {
        try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
            + [KernelFamily.cpu, .gpu].compactMap { try? OpenCLDevice.named("opencl", kernels: $0) }
    }

    private func noise(_ batch: Int, _ count: Int) -> HostArray {
        HostArray(Values(shape: [batch, count], elements: numbers(batch * count, seed: 8)), as: .float32)
    }

    private static let patterns: [AttentionPattern] = [
        .causal, .strictlyCausal, .window(3), .window(40), .strided(4), .row(width: 7), .column(width: 7),
        .blocks(AttentionPattern.Blocks(size: 30, reads: [[false], [true], [true, false, false]])),
    ]

    /// Whatever the pattern, the heads, the depths (those of queries need not be those of values) and the number of examples.
    @Test func everyDeviceDrawsWhatFullPassesDraw() throws {
        let devices = try devices()
        let count = 90
        for (index, pattern) in Self.patterns.enumerated() {
            let (depth, width) = [(4, 4), (16, 16), (5, 7), (20, 8)][index % 4]
            let programs = try program(count, pattern, heads: 1 + index % 3, depth: depth, width: width)
            for batch in index < 2 ? [1, 2, 3, 4, 7, 8, 11, 35] : [3, 8, 11] {
                let noise = noise(batch, count)
                let expected = try devices[0].load(programs.naive, maximumBatch: batch, states: [:])
                    .run(["noise": noise], batch: batch)[0].doubles
                for device in devices where batch == 3 || batch == 11 || device is CPUDevice {
                    let found = try device.load(programs.own, maximumBatch: batch, states: [:])
                        .run(["noise": noise], batch: batch)[0].doubles
                    let worst = zip(found, expected).map { abs($0 - $1) }.max() ?? 0
                    #expect(worst <= 2e-5, "\(device.summary), \(pattern), batch \(batch): \(worst)")
                }
            }
        }
    }

    /// The number of examples, or of threads, changes no bit of any of them.
    @Test func anExampleIsTheSameInEveryBatch() throws {
        let count = 70
        let programs = try program(count, .causal, heads: 2, depth: 6, width: 10)
        let all = noise(40, count)
        for instructions in InstructionSet.available {
            let device = try CPUDevice(threads: 2, instructionSet: instructions)
            let whole = try device.load(programs.own, maximumBatch: 40, states: [:]).run(["noise": all], batch: 40)[0]
                .doubles
            for batch in [1, 2, 3, 5, 8, 9, 16] {
                let part = HostArray(
                    Values(shape: [batch, count], elements: Array(all.doubles[..<(batch * count)])), as: .float32)
                let found = try device.load(programs.own, maximumBatch: batch, states: [:]).run(
                    ["noise": part], batch: batch)
                #expect(found[0].doubles == Array(whole[..<(batch * count)]), "\(device.summary), \(batch)")
            }
        }
    }

    /// Nothing is computed twice, and nothing of the size of the scores is kept: all keys of a causal draw, those of a window otherwise.
    @Test func whatIsComputedAndKept() throws {
        let (count, heads, depth, width) = (300, 2, 8, 8)
        func numbersKept(_ program: SamplingProgram) -> Int { program.values.reduce(0) { $0 + $1.count } }
        let causal = try program(count, .causal, heads: heads, depth: depth, width: width).own
        let pairs = count * (count + 1) / 2
        // Three products of one channel to all, and one back.
        #expect(causal.multiplyAdds == heads * (pairs + count * 2) * (depth + width))
        #expect(numbersKept(causal) <= count * (heads * (depth + width) + 16))
        let window = try program(count, .window(9), heads: heads, depth: depth, width: width).own
        #expect(numbersKept(window) <= 9 * heads * (depth + width) + 20 * count)
        var machine = try SamplingInterpreter(
            window, batch: 1, ["noise": Values(shape: [1, count], elements: numbers(count, seed: 8))])
        let found = machine.run()[0].elements
        #expect(machine.multiplyAdds == window.multiplyAdds)
        let expected = try CPUDevice(threads: 1).load(window, maximumBatch: 1, states: [:]).run(
            ["noise": noise(1, count)], batch: 1)[0].doubles
        #expect(zip(found, expected).allSatisfy { abs($0 - $1) < 1e-5 })
    }

    /// Keys that do not depend on what is drawn: they are there before the first step.
    @Test func keysOfSomethingGiven() throws {
        let count = 20
        let given = Tensor.input("given", [.batch, 33])
        let programs = try program(count, .all, heads: 2, depth: 4, width: 6, keys: given)
        let feeds = [
            "noise": noise(5, count),
            "given": HostArray(Values(shape: [5, 33], elements: numbers(165, seed: 3)), as: .float32),
        ]
        for device in try devices() {
            let found = try device.load(programs.own, maximumBatch: 5, states: [:]).run(feeds, batch: 5)[0].doubles
            let expected = try device.load(programs.naive, maximumBatch: 5, states: [:]).run(feeds, batch: 5)[0].doubles
            #expect(zip(found, expected).allSatisfy { abs($0 - $1) <= 2e-5 }, "\(device.summary)")
        }
    }

    /// A draw that needs the logarithm of the softmax's sum, and one whose depths do not become known together, go by products.
    @Test func otherDrawsGoByProducts() throws {
        let x = Tensor.input("x", [.batch, 12])
        let late = x.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 12)
        let later = late.padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: 12)
        let vectors = Tensor.concatenate([late, later], axis: 1).reshaped([.batch, 1, 2, 12])
        let found = Tensor.attention(byDepth: vectors, vectors, vectors, .causal)
        let sums = Tensor(
            Tensor.attention(byDepth: vectors, vectors, vectors, .causal).node, 1
        ).reshaped(x.shape)
        let noise = noise(3, 12)
        for (name, y) in [("depths", found.sum(axes: [1, 2]) * 0.2), ("sums", sums * 0.1)] {
            let drawn = y + Tensor.input("noise", x.shape)
            let program = try SamplingProgram(variable: x, drawn: drawn, order: .natural(12))
            #expect(program.fullPasses == nil, "\(name)")
            let naive = try SamplingProgram(fullPassesOver: x, drawn: drawn, order: .natural(12), outputs: [])
            let device = try CPUDevice(threads: 2)
            let a = try device.load(program, maximumBatch: 3, states: [:]).run(["noise": noise], batch: 3)[0].doubles
            let b = try device.load(naive, maximumBatch: 3, states: [:]).run(["noise": noise], batch: 3)[0].doubles
            #expect(zip(a, b).allSatisfy { abs($0 - $1) <= 1e-5 }, "\(name)")
        }
    }
}
