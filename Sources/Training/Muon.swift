import Graph
import Layers

/// The step of Muon (Jordan et al. 2024).
enum Muon {
    /// `direction` with its singular values made alike by five steps of Newton and Schulz: those above a hundredth of its norm end
    /// between 0.68 and 1.14, which trains as well as equal ones. The root of the mean square is that of a step of Adam, 0.2 (Liu et al.
    /// 2025, equation 4, with live weights counted alone).
    ///
    /// A weight of more than two axes is a matrix of its first axis and all others. Where the mask removes whole columns, as the taps
    /// of a masked convolution, they stay zero; any other mask is applied once more.
    ///
    /// - Parameter direction: of the parameter's shape.
    static func step(_ direction: Tensor, of parameter: Parameter) -> Tensor {
        let (rows, columns) = (parameter.shape[0], parameter.shape.dropFirst().reduce(1, *))
        var x = direction.reshaped(Shape([rows, columns]))
        // The products of the shorter side are the smaller ones.
        let isTall = rows > columns
        if isTall { x = x.transposed([1, 0]) }
        x = x / (x.squared().sum().sqrt() + 1e-20)
        for _ in 0..<5 {
            // The quintic of the page named above: its slope at zero is as large as can be.
            let square = x.matmul(x.transposed([1, 0]))
            let factor = square * -4.7750 + square.matmul(square) * 2.0315
            x = x * 3.4445 + factor.matmul(x)
        }
        if isTall { x = x.transposed([1, 0]) }
        x = x.reshaped(direction.shape)
        var live = rows * columns
        if parameter.mask != nil {
            var mask = [Float](repeating: 1, count: live)
            parameter.clearDead(&mask)
            live = mask.reduce(0) { $0 + ($1 > 0 ? 1 : 0) }
            x = x * Tensor.constant(HostArray(mask, shape: parameter.shape)).cast(to: x.elementType)
        }
        return x * (0.2 * (Double(live) / Double(min(rows, columns))).squareRoot())
    }
}
