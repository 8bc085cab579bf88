import Graph

/// Runs a sampling program in double precision: the oracle of the backends' samplers. Elements that have not been drawn
/// or computed yet are NaN, so that no step can read one too early unnoticed.
public struct SamplingInterpreter {
    public let program: SamplingProgram
    public let batch: Int
    /// Every value, `[element, batch]` or shared.
    public private(set) var memory: [[Double]]
    public private(set) var multiplyAdds = 0

    /// - Parameter bindings: inputs and states by name, in the API's layout.
    /// - Throws: `GraphError` if one is missing or has another size.
    public init(_ program: SamplingProgram, batch: Int, _ bindings: [String: Values]) throws(GraphError) {
        self.program = program
        self.batch = batch
        memory = []
        var bindings = bindings
        if !program.prelude.isEmpty {
            let interpreter = Interpreter(batch: batch, bindings)
            for (name, tensor) in program.prelude { bindings[name] = try interpreter.run(tensor) }
        }
        for value in program.values {
            let count = value.isShared ? value.count : value.count * batch
            switch value.storage {
            case .input(let name), .state(let name):
                guard let given = bindings[name], given.elements.count == count else {
                    throw GraphError(
                        operation: name,
                        message: "expected \(count) elements, found \(bindings[name]?.elements.count ?? 0)")
                }
                let elements = given.elements
                memory.append(
                    value.isShared ? elements : (0..<count).map { elements[$0 % batch * value.count + $0 / batch] })
            case .constant(let array): memory.append(array.doubles)
            case .temporary, .variable:
                memory.append((0..<count).map { value.known?[value.isShared ? $0 : $0 / batch] ?? .nan })
            }
        }
    }

    /// Draws every variable; the results are the variable and the program's outputs, `[batch, ..]`.
    public mutating func run() -> [Values] {
        for step in 0..<program.stepCount {
            for section in program.sections {
                for pass in section.passes(step: step) {
                    for work in program.works[section.works] { run(work, pass) }
                }
            }
            for v in program.groups[step] {
                for b in 0..<batch {
                    memory[program.variable][Int(v) * batch + b] = memory[program.drawn][Int(v) * batch + b]
                }
            }
        }
        return program.results.map { output in
            let count = output.exampleShape.reduce(1, *)
            let elements = memory[output.value]
            return Values(
                shape: [batch] + output.exampleShape,
                elements: (0..<count * batch).map { i in
                    let place = output.places.map { Int($0[i % count]) } ?? i % count
                    return elements[place * batch + i / count]
                })
        }
    }

    private func read(_ value: Int, _ element: Int, _ example: Int) -> Double {
        memory[value][program.values[value].isShared ? element : element * batch + example]
    }

    private mutating func run(_ work: SamplingProgram.Work, _ pass: SamplingProgram.Section.Pass) {
        for index in work.positions(slot: Int(pass.slot)) {
            let found = answers(work, position: Int(index))
            for channel in 0..<work.channels {
                run(work, found, position: Int(index), channel: channel, iteration: Int(pass.iteration))
            }
        }
    }

    /// What the query at a position of attention finds, for each example and channel.
    private mutating func answers(_ work: SamplingProgram.Work, position p: Int) -> [[Double]] {
        guard case .attention(let a) = work.anchor else { return [] }
        func place(_ table: SamplingProgram.Table, _ depth: Int) -> Int {
            Int(table.positions[p]) + depth * table.channelStride
        }
        multiplyAdds += (a.depth + work.channels) * a.keyCount(p)
        let keys = a.rows[Int(a.row[p])].flatMap { segment in
            (0..<Int(segment.count)).map {
                (key: Int(segment.a) + $0 * a.keyStride, value: Int(segment.b) + $0 * a.valueStride)
            }
        }
        return (0..<batch).map { b in
            let scores = keys.map { key, _ in
                (0..<a.depth).reduce(0.0) {
                    $0 + read(a.query, place(a.queryBase, $1), b) * read(a.keys, place(a.keyBase, $1) + key, b)
                } * a.scale
            }
            let most = scores.max() ?? 0
            let weights = scores.map { Math.exp($0 - most) }
            let sum = weights.reduce(0.0) { $0 + $1 }
            return (0..<work.channels).map { c in
                keys.isEmpty
                    ? 0
                    : zip(keys, weights).reduce(0.0) {
                        $0 + read(a.values, place(a.valueBase, c) + $1.0.value, b) * $1.1
                    } / sum
            }
        }
    }

    private mutating func run(
        _ work: SamplingProgram.Work, _ found: [[Double]], position p: Int, channel c: Int, iteration: Int
    ) {
        func place(_ table: SamplingProgram.Table) -> Int {
            Int(table.positions[p]) + c * table.channelStride + program.offset(table, iteration: iteration)
        }
        for b in 0..<batch {
            var registers: [Double] = []
            switch work.anchor {
            case .none: break
            case .product(let product):
                var sum = 0.0
                let (a, w) = (place(product.aBase), place(product.bBase))
                for segment in product.rows[Int(product.row[p])] {
                    for j in 0..<Int(segment.count) {
                        sum +=
                            read(product.a, a + Int(segment.a) + j * product.aStride, b)
                            * read(product.b, w + Int(segment.b) + j * product.bStride, b)
                    }
                    if b == 0 { multiplyAdds += Int(segment.count) }
                }
                registers.append(sum)
            case .reduction(let r):
                let base = place(r.base)
                let terms = r.offsets.map { read(r.value, base + Int($0), b) }
                let reduced: Double =
                    switch r.kind {
                    case .sum: terms.reduce(0) { $0 + $1 }
                    case .maximum: terms.reduce(-.infinity) { $0.isNaN || $1.isNaN ? .nan : max($0, $1) }
                    case .minimum: terms.reduce(.infinity) { $0.isNaN || $1.isNaN ? .nan : min($0, $1) }
                    }
                registers.append(reduced)
            case .attention: registers.append(found[b][c])
            }
            for operand in work.operands {
                switch operand.source {
                case .value(let id): registers.append(read(id, place(operand.table), b))
                case .position(let stride): registers.append(Double(place(operand.table) + stride * b))
                }
            }
            for (index, value) in work.program.evaluate(registers).enumerated() {
                let (output, place) = (work.outputs[index], place(work.targets[index]))
                memory[output][program.values[output].isShared ? place : place * batch + b] = value
            }
        }
    }
}
