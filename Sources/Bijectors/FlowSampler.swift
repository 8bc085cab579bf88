import Compiler
import Distributions
import Graph
import Layers

/// One piece of a bijector's inverse, in the order in which the pieces run.
public enum InverseStage {
    /// A graph that maps the stage's input to its output.
    case direct(Tensor)
    /// An incremental program: each variable as a function of the stage's input and of earlier variables.
    case sequential(variable: Tensor, drawn: Tensor, order: Order)
}

extension Bijector {
    /// The inverse in pieces: what has a formula is joined into one graph, what is sequential is handed to the sampler.
    ///
    /// - Parameters:
    ///   - example: the shape of the data, `[.batch, ..]`.
    ///   - input: the name of each stage's input, which is the latents for the first and the stage before for the others.
    public func inverseStages(_ example: Shape, features: Tensor? = nil, input: String, element: ElementType = .float32)
        throws -> [InverseStage]
    {
        let context = Context(features: features)
        // Shapes on the way from the data to the latents, one more than steps.
        var shapes = [example]
        for step in steps { shapes.append(step.outputShape(shapes[shapes.count - 1], features: features)) }
        var stages: [InverseStage] = []
        var value = Tensor.input(input, shapes[shapes.count - 1], element)
        var isFresh = true
        for (index, step) in steps.enumerated().reversed() {
            guard step.structure.inversion == .sequential else {
                value = step.inverse(value, context).value
                isFresh = false
                continue
            }
            if !isFresh { stages.append(.direct(value)) }
            let (x, z) = (Tensor.input("x", shapes[index], element), Tensor.input(input, shapes[index + 1], element))
            guard let (drawn, order) = step.solve(z, given: x, context) else {
                throw GraphError(operation: step.structure.name, message: "its sequential inverse has no step")
            }
            stages.append(.sequential(variable: x, drawn: drawn, order: order))
            value = Tensor.input(input, shapes[index], element)
            isFresh = true
        }
        if !isFresh { stages.append(.direct(value)) }
        return stages
    }
}

/// The inverse of a bijector on a device: what has a formula runs as compiled graphs, what is sequential as compiled
/// incremental programs of about one pass each.
public final class InverseProgram {
    private enum Stage {
        case graph(any Executable)
        case sequential(any SamplingExecutable)
    }

    private let stages: [Stage]
    /// Bytes of device memory that the programs hold beside the states.
    public let plannedBytes: Int

    /// - Parameters:
    ///   - bijector: its parameters' states are found in `states` by name.
    ///   - example: the shape of the data, `[.batch, ..]`.
    /// - Throws: `DependencyLeak` if a conditioner breaks its order, `GraphError` if the parameters are not in float32.
    public init(
        _ bijector: any Bijector, example: Shape, features: Int = 0, device: any Device, maximumBatch: Int,
        states: [String: any DeviceBuffer]
    ) throws {
        if let (name, parameter) = bijector.namedParameters().first(where: { $0.parameter.element != .float32 }) {
            throw GraphError(
                operation: bijector.structure.name,
                message:
                    "drawing is in float32 and parameter \(name) is \(parameter.element); make the program of a bijector "
                    + "that was set to `use(.float32)`, or compile the graph of `inverse`")
        }
        let given = features > 0 ? Tensor.input("features", [.batch, Extent(features)]) : nil
        var planned = 0
        stages = try bijector.inverseStages(example, features: given, input: "z").map { stage in
            switch stage {
            case .direct(let x):
                let program = try device.load(compile([x]), maximumBatch: maximumBatch, states: states)
                planned += program.plannedBytes
                return .graph(program)
            case .sequential(let variable, let drawn, let order):
                let program = try SamplingProgram(variable: variable, drawn: drawn, order: order)
                let sampler = try device.load(program, maximumBatch: maximumBatch, states: states)
                planned += sampler.plannedBytes
                return .sequential(sampler)
            }
        }
        plannedBytes = planned
    }

    /// x for latents `[batch, ..]`; features if the bijector is conditioned on such. Of an example whose latents are not all finite nothing is
    /// asked.
    /// - Throws: `InversionError` if an iterative solve did not reach rounding for some element of an example with finite latents.
    public func run(_ z: HostArray, features: HostArray? = nil) throws -> HostArray {
        let batch = z.shape[0]
        var value = z
        for stage in stages {
            var feeds = ["z": value]
            if let features { feeds["features"] = features }
            switch stage {
            case .graph(let program):
                let names = Set(program.schedule.inputs.map { program.schedule.values[$0].label })
                value = try program.run(
                    feeds.filter { names.contains($0.key) }.mapValues { Feed.host($0) }, batch: batch)[0]
            case .sequential(let sampler):
                let names = sampler.program.inputNames
                value = try sampler.run(feeds.filter { names.contains($0.key) }, batch: batch)[0]
            }
        }
        guard !value.isFinite else { return value }
        var (count, first) = (0, batch)
        for example in (0..<batch).reversed() where z.rows(example..<example + 1).isFinite {
            let lost = value.rows(example..<example + 1).doubles.count { !$0.isFinite }
            if lost > 0 { (count, first) = (count + lost, example) }
        }
        if count > 0 { throw InversionError(count: count, example: first) }
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
