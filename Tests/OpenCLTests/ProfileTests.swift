import Compiler
import Graph
import Testing

@testable import OpenCL

/// A step of the host's alone.
private struct Negation: OpenCLOperation {
    var name: String { "negation" }
    var key: AnyHashable? { nil }
    func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] { inputs }
    func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] { [nil] }
    func relations(_ context: RelationContext) -> [Relation] { [.same] }
    func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {}

    func openCL(_ context: OpenCLOperationContext) throws -> OpenCLOperationPlan {
        OpenCLOperationPlan(steps: [
            .host { context in
                let array = try context.read(input: 0)
                try context.write(HostArray(array.floats.map { -$0 }, shape: array.shape), output: 0)
            }
        ])
    }
}

@Suite(.serialized) struct ProfileTests {
    private func expectTimes(_ executable: OpenCLExecutable, _ feeds: [String: Feed], batch: Int) throws {
        let times = try executable.profile(feeds, batch: batch)
        #expect(times.map(\.label) == executable.schedule.groups.map(\.label))
        #expect(times.map { $0.location?.description } == executable.schedule.groups.map { $0.location?.description })
        #expect(times.allSatisfy { $0.seconds.isFinite && $0.seconds > 0 }, "\(times)")
    }

    /// Products, reductions and elementwise groups, and the run after a profile is that before it.
    @Test(arguments: KernelFamily.allCases)
    func everyGroupHasATime(family: KernelFamily) throws {
        let x = Tensor.input("x", [.batch, 20])
        let w = Tensor.input("w", [20, 30])
        let y = x.matmul(w).tanh()
        let schedule = try compile([y, y.softmax(axis: 1), (y * y).sum()])
        let executable = try OpenCLExecutable(
            Devices.of(family), schedule, maximumBatch: 6, states: [:])
        let feeds = randomFeeds(schedule, batch: 5).mapValues { Feed.host($0) }
        let before = try executable.run(feeds, batch: 5)
        try expectTimes(executable, feeds, batch: 5)
        #expect(try executable.run(feeds, batch: 5) == before)
    }

    /// What the host does counts, and so does all that a loop enqueues.
    @Test func hostsAndLoopsHaveTimes() throws {
        let device = try Devices.of(.cpu)
        var s = Schedule()
        let (x, y) = (s.input("x", [.batch, 3]), s.output([.batch, 3]))
        s.add(OperationGroup(operation: Negation(), inputs: [x], outputs: [y]), "negation")
        try expectTimes(
            OpenCLExecutable(device, s, maximumBatch: 4, states: [:]),
            ["x": .host(HostArray([1, 2, 3] as [Float], shape: [1, 3]))], batch: 1)
        // The condition of an iteration is waited for at every step.
        let x4 = Tensor.input("x", [4])
        let halved = Tensor.iterate(
            [x4], limit: 20, while: { ($0[0] * $0[0]).sum().greater(1) }, { [$0[0] * 0.5] })
        let schedule = try compile(halved.carries + [halved.steps])
        let executable = try OpenCLExecutable(device, schedule, maximumBatch: 1, states: [:])
        let feeds = ["x": Feed.host(HostArray([100, 2, 3, 4] as [Float]))]
        let before = try executable.run(feeds, batch: 1)
        try expectTimes(executable, feeds, batch: 1)
        #expect(try executable.run(feeds, batch: 1) == before)
    }
}
