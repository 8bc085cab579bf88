import Compiler
import Graph
import Testing

@testable import CPU

/// Loop nests of any shape around programs.
@Suite struct ElementwiseTests {
    /// y = 2 x + b, with a comparison and a selection in between.
    static let mixed = Program(
        inputs: [.float32, .float32], constants: [.init(2, .float32), .init(0.25, .float32)],
        instructions: [
            .init(.multiply, [0, 2], .float32), .init(.add, [4, 1], .float32), .init(.less, [0, 3], .bool),
            .init(.select, [6, 5, 1], .float32),
        ], outputs: [7])

    @Test func broadcastsOverRowsAndColumns() throws {
        var generator = Generator(1)
        for (rows, columns) in [(1, 1), (3, 5), (7, 600), (300, 3), (130, 257), (2, 5000), (5000, 1)] {
            for (down, across) in [(0, 1), (1, 0), (0, 0)] {
                var schedule = Schedule()
                let x = schedule.input([Extent(rows), Extent(columns)])
                let b = schedule.input([Extent(down == 0 ? (across == 0 ? 1 : columns) : rows)])
                let y = schedule.output([Extent(rows), Extent(columns)])
                schedule.append(
                    ElementwiseGroup(
                        iteration: [Extent(rows), Extent(columns)],
                        inputs: [
                            schedule.whole(x),
                            Operand(.value(b), strides: [Extent(down), Extent(across)], element: .float32),
                        ],
                        program: Self.mixed, outputs: [schedule.whole(y)]))
                let count = schedule.values[b].type.shape.count.coefficient
                try check(
                    schedule,
                    [
                        x: HostArray(generator.floats(rows * columns), shape: [rows, columns]),
                        b: HostArray(generator.floats(count)),
                    ],
                    tolerance: 1e-6)
            }
        }
    }

    /// What one kernel does in one pass has the bits of its steps one after the other, whichever operands are the same
    /// everywhere.
    @Test(arguments: InstructionSet.available) func joinedStepsRoundLikeSingleOnes(instructionSet: InstructionSet)
        throws
    {
        // Inputs a, b, c, then r and s; constant 1.25.
        let real = { (function: ElementwiseFunction, operands: [Int]) in
            Program.Instruction(function, operands, .float32)
        }
        let programs: [[Program.Instruction]] = [
            [real(.add, [0, 1]), real(.add, [6, 2])], [real(.add, [0, 1]), real(.add, [2, 6])],
            [real(.multiply, [0, 1]), real(.multiply, [6, 2])], [real(.multiply, [3, 0]), real(.multiply, [1, 6])],
            [real(.multiply, [0, 3]), real(.multiply, [1, 2]), real(.add, [6, 7])],
            [real(.multiply, [0, 0]), real(.multiply, [6, 5]), real(.multiply, [1, 4]), real(.add, [8, 7])],
            // p - r m / (sqrt(v) s + e)
            [
                real(.absolute, [2]), real(.multiply, [3, 1]), real(.sqrt, [6]), real(.multiply, [8, 4]),
                real(.add, [9, 5]), real(.divide, [7, 10]), real(.subtract, [0, 11]),
            ],
        ]
        var generator = Generator(5)
        let device = try CPUTests.device(instructionSet)
        for instructions in programs {
            for (rows, columns) in [(1, 1), (3, 37), (5, 700)] {
                for scalars in ["", "0", "1", "012"] {
                    var results: [[Float]] = []
                    let arrays = (0..<5).map { _ in
                        HostArray(generator.floats(rows * columns), shape: [rows, columns])
                    }
                    for keepsAll in [false, true] {
                        var schedule = Schedule()
                        let shape = Shape([Extent(rows), Extent(columns)])
                        let inputs = (0..<5).map { _ in schedule.input(shape) }
                        let last = 5 + instructions.count
                        let registers = keepsAll ? [last] + (6..<last) : [last]
                        let outputs = registers.map { _ in schedule.output(shape) }
                        let operands = inputs.enumerated().map { index, value in
                            index >= 3 || scalars.contains("\(index)")
                                ? Operand(.value(value), strides: [0, 0], element: .float32) : schedule.whole(value)
                        }
                        schedule.append(
                            ElementwiseGroup(
                                iteration: [Extent(rows), Extent(columns)], inputs: operands,
                                program: Program(
                                    inputs: [ElementType](repeating: .float32, count: 5),
                                    constants: [.init(1.25, .float32)], instructions: instructions,
                                    outputs: registers),
                                outputs: outputs.map { schedule.whole($0) }))
                        let feeds = Dictionary(
                            uniqueKeysWithValues: zip(inputs, arrays).map {
                                ("input \($0)", Feed.host($1))
                            })
                        results.append(
                            try device.load(schedule, maximumBatch: 1, states: [:]).run(feeds, batch: 1)[0].floats)
                    }
                    #expect(results[0].map(\.bitPattern) == results[1].map(\.bitPattern), "\(instructions.count) steps")
                }
            }
        }
    }

    /// Transposes, reversals and slices are identity programs with other strides.
    @Test func movesElements() throws {
        var generator = Generator(2)
        for element in [ElementType.float32, .float64, .int32, .uint8] {
            var schedule = Schedule()
            let x = schedule.input([4, 37, 61, 3], element)
            let y = schedule.output([3, 61, 4, 35], element)
            // y[d, c, a, b] = x[a, b + 2, 60 - c, d]
            schedule.append(
                ElementwiseGroup(
                    iteration: [3, 61, 4, 35],
                    inputs: [
                        Operand(
                            .value(x), offset: [Extent(2 * 61 * 3), Extent(60 * 3)],
                            strides: [1, -3, Extent(37 * 61 * 3), Extent(61 * 3)], element: element)
                    ], program: .identity(element), outputs: [schedule.whole(y)]))
            let values = (0..<(4 * 37 * 61 * 3)).map { _ in Double(Int.random(in: 0..<256, using: &generator)) }
            try check(
                schedule, [x: HostArray(Values(shape: [4, 37, 61, 3], elements: values), as: element)], tolerance: 0)
        }
    }

    /// Concatenation along the last axis: two groups that write parts of one value.
    @Test func concatenates() throws {
        var schedule = Schedule()
        let a = schedule.input([.batch, 3])
        let b = schedule.input([.batch, 4])
        let y = schedule.output([.batch, 7])
        for (source, width, offset) in [(a, 3, 0), (b, 4, 3)] {
            schedule.append(
                ElementwiseGroup(
                    iteration: [.batch, Extent(width)], inputs: [schedule.whole(source)], program: .identity,
                    outputs: [Operand(.value(y), offset: [Extent(offset)], strides: [7, 1], element: .float32)]))
        }
        var generator = Generator(3)
        for batch in [1, 5, 700] {
            let feeds = [
                a: HostArray(generator.floats(3 * batch), shape: [batch, 3]),
                b: HostArray(generator.floats(4 * batch), shape: [batch, 4]),
            ]
            try check(schedule, feeds, batch: batch, tolerance: 0)
        }
    }

    @Test func positions() throws {
        var schedule = Schedule()
        let y = schedule.output([6, 700], .int32)
        schedule.append(
            ElementwiseGroup(
                iteration: [6, 700],
                inputs: [
                    Operand(.position, offset: [7], strides: [1000, -3], element: .int32),
                    Operand(.position, strides: [1, 0], element: .int32),
                    Operand(.position, offset: [5], strides: [0, 0], element: .int32),
                ],
                program: Program(
                    inputs: [.int32, .int32, .int32],
                    instructions: [.init(.add, [0, 1], .int32), .init(.multiply, [3, 2], .int32)], outputs: [4]),
                outputs: [schedule.whole(y)]))
        try check(schedule, [:], tolerance: 0)
    }

    /// Inputs and results that are handed on several times, over rows that lie apart.
    @Test(arguments: InstructionSet.available) func outputsOfTheSameRegister(instructionSet: InstructionSet) throws {
        for (rows, columns, pitch) in [(90, 700, 701), (300, 37, 50), (60, 100, 128)] {
            var schedule = Schedule()
            let x = schedule.input([Extent(rows), Extent(pitch)])
            let outputs = (0..<6).map { _ in schedule.output([Extent(rows), Extent(columns)], .float32) }
            let program = Program(
                inputs: [.float32], constants: [.init(2, .float32)],
                instructions: [.init(.multiply, [0, 1], .float32), .init(.negate, [2], .float32)],
                outputs: [0, 2, 0, 2, 3, 3])
            schedule.append(
                ElementwiseGroup(
                    iteration: [Extent(rows), Extent(columns)],
                    inputs: [Operand(.value(x), strides: [Extent(pitch), 1], element: .float32)],
                    program: program, outputs: outputs.map { schedule.whole($0) }))
            var generator = Generator(3)
            try check(
                schedule, [x: HostArray(generator.floats(rows * pitch), shape: [rows, pitch])], tolerance: 0,
                instructionSets: [instructionSet])
        }
    }

    /// The update of the optimizer Adam, which runs as one instruction, over rows that follow one another or lie apart (then
    /// operands are copied into a chunk first), and whichever side its factors stand on.
    @Test(arguments: InstructionSet.available, [false, true]) func momentsStep(
        instructionSet: InstructionSet, turned: Bool
    ) throws {
        func both(_ a: Int, _ b: Int) -> [Int] { turned ? [b, a] : [a, b] }
        // registers: w m v g rate root | 0.9 0.1 0.999 0.001 1e-8 | ..
        let program = Program(
            inputs: [.float32, .float32, .float32, .float32, .float32, .float32],
            constants: [0.9, 0.1, 0.999, 0.001, 1e-8].map { .init($0, .float32) },
            instructions: [
                .init(.multiply, both(1, 6), .float32), .init(.multiply, both(3, 7), .float32),
                .init(.add, both(11, 12), .float32), .init(.multiply, both(2, 8), .float32),
                .init(.multiply, [3, 3], .float32), .init(.multiply, both(15, 9), .float32),
                .init(.add, both(14, 16), .float32), .init(.multiply, both(13, 4), .float32),
                .init(.sqrt, [17], .float32), .init(.multiply, [19, 5], .float32), .init(.add, [20, 10], .float32),
                .init(.divide, [18, 21], .float32), .init(.subtract, [0, 22], .float32),
            ], outputs: [23, 13, 17])
        let compiled = try CompiledProgram(
            program, inputs: [0, 1, 2, 3, 4, 5], outputs: [0, 1, 2], instructionSet: instructionSet)
        #expect(compiled.pointer.pointee.instructionCount == 3, "the moments, which the third writes, and the step")
        for (rows, columns, pitch) in [(1, 40_000, 40_000), (300, 37, 50), (90, 700, 701), (1, 1, 1), (5, 1, 3)] {
            var schedule = Schedule()
            let states = ["w", "m", "v"].map { schedule.add([Extent(rows), Extent(pitch)], .float32, .state($0)) }
            let gradient = schedule.input([Extent(rows), Extent(pitch)])
            let factors = [schedule.input([1]), schedule.input([1])]
            schedule.outputs = states
            func part(_ value: Int) -> Operand {
                Operand(.value(value), strides: [Extent(pitch), 1], element: .float32)
            }
            for _ in 0..<2 {
                schedule.append(
                    ElementwiseGroup(
                        iteration: [Extent(rows), Extent(columns)],
                        inputs: (states + [gradient]).map(part)
                            + factors.map { Operand(.value($0), strides: [0, 0], element: .float32) },
                        program: program, outputs: states.map(part)))
            }
            var generator = Generator(7)
            let count = rows * pitch
            try check(
                schedule,
                [
                    states[0]: HostArray(generator.floats(count), shape: [rows, pitch]),
                    states[1]: HostArray(generator.floats(count), shape: [rows, pitch]),
                    states[2]: HostArray(generator.floats(count).map { abs($0) }, shape: [rows, pitch]),
                    gradient: HostArray(generator.floats(count), shape: [rows, pitch]),
                    factors[0]: HostArray([0.125] as [Float]), factors[1]: HostArray([1.5] as [Float]),
                ], tolerance: 1e-5, instructionSets: [instructionSet])
        }
    }

    /// What follows the product of a layer that is trained, which runs as one instruction: a rectified sum and the condition under
    /// which its gradient passes. Biases come along rows, down columns or as one number, on either side.
    @Test(arguments: InstructionSet.available, [[0, 1], [1, 0], [0, 0]] as [[Extent]])
    func rectifiedSum(instructionSet: InstructionSet, bias: [Extent]) throws {
        for turned in [false, true] {
            let program = Program(
                inputs: [.float32, .float32], constants: [.init(0, .float32)],
                instructions: [
                    .init(.add, turned ? [1, 0] : [0, 1], .float32), .init(.relu, [3], .float32),
                    .init(.less, [2, 4], .bool),
                ], outputs: [4, 5])
            let compiled = try CompiledProgram(
                program, inputs: [0, 1], outputs: [2, 3], instructionSet: instructionSet)
            #expect(
                compiled.pointer.pointee.instructionCount == 2, "the sum, which the second writes, and the condition")
            for (rows, columns, pitch) in [(1, 40_000, 40_000), (300, 37, 50), (90, 700, 701), (1, 1, 1), (5, 1, 3)] {
                var schedule = Schedule()
                let x = schedule.input([Extent(rows), Extent(pitch)])
                let b = schedule.input([Extent(max(rows, columns))])
                let y = schedule.output([Extent(rows), Extent(columns)], .float32)
                let condition = schedule.output([Extent(rows), Extent(columns)], .bool)
                schedule.append(
                    ElementwiseGroup(
                        iteration: [Extent(rows), Extent(columns)],
                        inputs: [
                            Operand(.value(x), strides: [Extent(pitch), 1], element: .float32),
                            Operand(.value(b), strides: bias, element: .float32),
                        ],
                        program: program, outputs: [schedule.whole(y), schedule.whole(condition)]))
                var generator = Generator(9)
                var values = generator.floats(rows * pitch)
                // Sums that are zero, infinite and no number.
                let biases = generator.floats(max(rows, columns))
                values[0] = -biases[0]
                if columns > 1 { (values[1], values[pitch - 1]) = (.nan, -.infinity) }
                try check(
                    schedule, [x: HostArray(values, shape: [rows, pitch]), b: HostArray(biases)], tolerance: 0,
                    instructionSets: [instructionSet])
            }
        }
    }

    /// Adam (Kingma & Ba 2015) as one program over four states, all written in place, twice.
    @Test(arguments: InstructionSet.available) func adamInPlace(instructionSet: InstructionSet) throws {
        let count = 40_000
        var schedule = Schedule()
        let states = ["w", "m", "v"].map { schedule.add([Extent(count)], .float32, .state($0)) }
        let gradient = schedule.input([Extent(count)])
        let rate = schedule.input([1])
        schedule.outputs = states
        // registers: w m v g rate | 0.9 0.1 0.999 0.001 1e-8 | ..
        let program = Program(
            inputs: [.float32, .float32, .float32, .float32, .float32],
            constants: [0.9, 0.1, 0.999, 0.001, 1e-8].map { .init($0, .float32) },
            instructions: [
                .init(.multiply, [1, 5], .float32), .init(.multiply, [3, 6], .float32),
                .init(.add, [10, 11], .float32),
                .init(.multiply, [2, 7], .float32), .init(.multiply, [3, 3], .float32),
                .init(.multiply, [14, 8], .float32),
                .init(.add, [13, 15], .float32), .init(.sqrt, [16], .float32), .init(.add, [17, 9], .float32),
                .init(.divide, [12, 18], .float32), .init(.multiply, [19, 4], .float32),
                .init(.subtract, [0, 20], .float32),
            ], outputs: [21, 12, 16])
        for _ in 0..<2 {
            schedule.append(
                ElementwiseGroup(
                    iteration: [Extent(count)],
                    inputs: (states + [gradient]).map { schedule.whole($0) } + [
                        Operand(.value(rate), strides: [0], element: .float32)
                    ],
                    program: program, outputs: states.map { schedule.whole($0) }))
        }
        var generator = Generator(5)
        try check(
            schedule,
            [
                states[0]: HostArray(generator.floats(count)), states[1]: HostArray(generator.floats(count)),
                states[2]: HostArray(generator.floats(count).map { abs($0) }),
                gradient: HostArray(generator.floats(count)),
                rate: HostArray([0.125] as [Float]),
            ], tolerance: 1e-5, instructionSets: [instructionSet])
    }

    /// An input that is also the output of an earlier instruction's value must be read before it is overwritten.
    @Test func inPlaceReadsComeFirst() throws {
        var schedule = Schedule()
        let x = schedule.add([1000], .float32, .state("x"))
        let y = schedule.output([1000])
        schedule.outputs = [x, y]
        // x' = x + 1, made first; y = 3 x of the old x, made second.
        schedule.append(
            ElementwiseGroup(
                iteration: [1000], inputs: [schedule.whole(x)],
                program: Program(
                    inputs: [.float32], constants: [.init(1, .float32), .init(3, .float32)],
                    instructions: [.init(.add, [0, 1], .float32), .init(.multiply, [0, 2], .float32)],
                    outputs: [3, 4]),
                outputs: [schedule.whole(x), schedule.whole(y)]))
        var generator = Generator(6)
        try check(schedule, [x: HostArray(generator.floats(1000))], tolerance: 1e-6)
    }

    /// Constants and broadcast scalars as outputs, and one register that leaves twice.
    @Test func scalarsAndRepeatedOutputs() throws {
        var schedule = Schedule()
        let x = schedule.input([30, 40])
        let outputs = (0..<4).map { _ in schedule.output([30, 40]) }
        schedule.append(
            ElementwiseGroup(
                iteration: [30, 40], inputs: [schedule.whole(x)],
                program: Program(
                    inputs: [.float32], constants: [.init(1.5, .float32)],
                    instructions: [
                        .init(.exp, [0], .float32), .init(.exp, [1], .float32), .init(.stopGradient, [2], .float32),
                    ], outputs: [1, 2, 3, 4]),
                outputs: outputs.map { schedule.whole($0) }))
        var generator = Generator(7)
        try check(schedule, [x: HostArray(generator.floats(1200), shape: [30, 40])])
    }

    @Test func emptyIterationsDoNothing() throws {
        var schedule = Schedule()
        let x = schedule.input([0, 4])
        let y = schedule.output([0, 4])
        schedule.append(
            ElementwiseGroup(
                iteration: [0, 4], inputs: [schedule.whole(x)], program: .identity, outputs: [schedule.whole(y)]))
        try check(schedule, [x: HostArray([] as [Float], shape: [0, 4])])
    }
}
