import Compiler
import Datasets
import Distributions
import Graph
import Layers
import Models

/// A MADE with its masks, its weights on a device and the programs that evaluate and sample it.
public final class MADERun {
    public let configuration: RunConfiguration
    public let device: any Device
    public let model: MADE
    public let masks: MaskSampler
    public let orders: ModelOrders
    public let states: StateStore
    public let parameters: [(name: String, parameter: Parameter)]
    public let x: Tensor
    private var evaluator: (any Executable)?

    public static let evaluationBatch = 500

    public init(_ configuration: RunConfiguration, variables: Int, device: any Device) throws {
        try configuration.validate(variables: variables)
        self.configuration = configuration
        self.device = device
        masks = MaskSampler(
            variables: variables, hidden: configuration.hidden,
            ordering: try configuration.makeOrdering(variables: variables),
            isOrderAgnostic: configuration.orderAgnostic, drawsDegrees: !configuration.hasConstantMask,
            seed: configuration.seed)
        if configuration.hasConstantMask {
            let mask = masks.mask(0)
            orders = .constant(order: mask.order, hidden: mask.hidden)
        } else {
            orders = .runtime(
                order: .input("degrees.0", [Extent(variables)], .int32),
                hidden: configuration.hidden.enumerated().map { .input("degrees.\($0 + 1)", [Extent($1)], .int32) })
        }
        model = MADE(
            variables: variables, hidden: configuration.hidden, conditional: try configuration.makeConditional(),
            activation: try configuration.makeActivation(), hasDirectConnections: configuration.direct, orders: orders)
        parameters = model.namedParameters()
        states = StateStore(device)
        x = Tensor.input("x", [.batch, Extent(variables)])
    }

    /// Starting weights, a function of the seed alone.
    public func initialize() throws {
        for (name, parameter) in parameters { try states.set(name, parameter.initialValue(seed: configuration.seed)) }
    }

    /// Weights made elsewhere, under the names that `inspect` lists.
    public func load(weights path: String) throws {
        let (arrays, _) = try SafeTensors.read(path)
        for (name, parameter) in parameters {
            guard let array = arrays[name] else {
                throw FileError(path, "has no “\(name)”; expected \(parameters.map(\.name).joined(separator: ", "))")
            }
            guard array.shape == parameter.shape, array.type.isFloatingPoint else {
                throw FileError(path, "“\(name)” is \(array.type)\(array.shape); expected float32\(parameter.shape)")
            }
            guard array.doubles.allSatisfy(\.isFinite) else { throw FileError(path, "“\(name)” holds NaN or infinity") }
            var values = array.floats
            parameter.clearDead(&values)
            try states.set(name, HostArray(values, shape: parameter.shape))
        }
        if let extra = arrays.keys.sorted().first(where: { name in !parameters.contains { $0.name == name } }) {
            throw FileError(path, "holds “\(extra)”, which this model does not have")
        }
    }

    public func save(weights path: String, prefix: String = "") throws {
        try SafeTensors.write(
            try parameters.map { (name: $0.name, array: try states.get(prefix + $0.name) ?? states.get($0.name)!) },
            metadata: ["experiment": configuration.experiment], to: path)
    }

    /// What a mask feeds to a program whose degrees are inputs.
    public func feeds(mask k: Int) -> [String: Feed] {
        guard case .runtime = orders else { return [:] }
        let mask = masks.mask(k)
        return Dictionary(
            uniqueKeysWithValues: ([mask.order] + mask.hidden).enumerated().map {
                ("degrees.\($0)", Feed.host(HostArray($1)))
            })
    }

    /// log p(x) in nats of every row, the mixture over the ensemble's masks: logsumexp over k of log p_k(x), minus log K.
    public func logProbability(_ examples: HostArray) throws -> [Double] {
        let evaluator =
            try self.evaluator
            ?? device.load(
                compile([model.logProbability(x, orders)]), maximumBatch: Self.evaluationBatch, states: states.buffers)
        self.evaluator = evaluator
        let members = configuration.ensembleMasks
        let count = examples.shape[0]
        var total = [Double](repeating: -.infinity, count: count)
        for k in members {
            let degrees = feeds(mask: k)
            for start in stride(from: 0, to: count, by: Self.evaluationBatch) {
                let rows = examples.rows(start..<min(count, start + Self.evaluationBatch))
                var feed = degrees
                feed["x"] = .host(HostArray(rows.floats, shape: rows.shape))
                let values = try evaluator.run(feed, batch: rows.shape[0])[0].doubles
                for (i, value) in values.enumerated() {
                    let (a, b) = (max(total[start + i], value), min(total[start + i], value))
                    total[start + i] = b == -.infinity ? a : a + Math.log1p(Math.exp(b - a))
                }
            }
        }
        let shift = Math.log(Double(members.count))
        return total.map { $0 - shift }
    }

    /// The proof of the model as it is built.
    public func prove() throws -> AutoregressiveProof { try model.proveAutoregressive(orders) }
}

/// A mean with its standard error.
public struct Estimate: Codable, Sendable {
    public let mean: Double
    public let standardError: Double
    public let count: Int

    public init(_ values: [Double]) {
        count = values.count
        let m = values.reduce(0) { $0 + $1 } / Double(max(1, values.count))
        let variance = values.reduce(0) { $0 + ($1 - m) * ($1 - m) } / Double(max(1, values.count - 1))
        mean = m
        standardError = (variance / Double(max(1, values.count))).squareRoot()
    }
}
