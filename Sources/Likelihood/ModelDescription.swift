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
    /// The model in numbers. Layers are found by one walk over the graph of an example, so that what costs something is listed,
    /// whatever it is made of.
    public func describe() throws -> ModelDescription {
        var result = ModelDescription()
        annotate(&result)
        return result
    }
}
