import Graph
import Layers

/// A model in numbers: what `inspect` shows.
public struct ModelDescription: Encodable, Sendable {
    /// What one parameter, or a product of two values of the example, costs.
    public struct Layer: Encodable, Sendable {
        public var name: String
        public var shape: [Int]
        /// For one example.
        public var multiplyAdds: Int
        /// Of these, what masks leave: the kernels and the sampler do no more.
        public var liveMultiplyAdds: Int
        public var inputDegrees: [Int32]?
        public var outputDegrees: [Int32]?
        public var isStrict: Bool?
    }

    public struct Mask: Encodable, Sendable {
        /// The place of each variable, from 0.
        public var order: [Int32]
        public var hiddenDegrees: [[Int32]]

        public init(order: [Int32], hiddenDegrees: [[Int32]]) {
            self.order = order
            self.hiddenDegrees = hiddenDegrees
        }
    }

    public var conditional: String?
    public var activation: String?
    /// The place of each variable in the order of drawing, from 0.
    public var inputOrdering: [Int32]?
    public var layers: [Layer] = []
    public var ensemble: [Mask]?
    /// What a reader should know beside (which determinant and inverse a flow uses, and why).
    public var remarks: [String] = []
}

extension LikelihoodModel {
    /// The model in numbers. Layers are found by one walk over the graph of an example, which asks every operation what it costs: a
    /// dense, masked, convolutional or recurrent layer, attention, and what an author made up, alike.
    public func describe() throws -> ModelDescription {
        let names = Dictionary(uniqueKeysWithValues: namedParameters().map { ($0.parameter.label, $0.name) })
        var result = ModelDescription()
        result.layers = contractions(of: try describedGraph(makeInput(), makeContext())).map { found in
            let label = found.weight?.placeholder?.label
            let name = label.map { names[$0] ?? $0 } ?? found.operation
            return ModelDescription.Layer(
                name: name.hasSuffix(".weight") ? String(name.dropLast(7)) : name, shape: found.shape,
                multiplyAdds: found.dense, liveMultiplyAdds: found.live, inputDegrees: found.degrees?.input,
                outputDegrees: found.degrees?.output, isStrict: found.degrees?.isStrict)
        }
        annotate(&result)
        return result
    }
}
