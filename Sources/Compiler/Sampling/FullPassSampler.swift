import Graph

extension SamplingProgram {
    /// The usual loop: one pass through the whole network for each group.
    public struct FullPasses: Sendable {
        /// Computes the new values of all variables, and the outputs.
        public var schedule: Schedule
        public var variable: String
        /// Why there is no incremental program; nil where none was asked for.
        public var reason: String?
    }

    /// A program of full passes. It draws the same numbers as the incremental program.
    ///
    /// - Parameter reason: why it takes the incremental one's place, if it does.
    /// - Throws: `GraphError` if the graph is invalid.
    public init(
        fullPassesOver variable: Tensor, drawn: Tensor, order: Order, outputs: [Tensor] = [], reason: String? = nil
    ) throws {
        guard let name = variable.placeholder?.label else {
            throw SamplingError(description: "the variable must be an input of the graph, found \(variable)")
        }
        self.init(
            values: [], works: [], variable: 0, drawn: 0, groups: order.groups.map { $0.map { Int32($0) } },
            exampleShape: Array(variable.shape.resolved(batch: 1).dropFirst()),
            outputs: outputs.map {
                Output(value: 0, exampleShape: Array($0.shape.resolved(batch: 1).dropFirst()))
            })
        fullPasses = FullPasses(schedule: try compile([drawn] + outputs), variable: name, reason: reason)
    }

    /// The names of the inputs that are fed at every draw.
    public var inputNames: Set<String> {
        guard let fullPasses else {
            return Set(values.compactMap { if case .input(let name) = $0.storage { name } else { nil } })
        }
        let names = fullPasses.schedule.inputs.map { fullPasses.schedule.values[$0].label }
        return Set(names).subtracting([fullPasses.variable])
    }
}

/// Draws by full passes, on any device.
public final class FullPassSampler: SamplingExecutable {
    public let program: SamplingProgram
    private let passes: any Executable
    private let variable: String

    /// - Parameter passes: the loaded schedule of the program's full passes.
    public init(_ program: SamplingProgram, _ passes: any Executable, variable: String) {
        self.program = program
        self.passes = passes
        self.variable = variable
    }

    public var maximumBatch: Int { passes.maximumBatch }
    public var plannedBytes: Int { passes.plannedBytes }

    public func run(_ feeds: [String: HostArray], batch: Int) throws -> [HostArray] {
        let known = feeds.mapValues { Feed.host($0) }
        let isRead = passes.schedule.reads(variable)
        let type = passes.schedule.values[passes.schedule.outputs[0]].type.element
        var x = HostArray(type: type, shape: [batch] + program.exampleShape)
        let width = program.exampleShape.reduce(1, *)
        func pass() throws -> [HostArray] {
            try passes.run(isRead ? known.merging([variable: .host(x)]) { $1 } : known, batch: batch)
        }
        for group in program.groups {
            let next = try pass()[0]
            x.withUnsafeMutableBytes { target in
                next.withUnsafeBytes { source in
                    let size = type.byteCount
                    for b in 0..<batch {
                        for v in group {
                            let place = (b * width + Int(v)) * size
                            target[place..<place + size].copyBytes(from: source[place..<place + size])
                        }
                    }
                }
            }
        }
        // The outputs may read the variables that were drawn last.
        return [x] + (program.outputs.isEmpty ? [] : try pass().dropFirst())
    }
}
