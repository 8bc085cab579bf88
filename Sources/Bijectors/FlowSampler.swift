import Compiler
import Distributions
import Graph
import Layers

/// The inverse of a bijector on a device: what has a formula runs as compiled graphs, what is sequential as compiled
/// incremental programs of about one pass each.
public final class InverseProgram {
    private enum Stage {
        case graph(any Executable)
        case sequential(any SamplingExecutable)
    }

    private let stages: [Stage]
    public let maximumBatch: Int
    /// Bytes of device memory that the programs hold beside the states.
    public let plannedBytes: Int

    /// - Parameters:
    ///   - bijector: its parameters' states are found in `states` by name.
    ///   - example: the shape of one example of the data.
    /// - Throws: `DependencyLeak` if a conditioner breaks its order.
    public init(
        _ bijector: any Bijector, example: Shape, context: Int = 0, device: any Device, maximumBatch: Int,
        states: [String: any DeviceBuffer]
    ) throws {
        self.maximumBatch = maximumBatch
        let pass = Pass(context: context > 0 ? .input("context", [.batch, Extent(context)]) : nil)
        // Shapes on the way from the data to the latents, one more than steps.
        let steps = bijector.steps
        var shapes = [example]
        for step in steps { shapes.append(step.outputShape(shapes[shapes.count - 1], context: pass.context)) }
        var stages: [Stage] = []
        var planned = 0
        var direct: [any Bijector] = []
        func flush(_ shape: Shape) throws {
            if direct.isEmpty { return }
            let z = Tensor.input("z", shape)
            let x = direct.reduce(z) { $1.inverse($0, pass).value }
            let program = try device.load(compile([x]), maximumBatch: maximumBatch, states: states)
            planned += program.plannedBytes
            stages.append(.graph(program))
            direct = []
        }
        var pending = shapes[shapes.count - 1]
        for (index, step) in steps.enumerated().reversed() {
            guard step.structure.inversion == .sequential else {
                direct.append(step)
                continue
            }
            try flush(pending)
            let (x, z) = (Tensor.input("x", shapes[index]), Tensor.input("z", shapes[index + 1]))
            guard let (drawn, order) = step.solve(z, given: x, pass) else {
                throw GraphError(operation: step.structure.name, message: "its sequential inverse has no step")
            }
            let program = try SamplingProgram(variable: x, drawn: drawn, order: order)
            let sampler = try device.load(program, maximumBatch: maximumBatch, states: states)
            planned += sampler.plannedBytes
            stages.append(.sequential(sampler))
            pending = shapes[index]
        }
        try flush(pending)
        self.stages = stages
        plannedBytes = planned
    }

    /// x for latents `[batch, ..]`; a context if the bijector has one.
    /// - Throws: `InversionError` if an iterative solve did not reach rounding for some element.
    public func run(_ z: HostArray, context: HostArray? = nil) throws -> HostArray {
        let batch = z.shape[0]
        var value = z
        for stage in stages {
            var feeds = ["z": value]
            if let context { feeds["context"] = context }
            switch stage {
            case .graph(let program):
                let names = Set(program.schedule.inputs.map { program.schedule.values[$0].label })
                value = try program.run(
                    feeds.filter { names.contains($0.key) }.mapValues { Feed.host($0) }, batch: batch)[0]
            case .sequential(let sampler):
                value = try sampler.run(feeds, batch: batch)[0]
            }
        }
        if z.doubles.allSatisfy(\.isFinite) {
            let bad = value.doubles.indices.filter { !value.doubles[$0].isFinite }
            if let first = bad.first { throw InversionError(count: bad.count, example: first / max(1, value.count / batch)) }
        }
        return value
    }
}

/// Elements whose inverse was not found, or is not a finite number.
public struct InversionError: Error, CustomStringConvertible, Sendable {
    public let count: Int
    public let example: Int

    public var description: String {
        "the inverse is not finite in \(count) elements, first in example \(example): the latent lies outside the range that this precision can invert"
    }
}
