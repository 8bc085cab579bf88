import Compiler
import Graph
import Testing

@testable import OpenCL

/// Small launches go ahead, are kept back and joined; what they compute and what they must wait for stay.
@Suite(.serialized) struct LaunchOrderTests {
    /// A training step of many layers, each with a scale, a bias and a matrix of its own: sums over the batch for each, and an update. A
    /// bias is read once more behind its update's place.
    private func trainingStep(layers: Int, width: Int) throws -> Schedule {
        var x = Tensor.input("x", [.batch, Extent(width)])
        var parameters: [Tensor] = []
        for layer in 0..<layers {
            let scale = Tensor.state("scale \(layer)", [Extent(width)])
            let bias = Tensor.state("bias \(layer)", [Extent(layer % 2 == 0 ? width : 1)])
            let matrix = Tensor.state("matrix \(layer)", [Extent(width), Extent(width)])
            parameters += [scale, bias, matrix]
            x = (x.matmul(matrix) * scale.exp() + bias).tanh() + x
        }
        let loss = x.squared().sum()
        let slopes = try gradients(of: loss, with: parameters)
        let updates = zip(parameters, slopes).map { StateUpdate($0, $0 - $1 * 0.01 / (1 + $1.squared()).sqrt()) }
        return try compile([loss] + parameters.map { $0.sum() }, updates: updates)
    }

    private func load(
        _ schedule: Schedule, on device: OpenCLDevice, batch: Int
    ) throws -> (executable: OpenCLExecutable, states: [String: any DeviceBuffer]) {
        var dice = Dice(7)
        var states: [String: any DeviceBuffer] = [:]
        for value in schedule.states.map({ schedule.values[$0] }) {
            let shape = value.type.shape.resolved(batch: 1)
            let array = HostArray(dice.floats(shape.reduce(1, *)), shape: shape)
            states[value.label] = try device.makeBuffer(byteCount: array.bytes.count)
            try array.withUnsafeBytes { try states[value.label]!.write($0) }
        }
        return (
            try #require(try device.load(schedule, maximumBatch: batch, states: states) as? OpenCLExecutable), states
        )
    }

    private func read(_ states: [String: any DeviceBuffer], of schedule: Schedule) throws -> [[Float]] {
        try schedule.states.map { schedule.values[$0] }.map {
            try HostArray(reading: states[$0.label]!, type: .float32, shape: $0.type.shape.resolved(batch: 1)).floats
        }
    }

    /// Group by group in the schedule's order, every launch by itself, gives the bits of launches that are joined and moved; for a batch
    /// that is smaller than planned too, whose grids may differ where those of the largest were equal.
    @Test(arguments: KernelFamily.allCases) func bitsStay(family: KernelFamily) throws {
        let schedule = try trainingStep(layers: 9, width: 13)
        let device = try OpenCLDevice.named(kernels: family, joinsLaunches: true)
        for batch in [301, 2] {
            var dice = Dice(3)
            let x = HostArray(dice.floats(batch * 13), shape: [batch, 13])
            let (whole, joined) = try load(schedule, on: device, batch: 301)
            let (single, alone) = try load(schedule, on: device, batch: 301)
            for _ in 0..<2 {
                let found = try whole.run(["x": .host(x)], batch: batch)
                try single.write(x, to: try #require(schedule.inputs.first), batch: batch)
                for group in schedule.groups.indices { try single.run(group: group, batch: batch) }
                let expected = try schedule.outputs.map { try single.read($0, batch: batch) }
                #expect(found == expected)
            }
            #expect(try read(joined, of: schedule) == read(alone, of: schedule))
        }
    }

    /// Steps that touch the same memory, of which one writes, keep their order; and there are far fewer launches than steps.
    @Test func whatDependsWaits() throws {
        let schedule = try trainingStep(layers: 20, width: 13)
        let lowered = try schedule.lowered(for: try Devices.gpu(units: 100), maximumBatch: 300)
        var times: [LaunchOrder.Place: Int] = [:]
        for (time, stage) in lowered.order.stages.enumerated() { for place in stage { times[place] = time } }
        let places = lowered.groups.enumerated().flatMap { group, lowered in
            lowered.steps.indices.map { LaunchOrder.Place(group: group, step: $0) }
        }
        #expect(times.count == places.count && lowered.order.stages.reduce(0) { $0 + $1.count } == places.count)
        func values(_ place: LaunchOrder.Place) throws -> Set<Int> {
            guard case .launch(let launch) = lowered.groups[place.group].steps[place.step].work else { return [] }
            return Set(launch.arguments.compactMap { if case .value(let value) = $0 { value } else { nil } })
        }
        for (index, first) in places.enumerated() {
            for second in places[(index + 1)...] {
                let shared = try values(first).intersection(values(second))
                let written = Set(schedule.groups[first.group].writes + schedule.groups[second.group].writes)
                if first.group == second.group || !shared.isDisjoint(with: written) {
                    #expect(times[first]! < times[second]!, "\(first) and \(second)")
                }
            }
        }
        let launches = lowered.order.stages.count
        #expect(launches < places.count * 2 / 3, "\(launches) launches of \(places.count) steps")
        // The exponentials of all scales depend on parameters alone.
        let exps = lowered.order.stages.filter { stage in stage.contains { schedule.groups[$0.group].label == "exp" } }
        #expect(exps.count == 2 && exps.allSatisfy { $0.count > 3 }, "\(exps)")
        for (time, stage) in lowered.order.stages.enumerated() {
            for place in stage { #expect(lowered.order.times[place.group]?.contains(time) == true) }
        }
    }

    @Test func parametersOfTexts() throws {
        func names(_ text: String) -> [String]? { JoinedKernel.parameters(of: "KERNEL", in: text)?.map(\.name) }
        let plain =
            "__kernel void KERNEL(__global const float *restrict x, __global int* y,\n    const int n) { y[0] = x[n]; }"
        #expect(names(plain) == ["x", "y", "n"])
        // Macros stand for parameters; the third dimension is taken; no such kernel.
        #expect(names("__kernel void KERNEL(const int n EPILOGUE_PARAMETERS) {}") == nil)
        #expect(names("__kernel void KERNEL(__global float* y) { y[get_group_id(2)] = 1; }") == nil)
        #expect(names("__kernel void other(__global float* y) {}") == nil)
        let joined = JoinedKernel(capacity: 3, isShared: [true, false, false]).text(plain, of: "KERNEL")
        #expect(joined.contains("void KERNEL(__global const float * restrict x, __global int* y_0, __global int* y_1"))
        #expect(joined.contains("const int n = martlet_member == 1 ? n_1 : martlet_member == 2 ? n_2 : n_0;"))
        #expect(joined.hasSuffix("y[0] = x[n]; }"))
    }
}
