// Arithmetic on tensors. Operands broadcast as in NumPy and keep their element type; a literal takes the type of the
// tensor beside it, which must hold it exactly if it is a type of whole numbers.

extension Tensor: ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral {
    public init(floatLiteral value: Double) { self = .scalar(value) }
    public init(integerLiteral value: Int) { self = .scalar(Double(value)) }

    /// The value of a scalar constant.
    var scalarConstant: Double? {
        guard let array = node.constant, array.shape.isEmpty, let constant = node.operation as? Constant else {
            return nil
        }
        return constant.literal ?? constant.array.doubles[0]
    }

    /// The shape that NumPy's rule gives two operands, `nil` if there is none.
    static func broadcastShape(_ a: Shape, _ b: Shape) -> Shape? {
        var dimensions: [Extent] = []
        for axis in stride(from: Swift.max(a.rank, b.rank), to: 0, by: -1) {
            let left = axis <= a.rank ? a[-axis] : 1
            let right = axis <= b.rank ? b[-axis] : 1
            guard left == right || left.isOne || right.isOne else { return nil }
            dimensions.append(left.isOne ? right : left)
        }
        return Shape(dimensions)
    }

    /// Applies a function of several operands after broadcasting them to one shape.
    public static func elementwise(
        _ function: ElementwiseFunction, _ operands: [Tensor], at location: SourceLocation? = nil
    ) -> Tensor {
        // A literal beside a tensor takes its element type, but never changes a condition's.
        // Among literals alone the wider type of floats wins.
        var operands = operands
        let first = function == .select ? 1 : 0
        let values = operands[first...]
        if let model = values.first(where: { $0.scalarConstant == nil })
            ?? values.first(where: { $0.elementType == .float64 })
        {
            for i in first..<operands.count where operands[i].elementType != model.elementType {
                if let value = operands[i].scalarConstant { operands[i] = literal(value, beside: model, of: function) }
            }
        }
        if let result = literal(function, operands) { return result }
        var shape = operands[0].shape
        for operand in operands.dropFirst() {
            guard let joined = broadcastShape(shape, operand.shape) else {
                return Tensor(Elementwise(function), operands, at: location)
            }
            shape = joined
        }
        return Tensor(Elementwise(function), operands.map { $0.broadcast(to: shape) }, at: location)
    }

    /// A literal in the type of the tensor beside it, or a tensor that carries the mistake if that type does not hold
    /// the literal.
    private static func literal(_ value: Double, beside model: Tensor, of function: ElementwiseFunction) -> Tensor {
        let type = model.elementType
        guard !type.holds(value) else { return .scalar(value, type) }
        return misuse(
            function.name,
            "the literal \(literalText(value)) beside a tensor of \(type) is no \(type); cast the tensor first, to float32 say",
            of: model)
    }

    /// Arithmetic on literals alone gives a literal. In `x * (0.5 * y)`, y a `Double`, Swift may make a tensor of each
    /// of 0.5 and y, and their product still has to take the element type of x.
    private static func literal(_ function: ElementwiseFunction, _ operands: [Tensor]) -> Tensor? {
        let values = operands.compactMap(\.scalarConstant)
        guard values.count == operands.count, let type = operands.first?.elementType, type.isFloatingPoint else {
            return nil
        }
        switch function {
        case .negate: return .scalar(-values[0], type)
        case .add: return .scalar(values[0] + values[1], type)
        case .subtract: return .scalar(values[0] - values[1], type)
        case .multiply: return .scalar(values[0] * values[1], type)
        case .divide: return .scalar(values[0] / values[1], type)
        default: return nil
        }
    }

    public func apply(_ function: ElementwiseFunction, at location: SourceLocation? = nil) -> Tensor {
        Tensor(Elementwise(function), [self], at: location)
    }

    public static func + (a: Tensor, b: Tensor) -> Tensor { elementwise(.add, [a, b]) }
    public static func - (a: Tensor, b: Tensor) -> Tensor { elementwise(.subtract, [a, b]) }
    public static func * (a: Tensor, b: Tensor) -> Tensor { elementwise(.multiply, [a, b]) }
    public static func / (a: Tensor, b: Tensor) -> Tensor { elementwise(.divide, [a, b]) }
    public static prefix func - (a: Tensor) -> Tensor { literal(.negate, [a]) ?? a.apply(.negate) }

    // Swift prefers these to a conversion of the literal, so expressions of mixed operands type-check at once.
    public static func + (a: Tensor, b: Double) -> Tensor { a + literal(b, beside: a, of: .add) }
    public static func + (a: Double, b: Tensor) -> Tensor { literal(a, beside: b, of: .add) + b }
    public static func - (a: Tensor, b: Double) -> Tensor { a - literal(b, beside: a, of: .subtract) }
    public static func - (a: Double, b: Tensor) -> Tensor { literal(a, beside: b, of: .subtract) - b }
    public static func * (a: Tensor, b: Double) -> Tensor { a * literal(b, beside: a, of: .multiply) }
    public static func * (a: Double, b: Tensor) -> Tensor { literal(a, beside: b, of: .multiply) * b }
    public static func / (a: Tensor, b: Double) -> Tensor { a / literal(b, beside: a, of: .divide) }
    public static func / (a: Double, b: Tensor) -> Tensor { literal(a, beside: b, of: .divide) / b }

    public func exp(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.exp, at: SourceLocation(file, line))
    }
    public func log(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.log, at: SourceLocation(file, line))
    }
    public func log1p(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.log1p, at: SourceLocation(file, line))
    }
    public func sqrt(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.sqrt, at: SourceLocation(file, line))
    }
    public func tanh(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.tanh, at: SourceLocation(file, line))
    }
    public func sigmoid(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.sigmoid, at: SourceLocation(file, line))
    }
    /// `log(1 + exp(x))`, finite and accurate for any finite x.
    public func softplus(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.softplus, at: SourceLocation(file, line))
    }
    public func relu(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.relu, at: SourceLocation(file, line))
    }
    public func absolute(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.absolute, at: SourceLocation(file, line))
    }
    public func squared(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.multiply, [self, self], at: SourceLocation(file, line))
    }
    public func power(_ exponent: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.power, [self, exponent], at: SourceLocation(file, line))
    }
    public func maximum(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.maximum, [self, other], at: SourceLocation(file, line))
    }
    public func minimum(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.minimum, [self, other], at: SourceLocation(file, line))
    }
    public func less(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.less, [self, other], at: SourceLocation(file, line))
    }
    public func lessOrEqual(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.lessEqual, [self, other], at: SourceLocation(file, line))
    }
    public func greater(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.less, [other, self], at: SourceLocation(file, line))
    }
    public func greaterOrEqual(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.lessEqual, [other, self], at: SourceLocation(file, line))
    }
    public func equal(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.equal, [self, other], at: SourceLocation(file, line))
    }
    public func and(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.logicalAnd, [self, other], at: SourceLocation(file, line))
    }
    public func or(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        .elementwise(.logicalOr, [self, other], at: SourceLocation(file, line))
    }
    public func not(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.logicalNot, at: SourceLocation(file, line))
    }
    public func isFinite(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.isFinite, at: SourceLocation(file, line))
    }

    /// The value, treated as a constant by `gradients`.
    public func stoppingGradient(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        apply(.stopGradient, at: SourceLocation(file, line))
    }

    /// The elements in another type. To `bool`: whether they are not zero. To integers: truncated toward zero; what the type cannot
    /// hold becomes the nearest that it can, and NaN zero, on every device.
    public func cast(to type: ElementType, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        type == elementType ? self : apply(.cast(type), at: SourceLocation(file, line))
    }

    /// `whenTrue` where the condition holds, else `whenFalse`.
    public static func select(
        _ condition: Tensor, _ whenTrue: Tensor, _ whenFalse: Tensor, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        elementwise(.select, [condition, whenTrue, whenFalse], at: SourceLocation(file, line))
    }
}

// Movement.
extension Tensor {
    public func broadcast(to shape: Shape, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        shape == self.shape ? self : Tensor(Broadcast(shape: shape), [self], at: location ?? SourceLocation(file, line))
    }

    public func reshaped(_ shape: Shape, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        shape == self.shape ? self : Tensor(Reshape(shape: shape), [self], at: SourceLocation(file, line))
    }

    /// Axis `a` of the result is axis `axes[a]` of this tensor.
    public func transposed(_ axes: [Int], file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        axes == Array(axes.indices) ? self : Tensor(Transpose(axes: axes), [self], at: SourceLocation(file, line))
    }

    /// The last two axes exchanged.
    public func matrixTransposed(file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        var axes = Array(0..<shape.rank)
        if axes.count >= 2 { axes.swapAt(axes.count - 1, axes.count - 2) }
        return Tensor(Transpose(axes: axes), [self], at: SourceLocation(file, line))
    }

    /// `count` elements of one axis, from `start` by `step`.
    public func sliced(
        axis: Int, from start: Int, count: Int, step: Int = 1, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        let axis = axis < 0 ? axis + shape.rank : axis
        var starts = [Int](repeating: 0, count: shape.rank)
        var steps = [Int](repeating: 1, count: shape.rank)
        var counts = shape.dimensions
        guard counts.indices.contains(axis) else {
            return Tensor(Slice(starts: [start], steps: [step], counts: []), [self], at: SourceLocation(file, line))
        }
        (starts[axis], steps[axis], counts[axis]) = (start, step, Extent(count))
        return counts == shape.dimensions && start == 0 && step == 1
            ? self : Tensor(Slice(starts: starts, steps: steps, counts: counts), [self], at: SourceLocation(file, line))
    }

    /// The order along some axes reversed.
    public func flipped(axes: [Int], file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        let axes = axes.map { $0 < 0 ? $0 + shape.rank : $0 }
        let indices = 0..<shape.rank
        return Tensor(
            Slice(
                starts: indices.map { axes.contains($0) ? shape[$0].coefficient - 1 : 0 },
                steps: indices.map { axes.contains($0) ? -1 : 1 }, counts: shape.dimensions), [self],
            at: SourceLocation(file, line))
    }

    /// `fill` before, after and between the elements of each axis.
    public func padded(
        low: [Int], high: [Int], interior: [Int]? = nil, fill: Double = 0, file: StaticString = #fileID,
        line: UInt = #line
    ) -> Tensor {
        let interior = interior ?? low.map { _ in 0 }
        return (low + high + interior).allSatisfy { $0 == 0 }
            ? self
            : Tensor(Pad(low: low, high: high, interior: interior, fill: fill), [self], at: SourceLocation(file, line))
    }

    public static func concatenate(
        _ parts: [Tensor], axis: Int, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        guard let first = parts.first, parts.count > 1 else { return parts.first ?? .scalar(.nan) }
        return Tensor(
            Concatenate(axis: axis < 0 ? axis + first.shape.rank : axis), parts, at: SourceLocation(file, line))
    }

    /// The result of a reduction over `axes` of `original`, with those axes back at extent one.
    func keepingAxes(_ axes: [Int], of original: Shape) -> Tensor {
        reshaped(Shape(original.dimensions.enumerated().map { axes.contains($0.offset) ? 1 : $0.element }))
    }
}

// Reductions and products.
extension Tensor {
    private func reduced(_ kind: Reduction.Kind, _ axes: [Int]?, _ keepingAxes: Bool, _ location: SourceLocation)
        -> Tensor
    {
        let axes = (axes ?? Array(0..<shape.rank)).map { $0 < 0 ? $0 + shape.rank : $0 }
        let result = axes.isEmpty ? self : Tensor(Reduction(kind: kind, axes: axes.sorted()), [self], at: location)
        return keepingAxes ? result.keepingAxes(axes, of: shape) : result
    }

    /// The sum over `axes` (all, if not given).
    public func sum(
        axes: [Int]? = nil, keepingAxes: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor { reduced(.sum, axes, keepingAxes, SourceLocation(file, line)) }

    public func max(
        axes: [Int]? = nil, keepingAxes: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor { reduced(.maximum, axes, keepingAxes, SourceLocation(file, line)) }

    public func min(
        axes: [Int]? = nil, keepingAxes: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor { reduced(.minimum, axes, keepingAxes, SourceLocation(file, line)) }

    /// The mean over `axes`; over the batch it divides by the number of examples that the run has.
    public func mean(
        axes: [Int]? = nil, keepingAxes: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        let over = (axes ?? Array(0..<shape.rank)).map { $0 < 0 ? $0 + shape.rank : $0 }
        let total = reduced(.sum, over, keepingAxes, SourceLocation(file, line))
        return total / Tensor.extent(over.reduce(1) { $0 * shape[$1] }).cast(to: elementType)
    }

    /// `log(sum(exp(x)))` without overflow; minus infinity where every term is.
    public func logSumExp(
        axes: [Int]? = nil, keepingAxes: Bool = false, file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        let over = (axes ?? Array(0..<shape.rank)).map { $0 < 0 ? $0 + shape.rank : $0 }
        let top = max(axes: over, keepingAxes: true, file: file, line: line).stoppingGradient()
        let shift = Tensor.select(top.isFinite(), top, 0)
        let result = (self - shift).exp().sum(axes: over, keepingAxes: true, file: file, line: line).log() + shift
        return keepingAxes ? result : result.reshaped(shape.removing(axes: over))
    }

    /// `exp(x) / sum(exp(x))` along an axis; exactly zero where x is minus infinity.
    public func softmax(axis: Int = -1, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        let top = max(axes: [axis], keepingAxes: true, file: file, line: line).stoppingGradient()
        let weights = (self - top).exp()
        return weights / weights.sum(axes: [axis], keepingAxes: true, file: file, line: line)
    }

    public func logSoftmax(axis: Int = -1, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        self - logSumExp(axes: [axis], keepingAxes: true, file: file, line: line)
    }

    /// The matrix product of the last two axes; leading axes broadcast.
    public func matmul(_ other: Tensor, file: StaticString = #fileID, line: UInt = #line) -> Tensor {
        var (a, b) = (self, other)
        if a.shape.rank >= 2, b.shape.rank >= 2,
            let lead = Tensor.broadcastShape(
                Shape(Array(a.shape.dimensions.dropLast(2))), Shape(Array(b.shape.dimensions.dropLast(2))))
        {
            a = a.broadcast(to: Shape(lead.dimensions + a.shape.dimensions.suffix(2)))
            b = b.broadcast(to: Shape(lead.dimensions + b.shape.dimensions.suffix(2)))
        }
        return Tensor(MatrixProduct(), [a, b], at: SourceLocation(file, line))
    }

    /// `x weightᵀ` over the live weights of a mask: x `[rows, in]`, weight `[out, in]`, result `[rows, out]`. A run-time
    /// mask takes its degrees from int32 tensors `[in]` and `[out]`.
    public func maskedDense(
        _ weight: Tensor, mask: MaskStructure, degrees: (input: Tensor, output: Tensor)? = nil,
        file: StaticString = #fileID, line: UInt = #line
    ) -> Tensor {
        Tensor(
            MaskedProduct(mask: mask, role: .forward), [self, weight] + (degrees.map { [$0.input, $0.output] } ?? []),
            at: SourceLocation(file, line))
    }
}
