/// A scalar function applied to every element; all operands have the same shape (broadcasting is an operation of its own).
public struct Elementwise: Operation, Hashable {
    public let function: ElementwiseFunction

    public init(_ function: ElementwiseFunction) { self.function = function }

    public var name: String { function.name }
    public var compilerRole: OperationRole { .elementwise(function) }

    public func outputTypes(for inputs: [TensorType]) throws(GraphError) -> [TensorType] {
        guard inputs.count == function.operandCount else {
            throw GraphError(operation: name, message: "takes \(function.operandCount) operands, found \(inputs.count)")
        }
        guard inputs.allSatisfy({ $0.shape == inputs[0].shape }) else {
            throw GraphError(
                operation: name,
                message: "operands have different shapes: \(inputs.map(\.description).joined(separator: " and "))")
        }
        guard let element = function.resultType(inputs.map(\.element)) else {
            throw GraphError(
                operation: name,
                message:
                    "is not defined for \(inputs.map(\.element.rawValue).joined(separator: ", ")); cast the operands first"
            )
        }
        return [TensorType(inputs[0].shape, element)]
    }

    public func relations(_ context: RelationContext) -> [Relation] {
        guard context.knownValues.contains(where: { $0 != nil }) else { return context.inputs.map { _ in .same } }
        let own = knownValues(context)
        return context.inputs.indices.map { operand in
            let ignores = function.row.ignores
            if own == nil, context.knownValues[operand] == nil, ignores == nil { return .same }
            if context.knownValues[operand]?.isConstant == true { return .none }
            var reads = [Int32](repeating: -1, count: context.outputCount)
            for e in reads.indices where own?[e] == nil && context.knownValues[operand]?[e] == nil {
                if let ignores, ignores(operand, { context.knownValues[$0]?[e] }) { continue }
                reads[e] = Int32(e)
            }
            return .table(reads)
        }
    }

    public func knownValues(_ context: RelationContext) -> KnownValues? {
        // Most functions are known where all operands are.
        guard context.knownValues.contains(where: { $0 != nil }),
            function.isAbsorbing || !context.knownValues.contains(nil)
        else {
            return nil
        }
        let type = context.inputs[0].elementType
        var result = KnownValues(
            isKnown: [Bool](repeating: false, count: context.outputCount),
            values: [Double](repeating: 0, count: context.outputCount))
        var operands = [Double?](repeating: nil, count: context.knownValues.count)
        for e in 0..<context.outputCount {
            for k in operands.indices { operands[k] = context.knownValues[k]?[e] }
            if let value = function.known(operands, type) {
                result.isKnown[e] = true
                result.values[e] = value
            }
        }
        return result.simplified
    }

    public func evaluate(_ inputs: [Values], outputs: inout [Values], elements: [Int]?, context: EvaluationContext) {
        let type = context.inputTypes[0]
        let indices = elements ?? Array(outputs[0].elements.indices)
        outputs[0].elements.withUnsafeMutableBufferPointer { y in
            switch function.row.meaning {
            case .unary(let f):
                inputs[0].elements.withUnsafeBufferPointer { x in for e in indices { y[e] = f(x[e], type) } }
            case .binary(let f):
                inputs[0].elements.withUnsafeBufferPointer { a in
                    inputs[1].elements.withUnsafeBufferPointer { b in for e in indices { y[e] = f(a[e], b[e], type) } }
                }
            case .operands(_, let f):
                for e in indices { y[e] = f(inputs.map { $0.elements[e] }, type) }
            }
        }
    }

    public func gradients(inputs: [Tensor], outputs: [Tensor], outputGradients: [Tensor?]) -> [Tensor?] {
        outputGradients[0].map { function.row.gradient(inputs, outputs[0], $0) } ?? inputs.map { _ in nil }
    }

    public func simplified(_ inputs: [Tensor], at location: SourceLocation?) -> Tensor? {
        function.row.simplified?(inputs, inputs.map(\.constantEverywhere), location)
    }
}
