/// The sum, maximum or minimum over some axes, which disappear. Sums of int32 wrap around.
public struct Reduction: Operation, Hashable {
    public enum Kind: String, Hashable, Sendable { case sum, maximum, minimum }

    public let kind: Kind
    public let axes: [Int]

    public var name: String { kind.rawValue }
    public var compilerRole: OperationRole { .reduction(kind, axes: axes) }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        let type = inputs[0]
        guard axes.allSatisfy({ (0..<type.shape.rank).contains($0) }), Set(axes).count == axes.count else {
            throw GraphError(operation: name, message: "\(axes) are not different axes of \(type.shape)")
        }
        guard type.element.isFloatingPoint || type.element == .int32 else {
            throw GraphError(operation: name, message: "is not defined for \(type.element); cast the operand first")
        }
        return [TensorType(type.shape.removing(axes: axes), type.element)]
    }

    /// For each input element, the output element that it is reduced into.
    private func targets(_ inputShape: [Int]) -> [Int32] {
        let keptAxes = inputShape.indices.filter { !axes.contains($0) }
        let keptStrides = rowMajorStrides(keptAxes.map { inputShape[$0] })
        var strides = [Int](repeating: 0, count: inputShape.count)
        for (position, axis) in keptAxes.enumerated() { strides[axis] = keptStrides[position] }
        return affinePositions(inputShape, offset: 0, strides: strides)
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        var lines = targets(context.inputShapes[0])
        if let known = context.knownValues[0] {
            // A constant term of a reduction depends on nothing.
            for i in lines.indices where known.isKnown[i] { lines[i] = -1 }
        }
        let count = context.outputCount
        return [.lines(input: lines, output: (0..<Int32(count)).map { $0 }, count: count)]
    }

    public func knownValues(_ context: RelationContext) -> KnownValues? {
        // Over examples it depends on how many there are.
        guard let known = context.knownValues[0], axes.allSatisfy({ context.inputs[0].shape[$0].isStatic }) else {
            return nil
        }
        let type = context.inputs[0].elementType
        var result = KnownValues(
            isKnown: [Bool](repeating: true, count: context.outputCount),
            values: [Double](repeating: initial, count: context.outputCount))
        for (i, target) in targets(context.inputShapes[0]).enumerated() {
            if known.isKnown[i] {
                result.values[Int(target)] = combine(result.values[Int(target)], known.values[i], type)
            } else {
                result.isKnown[Int(target)] = false
            }
        }
        return result.simplified
    }

    private var initial: Double {
        switch kind {
        case .sum: 0
        case .maximum: -.infinity
        case .minimum: .infinity
        }
    }

    private func combine(_ a: Double, _ b: Double, _ type: ElementType) -> Double {
        switch kind {
        case .sum: type == .int32 ? Double(Int32(a) &+ Int32(b)) : a + b
        case .maximum: a.isNaN || b.isNaN ? .nan : Swift.max(a, b)
        case .minimum: a.isNaN || b.isNaN ? .nan : Swift.min(a, b)
        }
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        var wanted = [Bool](repeating: elements == nil, count: outputs[0].elements.count)
        for e in elements ?? Array(wanted.indices) {
            wanted[e] = true
            outputs[0].elements[e] = initial
        }
        for (i, target) in targets(inputs[0].shape).enumerated() where wanted[Int(target)] {
            outputs[0].elements[Int(target)] = combine(
                outputs[0].elements[Int(target)], inputs[0].elements[i], context.inputTypes[0])
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        guard let g = outputGradients[0] else { return [nil] }
        let x = inputs[0]
        let spread = { (t: Tensor) in t.keepingAxes(axes, of: x.shape).broadcast(to: x.shape) }
        if kind == .sum { return [spread(g)] }
        // Ties share the gradient.
        let chosen = x.equal(spread(outputs[0])).cast(to: g.elementType)
        return [chosen * spread(g / chosen.sum(axes: axes))]
    }
}
