import Graph

/// `y = x Wᵀ + b` with x `[batch, in]`, W `[out, in]`.
public struct Dense: Module {
    public let weight: Parameter
    public let bias: Parameter

    /// - Parameter initializer: how weights and bias start; `nil` as PyTorch's `Linear`.
    public init(_ inputs: Int, _ outputs: Int, initializer: Initializer? = nil) {
        weight = Parameter([outputs, inputs], initializer ?? .fanIn(inputs))
        bias = Parameter([outputs], initializer ?? .fanIn(inputs))
    }

    public func callAsFunction(_ x: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        x.matmul(weight.tensor.matrixTransposed(), file: file, line: line) + bias.tensor
    }
}

/// How the degrees of a masked dense layer are known.
public enum LayerDegrees {
    /// Numbers: the mask is part of the program and dead weights are exactly zero.
    case constant(input: [Int32], output: [Int32], strict: Bool)
    /// Graph values `[in]` and `[out]`, int32, that may differ from run to run: dead weights keep their value and get zero
    /// gradient.
    case runtime(input: Tensor, output: Tensor, strict: Bool)
    /// Any 0/1 matrix `[out, in]`.
    case matrix(BitMatrix)

    public var mask: MaskStructure {
        switch self {
        case .constant(let input, let output, let strict): .degrees(input: input, output: output, strict: strict)
        case .runtime(_, _, let strict): .runtime(strict: strict)
        case .matrix(let bits): .matrix(bits)
        }
    }
}

/// `y = x (W * M)ᵀ + b` where the mask M is structure: what it removes is neither stored as anything but zero nor computed
/// (Germain et al. 2015, equation 9). x `[batch, in]`, W and M `[out, in]`, b `[out]`.
///
/// At the edge of the mask a tile multiplies by those zeros: NaN or infinity at an input that an output does not read may reach it. A
/// compiled sampler, which reads nothing that is not drawn yet, and masked convolutions have no such edge.
public struct MaskedDense: Module {
    public let weight: Parameter
    public let bias: Parameter?

    /// - Parameters:
    ///   - mask: for constant masks, so that dead weights start at zero; `nil` if degrees change from run to run.
    ///   - initializer: how weights and bias start; `nil` as PyTorch's `Linear`.
    public init(
        _ inputs: Int, _ outputs: Int, mask: MaskStructure? = nil, hasBias: Bool = true, initializer: Initializer? = nil
    ) {
        weight = Parameter([outputs, inputs], initializer ?? .fanIn(inputs), mask: mask)
        bias = hasBias ? Parameter([outputs], initializer ?? .fanIn(inputs)) : nil
    }

    public func callAsFunction(
        _ x: Tensor, _ degrees: LayerDegrees, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        var values: (input: Tensor, output: Tensor)?
        if case .runtime(let input, let output, _) = degrees { values = (input, output) }
        let y = x.maskedDense(weight.tensor, mask: degrees.mask, degrees: values, file: file, line: line)
        return bias.map { y + $0.tensor } ?? y
    }
}
