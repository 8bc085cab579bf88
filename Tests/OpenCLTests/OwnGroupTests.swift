import Compiler
import Graph
import Testing

@testable import OpenCL

/// A kind of group that only this test knows: y[i] = table[i] * x[i] for `count` elements of values 0 and 1.
private struct Scaling: GroupKind, OpenCLGroup {
    let table: [Int32]

    var reading: [Walk] { [] }
    var writing: [Walk] { [] }
    var wholeReads: [Int] { [0] }
    var wholeWrites: [Int] { [1] }
    var extents: [Extent] { [] }

    func lower(label: String, location: Graph.SourceLocation?, _ lowering: inout LoweringContext) throws -> LoweredGroup
    {
        let name = lowering.kernel(
            """
            __kernel void KERNEL(__global const int* table, __global const float* x, __global float* y, const int count) {
                const int i = get_global_id(0);
                if (i < count) y[i] = (float)table[i] * x[i];
            }
            """, prefix: "scaling")
        let count = table.count
        return LoweredGroup(steps: [
            .launch(
                name, [lowering.table(table), .value(0), .value(1), .constant(count)],
                groups: { _ in [(count + 7) / 8] }, local: [8])
        ])
    }
}

@Suite struct OwnGroupTests {
    @Test(arguments: KernelFamily.allCases)
    func aKindOfOnesOwnRuns(family: KernelFamily) throws {
        let device = try Devices.of(family)
        var schedule = Schedule()
        _ = (schedule.input("x", [11]), schedule.output([11]))
        for _ in 0..<2 { schedule.add(Scaling(table: (0..<11).map { $0 * $0 })) }
        let lowered = try schedule.lowered(for: device, maximumBatch: 1)
        // Equal texts are one kernel, equal tables one table.
        #expect(lowered.memory.count == 1)
        #expect(lowered.source.split(separator: "\n").count { $0.contains("void KERNEL") } == 1)
        let executable = try device.load(schedule, maximumBatch: 1, states: [:])
        let found = try executable.run(
            ["x": .host(HostArray([Float](repeating: 0.5, count: 11)))], batch: 1)[0]
        #expect(found.floats == (0..<11).map { Float($0 * $0) / 2 })
    }
}
