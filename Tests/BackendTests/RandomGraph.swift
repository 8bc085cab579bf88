import Compiler
import Graph

/// A graph of public operations that a seed makes, and the Swift program that makes the same graph without the seed: a failure prints
/// it, so that what went wrong can be looked at, and cut down, by itself.
///
/// It is a training step: outputs, among them the gradients of their weighted sum, and states updated from these.
struct RandomGraph {
    let seed: UInt64
    private(set) var outputs: [Tensor] = []
    private(set) var updates: [StateUpdate] = []
    private let type: ElementType
    private var lines: [String] = []
    private var pool: [Part] = []
    private var states: [Part] = []
    private var g: Generator

    /// A tensor and what the program calls it.
    private struct Part {
        var tensor: Tensor
        var text: String
    }

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

    /// What an input or a state holds: a function of its name.
    static func input(_ label: String, _ shape: [Int]) -> Values {
        var g = Generator(label.utf8.reduce(17) { $0 &* 31 &+ UInt64($1) })
        return g.values(shape)
    }

    init(seed: UInt64, _ type: ElementType, operations: Int) throws {
        self.seed = seed
        self.type = type
        g = Generator(seed)
        let inputShape = [.batch] + (0..<g.next(1...3)).map { _ in Extent(g.pick([1, 3, 5, 8])) }
        add(
            "x", .input("\(seed).x", Shape(inputShape), type),
            "Tensor.input(\"\(seed).x\", \(text(inputShape)), .\(type))")
        for i in 0..<2 {
            let shape = (0..<g.next(1...2)).map { _ in Extent(g.pick([1, 3, 5])) }
            add(
                "s\(i)", .state("\(seed).s\(i)", Shape(shape), type),
                "Tensor.state(\"\(seed).s\(i)\", \(text(shape)), .\(type))")
        }
        states = Array(pool.suffix(2))
        var tries = 0
        while pool.count < operations + 3, tries < 1000 {
            tries += 1
            let a = g.next(0...2) == 0 ? g.pick(pool) : pool[pool.count - 1]
            guard let new = operation(a), new.tensor.error == nil,
                (1...600).contains(new.tensor.shape.count.resolved(batch: 3)), new.tensor.shape.rank <= 5
            else { continue }
            // Bounded, so that rounding stays what it is.
            if g.next(0...1) == 0 {
                add("t\(pool.count)", new.tensor.tanh(), "(\(new.text)).tanh()")
            } else {
                add("t\(pool.count)", new.tensor * 0.5, "(\(new.text)) * 0.5")
            }
        }
        try differentiate()
    }

    private mutating func add(_ name: String, _ tensor: Tensor, _ text: String) {
        pool.append(Part(tensor: tensor, text: name))
        lines.append("let \(name) = \(text)")
    }

    private mutating func differentiate() throws {
        let chosen = [pool[pool.count - 1], g.pick(pool)]
        outputs = chosen.map(\.tensor)
        var loss = Tensor.scalar(0, type)
        lines.append("var loss = Tensor.scalar(0, .\(type))")
        for output in chosen {
            let weight = constant(output.tensor.shape.dimensions.map { $0.isStatic ? $0.coefficient : 1 })
            loss = loss + (output.tensor * weight.tensor).sum()
            lines.append("loss = loss + (\(output.text) * \(weight.text)).sum()")
        }
        let variables = [pool[0]] + states
        let gradients = try Graph.gradients(of: loss, with: variables.map(\.tensor))
        lines.append("let slopes = try gradients(of: loss, with: [x, s0, s1])")
        outputs += [loss] + gradients
        lines.append("var outputs = [\(chosen.map(\.text).joined(separator: ", ")), loss] + slopes")
        if g.next(0...2) == 0 {
            let again = gradients.map { $0.tanh().sum() }.reduce(Tensor.scalar(0, type), +)
            outputs += try Graph.gradients(of: again, with: [pool[0].tensor, states[0].tensor])
            lines.append(
                "outputs += try gradients(of: slopes.map { $0.tanh().sum() }.reduce(Tensor.scalar(0, .\(type)), +), with: [x, s0])"
            )
        }
        lines.append("var updates: [StateUpdate] = []")
        for (index, state) in states.enumerated() where g.next(0...2) > 0 {
            let other = g.pick(states)
            let isMoved = other.tensor.type == state.tensor.type && g.next(0...1) == 0
            updates.append(
                StateUpdate(
                    state.tensor, isMoved ? other.tensor : state.tensor * 0.9 - gradients[index + 1]))
            lines.append(
                "updates.append(StateUpdate(\(state.text), \(isMoved ? other.text : "\(state.text) * 0.9 - slopes[\(index + 1)]")))"
            )
        }
    }

    /// The whole program: the graph, what it is fed, and what the interpreter and the processor make of it.
    func program(batch: Int) -> String {
        let header = """
            import CPU
            import Compiler
            import Graph

            struct Generator {
                var state: UInt64
                init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 }
                mutating func values(_ shape: [Int]) -> Values {
                    Values(shape: shape, elements: (0..<shape.reduce(1, *)).map { _ in
                        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                        return Double(-4096 + Int(state >> 33) % 8193) / 4096
                    })
                }
            }
            func constant(_ shape: [Int], _ seed: UInt64) -> Tensor {
                var g = Generator(seed)
                return .constant(HostArray(g.values(shape), as: .\(type)))
            }
            """
        let footer = """
            var (values, states): ([String: Values], [String: any DeviceBuffer]) = ([:], [:])
            let (device, schedule) = (try CPUDevice(), try compile(outputs, updates: updates))
            let all = outputs + updates.map(\\.value)
            for case let place as Placeholder in topologicalOrder(all + updates.map(\\.state)).map(\\.operation) {
                var g = Generator(place.label.utf8.reduce(17) { $0 &* 31 &+ UInt64($1) })
                values[place.label] = g.values(place.type.shape.resolved(batch: \(batch)))
                if place.role == .state {
                    let array = HostArray(values[place.label]!, as: .\(type))
                    states[place.label] = try device.makeBuffer(byteCount: array.bytes.count)
                    try array.withUnsafeBytes { try states[place.label]!.write($0) }
                }
            }
            let feeds = values.filter { states[$0.key] == nil && schedule.reads($0.key) }
                .mapValues { Feed.host(HostArray($0, as: .\(type))) }
            let expected = try Interpreter(batch: \(batch), values).run(all)
            let found = try device.load(schedule, maximumBatch: 3, states: states).run(feeds, batch: \(batch))
            for (a, b) in zip(found, expected) { print(a.doubles, b.elements) }
            """
        return ([header] + lines + [footer]).joined(separator: "\n")
    }

    // MARK: operations

    private func text(_ shape: [Extent]) -> String {
        "[\(shape.map { $0.isStatic ? "\($0.coefficient)" : ".batch" }.joined(separator: ", "))]"
    }

    private mutating func constant(_ shape: [Int]) -> Part {
        let seed = UInt64(g.next(1...1 << 30))
        var own = Generator(seed)
        return Part(tensor: .constant(HostArray(own.values(shape), as: type)), text: "constant(\(shape), \(seed))")
    }

    private mutating func weights(_ shape: [Int]) -> Part {
        let values = constant(shape)
        return Part(
            tensor: values.tensor * (states[0].tensor.sum().tanh() + 1), text: "\(values.text) * (s0.sum().tanh() + 1)")
    }

    private mutating func operation(_ a: Part) -> Part? {
        let (t, name, rank, b) = (a.tensor, a.text, a.tensor.shape.rank, g.pick(pool))
        let axis = rank == 0 ? 0 : g.next(0...rank - 1)
        let extent = rank == 0 || !t.shape[axis].isStatic ? 0 : t.shape[axis].coefficient
        func made(_ tensor: Tensor, _ text: String) -> Part { Part(tensor: tensor, text: text) }
        switch g.next(0...17) {
        case 0:
            let function = g.pick([ElementwiseFunction.sigmoid, .softplus, .relu, .sin, .erf, .absolute])
            return made(t.apply(function), "\(name).apply(.\(function.name))")
        case 1:
            return g.pick([
                made(t + b.tensor, "\(name) + \(b.text)"), made(t - b.tensor, "\(name) - \(b.text)"),
                made(t * b.tensor, "\(name) * \(b.text)"), made(t.maximum(b.tensor), "\(name).maximum(\(b.text))"),
            ])
        case 2: return made(t / (b.tensor.squared() + 1), "\(name) / (\(b.text).squared() + 1)")
        case 3:
            return made(
                .select(t.less(b.tensor), t, .scalar(0.25, type)),
                "Tensor.select(\(name).less(\(b.text)), \(name), .scalar(0.25, .\(type)))")
        case 4: return made(t.transposed((0..<rank).reversed()), "\(name).transposed(\(Array((0..<rank).reversed())))")
        case 5 where extent > 1:
            return made(
                t.sliced(axis: axis, from: extent - 1, count: extent / 2, step: -1),
                "\(name).sliced(axis: \(axis), from: \(extent - 1), count: \(extent / 2), step: -1)")
        case 6 where extent > 0:
            let (low, high) = ((0..<rank).map { $0 == axis ? 1 : 0 }, (0..<rank).map { $0 == axis ? 2 : 0 })
            return made(t.padded(low: low, high: high), "\(name).padded(low: \(low), high: \(high))")
        case 7 where rank > 0:
            return made(
                .concatenate([t, t.flipped(axes: [axis])], axis: axis),
                "Tensor.concatenate([\(name), \(name).flipped(axes: [\(axis)])], axis: \(axis))")
        case 8 where rank > 1:
            var dimensions = t.shape.dimensions
            dimensions[0] = dimensions[0] * dimensions.remove(at: 1)
            return made(
                t.reshaped(Shape(dimensions)),
                "\(name).reshaped(Shape([\(name).shape[0] * \(name).shape[1]] + \(name).shape.dimensions.dropFirst(2)))"
            )
        case 9 where rank > 0:
            return g.pick([
                made(t.sum(axes: [axis]), "\(name).sum(axes: [\(axis)])"),
                made(t.mean(axes: [axis]), "\(name).mean(axes: [\(axis)])"),
                made(t.max(axes: [axis]), "\(name).max(axes: [\(axis)])"),
                made(t.logSumExp(axes: [axis]), "\(name).logSumExp(axes: [\(axis)])"),
            ])
        case 10 where rank > 0: return made(t.softmax(axis: axis), "\(name).softmax(axis: \(axis))")
        case 11 where rank > 1:
            return made(t.matmul(t.matrixTransposed()), "\(name).matmul(\(name).matrixTransposed())")
        case 12 where rank > 1 && t.shape[-1].isStatic:
            let w = weights([t.shape[-1].coefficient, g.pick([1, 4, 17])])
            return made(t.matmul(w.tensor), "\(name).matmul(\(w.text))")
        case 13 where rank == 2 && t.shape[1].isStatic: return maskedDense(a)
        case 14 where rank >= 2 && t.shape.dimensions.dropFirst().allSatisfy(\.isStatic): return convolution(a)
        case 15 where extent > 0:
            let indices = (0..<4).map { _ in Int32(g.next(0...extent - 1)) }
            return made(
                t.gathered(.constant(HostArray(indices)), axis: axis),
                "\(name).gathered(.constant(HostArray(\(indices) as [Int32])), axis: \(axis))")
        case 16 where extent > 0:
            let isExclusive = g.next(0...1) == 0
            return made(
                t.cumulativeSum(axis: axis, exclusive: isExclusive),
                "\(name).cumulativeSum(axis: \(axis), exclusive: \(isExclusive))")
        case 17 where rank > 1 && t.shape[0].isStatic:
            let zero = Tensor.scalar(0, type).broadcast(to: Shape(Array(t.shape.dimensions.dropFirst())))
            let scan = Tensor.scan([zero, zero + 1], over: [t]) { ([$0[1].tanh() * $1[0], $0[0]], [$0[0] + $1[0]]) }
            let start = "Tensor.scalar(0, .\(type)).broadcast(to: Shape(Array(\(name).shape.dimensions.dropFirst())))"
            let text =
                "Tensor.scan([\(start), \(start) + 1], over: [\(name)]) { ([$0[1].tanh() * $1[0], $0[0]], [$0[0] + $1[0]]) }"
            return g.pick([
                made(scan.carries[0], text + ".carries[0]"), made(scan.outputs[0], text + ".outputs[0]"),
            ])
        default: return nil
        }
    }

    private mutating func maskedDense(_ a: Part) -> Part {
        let (inputs, outputs) = (a.tensor.shape[1].coefficient, g.pick([3, 9]))
        let degrees = (0..<inputs + outputs).map { _ in Int32(g.next(0...3)) }
        let (first, last) = (Array(degrees.prefix(inputs)), Array(degrees.suffix(outputs)))
        let w = weights([outputs, inputs])
        switch g.next(0...2) {
        case 0:
            return Part(
                tensor: a.tensor.maskedDense(w.tensor, mask: .degrees(input: first, output: last, strict: true)),
                text: "\(a.text).maskedDense(\(w.text), mask: .degrees(input: \(first), output: \(last), strict: true))"
            )
        case 1:
            return Part(
                tensor: a.tensor.maskedDense(
                    w.tensor, mask: .runtime(strict: false),
                    degrees: (.constant(HostArray(first)), .constant(HostArray(last)))),
                text:
                    "\(a.text).maskedDense(\(w.text), mask: .runtime(strict: false), degrees: (.constant(HostArray(\(first) as [Int32])), .constant(HostArray(\(last) as [Int32]))))"
            )
        default:
            return Part(
                tensor: a.tensor.maskedDense(
                    w.tensor, mask: .matrix(BitMatrix(rows: outputs, columns: inputs) { ($0 * 3 + $1) % 4 < 2 })),
                text:
                    "\(a.text).maskedDense(\(w.text), mask: .matrix(BitMatrix(rows: \(outputs), columns: \(inputs)) { ($0 * 3 + $1) % 4 < 2 }))"
            )
        }
    }

    /// The gate of the halves of a convolution's channels.
    private mutating func convolution(_ a: Part) -> Part? {
        let isVector = a.tensor.shape.rank == 2
        let image = isVector ? a.tensor.reshaped([a.tensor.shape[0], 1, a.tensor.shape[1]]) : a.tensor
        let kernel = (0..<image.shape.rank - 2).map { _ in g.next(1...3) }
        let isMasked = g.next(0...1) == 1
        let w = weights([4, image.shape[1].coefficient] + kernel)
        let strides = kernel.map { _ in g.next(1...2) }
        let padding = kernel.map { (g.next(0...$0), 1) }
        let y = image.convolution(
            w.tensor, stride: strides, padding: padding, mask: isMasked ? .causal(.b, kernel: kernel) : nil)
        guard y.error == nil else { return nil }
        let source = isVector ? "\(a.text).reshaped([\(a.text).shape[0], 1, \(a.text).shape[1]])" : a.text
        let text =
            "\(source).convolution(\(w.text), stride: \(strides), padding: \(padding), mask: \(isMasked ? ".causal(.b, kernel: \(kernel))" : "nil"))"
        return Part(
            tensor: y.sliced(axis: 1, from: 0, count: 2).tanh() * y.sliced(axis: 1, from: 2, count: 2).sigmoid(),
            text:
                "(\(text)).sliced(axis: 1, from: 0, count: 2).tanh() * (\(text)).sliced(axis: 1, from: 2, count: 2).sigmoid()"
        )
    }
}
