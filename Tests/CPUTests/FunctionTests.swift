import Compiler
import Foundation
import Graph
import Testing

@testable import CPU

/// Every elementwise function on every type it has, against double precision.
@Suite struct FunctionTests {
    /// One function over whole arrays.
    private func apply(
        _ function: ElementwiseFunction, _ arrays: [HostArray], to element: ElementType, instructionSet: InstructionSet
    ) throws -> HostArray {
        var schedule = Schedule()
        let inputs = arrays.map { schedule.input(Shape($0.shape), $0.type) }
        let output = schedule.output(Shape(arrays[0].shape), element)
        schedule.append(
            ElementwiseGroup(
                iteration: arrays[0].shape.map { Extent($0) }, inputs: inputs.map { schedule.whole($0) },
                program: Program(
                    inputs: arrays.map(\.type),
                    instructions: [.init(function, Array(arrays.indices), element)], outputs: [arrays.count]),
                outputs: [schedule.whole(output)]))
        return try run(schedule, Dictionary(uniqueKeysWithValues: zip(inputs, arrays)), instructionSet: instructionSet)[
            0]
    }

    /// Floats spread over all exponents, both signs, with the special values.
    static let spread: [Float] = {
        var generator = Generator(3)
        var values: [Float] = [
            0, -0.0, 1, -1, .infinity, -.infinity, .nan, .greatestFiniteMagnitude, -.greatestFiniteMagnitude,
            .leastNormalMagnitude, .leastNonzeroMagnitude, -.leastNonzeroMagnitude, 88.72283, 88.7229, 89, -87.3,
            -103.9, -104.1,
            0.5, -0.5, 2, 1e-30, -1e-30, 1.5e-8, 3, -3, 10, 20, -20, 17.3, -17.5,
        ]
        for exponent in -30..<20 {
            for _ in 0..<60 {
                let magnitude =
                    Float.random(in: 1..<2, using: &generator) * Float(sign: .plus, exponent: exponent, significand: 1)
                values += [magnitude, -magnitude]
            }
        }
        for _ in 0..<6000 { values.append(Float.random(in: -12..<12, using: &generator)) }
        for _ in 0..<2000 { values.append(Float.random(in: -105..<90, using: &generator)) }
        for _ in 0..<2000 { values.append(1 + Float.random(in: -0.5..<0.5, using: &generator)) }
        return values
    }()

    /// Units in the last place between a float and the exact value, which is zero where the float would be subnormal.
    private func ulps(_ found: Float, _ exact: Double) -> Double {
        // Nor are intermediate results exact down there.
        if abs(exact) < 1e-37 {
            return abs(Double(found) - exact) <= Double(Float.leastNormalMagnitude) ? 0 : .infinity
        }
        if exact.isNaN { return found.isNaN ? 0 : .infinity }
        let rounded = Float(exact)
        if rounded == found { return 0 }
        guard rounded.isFinite, found.isFinite else {
            // At the very edge of the range either side is right.
            return abs(exact) > 3.4028234e38 && abs(exact) < 3.4028237e38 ? 1 : .infinity
        }
        return abs(Double(found) - exact) / Double(max(rounded.ulp, Float.leastNonzeroMagnitude))
    }

    static let bounds: [(ElementwiseFunction, Double)] = [
        (.negate, 0), (.absolute, 0), (.sign, 0), (.exp, 1), (.log, 1), (.log1p, 1.5), (.expm1, 2), (.sqrt, 0.5),
        (.tanh, 2.5),
        (.sigmoid, 2), (.softplus, 2), (.relu, 0), (.floor, 0), (.sin, 1.5), (.cos, 1.5), (.erf, 1.5),
        (.hazard, 3), (.log1mexp, 3),
        (.stopGradient, 0),
    ]

    @Test(arguments: bounds, InstructionSet.available)
    func unary(_ bound: (ElementwiseFunction, Double), instructionSet: InstructionSet) throws {
        let found = try apply(bound.0, [HostArray(Self.spread)], to: .float32, instructionSet: instructionSet).floats
        var worst = 0.0
        var place: Float = 0
        for (x, y) in zip(Self.spread, found) {
            // Subnormal operands are zero.
            let error = ulps(y, evaluate(bound.0, [x.isSubnormal ? 0 : Double(x)]))
            if error > worst { (worst, place) = (error, x) }
        }
        #expect(worst <= bound.1, "\(bound.0.name): \(worst) ulp at \(place)")
    }

    @Test(
        arguments: [ElementwiseFunction.add, .subtract, .multiply, .divide, .power, .maximum, .minimum],
        InstructionSet.available)
    func binary(_ function: ElementwiseFunction, instructionSet: InstructionSet) throws {
        var generator = Generator(9)
        let special: [Float] = [
            0, -0.0, 1, -1, .infinity, -.infinity, .nan, 2, -2, 3, -3, 0.5, -0.5, 1e30, 1e-30, 7, 2.5,
        ]
        var a: [Float] = []
        var b: [Float] = []
        for x in special {
            for y in special {
                a.append(x)
                b.append(y)
            }
        }
        for _ in 0..<5000 {
            a.append(Float.random(in: -30..<30, using: &generator))
            b.append(Float.random(in: -9..<9, using: &generator))
            a.append(exp(Float.random(in: -8..<8, using: &generator)))
            b.append(Float.random(in: -12..<12, using: &generator))
        }
        let found = try apply(function, [HostArray(a), HostArray(b)], to: .float32, instructionSet: instructionSet)
            .floats
        for index in a.indices {
            let exact = evaluate(function, [Double(a[index]), Double(b[index])])
            let error = ulps(found[index], exact)
            #expect(
                error <= (function == .power ? 1 : 0.5), "\(function.name)(\(a[index]), \(b[index])) = \(found[index])")
        }
    }

    @Test(arguments: InstructionSet.available)
    func comparisonsAndSelection(instructionSet: InstructionSet) throws {
        let special: [Float] = [0, -0.0, 1, -1, .infinity, -.infinity, .nan, 2, 2, -1, 3]
        let a = special.flatMap { x in special.map { _ in x } }
        let b = special.flatMap { _ in special }
        for function in [ElementwiseFunction.less, .lessEqual, .equal] {
            let found = try apply(function, [HostArray(a), HostArray(b)], to: .bool, instructionSet: instructionSet)
                .doubles
            #expect(found == zip(a, b).map { evaluate(function, [Double($0), Double($1)]) })
            let integers = (a.map { $0.isFinite ? Int32($0) : 9 }, b.map { $0.isFinite ? Int32($0) : 9 })
            let whole = try apply(
                function, [HostArray(integers.0), HostArray(integers.1)], to: .bool, instructionSet: instructionSet
            )
            .doubles
            #expect(whole == zip(integers.0, integers.1).map { evaluate(function, [Double($0), Double($1)]) })
        }
        #expect(
            try apply(.isFinite, [HostArray(special)], to: .bool, instructionSet: instructionSet).doubles == [
                1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1,
            ])
        let conditions = a.indices.map { $0 % 3 == 0 }
        let chosen = try apply(
            .select, [HostArray(conditions), HostArray(a), HostArray(b)], to: .float32, instructionSet: instructionSet)
        #expect(chosen.bytes == HostArray(a.indices.map { conditions[$0] ? a[$0] : b[$0] }).bytes)
        for function in [ElementwiseFunction.logicalAnd, .logicalOr] {
            let flags = ([true, true, false, false], [true, false, true, false])
            let found = try apply(
                function, [HostArray(flags.0), HostArray(flags.1)], to: .bool, instructionSet: instructionSet
            ).bytes
            #expect(found == (function == .logicalAnd ? [1, 0, 0, 0] : [1, 1, 1, 0]))
        }
        #expect(
            try apply(.logicalNot, [HostArray([true, false])], to: .bool, instructionSet: instructionSet).bytes == [
                0, 1,
            ])
    }

    @Test(arguments: InstructionSet.available)
    func integersWrapAround(instructionSet: InstructionSet) throws {
        let edge: [Int32] = [0, 1, -1, .max, .min, 7, -7, 46341, 65536, 123_456_789]
        let a = edge.flatMap { x in edge.map { _ in x } }
        let b = edge.flatMap { _ in edge }
        let cases: [(ElementwiseFunction, (Int32, Int32) -> Int32)] = [
            (.add, { $0 &+ $1 }), (.subtract, { $0 &- $1 }), (.multiply, { $0 &* $1 }),
            (.divide, { $1 == 0 ? 0 : $0.dividedReportingOverflow(by: $1).partialValue }),
            (.maximum, { max($0, $1) }), (.minimum, { min($0, $1) }),
        ]
        for (function, expected) in cases {
            let found = try apply(function, [HostArray(a), HostArray(b)], to: .int32, instructionSet: instructionSet)
                .integers
            #expect(found == zip(a, b).map(expected), "\(function.name)")
        }
        #expect(
            try apply(.negate, [HostArray(edge)], to: .int32, instructionSet: instructionSet).integers
                == edge.map { 0 &- $0 })
        #expect(
            try apply(.absolute, [HostArray(edge)], to: .int32, instructionSet: instructionSet).integers
                == edge.map { $0 < 0 ? 0 &- $0 : $0 })
        #expect(
            try apply(.sign, [HostArray(edge)], to: .int32, instructionSet: instructionSet).integers
                == edge.map { $0.signum() })
    }

    @Test(arguments: InstructionSet.available)
    func conversions(instructionSet: InstructionSet) throws {
        let numbers: [Double] = [0, 1, 2.75, 3, 200, 17.5, 99]
        for from in ElementType.allCases {
            let source = HostArray(
                Values(shape: [numbers.count], elements: from == .bool ? numbers.map { $0 != 0 ? 1 : 0 } : numbers),
                as: from)
            for to in ElementType.allCases {
                let found = try apply(.cast(to), [source], to: to, instructionSet: instructionSet).doubles
                #expect(found == source.doubles.map { evaluate(.cast(to), [$0]) }, "\(from) to \(to)")
            }
        }
        let odd: [Float] = [-2.75, .nan, 1e20, -1e20, -0.5]
        #expect(
            try apply(.cast(.int32), [HostArray(odd)], to: .int32, instructionSet: instructionSet).integers == [
                -2, 0, .max, .min, 0,
            ])
    }

    @Test func doublesAreDouble() throws {
        let x = Self.spread.map { Double($0) * (1 + 1e-12) }
        for (function, _) in Self.bounds {
            let found = try apply(function, [HostArray(x)], to: .float64, instructionSet: .best).doubles
            for (a, b) in zip(found, x.map({ evaluate(function, [$0]) })) where !(a.isNaN && b.isNaN) && a != b {
                #expect(abs(a - b) <= 1e-14 * abs(b) + .leastNormalMagnitude, "\(function.name)")
            }
        }
        let y = x.indices.map { Double($0 % 17) - 8 }
        for function in [ElementwiseFunction.add, .multiply, .power, .maximum] {
            let found = try apply(function, [HostArray(x), HostArray(y)], to: .float64, instructionSet: .best).doubles
            for index in x.indices {
                let exact = evaluate(function, [x[index], y[index]])
                #expect(found[index] == exact || (found[index].isNaN && exact.isNaN))
            }
        }
    }

    /// The positions make the counter; the same bits must come out for every vector width.
    @Test func randomNumbersAreTheSameBitsEverywhere() throws {
        var schedule = Schedule()
        let bits = schedule.output([5, 333], .int32)
        let uniform = schedule.output([5, 333])
        let normal = schedule.output([5, 333])
        let program = Program(
            inputs: [.int32, .int32],
            constants: [.init(11, .int32), .init(-7, .int32), .init(3, .int32), .init(2, .int32)],
            instructions: [
                .init(.philox, [2, 3, 4, 5, 0, 1], .int32), .init(.uniformFromBits, [6], .float32),
                .init(.normalFromBits, [6], .float32),
            ], outputs: [6, 7, 8])
        schedule.append(
            ElementwiseGroup(
                iteration: [5, 333],
                inputs: [
                    Operand(.position, offset: [4], strides: [1, 0], element: .int32),
                    Operand(.position, strides: [0, 1], element: .int32),
                ], program: program, outputs: [bits, uniform, normal].map { schedule.whole($0) }))
        for instructionSet in InstructionSet.available {
            let found = try run(schedule, [:], instructionSet: instructionSet)
            for example in 0..<5 {
                for variable in 0..<333 {
                    let word = philox(
                        key: (11, UInt32(bitPattern: -7)), counter: (UInt32(variable), UInt32(example + 4), 2, 3))
                    #expect(UInt32(bitPattern: found[0].integers[example * 333 + variable]) == word)
                    #expect(found[1].floats[example * 333 + variable] == uniformFromBits(word))
                    #expect(found[2].floats[example * 333 + variable] == normalFromBits(word))
                }
            }
        }
    }
}
