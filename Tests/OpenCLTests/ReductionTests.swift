import Compiler
import Graph
import Testing

@testable import OpenCL

@Suite(.serialized) struct ReductionTests {
    /// Adds `kind over the axes of x` of a squared and shifted input, with a bias over the kept axes.
    private func add(
        _ kind: ReductionGroup.Kind, _ shape: [Extent], reducing axes: [Int], to s: inout Schedule, name: String
    ) {
        let x = s.input(name, Shape(shape))
        let strides = Shape(shape).strides
        let keptAxes = shape.indices.filter { !axes.contains($0) }
        let kept = keptAxes.map { shape[$0] }
        let bias = s.input("\(name)Bias", Shape(kept))
        let y = s.output(Shape(kept))
        s.add(
            ReductionGroup(
                kind: kind, keptExtents: kept, reducedExtents: axes.map { shape[$0] },
                inputs: [
                    Operand(.value(x), strides: (keptAxes + axes).map { strides[$0] }, element: .float32)
                ],
                prologue: Program(
                    inputs: [.float32], constants: [.init(0.3, .float32)],
                    instructions: [.init(.add, [0, 1], .float32), .init(.multiply, [2, 0], .float32)], outputs: [3]),
                epilogueInputs: [s.whole(bias)],
                epilogue: Program(
                    inputs: [.float32, .float32], constants: [.init(2, .float32)],
                    instructions: [.init(.multiply, [0, 2], .float32), .init(.add, [3, 1], .float32)], outputs: [4]),
                outputs: [s.whole(y)]))
    }

    /// Rows, columns, both, an axis in the middle, the outer and the inner of three; small and wide.
    @Test(arguments: KernelFamily.allCases, ReductionGroup.Kind.allCases)
    func axes(family: KernelFamily, kind: ReductionGroup.Kind) throws {
        var s = Schedule()
        add(kind, [.batch, 37], reducing: [1], to: &s, name: "rows")
        add(kind, [.batch, 53], reducing: [0], to: &s, name: "columns")
        add(kind, [.batch, 21], reducing: [0, 1], to: &s, name: "all")
        add(kind, [.batch, 9, 35], reducing: [1], to: &s, name: "middle")
        add(kind, [.batch, 9, 35], reducing: [0, 2], to: &s, name: "outerAndInner")
        add(kind, [7, .batch, 3], reducing: [2, 0], to: &s, name: "swapped")
        add(kind, [.batch, 2500], reducing: [1], to: &s, name: "long")
        try expectMatch(s, family, batches: [19, 1, 5], tolerance: 2e-6)
    }

    /// Few results of many elements take two stages, one of a batch-dependent length.
    @Test(arguments: KernelFamily.allCases)
    func twoStages(family: KernelFamily) throws {
        var s = Schedule()
        add(.sum, [.batch, 30000], reducing: [0, 1], to: &s, name: "all")
        add(.maximum, [3, .batch, 9000], reducing: [1, 2], to: &s, name: "maximum")
        add(.sum, [.batch, 5000, 20], reducing: [0, 1], to: &s, name: "columns")
        let twice = [
            try expectMatch(s, family, batches: [4, 1], tolerance: 5e-6),
            try expectMatch(s, family, batches: [4, 1], tolerance: 5e-6),
        ]
        // The same tree every time.
        #expect(twice[0] == twice[1])
        let source = try #require(
            try Devices.of(family).load(s, maximumBatch: 4, states: [:]) as? OpenCLExecutable
        ).source
        #expect(source.contains("reduceSegments"))
    }

    /// NaN wins over every number, wherever it stands; nothing at all gives the neutral element.
    @Test(arguments: KernelFamily.allCases)
    func specialValues(family: KernelFamily) throws {
        for kind in [ReductionGroup.Kind.maximum, .minimum] {
            for place in [0, 15, 16, 40] {
                var s = Schedule()
                let x = s.input("x", [3, 41])
                let y = s.output([3])
                s.add(
                    ReductionGroup(
                        kind: kind, keptExtents: [3], reducedExtents: [41], inputs: [s.whole(x)],
                        prologue: .identity(),
                        epilogueInputs: [], epilogue: .identity(), outputs: [s.whole(y)]))
                var values = (0..<123).map { Float($0) }
                values[41 + place] = .nan
                values[82] = -.infinity
                try expectMatch(s, family, feeds: ["x": HostArray(values, shape: [3, 41])], batches: [1])
            }
        }
        var s = Schedule()
        let x = s.input("x", [4, 0])
        let y = s.output([4])
        s.add(
            ReductionGroup(
                kind: .sum, keptExtents: [4], reducedExtents: [0], inputs: [s.whole(x)], prologue: .identity(),
                epilogueInputs: [],
                epilogue: .identity(), outputs: [s.whole(y)]))
        try expectMatch(s, family, feeds: ["x": HostArray([Float](), shape: [4, 0])], batches: [1])
    }

    @Test(arguments: KernelFamily.allCases)
    func integers(family: KernelFamily) throws {
        var s = Schedule()
        let x = s.input("x", [.batch, 100], .int32)
        for kind in ReductionGroup.Kind.allCases {
            let y = s.output([.batch], .int32)
            s.add(
                ReductionGroup(
                    kind: kind, keptExtents: [.batch], reducedExtents: [100], inputs: [s.whole(x)],
                    prologue: .identity(.int32),
                    epilogueInputs: [], epilogue: .identity(.int32), outputs: [s.whole(y)]))
        }
        try expectMatch(s, family, batches: [5], tolerance: 0)
    }
}
