import Compiler
import Graph
import Layers

/// The work of a coupling around its network, as a program of its own: forward from x and the network's raw output to z
/// and the log-determinant, the inverse, or the gradients. It shows what the compiler makes of a coupling and what a
/// coupling costs.
public struct CouplingKernel {
    public enum Direction: String, Sendable, CaseIterable { case forward, inverse, backward }

    public let direction: Direction
    public let outputs: [Tensor]
    /// Shapes of the inputs that are fed, by name.
    public let inputs: [(name: String, shape: Shape)]

    /// - Parameter shape: of one example.
    public init(_ direction: Direction, _ partition: Partition, _ transformer: any Transformer, shape: [Int]) throws {
        let example = Shape([.batch] + shape.map { Extent($0) })
        var rawShape = example
        if case .half(let second) = partition {
            // The half that is not kept.
            rawShape.dimensions[1] = Extent(second ? shape[0] / 2 : shape[0] - shape[0] / 2)
        }
        rawShape.dimensions[1] = rawShape.dimensions[1] * Extent(transformer.parameterCount)
        let raw = Tensor.input("raw", rawShape)
        let x = Tensor.input("x", example)
        let coupling = Coupling(partition, transformer, conditioner: GivenParameters(raw: raw))
        self.direction = direction
        switch direction {
        case .forward, .inverse:
            let mapped = direction == .forward ? coupling.forward(x, Context()) : coupling.inverse(x, Context())
            outputs = [mapped.value, mapped.logDeterminant]
            inputs = [("x", example), ("raw", rawShape)]
        case .backward:
            let mapped = coupling.forward(x, Context())
            let (dz, dlog) = (Tensor.input("dz", example), Tensor.input("dlog", [.batch]))
            let loss = (mapped.value * dz).sum() + (mapped.logDeterminant * dlog).sum()
            outputs = try gradients(of: loss, with: [x, raw])
            inputs = [("x", example), ("raw", rawShape), ("dz", example), ("dlog", [.batch])]
        }
    }
}

/// A conditioner whose output is given.
private struct GivenParameters: Conditioner {
    let raw: Tensor

    func callAsFunction(_ x: Tensor, _ context: Context) -> Tensor { raw }
}
