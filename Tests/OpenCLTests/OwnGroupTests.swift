import Compiler
import Graph
import Testing

@testable import OpenCL

/// A kind of group that only this test knows: y[i] = table[i] * x[i] for `count` elements of values 0 and 1.
private struct Scaling: OpenCLGroup {
    let table: [Int32]

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
        var lowering = LoweringContext(device, values: schedule.values, maximumBatch: 1)
        let groups = try (0..<2).map { _ in
            try Scaling(table: (0..<11).map { $0 * $0 }).lower(label: "scaling", location: nil, &lowering)
        }
        let lowered = lowering.program(groups)
        // Equal texts are one kernel, equal tables one table.
        #expect(lowered.memory.count == 1)
        #expect(lowered.source.split(separator: "\n").count { $0.contains("void KERNEL") } == 1)
        let program = try LoadedProgram(device, lowered, values: schedule.values, maximumBatch: 1)
        let memory = try [0, 1].map { ($0, try OpenCLBuffer(device, byteCount: 44, zeroed: true)) }
        try HostArray([Float](repeating: 0.5, count: 11)).withUnsafeBytes { try memory[0].1.write($0) }
        let bound = try BoundSchedule(program, memory: Dictionary(uniqueKeysWithValues: memory), batch: 1)
        for case .launch(let launch) in bound.steps.joined() { try launch.enqueue(on: device.queue) }
        let found = try HostArray(reading: memory[1].1, type: .float32, shape: [11])
        #expect(found.floats == (0..<11).map { Float($0 * $0) / 2 })
    }
}
