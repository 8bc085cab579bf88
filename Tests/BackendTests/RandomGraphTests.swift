import CPU
import Compiler
import Graph
import OpenCL
import Testing

/// Graphs that nobody would write by hand: whatever operations come together, in forward and backward, in training steps and in
/// samplers, every device says what the interpreter says.
@Suite(.serialized) struct RandomGraphTests {
    struct Generator {
        var state: UInt64
        init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }
        mutating func next(_ range: ClosedRange<Int>) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return range.lowerBound + Int(state >> 33) % range.count
        }
        mutating func pick<T>(_ choices: [T]) -> T { choices[next(0...choices.count - 1)] }
        mutating func values(_ shape: [Int]) -> Values {
            Values(shape: shape, elements: (0..<shape.reduce(1, *)).map { _ in Double(next(-4096...4096)) / 4096 })
        }
    }

    /// A training step: outputs, among them the gradients of their weighted sum, and states updated from these.
    struct Step {
        var outputs: [Tensor] = []
        var updates: [StateUpdate] = []
        var all: [Tensor] { outputs + updates.map(\.value) }

        init(seed: UInt64, _ type: ElementType, operations: Int) throws {
            var g = Generator(seed)
            let label = "\(seed)."
            let x = Tensor.input(
                label + "x", Shape([.batch] + (0..<g.next(1...3)).map { _ in Extent(g.pick([1, 3, 5, 8])) }), type)
            let states = (0..<2).map { i in
                Tensor.state("\(label)s\(i)", Shape((0..<g.next(1...2)).map { _ in Extent(g.pick([1, 3, 5])) }), type)
            }
            var pool = [x] + states
            var tries = 0
            while pool.count < operations + 3, tries < 1000 {
                tries += 1
                let a = g.next(0...2) == 0 ? g.pick(pool) : pool[pool.count - 1]
                guard let new = RandomGraphTests.operation(a, pool, states, &g), new.error == nil,
                    (1...600).contains(new.shape.count.resolved(batch: 3)), new.shape.rank <= 5
                else { continue }
                // Bounded, so that rounding stays what it is.
                pool.append(g.next(0...1) == 0 ? new.tanh() : new * 0.5)
            }
            outputs = [pool[pool.count - 1], g.pick(pool)]
            let loss = outputs.map { output in
                let weight = g.values(output.shape.dimensions.map { $0.isStatic ? $0.coefficient : 1 })
                return (output * .constant(HostArray(weight, as: type))).sum()
            }.reduce(Tensor.scalar(0, type), +)
            let gradients = try Graph.gradients(of: loss, with: [x] + states)
            outputs += [loss] + gradients
            if g.next(0...2) == 0 {
                let again = gradients.map { $0.tanh().sum() }.reduce(Tensor.scalar(0, type), +)
                outputs += try Graph.gradients(of: again, with: [x, states[0]])
            }
            for (state, gradient) in zip(states, gradients.dropFirst()) where g.next(0...2) > 0 {
                let other = g.pick(states)
                updates.append(
                    StateUpdate(state, other.type == state.type && g.next(0...1) == 0 ? other : state * 0.9 - gradient))
            }
        }
    }

    private static func operation(_ a: Tensor, _ pool: [Tensor], _ states: [Tensor], _ g: inout Generator) -> Tensor? {
        let (rank, type, b) = (a.shape.rank, a.elementType, g.pick(pool))
        func weights(_ shape: [Int]) -> Tensor {
            .constant(HostArray(g.values(shape), as: type)) * (states[0].sum().tanh() + 1)
        }
        let axis = rank == 0 ? 0 : g.next(0...rank - 1)
        let extent = rank == 0 || !a.shape[axis].isStatic ? 0 : a.shape[axis].coefficient
        switch g.next(0...17) {
        case 0: return a.apply(g.pick([.sigmoid, .softplus, .relu, .sin, .erf, .absolute]))
        case 1: return g.pick([a + b, a - b, a * b, a.maximum(b)])
        case 2: return a / (b.squared() + 1)
        case 3: return .select(a.less(b), a, .scalar(0.25, type))
        case 4: return a.transposed((0..<rank).reversed())
        case 5 where extent > 1: return a.sliced(axis: axis, from: extent - 1, count: extent / 2, step: -1)
        case 6 where extent > 0:
            return a.padded(low: (0..<rank).map { $0 == axis ? 1 : 0 }, high: (0..<rank).map { $0 == axis ? 2 : 0 })
        case 7 where rank > 0: return .concatenate([a, a.flipped(axes: [axis])], axis: axis)
        case 8 where rank > 1:
            var dimensions = a.shape.dimensions
            dimensions[0] = dimensions[0] * dimensions.remove(at: 1)
            return a.reshaped(Shape(dimensions))
        case 9 where rank > 0:
            return g.pick([a.sum(axes: [axis]), a.mean(axes: [axis]), a.max(axes: [axis]), a.logSumExp(axes: [axis])])
        case 10 where rank > 0: return a.softmax(axis: axis)
        case 11 where rank > 1: return a.matmul(a.matrixTransposed())
        case 12 where rank > 1 && a.shape[-1].isStatic:
            return a.matmul(weights([a.shape[-1].coefficient, g.pick([1, 4, 17])]))
        case 13 where rank == 2 && a.shape[1].isStatic:
            let (inputs, outputs) = (a.shape[1].coefficient, g.pick([3, 9]))
            let degrees = (0..<inputs + outputs).map { _ in Int32(g.next(0...3)) }
            let (first, last) = (Array(degrees.prefix(inputs)), Array(degrees.suffix(outputs)))
            switch g.next(0...2) {
            case 0:
                return a.maskedDense(
                    weights([outputs, inputs]), mask: .degrees(input: first, output: last, strict: true))
            case 1:
                return a.maskedDense(
                    weights([outputs, inputs]), mask: .runtime(strict: false),
                    degrees: (.constant(HostArray(first)), .constant(HostArray(last))))
            default:
                return a.maskedDense(
                    weights([outputs, inputs]),
                    mask: .matrix(BitMatrix(rows: outputs, columns: inputs) { ($0 * 3 + $1) % 4 < 2 }))
            }
        case 14 where rank >= 2 && a.shape.dimensions.dropFirst().allSatisfy(\.isStatic):
            let image = rank == 2 ? a.reshaped([a.shape[0], 1, a.shape[1]]) : a
            let kernel = (0..<image.shape.rank - 2).map { _ in g.next(1...3) }
            let mask = g.next(0...1) == 0 ? nil : ConvolutionMask.causal(.b, kernel: kernel)
            let y = image.convolution(
                weights([4, image.shape[1].coefficient] + kernel), stride: kernel.map { _ in g.next(1...2) },
                padding: kernel.map { (g.next(0...$0), 1) }, mask: mask)
            return y.error != nil
                ? nil : y.sliced(axis: 1, from: 0, count: 2).tanh() * y.sliced(axis: 1, from: 2, count: 2).sigmoid()
        case 15 where extent > 0:
            return a.gathered(.constant(HostArray((0..<4).map { _ in Int32(g.next(0...extent - 1)) })), axis: axis)
        case 16 where extent > 0: return a.cumulativeSum(axis: axis, exclusive: g.next(0...1) == 0)
        case 17 where rank > 1 && a.shape[0].isStatic:
            let zero = Tensor.scalar(0, type).broadcast(to: Shape(Array(a.shape.dimensions.dropFirst())))
            let scan = Tensor.scan([zero, zero + 1], over: [a]) { ([$0[1].tanh() * $1[0], $0[0]], [$0[0] + $1[0]]) }
            return g.pick([scan.carries[0], scan.outputs[0]])
        default: return nil
        }
    }

    /// One program for several steps, against the interpreter, with batches that change from run to run.
    private func check(_ seeds: ClosedRange<UInt64>, _ type: ElementType, operations: Int, on device: any Device) throws
    {
        let steps = try seeds.map { try Step(seed: $0, type, operations: operations) }
        let all = steps.flatMap(\.outputs) + steps.flatMap(\.updates).map(\.value)
        let schedule = try compile(steps.flatMap(\.outputs), updates: steps.flatMap(\.updates))
        var states: [String: any DeviceBuffer] = [:]
        for value in schedule.states.map({ schedule.values[$0] }) {
            states[value.label] = try device.makeBuffer(byteCount: value.type.byteCount(batch: 1))
        }
        let executable = try device.load(schedule, maximumBatch: 3, states: states)
        for batch in [3, 1, 2] {
            var bindings: [String: Values] = [:]
            var g = Generator(UInt64(batch))
            for case let placeholder as Placeholder in topologicalOrder(all + steps.flatMap(\.updates).map(\.state))
                .map(\.operation)
            {
                bindings[placeholder.label] = g.values(placeholder.type.shape.resolved(batch: batch))
            }
            for (name, buffer) in states {
                try HostArray(bindings[name]!, as: type).withUnsafeBytes { try buffer.write($0) }
            }
            let feeds = bindings.filter { states[$0.key] == nil && schedule.reads($0.key) }
            var found = try executable.run(feeds.mapValues { .host(HostArray($0, as: type)) }, batch: batch).map(
                \.doubles)
            for state in steps.flatMap(\.updates).map(\.state) {
                found.append(
                    try HostArray(
                        reading: states[state.placeholder!.label]!, type: type, shape: state.shape.resolved(batch: 1)
                    ).doubles)
            }
            for (index, (values, expected)) in zip(found, try Interpreter(batch: batch, bindings).run(all)).enumerated()
            {
                let largest = max(1, expected.elements.map(abs).max() ?? 0)
                let worst = zip(values, expected.elements).map { abs($0 - $1) }.max() ?? 0
                #expect(
                    values.count == expected.elements.count && worst <= (type == .float64 ? 1e-11 : 1e-4) * largest,
                    "result \(index) of graphs \(seeds) on \(device.summary), batch \(batch): \(worst) of \(largest)")
            }
        }
    }

    @Test func theProcessorAgreesWithTheInterpreter() throws {
        for first in stride(from: UInt64(1), to: 120, by: 5) {
            try check(first...first + 4, .float32, operations: 6, on: CPUDevice(threads: 2))
            try check(first...first + 4, .float64, operations: 6, on: CPUDevice(threads: 1))
        }
    }

    @Test(arguments: [KernelFamily.cpu, .gpu]) func openCLAgreesWithTheInterpreter(family: KernelFamily) throws {
        guard let device = try? OpenCLDevice.named("opencl", kernels: family) else { return }
        try check(1...12, .float32, operations: 4, on: device)
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
