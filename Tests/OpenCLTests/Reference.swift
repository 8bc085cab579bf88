import Compiler
import Foundation
import Graph
import Kernels

/// The meaning of a schedule by naive loops in double precision, against which both kernel families are held.
struct Reference {
    let schedule: Schedule
    let batch: Int
    var arrays: [Int: [Double]] = [:]

    init(_ schedule: Schedule, feeds: [String: HostArray], states: [String: HostArray] = [:], batch: Int) {
        self.schedule = schedule
        self.batch = batch
        for (id, value) in schedule.values.enumerated() {
            switch value.storage {
            case .input(let name): arrays[id] = feeds[name]!.doubles
            case .state(let name): arrays[id] = states[name]!.doubles
            case .constant(let array): arrays[id] = array.doubles
            case .temporary: arrays[id] = [Double](repeating: 0, count: value.type.shape.count.resolved(batch: batch))
            }
        }
        for group in schedule.groups {
            switch group.kind {
            case let g as ElementwiseGroup: run(g)
            case let g as ReductionGroup: run(g)
            case let g as ProductGroup: run(g)
            default: break
            }
        }
    }

    private func position(_ operand: Operand, _ index: [Int]) -> Int {
        operand.offset.reduce(0) { $0 + $1.resolved(batch: batch) }
            + zip(operand.strides, index).reduce(0) { $0 + $1.0.resolved(batch: batch) * $1.1 }
    }

    private func load(_ operand: Operand, _ index: [Int]) -> Double {
        let place = position(operand, index)
        return operand.value.map { arrays[$0]![place] } ?? Double(place)
    }

    private mutating func store(_ results: [Double], _ operands: [Operand], _ index: [Int]) {
        for (result, operand) in zip(results, operands) { arrays[operand.value!]![position(operand, index)] = result }
    }

    private func indices(_ extents: [Extent]) -> [[Int]] {
        extents.map { $0.resolved(batch: batch) }.reduce([[]]) { partial, extent in
            partial.flatMap { head in (0..<extent).map { head + [$0] } }
        }
    }

    private mutating func run(_ g: ElementwiseGroup) {
        for index in indices(g.iteration) {
            store(Self.evaluate(g.program, g.inputs.map { load($0, index) }), g.outputs, index)
        }
    }

    private mutating func run(_ g: ReductionGroup) {
        let reduced = indices(g.reducedExtents)
        for kept in indices(g.keptExtents) {
            var result: Double = g.kind == .sum ? 0 : g.kind == .maximum ? -.infinity : .infinity
            for r in reduced {
                let results = Self.evaluate(g.prologue, g.inputs.map { load($0, kept + r) })
                store(Array(results.dropFirst()), g.stored, kept + r)
                let x = results[0]
                switch g.kind {
                case .sum: result += x
                case .maximum: result = result.isNaN || x.isNaN ? .nan : max(result, x)
                case .minimum: result = result.isNaN || x.isNaN ? .nan : min(result, x)
                }
            }
            store(Self.evaluate(g.epilogue, [result] + g.epilogueInputs.map { load($0, kept) }), g.outputs, kept)
        }
    }

    private mutating func run(_ g: ProductGroup) {
        func live(_ o: Int, _ i: Int) -> Bool {
            guard let mask = g.mask else { return true }
            if case .runtime(let strict) = mask.structure, let degrees = mask.runtimeDegrees {
                let (input, output) = (arrays[degrees.input]![i], arrays[degrees.output]![o])
                return strict ? input < output : input <= output
            }
            return mask.structure.isLive(output: o, input: i)!
        }
        let role = g.mask?.role
        let (rows, columns, depth) = (
            g.m.resolved(batch: batch), g.n.resolved(batch: batch), g.k.resolved(batch: batch)
        )
        let (left, right) = (arrays[g.a.value!]!, arrays[g.b.value!]!)
        let stepA = g.a.strides.last!.resolved(batch: batch)
        let stepB = g.b.strides[g.batch.count].resolved(batch: batch)
        for z in indices(g.batch) {
            for m in 0..<rows {
                for n in 0..<columns {
                    var sum = 0.0
                    let (a, b) = (position(g.a, z + [m, 0]), position(g.b, z + [0, n]))
                    for k in 0..<depth {
                        let isLive =
                            switch role {
                            case nil: true
                            case .forward: live(n, k)
                            case .inputGradient: live(k, n)
                            case .weightGradient: live(m, n)
                            }
                        if isLive { sum += left[a + k * stepA] * right[b + k * stepB] }
                    }
                    let index = z + [m, n]
                    store(Self.evaluate(g.epilogue, [sum] + g.epilogueInputs.map { load($0, index) }), g.outputs, index)
                }
            }
        }
    }

    static func evaluate(_ program: Program, _ inputs: [Double]) -> [Double] {
        var registers = inputs + program.constants.map(\.value)
        for instruction in program.instructions {
            let operands = instruction.operands.map { registers[$0] }
            let value = evaluate(instruction.function, operands, instruction.element)
            registers.append(instruction.element == .float32 ? value : value.rounded(.towardZero))
        }
        return program.outputs.map { registers[$0] }
    }

    static func evaluate(_ function: ElementwiseFunction, _ x: [Double], _ type: ElementType) -> Double {
        let a = x[0]
        let wrap = { (value: Double) in
            type == .int32 ? Double(Int32(truncatingIfNeeded: Int64(value))) : value
        }
        switch function {
        case .negate: return wrap(-a)
        case .absolute: return wrap(abs(a))
        case .sign: return a > 0 ? 1 : a < 0 ? -1 : a
        case .exp: return Foundation.exp(a)
        case .log: return Foundation.log(a)
        case .log1p: return Foundation.log1p(a)
        case .expm1: return Foundation.expm1(a)
        case .sqrt: return a.squareRoot()
        case .tanh: return Foundation.tanh(a)
        case .sigmoid: return a >= 0 ? 1 / (1 + Foundation.exp(-a)) : Foundation.exp(a) / (1 + Foundation.exp(a))
        case .softplus: return a > 0 ? a + Foundation.log1p(Foundation.exp(-a)) : Foundation.log1p(Foundation.exp(a))
        case .relu: return a < 0 ? 0 : a
        case .floor: return a.rounded(.down)
        case .sin: return Foundation.sin(a)
        case .cos: return Foundation.cos(a)
        case .erf: return Foundation.erf(a)
        case .hazard:
            let u = abs(a)
            // The asymptotic series where the tail is no normal number any more.
            return u < 37
                ? Foundation.exp(-u * u / 2) * (2 / Double.pi).squareRoot() / Foundation.erfc(u / 2.0.squareRoot())
                : u.isFinite ? u + 1 / u - 2 / (u * u * u) : u
        case .isFinite: return a.isFinite ? 1 : 0
        case .logicalNot: return a == 0 ? 1 : 0
        case .cast(.bool): return a != 0 ? 1 : 0
        case .cast(.int32): return a.isNaN ? 0 : max(-2_147_483_648, min(2_147_483_647, a)).rounded(.towardZero)
        case .cast(.uint8): return a.isNaN ? 0 : max(0, min(255, a)).rounded(.towardZero)
        case .cast(.float32), .cast(.float64), .stopGradient: return a
        case .add: return wrap(a + x[1])
        case .subtract: return wrap(a - x[1])
        case .multiply: return type == .int32 ? Double(Int32(a) &* Int32(x[1])) : a * x[1]
        case .divide: return a / x[1]
        case .power: return Foundation.pow(a, x[1])
        case .maximum: return a.isNaN || x[1].isNaN ? .nan : max(a, x[1])
        case .minimum: return a.isNaN || x[1].isNaN ? .nan : min(a, x[1])
        case .less: return a < x[1] ? 1 : 0
        case .lessEqual: return a <= x[1] ? 1 : 0
        case .equal: return a == x[1] ? 1 : 0
        case .logicalAnd: return a != 0 && x[1] != 0 ? 1 : 0
        case .logicalOr: return a != 0 || x[1] != 0 ? 1 : 0
        case .select: return a != 0 ? x[1] : x[2]
        case .philox:
            let w = x.map { UInt32(bitPattern: Int32($0)) }
            return Double(Int32(bitPattern: martlet_philox_word0(w[0], w[1], w[5], w[4], w[3], w[2])))
        case .uniformFromBits: return Double(martlet_uniform_from_bits(UInt32(bitPattern: Int32(a))))
        case .normalFromBits: return Double(martlet_normal_from_bits(UInt32(bitPattern: Int32(a))))
        default: fatalError("no reference for \(function.name)")
        }
    }
}
