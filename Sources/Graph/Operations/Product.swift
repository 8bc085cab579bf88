/// The matrix product `[.., m, k] x [.., k, n] -> [.., m, n]`; leading axes are equal.
public struct MatrixProduct: Operation, Hashable {
    public var name: String { "matmul" }
    public var compilerRole: OperationRole { .contraction(splitsChannels: false) }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let (a, b) = (inputs[0].shape, inputs[1].shape)
        guard a.rank >= 2, a.rank == b.rank, a[-1] == b[-2], a.dimensions.dropLast(2) == b.dimensions.dropLast(2),
            inputs[0].element == inputs[1].element, inputs[0].element.isFloatingPoint
        else {
            throw GraphError(
                operation: name,
                message:
                    "cannot multiply \(inputs[0]) by \(inputs[1]): expected [.., m, k] and [.., k, n] of one floating type"
            )
        }
        return [TensorType(Shape(a.dimensions.dropLast() + [b[-1]]), inputs[0].element)]
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let (m, n, k, outer) = extents(context.inputShapes)
        let (a, b) = (context.knownValues[0], context.knownValues[1])
        func isZero(_ known: KnownValues?, _ element: Int) -> Bool { known?[element] == 0 }
        // Without structural zeros, an element reads a whole row of a and a whole column of b.
        func line(_ known: KnownValues?, _ position: Int, _ line: Int) -> Int32 {
            known?.isKnown[position] == true ? -1 : Int32(line)
        }
        var result: [Relation] = []
        if let b, b.values.contains(where: { $0 == 0 }) {
            // Columns of b may differ from one leading index to the next; the rows are then flattened over it.
            result.append(
                sparse(
                    outer * m, inputCount: outer * m * k, outputCount: outer * m * n,
                    { row in
                        let r = row / m
                        return (0..<n).map { j in
                            (0..<k).filter { !isZero(b, (r * k + $0) * n + j) && a?.isKnown[row * k + $0] != true }.map
                            { row * k + $0 }
                        }
                    }))
        } else {
            result.append(
                .lines(
                    input: (0..<outer * m * k).map { line(a, $0, $0 / k) },
                    output: (0..<outer * m * n).map { Int32($0 / n) }, count: outer * m))
        }
        if let a, a.values.contains(where: { $0 == 0 }) {
            result.append(
                sparse(
                    outer * m, inputCount: outer * k * n, outputCount: outer * m * n,
                    { row in
                        let r = row / m
                        return (0..<n).map { j in
                            (0..<k).filter { !isZero(a, row * k + $0) && b?.isKnown[(r * k + $0) * n + j] != true }
                                .map { (r * k + $0) * n + j }
                        }
                    }))
        } else {
            result.append(
                .lines(
                    input: (0..<outer * k * n).map { line(b, $0, $0 / (k * n) * n + $0 % n) },
                    output: (0..<outer * m * n).map { Int32($0 / (m * n) * n + $0 % n) }, count: outer * n))
        }
        return result
    }

    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? {
        Work(outputs[0].shape.count.resolved(batch: batch) * inputs[0].shape[-1].resolved(batch: batch))
    }

    /// Terms with a factor that is known to be zero are left out.
    public func elementRule(_ context: ElementRuleContext) -> ElementRule? {
        let (m, n, k, outer) = extents(context.inputShapes)
        let count = outer * m * n
        var rows = [[SumOfProducts.Segment(a: 0, b: 0, count: Int32(k))]]
        var row = [Int32](repeating: 0, count: count)
        let (a, b) = (context.knownValues[0], context.knownValues[1])
        if a != nil || b != nil {
            rows = (0..<count).map { e in
                let (r, i, j) = (e / (m * n), e / n % m, e % n)
                return ranges(below: k) { a?[(r * m + i) * k + $0] != 0 && b?[(r * k + $0) * n + j] != 0 }.map {
                    SumOfProducts.Segment(
                        a: Int32($0.lowerBound), b: Int32($0.lowerBound * n), count: Int32($0.count))
                }
            }
            row = (0..<Int32(count)).map { $0 }
        }
        return .products(
            SumOfProducts(
                aBase: (0..<count).map { Int32($0 / n * k) },
                bBase: (0..<count).map { Int32($0 / (m * n) * k * n + $0 % n) }, aStride: 1, bStride: n, rows: rows,
                row: row))
    }

    /// A relation given element by element, as rows over the flattened input.
    private func sparse(
        _ rowCount: Int, inputCount: Int, outputCount: Int, _ reads: (Int) -> [[Int]]
    ) -> Relation {
        .rows(
            outer: 1,
            rows: (0..<rowCount).flatMap { row in
                reads(row).map { positions in
                    var ranges: [Range<Int>] = []
                    for p in positions {
                        if let last = ranges.last, last.upperBound == p {
                            ranges[ranges.count - 1] = last.lowerBound..<p + 1
                        } else {
                            ranges.append(p..<p + 1)
                        }
                    }
                    return ranges
                }
            }, inputCount: inputCount, inner: 1)
    }

    private func extents(_ shapes: [[Int]]) -> (m: Int, n: Int, k: Int, outer: Int) {
        let (a, b) = (shapes[0], shapes[1])
        return (a[a.count - 2], b[b.count - 1], a[a.count - 1], a.dropLast(2).reduce(1, *))
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let (m, n, k, _) = extents(inputs.map(\.shape))
        func compute(_ e: Int) {
            let (row, j) = (e / n, e % n)
            let r = row / m
            var sum = 0.0
            for i in 0..<k { sum += inputs[0].elements[row * k + i] * inputs[1].elements[(r * k + i) * n + j] }
            outputs[0].elements[e] = sum
        }
        if let elements { elements.forEach(compute) } else { outputs[0].elements.indices.forEach(compute) }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return [nil, nil] }
        let product = { (a: Tensor, b: Tensor) in Tensor(MatrixProduct(), [a, b], at: outputs[0].location) }
        return [product(g, inputs[1].matrixTransposed()), product(inputs[0].matrixTransposed(), g)]
    }
}

/// The three products of a masked dense layer (Germain et al. 2015, equations 8 to 13). Its mask is structure: what is
/// dead is neither read nor multiplied, and a dead weight's gradient is exactly zero.
///
/// Operands by role: `forward` (x `[rows, in]`, weight `[out, in]`) gives `[rows, out]`; `inputGradient`
/// (dy `[rows, out]`, weight) gives `[rows, in]`; `weightGradient` (dy `[rows, out]`, x `[rows, in]`) gives `[out, in]`.
/// A run-time mask adds the input degrees `[in]` and the output degrees `[out]`, int32.
public struct MaskedProduct: Operation, Hashable {
    public enum Role: String, Hashable, Sendable { case forward, inputGradient, weightGradient }

    public let mask: MaskStructure
    public let role: Role

    public var name: String { role == .forward ? "maskedDense" : "maskedDense.\(role.rawValue)" }
    public var compilerRole: OperationRole { .contraction(splitsChannels: false) }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let (a, b) = (inputs[0].shape, inputs[1].shape)
        let agrees =
            switch role {
            case .forward: a[-1] == b[-1]
            case .inputGradient: a[-1] == b[-2]
            case .weightGradient: a[-2] == b[-2]
            }
        guard a.rank == 2, b.rank == 2, agrees, inputs[0].element == inputs[1].element,
            inputs[0].element.isFloatingPoint
        else {
            let expected =
                switch role {
                case .forward: "[rows, in] and [out, in]"
                case .inputGradient: "[rows, out] and [out, in]"
                case .weightGradient: "[rows, out] and [rows, in]"
                }
            throw GraphError(
                operation: name,
                message: "expected \(expected) of one floating type, found \(inputs[0]) and \(inputs[1])")
        }
        let (inCount, outCount) =
            switch role {
            case .forward: (b[-1], b[-2])
            case .inputGradient: (b[-1], b[-2])
            case .weightGradient: (b[-1], a[-1])
            }
        let (maskIn, maskOut): (Extent, Extent) =
            switch mask {
            case .degrees(let input, let output, _): (Extent(input.count), Extent(output.count))
            case .matrix(let bits): (Extent(bits.columns), Extent(bits.rows))
            case .runtime: inputs.count == 4 ? (inputs[2].shape.count, inputs[3].shape.count) : (0, 0)
            }
        guard maskIn == inCount, maskOut == outCount else {
            throw GraphError(
                operation: name,
                message: "the mask is for [\(maskOut), \(maskIn)] weights, the operands have [\(outCount), \(inCount)]")
        }
        switch role {
        case .forward: return [TensorType(Shape([a[0], outCount]), inputs[0].element)]
        case .inputGradient: return [TensorType(Shape([a[0], inCount]), inputs[0].element)]
        case .weightGradient: return [TensorType(Shape([outCount, inCount]), inputs[0].element)]
        }
    }

    /// Of the product forwards; where degrees are known only at run time there is none.
    public func elementRule(_ context: ElementRuleContext) -> ElementRule? {
        let (rows, inputs, outputs) = extents(context.inputShapes)
        guard role == .forward else { return nil }
        guard let live = mask.liveRanges(inputs: inputs, outputs: outputs) else {
            return .unknown(
                "\(name): degrees must be constants when a sampler is derived; build the model for one order first")
        }
        let count = rows * outputs
        return .products(
            SumOfProducts(
                aBase: (0..<count).map { Int32($0 / outputs * inputs) },
                bBase: (0..<count).map { Int32($0 % outputs * inputs) }, aStride: 1, bStride: 1,
                rows: live.map { ranges in
                    ranges.map {
                        SumOfProducts.Segment(
                            a: Int32($0.lowerBound), b: Int32($0.lowerBound), count: Int32($0.count))
                    }
                }, row: (0..<count).map { Int32($0 % outputs) }))
    }

    /// Every live weight meets every row, in all three roles.
    public func multiplyAdds(_ inputs: [TensorType], _ outputs: [TensorType], batch: Int) -> Work? {
        let (rows, inCount, outCount) = extents(inputs.map { $0.shape.resolved(batch: batch) })
        return Work(dense: inCount * outCount, live: mask.liveCount ?? inCount * outCount) * rows
    }

    private func extents(_ shapes: [[Int]]) -> (rows: Int, inputs: Int, outputs: Int) {
        (shapes[0][0], shapes[1][1], role == .weightGradient ? shapes[0][1] : shapes[1][0])
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        let (rows, inputs, outputs) = extents(context.inputShapes)
        let degrees = context.inputs.count == 4 ? [Relation.none, .none] : []
        let strict: Bool
        if case .runtime(let isStrict) = mask { strict = isStrict } else { strict = false }
        let everyRow = { (count: Int, width: Int) in (0..<Int32(count)).map { $0 / Int32(width) } }
        switch role {
        case .forward:
            let weight = Relation.lines(
                input: everyRow(outputs * inputs, inputs),
                output: (0..<Int32(rows * outputs)).map { $0 % Int32(outputs) },
                count: outputs)
            let data: Relation =
                if let live = mask.liveRanges(inputs: inputs, outputs: outputs) {
                    .rows(outer: rows, rows: live, inputCount: inputs, inner: 1)
                } else {
                    .degrees(input: context.inputs[2], output: context.inputs[3], strict: strict)
                }
            return [data, weight] + degrees
        case .inputGradient:
            let weight = Relation.lines(
                input: (0..<Int32(outputs * inputs)).map { $0 % Int32(inputs) },
                output: (0..<Int32(rows * inputs)).map { $0 % Int32(inputs) }, count: inputs)
            let live =
                if case .runtime = mask { (0..<inputs).map { _ in [0..<outputs] } } else {
                    (0..<inputs).map { i in ranges(below: outputs) { mask.isLive(output: $0, input: i) == true } }
                }
            return [.rows(outer: rows, rows: live, inputCount: outputs, inner: 1), weight] + degrees
        case .weightGradient:
            let column = { (width: Int, read: (Int, Int) -> Int32) in
                Relation.lines(
                    input: (0..<Int32(rows * width)).map { $0 % Int32(width) },
                    output: (0..<outputs * inputs).map { read($0 / inputs, $0 % inputs) }, count: width)
            }
            return [column(outputs) { o, _ in Int32(o) }, column(inputs) { _, i in Int32(i) }] + degrees
        }
    }

    public func evaluate(
        _ operands: [Values], outputs results: inout [Values], elements: [Int]?, context: EvaluationContext
    ) {
        let (rows, inputs, outputs) = extents(operands.map(\.shape))
        var mask = mask
        if case .runtime(let strict) = mask {
            mask = .degrees(
                input: operands[2].elements.map { Int32($0) }, output: operands[3].elements.map { Int32($0) },
                strict: strict)
        }
        let live = mask.liveRanges(inputs: inputs, outputs: outputs)!
        let (a, b) = (operands[0].elements, operands[1].elements)
        let wanted = elements ?? Array(results[0].elements.indices)
        switch role {
        case .forward:
            for e in wanted {
                let (r, o) = (e / outputs, e % outputs)
                var sum = 0.0
                for range in live[o] { for i in range { sum += a[r * inputs + i] * b[o * inputs + i] } }
                results[0].elements[e] = sum
            }
        case .inputGradient:
            results[0] = Values(shape: results[0].shape)
            for r in 0..<rows {
                for o in 0..<outputs {
                    for range in live[o] {
                        for i in range { results[0].elements[r * inputs + i] += a[r * outputs + o] * b[o * inputs + i] }
                    }
                }
            }
        case .weightGradient:
            results[0] = Values(shape: results[0].shape)
            for o in 0..<outputs {
                for range in live[o] {
                    for i in range {
                        var sum = 0.0
                        for r in 0..<rows { sum += a[r * outputs + o] * b[r * inputs + i] }
                        results[0].elements[o * inputs + i] = sum
                    }
                }
            }
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return inputs.map { _ in nil } }
        let degrees = Array(inputs.dropFirst(2))
        let (a, b) = (inputs[0], inputs[1])
        func apply(_ role: Role, _ x: Tensor, _ y: Tensor) -> Tensor {
            Tensor(MaskedProduct(mask: mask, role: role), [x, y] + degrees, at: outputs[0].location)
        }
        let none = degrees.map { _ in nil as Tensor? }
        switch role {
        case .forward: return [apply(.inputGradient, g, b), apply(.weightGradient, g, a)] + none
        case .inputGradient: return [apply(.forward, g, b), apply(.weightGradient, a, g)] + none
        case .weightGradient: return [apply(.forward, b, g), apply(.inputGradient, a, g)] + none
        }
    }
}
