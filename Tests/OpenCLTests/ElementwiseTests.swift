import Compiler
import Graph
import Kernels
import Testing

@testable import OpenCL

/// A schedule that applies one function to whole inputs of the given types, `count` elements each.
private func apply(_ functions: [(ElementwiseFunction, ElementType)], to types: [ElementType], count: Int) -> Schedule {
    var s = Schedule()
    let shape: Shape = [Extent(count)]
    let operands = types.enumerated().map { s.input("x\($0)", shape, $1) }
    let outputs = functions.map { s.output(shape, $0.1) }
    let program = Program(
        inputs: types,
        instructions: functions.map { .init($0.0, Array(0..<$0.0.operandCount), $0.1) },
        outputs: functions.indices.map { types.count + $0 })
    s.add(
        ElementwiseGroup(
            iteration: shape.dimensions, inputs: operands.map { s.whole($0) }, program: program,
            outputs: outputs.map { s.whole($0) }))
    return s
}

@Suite(.serialized) struct ElementwiseTests {
    static let special: [Float] = [
        0, -0.0, 1, -1, 0.5, -0.5, 1e-8, -1e-8, 1e-30, 3.5, -3.5, 20, -20, 87, -87, 88.5, -104, 150, -150, 1e10, -1e10,
        .infinity,
        -.infinity, .nan,
    ]

    /// Every function of one float, on special values and on a spread, in a count that no vector width divides.
    @Test(arguments: KernelFamily.allCases)
    func functionsOfOneFloat(family: KernelFamily) throws {
        let functions: [ElementwiseFunction] = [
            .negate, .absolute, .sign, .exp, .log, .log1p, .expm1, .sqrt, .tanh, .sigmoid, .softplus, .relu, .floor,
            .sin, .cos,
            .erf, .hazard, .stopGradient, .isFinite, .cast(.bool), .cast(.int32), .cast(.uint8), .cast(.float32),
        ]
        var dice = Dice(3)
        let x = Self.special + dice.floats(200).map { $0 * 8 } + dice.floats(15).map { $0 * 0.01 }
        let results = try run(functions.map { ($0, resultType($0)) }, [.float32], [HostArray(x)], family)
        for (function, result) in zip(functions, results) {
            for (value, found) in zip(x, result.doubles) {
                // Out of 32 bits a conversion is not defined; sines of large arguments lose their argument.
                if function.conversion == .int32 || function.conversion == .uint8, value.isFinite, abs(value) > 1e9 {
                    continue
                }
                if [.sin, .cos].contains(function), value.isFinite, abs(value) > 1e6 { continue }
                let expected = Reference.evaluate(function, [Double(value)], resultType(function))
                #expect(
                    close(found, expected, 1e-6),
                    "\(family) \(function)(\(value)): found \(found), expected \(expected)")
            }
        }
    }

    /// Every function of two floats, over all pairs of special values.
    @Test(arguments: KernelFamily.allCases)
    func functionsOfTwoFloats(family: KernelFamily) throws {
        let functions: [ElementwiseFunction] = [
            .add, .subtract, .multiply, .divide, .power, .maximum, .minimum, .less, .lessEqual, .equal,
        ]
        let a = Self.special.flatMap { x in Self.special.map { _ in x } }
        let b = Self.special.flatMap { _ in Self.special }
        let results = try run(
            functions.map { ($0, resultType($0)) }, [.float32, .float32], [HostArray(a), HostArray(b)], family)
        for (function, result) in zip(functions, results) {
            for (index, found) in result.doubles.enumerated() {
                let expected = Reference.evaluate(function, [Double(a[index]), Double(b[index])], resultType(function))
                // What overflows float32 is infinite there; what underflows may be flushed.
                let rounded = Double(Float(expected))
                #expect(
                    close(found, rounded, 2e-6),
                    "\(family) \(function)(\(a[index]), \(b[index])): \(found), expected \(rounded)")
            }
        }
    }

    @Test(arguments: KernelFamily.allCases)
    func integersAndBooleans(family: KernelFamily) throws {
        let count = 53
        var dice = Dice(5)
        let a = dice.integers(count, below: 100).map { $0 - 50 }
        let b = dice.integers(count, below: 5).map { $0 - 2 }
        let functions: [(ElementwiseFunction, ElementType)] = [
            (.add, .int32), (.subtract, .int32), (.multiply, .int32), (.maximum, .int32), (.minimum, .int32),
            (.negate, .int32),
            (.absolute, .int32), (.sign, .int32), (.relu, .int32), (.less, .bool), (.lessEqual, .bool), (.equal, .bool),
            (.cast(.float32), .float32), (.cast(.uint8), .uint8), (.cast(.bool), .bool),
        ]
        let results = try run(functions, [.int32, .int32], [HostArray(a), HostArray(b)], family)
        for (function, result) in zip(functions, results) {
            let expected = (0..<count).map {
                Reference.evaluate(function.0, [Double(a[$0]), Double(b[$0])], function.1)
            }
            #expect(result.doubles == expected, "\(family) \(function.0)")
        }
        let p = (0..<count).map { _ in dice.integer(below: 2) == 1 }
        let q = (0..<count).map { _ in dice.integer(below: 2) == 1 }
        let logical = try run(
            [(.logicalAnd, .bool), (.logicalOr, .bool), (.logicalNot, .bool)], [.bool, .bool],
            [HostArray(p), HostArray(q)], family)
        #expect(logical[0].doubles == zip(p, q).map { $0 && $1 ? 1 : 0 })
        #expect(logical[1].doubles == zip(p, q).map { $0 || $1 ? 1 : 0 })
        #expect(logical[2].doubles == p.map { $0 ? 0 : 1 })
        let chosen = try run(
            [(.select, .int32)], [.bool, .int32, .int32], [HostArray(p), HostArray(a), HostArray(b)], family)
        #expect(chosen[0].integers == (0..<count).map { p[$0] ? a[$0] : b[$0] })
    }

    /// Random bits and what is made of them are the same bits as on the processor.
    @Test(arguments: KernelFamily.allCases)
    func randomBits(family: KernelFamily) throws {
        var dice = Dice(11)
        let words = (0..<6).map { _ in (0..<333).map { _ in Int32(truncatingIfNeeded: dice.next() >> 16) } }
        let bits = try run(
            [(.philox, .int32)], Array(repeating: .int32, count: 6), words.map { HostArray($0) }, family)[0].integers
        let expected = (0..<333).map { i -> Int32 in
            let w = words.map { UInt32(bitPattern: $0[i]) }
            return Int32(bitPattern: martlet_philox_word0(w[0], w[1], w[5], w[4], w[3], w[2]))
        }
        #expect(bits == expected)
        let edges: [Int32] = [0, -1, 1, .max, .min, 0x3fff_ffff, 0x4000_0000, -2]
        let drawn = HostArray(expected + edges)
        let made = try run([(.uniformFromBits, .float32), (.normalFromBits, .float32)], [.int32], [drawn], family)
        #expect(
            made[0].floats.map(\.bitPattern)
                == drawn.integers.map { martlet_uniform_from_bits(UInt32(bitPattern: $0)).bitPattern })
        #expect(
            made[1].floats.map(\.bitPattern)
                == drawn.integers.map { martlet_normal_from_bits(UInt32(bitPattern: $0)).bitPattern })
    }

    /// A transpose, a broadcast, a reversal, a position and an offset in one group, for several batches.
    @Test(arguments: KernelFamily.allCases)
    func viewsAndPositions(family: KernelFamily) throws {
        var s = Schedule()
        let a = s.input("a", [35, .batch])
        let b = s.input("b", [35])
        let c = s.input("c", [.batch, 70])
        let bytes = s.input("bytes", [.batch, 35], .uint8)
        let y = s.output([.batch, 40])
        let z = s.output([.batch, 35], .int32)
        s.add(
            ElementwiseGroup(
                iteration: [.batch, 35],
                inputs: [
                    Operand(.value(a), strides: [1, .batch], element: .float32),
                    Operand(.value(b), offset: [34], strides: [0, -1], element: .float32),
                    Operand(.value(c), offset: [1], strides: [70, 2], element: .float32),
                    Operand(.position, offset: [1000, .batch], strides: [3, 100], element: .int32),
                    Operand(.value(bytes), strides: [35, 1], element: .uint8),
                ],
                program: Program(
                    inputs: [.float32, .float32, .float32, .int32, .uint8], constants: [.init(0.25, .float32)],
                    instructions: [
                        .init(.multiply, [0, 1], .float32), .init(.add, [6, 2], .float32),
                        .init(.cast(.float32), [4], .float32),
                        .init(.multiply, [8, 5], .float32), .init(.add, [7, 9], .float32),
                        .init(.cast(.int32), [4], .int32),
                        .init(.add, [3, 11], .int32),
                    ], outputs: [10, 12]),
                outputs: [
                    Operand(.value(y), offset: [5], strides: [40, 1], element: .float32), s.whole(z),
                ]))
        // The five columns that the group leaves are filled by another.
        s.add(
            ElementwiseGroup(
                iteration: [.batch, 5], inputs: [],
                program: Program(inputs: [], constants: [.init(-3, .float32)], outputs: [0]),
                outputs: [Operand(.value(y), strides: [40, 1], element: .float32)]))
        try expectMatch(s, family, batches: [17, 1, 4])
    }

    /// An optimizer's update in place, twice.
    @Test(arguments: KernelFamily.allCases)
    func updateInPlace(family: KernelFamily) throws {
        var s = Schedule()
        let (w, v) = (s.state("w", [1000]), s.state("v", [1000]))
        let g = s.input("g", [1000])
        s.add(
            ElementwiseGroup(
                iteration: [1000], inputs: [s.whole(w), s.whole(v), s.whole(g)],
                program: Program(
                    inputs: [.float32, .float32, .float32],
                    constants: [.init(0.9, .float32), .init(-0.1, .float32)],
                    instructions: [
                        .init(.multiply, [1, 3], .float32), .init(.add, [5, 2], .float32),
                        .init(.multiply, [6, 4], .float32),
                        .init(.add, [0, 7], .float32),
                    ], outputs: [8, 6]), outputs: [s.whole(w), s.whole(v)]))
        let device = try Devices.of(family)
        let states = ["w": try device.makeBuffer(byteCount: 4000), "v": try device.makeBuffer(byteCount: 4000)]
        let executable = try device.load(s, maximumBatch: 1, states: states)
        let gradient = randomFeeds(s, batch: 1)["g"]!
        for _ in 0..<2 { _ = try executable.run(["g": .host(gradient)], batch: 1) }
        let found = try HostArray(reading: states["w"]!, type: .float32, shape: [1000])
        expectClose(found.doubles, gradient.doubles.map { $0 * (-0.1 - 0.19) }, tolerance: 1e-6)
    }

    private func run(
        _ functions: [(ElementwiseFunction, ElementType)], _ types: [ElementType], _ inputs: [HostArray],
        _ family: KernelFamily
    ) throws -> [HostArray] {
        let schedule = apply(functions, to: types, count: inputs[0].count)
        let executable = try Devices.of(family).load(schedule, maximumBatch: 1, states: [:])
        return try executable.run(
            Dictionary(uniqueKeysWithValues: inputs.enumerated().map { ("x\($0.offset)", .host($0.element)) }), batch: 1
        )
    }

    private func resultType(_ function: ElementwiseFunction) -> ElementType {
        switch function {
        case .less, .lessEqual, .equal, .isFinite: .bool
        default: function.conversion ?? .float32
        }
    }

    /// Within a relative error, or below the smallest normal number.
    private func close(_ found: Double, _ expected: Double, _ tolerance: Double) -> Bool {
        let expected = Double(Float(expected))
        if expected.isNaN { return found.isNaN }
        return found == expected || abs(found - expected) <= tolerance * abs(expected) + 1.2e-38
    }
}
