import Graph
import Layers

/// A model whose best weights are found at once, on the host, by counting or by solving equations. A run of it is one step of one epoch;
/// everything else about it is a run's as ever.
public protocol DirectlyFittedModel: LikelihoodModel {
    /// Whether it is fitted so; else it is trained by gradients.
    var isFittedDirectly: Bool { get }
    /// The weights for the training examples, of those parameters that follow from them.
    /// - Parameter rows: float32 `[examples, variables]`.
    /// - Throws: `UsageError` for examples that do not determine the weights.
    func fitted(to rows: HostArray) throws -> [(parameter: Parameter, value: HostArray)]
}

/// A model that has something of its own to tell at the end of a run.
public protocol ReportingModel: LikelihoodModel {
    /// What a person ought to know of the weights, a line each.
    /// - Parameter value: the weights of a parameter.
    func findings(_ value: (Parameter) throws -> [Double]) throws -> [String]
    /// A drawing; `nil` where there is nothing to draw.
    /// - Parameters:
    ///   - example: one of the test set.
    ///   - value: the weights of a parameter.
    func chart(of example: [Double], value: (Parameter) throws -> [Double]) throws -> Chart?
}

extension ReportingModel {
    public func findings(_ value: (Parameter) throws -> [Double]) throws -> [String] { [] }
}

/// Lines over the whole numbers, and a band between two of them.
public struct Chart: Sendable {
    /// Values at `first`, `first + 1`, ..
    public struct Line: Sendable {
        public var first: Int
        public var values: [Double]
        /// 0 is black, 255 white.
        public var shade: UInt8

        public init(_ values: [Double], from first: Int = 0, shade: UInt8 = 0) {
            (self.values, self.first, self.shade) = (values, first, shade)
        }
    }

    /// What its file is called.
    public var name: String
    public var lines: [Line]
    /// What lies between is shaded.
    public var band: (low: Line, high: Line)?

    public init(_ name: String, _ lines: [Line], band: (low: Line, high: Line)? = nil) {
        (self.name, self.lines, self.band) = (name, lines, band)
    }
}
