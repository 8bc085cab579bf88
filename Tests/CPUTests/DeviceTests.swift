import Compiler
import Graph
import Testing

@testable import CPU

/// Reverses an array; an operation outside the fused families.
private struct Reverse: CPUOperation {
    var name: String { "reverse" }
    var key: AnyHashable? { nil }
    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] { inputs }
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] { [nil] }
    func relations(_ context: RelationContext) -> [Relation] { [.none] }
    func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {}

    func runCPU(_ context: CPUOperationContext) throws {
        let (source, target) = (context.inputs[0].floats, context.outputs[0].floats)
        context.parallelFor(source.count) { index, worker in
            precondition(worker < context.threads)
            target[source.count - 1 - index] = source[index]
        }
    }
}

/// An operation that nobody has written for the CPU.
private struct Unknown: Operation {
    var name: String { "unknown" }
    var key: AnyHashable? { nil }
    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] { inputs }
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] { [nil] }
    func relations(_ context: RelationContext) -> [Relation] { [.none] }
    func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {}
}

@Suite struct DeviceTests {
    private let device: CPUDevice

    init() throws { device = try CPUTests.device(.best) }

    /// y = x + state, then state = y.
    private func accumulator() -> (Schedule, x: Int, total: Int, y: Int) {
        var schedule = Schedule()
        let x = schedule.input([.batch, 3])
        let total = schedule.add([3], .float32, .state("total"))
        let y = schedule.output([.batch, 3])
        schedule.append(
            ElementwiseGroup(
                iteration: [.batch, 3],
                inputs: [schedule.whole(x), Operand(.value(total), strides: [0, 1], element: .float32)],
                program: Program(
                    inputs: [.float32, .float32], instructions: [.init(.add, [0, 1], .float32)], outputs: [2]),
                outputs: [schedule.whole(y)]))
        schedule.append(
            ReductionGroup(
                kind: .sum, keptExtents: [3], reducedExtents: [.batch],
                inputs: [Operand(.value(y), strides: [1, 3], element: .float32)],
                prologue: .identity, epilogueInputs: [], epilogue: .identity, outputs: [schedule.whole(total)]))
        return (schedule, x, total, y)
    }

    @Test func namesItself() {
        #expect(device.name == "cpu")
        #expect(device.summary.contains("2 threads"))
    }

    @Test func everyGroupHasATime() throws {
        let (schedule, _, _, _) = accumulator()
        let state = try device.makeBuffer(byteCount: 12)
        let executable = try device.load(schedule, maximumBatch: 4, states: ["total": state])
        let times = try executable.profile(
            ["input 0": .host(HostArray([Float](repeating: 1, count: 12), shape: [4, 3]))], batch: 4)
        #expect(times.map(\.label) == schedule.groups.map(\.label))
        #expect(times.allSatisfy { $0.seconds.isFinite && $0.seconds > 0 }, "\(times)")
        // A profile is a run.
        #expect(try HostArray(reading: state, type: .float32, shape: [3]).floats == [4, 4, 4])
    }

    @Test func statesPersistAndAreShared() throws {
        let (schedule, _, _, _) = accumulator()
        let state = try device.makeBuffer(byteCount: 12)
        let first = try device.load(schedule, maximumBatch: 4, states: ["total": state])
        let second = try device.load(schedule, maximumBatch: 2, states: ["total": state])
        let x = HostArray([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3])
        #expect(try first.run(["input 0": .host(x)], batch: 2)[0].floats == [1, 2, 3, 4, 5, 6])
        #expect(try HostArray(reading: state, type: .float32, shape: [3]).floats == [5, 7, 9])
        // A smaller batch of another program sees the state, and an array on the device serves as well as the host's.
        let fed = try device.makeBuffer(byteCount: 12)
        try HostArray([10, 10, 10] as [Float]).withUnsafeBytes { try fed.write($0) }
        #expect(try second.run(["input 0": .device(fed)], batch: 1)[0].floats == [15, 17, 19])
        #expect(try HostArray(reading: state, type: .float32, shape: [3]).floats == [15, 17, 19])
        #expect(first.plannedBytes > 0)
    }

    @Test func groupsRunOneByOne() throws {
        let (schedule, x, total, y) = accumulator()
        let state = try device.makeBuffer(byteCount: 12)
        let executable = try device.load(schedule, maximumBatch: 4, states: ["total": state])
        try executable.write(HostArray([1, 2, 3] as [Float], shape: [1, 3]), to: x, batch: 1)
        try executable.write(HostArray([1, 1, 1] as [Float]), to: total, batch: 1)
        try executable.run(group: 0, batch: 1)
        #expect(try executable.read(y, batch: 1).floats == [2, 3, 4])
        #expect(try executable.read(total, batch: 1).floats == [1, 1, 1])
        try executable.run(group: 1, batch: 1)
        #expect(try executable.read(total, batch: 1).floats == [2, 3, 4])
        #expect(throws: CPUError.self) { try executable.run(group: 2, batch: 1) }
        #expect(throws: CPUError.self) { _ = try executable.read(9, batch: 1) }
    }

    @Test func wrongFeedsAreRefused() throws {
        let (schedule, _, _, _) = accumulator()
        #expect(throws: BindingError.missingState(name: "total", expected: "float32[3]")) {
            _ = try device.load(schedule, maximumBatch: 4, states: [:])
        }
        let short = try device.makeBuffer(byteCount: 8)
        #expect(throws: BindingError.wrongState(name: "total", expected: "12 bytes", found: "8")) {
            _ = try device.load(schedule, maximumBatch: 4, states: ["total": short])
        }
        let state = try device.makeBuffer(byteCount: 12)
        let executable = try device.load(schedule, maximumBatch: 4, states: ["total": state])
        let x = HostArray([1, 2, 3] as [Float], shape: [1, 3])
        #expect(throws: BindingError.missingFeed(name: "input 0", expected: "float32[1, 3]", given: ["x"])) {
            _ = try executable.run(["x": .host(x)], batch: 1)
        }
        #expect(throws: BindingError.wrongFeed(name: "input 0", expected: "float32[2, 3]", found: "float32[1, 3]")) {
            _ = try executable.run(["input 0": .host(x)], batch: 2)
        }
        #expect(throws: BindingError.wrongFeed(name: "input 0", expected: "float32[1, 3]", found: "float64[1, 3]")) {
            _ = try executable.run(["input 0": .host(HostArray([1, 2, 3] as [Double], shape: [1, 3]))], batch: 1)
        }
        #expect(throws: BindingError.self) { _ = try executable.run(["input 0": .device(short)], batch: 1) }
        for batch in [0, -1, 5] {
            #expect(throws: BindingError.wrongBatch(batch, maximum: 4)) {
                _ = try executable.run(["input 0": .host(x)], batch: batch)
            }
        }
        #expect(throws: CPUError.self) { try state.write(UnsafeRawBufferPointer(start: nil, count: 0)) }
        #expect(throws: CPUError.self) { _ = try CPUDevice(threads: 0) }
    }

    @Test func operationsRunOrAreRefused() throws {
        var schedule = Schedule()
        let x = schedule.input([.batch, 2])
        let y = schedule.output([.batch, 2])
        schedule.append(OperationGroup(operation: Reverse(), inputs: [x], outputs: [y]))
        let executable = try device.load(schedule, maximumBatch: 3, states: [:])
        let result = try executable.run(
            ["input 0": .host(HostArray([1, 2, 3, 4, 5, 6] as [Float], shape: [3, 2]))], batch: 3)
        #expect(result[0].floats == [6, 5, 4, 3, 2, 1])
        schedule.groups[0].kind = OperationGroup(operation: Unknown(), inputs: [x], outputs: [y])
        #expect {
            _ = try device.load(schedule, maximumBatch: 3, states: [:])
        } throws: { error in
            "\(error)".contains("unknown") && error is CPUError
        }
    }

    @Test func invalidSchedulesAreRefused() throws {
        var schedule = Schedule()
        let x = schedule.input([4])
        let y = schedule.output([4])
        func load(_ group: ElementwiseGroup) throws {
            schedule.groups = [Group(group, label: "test", location: nil)]
            _ = try device.load(schedule, maximumBatch: 1, states: [:])
        }
        let operand = schedule.whole(x)
        let target = schedule.whole(y)
        // A missing kernel, too few strides, a register that is not there, a value that is not there.
        let bad: [ElementwiseGroup] = [
            ElementwiseGroup(
                iteration: [4], inputs: [operand],
                program: Program(inputs: [.bool], instructions: [.init(.exp, [0], .bool)], outputs: [1]),
                outputs: [target]),
            ElementwiseGroup(
                iteration: [4], inputs: [Operand(.value(x), strides: [], element: .float32)], program: .identity,
                outputs: [target]),
            ElementwiseGroup(
                iteration: [4], inputs: [operand], program: Program(inputs: [.float32], outputs: [3]), outputs: [target]
            ),
            ElementwiseGroup(
                iteration: [4], inputs: [Operand(.value(9), strides: [1], element: .float32)], program: .identity,
                outputs: [target]),
        ]
        for group in bad { #expect(throws: CPUError.self) { try load(group) } }
    }

    /// Constants, and a temporary between two groups.
    @Test func constantsAndTemporaries() throws {
        var schedule = Schedule()
        let constant = schedule.add([2, 2], .float32, .constant(HostArray([1, 2, 3, 4] as [Float], shape: [2, 2])))
        let between = schedule.add([2, 2])
        let y = schedule.output([2, 2])
        let double = Program(inputs: [.float32], instructions: [.init(.add, [0, 0], .float32)], outputs: [1])
        for (from, to) in [(constant, between), (between, y)] {
            schedule.append(
                ElementwiseGroup(
                    iteration: [2, 2], inputs: [schedule.whole(from)], program: double,
                    outputs: [schedule.whole(to)]))
        }
        #expect(try run(schedule, [:], instructionSet: .best)[0].floats == [4, 8, 12, 16])
    }
}
