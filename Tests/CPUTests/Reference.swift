import Compiler
import Foundation
import Graph
import Testing

/// A naive interpreter of schedules in double precision, the oracle of these tests.
struct Reference {
    let schedule: Schedule
    let batch: Int
    var values: [Int: [Double]] = [:]

    init(_ schedule: Schedule, batch: Int, inputs: [Int: HostArray]) {
        self.schedule = schedule
        self.batch = batch
        for (index, value) in schedule.values.enumerated() {
            if case .constant(let array) = value.storage {
                values[index] = array.doubles
            } else if let array = inputs[index] {
                values[index] = array.doubles
            } else {
                values[index] = [Double](repeating: 0, count: value.type.shape.count.resolved(batch: batch))
            }
        }
        for group in schedule.groups { run(group) }
    }

    private func place(_ operand: Operand, _ index: [Int]) -> Int {
        var place = operand.offset.reduce(0) { $0 + $1.resolved(batch: batch) }
        for axis in index.indices { place += operand.strides[axis].resolved(batch: batch) * index[axis] }
        return place
    }

    private func read(_ operand: Operand, _ index: [Int]) -> Double {
        switch operand.source {
        case .position: Double(place(operand, index))
        case .value(let value): values[value]![place(operand, index)]
        }
    }

    private mutating func write(_ results: [Double], _ outputs: [Operand], _ index: [Int]) {
        for (operand, result) in zip(outputs, results) { values[operand.value!]![place(operand, index)] = result }
    }

    private func indices(_ extents: [Extent]) -> [[Int]] {
        extents.map { $0.resolved(batch: batch) }.reduce([[]]) { prefixes, extent in
            prefixes.flatMap { prefix in (0..<extent).map { prefix + [$0] } }
        }
    }

    private mutating func run(_ group: Group) {
        switch group.kind {
        case let g as ElementwiseGroup:
            for index in indices(g.iteration) {
                write(evaluate(g.program, g.inputs.map { read($0, index) }), g.outputs, index)
            }
        case let g as ReductionGroup:
            let reduced = indices(g.reducedExtents)
            for kept in indices(g.keptExtents) {
                let terms = reduced.map { inner in
                    let results = evaluate(g.prologue, g.inputs.map { read($0, kept + inner) })
                    write(Array(results.dropFirst()), g.stored, kept + inner)
                    return results[0]
                }
                let nan = terms.contains { $0.isNaN }
                let r: Double =
                    switch g.kind {
                    case .sum: terms.reduce(0, +)
                    case .maximum: nan ? .nan : terms.reduce(-.infinity, max)
                    case .minimum: nan ? .nan : terms.reduce(.infinity, min)
                    }
                write(evaluate(g.epilogue, [r] + g.epilogueInputs.map { read($0, kept) }), g.outputs, kept)
            }
        case let g as ProductGroup:
            let (m, n, k) = (g.m.resolved(batch: batch), g.n.resolved(batch: batch), g.k.resolved(batch: batch))
            let live = liveness(g, m, n, k)
            let (aValues, bValues) = (values[g.a.value!]!, values[g.b.value!]!)
            let batch = batch
            let step = { (operand: Operand, axis: Int) in operand.strides[g.batch.count + axis].resolved(batch: batch) }
            let (am, ak, bk, bn) = (step(g.a, 0), step(g.a, 1), step(g.b, 0), step(g.b, 1))
            var results: [([Double], [Int])] = []
            for prefix in indices(g.batch) {
                let (a0, b0) = (place(g.a, prefix + [0, 0]), place(g.b, prefix + [0, 0]))
                for i in 0..<m {
                    for j in 0..<n {
                        var sum = 0.0
                        for inner in 0..<k where live?(i, j, inner) ?? true {
                            sum += aValues[a0 + i * am + inner * ak] * bValues[b0 + inner * bk + j * bn]
                        }
                        let index = prefix + [i, j]
                        results.append((evaluate(g.epilogue, [sum] + g.epilogueInputs.map { read($0, index) }), index))
                    }
                }
            }
            for (result, index) in results { write(result, g.outputs, index) }
        default:
            Issue.record("operations, convolutions and loops are tested on their own, not against this reference")
        }
    }

    /// Whether the term (m, n, k) of a masked product is live.
    private func liveness(_ g: ProductGroup, _ m: Int, _ n: Int, _ k: Int) -> ((Int, Int, Int) -> Bool)? {
        guard let mask = g.mask else { return nil }
        let (outputs, inputs) =
            switch mask.role {
            case .forward: (n, k)
            case .inputGradient: (k, n)
            case .weightGradient: (m, n)
            }
        var live = [Bool](repeating: false, count: outputs * inputs)
        for o in 0..<outputs {
            for i in 0..<inputs {
                if case .runtime(let strict) = mask.structure {
                    let (input, output) = (
                        values[mask.runtimeDegrees!.input]![i], values[mask.runtimeDegrees!.output]![o]
                    )
                    live[o * inputs + i] = strict ? input < output : input <= output
                } else {
                    live[o * inputs + i] = mask.structure.isLive(output: o, input: i)!
                }
            }
        }
        switch mask.role {
        case .forward: return { _, o, i in live[o * inputs + i] }
        case .inputGradient: return { _, i, o in live[o * inputs + i] }
        case .weightGradient: return { o, i, _ in live[o * inputs + i] }
        }
    }
}

/// One element through a program, in double precision; results of type float32 are not rounded.
func evaluate(_ program: Program, _ inputs: [Double]) -> [Double] {
    var registers = inputs + program.constants.map(\.value)
    for instruction in program.instructions {
        let x = instruction.operands.map { registers[$0] }
        registers.append(evaluate(instruction.function, x, from: program.element(of: instruction.operands[0])))
    }
    return program.outputs.map { registers[$0] }
}

private func unsupported(_ reason: Comment) -> Double {
    Issue.record(reason)
    return .nan
}

func evaluate(_ function: ElementwiseFunction, _ x: [Double], from: ElementType = .float32) -> Double {
    switch function {
    case .negate: -x[0]
    case .absolute: abs(x[0])
    case .sign: x[0] > 0 ? 1 : x[0] < 0 ? -1 : x[0]
    case .exp: exp(x[0])
    case .log: log(x[0])
    case .log1p: log1p(x[0])
    case .expm1: expm1(x[0])
    case .sqrt: x[0].squareRoot()
    case .tanh: tanh(x[0])
    case .sigmoid: x[0] < 0 ? exp(x[0]) / (1 + exp(x[0])) : 1 / (1 + exp(-x[0]))
    case .softplus: x[0].isNaN ? .nan : max(x[0], 0) + log1p(exp(-abs(x[0])))
    case .relu: x[0] < 0 ? 0 : x[0]
    case .floor: floor(x[0])
    case .sin: sin(x[0])
    case .cos: cos(x[0])
    case .erf: erf(x[0])
    case .hazard: hazard(abs(x[0]))
    case .log1mexp: x[0] > log(2.0) ? log1p(-exp(-x[0])) : log(-expm1(-x[0]))
    case .isFinite: x[0].isFinite ? 1 : 0
    case .logicalNot: x[0] == 0 ? 1 : 0
    case .cast(.int32): x[0].isNaN ? 0 : x[0].rounded(.towardZero)
    case .cast(.uint8): Double(UInt8(clamping: Int(x[0])))
    case .cast(.bool): x[0] != 0 ? 1 : 0
    case .cast(.float32), .cast(.float64), .stopGradient: x[0]
    case .add: x[0] + x[1]
    case .subtract: x[0] - x[1]
    case .multiply: x[0] * x[1]
    case .divide: from.isFloatingPoint ? x[0] / x[1] : (x[0] / x[1]).rounded(.towardZero)
    case .power: pow(x[0], x[1])
    case .maximum: x[0].isNaN || x[1].isNaN ? .nan : max(x[0], x[1])
    case .minimum: x[0].isNaN || x[1].isNaN ? .nan : min(x[0], x[1])
    case .less: x[0] < x[1] ? 1 : 0
    case .lessEqual: x[0] <= x[1] ? 1 : 0
    case .equal: x[0] == x[1] ? 1 : 0
    case .logicalAnd: x[0] != 0 && x[1] != 0 ? 1 : 0
    case .logicalOr: x[0] != 0 || x[1] != 0 ? 1 : 0
    case .select: x[0] != 0 ? x[1] : x[2]
    default: unsupported("\(function.name) is tested on its own, not against this reference")
    }
}

/// The hazard of the standard normal at u >= 0: by the complementary error function, from 2 on by many terms of the continued
/// fraction u + 1/(u + 2/(u + ...)).
private func hazard(_ u: Double) -> Double {
    guard u >= 2 else { return exp(-u * u / 2) * (2 / Double.pi).squareRoot() / erfc(u / 2.0.squareRoot()) }
    return stride(from: 200.0, through: 1, by: -1).reduce(u) { u + $1 / $0 }
}
