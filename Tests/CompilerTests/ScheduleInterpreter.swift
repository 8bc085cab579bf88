import Graph

@testable import Compiler

/// Runs a schedule in double precision with plain loops, so that fusion, views, updates and order can be tested without a
/// backend.
struct ScheduleInterpreter {
    let schedule: Schedule
    let batch: Int
    private(set) var memory: [Int: [Double]] = [:]

    init(_ schedule: Schedule, batch: Int, _ bindings: [String: Values]) {
        self.schedule = schedule
        self.batch = batch
        for (id, value) in schedule.values.enumerated() {
            switch value.storage {
            case .input(let name), .state(let name): memory[id] = bindings[name]!.elements
            case .constant(let array): memory[id] = array.doubles
            case .temporary:
                memory[id] = [Double](repeating: .nan, count: value.type.shape.count.resolved(batch: batch))
            }
        }
    }

    mutating func run() -> [[Double]] {
        for group in schedule.groups { run(group) }
        return schedule.outputs.map { memory[$0]! }
    }

    func state(_ name: String) -> [Double] {
        let id = schedule.states.first { if case .state(name) = schedule.values[$0].storage { true } else { false } }!
        return memory[id]!
    }

    private func position(_ operand: Operand, _ index: [Int]) -> Int {
        operand.offset.reduce(0) { $0 + $1.resolved(batch: batch) }
            + zip(operand.strides, index).reduce(0) { $0 + $1.0.resolved(batch: batch) * $1.1 }
    }

    private func read(_ operand: Operand, _ index: [Int]) -> Double {
        let place = position(operand, index)
        return operand.value.map { memory[$0]![place] } ?? Double(place)
    }

    private mutating func write(_ operands: [Operand], _ index: [Int], _ values: [Double]) {
        for (operand, value) in zip(operands, values) { memory[operand.value!]![position(operand, index)] = value }
    }

    private func indices(_ shape: [Extent]) -> [[Int]] {
        var result: [[Int]] = [[]]
        for extent in shape {
            result = result.flatMap { head in (0..<extent.resolved(batch: batch)).map { head + [$0] } }
        }
        return result
    }

    private mutating func run(_ group: Group) {
        switch group.kind {
        case let g as ElementwiseGroup:
            for i in indices(g.iteration) { write(g.outputs, i, g.program.evaluate(g.inputs.map { read($0, i) })) }
        case let g as ReductionGroup:
            for i in indices(g.keptExtents) {
                let terms = indices(g.reducedExtents).map { j in
                    let results = g.prologue.evaluate(g.inputs.map { read($0, i + j) })
                    write(g.stored, i + j, Array(results.dropFirst()))
                    return results[0]
                }
                let value =
                    switch g.kind {
                    case .sum: terms.reduce(0) { $0 + $1 }
                    case .maximum: terms.max() ?? -.infinity
                    case .minimum: terms.min() ?? .infinity
                    }
                write(g.outputs, i, g.epilogue.evaluate([value] + g.epilogueInputs.map { read($0, i) }))
            }
        case let g as ProductGroup:
            // Everything is read before anything is written: a backend may do either order only if they agree.
            for i in indices(g.batch + [g.m, g.n]) {
                let (m, n) = (i[i.count - 2], i[i.count - 1])
                var sum = 0.0
                for k in 0..<g.k.resolved(batch: batch) where isLive(g, m, n, k) {
                    let head = Array(i.dropLast(2))
                    sum += read(g.a, head + [m, k]) * read(g.b, head + [k, n])
                }
                write(g.outputs, i, g.epilogue.evaluate([sum] + g.epilogueInputs.map { read($0, i) }))
            }
        case let g as ConvolutionGroup:
            // Through the taps that the backends walk.
            for (i, value) in zip(indices(g.shape), convolve(g)) {
                write(g.outputs, i, g.epilogue.evaluate([value] + g.epilogueInputs.map { read($0, i) }))
            }
        case let g as LoopGroup: run(g)
        case let g as OperationGroup:
            let inputs = g.inputs.map {
                Values(shape: schedule.values[$0].type.shape.resolved(batch: batch), elements: memory[$0]!)
            }
            var outputs = g.outputs.map { Values(shape: schedule.values[$0].type.shape.resolved(batch: batch)) }
            g.operation.evaluate(
                inputs, outputs: &outputs, elements: nil,
                context: EvaluationContext(batch: batch, inputTypes: g.inputs.map { schedule.values[$0].type.element }))
            for (id, output) in zip(g.outputs, outputs) { memory[id] = output.elements }
        case let g as ElementsGroup:
            let inputs = g.inputs.map {
                Values(shape: schedule.values[$0].type.shape.resolved(batch: batch), elements: memory[$0]!)
            }
            var result = [Values(shape: g.result.shape.resolved(batch: batch))]
            g.operation.evaluate(
                inputs, outputs: &result, elements: nil,
                context: EvaluationContext(batch: batch, inputTypes: g.inputs.map { schedule.values[$0].type.element }))
            for (i, value) in zip(indices(g.extents), result[0].elements) {
                write(g.outputs, i, g.epilogue.evaluate([value] + g.epilogueInputs.map { read($0, i) }))
            }
        default: fatalError("no meaning is known of \(group.label)")
        }
    }

    private mutating func run(_ g: LoopGroup) {
        var bindings: [String: Values] = [:]
        func whole(_ value: Int) -> Values {
            Values(shape: schedule.values[value].type.shape.resolved(batch: batch), elements: memory[value]!)
        }
        for (name, value) in zip(g.carries, g.initial) { bindings[name] = whole(value) }
        for (value, name) in g.captures { bindings[name] = whole(value) }
        func set(_ value: Int, _ step: Int, _ elements: [Double]) {
            memory[value]!.replaceSubrange(step * elements.count..<(step + 1) * elements.count, with: elements)
        }
        var taken = 0
        while taken < g.limit {
            if let condition = g.condition {
                var machine = ScheduleInterpreter(condition, batch: batch, bindings)
                if machine.run()[0] == [0] { break }
            }
            let t = g.isReversed ? g.limit - 1 - taken : taken
            for (value, name) in g.sequences {
                let all = whole(value)
                let size = all.elements.count / g.limit
                bindings[name] = Values(
                    shape: Array(all.shape.dropFirst()), elements: Array(all.elements[t * size..<(t + 1) * size]))
            }
            for (name, value) in zip(g.carries, g.history) { if let value { set(value, t, bindings[name]!.elements) } }
            var machine = ScheduleInterpreter(g.body, batch: batch, bindings)
            let results = machine.run()
            for stack in g.stacked { set(stack.value, t, results[stack.output]) }
            for name in g.carries { bindings[name]!.elements = machine.state(name) }
            taken += 1
        }
        for (name, value) in zip(g.carries, g.final) { if let value { memory[value] = bindings[name]!.elements } }
        if let count = g.count { memory[count] = [Double(taken)] }
    }

    /// The result of a convolution in row-major order.
    private func convolve(_ g: ConvolutionGroup) -> [Double] {
        let taps = ConvolutionTaps(g.geometry, g.mask, isTransposed: g.role == .inputGradient)
        let axes = g.geometry.kernel.count
        let shape = g.shape.map { $0.resolved(batch: batch) }
        let strides = Shape(shape).strides.map(\.coefficient)
        let kernel = indices(g.geometry.kernel.map { Extent($0) })
        var result = [Double](repeating: 0, count: shape.reduce(1, *))
        for n in 0..<g.batch.resolved(batch: batch) {
            for pass in taps.passes {
                for m in indices(pass.counts.map { Extent($0) }) {
                    let to = (0..<axes).map { m[$0] * taps.resultStep[$0] + pass.phase[$0] }
                    for tap in pass.taps {
                        let from = (0..<axes).map { (m[$0] + tap.shift[$0]) * taps.sourceStep[$0] + tap.phase[$0] }
                        guard (0..<axes).allSatisfy({ (0..<taps.source[$0]).contains(from[$0]) }) else { continue }
                        for row in 0..<taps.rows {
                            for p in 0..<taps.planesPerGroup {
                                let plane = row / taps.rowsPerGroup * taps.planesPerGroup + p
                                guard taps.isLive(row: row, plane: plane, tap: tap.index) else { continue }
                                let (output, input) = taps.isTransposed ? (plane, row) : (row, plane)
                                let weight = [output, input % g.geometry.inputsPerGroup] + kernel[tap.index]
                                let (place, term) =
                                    g.role == .weightGradient
                                    ? (weight, read(g.a, [n, row] + to) * read(g.b, [n, plane] + from))
                                    : ([n, row] + to, read(g.a, [n, plane] + from) * read(g.b, weight))
                                result[zip(place, strides).reduce(0) { $0 + $1.0 * $1.1 }] += term
                            }
                        }
                    }
                }
            }
        }
        return result
    }

    private func isLive(_ g: ProductGroup, _ m: Int, _ n: Int, _ k: Int) -> Bool {
        guard let mask = g.mask else { return true }
        let (o, i) =
            switch mask.role {
            case .forward: (n, k)
            case .inputGradient: (k, n)
            case .weightGradient: (m, n)
            }
        if case .runtime(let strict) = mask.structure, let degrees = mask.runtimeDegrees {
            let (input, output) = (memory[degrees.input]![i], memory[degrees.output]![o])
            return strict ? input < output : input <= output
        }
        return mask.structure.isLive(output: o, input: i)!
    }
}
