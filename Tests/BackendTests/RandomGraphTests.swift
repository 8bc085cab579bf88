import CPU
import Compiler
import Foundation
import Graph
import OpenCL
import Testing

/// Graphs that nobody would write by hand: whatever operations come together, in forward and backward, in training steps and in
/// samplers, every device says what the interpreter says.
@Suite(.serialized) struct RandomGraphTests {
    typealias Generator = RandomGraph.Generator

    /// Graphs of the suite; `make random-graphs COUNT=10000` takes as many as one likes.
    private static let count = ProcessInfo.processInfo.environment["MARTLET_RANDOM_GRAPHS"].flatMap { Int($0) } ?? 200

    /// One program for several graphs, against the interpreter, with batches that change from run to run.
    private func check(_ seeds: Range<UInt64>, _ type: ElementType, operations: Int, on devices: [any Device]) throws {
        let graphs = try seeds.map { try RandomGraph(seed: $0, type, operations: operations) }
        let (outputs, updates) = (graphs.flatMap(\.outputs), graphs.flatMap(\.updates))
        let schedule = try compile(outputs, updates: updates)
        let owners =
            graphs.flatMap { graph in graph.outputs.map { _ in graph } }
            + graphs.flatMap { graph in graph.updates.map { _ in graph } }
        let placeholders = topologicalOrder(outputs + updates.map(\.value) + updates.map(\.state))
            .compactMap { $0.operation as? Placeholder }
        for batch in [3, 1, 2] {
            var bindings: [String: Values] = [:]
            for placeholder in placeholders {
                bindings[placeholder.label] = RandomGraph.input(
                    placeholder.label, placeholder.type.shape.resolved(batch: batch))
            }
            let expected = try Interpreter(batch: batch, bindings).run(outputs + updates.map(\.value))
            for device in devices {
                var states: [String: any DeviceBuffer] = [:]
                for value in schedule.states.map({ schedule.values[$0] }) {
                    let array = HostArray(bindings[value.label]!, as: type)
                    states[value.label] = try device.makeBuffer(byteCount: array.bytes.count)
                    try array.withUnsafeBytes { try states[value.label]!.write($0) }
                }
                let feeds = bindings.filter { states[$0.key] == nil && schedule.reads($0.key) }
                var found = try device.load(schedule, maximumBatch: 3, states: states)
                    .run(feeds.mapValues { .host(HostArray($0, as: type)) }, batch: batch).map(\.doubles)
                for state in updates.map(\.state) {
                    found.append(
                        try HostArray(
                            reading: states[state.placeholder!.label]!, type: type,
                            shape: state.shape.resolved(batch: 1)
                        ).doubles)
                }
                for ((values, expected), graph) in zip(zip(found, expected), owners) {
                    let largest = max(1, expected.elements.map(abs).max() ?? 0)
                    let worst = zip(values, expected.elements).map { abs($0 - $1) }.max() ?? 0
                    #expect(
                        values.count == expected.elements.count && worst <= (type == .float64 ? 1e-11 : 1e-4) * largest,
                        "graph \(graph.seed) on \(device.summary), batch \(batch): \(worst) of \(largest)\n\(graph.program(batch: batch))"
                    )
                }
            }
        }
    }

    /// Graphs that once came out wrong: clusters that had moved twice were lost sight of.
    @Test func graphsThatWereWrong() throws {
        for seed in [485] as [UInt64] {
            try check(seed..<seed + 1, .float32, operations: 6, on: [CPUDevice(threads: 2)])
        }
    }

    @Test func theProcessorAgreesWithTheInterpreter() throws {
        // Every width of vectors that this processor has, in turn.
        let widths = try InstructionSet.available.map { try CPUDevice(threads: 2, instructionSet: $0) }
        for first in stride(from: 1, to: UInt64(Self.count), by: 5) {
            let seeds = first..<min(first + 5, UInt64(Self.count) + 1)
            try check(seeds, .float32, operations: 6, on: widths)
            try check(seeds, .float64, operations: 6, on: [widths[Int(first / 5) % widths.count]])
        }
    }

    /// Every twentieth graph, as compilers of kernels are slow.
    @Test(arguments: [KernelFamily.cpu, .gpu]) func openCLAgreesWithTheInterpreter(family: KernelFamily) throws {
        guard let device = try? OpenCLDevice.named("opencl", kernels: family) else { return }
        // The two families take turns.
        let last = UInt64(Self.count) / 20
        for first in stride(from: family == .cpu ? 1 : 6, through: last, by: 10) {
            try check(first..<min(first + 5, last + 1), .float32, operations: 4, on: [device])
        }
    }

    /// The program that a failure prints makes the same graph.
    @Test func aFailurePrintsAProgram() throws {
        let graph = try RandomGraph(seed: 7, .float32, operations: 6)
        let program = graph.program(batch: 3)
        #expect(program.contains("let x = Tensor.input(\"7.x\""))
        #expect(program.contains("try compile("))
        #expect(program.split(separator: "\n").count > 20)
    }

    /// A causal graph over positions of a few channels: position p of the result reads positions before p.
    private func causal(_ x: Tensor, _ positions: Int, _ g: inout Generator) -> Tensor {
        var states = 0
        func state(_ shape: [Int]) -> Tensor {
            states += 1
            return .state("w\(states)", Shape(shape))
        }
        var y = x.reshaped([.batch, Extent(positions), 1])
        for _ in 0..<g.next(2...7) {
            let channels = y.shape[2].coefficient
            let flat = y.reshaped([.batch, Extent(positions * channels)])
            switch g.next(0...7) {
            case 0: y = (y + state([channels])).tanh()
            case 1: y = y.matmul(state([channels, 3]).broadcast(to: [.batch, Extent(channels), 3])).sigmoid()
            case 2:
                let position = { (index: Int) in Int32(index / channels) }
                let degrees = (0..<positions * channels).map(position)
                y = flat.maskedDense(
                    state([degrees.count, degrees.count]),
                    mask: .degrees(input: degrees, output: degrees, strict: false)
                ).reshaped(y.shape).tanh()
            case 3: y = y.cumulativeSum(axis: 1) * 0.3
            case 4: y = .concatenate([y, y.softmax(axis: 2)], axis: 2)
            case 5:
                y = y.transposed([0, 2, 1]).convolution(state([2, channels, 2]), padding: [(2, 0)], dilation: [2])
                    .transposed([0, 2, 1]).tanh()
            case 6: y = y.gathered(.constant(HostArray((0..<positions).map { Int32($0 / 2) })), axis: 1) + y
            default:
                let w = state([channels, channels])
                let start = Tensor.scalar(0).broadcast(to: [.batch, Extent(channels)])
                y = Tensor.scan([start, start], over: [y.transposed([1, 0, 2])]) { carries, slices in
                    let h = (carries[0].matmul(w) + slices[0]).tanh()
                    return ([h + carries[1], slices[0]], [h])
                }.outputs[0].transposed([1, 0, 2])
            }
        }
        return y.mean(axes: [2]).padded(low: [0, 1], high: [0, 0]).sliced(axis: 1, from: 0, count: positions)
    }

    @Test func samplersDrawWhatTheLoopOverForwardPassesDraws() throws {
        let (batch, positions) = (3, 5)
        let device = try CPUDevice(threads: 2)
        for seed in UInt64(1)...60 {
            var g = Generator(seed)
            let (x, noise) = (Tensor.input("x", [.batch, 5]), Tensor.input("noise", [.batch, 5]))
            let drawn = causal(x, positions, &g) + noise
            let order = Order(index: (0..<Int32(positions)).map { $0 })
            let program = try SamplingProgram(variable: x, drawn: drawn, order: order)
            var bindings: [String: Values] = [:]
            var states: [String: any DeviceBuffer] = [:]
            for case let placeholder as Placeholder in topologicalOrder([drawn]).map(\.operation)
            where placeholder.label != "x" {
                let values = g.values(placeholder.type.shape.resolved(batch: batch))
                bindings[placeholder.label] = values
                guard placeholder.role == .state else { continue }
                states[placeholder.label] = try device.makeBuffer(byteCount: values.elements.count * 4)
                try HostArray(values, as: .float32).withUnsafeBytes { try states[placeholder.label]!.write($0) }
            }
            var naive = Values(shape: [batch, positions])
            for position in 0..<positions {
                bindings["x"] = naive
                let next = try Interpreter(batch: batch, bindings).run(drawn)
                for example in 0..<batch {
                    naive.elements[example * positions + position] = next.elements[example * positions + position]
                }
            }
            bindings["x"] = nil
            var machine = try SamplingInterpreter(program, batch: batch, bindings)
            let interpreted = machine.run()[0]
            let sampled = try device.load(program, maximumBatch: batch, states: states)
                .run(["noise": HostArray(bindings["noise"]!, as: .float32)], batch: batch)[0].doubles
            for (index, expected) in naive.elements.enumerated() {
                #expect(abs(interpreted.elements[index] - expected) <= 1e-12, "graph \(seed), element \(index)")
                #expect(abs(sampled[index] - expected) <= 2e-5, "graph \(seed), element \(index) on \(device.summary)")
            }
        }
    }
}
