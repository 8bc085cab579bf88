import Compiler
import Graph
import Testing

@testable import CPU

@Suite struct ReductionTests {
    /// Reduces some axes of a contiguous value: y = 2 reduce(x * x) + 1 for floats.
    private func reduce(
        _ kind: ReductionGroup.Kind, _ shape: [Int], axes: [Int], element: ElementType = .float32, squares: Bool = true
    ) -> (Schedule, Int) {
        var schedule = Schedule()
        let x = schedule.input(Shape(shape), element)
        let strides = Shape(shape).strides
        let kept = shape.indices.filter { !axes.contains($0) }
        let y = schedule.output(Shape(kept.map { shape[$0] }), element)
        let prologue =
            squares
            ? Program(inputs: [element], instructions: [.init(.multiply, [0, 0], element)], outputs: [1])
            : .identity(element)
        let epilogue =
            squares
            ? Program(
                inputs: [element], constants: [.init(2, element), .init(1, element)],
                instructions: [.init(.multiply, [0, 1], element), .init(.add, [3, 2], element)], outputs: [4])
            : .identity(element)
        schedule.append(
            ReductionGroup(
                kind: kind, keptExtents: kept.map { Extent(shape[$0]) },
                reducedExtents: axes.map { Extent(shape[$0]) },
                inputs: [Operand(.value(x), strides: (kept + axes).map { strides[$0] }, element: element)],
                prologue: prologue,
                epilogueInputs: [], epilogue: epilogue, outputs: [schedule.whole(y)]))
        return (schedule, x)
    }

    static let cases: [([Int], [Int])] = [
        ([1], [0]), ([7], [0]), ([100], [0]), ([5000], [0]), ([5, 3], [1]), ([5, 3], [0]), ([300, 700], [1]),
        ([300, 700], [0]),
        ([1000, 10], [0]), ([1000, 10], [1]), ([3, 2100], [1]), ([9, 8, 7], [1]), ([9, 8, 7], [0, 2]),
        ([9, 8, 7], [0, 1, 2]),
        ([30, 40, 50], [2, 0]), ([30, 4, 50], [1]), ([2, 3, 4, 5, 6], [1, 3]), ([4, 5], []), ([1, 600, 1], [0, 2]),
        ([12, 0], [1]),
        ([70000, 2], [0]), ([2, 70000], [1]),
    ]

    @Test(arguments: cases, ReductionGroup.Kind.allCases)
    func axes(_ shape: ([Int], [Int]), kind: ReductionGroup.Kind) throws {
        var generator = Generator(11)
        for squares in [false, true] {
            // The largest of nothing is minus infinity, which an epilogue only passes on.
            if shape.0.contains(0), kind != .sum { continue }
            let (schedule, x) = reduce(kind, shape.0, axes: shape.1, squares: squares)
            let values = generator.floats(shape.0.reduce(1, *))
            try check(schedule, [x: HostArray(values, shape: shape.0)], tolerance: 1e-6)
        }
    }

    @Test(arguments: [ElementType.float64, .int32, .uint8, .bool], ReductionGroup.Kind.allCases)
    func types(element: ElementType, kind: ReductionGroup.Kind) throws {
        if element == .bool, kind == .sum { return }
        var generator = Generator(12)
        for (shape, axes) in [([6, 40], [1]), ([6, 40], [0]), ([3, 5, 4], [0, 2])] {
            let (schedule, x) = reduce(kind, shape, axes: axes, element: element, squares: false)
            let limit = element == .bool ? 2 : element == .uint8 ? 6 : 1000
            let values = (0..<shape.reduce(1, *)).map { _ in Double(Int.random(in: 0..<limit, using: &generator)) }
            try check(schedule, [x: HostArray(Values(shape: shape, elements: values), as: element)], tolerance: 0)
        }
    }

    @Test func integersWrapAround() throws {
        let (schedule, x) = reduce(.sum, [3], axes: [0], element: .int32, squares: false)
        let result = try run(schedule, [x: HostArray([.max, 1, 5] as [Int32])], instructionSet: .best)
        #expect(result[0].integers == [.min + 5])
    }

    @Test(arguments: ReductionGroup.Kind.allCases) func notANumberIsSeen(kind: ReductionGroup.Kind) throws {
        for axis in [0, 1] {
            let (schedule, x) = reduce(kind, [30, 70], axes: [axis], squares: false)
            var values = [Float](repeating: 1, count: 2100)
            values[13 * 70 + 22] = .nan
            let result = try run(schedule, [x: HostArray(values, shape: [30, 70])], instructionSet: .best)[0].floats
            for (index, value) in result.enumerated() { #expect(value.isNaN == (index == (axis == 0 ? 22 : 13))) }
        }
    }

    /// Sums of a million terms keep nearly all bits, and are the same for every vector width.
    @Test func longSumsAreAccurate() throws {
        var generator = Generator(13)
        let values = (0..<1_000_000).map { _ in Float.random(in: 0..<1, using: &generator) }
        let exact = values.reduce(0) { $0 + Double($1) }
        for (shape, axes) in [
            ([1_000_000], [0]), ([1_000_000, 1], [0]), ([500_000, 2], [0, 1]), ([1000, 1000], [1, 0]),
        ] {
            let (schedule, x) = reduce(.sum, shape, axes: axes, squares: false)
            var bits: Set<UInt32> = []
            for instructionSet in InstructionSet.available {
                let result = try run(schedule, [x: HostArray(values, shape: shape)], instructionSet: instructionSet)[0]
                    .floats[0]
                #expect(abs(Double(result) / exact - 1) < 1e-7)
                bits.insert(result.bitPattern)
            }
            #expect(bits.count == 1)
        }
        // By columns: the sum over the rows of [1e5, 10].
        let (schedule, x) = reduce(.sum, [100_000, 10], axes: [0], squares: false)
        for instructionSet in InstructionSet.available {
            let result = try run(
                schedule, [x: HostArray(values, shape: [100_000, 10])], instructionSet: instructionSet)[0].floats
            for column in 0..<10 {
                let exact = stride(from: column, to: 1_000_000, by: 10).reduce(0) { $0 + Double(values[$1]) }
                #expect(abs(Double(result[column]) / exact - 1) < 2e-7)
            }
        }
    }

    /// logsumexp's second half: sum of exp(x - m), then log and m added, with m broadcast.
    @Test func epilogueReadsOtherValues() throws {
        var schedule = Schedule()
        let x = schedule.input([.batch, 37])
        let m = schedule.input([.batch])
        let y = schedule.output([.batch])
        let byRow = Operand(.value(m), strides: [1, 0], element: .float32)
        schedule.append(
            ReductionGroup(
                kind: .sum, keptExtents: [.batch], reducedExtents: [37], inputs: [schedule.whole(x), byRow],
                prologue: Program(
                    inputs: [.float32, .float32],
                    instructions: [.init(.subtract, [0, 1], .float32), .init(.exp, [2], .float32)], outputs: [3]),
                epilogueInputs: [schedule.whole(m)],
                epilogue: Program(
                    inputs: [.float32, .float32],
                    instructions: [.init(.log, [0], .float32), .init(.add, [2, 1], .float32)], outputs: [3]),
                outputs: [schedule.whole(y)]))
        var generator = Generator(14)
        for batch in [1, 3, 900] {
            try check(
                schedule,
                [
                    x: HostArray(generator.floats(batch * 37), shape: [batch, 37]),
                    m: HostArray(generator.floats(batch)),
                ],
                batch: batch, tolerance: 1e-6)
        }
    }
}
