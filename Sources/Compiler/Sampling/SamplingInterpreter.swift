import Graph

/// Runs a sampling program in double precision: the oracle of the backends' samplers. Everything that has not been drawn or
/// computed is NaN, so that nothing can be read too early unnoticed.
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
            for work in program.works { run(work, step) }
            for v in program.groups[step] {
                for b in 0..<batch {
                    memory[program.variable][Int(v) * batch + b] = memory[program.drawn][Int(v) * batch + b]
                }
            }
        }
        return ([(program.variable, program.exampleShape)] + program.outputs).map { value, shape in
            let count = program.values[value].count
            let elements = memory[value]
            return Values(
                shape: [batch] + shape, elements: (0..<count * batch).map { elements[$0 % count * batch + $0 / count] })
        }
    }

    private func read(_ value: Int, _ element: Int, _ example: Int) -> Double {
        memory[value][program.values[value].isShared ? element : element * batch + example]
    }

    private mutating func run(_ work: SamplingProgram.Work, _ step: Int) {
        for index in work.elements(step: step) {
            let e = Int(index)
            for b in 0..<batch {
                var registers: [Double] = []
                switch work.anchor {
                case .none: break
                case .product(let p):
                    var sum = 0.0
                    for range in p.ranges[Int(p.row[e])] {
                        for j in range {
                            sum +=
                                read(p.a, Int(p.aBase[e]) + Int(j) * p.aStride, b)
                                * read(p.b, Int(p.bBase[e]) + Int(j) * p.bStride, b)
                        }
                        if b == 0 { multiplyAdds += range.count }
                    }
                    registers.append(sum)
                case .reduction(let r):
                    let terms = r.list[Int(r.start[e])..<Int(r.start[e + 1])].map { read(r.value, Int($0), b) }
                    let reduced: Double =
                        switch r.kind {
                        case .sum: terms.reduce(0) { $0 + $1 }
                        case .maximum: terms.reduce(-.infinity) { $0.isNaN || $1.isNaN ? .nan : max($0, $1) }
                        case .minimum: terms.reduce(.infinity) { $0.isNaN || $1.isNaN ? .nan : min($0, $1) }
                        }
                    registers.append(reduced)
                }
                for operand in work.operands {
                    switch operand.source {
                    case .value(let id): registers.append(read(id, Int(operand.table[e]), b))
                    case .position(let stride): registers.append(Double(Int(operand.table[e]) + stride * b))
                    }
                }
                for (output, value) in zip(work.outputs, work.program.evaluate(registers)) {
                    let place = Int(work.target[e])
                    memory[output][program.values[output].isShared ? place : place * batch + b] = value
                }
            }
        }
    }
}
